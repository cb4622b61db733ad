"""Backups on real sites over the shell: settings, items, locks, names, failures, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rig

from moodlectl.errors import AccessError, Failed, MoodlectlError, NotFound, Refused, UsageError
from moodlectl.site.live import automated, backup, backups, shell_courses
from moodlectl.site.port import BackupMade, BackupRequest, CourseRef, ItemChoice
from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

MAKE_COURSE = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
$g = phpunit_util::get_data_generator();
$DB->delete_records('course', ['shortname' => $arguments['shortname'], 'category' => -1]);
$course = $g->create_course(['shortname' => $arguments['shortname'], 'fullname' => 'Sauvegarde 🌱 & <b>',
    'numsections' => 3], ['createsections' => true]);
$student = $DB->get_record('user', ['username' => 'bstudent1'])
    ?: $g->create_user(['username' => 'bstudent1']);
$teacher = $DB->get_record('user', ['username' => 'teacher1'], '*', MUST_EXIST);
$g->enrol_user($student->id, $course->id, 'student');
$g->enrol_user($teacher->id, $course->id, 'editingteacher');
$cms = [];
$plan = [['page', 1, 'Première'], ['forum', 1, 'Forum'], ['page', 2, 'Zweite']];
foreach ($plan as list($module, $section, $name)) {
    $made = $g->create_module($module, ['course' => $course->id, 'name' => $name], ['section' => $section]);
    $cms[$name] = (int)$made->cmid;
    if ($module === 'forum') {
        $g->get_plugin_generator('mod_forum')->create_discussion(
            ['course' => $course->id, 'forum' => $made->id, 'userid' => $student->id]);
    }
}
$context = context_module::instance($cms['Première']);
get_file_storage()->create_file_from_string(['contextid' => $context->id, 'component' => 'mod_page',
    'filearea' => 'content', 'itemid' => 0, 'filepath' => '/', 'filename' => 'herbe.bin'],
    random_bytes(3 * 1024 * 1024));
for ($i = 0; $i < $arguments['pages']; $i++) {
    $g->create_module('page', ['course' => $course->id, 'name' => "Page $i"], ['section' => 3]);
}
if ($DB->record_exists('modules', ['name' => 'subsection', 'visible' => 1])) {
    $sub = $g->create_module('subsection', ['course' => $course->id, 'name' => 'Serre'], ['section' => 2]);
    $cms['Serre'] = (int)$sub->cmid;
    $inner = $DB->get_record('course_sections', ['course' => $course->id, 'component' => 'mod_subsection',
        'itemid' => $sub->id], '*', MUST_EXIST);
    foreach (['Innen', 'Dedans'] as $name) {
        $cms[$name] = (int)$g->create_module('page', ['course' => $course->id, 'name' => $name],
            ['section' => $inner->section])->cmid;
    }
}
$sections = $DB->get_records_menu('course_sections', ['course' => $course->id], 'section', 'section, id');
echo json_encode(['id' => (int)$course->id, 'cms' => $cms,
    'sections' => (object)array_map('intval', $sections)]);
"""

DELETE_COURSE = """
foreach ($DB->get_fieldset_select('files', 'id', "component = 'user' AND filearea = 'backup' AND filename LIKE ?",
        ["%-moodle2-course-{$arguments['id']}-%"]) as $id) {
    get_file_storage()->get_file_by_id($id)->delete();
}
delete_course((int)$arguments['id'], false);
"""

SETTING = re.compile(
    r"<setting>\s*<level>(\w+)</level>(?:\s*<(?:section|activity)>\w+</(?:section|activity)>)?"
    r"\s*<name>(\w+)</name>\s*<value>(.*?)</value>"
)


@dataclass
class Bench:
    """A course of our own on a site, and the runner to its host."""

    site: rig.LiveMoodle
    runner: Runner
    course_id: int
    cms: dict[str, int]
    sections: dict[int, int]

    def make(
        self, items: ItemChoice | None = None, acting: str | None = None, **settings: bool
    ) -> BackupMade:
        request = BackupRequest(self.course_id, settings, items or ItemChoice())
        return backup.make(self.runner, request, acting=acting)

    def manifest(self, made: BackupMade) -> dict[str, str]:
        """The settings that the archive says it was made with, by name; items too."""
        xml = backups.manifest_xml(self.runner, made.file).decode()
        return {name: value for _, name, value in SETTING.findall(xml)}

    def included(self, made: BackupMade) -> set[str]:
        """The items (``page_12``, ``section_3``) that the archive holds."""
        settings = self.manifest(made)
        return {name.removesuffix("_included") for name, value in settings.items()
                if name.endswith("_included") and value == "1"}  # fmt: skip

    def userdata(self, made: BackupMade) -> set[str]:
        settings = self.manifest(made)
        return {name.removesuffix("_userinfo") for name, value in settings.items()
                if name.endswith("_userinfo") and value == "1"}  # fmt: skip

    def left_behind(self) -> list[str]:
        temp = self.site.dataroot / "temp/backup"
        return sorted(path.name for path in temp.glob(f"moodlectl-{self.course_id}-*"))

    def config(self, name: str, value: str | int | None, plugin: str = "backup") -> None:
        self.site.php("set_config($arguments['name'], $arguments['value'], $arguments['plugin']);",
                      name=name, value=value, plugin=plugin)  # fmt: skip

    def rows(self) -> int:
        query = f"SELECT COUNT(*) FROM {{backup_controllers}} WHERE itemid = {self.course_id}"
        return int(self.site.sql(query)[0][0])


def _bench(moodle: rig.LiveMoodle, shortname: str, pages: int = 0) -> Iterator[Bench]:
    made = json.loads(moodle.php(MAKE_COURSE, shortname=f"{shortname}-{os.getpid()}", pages=pages))
    runner = Runner(Shell(moodle.via, ssh_config=moodle.ssh_config), str(moodle.moodle_dir))
    sections = {int(number): section for number, section in made["sections"].items()}
    try:
        yield Bench(moodle, runner, made["id"], made["cms"], sections)
    finally:
        runner.close()
        moodle.php(DELETE_COURSE, id=made["id"])


@pytest.fixture(scope="session")
def bench(moodle: rig.LiveMoodle) -> Iterator[Bench]:
    yield from _bench(moodle, "Sauve é")


@pytest.fixture(scope="session")
def big_bench(moodle: rig.LiveMoodle) -> Iterator[Bench]:
    """With enough activities that a backup lasts a few seconds."""
    yield from _bench(moodle, "Groß", pages=150)


@pytest.fixture
def config(bench: Bench) -> Iterator[Callable[..., None]]:
    """Set a configuration of Moodle for one test; it is put back afterwards."""
    before: list[tuple[str, str, str | None]] = []

    def change(name: str, value: str | int, plugin: str = "backup") -> None:
        found = bench.site.sql(
            f"SELECT value FROM {{config_plugins}} WHERE plugin = '{plugin}' AND name = '{name}'")
        before.append((name, plugin, found[0][0] if found else None))
        bench.config(name, value, plugin)

    yield change
    for name, plugin, value in reversed(before):
        bench.config(name, value, plugin)


# --- what is made -------------------------------------------------------------------------------------------


def test_a_plain_backup_holds_what_the_web_page_would_put_into_it(bench: Bench) -> None:
    made = bench.make()
    assert made.file.area == "course"
    assert made.file.course_id == bench.course_id
    assert re.fullmatch(rf"backup-moodle2-course-{bench.course_id}-sauve_.*-\d{{8}}-\d{{4}}(-\d+)?\.mbz",
                        made.file.filename)  # fmt: skip
    assert made.file.has_users is True
    assert made.file.size > 3 * 1024 * 1024
    assert (made.warnings, made.settings["logs"], made.settings["users"]) == ((), False, True)
    written = bench.manifest(made)
    assert {name: bool(int(written[name])) for name in made.settings} == made.settings
    assert bench.left_behind() == []


def test_every_root_setting_can_be_turned_over_by_name(bench: Bench) -> None:
    offered = [one for one in backup.settings(bench.runner, None) if one.level == "root"]
    assert len(offered) >= 18
    for setting in offered:
        if setting.name == "imscc11":
            continue
        wanted = not setting.value
        made = bench.make(**{setting.name: wanted})
        assert made.settings[setting.name] is wanted, setting.name
        assert bench.manifest(made)[setting.name] == str(int(wanted)), setting.name
        others = [one for one in offered if setting.name not in (one.name, *one.depends_on)]
        kept = {one.name: one.value for one in others}
        assert {name: made.settings[name] for name in kept} == kept, setting.name
        backups.delete(bench.runner, made.file)


def test_people_left_out_or_made_anonymous_mean_the_private_area(bench: Bench) -> None:
    without = bench.make(users=False, files=False)
    assert (without.file.area, without.file.owner, without.file.has_users) == ("private", "admin", False)
    assert re.search(r"-nu-nf(-\d+)?\.mbz$", without.file.filename)
    assert without.file.size < 1024 * 1024
    assert without.settings["role_assignments"] is False
    anonymous = bench.make(anonymize=True)
    assert (anonymous.file.area, anonymous.file.has_users) == ("private", True)
    assert re.search(r"-an(-\d+)?\.mbz$", anonymous.file.filename)


def test_a_backup_never_overwrites_one_of_the_same_name(bench: Bench) -> None:
    made = [bench.make() for _ in range(3)]
    assert len({one.file.filename for one in made}) == 3
    found = backups.listing(bench.runner, bench.course_id, ["course"]).files
    listed = {one.filename: one.sha1 for one in found}
    assert {one.file.filename: one.file.sha1 for one in made}.items() <= listed.items()


def test_a_common_cartridge_is_made_and_leaves_people_out(bench: Bench) -> None:
    made = bench.make(imscc11=True)
    assert made.file.filename.endswith(".imscc")
    assert (made.file.area, made.file.has_users) == ("private", False)
    assert (made.settings["users"], made.settings["blocks"], made.settings["files"]) == (False, False, True)
    with pytest.raises(Failed) as caught:
        backups.manifest_xml(bench.runner, made.file)
    assert caught.value.code == "no_manifest"
    assert bench.left_behind() == []


def test_raising_users_does_not_raise_what_the_admin_has_off(
    bench: Bench, config: Callable[..., None]
) -> None:
    config("backup_general_users", 0)
    usual = bench.make()
    assert usual.settings["users"] is False
    made = bench.make(users=True)
    assert made.settings["users"] is True
    assert (made.settings["logs"], made.settings["grade_histories"]) == (False, False)
    assert (made.settings["role_assignments"], made.settings["comments"]) == (True, True)
    assert f"forum_{bench.cms['Forum']}" in bench.userdata(made)


# --- items --------------------------------------------------------------------------------------------------


def test_one_section_alone_brings_its_activities(bench: Bench) -> None:
    made = bench.make(ItemChoice(only_sections=frozenset({bench.sections[1]})))
    assert bench.included(made) == {
        f"section_{bench.sections[1]}", f"page_{bench.cms['Première']}", f"forum_{bench.cms['Forum']}"
    }  # fmt: skip


def test_what_is_skipped_is_left_out_and_nothing_else(bench: Bench) -> None:
    whole = bench.included(bench.make())
    made = bench.make(ItemChoice(skip_activities=frozenset({bench.cms["Forum"]})))
    assert whole - bench.included(made) == {f"forum_{bench.cms['Forum']}"}
    made = bench.make(ItemChoice(skip_sections=frozenset({bench.sections[1]})))
    assert whole - bench.included(made) == {
        f"section_{bench.sections[1]}", f"page_{bench.cms['Première']}", f"forum_{bench.cms['Forum']}"
    }  # fmt: skip


def test_user_data_can_be_left_out_of_one_item(bench: Bench) -> None:
    forum = bench.cms["Forum"]
    made = bench.make(ItemChoice(no_userdata_activities=frozenset({forum})))
    assert f"forum_{forum}" in bench.included(made)
    assert f"forum_{forum}" not in bench.userdata(made)
    made = bench.make(ItemChoice(no_userdata_sections=frozenset({bench.sections[1]})))
    assert not {f"forum_{forum}", f"section_{bench.sections[1]}"} & bench.userdata(made)
    assert f"section_{bench.sections[2]}" in bench.userdata(made)


def test_a_subsection_is_taken_and_left_with_what_is_in_it(bench: Bench) -> None:
    if "Serre" not in bench.cms:
        bench.site.php("\\core\\plugininfo\\mod::enable_plugin('subsection', 1);")
        pytest.fail("the site's subsections are switched off; the rig should switch them on")
    outer, serre, inner = bench.sections[2], bench.cms["Serre"], bench.cms["Innen"]
    whole = bench.included(bench.make())
    pages = {f"page_{inner}", f"page_{bench.cms['Dedans']}"}
    holds = pages | {f"subsection_{serre}"}
    made = bench.make(ItemChoice(skip_activities=frozenset({serre})))
    gone = whole - bench.included(made)
    assert holds < gone
    assert len(gone) == 4, "the subsection, its section and the pages in it"
    made = bench.make(ItemChoice(only_sections=frozenset({outer})))
    assert gone <= bench.included(made)
    made = bench.make(ItemChoice(only_sections=frozenset(), only_activities=frozenset({serre})))
    assert bench.included(made) == gone | {f"section_{outer}"}
    for activities in ({inner}, {inner, serre}):
        made = bench.make(ItemChoice(only_sections=frozenset(), only_activities=frozenset(activities)))
        assert bench.included(made) == gone - {f"page_{bench.cms['Dedans']}"} | {f"section_{outer}"}


# --- refused ------------------------------------------------------------------------------------------------


def test_what_the_administrator_locked_is_refused_by_name(bench: Bench, config: Callable[..., None]) -> None:
    config("backup_general_users_locked", 1)
    with pytest.raises(Refused) as caught:
        bench.make(users=False)
    assert caught.value.code == "setting_locked"
    assert "backup_general_users_locked" in caught.value.message
    locked = {one.name: one.locked_by for one in backup.settings(bench.runner, bench.course_id)}
    assert locked["users"] == "config"
    assert locked[f"forum_{bench.cms['Forum']}_userinfo"] == "hierarchy"
    assert bench.make(users=True, anonymize=True).settings["anonymize"] is True, "as in the web form"


def test_a_missing_capability_is_named(bench: Bench) -> None:
    with pytest.raises(Refused) as caught:
        bench.make(acting="teacher1", users=True)
    assert "moodle/backup:userinfo" in caught.value.message
    made = bench.make(acting="teacher1")
    assert (made.settings["users"], made.file.area, made.file.owner) == (False, "private", "teacher1")
    with pytest.raises(AccessError):
        bench.make(acting="bstudent1")


def test_what_depends_on_users_is_refused_without_them(bench: Bench) -> None:
    for asked in ({"logs": True}, {"comments": True}):
        with pytest.raises(Refused) as caught:
            bench.make(users=False, **asked)
        assert "'users'" in caught.value.message
    with pytest.raises(Refused) as caught:
        bench.make(ItemChoice(userdata_activities=frozenset({bench.cms["Forum"]})), users=False)
    assert "'users'" in caught.value.message


def test_unknown_settings_items_and_courses_are_named(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        bench.make(nonesuch=True)
    assert (caught.value.code, "users" in caught.value.details["available"]) == ("unknown_setting", True)
    with pytest.raises(UsageError):
        bench.make(filename=True)
    with pytest.raises(NotFound) as missing:
        bench.make(ItemChoice(skip_activities=frozenset({99999999})))
    assert missing.value.code == "item_not_found"
    with pytest.raises(NotFound):
        backup.make(bench.runner, BackupRequest(99999999))
    assert bench.left_behind() == []


def test_too_little_room_is_refused_before_anything_is_written(bench: Bench) -> None:
    where = f"filename = 'herbe.bin' AND contextid IN (SELECT id FROM {{context}} WHERE contextlevel = 70 " \
            f"AND instanceid = {bench.cms['Première']})"  # fmt: skip
    size = bench.site.sql(f"SELECT filesize FROM {{files}} WHERE {where}")[0][0]
    rows = bench.rows()
    bench.site.sql(f"UPDATE {{files}} SET filesize = 900000000000000 WHERE {where}")
    try:
        with pytest.raises(Refused) as caught:
            bench.make()
        assert caught.value.code == "no_space"
        assert bench.make(ItemChoice(skip_activities=frozenset({bench.cms["Première"]}))).file.size > 0
        bench.make(files=False)
    finally:
        bench.site.sql(f"UPDATE {{files}} SET filesize = {size} WHERE {where}")
    assert bench.rows() == rows + 2
    assert bench.left_behind() == []


# --- asking -------------------------------------------------------------------------------------------------


def test_asking_for_the_settings_leaves_nothing_behind(bench: Bench) -> None:
    def there() -> tuple[int, list[list[str]], set[str]]:
        temp = {path.name for path in (bench.site.dataroot / "temp/backup").iterdir()}
        return bench.rows(), bench.site.sql("SELECT COUNT(*) FROM {backup_logs}"), temp

    def unchanged() -> bool:
        before = there()
        backup.settings(bench.runner, bench.course_id)
        return there() == before

    _eventually(unchanged)  # others may be at work on the same site just then
    settings = {one.name: one for one in backup.settings(bench.runner, bench.course_id)}
    forum = settings[f"forum_{bench.cms['Forum']}_userinfo"]
    assert (forum.item, forum.module, forum.item_id) == ("Forum", "forum", bench.cms["Forum"])
    assert settings[f"section_{bench.sections[1]}_included"].level == "section"


def test_a_course_is_found_and_counted_over_the_shell(bench: Bench) -> None:
    course = shell_courses.course(bench.runner, CourseRef("id", str(bench.course_id)))
    assert course.fullname == "Sauvegarde 🌱 & <b>"
    assert shell_courses.course(bench.runner, CourseRef("shortname", course.shortname)) == course
    with pytest.raises(NotFound):
        shell_courses.course(bench.runner, CourseRef("shortname", "no such course"))
    assert course.id in {one.id for one in shell_courses.courses(bench.runner, search="Sauvegarde")}
    counts = shell_courses.counts(bench.runner, bench.course_id)
    assert (counts.users, counts.files) == (2, 1)
    assert counts.activities["forum"] == 1
    sections = {one.id: one for one in shell_courses.contents(bench.runner, bench.course_id)}
    names = [one.name for one in sections[bench.sections[1]].activities]
    assert names == ["Première", "Forum"]
    if "Serre" in bench.cms:
        inner = [one for one in sections.values() if one.parent_activity == bench.cms["Serre"]]
        assert [one.name for one in inner[0].activities] == ["Innen", "Dedans"]


# --- stored backups -----------------------------------------------------------------------------------------


def test_a_backup_comes_down_whole_and_goes_on_where_it_stopped(bench: Bench, tmp_path: Path) -> None:
    made = bench.make()
    whole = tmp_path / "whole.mbz"
    got = backups.download(bench.runner, made.file, whole)
    content = whole.read_bytes()
    assert hashlib.sha1(content).hexdigest() == made.file.sha1 == got.sha1
    (tmp_path / "part.mbz.part").write_bytes(content[: len(content) // 2])
    seen: list[float] = []
    backups.download(bench.runner, made.file, tmp_path / "part.mbz", lambda step: seen.append(step.done))
    assert (tmp_path / "part.mbz").read_bytes() == content
    assert seen[0] > len(content) / 2
    (tmp_path / "wrong.mbz.part").write_bytes(b"something else altogether")
    backups.download(bench.runner, made.file, tmp_path / "wrong.mbz")
    assert (tmp_path / "wrong.mbz").read_bytes() == content
    assert not list(tmp_path.glob("*.part"))


def test_a_deleted_backup_is_gone_and_cannot_be_deleted_again(bench: Bench) -> None:
    made = bench.make()
    with pytest.raises(AccessError):
        bench.runner.do("delete_backup", {"locator": dict(made.file.locator)}, acting="bstudent1")
    backups.delete(bench.runner, made.file)
    names = [one.filename for one in backups.listing(bench.runner, bench.course_id).files]
    assert made.file.filename not in names
    with pytest.raises(NotFound):
        backups.delete(bench.runner, made.file)


def test_no_locator_reaches_a_file_that_is_no_backup(bench: Bench) -> None:
    for locator in (
        {"contextid": 1, "component": "core", "filearea": "preview", "filename": "x"},
        {"directory": "/etc", "filename": "passwd", "course_id": bench.course_id},
        {"directory": "/", "filename": f"../../etc/x-moodle2-course-{bench.course_id}-1.mbz",
         "course_id": bench.course_id},
    ):  # fmt: skip
        with pytest.raises(MoodlectlError):
            bench.runner.fetch("fetch_backup", {"locator": locator}, lambda _: pytest.fail("sent something"))


def test_private_areas_are_their_owners(bench: Bench) -> None:
    made = bench.make(acting="teacher1")
    here = backups.listing(bench.runner, bench.course_id, ["private"], owner="teacher1")
    assert made.file.filename in {one.filename for one in here.files}
    assert {one.owner for one in here.files} == {"teacher1"}
    with pytest.raises(AccessError):
        bench.runner.ask("backups", {"course_id": bench.course_id, "areas": ["private"], "owner": "admin"},
                         acting="teacher1")  # fmt: skip
    notes = bench.runner.ask("backups", {"course_id": bench.course_id, "areas": ["automated", "course"]},
                             acting="bstudent1")["notes"]  # fmt: skip
    assert len(notes) == 2


def test_a_renamed_private_backup_is_known_by_what_it_says_itself(bench: Bench) -> None:
    made = bench.make(users=False)
    bench.site.php(
        "$f = get_file_storage()->get_file($arguments['contextid'], 'user', 'backup', 0, '/',"
        "$arguments['filename']);"
        "$f->rename('/', 'rename d ' . $arguments['course_id'] . '.mbz');", **made.file.locator)
    found = backups.listing(bench.runner, bench.course_id, ["private"]).files
    renamed = [one for one in found if one.filename == f"rename d {bench.course_id}.mbz"]
    assert [one.sha1 for one in renamed] == [made.file.sha1]
    assert renamed[0].has_users is None
    backups.delete(bench.runner, renamed[0])


def test_automated_backups_run_and_are_found_in_both_places(
    bench: Bench, config: Callable[..., None], tmp_path: Path
) -> None:
    config("backup_auto_active", 0)
    with pytest.raises(Refused) as off:
        automated.run(bench.runner)
    assert off.value.code == "automated_disabled"
    folder = Path(bench.site.php("echo make_temp_directory('rig_automated');"))
    config("backup_auto_active", 2)
    config("backup_auto_storage", 2)
    config("backup_auto_destination", str(folder))
    bench.site.php("$DB->delete_records('backup_courses', ['courseid' => $arguments['id']]);"
                   "$DB->insert_record('backup_courses', ['courseid' => $arguments['id'],"
                   "'nextstarttime' => 5, 'laststatus' => 5]);", id=bench.course_id)  # fmt: skip
    runs = {one.course_id: one for one in automated.run(bench.runner)}
    assert runs[bench.course_id].status == "ok"
    assert runs[bench.course_id].ended is not None
    found = backups.listing(bench.runner, bench.course_id, ["automated"]).files
    inside = [one for one in found if one.directory is None]
    outside = [one for one in found if one.directory is not None]
    assert (len(inside), len(outside)) == (1, 1)
    got = backups.download(bench.runner, outside[0], tmp_path / "outside.mbz")
    assert got.sha1 == inside[0].sha1
    assert b"<moodle_backup>" in backups.manifest_xml(bench.runner, outside[0])
    foreign = folder / f"x-moodle2-course-{bench.course_id}-foreign.mbz"
    foreign.write_bytes(b"not ours")
    foreign.chmod(0o644)
    listed = backups.listing(bench.runner, bench.course_id, ["automated"]).files
    with pytest.raises(Refused):
        backups.delete(bench.runner, next(one for one in listed if one.filename == foreign.name))
    foreign.unlink()
    for one in found:
        backups.delete(bench.runner, one)
    assert backups.listing(bench.runner, bench.course_id, ["automated"]).files == ()


# --- when it goes wrong -------------------------------------------------------------------------------------


def test_files_missing_on_the_site_are_told_in_moodles_words_and_by_name(bench: Bench) -> None:
    made = bench.site.php(
        "$f = get_file_storage()->create_file_from_string(['contextid' => context_module::instance("
        "$arguments['cm'])->id, 'component' => 'mod_page', 'filearea' => 'content', 'itemid' => 0,"
        "'filepath' => '/', 'filename' => 'lost.bin'], random_bytes(5000));"
        "$h = $f->get_contenthash(); unlink($CFG->dataroot . '/filedir/' . substr($h, 0, 2) . '/'"
        " . substr($h, 2, 2) . '/' . $h); echo $f->get_id();", cm=bench.cms["Zweite"])
    try:
        warnings = bench.make().warnings
    finally:
        bench.site.sql(f"DELETE FROM {{files}} WHERE id = {made}")
    assert warnings[0].startswith("Some files could not be saved during the backup")
    assert "lost.bin" in warnings[1]


def _begin(bench: Bench) -> subprocess.Popen[str]:
    """A backup of the big course in a process of its own, returned when it is well under way."""
    code = (
        "import sys\n"
        "from moodlectl.site.runner import Runner\nfrom moodlectl.site.shell import Shell\n"
        "hops, config, directory, course = sys.argv[1].split(), *sys.argv[2:]\n"
        "runner = Runner(Shell(hops, ssh_config=config), directory)\n"
        "try:\n"
        "    runner.do('backup', {'course_id': int(course)},\n"
        "              on_progress=lambda p: print(p.done, flush=True))\n"
        "    print('done', flush=True)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, getattr(error, 'code', ''), flush=True)\n"
    )
    site = bench.site
    words = [" ".join(site.via), str(site.ssh_config), str(site.moodle_dir), str(bench.course_id)]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip()[:1].isdigit() and float(line) > 50:
            return process
    raise AssertionError("the backup ended before it could be disturbed")


def _eventually(true: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_client_that_goes_away_leaves_nothing_on_the_site(big_bench: Bench, how: signal.Signals) -> None:
    rows = big_bench.rows()
    process = _begin(big_bench)
    assert big_bench.left_behind() != []
    process.send_signal(how)
    process.communicate(timeout=60)
    _eventually(lambda: big_bench.left_behind() == [] and big_bench.rows() == rows)
    assert backups.listing(big_bench.runner, big_bench.course_id).files == ()


def test_a_database_that_goes_away_fails_the_backup_and_leaves_no_files(big_bench: Bench) -> None:
    if big_bench.site.db != "pgsql":
        end = ("SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE db = "
               f"'{big_bench.site.dbname}' AND id <> CONNECTION_ID()")  # fmt: skip
    else:
        end = ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
               f"'{big_bench.site.dbname}' AND pid <> pg_backend_pid()")  # fmt: skip
    process = _begin(big_bench)
    for (row,) in big_bench.site.sql(end):
        if row.startswith("KILL"):
            big_bench.site.sql(row)
    told, _ = process.communicate(timeout=60)
    assert told.splitlines()[-1].startswith("Failed "), told
    _eventually(lambda: big_bench.left_behind() == [])
    big_bench.site.sql(f"DELETE FROM {{backup_controllers}} WHERE itemid = {big_bench.course_id}")


def test_a_short_name_as_long_as_moodle_allows_still_makes_a_file_with_its_date(bench: Bench) -> None:
    rename = "$DB->set_field('course', 'shortname', $arguments['name'], ['id' => $arguments['id']]);"
    before = bench.site.php("echo get_course($arguments['id'])->shortname;", id=bench.course_id)
    bench.site.php(rename, id=bench.course_id, name="é" * 255)
    try:
        name = bench.make().file.filename
    finally:
        bench.site.php(rename, id=bench.course_id, name=before)
    assert re.fullmatch(rf"backup-moodle2-course-{bench.course_id}-é+-\d{{8}}-\d{{4}}(-\d+)?\.mbz", name)
    assert len(name) < 255
