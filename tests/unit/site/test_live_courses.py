"""Courses, categories, contents and backups as web services tell of them: recorded replies of 4.5 and 5.1."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moodlectl.errors import AccessError, NotFound
from moodlectl.secret import Secret
from moodlectl.site.live import courses as live
from moodlectl.site.live import storedfiles
from moodlectl.site.port import Course, CourseRef
from moodlectl.site.releases import FIRST, has, is_known, release_of
from moodlectl.site.webservice import WebService, flatten

DATA = Path(__file__).parents[2] / "data" / "ws"
RELEASES = ["4.5", "5.1"]
URL = "https://moodle.example"


def recorded(release: str, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((DATA / release / f"{name}.json").read_text(encoding="utf-8"))
    return record


def body(release: str, name: str) -> Any:
    return recorded(release, name)["body"]


class Replay(WebService):
    """A web service that answers from what is put in, and keeps what it was asked."""

    def __init__(self, answers: Callable[[str, dict[str, str]], Any]) -> None:
        super().__init__(URL, Secret("0" * 32))
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str]]] = []

    def call(self, function: str, params: Any = None, *, timeout: Any = None) -> Any:
        flat = flatten(params or {})
        self.asked.append((function, flat))
        return self.answers(function, flat)


def plain(**more: Any) -> dict[str, Any]:
    return {"id": 5, "shortname": "BIO", "fullname": "Biology", "categoryid": 3, "categoryname": "B", **more}


# --- the site


@pytest.mark.parametrize("release", RELEASES)
def test_the_site_tells_its_name_release_and_whose_token_it_is(release: str) -> None:
    reply = body(release, "site_info")
    info = live.read_info(reply, URL)
    assert info.name == reply["sitename"]
    assert info.release.startswith(release)
    assert (info.username, info.identifier_hash) == ("admin", None)


@pytest.mark.parametrize("release", RELEASES)
def test_a_service_with_everything_lacks_nothing(release: str) -> None:
    assert live.missing_functions(body(release, "site_info")) == []


def test_missing_functions_are_named() -> None:
    have = [{"name": "core_webservice_get_site_info"}, {"name": "core_files_get_files"}]
    assert live.missing_functions({"functions": have}) == [
        "core_course_get_categories",
        "core_course_get_courses_by_field",
        "core_course_search_courses",
        "core_course_get_contents",
    ]
    assert live.missing_functions({}) == list(live.NEEDED)


# --- categories


@pytest.mark.parametrize("release", RELEASES)
def test_categories_come_parents_first_with_their_path(release: str) -> None:
    found = live.read_categories(body(release, "categories_nested"))
    assert [each.path for each in found] == [("Category 1",), ("Science",), ("Science", "Biology"), ("Arts",)]
    assert found[2].idnumber == "BIO"
    assert (found[0].idnumber, found[2].courses) == ("", 2)
    assert [each.visible for each in found] == [True, True, True, False]


def test_children_listed_before_their_parent_still_come_after_it() -> None:
    reply = [
        {"id": 9, "name": "Child", "parent": 7, "sortorder": 1},
        {"id": 7, "name": "Parent", "parent": 0, "sortorder": 2},
        {"id": 8, "name": "Orphan", "parent": 99, "sortorder": 3},
    ]
    assert [each.path for each in live.read_categories(reply)] == [
        ("Parent",), ("Parent", "Child"), ("Orphan",)
    ]  # fmt: skip


def test_a_category_holds_all_that_lies_below_it() -> None:
    known = live.read_categories(body("5.1", "categories_nested"))
    assert live.below(known, 2) == (2, 3)
    assert live.below(known, 3) == (3,)
    with pytest.raises(NotFound):
        live.below(known, 99)


# --- courses


@pytest.mark.parametrize("release", RELEASES)
def test_all_courses_are_listed_but_the_front_page(release: str) -> None:
    reply = body(release, "courses_all")
    found = live.read_courses(reply, URL)
    assert len(found) == len(reply["courses"]) - 1
    assert live.FRONT_PAGE not in [each.id for each in found]


@pytest.mark.parametrize("release", RELEASES)
def test_a_course_is_read_with_everything_it_tells(release: str) -> None:
    (found,) = live.read_courses(body(release, "course_rich"), URL)
    assert (found.shortname, found.idnumber) == ("RICH101", "RICH-2026")
    assert found.fullname == "Biologie végétale 🌱"
    assert (found.category_id, found.category_name, found.format) == (3, "Biology", "topics")
    assert found.startdate is not None
    assert found.startdate.tzinfo is UTC
    assert found.url == f"{URL}/course/view.php?id=8"


def test_what_may_not_be_seen_of_a_course_is_left_empty() -> None:
    (found,) = live.read_courses({"courses": [plain()]}, URL)
    assert (found.idnumber, found.startdate, found.enddate, found.visible) == ("", None, None, True)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("field", ["id", "shortname", "idnumber"])
def test_a_course_is_found_by_each_of_its_names(release: str, field: Any) -> None:
    ws = Replay(lambda function, params: body(release, "course_rich"))
    assert live.course(ws, CourseRef(field, "RICH101")).id == 8
    assert ws.asked == [("core_course_get_courses_by_field", {"field": field, "value": "RICH101"})]


@pytest.mark.parametrize("release", RELEASES)
def test_a_course_that_is_not_there_may_be_hidden(release: str) -> None:
    ws = Replay(lambda function, params: body(release, "course_not_found"))
    with pytest.raises(NotFound) as caught:
        live.course(ws, CourseRef("shortname", "nope"))
    assert "may not see it" in caught.value.message
    assert "viewhiddencourses" in str(caught.value.hint)


def test_the_front_page_is_no_course() -> None:
    ws = Replay(lambda function, params: {"courses": [plain(id=1)], "warnings": []})
    with pytest.raises(NotFound, match="front page"):
        live.course(ws, CourseRef("id", "1"))
    with pytest.raises(NotFound, match="front page"):
        live.contents(ws, 1)


def test_of_short_names_that_differ_in_case_the_exact_one_is_meant() -> None:
    ws = Replay(lambda function, params: {"courses": [plain(id=5, shortname="bio"), plain(id=6)]})
    assert live.course(ws, CourseRef("shortname", "BIO")).id == 6


def test_an_idnumber_that_two_courses_have_names_both() -> None:
    ws = Replay(lambda function, params: {"courses": [plain(id=5), plain(id=6, shortname="BIO2")]})
    with pytest.raises(NotFound) as caught:
        live.course(ws, CourseRef("idnumber", "X9"))
    assert caught.value.code == "ambiguous"
    assert "5 (BIO), 6 (BIO2)" in str(caught.value.hint)


def test_the_courses_of_a_category_include_those_below_it() -> None:
    def answers(function: str, params: dict[str, str]) -> Any:
        if function == "core_course_get_categories":
            return body("5.1", "categories_nested")
        number = int(params["value"])
        return {"courses": [plain(id=10 + number, categoryid=number)]}

    ws = Replay(answers)
    assert [each.id for each in live.courses(ws, category_id=2)] == [12, 13]


def test_of_very_many_categories_the_courses_are_asked_for_at_once() -> None:
    def answers(function: str, params: dict[str, str]) -> Any:
        if function == "core_course_get_categories":
            below = [{"id": n, "name": str(n), "parent": 2, "sortorder": n} for n in range(3, 60)]
            return [{"id": 2, "name": "2", "parent": 0, "sortorder": 2}, *below]
        assert params == {}
        return {"courses": [plain(id=70, categoryid=59), plain(id=71, categoryid=99)]}

    ws = Replay(answers)
    assert [each.id for each in live.courses(ws, category_id=2)] == [70]
    assert len(ws.asked) == 2


@pytest.mark.parametrize("release", RELEASES)
def test_a_search_asks_again_for_what_it_leaves_out(release: str) -> None:
    def answers(function: str, params: dict[str, str]) -> Any:
        if function == "core_course_search_courses":
            return body(release, "search")
        ids = {int(each) for each in params["value"].split(",")}
        known = body(release, "courses_all")["courses"]
        return {"courses": [each for each in known if each["id"] in ids and each["id"] != min(ids)]}

    ws = Replay(answers)
    found = live.courses(ws, search="test")
    assert {each.id for each in found} == {each["id"] for each in body(release, "search")["courses"]}
    assert sum(1 for each in found if each.format) == len(found) - 1, "one was not told of: it stays as found"
    assert ws.asked[0][1] == {"criterianame": "search", "criteriavalue": "test"}
    assert ws.asked[1][1]["field"] == "ids"


# --- contents


@pytest.mark.parametrize("release", RELEASES)
def test_sections_come_in_order_with_their_activities(release: str) -> None:
    reply = body(release, "course_contents")
    found = live.read_contents(reply)
    assert [each.number for each in found] == list(range(11))
    assert [a.id for each in found for a in each.activities] == [m["id"] for s in reply for m in s["modules"]]
    assert found[1].activities[0].module == "assign"


@pytest.mark.parametrize("release", RELEASES)
def test_a_subsection_and_the_section_it_unfolds_into_know_each_other(release: str) -> None:
    found = live.read_contents(body(release, "contents_subsection"))
    (inner,) = [each for each in found if each.parent_activity is not None]
    (activity,) = [a for each in found for a in each.activities if a.module == "subsection"]
    assert inner.parent_activity == activity.id
    assert activity.subsection_id == inner.id
    assert [each.name for each in inner.activities] == ["Page inside the subsection"]
    assert "Photosynthèse" in [a.name for each in found for a in each.activities]


def test_section_names_come_as_they_are_stored_not_escaped() -> None:
    reply = [{"id": 1, "section": 1, "name": "R&amp;D &lt;3", "modules": []}]
    assert live.read_contents(reply)[0].name == "R&D <3"


def test_contents_are_asked_for_without_the_files_of_the_activities() -> None:
    assert flatten(live.contents_params(7)) == {
        "courseid": "7",
        "options[0][name]": "excludecontents",
        "options[0][value]": "1",
        "options[1][name]": "includestealthmodules",
        "options[1][value]": "1",
    }


# --- backups

COURSE = Course(2, "gen_s", "S", "", 1, "C", None, True, URL)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("files_backup_course", "course"),
        ("files_user_backup", "private"),
        ("files_backup_automated", "automated"),
    ],
)
def test_the_areas_are_asked_for_as_they_were_recorded(release: str, name: str, area: Any) -> None:
    params = recorded(release, name)["request"]["params"]
    assert storedfiles.area_params(area, params["instanceid"]) == params


@pytest.mark.parametrize("release", RELEASES)
def test_backups_are_read_with_all_that_is_known(release: str) -> None:
    reply = body(release, "files_backup_course")
    found = storedfiles.read_files(reply, COURSE, "course")
    assert [each.filename for each in found] == [each["filename"] for each in reply["files"]]
    assert found[0].size == reply["files"][0]["filesize"]
    assert found[0].timecreated == datetime.fromtimestamp(reply["files"][0]["timecreated"], UTC)
    assert found[0].sha1 is None
    assert found[0].locator["contextid"] == reply["files"][0]["contextid"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_address_of_an_automated_backup_is_put_right(release: str) -> None:
    (found,) = storedfiles.read_files(body(release, "files_backup_automated_one"), COURSE, "automated")
    assert "/backup/automated/backup-moodle2" in str(found.url)


def replay_files(release: str, **replaced: Any) -> Replay:
    def answers(function: str, params: dict[str, str]) -> Any:
        if function == "core_webservice_get_site_info":
            return body(release, "site_info")
        if function == "core_course_get_courses_by_field":
            return {"courses": [plain(id=int(params["value"]))]}
        area = params["filearea"] if params["component"] == "backup" else "private"
        reply = replaced.get(area, {"parents": [], "files": []})
        if isinstance(reply, Exception):
            raise reply
        return reply

    return Replay(answers)


def file(name: str, when: int) -> dict[str, Any]:
    return {"contextid": 1, "component": "backup", "filearea": "course", "itemid": 0, "filepath": "/",
            "filename": name, "isdir": False, "url": f"{URL}/pluginfile.php/1/{name}", "timemodified": when,
            "timecreated": when, "filesize": 9}  # fmt: skip


def test_backups_of_all_areas_come_newest_first_and_directories_do_not() -> None:
    directory = {**file("dir", 9), "isdir": True}
    ws = replay_files("5.1", course={"files": [file("old.mbz", 1), directory]},
                      automated={"files": [file("new.mbz", 2)]})  # fmt: skip
    assert [each.filename for each in storedfiles.backups(ws, 5).files] == ["new.mbz", "old.mbz"]


def test_an_empty_area_says_that_it_may_only_be_unseen() -> None:
    notes = storedfiles.backups(replay_files("5.1"), 5, ["course", "automated"]).notes
    assert "backup:backupcourse" in notes[0]
    assert "viewautomatedfilearea" in notes[1]


def test_of_the_private_area_only_files_named_for_the_course_are_its_backups() -> None:
    mine = "backup-moodle2-course-5-bio-20261123-1203-nu.mbz"
    other = "backup-moodle2-course-55-bio-20261123-1203-nu.mbz"
    ws = replay_files("5.1", private={"files": [file(mine, 1), file(other, 2), file("mine.mbz", 3)]})
    listing = storedfiles.backups(ws, 5, ["private"])
    (found,) = listing.files
    assert (found.filename, found.owner, found.has_users) == (mine, "admin", False)
    assert listing.notes[0].startswith("1 file(s)")
    assert ws.asked[-1][1]["instanceid"] == "2"


def test_somebody_elses_private_area_needs_a_shell() -> None:
    listing = storedfiles.backups(replay_files("5.1"), 5, ["private"], owner="ada")
    assert listing.files == ()
    assert "needs a shell" in listing.notes[0]


def test_an_area_that_may_not_be_looked_at_is_noted_and_the_others_are_listed() -> None:
    ws = replay_files("5.1", automated=AccessError("No."), course={"files": [file("a.mbz", 1)]})
    listing = storedfiles.backups(ws, 5, ["course", "automated"])
    assert len(listing.files) == 1
    assert listing.notes == ("The automated area could not be looked at: No.",)


def test_no_area_at_all_to_look_at_is_an_error() -> None:
    with pytest.raises(AccessError):
        storedfiles.backups(replay_files("5.1", automated=AccessError("No.")), 5, ["automated"])


def test_a_file_that_may_be_listed_but_not_downloaded_says_what_is_missing() -> None:
    (found,) = storedfiles.read_files({"files": [{**file("a.mbz", 1), "url": ""}]}, COURSE, "automated")
    assert found.url is None
    with pytest.raises(AccessError) as caught:
        storedfiles.address_of(replay_files("5.1"), found)
    assert "restore:userinfo" in str(caught.value.hint)


# --- releases


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("4.5.6 (Build: 20250811)", (4, 5)),
        ("5.1+ (Build: 1)", (5, 1)),
        ("3.10.1+ (Build: 20210204)", (3, 10)),
        ("5.0dev", (5, 0)),
    ],
)
def test_a_release_is_read_from_what_a_site_says(text: str, release: tuple[int, int]) -> None:
    assert release_of(text) == release


def test_the_table_tells_which_release_has_what() -> None:
    assert not has("4.1.10 (Build: 20240422)", "subsections")
    assert has("4.5.6 (Build: 20250811)", "subsections")
    assert not has("3.9.1+", "legacyfiles-setting")
    assert is_known("3.9.1")
    assert not is_known("5.2")
    assert not is_known("3.8")
    assert set(FIRST.values()) >= {(4, 5), (5, 1)}
    with pytest.raises(ValueError, match="no Moodle release"):
        release_of("unknown")
