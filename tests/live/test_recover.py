"""Bringing a deleted activity back with people's work, and where merged items land, on real sites.

What there was before is counted by SQL of the tests' own, not through the command that is being tested.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import rig
from conftest import Command

ESSAY = "Essay: un arbre 🌳"
QUIZ = "Quiz: leaves"

MAKE_CATEGORY = "echo core_course_category::create(['name' => 'Recovered ' . $arguments['name']])->id;"
DELETE_CATEGORY = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
"""

DELETE_ACTIVITY = """
require_once($CFG->dirroot . '/course/lib.php');
$CFG->forced_plugin_settings['tool_recyclebin'] = ['coursebinenable' => 0];
$instance = $DB->get_field($arguments['module'], 'id', ['course' => $arguments['course'],
    'name' => $arguments['name']], MUST_EXIST);
course_delete_module(get_coursemodule_from_instance($arguments['module'], $instance)->id);
"""

# A grade changed twice more by a teacher, so that there is a history; a restriction and a grouping of its own.
WORK_ON = """
require_once($CFG->libdir . '/gradelib.php');
$course = $arguments['course'];
$assign = $DB->get_record('assign', ['course' => $course, 'name' => $arguments['name']], '*', MUST_EXIST);
$user = $DB->get_field('user', 'id', ['username' => 'student1'], MUST_EXIST);
foreach ([61, 72] as $grade) {
    grade_update('mod/assign', $course, 'mod', 'assign', $assign->id, 0, ['userid' => $user, 'rawgrade' => $grade]);
}
$cm = get_coursemodule_from_instance('assign', $assign->id);
$group = $DB->get_field('groups', 'id', ['courseid' => $course, 'name' => 'Red'], MUST_EXIST);
$grouping = $DB->get_field('groupings', 'id', ['courseid' => $course, 'name' => 'Lab groups'], MUST_EXIST);
$DB->update_record('course_modules', (object)['id' => $cm->id, 'groupmode' => 1, 'groupingid' => $grouping,
    'availability' => json_encode(['op' => '|', 'c' => [['type' => 'group', 'id' => (int)$group]], 'show' => true])]);
rebuild_course_cache($course, true);
"""

# One person who has left since the backup was made: nobody wants him enrolled again.
LEAVE = """
$manual = $DB->get_record('enrol', ['courseid' => $arguments['course'], 'enrol' => 'manual'], '*', MUST_EXIST);
enrol_get_plugin('manual')->unenrol_user($manual,
    $DB->get_field('user', 'id', ['username' => $arguments['username']], MUST_EXIST));
"""

GRADED = """
$course = $arguments['course'];
$assign = $DB->get_record('assign', ['course' => $course, 'name' => $arguments['name']]);
if (!$assign) {
    echo 'null';
    return;
}
$item = $DB->get_record('grade_items', ['courseid' => $course, 'itemmodule' => 'assign', 'iteminstance' => $assign->id],
    '*', MUST_EXIST);
$cm = get_coursemodule_from_instance('assign', $assign->id);
$rows = function($sql) use ($DB, $item, $assign) {
    $out = [];
    $found = $DB->get_recordset_sql($sql, [strpos($sql, 'assign_') ? $assign->id : $item->id]);
    foreach ($found as $row) {
        $out[] = implode(' | ', array_map('strval', (array)$row));
    }
    $found->close();
    sort($out);
    return $out;
};
echo json_encode([
    'submissions' => $rows('SELECT u.username, s.attemptnumber, s.status, t.onlinetext FROM {assign_submission} s
        JOIN {user} u ON u.id = s.userid LEFT JOIN {assignsubmission_onlinetext} t ON t.submission = s.id
        WHERE s.assignment = ?'),
    'gradings' => $rows('SELECT u.username, g.attemptnumber, g.grade FROM {assign_grades} g
        JOIN {user} u ON u.id = g.userid WHERE g.assignment = ?'),
    'grades' => $rows('SELECT u.username, g.rawgrade, g.finalgrade, g.feedback, g.overridden, g.excluded
        FROM {grade_grades} g JOIN {user} u ON u.id = g.userid WHERE g.itemid = ?'),
    'history' => $rows('SELECT u.username, h.action, h.source, h.rawgrade, h.finalgrade, h.timemodified
        FROM {grade_grades_history} h JOIN {user} u ON u.id = h.userid WHERE h.itemid = ?'),
    'files' => $DB->count_records_select('files', "contextid = ? AND filename <> '.' AND component <> 'assignfeedback_editpdf'",
        [context_module::instance($cm->id)->id]),
    'group' => $cm->availability ? $DB->get_field('groups', 'name', ['id' => json_decode($cm->availability)->c[0]->id]) : null,
    'grouping' => $cm->groupingid ? $DB->get_field('groupings', 'name', ['id' => $cm->groupingid]) : null,
    'completion' => $DB->count_records('course_modules_completion', ['coursemoduleid' => $cm->id]),
]);
"""

COURSE = """
$course = $arguments['course'];
$context = context_course::instance($course);
$path = $context->path . '/%';
echo json_encode([
    'enrolled' => $DB->get_fieldset_sql('SELECT u.username FROM {user_enrolments} ue JOIN {enrol} e ON e.id = ue.enrolid
        JOIN {user} u ON u.id = ue.userid WHERE e.courseid = ? ORDER BY u.username, e.enrol', [$course]),
    'roles' => $DB->count_records('role_assignments', ['contextid' => $context->id]),
    'groups' => $DB->get_fieldset_select('groups', 'name', 'courseid = ? ORDER BY name, id', [$course]),
    'members' => $DB->count_records_sql('SELECT COUNT(*) FROM {groups_members} m JOIN {groups} g ON g.id = m.groupid
        WHERE g.courseid = ?', [$course]),
    'groupings' => $DB->count_records('groupings', ['courseid' => $course]),
    'questions' => $DB->count_records_sql('SELECT COUNT(*) FROM {question_bank_entries} b JOIN {question_categories} c
        ON c.id = b.questioncategoryid JOIN {context} x ON x.id = c.contextid WHERE x.id = ? OR x.path LIKE ?',
        [$context->id, $path]),
    'blocks' => $DB->count_records('block_instances', ['parentcontextid' => $context->id]),
    'sections' => $DB->get_fieldset_select('course_sections', 'name', 'course = ? ORDER BY section', [$course]),
    'methods' => $DB->count_records('enrol', ['courseid' => $course]),
    'attempts' => $DB->get_fieldset_sql('SELECT a.sumgrades FROM {quiz_attempts} a JOIN {quiz} q ON q.id = a.quiz
        WHERE q.course = ? ORDER BY a.sumgrades', [$course]),
    'users' => $DB->count_records('user'),
]);
"""


@dataclass
class Course:
    """A course of our own with what RICH101 has, on one site, and the command that knows the site as ``live``."""

    site: rig.LiveMoodle
    call: Command
    id: int
    shortname: str

    def php(self, script: str, **arguments: Any) -> str:
        return self.site.php(script, course=self.id, **arguments)

    def graded(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = json.loads(self.php(GRADED, name=ESSAY))
        return found

    def around(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.php(COURSE))
        return found

    def run(self, *words: str, status: int = 0) -> Any:
        done = self.call("-o", "json", *words)
        assert done.status == status, done.stderr
        return done.json if status == 0 else done.error

    def page(self) -> list[tuple[str, list[str]]]:
        """The sections of the course page and what stands in them."""
        found = self.site.sql(
            "SELECT id, name FROM {course_sections} WHERE course = "
            f"{self.id} AND component IS NULL ORDER BY section"
        )
        rows = []
        for section, name in found:
            names = self.php(NAMES, section=int(section))
            rows.append((name or "", json.loads(names)))
        return rows


NAMES = """
$out = [];
$sequence = $DB->get_field('course_sections', 'sequence', ['id' => $arguments['section']]);
foreach (array_filter(explode(',', (string)$sequence)) as $cmid) {
    $out[] = get_coursemodule_from_id('', $cmid)->name;
}
echo json_encode($out);
"""


@pytest.fixture
def course(moodle: rig.LiveMoodle, moodlectl_on: Command) -> Iterator[Course]:
    category = int(moodle.php(MAKE_CATEGORY, name=str(time.time())))
    shortname = f"REC-{category}"
    try:
        words = ("copy", "RICH101", "--new", f"id:{category}", "--shortname", shortname, "--with", "users")
        done = moodlectl_on("-o", "json", *words)
        assert done.status == 0, done.stderr
        yield Course(moodle, moodlectl_on, done.json["course"]["id"], shortname)
    finally:
        moodle.php(DELETE_CATEGORY, id=category)


def back_up(course: Course, *words: str) -> str:
    made = course.run("backup", "create", course.shortname, *words)
    return f"{course.shortname}@course/{made[0]['filename']}"


def test_a_deleted_graded_activity_comes_back_with_submissions_grades_and_history(course: Course) -> None:
    course.php(WORK_ON, name=ESSAY)
    backup = back_up(course, "--with", "grade_histories")
    before = course.graded()
    assert before and len(before["history"]) > len(before["grades"]) > 3 and before["submissions"]
    assert (before["group"], before["grouping"]) == ("Red", "Lab groups")
    course.php(DELETE_ACTIVITY, module="assign", name=ESSAY)
    course.php(LEAVE, username="student12")
    around = course.around()
    assert course.graded() is None
    item = f'assign:"{ESSAY}"'

    plan = course.run("restore", backup, "--merge", course.shortname, "--only", item, "--userdata", item, "--dry-run")
    adds = {one["kind"]: one for one in plan["additions"]["adds"]}
    assert adds["activity"]["names"] == [item.replace("assign:", "assign ")]
    assert adds["assign_submission"]["number"] == len(before["submissions"])
    assert adds["grade"]["number"] == len([one for one in before["grades"] if one.split(" | ")[2]])
    assert adds["grade_history"]["number"] == len(before["history"])
    assert not {"person", "role", "group", "question"} & set(adds), "nothing but the item is added"
    assert (course.graded(), course.around()) == (None, around), "a dry run changes nothing"

    done = course.run("restore", backup, "--merge", course.shortname, "--only", item, "--userdata", item)
    assert done["verified"]["ok"] and done["verified"]["note"] is None and done["lacks"] == ["The backup was made "
        "without log entries: it cannot be brought."]
    assert course.graded() == before
    assert course.around() == around
    assert len(done["activities"]) == 1


def test_what_the_backup_lacks_is_said_and_the_rest_comes_back(course: Course) -> None:
    backup = back_up(course, "--without", "grade_histories")
    before = course.graded()
    assert before
    course.php(DELETE_ACTIVITY, module="assign", name=ESSAY)
    item = f'assign:"{ESSAY}"'
    done = course.run("restore", backup, "--merge", course.shortname, "--only", item, "--userdata", item)
    assert any("history of grades" in one for one in done["lacks"])
    after = course.graded()
    assert after and {**after, "history": 0} == {**before, "history": 0}


def test_a_quiz_comes_back_with_its_attempts_and_no_question_twice(course: Course) -> None:
    backup = back_up(course)
    before = course.around()
    course.php(DELETE_ACTIVITY, module="quiz", name=QUIZ)
    assert course.around()["attempts"] == []
    item = f'quiz:"{QUIZ}"'
    done = course.run("restore", backup, "--merge", course.shortname, "--only", item, "--userdata", item)
    assert done["verified"]["ok"], done["verified"]
    assert course.around() == before


def test_merged_items_land_where_they_are_wanted(course: Course) -> None:
    backup = back_up(course)
    before = course.page()
    words = ("restore", backup, "--merge", course.shortname, "--only")
    done = course.run(*words, f'quiz:"{QUIZ}"', "--into-section", "section:3", "--no-safety-backup")
    after = course.page()
    assert done["verified"]["ok"], done["verified"]
    assert after == [*before[:3], (before[3][0], [*before[3][1], QUIZ]), *before[4:]]
    done = course.run(*words, "section:1", "--after-section", "section:2", "--no-safety-backup")
    assert done["verified"]["ok"], done["verified"]
    assert course.page() == [*after[:3], before[1], *after[3:]]
    (new,) = done["sections"].values()
    number = course.site.sql(f"SELECT section FROM {{course_sections}} WHERE id = {new}")[0][0]
    assert int(number) == 3
    assert course.run(*words, f'quiz:"{QUIZ}"', "--into-section", "section:99", status=4)["code"] == "item_unknown"
    assert course.run("restore", backup, "--replace", course.shortname, "--into-section", "section:1", status=2)


def test_an_item_is_found_in_the_backups_it_still_lives_in_with_the_command_that_brings_it_back(course: Course) -> None:
    first = back_up(course)
    course.php(DELETE_ACTIVITY, module="assign", name=ESSAY)
    back_up(course, "--without", "users")
    back_up(course)
    found = course.run("backup", "search", course.shortname, "UN ARBRE")
    assert (found["looked"], found["unread"]) == (3, [])
    assert [one["backup"]["filename"] for one in found["found"]] == [first.rpartition("/")[2]]
    assert found["found"][0]["userdata"] and found["command"].startswith(f"moodlectl restore {first} --merge")
    assert course.run("backup", "search", course.shortname, "no such title", status=4)["code"] == "item_not_found"
