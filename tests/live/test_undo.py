"""What a restore replaced comes back with ``restore --undo`` as it was, thing by thing, told by the site's own tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, opened
from snapshots import NAME_BADGES, changes, snapshot

pytestmark = pytest.mark.long

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

# What Moodle's backups carry only partly or not at all, and what is easily forgotten.
DRESS_MORE = r"""
require_once($CFG->libdir . '/phpunit/classes/util.php');
require_once($CFG->libdir . '/badgeslib.php');
require_once($CFG->libdir . '/completionlib.php');
require_once($CFG->libdir . '/gradelib.php');
require_once($CFG->dirroot . '/completion/criteria/completion_criteria_self.php');
require_once($CFG->dirroot . '/calendar/lib.php');
$id = (int)$arguments['id'];
$context = context_course::instance($id);
$g = phpunit_util::get_data_generator();
$people = array_keys($DB->get_records_sql("SELECT DISTINCT ue.userid FROM {user_enrolments} ue JOIN {enrol} e
    ON e.id = ue.enrolid WHERE e.courseid = ? ORDER BY ue.userid", [$id]));
$student = $DB->get_field('role', 'id', ['shortname' => 'student']);
$group = $DB->get_record('groups', ['courseid' => $id, 'idnumber' => 'GRED'], '*', MUST_EXIST);
$quiz = $DB->get_record('quiz', ['course' => $id], '*', MUST_EXIST);
$assign = $DB->get_record('assign', ['course' => $id], '*', MUST_EXIST);
$essay = get_coursemodule_from_instance('assign', $assign->id, $id, false, MUST_EXIST);

// Badges: one that people were given, one that is earned by an activity and active, one that is not.
$given = $DB->get_record('badge', ['courseid' => $id], '*', MUST_EXIST);
$DB->set_field('badge', 'status', BADGE_STATUS_ACTIVE_LOCKED, ['id' => $given->id]);
foreach ([3, 4] as $n) {
    $DB->insert_record('badge_issued', (object)['badgeid' => $given->id, 'userid' => $people[$n], 'uniquehash' => sha1("$id $n"),
        'dateissued' => 1700000000, 'dateexpire' => null, 'visible' => 1, 'issuernotified' => null]);
}
foreach (['Earned' => BADGE_STATUS_ACTIVE, 'Planned' => BADGE_STATUS_INACTIVE] as $name => $status) {
    $badge = $g->get_plugin_generator('core_badges')->create_badge(['name' => $name, 'type' => BADGE_TYPE_COURSE, 'courseid' => $id]);
    award_criteria::build(['criteriatype' => BADGE_CRITERIA_TYPE_OVERALL, 'badgeid' => $badge->id])
        ->save(['agg' => BADGE_CRITERIA_AGGREGATION_ALL]);
    award_criteria::build(['criteriatype' => BADGE_CRITERIA_TYPE_ACTIVITY, 'badgeid' => $badge->id])
        ->save(['agg' => BADGE_CRITERIA_AGGREGATION_ALL, "module_$essay->id" => $essay->id]);
    $DB->set_field('badge', 'status', $status, ['id' => $badge->id]);
}
foreach (['public', 'site', 'draft'] as $n => $state) {
    $DB->insert_record('post', (object)['module' => 'notes', 'courseid' => $id, 'userid' => $people[$n], 'content' => "Eine Notiz: $state",
        'publishstate' => $state, 'format' => 1, 'usermodified' => 2, 'created' => 1700000000, 'lastmodified' => 1700000001]);
}

// Gradebook, scales and outcomes that nothing uses.
foreach (['A+' => 95, 'B' => 50, 'C' => 0] as $letter => $from) {
    $DB->insert_record('grade_letters', (object)['contextid' => $context->id, 'lowerboundary' => $from, 'letter' => $letter]);
}
grade_set_setting($id, 'aggregationposition', 1);
$scale = $g->create_scale(['courseid' => $id, 'name' => 'Mine', 'scale' => 'a,b,c']);
$g->create_grade_outcome(['courseid' => $id, 'shortname' => 'out', 'fullname' => 'Outcome', 'scaleid' => $scale->id]);

// The course itself.
$DB->insert_record('role_names', (object)['roleid' => $student, 'contextid' => $context->id, 'name' => 'Apprentice']);
$category = $g->create_custom_field_category(['name' => "Of $id"]);
$g->create_custom_field(['categoryid' => $category->get('id'), 'shortname' => "field$id", 'name' => 'Field', 'type' => 'text']);
\core_course\customfield\course_handler::create()->instance_form_save((object)['id' => $id, "customfield_field$id" => 'Valeur']);
$criterion = (object)['id' => $id, 'criteria_self' => 1];
(new completion_criteria_self())->update_config($criterion);
(new completion_completion(['course' => $id, 'userid' => $people[1]]))->mark_complete(1700000000);
$DB->insert_record('user_lastaccess', (object)['userid' => $people[1], 'courseid' => $id, 'timeaccess' => 1700000000]);
\core_favourites\service_factory::get_service_for_user_context(context_user::instance(2))
    ->create_favourite('core_course', 'courses', $id, $context);
$block = $DB->get_record('block_instances', ['parentcontextid' => $context->id, 'blockname' => 'html'], '*', IGNORE_MULTIPLE);
$DB->insert_record('block_positions', (object)['blockinstanceid' => $block->id, 'contextid' => $context->id,
    'pagetype' => 'course-view-topics', 'subpage' => '', 'visible' => 0, 'region' => 'side-pre', 'weight' => -7]);
calendar_event::create((object)['name' => 'For Red', 'description' => 'g', 'format' => 1, 'courseid' => $id, 'groupid' => $group->id,
    'eventtype' => 'group', 'timestart' => 1900000000, 'timeduration' => 3600, 'visible' => 1, 'userid' => 2], false);

// Ways in: self enrolment first and with a key, a cohort last.
$self = $DB->get_record('enrol', ['courseid' => $id, 'enrol' => 'self'], '*', IGNORE_MULTIPLE);
if ($self) {
    $DB->update_record('enrol', (object)['id' => $self->id, 'password' => 'secret', 'customtext1' => 'Welcome', 'sortorder' => 0]);
    $DB->set_field_select('enrol', 'sortorder', 5, "courseid = ? AND enrol = 'manual'", [$id]);
}
$cohort = $g->create_cohort(['name' => "Cohort $id", 'idnumber' => "cohort$id"]);
cohort_add_member($cohort->id, $people[2]);
enrol_get_plugin('cohort')->add_instance(get_course($id), ['customint1' => $cohort->id, 'roleid' => $student]);
$DB->update_record('groups', (object)['id' => $group->id, 'enrolmentkey' => 'key', 'visibility' => 1, 'participation' => 0]);

// Exceptions for one person, a subscription, a competency, a restriction.
$DB->insert_record('quiz_overrides', (object)['quiz' => $quiz->id, 'userid' => $people[3], 'timelimit' => 600, 'timeopen' => 1800000000]);
$DB->insert_record('assign_overrides', (object)['assignid' => $assign->id, 'userid' => $people[3], 'duedate' => 1800000000]);
$DB->insert_record('assign_user_flags', (object)['assignment' => $assign->id, 'userid' => $people[13], 'locked' => 1,
    'extensionduedate' => 1900000000]);
$DB->insert_record('forum_subscriptions', (object)['userid' => $people[4],
    'forum' => $DB->get_field('forum', 'id', ['course' => $id], IGNORE_MULTIPLE)]);
$competencies = $g->get_plugin_generator('core_competency');
$framework = $competencies->create_framework(['idnumber' => "framework$id"]);
$competency = $competencies->create_competency(['idnumber' => "competency$id", 'shortname' => "competency$id",
    'competencyframeworkid' => $framework->get('id')])->get('id');
$competencies->create_course_competency(['courseid' => $id, 'competencyid' => $competency]);
$competencies->create_course_module_competency(['cmid' => $essay->id, 'competencyid' => $competency]);
$competencies->create_user_competency_course(['courseid' => $id, 'userid' => $people[3], 'competencyid' => $competency,
    'grade' => 1, 'proficiency' => 1]);
$DB->set_field('course_modules', 'availability', json_encode(['op' => '&', 'showc' => [true],
    'c' => [['type' => 'group', 'id' => (int)$group->id]]]), ['id' => $essay->id]);
rebuild_course_cache($id, true);
course_module_bulk_update_calendar_events('assign', $id);
course_module_bulk_update_calendar_events('quiz', $id);
"""

# Somebody works in the course: told by the log, as Moodle does when a teacher is at it.
WORK = """
require_once($CFG->dirroot . '/group/lib.php');
$module = $DB->get_record_sql("SELECT cm.id, cm.course FROM {course_modules} cm WHERE cm.course = ?", [$arguments['id']],
    IGNORE_MULTIPLE);
$teacher = $DB->get_record('user', ['username' => 'teacher1'], '*', MUST_EXIST);
$context = context_course::instance($arguments['id']);
$DB->insert_record('logstore_standard_log', (object)['eventname' => '\\core\\event\\course_module_updated', 'component' => 'core',
    'action' => 'updated', 'target' => 'course_module', 'crud' => 'u', 'edulevel' => 1, 'contextid' => $context->id,
    'contextlevel' => CONTEXT_COURSE, 'contextinstanceid' => $context->instanceid, 'userid' => $teacher->id,
    'courseid' => $context->instanceid, 'anonymous' => 0, 'other' => 'null', 'timecreated' => time() + 1, 'origin' => 'web',
    'ip' => '127.0.0.1']);
$g = new stdClass();
$g->id = groups_create_group((object)['courseid' => $arguments['id'], 'name' => 'Made since', 'idnumber' => 'SINCE']);
"""


@dataclass
class Stage:
    """A dressed course, what it holds, and a backup of something else."""

    desk: Desk
    course: int
    other: Path
    before: dict[str, Any]

    def renew(self) -> None:
        """What there is now is what there was, for the tests that follow."""
        self.before = snapshot(self.desk.site, self.course)

    def unchanged(self) -> list[str]:
        return changes(self.before, snapshot(self.desk.site, self.course))

    def logged(self, until: int) -> int:
        """Lines of the site's log that are of the course itself."""
        found = self.desk.site.sql(
            f"SELECT COUNT(*) FROM {{logstore_standard_log}} WHERE courseid = {self.course} AND contextlevel = 50"
            f" AND timecreated < {until}"
        )
        return int(found[0][0])

    def history(self) -> int:
        """Lines of the grade history of the course's activities."""
        found = self.desk.site.sql(
            "SELECT COUNT(*) FROM {grade_grades_history} h JOIN {grade_items} i ON i.id = h.itemid"
            f" WHERE i.courseid = {self.course} AND i.itemtype = 'mod'"
        )
        return int(found[0][0])

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
                course = desk.new(rich["path"], f"dressed-{desk.category}")
                desk.site.php(DRESS, id=course, idnumber=f"undo-{desk.category}")
                desk.site.php(DRESS_MORE, id=course)
                desk.site.php(NAME_BADGES, id=course, course=course)
                [other] = desk.ok("backup", "create", "GEN_XS", "--download", str(work), "--remove-remote")
                made[name] = Stage(desk, course, Path(other["path"]), snapshot(desk.site, course))
            return made[name]

        yield stage_at


@pytest.fixture
def stage(moodle: rig.LiveMoodle, stages: Callable[[str], Stage]) -> Stage:
    return stages(moodle.name)


def test_the_course_is_dressed_with_all_that_may_be_lost(stage: Stage) -> None:
    """Whatever is empty here, the other tests would not miss."""
    may_be_empty = {"comments", "archived badges"}
    assert {name for name, held in stage.before.items() if not held} <= may_be_empty
    assert len(stage.before["at least"]["logs"]) == 2
    assert stage.before["at least"]["grade history"]
    assert len(stage.before["stored backups"]) == 2


@pytest.mark.telling
def test_undo_brings_back_all_that_a_replace_with_settings_deleted(stage: Stage) -> None:
    done = stage.replaced("--overwrite-config", "--fullname", "Quite another", "--shortname", "quite-another",
                          "--idnumber", f"other-{stage.desk.category}", "--visible", "--startdate", "2030-01-01")  # fmt: skip
    assert done["backups_kept"] == 2
    assert stage.unchanged() != []
    stage.undo(done["job"])
    assert stage.unchanged() == []


def test_undo_done_twice_doubles_nothing(stage: Stage) -> None:
    logged, history = stage.logged(now := int(time.time())), stage.history()
    job = stage.replaced("--skip", "mod:page")["job"]
    stage.undo(job)
    stage.undo(job)
    assert stage.unchanged() == []
    assert stage.logged(now) == logged > 20  # the log of a course outlives what it holds
    assert stage.history() == history > 5


def test_undo_takes_back_a_merge(stage: Stage) -> None:
    done = stage.desk.ok("-y", "restore", str(stage.other), "--merge", f"id:{stage.course}")
    assert stage.unchanged() != []
    stage.undo(done["job"])
    assert stage.unchanged() == []


def test_undo_brings_back_a_course_that_holds_the_same_graded_activities_twice(stage: Stage) -> None:
    desk = stage.desk
    [rich] = desk.ok("backup", "create", "RICH101", "--with", "grade_histories", "--download", str(desk.run.home),
                     "--remove-remote")  # fmt: skip
    course = desk.new(rich["path"], "twice")
    desk.ok("restore", rich["path"], "--merge", f"id:{course}", "--only", "mod:assign", "--only", "mod:quiz",
            "--allow", "same-backup", "--no-safety-backup")  # fmt: skip
    before = snapshot(desk.site, course)
    job = desk.ok("-y", "restore", str(stage.other), "--replace", f"id:{course}")["job"]
    assert changes(before, snapshot(desk.site, course)) != []
    stage.undo(job)
    assert changes(before, snapshot(desk.site, course)) == []


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
    stage.renew()


def test_an_undo_can_be_undone_and_says_how(stage: Stage) -> None:
    job = stage.replaced()["job"]
    replaced = snapshot(stage.desk.site, stage.course)
    done = stage.undo(job)
    assert stage.unchanged() == []
    assert done["put_back"] == f"moodlectl restore --undo {done['job']}"
    assert Path(done["safety_backup"]).is_file()
    again = stage.undo(done["job"])
    assert stage.undo(again["job"])["undoes"] == again["job"]
    assert changes(replaced, snapshot(stage.desk.site, stage.course)) != []
    assert stage.unchanged() == []


def test_work_done_since_is_told_and_kept_before_an_undo_lets_it_go(stage: Stage) -> None:
    job = stage.replaced()["job"]
    stage.desk.site.php(WORK, id=stage.course)
    plan = stage.desk.ok("restore", "--undo", str(job), "--dry-run")
    assert (plan["work_since"]["known"], plan["work_since"]["people"]) == (True, ["teacher1"])
    asked = stage.desk.run("--site", "live", "restore", "--undo", str(job))
    assert asked.status == 5  # nobody is there to be asked
    assert "people have worked in it" in asked.stderr and "teacher1" in asked.stderr
    done = stage.undo(job)
    assert stage.unchanged() == []
    stage.undo(done["job"])
    groups = snapshot(stage.desk.site, stage.course)["groups"]
    assert any(line.startswith("Made since") for line in groups)
    stage.undo(job)
    assert stage.unchanged() == []


def test_a_course_deleted_since_comes_back_as_a_new_one(stage: Stage) -> None:
    desk = stage.desk
    [rich] = desk.ok("backup", "create", "RICH101", "--download", str(desk.run.home), "--remove-remote")
    course = desk.new(rich["path"], "deleted-since")
    job = desk.ok("-y", "restore", str(stage.other), "--replace", f"id:{course}")["job"]
    desk.site.php("""
        $CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
        delete_course($arguments['id'], false);
    """, id=course)  # fmt: skip
    error = desk.fails(4, "-y", "restore", "--undo", str(job))
    assert "has been deleted since" in error["message"]
    safety = error["details"]["safety_backup"]
    assert f"moodlectl restore '{safety}' --new id:{desk.category}" in error["hint"]
    again = desk.ok("restore", safety, "--new", f"id:{desk.category}")
    assert again["verified"]["ok"]
    assert desk.holds(again["course"]["id"])["activities"] == desk.holds(desk.rich)["activities"]


def test_what_the_site_has_locked_off_is_told_with_the_safety_backup(stage: Stage) -> None:
    site = stage.desk.site
    site.php("set_config('backup_general_logs', 0, 'backup'); set_config('backup_general_logs_locked', 1, 'backup');")
    try:
        done = stage.replaced()
        told = stage.desk.run("--site", "live", "job", "show", str(done["job"]))
    finally:
        site.php("set_config('backup_general_logs_locked', 0, 'backup');")
    assert done["safety_lacks"] == ["logs"]
    assert "it lacks:      logs" in told.stderr
    assert f"moodlectl restore --undo {done['job']}" in told.stderr
    asked = stage.desk.run("--site", "live", "restore", "--undo", str(done["job"]), "--dry-run")
    assert "cannot be put back" in asked.stderr and "logs" in asked.stderr
    stage.undo(done["job"])
    assert {line.partition(":")[0] for line in stage.unchanged()} <= {"logs", "last access"}
    stage.renew()


def test_a_course_with_a_method_of_enrolment_that_is_switched_off_is_replaced_and_put_back(stage: Stage) -> None:
    """Moodle's own emptying of a course breaks off half-way there."""
    site = stage.desk.site
    before = site.php("echo $CFG->enrol_plugins_enabled;")
    site.php("set_config('enrol_plugins_enabled', 'manual,cohort');")
    try:
        stage.undo(stage.replaced()["job"])
    finally:
        site.php("set_config('enrol_plugins_enabled', $arguments['before']);", before=before)
    assert stage.unchanged() == []
