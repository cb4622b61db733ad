"""Comparing real courses thing by thing: a whole copy is equal, and whatever is taken from it is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from conftest import Command

DATA = Path(__file__).parents[1] / "data" / "mbz"

MAKE_CATEGORY = "echo core_course_category::create(['name' => 'Compared ' . $arguments['name']])->id;"
DELETE_CATEGORY = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
"""

# Each takes one thing away behind Moodle's back, so that nothing else changes with it.
TAKE = """
$course = $DB->get_record('course', ['id' => $arguments['course']], '*', MUST_EXIST);
$user = function($name) use ($DB) {
    return $DB->get_field('user', 'id', ['username' => $name], MUST_EXIST);
};
switch ($arguments['what']) {
    case 'grade':
        $item = $DB->get_field('grade_items', 'id', ['courseid' => $course->id, 'itemname' => 'Oral'], MUST_EXIST);
        $DB->delete_records('grade_grades', ['itemid' => $item, 'userid' => $user('student3')]);
        break;
    case 'post':
        $discussion = $DB->get_field('forum_discussions', 'id', ['course' => $course->id,
            'name' => 'Topic 2: pourquoi ?'], MUST_EXIST);
        $DB->delete_records('forum_posts', ['discussion' => $discussion, 'userid' => $user('student2'),
            'subject' => 'Re: Topic 2']);
        break;
    case 'file':
        $cm = $DB->get_record_sql("SELECT cm.id FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module
            WHERE cm.course = ? AND m.name = 'folder'", [$course->id], MUST_EXIST);
        $DB->delete_records('files', ['contextid' => context_module::instance($cm->id)->id, 'filename' => 'two.txt']);
        break;
    case 'member':
        $group = $DB->get_field('groups', 'id', ['courseid' => $course->id, 'name' => 'Red'], MUST_EXIST);
        $DB->delete_records('groups_members', ['groupid' => $group, 'userid' => $user('student4')]);
        break;
    case 'attempt':
        $quiz = $DB->get_field('quiz', 'id', ['course' => $course->id], MUST_EXIST);
        $DB->delete_records('quiz_attempts', ['quiz' => $quiz, 'userid' => $user('student5')]);
        break;
    case 'submission':
        $assign = $DB->get_field('assign', 'id', ['course' => $course->id], MUST_EXIST);
        $DB->set_field('assignsubmission_onlinetext', 'onlinetext', '<p>Other words</p>', ['submission' =>
            $DB->get_field('assign_submission', 'id', ['assignment' => $assign, 'userid' => $user('student1')])]);
        break;
    case 'activity':
        require_once($CFG->dirroot . '/course/lib.php');
        $cm = $DB->get_record_sql("SELECT cm.id FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module
            WHERE cm.course = ? AND m.name = 'choice'", [$course->id], MUST_EXIST);
        course_delete_module($cm->id);
        break;
}
"""

LOST = {
    "grade": ["grade Oral of student3: only in RICH101"],
    "post": ['forum post Topic 2: pourquoi ?, Re: Topic 2, student2 in forum "Discussions": only in RICH101'],
    "file": ['file /two.txt (mod_folder/content) in folder "Slides": only in RICH101'],
    "member": ["group member student4 in Red: only in RICH101"],
    "attempt": [
        *(f'quiz answer student5, 1, {slot} in quiz "Quiz: leaves": only in RICH101' for slot in range(1, 5)),
        'quiz attempt student5, 1 in quiz "Quiz: leaves": only in RICH101',
    ],
    "submission": ['assign text student1, 0 in assign "Essay: un arbre 🌳": onlinetext differs'],
    "activity": [
        'choice "Which plant?": only in RICH101, with 6 choice answer, 3 choice option',
    ],
}


@dataclass
class Copies:
    """A category of our own, a fresh backup of RICH101, and the command that makes and compares copies of it."""

    site: rig.LiveMoodle
    call: Command
    category: int
    backup: Path
    made: int = 0

    def copy(self, backup: Path | None = None) -> str:
        self.made += 1
        shortname = f"COPY-{self.category}-{self.made}"
        source, place = str(backup or self.backup), f"id:{self.category}"
        done = self.call("restore", source, "--new", place, "--shortname", shortname)
        assert done.status == 0, done.stderr
        return shortname

    def id(self, shortname: str) -> int:
        return int(self.site.sql(f"SELECT id FROM {{course}} WHERE shortname = '{shortname}'")[0][0])

    def compare(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = self.call("-o", "json", "course", "compare", *words)
        assert done.status in (0, 1), done.stderr
        return done.status, done.json


@pytest.fixture
def copies(moodle: rig.LiveMoodle, moodlectl_on: Command, tmp_path: Path) -> Iterator[Copies]:
    category = int(moodle.php(MAKE_CATEGORY, name=str(time.time())))
    try:
        yield Copies(moodle, moodlectl_on, category, fresh_backup(moodlectl_on, tmp_path))
    finally:
        moodle.php(DELETE_CATEGORY, id=category)


def fresh_backup(call: Command, folder: Path, site: str = "live") -> Path:
    words = ("backup", "create", "RICH101", "--with", "logs,grade_histories", "--download", str(folder))
    done = call("--site", site, "-o", "json", *words, "--remove-remote")
    assert done.status == 0, done.stderr
    return Path(done.json[0]["path"])


def real(told: dict[str, Any]) -> list[str]:
    return [one["text"] for one in told["differences"] if not one["known"]]


def test_a_course_equals_itself_its_backup_and_its_copy_but_for_what_core_does_not_carry(copies: Copies) -> None:
    status, told = copies.compare("RICH101", "RICH101")
    assert (status, told["equal"], told["differences"]) == (0, True, [])
    assert told["counts"]["a"]["forum_post"] == 16 and told["counts"]["a"]["quiz_attempt"] == 6
    status, told = copies.compare("RICH101", str(copies.backup))
    assert (status, real(told)) == (0, [])
    copy = copies.copy()
    for other in ("RICH101", str(copies.backup)):
        status, told = copies.compare(*((other, copy) if other == "RICH101" else (copy, other)))
        assert (status, real(told)) == (0, [])
    status, told = copies.compare("RICH101", copy)
    reasons = {one["kind"] for one in told["differences"]}
    assert reasons <= {"course", "badge", "badge_issued", "event", "grade_history", "logs"}


def test_whatever_is_taken_from_a_copy_is_named(copies: Copies) -> None:
    copy = copies.copy()
    lost: list[str] = []
    for what, texts in LOST.items():
        copies.site.php(TAKE, course=copies.id(copy), what=what)
        lost += texts
        status, told = copies.compare("RICH101", copy)
        assert status == 1
        assert sorted(real(told)) == sorted(lost), what
    done = copies.call("course", "compare", "RICH101", copy)
    assert done.status == 1 and "grade Oral of student3: only in RICH101" in done.stdout
    status, told = copies.compare(copy, str(copies.backup))
    assert status == 1 and len(real(told)) == len(lost)


@pytest.mark.parametrize("release", ["4.5", "5.1"])
def test_a_course_of_another_site_equals_its_backup(copies: Copies, release: str) -> None:
    backup = DATA / f"course-{release}-tgz-rich-users.mbz"
    if release == "5.1" and copies.site.name.startswith("4"):
        status, told = copies.compare("RICH101", str(backup))
        assert status == 1 and any(text.startswith('assign "Mémoire": only in course-5.1') for text in real(told))
        return
    status, told = copies.compare(copies.copy(backup), str(backup))
    assert real(told) == [] and status == 0
    assert any(one["kind"] == "person" and one["known"] for one in told["differences"])


def test_who_may_not_back_a_course_up_may_not_compare_it(copies: Copies) -> None:
    copies.call.add_site("poor", copies.site, token="teacher1")
    done = copies.call("--site", "poor", "-o", "json", "course", "compare", "RICH101", "RICH101")
    assert done.status == 3, done.stderr
    assert done.error["code"] == "nopermissions"


def test_a_course_moved_to_the_next_release_is_equal_to_where_it_came_from(
    moodles: dict[str, rig.LiveMoodle], moodlectl: Command, tmp_path: Path
) -> None:
    old = next((site for name, site in moodles.items() if name.startswith("4.5")), None)
    new = next((site for name, site in moodles.items() if name.startswith("5.1")), None)
    assert old is not None and new is not None, "needs a 4.5 and a 5.1"
    moodlectl.add_site("old", old)
    moodlectl.add_site("new", new)
    backup = fresh_backup(moodlectl, tmp_path, "old")
    category = int(new.php(MAKE_CATEGORY, name=str(time.time())))
    try:
        words = ("restore", str(backup), "--new", f"id:{category}", "--shortname", f"MOVED-{category}")
        done = moodlectl("--site", "new", *words)
        assert done.status == 0, done.stderr
        done = moodlectl("--site", "old", "-o", "json", "course", "compare", "RICH101", f"MOVED-{category}",
                         "--site-b", "new")
        assert real(done.json) == [] and done.status == 0
    finally:
        new.php(DELETE_CATEGORY, id=category)
