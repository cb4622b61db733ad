"""Verification after restores on real sites: no false alarm on any road, and one thing taken of each kind is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import rig

from moodlectl import mbz
from moodlectl.actions import manifest
from moodlectl.actions.naming import ItemWords, choose_items
from moodlectl.actions.verification import Verification, Verified
from moodlectl.config import SiteConfig
from moodlectl.site.live import LiveSite
from moodlectl.site.port import BackupRequest, CourseRef, Restored, RestoreRequest, RestoreSource
from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

MAKE_CATEGORY = "echo core_course_category::create(['name' => 'Verified ' . $arguments['name']])->id;"
DELETE_CATEGORY = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
"""

# One of each kind, behind Moodle's back: nothing else changes with it.
TAKE = """
$id = (int)$arguments['course'];
$context = context_course::instance($id);
$one = function($table, $select, array $values) use ($DB) {
    $found = $DB->get_records_select($table, $select, $values, 'id', 'id', 0, 1);
    if (!$found) {
        throw new Exception("nothing to take from $table");
    }
    $DB->delete_records($table, ['id' => key($found)]);
};
$in = function($module) use ($DB, $id) {
    return $DB->get_field($module, 'id', ['course' => $id], IGNORE_MULTIPLE);
};
switch ($arguments['what']) {
    case 'section': $DB->set_field('course_sections', 'name', 'Other', ['course' => $id, 'section' => 2]); break;
    case 'activity': $one('course_modules', "course = ? AND module = (SELECT id FROM {modules} WHERE name = 'url')", [$id]);
        break;
    case 'person': $one('user_enrolments', "enrolid IN (SELECT id FROM {enrol} WHERE courseid = ? AND enrol = 'manual')",
        [$id]); break;
    case 'role': $one('role_assignments', 'contextid = ?', [$context->id]); break;
    case 'group': $one('groups', "courseid = ? AND name = 'Red'", [$id]); break;
    case 'group_member': $one('groups_members', 'groupid IN (SELECT id FROM {groups} WHERE courseid = ?)', [$id]); break;
    case 'grade_item': $one('grade_items', "courseid = ? AND itemname = 'Oral'", [$id]); break;
    case 'grade': $one('grade_grades', "finalgrade IS NOT NULL AND itemid IN (SELECT id FROM {grade_items}
        WHERE courseid = ? AND itemtype = 'mod')", [$id]); break;
    case 'grade_history': $DB->delete_records_select('grade_grades_history', "itemid IN (SELECT id FROM {grade_items}
        WHERE courseid = ? AND itemmodule = 'assign')", [$id]); break;
    case 'question': $one('question_bank_entries', 'questioncategoryid IN (SELECT c.id FROM {question_categories} c
        JOIN {context} x ON x.id = c.contextid WHERE x.id = ? OR x.path LIKE ?)', [$context->id, "$context->path/%"]);
        break;
    case 'attempt': $one('quiz_attempts', 'quiz = ?', [$in('quiz')]); break;
    case 'post': $one('forum_posts', 'discussion IN (SELECT id FROM {forum_discussions} WHERE course = ?) AND parent <> 0',
        [$id]); break;
    case 'submission': $one('assign_submission', 'assignment = ?', [$in('assign')]); break;
    case 'file': $one('files', "component = 'mod_folder' AND filename = 'two.txt' AND contextid IN (SELECT id
        FROM {context} WHERE path LIKE ?)", ["$context->path/%"]); break;
    case 'completion': $one('course_modules_completion', 'completionstate <> 0 AND coursemoduleid IN
        (SELECT id FROM {course_modules} WHERE course = ?)', [$id]); break;
    case 'badge': $one('badge', 'courseid = ?', [$id]); break;
    case 'event': $one('event', "courseid = ? AND eventtype = 'course'", [$id]); break;
    case 'block': $one('block_instances', 'parentcontextid = ?', [$context->id]); break;
}
"""

NAMED = {
    "section": "section 2", "activity": "url ", "person": "enrolment of ", "role": "role ", "group": "group Red",
    "group_member": "group member ", "grade_item": "grade item Oral", "grade": "grade ",
    "grade_history": "grade history ", "question": "question ", "attempt": "quiz attempt ", "post": "forum post ",
    "submission": "assign submission ", "file": "file /two.txt", "completion": "completion ", "badge": "badge ",
    "event": "calendar event ", "block": "block ",
}  # fmt: skip


@dataclass
class Bench:
    """One site, a category of our own, a whole backup of RICH101, and restores that are verified."""

    site: rig.LiveMoodle
    port: LiveSite
    category: int
    backup: Path

    def verified(
        self,
        request: RestoreRequest,
        spoil: Callable[[Restored], None] | None = None,
    ) -> tuple[Restored, Verified]:
        with Verification(self.port, request) as verification:
            verification.look()
            done = self.port.restore(request)
            if spoil is not None:
                spoil(done)
            found = verification.verify(done)
        assert found is not None
        return done, found

    def request(self, mode: str = "new", words: ItemWords | None = None, **asked: Any) -> RestoreRequest:
        if words is not None:
            asked["items"] = choose_items(words, manifest.sections(mbz.inspect(self.backup)))
        if mode == "new":
            asked.setdefault("category_id", self.category)
        return RestoreRequest(RestoreSource(path=self.backup), mode, **asked)  # type: ignore[arg-type]


@pytest.fixture
def bench(moodle: rig.LiveMoodle, tmp_path: Path) -> Iterator[Bench]:
    category = int(moodle.php(MAKE_CATEGORY, name=str(time.time())))
    runner = Runner(Shell(moodle.via, ssh_config=moodle.ssh_config), str(moodle.moodle_dir))
    try:
        with closing(LiveSite(SiteConfig(name="live", url=moodle.url), None, runner)) as port:
            rich = port.course(CourseRef("shortname", "RICH101")).id
            file = port.backup(BackupRequest(rich, {"logs": True, "grade_histories": True})).file
            port.download(file, tmp_path / "rich.mbz")
            port.delete_backup(file)
            yield Bench(moodle, port, category, tmp_path / "rich.mbz")
    finally:
        moodle.php(DELETE_CATEGORY, id=category)


ROADS: dict[str, dict[str, Any]] = {
    "whole": {},
    "with histories and logs": {"settings": {"grade_histories": True, "logs": True}},
    "without people": {"settings": {"users": False}},
    "everybody by hand": {"enrolments": "manual"},
    "with methods always": {"enrolments": "always"},
    "methods without people": {"settings": {"users": False}, "enrolments": "always"},
    "without blocks, groups and events": {"settings": {"blocks": False, "groups": False, "calendarevents": False}},
    "without activities": {"settings": {"activities": False}},
    "hidden and a year later": {"visible": False, "startdate": date(2027, 9, 1)},
    "one activity": {"words": ItemWords(only=['assign:"Essay: un arbre 🌳"'])},
    "one section": {"words": ItemWords(only=["section:3"])},
    "a quiz": {"words": ItemWords(only=["mod:quiz"])},
    "all but forums, essays without people": {"words": ItemWords(skip=["mod:forum"], no_userdata=["mod:assign"])},
}  # fmt: skip


def test_what_was_asked_is_there_whichever_road_it_takes(bench: Bench) -> None:
    for road, asked in ROADS.items():
        done, found = bench.verified(bench.request(**asked))
        assert (found.differences, found.note) == ((), None), road
    merges = [{}, *(asked for asked in ROADS.values() if "words" in asked)]
    for asked in merges:
        _, found = bench.verified(bench.request("merge", course_id=done.course.id, **asked))
        assert (found.differences, found.note) == ((), None), f"merge {asked}"
    for kept in ({}, {"keep_enrolments": True}, {"keep_groups": True}, {"overwrite_config": True}):
        _, found = bench.verified(bench.request("replace", course_id=done.course.id, **kept))
        assert (found.differences, found.note) == ((), None), f"replace {kept}"


def test_a_thing_of_each_kind_that_is_missing_is_named(bench: Bench) -> None:
    def spoil(done: Restored) -> None:
        for what in NAMED:
            bench.site.php(TAKE, course=done.course.id, what=what)

    _, found = bench.verified(bench.request(settings={"grade_histories": True}), spoil)
    unnamed = [what for what, text in NAMED.items() if not any(one.startswith(text) for one in found.differences)]
    # A history that is shorter is told of where nothing else of the activity is in the way.
    assert unnamed == [], found.differences


def test_what_a_merge_takes_from_the_course_that_was_there_is_named(bench: Bench) -> None:
    done, _ = bench.verified(bench.request())

    def spoil(merged: Restored) -> None:
        for what in ("grade", "post", "group_member", "attempt", "file"):
            bench.site.php(TAKE, course=merged.course.id, what=what)

    request = bench.request("merge", words=ItemWords(only=["mod:page"]), course_id=done.course.id)
    _, found = bench.verified(request, spoil)
    lost = ("grade ", "forum post ", "group member ", "quiz attempt ", "file /two.txt")
    unnamed = [text for text in lost if not any(one.startswith(text) for one in found.differences)]
    assert unnamed == [], found.differences
