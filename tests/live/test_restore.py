"""Restores on real sites: what arrives, what is refused, and that nothing is left behind where they fail."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as Tree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import rig

from moodlectl.errors import AccessError, Failed, MoodlectlError, NotFound, Refused, UsageError
from moodlectl.site.live.restore import restore, restore_params, restore_plan
from moodlectl.site.port import BackupFile, Counts, ItemChoice, Restored, RestoreRequest, RestoreSource
from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

DATA = Path(__file__).parents[1] / "data" / "mbz"
RICH_45 = DATA / "course-4.5-tgz-rich-users.mbz"
OTHER_ADMIN = DATA / "course-4.5-tgz-users.mbz"
WITHOUT_FILES = DATA / "course-4.1-tgz-without-files.mbz"
ALLOW_NEWER = frozenset({"newer-backup"})

MAKE_CATEGORY = """
$category = core_course_category::create(['name' => 'Restores ' . $arguments['name']]);
echo $category->id;
"""

DELETE_CATEGORY = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
"""

# What a restore could leave behind. Other work may go on on the same site: only what cannot be its own counts.
LEFT = """
$left = ['courses' => $DB->count_records('course', ['category' => $arguments['category']]),
    'bin' => $DB->get_manager()->table_exists('tool_recyclebin_category')
        ? $DB->count_records('tool_recyclebin_category', ['categoryid' => $arguments['category']]) : 0,
    'controllers' => $DB->count_records_select('backup_controllers', "operation = 'restore' AND status < 900
        AND itemid NOT IN (SELECT id FROM {course} WHERE category <> ?)", [$arguments['category']]),
    'directories' => array_map('basename', glob("$CFG->backuptempdir/moodlectl-restore-*"))];
echo json_encode($left);
"""


@dataclass(frozen=True)
class Left:
    """Courses in our category, recycle bin entries, restores that have not ended, directories of restores."""

    courses: int
    bin: int
    controllers: int
    directories: frozenset[str]

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.courses, self.bin, self.controllers


@dataclass
class House:
    """A category of our own on a site, the way to its host, and a fresh backup of the site's rich course."""

    site: rig.LiveMoodle
    runner: Runner
    category: int
    rich: Path
    work: Path

    def new(self, source: Path, **words: Any) -> Restored:
        return restore(self.runner, self.request(source, **words))

    def request(self, source: Path, **words: Any) -> RestoreRequest:
        return RestoreRequest(RestoreSource(path=source), "new", category_id=self.category, **words)

    def into(self, mode: Any, course: int, source: Path, **words: Any) -> RestoreRequest:
        return RestoreRequest(RestoreSource(path=source), mode, course_id=course, **words)

    def left(self) -> Left:
        found = json.loads(self.site.php(LEFT, category=self.category))
        return Left(found["courses"], found["bin"], found["controllers"], frozenset(found["directories"]))

    def is_as(self, before: Left) -> bool:
        """Whether nothing was left behind; a directory may be another restore's, which is soon gone."""
        now = self.left()
        return now.numbers == before.numbers and now.directories <= before.directories

    def course(self, course: int) -> dict[str, str]:
        names = ("shortname", "fullname", "idnumber", "visible", "startdate", "enddate")
        rows = self.site.sql(f"SELECT {', '.join(names)} FROM {{course}} WHERE id = {course}")
        return dict(zip(names, rows[0], strict=True))

    def setting(self, name: str, value: str | None, plugin: str = "restore") -> None:
        self.site.php("set_config($arguments['name'], $arguments['value'], $arguments['plugin']);",
                      name=name, value=value, plugin=plugin)


@pytest.fixture(scope="module")
def houses(
    moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., House]]:
    made: dict[str, House] = {}

    def house_of(name: str) -> House:
        if name not in made:
            site = moodles[name]
            work = tmp_path_factory.mktemp("restores")
            category = int(site.php(MAKE_CATEGORY, name=str(time.time())))
            runner = Runner(Shell(site.via, ssh_config=site.ssh_config), str(site.moodle_dir))
            made[name] = House(site, runner, category, fresh_backup(site, work), work)
        return made[name]

    yield house_of
    for house in made.values():
        house.runner.close()
        house.site.php(DELETE_CATEGORY, id=house.category)


@pytest.fixture
def house(moodle: rig.LiveMoodle, houses: Callable[..., House]) -> House:
    return houses(moodle.name)


def fresh_backup(site: rig.LiveMoodle, work: Path) -> Path:
    """A backup of RICH101 made just now by Moodle's own script."""
    code = """
    require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
    $id = $DB->get_field('course', 'id', ['shortname' => 'RICH101']);
    $bc = new backup_controller(backup::TYPE_1COURSE, $id, backup::FORMAT_MOODLE, backup::INTERACTIVE_YES,
        backup::MODE_GENERAL, get_admin()->id);
    $bc->get_plan()->get_setting('filename')->set_value('for-restores-' . uniqid() . '.mbz');
    $bc->finish_ui();
    $bc->execute_plan();
    $file = $bc->get_results()['backup_destination'];
    echo base64_encode($file->get_content());
    $file->delete();
    """
    path = work / "rich.mbz"
    path.write_bytes(base64.b64decode(site.php(code)))
    return path


def growth(done: Restored) -> Counts:
    """What the target has gained."""
    names = ("sections", "users", "groups", "grade_items", "grades", "questions", "files", "file_bytes")
    numbers = {name: getattr(done.after, name) - getattr(done.before, name) for name in names}
    modules = {*done.after.activities, *done.before.activities}
    gained = {m: done.after.activities.get(m, 0) - done.before.activities.get(m, 0) for m in modules}
    return Counts(activities={m: n for m, n in gained.items() if n}, **numbers)


def rewritten(source: Path, to: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a tgz backup with members changed (None leaves one out), and without its index."""
    with tarfile.open(source) as old, tarfile.open(to, "w:gz", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            content = change(member.name, old.extractfile(member).read() if member.isfile() else b"")  # type: ignore[union-attr]
            if content is None or member.name == ".ARCHIVE_INDEX":
                continue
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return to


def broken_in(source: Path, to: Path, ending: str) -> Path:
    """A backup whose XML breaks off in the middle of one file: the pre-check passes, the restore does not."""
    def change(name: str, content: bytes) -> bytes:
        return content[: len(content) // 2] if name.endswith(ending) else content

    return rewritten(source, to, change)


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.2)


# --- what arrives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enrolments", ["manual", "with-users", "always", None])
def test_a_new_course_holds_all_that_the_backup_holds(house: House, enrolments: Any) -> None:
    done = house.new(house.rich, enrolments=enrolments)
    assert done.expected == growth(done)
    assert done.expected.users and done.expected.grades and done.expected.questions and done.expected.files
    assert len(done.activities) == sum(done.after.activities.values())
    assert not done.warnings


def test_a_backup_of_another_site_creates_people_and_arrives_whole(house: House) -> None:
    done = house.new(RICH_45)
    assert done.expected == growth(done)
    assert done.users.matched + done.users.created == 17


def test_without_people_nobody_is_enrolled_and_nothing_of_theirs_arrives(house: House) -> None:
    done = house.new(house.rich, settings={"users": False})
    assert done.expected == growth(done)
    assert (done.after.users, done.after.grades) == (0, 0)
    assert done.users.matched == done.users.created == 0


def test_enrolment_methods_arrive_without_people_where_that_is_asked(house: House) -> None:
    done = house.new(house.rich, settings={"users": False}, enrolments="always")
    methods = house.site.sql(f"SELECT enrol FROM {{enrol}} WHERE courseid = {done.course.id}")
    assert ["manual"] in methods
    assert done.after.users == 0


@pytest.mark.parametrize("name", ["course-4.5-zip-users.mbz", "common-cartridge-5.1.imscc"])
def test_a_zip_and_a_common_cartridge_arrive_whole(house: House, name: str) -> None:
    done = house.new(DATA / name, users_conflict="without-users")
    assert done.expected == growth(done)


def parts(house: House) -> tuple[dict[str, int], dict[str, int]]:
    """Ids in the backup: the activities by module (the page inside the subsection as ``inner``), sections by name."""
    with tarfile.open(house.rich) as archive:
        text = archive.extractfile("moodle_backup.xml").read()  # type: ignore[union-attr]
    contents = Tree.fromstring(text).find("information/contents")  # noqa: S314
    assert contents is not None
    sections, inner = {}, 0
    for section in contents.iterfind("sections/section"):
        sections[section.findtext("title", "")] = int(section.findtext("sectionid", "0"))
        if (section.findtext("parentcmid") or "").isdigit():
            inner = int(section.findtext("sectionid", "0"))
    activities: dict[str, int] = {}
    for activity in contents.iterfind("activities/activity"):
        inside = int(activity.findtext("sectionid", "0")) == inner
        name = "inner" if inside else activity.findtext("modulename", "")
        activities[name] = int(activity.findtext("moduleid", "0"))
    return activities, sections


def test_a_chosen_section_brings_its_activities_and_no_others(house: House) -> None:
    _, sections = parts(house)
    done = house.new(house.rich, items=ItemChoice(only_sections=frozenset({sections["Work"]})))
    assert done.expected == growth(done)
    assert "quiz" in done.after.activities and "page" not in done.after.activities


def test_an_activity_inside_a_subsection_brings_the_subsection(house: House) -> None:
    activities, _ = parts(house)
    done = house.new(house.rich, items=ItemChoice(only_activities=frozenset({activities["inner"]})))
    assert done.expected == growth(done)
    assert done.after.activities == {"page": 1, "subsection": 1}
    assert set(done.activities) == {activities["inner"], activities["subsection"]}


def test_leaving_out_a_subsection_leaves_out_what_is_in_it(house: House) -> None:
    activities, _ = parts(house)
    done = house.new(house.rich, items=ItemChoice(skip_activities=frozenset({activities["subsection"]})))
    assert done.expected == growth(done)
    assert "subsection" not in done.after.activities
    assert activities["inner"] not in done.activities


def test_the_people_of_one_activity_can_be_left_out(house: House) -> None:
    activities, _ = parts(house)
    done = house.new(house.rich, items=ItemChoice(no_userdata_activities=frozenset({activities["assign"]})))
    assert done.expected == growth(done)
    assign = f"SELECT COUNT(*) FROM {{assign_submission}} s JOIN {{assign}} a ON a.id = s.assignment " \
             f"WHERE a.course = {done.course.id}"
    assert house.site.sql(assign) == [["0"]]
    assert done.after.users


def test_an_item_that_the_backup_has_not_got_is_not_found(house: House) -> None:
    with pytest.raises(NotFound) as raised:
        house.new(house.rich, items=ItemChoice(only_activities=frozenset({987654})))
    assert raised.value.code == "item_not_found"


# --- names, dates, visibility -------------------------------------------------------------------------------------


def test_names_idnumber_date_and_visibility_are_those_asked_for(house: House) -> None:
    tag = f"{house.category}"
    first = house.new(house.rich, fullname="Été & Cie, « neu »", shortname=f"neu-{tag}", idnumber=f"N-{tag}",
                      startdate=date(2031, 2, 3), visible=False)
    # The full name is taken now: Moodle would give both names a suffix.
    second = house.new(house.rich, fullname="Été & Cie, « neu »", shortname=f"zwei-{tag}", visible=True)
    row = house.course(first.course.id)
    assert (row["shortname"], row["fullname"], row["idnumber"], row["visible"]) == (
        f"neu-{tag}", "Été & Cie, « neu »", f"N-{tag}", "0")
    again = house.course(second.course.id)
    assert (again["shortname"], again["fullname"], again["visible"]) == (f"zwei-{tag}", "Été & Cie, « neu »", "1")
    assert first.course.startdate is not None and second.course.startdate is not None
    zone = house.site.php("echo core_date::get_user_timezone(get_admin());")
    assert first.course.startdate == datetime(2031, 2, 3, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    due = "SELECT a.duedate FROM {assign} a WHERE a.course = "
    dues = [int(house.site.sql(due + str(done.course.id))[0][0]) for done in (first, second)]
    assert dues[0] - dues[1] == (first.course.startdate - second.course.startdate).total_seconds()


@pytest.mark.parametrize("name", ["shortname", "idnumber"])
def test_a_name_that_is_taken_is_refused_and_never_changed_in_silence(house: House, name: str) -> None:
    taken = {"shortname": "HIDDEN1", "idnumber": "X9"}[name]
    before = house.left()
    with pytest.raises(Refused) as raised:
        restore(house.runner, house.request(house.rich, **{name: taken}))
    assert raised.value.code == f"{name}_taken"
    plan = restore_plan(house.runner, house.request(house.rich, **{name: taken}))
    assert ("forbidden", f"{name}_taken") in [(one.severity, one.name) for one in plan.findings]
    until(lambda: house.is_as(before), 20)


def test_names_not_given_are_made_unique_as_moodle_does_and_the_plan_tells_them(house: House) -> None:
    plan = restore_plan(house.runner, house.request(house.rich))
    done = house.new(house.rich)
    assert (done.course.shortname, done.course.fullname) == (plan.shortname, plan.fullname)
    assert done.course.shortname.startswith("RICH101_")
    assert done.expected == plan.expected


# --- into a course, and in place of one ---------------------------------------------------------------------------


def test_merging_adds_to_a_course_and_keeps_its_names(house: House) -> None:
    target = house.new(house.rich, shortname=f"merge-{house.category}").course
    done = restore(house.runner, house.into("merge", target.id, house.rich))
    assert done.course == target
    assert growth(done).activities == done.expected.activities
    assert done.after.users == done.before.users


def test_replacing_leaves_exactly_what_the_backup_holds(house: House) -> None:
    target = house.new(RICH_45, shortname=f"replace-{house.category}").course
    done = restore(house.runner, house.into("replace", target.id, house.rich, overwrite_config=True))
    assert replace(done, before=Counts(0, {}, 0, 0, 0, 0, 0, 0, 0)).expected == done.after
    # Configuration is the backup's, names stay the target's.
    assert (done.course.shortname, done.course.fullname) == (target.shortname, target.fullname)


def test_replacing_can_keep_people_and_groups(house: House) -> None:
    target = house.new(RICH_45).course.id
    held = restore_plan(house.runner, house.into("replace", target, house.rich)).target_counts
    assert held is not None
    done = restore(house.runner, house.into(
        "replace", target, house.rich, keep_enrolments=True, keep_groups=True, settings={"users": False}))
    assert (done.after.users, done.expected.users) == (held.users, held.users)
    assert done.after == done.expected
    both = restore(house.runner, house.into("replace", target, house.rich, keep_enrolments=True, keep_groups=True))
    assert both.after == both.expected
    assert (both.after.users or 0) > (held.users or 0)


def test_a_start_date_moves_what_is_merged(house: House) -> None:
    target = house.new(house.rich, settings={"users": False}).course
    done = restore(house.runner, house.into(
        "merge", target.id, house.rich, startdate=date(2033, 1, 1), settings={"users": False}))
    due = house.site.sql(f"SELECT duedate FROM {{assign}} WHERE course = {target.id} ORDER BY id")
    assert done.course.startdate is not None and target.startdate is not None
    assert int(due[1][0]) - int(due[0][0]) == (done.course.startdate - target.startdate).total_seconds()


def test_a_whole_course_is_not_restored_into_the_front_page(house: House) -> None:
    with pytest.raises(Refused) as raised:
        restore(house.runner, house.into("merge", 1, house.rich))
    assert raised.value.code == "front_page"


# --- people -------------------------------------------------------------------------------------------------------


def test_a_conflict_of_people_is_refused_by_name_before_anything_is_made(house: House) -> None:
    before = house.left()
    with pytest.raises(Refused) as raised:
        house.new(OTHER_ADMIN)
    assert raised.value.code == "user_conflict"
    assert raised.value.details["conflicts"] == ["admin"]
    until(lambda: house.is_as(before), 20)
    plan = restore_plan(house.runner, house.request(OTHER_ADMIN))
    assert plan.users.conflicts == ("admin",)
    assert "'admin'" in plan.precheck.errors[0]
    done = house.new(OTHER_ADMIN, users_conflict="without-users")
    assert done.expected == growth(done)
    assert "admin" in done.warnings[0]


def test_people_of_activities_left_out_do_not_stop_a_restore(house: House) -> None:
    plan = restore_plan(house.runner, house.request(house.rich))
    assert plan.users.matched >= (plan.expected.users or 0)
    assert plan.users.created == 0


# --- plans --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["new", "merge", "replace"])
def test_a_plan_leaves_nothing_behind(house: House, mode: str) -> None:
    target = house.new(house.rich, settings={"users": False}).course.id
    cms = f"SELECT id FROM {{course_modules}} WHERE course = {target} ORDER BY id"
    before = house.left()
    content = (house.site.sql(cms), house.course(target))
    request = house.request(RICH_45) if mode == "new" else house.into(mode, target, RICH_45)
    plan = restore_plan(house.runner, request)
    until(lambda: house.is_as(before), 20)
    assert (house.site.sql(cms), house.course(target)) == content
    assert plan.expected.activities["forum"] == 2
    assert {setting.name for setting in plan.settings} >= {"users", "blocks", "enrolments"}
    assert (plan.target is None) == (mode == "new")


# --- settings -----------------------------------------------------------------------------------------------------


def test_an_unknown_setting_is_an_error_that_names_what_there_is(house: House) -> None:
    with pytest.raises(UsageError) as raised:
        house.new(house.rich, settings={"bogus": True})
    assert raised.value.code == "unknown_setting"
    assert "blocks" in raised.value.details["available"]


def test_a_setting_that_the_backup_has_not_got_is_refused(house: House) -> None:
    with pytest.raises(Refused) as raised:
        house.new(house.rich, settings={"logs": True})
    assert raised.value.code == "setting_locked"
    assert "made without it" in raised.value.message


def test_a_setting_locked_by_the_administrator_is_refused(house: House) -> None:
    before = house.left()
    house.setting("restore_general_filters_locked", "1")
    try:
        with pytest.raises(Refused) as raised:
            house.new(house.rich, settings={"filters": False})
        plan = restore_plan(house.runner, house.request(house.rich))
    finally:
        house.setting("restore_general_filters_locked", None)
    assert (raised.value.code, raised.value.details["locked_by"]) == ("setting_locked", "config")
    assert {s.name: s.locked_by for s in plan.settings}["filters"] == "config"
    until(lambda: house.is_as(before), 20)


def test_a_setting_that_hangs_on_another_is_refused_with_its_name(house: House) -> None:
    with pytest.raises(Refused) as raised:
        house.new(house.rich, settings={"users": False, "role_assignments": True})
    assert raised.value.details["depends_on"] == ["users"]


def test_raising_people_over_the_sites_default_keeps_the_other_defaults(house: House) -> None:
    house.setting("restore_general_users", "0")
    house.setting("restore_general_comments", "0")
    try:
        plan = restore_plan(house.runner, house.request(house.rich, settings={"users": True}))
    finally:
        house.setting("restore_general_users", "1")
        house.setting("restore_general_comments", "1")
    values = {s.name: s.value for s in plan.settings}
    assert (bool(values["users"]), bool(values["comments"]), bool(values["userscompletion"])) == (True, False, True)


# --- who may ------------------------------------------------------------------------------------------------------


def test_a_teacher_may_not_make_courses_and_is_told_which_permission_is_missing(house: House) -> None:
    before = house.left()
    with pytest.raises(AccessError) as raised:
        house.new(house.rich, as_user="teacher1")
    assert raised.value.details["capability"] == "moodle/course:create"
    target = house.new(house.rich).course.id
    with pytest.raises(AccessError):
        restore(house.runner, house.into("replace", target, house.rich, as_user="student1"))
    # teacher1 teaches in the copy, and may restore into it, but not bring people.
    alone = house.into("merge", target, house.rich, as_user="teacher1")
    with pytest.raises(AccessError) as people:
        restore(house.runner, alone)
    assert people.value.code == "without-people"
    done = restore(house.runner, replace(alone, allow=frozenset({"without-people"})))
    assert done.users.matched == 0
    with pytest.raises(Refused) as locked:
        restore(house.runner, house.into("merge", target, house.rich, as_user="teacher1", settings={"users": True}))
    assert locked.value.details["locked_by"] == "permission"
    assert house.left().courses == before.courses + 1


# --- dangers ------------------------------------------------------------------------------------------------------


def test_a_newer_backup_is_refused_until_that_is_allowed(house: House, tmp_path: Path) -> None:
    def newer(name: str, content: bytes) -> bytes:
        if name != "moodle_backup.xml":
            return content
        return re.sub(rb"<moodle_version>[^<]*", b"<moodle_version>2099010100", content)

    source = rewritten(house.rich, tmp_path / "newer.mbz", newer)
    with pytest.raises(Refused) as raised:
        house.new(source)
    assert raised.value.code == "newer-backup"
    assert restore_plan(house.runner, house.request(source)).dangers == ("newer-backup",)
    done = house.new(source, allow=ALLOW_NEWER)
    assert done.expected == growth(done)
    assert len(done.precheck.warnings) == 1


def test_missing_plugins_are_named_and_refused_until_that_is_allowed(house: House, tmp_path: Path) -> None:
    def hotpot(name: str, content: bytes) -> bytes:
        return content.replace(b"<modulename>wiki<", b"<modulename>hotpot<") if name == "moodle_backup.xml" else content

    source = rewritten(house.rich, tmp_path / "hotpot.mbz", hotpot)
    with pytest.raises(Refused) as raised:
        house.new(source)
    assert raised.value.code == "missing-plugins"
    assert raised.value.details["missing_plugins"] == ["mod_hotpot"]
    done = house.new(source, allow=frozenset({"missing-plugins"}))
    assert done.precheck.missing_plugins == ("mod_hotpot",)
    assert done.expected == growth(done)


def test_a_backup_without_files_is_refused_where_the_site_has_not_got_them(house: House) -> None:
    with pytest.raises(Refused) as raised:
        house.new(WITHOUT_FILES, users_conflict="without-users")
    assert raised.value.code == "without-files"
    done = house.new(WITHOUT_FILES, users_conflict="without-users", allow=frozenset({"without-files"}))
    assert done.expected == growth(done)
    assert any("missing" in warning for warning in done.warnings)


# --- what is no backup --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [
    ("truncated-tgz.mbz", "truncated"), ("truncated-zip.mbz", "truncated"), (None, "not_a_backup"),
])
def test_a_truncated_file_and_garbage_are_named_for_what_they_are(
    house: House, tmp_path: Path, name: str | None, code: str
) -> None:
    path = tmp_path / "garbage.mbz"
    path.write_bytes(os.urandom(5000))
    before = house.left()
    with pytest.raises(Refused) as raised:
        house.new(DATA / name if name else path)
    assert raised.value.code == code
    until(lambda: house.is_as(before), 20)


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "files/../../outside.txt", "link"])
def test_an_archive_that_would_write_outside_is_refused(house: House, tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.mbz"
    with tarfile.open(house.rich) as old, tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as new:
        evil = tarfile.TarInfo(name)
        if name == "link":
            evil.type, evil.linkname = tarfile.SYMTYPE, "/etc/passwd"
        new.addfile(evil, io.BytesIO(b""))
        new.addfile(old.getmember("moodle_backup.xml"), old.extractfile("moodle_backup.xml"))
    before = house.left()
    with pytest.raises(Refused) as raised:
        house.new(path)
    assert raised.value.code == "hostile_archive"
    until(lambda: house.is_as(before), 20)


def test_what_arrives_damaged_on_the_host_is_not_restored(house: House) -> None:
    size = house.rich.stat().st_size
    source = {"kind": "upload", "size": size, "sha1": "0" * 40}
    params = restore_params(house.request(house.rich), source, dry_run=False)
    before = house.left()
    with pytest.raises(Failed) as raised:
        house.runner.do("restore", params, source=iter([house.rich.read_bytes()]))
    assert raised.value.code == "upload_damaged"
    until(lambda: house.is_as(before), 20)


# --- failing halfway ----------------------------------------------------------------------------------------------


def test_a_new_course_that_fails_is_removed_without_a_trace(house: House, tmp_path: Path) -> None:
    source = broken_in(house.rich, tmp_path / "broken.mbz", "/glossary.xml")
    before = house.left()
    with pytest.raises(Failed) as raised:
        house.new(source)
    assert raised.value.details["course_removed"] is True
    assert "removed again" in raised.value.message
    until(lambda: house.is_as(before), 20)


def test_a_replace_that_fails_says_what_is_left(house: House, tmp_path: Path) -> None:
    source = broken_in(house.rich, tmp_path / "broken.mbz", "/glossary.xml")
    target = house.new(house.rich, settings={"users": False}).course.id
    before = house.left()
    with pytest.raises(Failed) as raised:
        restore(house.runner, house.into("replace", target, source))
    assert "broke off" in raised.value.message and "safety backup" in (raised.value.hint or "")
    there = int(house.site.sql(f"SELECT COUNT(*) FROM {{course_modules}} WHERE course = {target}")[0][0])
    assert sum(raised.value.details["left"]["activities"].values()) == there
    until(lambda: house.is_as(before), 20)
    # The session of the next restore is not poisoned by this one.
    assert restore(house.runner, house.into("replace", target, house.rich)).after.activities["glossary"] == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from moodlectl.site.live.restore import restore
from moodlectl.site.port import RestoreRequest, RestoreSource
from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

def die(progress):
    if progress.phase == "restore":
        os.kill(os.getpid(), signal.SIGKILL)

config, moodle, file, mode, target, *via = sys.argv[1:]
where = {"category_id": int(target)} if mode == "new" else {"course_id": int(target)}
request = RestoreRequest(RestoreSource(path=Path(file)), mode, **where)
restore(Runner(Shell(via, ssh_config=config), moodle), request, die)
"""


def kill_while_restoring(house: House, mode: str, target: int) -> None:
    argv = [sys.executable, "-c", KILLED, str(house.site.ssh_config), str(house.site.moodle_dir), str(house.rich), mode,
            str(target), *house.site.via]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_killed_client_leaves_no_new_course(house: House) -> None:
    before = house.left()
    kill_while_restoring(house, "new", house.category)
    until(lambda: house.is_as(before))


def test_a_killed_client_does_not_stop_a_merge_halfway(house: House) -> None:
    target = house.new(house.rich, settings={"users": False}).course.id
    before = house.left()
    wanted = house.site.sql(f"SELECT COUNT(*) FROM {{course_modules}} WHERE course = {target}")
    kill_while_restoring(house, "merge", target)
    until(lambda: house.is_as(before))
    now = house.site.sql(f"SELECT COUNT(*) FROM {{course_modules}} WHERE course = {target}")
    assert int(now[0][0]) == 2 * int(wanted[0][0])


# --- stored backups, and from site to site ------------------------------------------------------------------------


def test_a_stored_backup_is_restored_where_it_lies(house: House) -> None:
    rows = house.site.sql(
        "SELECT f.contextid, f.filearea, f.filename, f.filesize, f.contenthash FROM {files} f JOIN {context} x "
        "ON x.id = f.contextid JOIN {course} c ON c.id = x.instanceid AND x.contextlevel = 50 "
        "WHERE f.component = 'backup' AND c.shortname = 'RICH101' AND f.filename = 'rig-course-backup.mbz'")
    context, area, name, size, sha1 = rows[0]
    stored = BackupFile(
        course_id=0, course_shortname="RICH101", area="course", filename=name, size=int(size), sha1=sha1,
        timecreated=datetime.now(UTC), has_users=True, url=None,
        locator={"contextid": int(context), "component": "backup", "filearea": area, "itemid": 0, "filepath": "/",
                 "filename": name})
    done = restore(house.runner, RestoreRequest(RestoreSource(stored=stored), "new", category_id=house.category))
    assert done.expected == growth(done)
    gone = replace(stored, locator={**stored.locator, "filename": "gone.mbz"})
    with pytest.raises(NotFound):
        restore(house.runner, RestoreRequest(RestoreSource(stored=gone), "new", category_id=house.category))


def test_a_course_moves_from_every_site_to_every_other(
    moodles: dict[str, rig.LiveMoodle], houses: Callable[..., House]
) -> None:
    assert moodles
    for source in map(houses, moodles):
        for target in map(houses, moodles):
            done = target.new(source.rich, allow=ALLOW_NEWER)
            assert done.expected == growth(done), f"{source.site.name} to {target.site.name}"


def test_no_private_file_of_the_restore_may_be_read_by_others(house: House) -> None:
    seen: list[int] = []

    def look(_: object) -> None:
        with contextlib.suppress(OSError):
            for path in Path(house.site.dataroot, "temp", "backup").iterdir():
                if path.name.endswith("-archive"):
                    seen.append(path.stat().st_mode & 0o077)

    with contextlib.suppress(MoodlectlError):
        restore_plan(house.runner, house.request(house.rich), look)
    assert seen and not any(seen)
