"""What every site answers, whoever answers: looking at it, backing up, finding, bringing down, deleting."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moodlectl.actions import backup
from moodlectl.errors import NotFound, Refused, UsageError
from moodlectl.site.port import BEGUN, BackupRequest, CourseRef, ItemChoice, Progress, Site
from tests.contract import archives
from tests.contract.worlds import World


def shape(one: Site, course_id: int) -> list[tuple[int, str, int]]:
    """A course's sections with the number of their activities."""
    return [(section.number, section.name, len(section.activities)) for section in one.contents(course_id)]


# --- looking ----------------------------------------------------------------------------------------------------


def test_a_site_answers_the_whole_port(world: World) -> None:
    assert isinstance(world.site, Site)


def test_a_site_says_who_it_is(world: World) -> None:
    info = world.site.info()
    assert re.match(r"\d\.\d", info.release)
    assert int(float(info.version)) > 2020000000
    assert info.username == "admin"
    assert re.fullmatch(r"[0-9a-f]{32}", info.identifier_hash or "")
    assert info.url.startswith("http")


def test_the_check_says_something_of_everything_and_is_not_alarmed(world: World) -> None:
    lines = world.site.check()
    assert len(lines) >= 4
    assert all(line.message for line in lines)
    assert [line for line in lines if line.verdict == "ok"]


def test_a_site_tells_how_hard_it_has_it(world: World) -> None:
    pressure = world.site.pressure()
    assert pressure.load is not None and pressure.load >= 0
    assert pressure.tasks is not None and pressure.tasks >= 0
    assert pressure.free is not None and pressure.free > 1_000_000
    assert not pressure.maintenance


def test_what_no_backup_carries_can_be_written_down(world: World) -> None:
    course = world.site.course(CourseRef("shortname", "RICH101"))
    assert isinstance(json.loads(json.dumps(dict(world.site.keepsake(course.id)))), dict)
    with pytest.raises(NotFound):
        world.site.keepsake(987654)


def test_nobody_works_in_a_course_in_the_future(world: World) -> None:
    course = world.site.course(CourseRef("shortname", "RICH101"))
    work = world.site.work_since(course.id, datetime.now(UTC) + timedelta(days=1))
    assert (work.known, work.changes, work.people, work.last) == (True, 0, (), None)
    with pytest.raises(NotFound):
        world.site.work_since(987654, datetime.now(UTC))


def test_categories_come_parents_first_with_their_path(world: World) -> None:
    found = world.site.categories()
    seen = {0}
    for category in found:
        assert category.parent in seen
        assert category.path[-1] == category.name
        seen.add(category.id)
    science = next(one for one in found if one.idnumber == "SCI")
    biology = next(one for one in found if one.path == ("Science", "Biology"))
    assert science.path == ("Science",)
    assert biology.parent == science.id


def test_the_courses_of_a_category_include_those_below_it(world: World) -> None:
    science = next(one for one in world.site.categories() if one.idnumber == "SCI")
    inside = {one.shortname for one in world.site.courses(category_id=science.id)}
    everything = {one.shortname for one in world.site.courses()}
    assert {"EMPTY1", "HIDDEN1"} <= inside < everything | {"FR-B1", "GEN_XS"}
    assert {"RICH101", "EMPTY1", "HIDDEN1"} <= everything


def test_a_search_finds_a_course_by_a_word_of_its_name(world: World) -> None:
    found = {one.shortname for one in world.site.courses(search="végétale")}
    assert "RICH101" in found
    assert "EMPTY1" not in found
    assert not world.site.courses(search="nosuchwordanywhere")


def test_an_unknown_category_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.site.courses(category_id=999999)


def test_a_course_is_found_by_id_short_name_and_idnumber(world: World) -> None:
    hidden = world.site.course(CourseRef("idnumber", "X9"))
    assert hidden == world.site.course(CourseRef("id", str(hidden.id)))
    assert hidden == world.site.course(CourseRef("shortname", hidden.shortname))
    assert not hidden.visible
    assert hidden.url.endswith(f"/course/view.php?id={hidden.id}")
    assert world.rich.fullname == "Biologie végétale 🌱"
    assert world.rich.startdate is not None
    assert world.rich.startdate.tzinfo is not None


@pytest.mark.parametrize("field, value", [("id", "999999"), ("shortname", "NOSUCH"), ("idnumber", "NOSUCH")])
def test_a_course_that_is_not_there_is_not_found(world: World, field: str, value: str) -> None:
    with pytest.raises(NotFound) as problem:
        world.site.course(CourseRef(field, value))  # type: ignore[arg-type]
    assert value in problem.value.message


def test_sections_come_in_order_and_a_subsection_unfolds_into_its_own(world: World) -> None:
    sections = world.site.contents(world.rich.id)
    assert sections[0].number == 0
    assert all(section.name for section in sections)
    subsection = next(one for section in sections for one in section.activities if one.module == "subsection")
    inner = next(section for section in sections if section.id == subsection.subsection_id)
    assert inner.parent_activity == subsection.id
    assert [one.module for one in inner.activities] == ["page"]


def test_counts_agree_with_what_the_course_shows(world: World) -> None:
    counts, sections = world.site.counts(world.rich.id), world.site.contents(world.rich.id)
    assert counts.sections == len(sections)
    assert sum(counts.activities.values()) == sum(len(section.activities) for section in sections)
    assert counts.activities["subsection"] == 1
    for number in (counts.users, counts.groups, counts.grade_items, counts.grades, counts.questions, counts.files):
        assert number and number > 1
    assert counts.file_bytes and counts.file_bytes > 10_000
    empty = world.site.counts(world.course("EMPTY1").id)
    assert (empty.activities, empty.questions, empty.grades) == ({}, 0, 0)


# --- settings and locks -----------------------------------------------------------------------------------------


def test_a_backup_offers_moodles_settings_and_those_of_every_item(world: World) -> None:
    settings = {one.name: one for one in world.site.backup_settings(world.rich.id)}
    for name in ("users", "anonymize", "activities", "blocks", "files", "groups", "logs", "grade_histories", "imscc11"):
        assert settings[name].level == "root"
    assert settings["users"].value and not settings["anonymize"].value and not settings["imscc11"].value
    assert "users" in settings["comments"].depends_on
    section, quiz = world.items()["quiz"]
    included = settings[f"quiz_{quiz.id}_included"]
    assert (included.value, included.level, included.item_id, included.item) == (True, "activity", quiz.id, quiz.name)
    assert included.module == "quiz"
    assert settings[f"section_{section.id}_userinfo"].item_id == section.id
    inner = settings[f"page_{world.items()['page'][1].id}_included"]
    assert inner.level in ("activity", "subactivity")


def test_without_a_course_only_the_root_settings_are_told(world: World) -> None:
    settings = world.site.backup_settings(None)
    assert {one.level for one in settings} == {"root"}
    assert "users" in {one.name for one in settings}


def test_a_teacher_may_not_take_people_along(world: World) -> None:
    settings = {one.name: one for one in world.site.backup_settings(world.rich.id, as_user="teacher1")}
    assert settings["users"].locked_by == "permission"
    assert not settings["users"].value
    manager = {one.name: one for one in world.site.backup_settings(world.rich.id, as_user="manager1")}
    assert manager["users"].locked_by is None
    with pytest.raises(Refused) as problem:
        world.backup(settings={"users": True}, as_user="teacher1")
    assert problem.value.code == "setting_locked"
    assert "moodle/backup:userinfo" in problem.value.message


def test_what_the_administrator_has_locked_is_refused_and_named(world: World) -> None:
    with world.lock() as (name, value):
        setting = next(one for one in world.site.backup_settings(world.rich.id) if one.name == name)
        assert (setting.locked_by, bool(setting.value)) == ("config", value)
        with pytest.raises(Refused) as problem:
            world.backup(settings={name: not value})
        assert problem.value.code == "setting_locked"
        assert "administrator" in problem.value.message
        kept = world.site.backup(BackupRequest(world.rich.id, {name: value, "files": False}))
        world.stored.append(kept.file)
        assert bool(kept.settings[name]) == value


def test_what_hangs_on_something_that_is_off_is_refused(world: World) -> None:
    before = world.site.backups(world.rich.id)
    with pytest.raises(Refused) as problem:
        world.backup(settings={"users": False, "comments": True})
    assert problem.value.code == "setting_locked"
    assert "'users'" in problem.value.message
    assert world.site.backups(world.rich.id) == before


def test_an_unknown_setting_is_an_error_that_names_those_there_are(world: World) -> None:
    with pytest.raises(UsageError) as problem:
        world.backup(settings={"nosuchsetting": True})
    assert problem.value.code == "unknown_setting"
    assert "nosuchsetting" in problem.value.message
    assert "users" in (problem.value.hint or "")


# --- making backups ---------------------------------------------------------------------------------------------


def test_a_backup_lies_in_the_courses_area_with_its_people(world: World) -> None:
    course, seen = world.rich, list[Progress]()
    made = world.site.backup(BackupRequest(course.id), seen.append)
    world.stored.append(made.file)
    assert (made.file.area, made.file.has_users, made.file.course_id) == ("course", True, course.id)
    assert re.fullmatch(rf"backup-moodle2-course-{course.id}-rich101-\d{{8}}-\d{{4}}(-\d+)?\.mbz", made.file.filename)
    assert made.settings["users"] and not made.settings["anonymize"] and "filename" not in made.settings
    assert made.file in world.site.backups(course.id, ["course"]).files
    assert {step.phase for step in seen} - {BEGUN} == {"backup"}
    path = world.download(made.file)
    info = archives.manifest(path)
    assert info.findtext("original_course_shortname") == "RICH101"
    assert info.findtext("original_site_identifier_hash") == world.site.info().identifier_hash
    assert archives.names(path)[0] == ".ARCHIVE_INDEX"
    counts = world.site.counts(course.id)
    assert len(archives.activities(path)) == sum(counts.activities.values())
    assert len(archives.xml(path, "users.xml").findall("user")) >= (counts.users or 0)


def test_two_backups_of_one_minute_are_two_files(world: World) -> None:
    empty = world.course("EMPTY1").id
    one, two = world.backup(empty), world.backup(empty)
    assert one.filename != two.filename
    names = [file.filename for file in world.site.backups(empty, ["course"]).files]
    assert {one.filename, two.filename} <= set(names)
    assert len(names) == len(set(names))


def test_a_backup_without_people_lies_in_the_private_area(world: World) -> None:
    file = world.backup(settings={"users": False})
    assert (file.area, file.owner, file.has_users) == ("private", "admin", False)
    assert file.filename.removesuffix(".mbz").endswith("-nu") or re.search(r"-nu-\d+\.mbz$", file.filename)
    path = world.download(file)
    assert "users.xml" not in archives.names(path)
    assert archives.settings(path)["users"] == "0"
    assert archives.settings(path)["comments"] == "0"
    assert file in world.site.backups(world.rich.id, ["private"]).files
    assert file not in world.site.backups(world.rich.id, ["course"]).files


def test_a_backup_as_somebody_else_lies_in_that_persons_private_area(world: World) -> None:
    file = world.backup(settings={"users": False}, as_user="manager1")
    assert file.owner == "manager1"
    assert file not in world.site.backups(world.rich.id, ["private"]).files
    assert file in world.site.backups(world.rich.id, ["private"], owner="manager1").files


def test_an_anonymised_backup_names_nobody(world: World) -> None:
    file = world.backup(settings={"anonymize": True})
    assert file.area == "private"
    assert "-an" in file.filename
    users = archives.xml(world.download(file), "users.xml").findall("user")
    assert users
    assert all(re.match(r"anon\d+", user.findtext("username", "")) for user in users)


def test_a_backup_without_files_carries_none(world: World) -> None:
    file = world.backup(settings={"files": False})
    assert "-nf" in file.filename
    path = world.download(file)
    assert archives.manifest(path).findtext("include_files") == "0"
    assert not [name for name in archives.names(path) if re.match(r"files/\w\w/", name)]


def test_only_the_chosen_activity_is_taken_along(world: World) -> None:
    section, quiz = world.items()["quiz"]
    choice = ItemChoice(only_sections=frozenset(), only_activities=frozenset({quiz.id}))
    path = world.download(world.backup(items=choice))
    assert archives.activities(path) == [(quiz.id, "quiz")]
    sections = archives.manifest(path).findall("contents/sections/section")
    assert [int(one.findtext("sectionid", "")) for one in sections] == [section.id]


def test_a_chosen_section_brings_all_that_is_in_it(world: World) -> None:
    section, _ = world.items()["quiz"]
    path = world.download(world.backup(items=ItemChoice(only_sections=frozenset({section.id}))))
    assert sorted(archives.activities(path)) == sorted((one.id, one.module) for one in section.activities)


def test_a_skipped_activity_is_left_out(world: World) -> None:
    _, quiz = world.items()["quiz"]
    path = world.download(world.backup(items=ItemChoice(skip_activities=frozenset({quiz.id}))))
    there = archives.activities(path)
    assert (quiz.id, "quiz") not in there
    assert len(there) == sum(world.site.counts(world.rich.id).activities.values()) - 1


def test_user_data_is_left_out_where_it_is_not_wanted(world: World) -> None:
    _, assign = world.items()["assign"]
    path = world.download(world.backup(items=ItemChoice(no_userdata_activities=frozenset({assign.id}))))
    assert archives.settings(path)[f"assign_{assign.id}_userinfo"] == "0"
    assert not archives.xml(path, f"activities/assign_{assign.id}/assign.xml").findall(".//submission[@id]")
    _, quiz = world.items()["quiz"]
    assert archives.xml(path, f"activities/quiz_{quiz.id}/quiz.xml").findall(".//attempt")


def test_an_item_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound) as problem:
        world.backup(items=ItemChoice(skip_activities=frozenset({999999})))
    assert problem.value.code == "item_not_found"


def test_a_common_cartridge_lies_in_the_private_area(world: World) -> None:
    file = world.backup(settings={"imscc11": True})
    assert file.area == "private"
    assert file.filename.endswith(".imscc")
    with zipfile.ZipFile(world.download(file, "course.imscc")) as cartridge:
        manifest = cartridge.read("imsmanifest.xml").decode()
    assert "IMS Common Cartridge" in manifest
    assert "Biologie végétale" in manifest


def test_a_common_cartridge_comes_down_and_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    wanted = backup.Wanted(settings={"imscc11": True}, download=tmp_path, remove_remote=True)
    done = backup.run(world.site, backup.plan(world.site, f"id:{world.rich.id}", wanted))
    assert done.removed and done.path is not None
    assert done.path.suffix == ".imscc"
    left = world.site.backups(world.rich.id, ["private"]).files
    assert done.made.file.filename not in {file.filename for file in left}


def test_a_backup_of_a_course_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.site.backup(BackupRequest(999999))


# --- finding, bringing down, deleting ---------------------------------------------------------------------------


def test_backups_are_listed_newest_first_from_every_area(world: World) -> None:
    private, course = world.backup(settings={"users": False}), world.backup()
    listing = world.site.backups(world.rich.id)
    times = [file.timecreated for file in listing.files]
    assert times == sorted(times, reverse=True)
    assert {"course", "private", "automated"} <= {file.area for file in listing.files}
    assert private in listing.files and course in listing.files
    automated = world.site.backups(world.rich.id, ["automated"]).files
    assert automated and {file.area for file in automated} == {"automated"}


def test_a_download_is_what_the_site_holds(world: World) -> None:
    file, seen = world.backup(), list[Progress]()
    target = world.tmp / "down.mbz"
    got = world.site.download(file, target, seen.append)
    data = target.read_bytes()
    assert len(data) == file.size
    assert got.sha1 == hashlib.sha1(data).hexdigest()  # noqa: S324
    assert got.sha1 == file.sha1
    assert not (world.tmp / "down.mbz.part").exists()
    assert seen[-1].phase == "download"
    assert seen[-1].done == file.size


def test_a_broken_off_download_goes_on_where_it_stopped(world: World) -> None:
    file = world.backup()
    whole = world.download(file, "whole.mbz").read_bytes()
    (world.tmp / "rest.mbz.part").write_bytes(whole[: len(whole) // 2])
    world.site.download(file, world.tmp / "rest.mbz")
    assert (world.tmp / "rest.mbz").read_bytes() == whole


def test_an_automated_backup_can_be_brought_down(world: World) -> None:
    file = world.site.backups(world.rich.id, ["automated"]).files[0]
    got = world.site.download(file, world.tmp / "automated.mbz")
    assert got.sha1 == hashlib.sha1((world.tmp / "automated.mbz").read_bytes()).hexdigest()  # noqa: S324


def test_the_manifest_is_read_where_the_backup_lies(world: World) -> None:
    file = world.backup()
    assert world.site.manifest_xml(file) == archives.member(world.download(file), "moodle_backup.xml")


def test_a_deleted_backup_is_gone(world: World) -> None:
    file = world.backup(world.course("EMPTY1").id)
    world.site.delete_backup(file)
    assert file not in world.site.backups(file.course_id).files
    for again in (world.site.delete_backup, world.site.manifest_xml):
        with pytest.raises(NotFound):
            again(file)
    with pytest.raises(NotFound):
        world.site.download(file, world.tmp / "gone.mbz")
    assert not (world.tmp / "gone.mbz").exists()


def test_a_file_name_of_somebody_elses_choosing_is_not_found(world: World) -> None:
    file = world.backup(world.course("EMPTY1").id)
    forged = replace(file, filename="../../etc/passwd", locator={**file.locator, "filename": "../../etc/passwd"})
    with pytest.raises(NotFound):
        world.site.manifest_xml(forged)


def test_a_backup_changes_nothing_in_the_course(world: World) -> None:
    before = shape(world.site, world.rich.id), world.site.counts(world.rich.id)
    world.backup(settings={"users": False, "files": False})
    assert (shape(world.site, world.rich.id), world.site.counts(world.rich.id)) == before
