"""A person at a desk, for live tests: the command told about a site, a place of their own there, and what it holds.

What a site holds is asked with PHP and SQL of the tests' own, never through the command that is being tested.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rig
from conftest import Command

from moodlectl import ledger

MAKE_CATEGORY = """
echo core_course_category::create(['name' => $arguments['name']])->id;
"""

# Everything of ours goes: the courses, and backups without people in the administrator's private area.
CLEAR = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
require_once($CFG->dirroot . '/course/lib.php');
require_once($CFG->dirroot . '/course/format/lib.php');
foreach ($DB->get_fieldset_select('course', 'id', 'category = ?', [$arguments['id']]) as $course) {
    foreach ($DB->get_fieldset_select('files', 'id', "component = 'user' AND filearea = 'backup' AND filename LIKE ?",
            ["%-moodle2-course-$course-%"]) as $file) {
        get_file_storage()->get_file_by_id($file)->delete();
    }
}
core_course_category::get($arguments['id'])->delete_full(false);
"""

# What a course holds, counted without any help of the project's.
HOLDS = """
$id = (int)$arguments['id'];
$path = context_course::instance($id)->path;
$below = "(x.path = '$path' OR x.path LIKE '$path/%')";
$out = [
    'sections' => $DB->count_records('course_sections', ['course' => $id]),
    'activities' => (object)array_map('intval', $DB->get_records_sql_menu("SELECT m.name, COUNT(*)
        FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module WHERE cm.course = ? AND cm.deletioninprogress = 0
        GROUP BY m.name", [$id])),
    'users' => $DB->count_records_sql("SELECT COUNT(DISTINCT ue.userid) FROM {user_enrolments} ue
        JOIN {enrol} e ON e.id = ue.enrolid WHERE e.courseid = ?", [$id]),
    'groups' => $DB->count_records('groups', ['courseid' => $id]),
    'grades' => $DB->count_records_sql("SELECT COUNT(*) FROM {grade_grades} g JOIN {grade_items} i ON i.id = g.itemid
        WHERE i.courseid = ? AND g.finalgrade IS NOT NULL", [$id]),
    'questions' => $DB->count_records_sql("SELECT COUNT(DISTINCT b.id) FROM {question_bank_entries} b
        JOIN {question_categories} c ON c.id = b.questioncategoryid JOIN {context} x ON x.id = c.contextid
        WHERE $below"),
    'posts' => $DB->count_records_sql("SELECT COUNT(*) FROM {forum_posts} p JOIN {forum_discussions} d
        ON d.id = p.discussion WHERE d.course = ?", [$id]),
    'attempts' => $DB->count_records_sql("SELECT COUNT(*) FROM {quiz_attempts} a JOIN {quiz} q ON q.id = a.quiz
        WHERE q.course = ?", [$id]),
    'submissions' => $DB->count_records_sql("SELECT COUNT(*) FROM {assign_submission} s JOIN {assign} a
        ON a.id = s.assignment WHERE a.course = ?", [$id]),
    'files' => array_values(array_map(function($f) {
            return "$f->component/$f->filearea/$f->filename $f->contenthash";
        }, $DB->get_records_sql("SELECT f.id, f.component, f.filearea, f.filename, f.contenthash FROM {files} f
        JOIN {context} x ON x.id = f.contextid WHERE $below AND f.filename <> '.'
        AND f.component NOT IN ('backup', 'tool_recyclebin')"))),
];
sort($out['files']);
echo json_encode($out);
"""

COURSE = """
$c = $DB->get_record('course', ['id' => $arguments['id']], '*', MUST_EXIST);
echo json_encode(['fullname' => $c->fullname, 'shortname' => $c->shortname, 'idnumber' => $c->idnumber,
    'visible' => (int)$c->visible, 'category' => (int)$c->category,
    'startdate' => (new DateTime("@$c->startdate"))->setTimezone(core_date::get_server_timezone_object())
        ->format('Y-m-d')]);
"""

STORED = """
$is = $arguments['automated'] ? '=' : '<>';
$found = $DB->get_records_sql("SELECT id, contenthash, filesize FROM {files} WHERE filename = ? AND filename <> '.'
    AND (component = 'backup' OR (component = 'user' AND filearea = 'backup')) AND filearea $is 'automated'",
    [$arguments['name']]);
echo json_encode(array_values($found));
"""


@dataclass
class Desk:
    """A person at a desk: the command, told about one site as ``live``, and a category there of their own."""

    site: rig.LiveMoodle
    run: Command
    category: int

    def ok(self, *words: str) -> Any:
        """What the command prints as JSON; it must succeed."""
        done = self.run("--site", "live", "-o", "json", *words)
        assert done.status == 0, done.stderr
        return done.json

    def fails(self, status: int, *words: str) -> dict[str, Any]:
        """The error object of a command that must end with that status, and must print no data."""
        done = self.run("--site", "live", "-o", "json", *words)
        assert (done.status, done.stdout) == (status, ""), done
        return done.error

    def holds(self, course: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.site.php(HOLDS, id=course))
        return found

    def course(self, course: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.site.php(COURSE, id=course))
        return found

    def stored(self, filename: str, *, automated: bool = False) -> list[dict[str, Any]]:
        """What Moodle's own tables say of backups of that name; an automated one may have the name of one made by hand."""
        found: list[dict[str, Any]] = json.loads(self.site.php(STORED, name=filename, automated=automated))
        return found

    def new(self, backup: str | Path, shortname: str, *words: str) -> int:
        """Restore into a new course and return its id."""
        done = self.ok("restore", str(backup), "--new", f"id:{self.category}", "--shortname", shortname, *words)
        assert done["verified"]["ok"]
        assert done["mode"] == "new"
        return int(done["course"]["id"])

    @property
    def rich(self) -> int:
        return int(self.site.content["rich"]["id"])


@contextlib.contextmanager
def opened(moodles: dict[str, rig.LiveMoodle], label: str) -> Iterator[Callable[[str], Desk]]:
    """A desk for each site that is asked for, with a category named after ``label`` that is deleted at the end."""
    made: dict[str, Desk] = {}
    with tempfile.TemporaryDirectory(prefix="mc-", dir="/tmp") as home:

        def desk_at(name: str) -> Desk:
            if name not in made:
                site = moodles[name]
                place = Path(home) / name
                place.mkdir()
                command = Command(place)
                command.add_site("live", site)
                told = command("site", "add", "live", "--replace", "--ssh-config", str(site.ssh_config))
                assert told.status == 0, told.stderr
                category = int(site.php(MAKE_CATEGORY, name=f"{label} {os.getpid()}"))
                made[name] = Desk(site, command, category)
            return made[name]

        yield desk_at
        for desk in made.values():
            desk.site.php(CLEAR, id=desk.category)


# Traces that work of ours could leave. Other work may go on on the same site: only what cannot be its own counts
# (Moodle's own scripts leave controllers behind that are not interactive).
TRACES = """
$ours = array_map('intval', $DB->get_fieldset_select('course', 'id', 'category = ?', [$arguments['id']]));
sort($ours);
list($in, $values) = $DB->get_in_or_equal($ours ?: [0]);
$count = function($sql) use ($DB, $values) { return (int)$DB->count_records_sql($sql, $values); };
echo json_encode([
    'courses' => $ours,
    'activities' => $count("SELECT COUNT(*) FROM {course_modules} WHERE course $in"),
    'sections' => $count("SELECT COUNT(*) FROM {course_sections} WHERE course $in"),
    'enrolled' => $count("SELECT COUNT(*) FROM {user_enrolments} u JOIN {enrol} e ON e.id = u.enrolid
        WHERE e.courseid $in"),
    'backups' => $count("SELECT COUNT(*) FROM {files} f JOIN {context} x ON x.id = f.contextid WHERE x.contextlevel = 50
        AND f.component = 'backup' AND f.filename <> '.' AND x.instanceid $in"),
    'private' => array_sum(array_map(function($course) use ($DB) {
            return $DB->count_records_select('files', "component = 'user' AND filearea = 'backup' AND filename LIKE ?",
                ["%-moodle2-course-$course-%"]);
        }, $ours)),
    'restores' => $count("SELECT COUNT(*) FROM {backup_controllers} WHERE operation = 'restore' AND itemid $in"),
    'running' => array_map('intval', $DB->get_fieldset_select('backup_controllers', 'id', 'status < 900
        AND interactive = 1')),
    'temporary' => array_map('basename', array_merge(glob("$CFG->backuptempdir/*", GLOB_ONLYDIR),
        glob("$CFG->backuptempdir/moodlectl*"))),
    'bin' => $DB->get_manager()->table_exists('tool_recyclebin_category')
        ? $DB->count_records('tool_recyclebin_category', ['categoryid' => $arguments['id']]) : 0,
]);
"""


@dataclass(frozen=True)
class Traces:
    """What lies in a desk's category, and what is under way on the site at all."""

    ours: dict[str, Any]
    under_way: frozenset[str]


def traces(desk: Desk) -> Traces:
    """What there is now."""
    found = json.loads(desk.site.php(TRACES, id=desk.category))
    running = [f"controller {number}" for number in found.pop("running")]
    temporary = [name for name in found.pop("temporary") if not _is_of_others(desk, name)]
    return Traces(found, frozenset([*running, *temporary]))


def _is_of_others(desk: Desk, name: str) -> bool:
    """Whether it is the account of a deed that nobody has begun at this desk."""
    deed = re.fullmatch(r"moodlectl-deed-([0-9a-f]+)\.json(?:-new)?", name)
    path = Path(desk.run.env["XDG_STATE_HOME"]) / "moodlectl" / "ledger.sqlite"
    if deed is None or not path.exists():
        return deed is not None
    facts = [item.facts for job in ledger.jobs(path) for item in ledger.job(job.id, path).items]
    return deed[1] not in {value for each in facts for name, value in each.items() if name.startswith("deed_")}


def left(desk: Desk, before: Traces) -> str:
    """What is other than before, in words; empty when, after a while at most, nothing is."""
    return settled(desk, before)[0]


def settled(desk: Desk, before: Traces, seconds: float = 45) -> tuple[str, Traces]:
    """What is other than before, and what there is now."""
    end = time.monotonic() + seconds
    now = traces(desk)
    new = now.under_way - before.under_way
    while (now.ours != before.ours or new & now.under_way) and time.monotonic() < end:
        time.sleep(0.2)
        now = traces(desk)
    changed = [f"{n}: {before.ours[n]} → {v}" for n, v in now.ours.items() if v != before.ours[n]]
    return ", ".join([*changed, *sorted(new & now.under_way)]), now
