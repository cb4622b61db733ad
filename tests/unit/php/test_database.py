"""What a deed takes for known of the database is so, whatever is asked and written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import moodlectl

SCRIPT = Path(moodlectl.__file__).parent / "site" / "php" / "database.php"
# A database of a few rows that tells what it was asked.
STANDIN = """
require($argv[1]);
class moodle_database {
    public $asked = [];
    public $rows = ['role_capabilities' => [21], 'event' => ['page 8'], 'files' => ['21 mod_page content']];
    public function sql_like($field, $value) { return "$field LIKE $value"; }
    public function sql_concat(...$parts) { return implode(' || ', $parts); }
    public $known;
    public function get_in_or_equal($values) { return [count($values) === 1 ? '= ?' : 'IN (?)', $values]; }
    public function get_fieldset_sql($sql, $values) {
        $this->asked[] = $sql;
        if (strpos($sql, '{context}')) { return ['20', '21', '22']; }
        return strpos($sql, 'cm.instance') ? ['page 7', 'page 8'] : ['11'];
    }
    public function get_recordset_sql($sql, $values) {
        if ($this->known->has_none($sql, $values)) { return new EmptyIterator(); }
        $this->asked[] = $sql;
        preg_match('/\\\\{(\\\\w+)\\\\}/', $sql, $table);
        $found = [];
        foreach (isset($this->rows[$table[1]]) ? $this->rows[$table[1]] : [] as $row) { $found[] = explode(' ', $row); }
        return new class($found) extends ArrayIterator { public function close() {} };
    }
}
class context_course {
    public static function instance($id) { return (object)['id' => 20, 'path' => '/1/20']; }
}
$db = new moodle_database();
$known = $db->known = new moodlectl_known($db, $argv[2], (int)$argv[3]);
$told = [];
foreach (json_decode(stream_get_contents(STDIN), true) as $call) {
    $told[] = call_user_func_array([$known, array_shift($call)], $call);
}
echo json_encode([$told, count($db->asked)]);
"""
OVERRIDES = "SELECT * FROM {role_capabilities} WHERE contextid = ?"
IDS = "SELECT * FROM {backup_ids_temp} WHERE backupid = ? AND itemname = ? AND itemid = ?"
NAMES = "SELECT itemid, info FROM {backup_ids_temp} WHERE backupid = ? AND itemname = ? ORDER BY itemid"
MODULE = "SELECT id FROM {modules} WHERE name = ?"
SECTION = "SELECT * FROM {course_sections} WHERE id = ?"


def told(*calls: list[Any], deed: str = "backup", course: int = 5) -> tuple[list[Any], int]:
    """What each call answers, and how often the database was asked."""
    done = subprocess.run(
        ["php", "-d", "error_reporting=-1", "-d", "display_errors=stderr", "-r", STANDIN, "--", str(SCRIPT), deed, str(course)],
        input=json.dumps(calls), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    answers, asked = json.loads(done.stdout)
    return answers, asked


def test_which_contexts_of_the_course_have_rows_is_asked_once_for_all() -> None:
    answers, asked = told(*(["has_none", OVERRIDES, [context]] for context in (20, "21", 22, 22)))
    assert answers == [True, False, True, True]
    assert asked == 2


def test_a_course_of_one_activity_is_asked_about_as_any_other() -> None:
    viewed = "SELECT * FROM {course_modules_viewed} WHERE coursemoduleid = ?"
    assert told(["has_none", viewed, [11]], ["has_none", viewed, [12]]) == ([True, False], 2)


def test_of_other_courses_and_without_a_course_nothing_is_known() -> None:
    assert told(["has_none", OVERRIDES, [99]])[0] == [False]
    assert told(["has_none", OVERRIDES, [20]], course=0) == ([False], 0)


@pytest.mark.parametrize(
    ("question", "params"),
    [
        ("SELECT COUNT(id) FROM {role_capabilities} WHERE contextid = ?", [20]),
        ("SELECT * FROM {role_capabilities} WHERE contextid = ? OR roleid = ?", [20, 5]),
        ("SELECT * FROM {role_capabilities} WHERE roleid = ?", [20]),
        ("SELECT * FROM {role_capabilities} WHERE contextid > ?", [20]),
        ("SELECT * FROM {role_capabilities} WHERE contextid = ? UNION SELECT * FROM {role_capabilities}", [20]),
        ("SELECT * FROM {role_capabilities}, {role} WHERE contextid = ?", [20]),
        (OVERRIDES, [None]),
        (OVERRIDES, [True]),
        (OVERRIDES, []),
        ("SELECT * FROM {logstore_standard_log} WHERE contextid = ?", [20]),
        ("SELECT COUNT(id) FROM {backup_ids_temp} WHERE backupid = ? AND itemname = ?", ["b", "user"]),
        ("SELECT * FROM {backup_ids_temp} WHERE backupid = ?", ["b"]),
        ("SELECT * FROM {backup_ids_temp} WHERE itemname <> ?", ["user"]),
    ],
)
def test_questions_of_any_other_kind_are_asked(question: str, params: list[Any]) -> None:
    assert told(["has_none", question, params])[0] == [False]


def test_more_conditions_and_an_order_leave_nothing_as_nothing() -> None:
    more = "SELECT id, roleid\n  FROM {role_capabilities}\n WHERE roleid = ? AND contextid = ? ORDER BY roleid, id"
    assert told(["has_none", more, [5, 22]], ["has_none", more, [5, 21]])[0] == [True, False]


def test_what_is_written_to_a_table_ends_what_was_known_of_it_alone() -> None:
    area = "SELECT id FROM {files} WHERE contextid = ? AND component = ? AND filearea = ?"
    answers, _ = told(
        ["has_none", OVERRIDES, [20]], ["has_none", area, [20, "mod_page", "content"]],
        ["writes", "role_capabilities", {"contextid": 22}],
        ["has_none", OVERRIDES, [20]], ["has_none", area, [20, "mod_page", "content"]],
        ["has_none", area, [21, "mod_page", "content"]], ["has_none", area, [21, "mod_page", "intro"]],
    )  # fmt: skip
    assert answers == [True, True, None, False, True, False, True]


def test_activities_are_known_by_module_and_instance() -> None:
    events = (
        "SELECT * FROM {event}\n   WHERE instance = :instance\n  AND type <> :type\n  AND modulename = :modulename"
    )
    asks = [
        ["has_none", events, {"instance": number, "modulename": module, "type": 1}]
        for module, number in (("page", 7), ("page", "8"), ("quiz", 7))
    ]
    assert told(*asks)[0] == [True, False, False]


def test_grade_items_of_another_kind_than_an_activitys_are_asked_for() -> None:
    items = "SELECT * FROM {grade_items} WHERE  itemtype = ? AND itemmodule = ? AND iteminstance = ? AND courseid = ?"
    answers, _ = told(["has_none", items, ["mod", "page", 7, 5]], ["has_none", items, ["manual", "page", 7, 5]])
    assert answers == [True, False]


def test_the_ids_of_a_plan_are_known_as_they_are_written() -> None:
    answers, asked = told(
        ["has_none", IDS, ["b", "user", 3]], ["has_none", NAMES, ["b", "user"]],
        ["writes", "backup_ids_temp", {"backupid": "b", "itemname": "user", "itemid": 3}],
        ["has_none", IDS, ["b", "user", "3"]], ["has_none", IDS, ["b", "user", 4]], ["has_none", NAMES, ["b", "user"]],
        ["has_none", NAMES, ["b", "userfinal"]], ["ids_of", ["user", "group", "USER"]],
    )  # fmt: skip
    assert answers == [True, True, None, False, True, False, True, ["user", "USER"]]
    assert asked == 0


def test_ids_that_take_another_name_may_be_any() -> None:
    answers, _ = told(
        ["writes", "backup_ids_temp", {"itemname": "user", "itemid": 3}],
        ["writes", "backup_ids_temp", {"itemname": "userfinal"}],
        ["has_none", IDS, ["b", "userfinal", 9]], ["has_none", IDS, ["b", "group", 9]],
    )  # fmt: skip
    assert answers[2:] == [False, True]


@pytest.mark.parametrize(
    "deed",
    [
        ["writes", "backup_ids_temp"],
        ["writes", "backup_ids_temp", {"itemid": 4}],
        ["executes", "INSERT INTO {backup_ids_temp} (itemname) SELECT name FROM {x}"],
        ["executes", "INSERT INTO mdl_backup_ids_temp (itemname) VALUES (1)"],
        ["forget"],
    ],
)
def test_what_is_written_unseen_leaves_no_id_known(deed: list[Any]) -> None:
    assert told(deed, ["has_none", IDS, ["b", "user", 3]])[0] == [None, False]


def test_settings_of_the_session_and_changes_of_an_ids_other_fields_leave_ids_known() -> None:
    answers, _ = told(
        ["executes", "SET synchronous_commit TO off"], ["executes", "ANALYZE mdl_backup_ids_temp"],
        ["writes", "backup_ids_temp", {"id": 5, "newitemid": 8}], ["writes", "backup_ids_temp", []],
        ["has_none", IDS, ["b", "user", 3]],
    )  # fmt: skip
    assert answers[-1] is True


def test_of_very_many_ids_none_is_kept() -> None:
    written = [["writes", "backup_ids_temp", {"itemname": "step", "itemid": number}] for number in range(100_001)]
    answers, _ = told(
        *written, ["has_none", IDS, ["b", "step", 200_000]], ["has_none", IDS, ["b", "user", 200_000]]
    )
    assert answers[-2:] == [False, True]


def test_areas_without_files_are_known() -> None:
    answers, _ = told(
        ["may_have_files", 7, "mod_page", "content"],
        ["writes", "backup_files_temp", {"contextid": 7, "component": "mod_page", "filearea": "content", "itemid": 0}],
        ["writes", "backup_files_temp", {"id": 1, "newcontextid": 9}],
        ["may_have_files", "7", "mod_page", "content"], ["may_have_files", 7, "mod_page", "intro"],
        ["writes", "backup_files_temp"], ["may_have_files", 7, "mod_page", "intro"],
    )  # fmt: skip
    assert answers == [False, None, None, True, False, None, True]


def test_answers_are_kept_until_one_of_their_tables_is_written_to() -> None:
    row = {"1": {"id": 1}}
    answers, _ = told(
        ["answer", SECTION, [1]], ["keep", SECTION, [1], row], ["answer", SECTION, [1]], ["answer", SECTION, [2]],
        ["writes", "page", {"id": 4}], ["answer", SECTION, [1]],
        ["writes", "course_sections", {"id": 1}], ["answer", SECTION, [1]],
    )  # fmt: skip
    assert answers == [None, None, row, None, None, row, None, None]


def test_answers_to_other_words_are_other_answers() -> None:
    row = {"1": {"id": 1}}
    answers, _ = told(["keep", MODULE, ["page"], row], ["answer", MODULE, ["quiz"]], ["answer", MODULE, [None]])
    assert answers == [None, None, None]


def test_a_restore_keeps_only_what_no_course_changes() -> None:
    row = {"1": {"id": 1}}
    calls = [["keep", MODULE, ["page"], row], ["answer", MODULE, ["page"]]]
    calls += [["keep", SECTION, [1], row], ["answer", SECTION, [1]]]
    assert told(*calls, deed="restore", course=0)[0] == [None, row, None, None]


def test_neither_large_answers_nor_those_about_other_tables_are_kept() -> None:
    large = {"1": {"summary": "x" * 20_000}}
    answers, _ = told(
        ["keep", SECTION, [1], large], ["answer", SECTION, [1]],
        ["keep", "SELECT * FROM {course} WHERE id = ?", [1], {"1": {"id": 1}}],
        ["answer", "SELECT * FROM {course} WHERE id = ?", [1]],
    )  # fmt: skip
    assert answers == [None, None, None, None]
