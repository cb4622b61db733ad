"""What a restore replaced comes back with ``restore --undo`` as it was, thing by thing, told by the site's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, opened
from snapshots import changes, snapshot

# All that is easily lost on the way: settings of the course, people who are suspended, what is seldom looked at.
DRESS = r"""
$id = (int)$arguments['id'];
$context = context_course::instance($id);
$fs = get_file_storage();
require_once($CFG->dirroot . '/calendar/lib.php');
require_once($CFG->dirroot . '/course/lib.php');
require_once($CFG->libdir . '/badgeslib.php');
require_once($CFG->libdir . '/filterlib.php');
$students = array_keys($DB->get_records_sql("SELECT DISTINCT ue.userid FROM {user_enrolments} ue JOIN {enrol} e
    ON e.id = ue.enrolid WHERE e.courseid = ? ORDER BY ue.userid", [$id]));
foreach (['course', 'automated'] as $area) {
    $fs->create_file_from_string(['contextid' => $context->id, 'component' => 'backup', 'filearea' => $area, 'itemid' => 0,
        'filepath' => '/', 'filename' => "kept-$area.mbz", 'timecreated' => 1700000000], "the $area backup of $id");
}
update_course((object)['id' => $id, 'idnumber' => $arguments['idnumber'], 'startdate' => 1750000000, 'enddate' => 1999999999, 'summary' => 'Sämtliches',
    'groupmode' => 1, 'enablecompletion' => 1, 'showgrades' => 0, 'lang' => 'en', 'visible' => 0, 'hiddensections' => 1,
    'coursedisplay' => 1, 'tags' => ['seldom', 'éclat']]);
$enrol = $DB->get_records_sql('SELECT ue.id FROM {user_enrolments} ue JOIN {enrol} e ON e.id = ue.enrolid
    WHERE e.courseid = ? ORDER BY ue.id', [$id], 0, 2);
$DB->set_field_select('user_enrolments', 'status', 1, 'id IN (' . implode(',', array_keys($enrol)) . ')');
$DB->set_field('user_enrolments', 'timeend', 1999999999, ['id' => key($enrol)]);
calendar_event::create((object)['name' => 'Feast', 'description' => 'all come', 'format' => FORMAT_HTML, 'courseid' => $id,
    'eventtype' => 'course', 'timestart' => 1900000000, 'timeduration' => 3600, 'visible' => 1, 'userid' => 2], false);
$manager = $DB->get_field('role', 'id', ['shortname' => 'student']);
assign_capability('mod/forum:startdiscussion', CAP_PROHIBIT, $manager, $context->id, true);
role_assign($DB->get_field('role', 'id', ['shortname' => 'editingteacher']), end($students), $context->id);
filter_set_local_state(key(filter_get_globally_enabled()), $context->id, TEXTFILTER_OFF);
$block = (object)['blockname' => 'html', 'parentcontextid' => $context->id, 'showinsubcontexts' => 0, 'pagetypepattern' => 'course-view-*',
    'defaultregion' => 'side-pre', 'defaultweight' => 3, 'timecreated' => 1, 'timemodified' => 1, 'configdata' => base64_encode(serialize(
        (object)['title' => 'A block', 'text' => 'of words', 'format' => FORMAT_HTML]))];
$block->id = $DB->insert_record('block_instances', $block);
context_block::instance($block->id);
foreach ([1, 2] as $n) {
    $DB->insert_record('logstore_standard_log', (object)['eventname' => '\\core\\event\\course_viewed', 'component' => 'core',
        'action' => 'viewed', 'target' => 'course', 'crud' => 'r', 'edulevel' => 2, 'contextid' => $context->id,
        'contextlevel' => CONTEXT_COURSE, 'contextinstanceid' => $id, 'userid' => $students[$n], 'courseid' => $id, 'anonymous' => 0,
        'other' => 'null', 'timecreated' => 1700000000 + $n, 'origin' => 'web', 'ip' => '127.0.0.1']);
}
rebuild_course_cache($id, true);
"""


@dataclass
class Stage:
    """A dressed course, what it holds, and a backup of something else."""

    desk: Desk
    course: int
    other: Path
    before: dict[str, Any]

    def unchanged(self) -> list[str]:
        return changes(self.before, snapshot(self.desk.site, self.course))

    def replaced(self, *words: str) -> dict[str, Any]:
        done: dict[str, Any] = self.desk.ok("-y", "restore", str(self.other), "--replace", f"id:{self.course}", *words)
        return done

    def undo(self, job: int) -> dict[str, Any]:
        done: dict[str, Any] = self.desk.ok("-y", "restore", "--undo", str(job))
        assert done["verified"]["ok"]
        return done


@pytest.fixture(scope="module")
def stages(
    moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stage]]:
    made: dict[str, Stage] = {}
    with opened(moodles, "Undo") as desk_at:

        def stage_at(name: str) -> Stage:
            if name not in made:
                desk, work = desk_at(name), tmp_path_factory.mktemp("undo")
                [rich] = desk.ok("backup", "create", "RICH101", "--download", str(work), "--remove-remote")
                course = desk.new(rich["path"], "dressed")
                desk.site.php(DRESS, id=course, idnumber=f"undo-{desk.category}")
                [other] = desk.ok("backup", "create", "GEN_XS", "--download", str(work), "--remove-remote")
                made[name] = Stage(desk, course, Path(other["path"]), snapshot(desk.site, course))
            return made[name]

        yield stage_at


@pytest.fixture
def stage(moodle: rig.LiveMoodle, stages: Callable[[str], Stage]) -> Stage:
    return stages(moodle.name)


def test_the_course_is_dressed_with_all_that_may_be_lost(stage: Stage) -> None:
    """Whatever is empty here, the other tests would not miss."""
    may_be_empty = {"comments", "criteria"}
    assert {name for name, held in stage.before.items() if not held} <= may_be_empty
    assert len(stage.before["at least"]["logs"]) == 2
    assert stage.before["at least"]["grade history"]
    assert len(stage.before["stored backups"]) == 2


def test_undo_brings_back_all_that_a_replace_with_settings_deleted(stage: Stage) -> None:
    done = stage.replaced("--overwrite-config", "--fullname", "Quite another", "--shortname", "quite-another",
                          "--idnumber", f"other-{stage.desk.category}", "--visible", "--startdate", "2030-01-01")  # fmt: skip
    assert done["backups_kept"] == 2
    assert stage.unchanged() != []
    stage.undo(done["job"])
    assert stage.unchanged() == []


def test_undo_done_twice_doubles_nothing(stage: Stage) -> None:
    job = stage.replaced("--skip", "mod:page")["job"]
    stage.undo(job)
    stage.undo(job)
    assert stage.unchanged() == []


def test_undo_takes_back_a_merge(stage: Stage) -> None:
    done = stage.desk.ok("-y", "restore", str(stage.other), "--merge", f"id:{stage.course}")
    assert stage.unchanged() != []
    stage.undo(done["job"])
    assert stage.unchanged() == []


def test_undo_brings_people_back_who_were_unenrolled_meanwhile(stage: Stage) -> None:
    job = stage.replaced("--without", "users")["job"]
    stage.desk.site.php("""
        foreach (enrol_get_instances($arguments['id'], false) as $instance) {
            enrol_get_plugin($instance->enrol)->delete_instance($instance);
        }
        $DB->delete_records('groups', ['courseid' => $arguments['id']]);
    """, id=stage.course)  # fmt: skip
    stage.undo(job)
    assert stage.unchanged() == []


def test_stored_backups_go_only_when_told_to(stage: Stage) -> None:
    done = stage.replaced("--drop-backups")
    assert done["backups_kept"] is None
    assert snapshot(stage.desk.site, stage.course)["stored backups"] == []
    stage.undo(done["job"])
    assert [line.partition(":")[0] for line in stage.unchanged()] == ["stored backups"] * 2
