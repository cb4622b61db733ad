"""Backups of every kind that Moodle makes, fresh from it: what inspect says of them is what Moodle's restore says."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_inside import assert_moodle_says_the_same

from moodlectl import mbz
from moodlectl.mbz import rewrite

# No tags in it: Moodle makes a backup of a course whose name has some, and cannot restore it (base_setting, IS_TEXT).
ODD = "=王 \U0001f9d1\u200d\U0001f680 ' \" & $@NULL@$ \u202egnp\u202c \x9b31m é e\u0301 "
MAKE = """
require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
$CFG->usezipbackups = $arguments['zip'];
$id = (int)$arguments['id'];
$controller = new backup_controller($arguments['type'], $id, backup::FORMAT_MOODLE, backup::INTERACTIVE_NO,
    backup::MODE_GENERAL, get_admin()->id);
foreach ($arguments['settings'] as $name => $value) {
    $setting = $controller->get_plan()->get_setting($name);
    $setting->set_value($value);
}
$controller->execute_plan();
$file = $controller->get_results()['backup_destination'];
$file->copy_content_to($arguments['path']);
chmod($arguments['path'], 0644);
$file->delete();
$controller->destroy();
"""
# A course with names as long as Moodle takes them, hidden and empty sections, and what restricts and grades.
ODD_COURSE = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
require_once($CFG->libdir . '/gradelib.php');
$generator = phpunit_util::get_data_generator();
$odd = str_repeat($arguments['odd'], 20);
$course = $generator->create_course(['fullname' => core_text::substr($odd, 0, 250), 'shortname' => $arguments['name'],
    'numsections' => 3, 'enablecompletion' => 1, 'format' => 'weeks']);
$group = $generator->create_group(['courseid' => $course->id, 'name' => core_text::substr($odd, 0, 200)]);
$page = $generator->create_module('page', ['course' => $course->id, 'name' => core_text::substr($odd, 0, 250),
    'completion' => 1, 'section' => 1, 'intro' => 'x']);
$url = $CFG->wwwroot . '/mod/page/view.php?id=' . $page->cmid;
$availability = json_encode(['op' => '&', 'showc' => [true, true, true, true, true], 'c' => [
    ['type' => 'completion', 'cm' => (int)$page->cmid, 'e' => 1], ['type' => 'group', 'id' => (int)$group->id],
    ['type' => 'date', 'd' => '>=', 't' => 1700000000], ['type' => 'profile', 'cf' => 'oddfield', 'op' => 'isequalto',
    'v' => 'x'], ['type' => 'profile', 'sf' => 'email', 'op' => 'contains', 'v' => 'x']]]);
$label = $generator->create_module('label', ['course' => $course->id, 'section' => 2,
    'intro' => "<a href=\\"$url\\">here</a>", 'availability' => $availability]);
$DB->set_field('course_sections', 'summary', "<a href=\\"$url\\">here</a>", ['course' => $course->id, 'section' => 3]);
$DB->set_field('course_sections', 'name', core_text::substr($odd, 0, 250), ['course' => $course->id, 'section' => 3]);
$DB->set_field('course_sections', 'visible', 0, ['course' => $course->id, 'section' => 2]);
rebuild_course_cache($course->id, true);
echo json_encode(['course' => (int)$course->id, 'page' => (int)$page->cmid, 'label' => (int)$label->cmid,
    'section' => (int)$DB->get_field('course_sections', 'id', ['course' => $course->id, 'section' => 3])]);
"""
UNMAKE = "delete_course((int)$arguments['id'], false);"
PLACES = """
$course = $DB->get_record('course', ['shortname' => 'RICH101'], '*', MUST_EXIST);
$cms = [];
foreach (get_fast_modinfo($course)->get_cms() as $cm) {
    $cms[$cm->modname] = (int)$cm->id;
}
$quiz = $DB->get_record('course_modules', ['id' => $cms['quiz']]);
echo json_encode(['course' => (int)$course->id, 'cms' => $cms, 'section' => (int)$quiz->section]);
"""


@contextlib.contextmanager
def made(moodle: Any, type_: str, id_: int, *, zip_: bool = False, **settings: Any) -> Iterator[Path]:
    """A backup that Moodle itself makes, brought to a file of ours while it lasts."""
    path = Path("/tmp") / f"moodlectl-odd-{secrets.token_hex(6)}.mbz"
    moodle.php(MAKE, type=type_, id=id_, zip=zip_, settings=settings, path=str(path))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


KINDS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "a course": ("course", False, {}),
    "a course as a zip": ("course", True, {}),
    "a course with everything": ("course", False, {"logs": True, "grade_histories": True}),
    "a course without people": ("course", False, {"users": False}),
    "a course of nobody": ("course", True, {"anonymize": True}),
    "a course without files": ("course", False, {"files": False}),
    "a course without activities": ("course", False, {"activities": False}),
    "a course without groups": ("course", False, {"groups": False}),
    "a section": ("section", False, {}),
    "a section as a zip, without people": ("section", True, {"users": False}),
    "a quiz": ("activity", False, {}),
    "a forum as a zip": ("activity", True, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_backup_is_what_moodles_own_restore_says(moodle: Any, kind: str, tmp_path: Path) -> None:
    type_, zip_, settings = KINDS[kind]
    places = json.loads(moodle.php(PLACES))
    cmid = places["cms"]["forum" if "forum" in kind else "quiz"]
    id_ = {"course": places["course"], "section": places["section"], "activity": cmid}[type_]
    with made(moodle, type_, id_, zip_=zip_, **settings) as path:
        manifest = assert_moodle_says_the_same(moodle, path, tmp_path)
        assert (manifest.type, manifest.container) == (type_, "zip" if zip_ else "tgz")
        report = mbz.verify(path)
        assert report.ok, report.problems
        assert manifest.kind
        dangers = {danger.code for danger in manifest.dangers}
        assert ("without_files" in dangers) == (settings.get("files") is False)
        assert ("anonymized" in dangers) == ("anonymize" in settings)


@contextlib.contextmanager
def odd_course(moodle: Any) -> Iterator[dict[str, int]]:
    """A course with the oddest names there can be, while it lasts."""
    found = json.loads(moodle.php(ODD_COURSE, odd=ODD, name=f"ODD-{secrets.token_hex(4)}"))
    try:
        yield found
    finally:
        moodle.php(UNMAKE, id=found["course"])


def test_odd_names_are_moodles_and_harmless_on_a_terminal(moodle: Any, tmp_path: Path, moodlectl_on: Any) -> None:
    with odd_course(moodle) as there, made(moodle, "course", there["course"]) as path:
        manifest = assert_moodle_says_the_same(moodle, path, tmp_path)
        assert mbz.verify(path).ok
        for form in ("table", "json", "csv"):
            for command in ("inspect", "users", "verify"):
                done = moodlectl_on("-o", form, "backup", command, str(path))
                assert done.status == 0, done.stderr
                assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", done.stdout + done.stderr)
        needs = {(one.item, one.kind, one.needs, one.missing) for one in manifest.dependencies}
        label, page = f"cmid:{there['label']}", f"cmid:{there['page']}"
        assert {
            (label, "restriction", page, False),
            (label, "link", page, False),
            (f"section:{there['section']}", "link", page, False),
            (label, "restriction", "profile_field:oddfield", True),
        } <= needs
        assert any(kind == "restriction" and other.startswith("group:") for _, kind, other, _ in needs)
        done = moodlectl_on("-o", "json", "restore", str(path), "--new", "idnumber:SCI", "--only", label, "--dry-run")
        assert done.status == 0, done.stderr
        assert sum(f"({page})" in text for text in done.json["broken"]) >= 2
        assert any("oddfield" in text for text in done.json["broken"])


SITE = "echo json_encode(['hash' => md5(get_site_identifier()), 'url' => $CFG->wwwroot]);"


def _whole(path: Path) -> Iterator[tuple[str, bytes]]:
    with mbz.open_backup(path) as archive:
        for member in archive.members():
            if member.kind == "file" and not member.name.startswith("files/"):
                yield member.name, member.name.encode() + b" " + member.read(1 << 28)


def _named(path: Path, before: bytes) -> set[bytes]:
    """Every word that is somebody's: names, addresses, numbers, and the addresses of their machines."""
    words = {word for one in mbz.read_users(path) for word in (one.username, one.email, one.firstname, one.lastname)}
    words |= {one.idnumber for one in mbz.read_users(path)}
    machines = set(re.findall(rb"<(?:lastip|ip)>([0-9.]{7,15})</", before)) - {b"127.0.0.1", b"0.0.0.0"}
    # Words that texts of the course have, whoever is called so.
    common = {b"admin", b"Admin", b"User", b"Test"}
    return {word.encode() for word in words if len(word) > 2} - common | machines


@pytest.mark.parametrize("zip_", [False, True], ids=["tgz", "zip"])
def test_an_anonymous_copy_of_a_rich_course_names_nobody_and_no_site(moodle: Any, zip_: bool, tmp_path: Path) -> None:
    course, site = json.loads(moodle.php(PLACES))["course"], json.loads(moodle.php(SITE))
    output = tmp_path / "nobody.mbz"
    with made(moodle, "course", course, zip_=zip_, logs=True, grade_histories=True) as path:
        words = _named(path, b"".join(text for _, text in _whole(path)))
        report = rewrite.rewrite(path, output, rewrite.Wanted(anonymize=True, forget_site=True))
    assert len(words) > 30
    assert mbz.verify(output).ok
    assert report.leftovers
    found = []
    for where, text in _whole(output):
        for word in words:
            for hit in re.finditer(rb"(?<![\w-])" + re.escape(word) + rb"(?![\w-])", text):
                found.append((where, word, text[max(0, hit.start() - 60) : hit.end() + 30]))
        for address in (site["hash"], site["url"], site["url"].partition("//")[2]):
            assert address.encode() not in text, (where, address)
    assert not found, found[:10]
