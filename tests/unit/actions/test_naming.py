"""How things are named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from moodlectl.actions import naming
from moodlectl.actions.naming import ItemWords, LocalBackup, StoredBackup, choose_items, parse_course, parse_item
from moodlectl.errors import NotFound, UsageError
from moodlectl.site.port import Activity, Category, CourseRef, ItemChoice, Section, Site

SITE = "https://moodle.example.org/learn"


@pytest.mark.parametrize(
    ("word", "ref"),
    [
        ("42", CourseRef("id", "42")),
        ("id:42", CourseRef("id", "42")),
        ("BIO101", CourseRef("shortname", "BIO101")),
        ("shortname:101", CourseRef("shortname", "101")),
        ("idnumber:X9", CourseRef("idnumber", "X9")),
        ("Chemistry: an introduction", CourseRef("shortname", "Chemistry: an introduction")),
        (f"{SITE}/course/view.php?id=42", CourseRef("id", "42")),
        (f"{SITE}/course/view.php?id=42&section=3#x", CourseRef("id", "42")),
        (f"{SITE}/course/edit.php?id=42", CourseRef("id", "42")),
        ("https://moodle.example.org:443/learn/course/view.php?id=42", CourseRef("id", "42")),
        ("moodle.example.org/learn/course/view.php?id=42", CourseRef("id", "42")),
        (f"<{SITE}/course/view.php?id=42&amp;section=3>.", CourseRef("id", "42")),
        (f"{SITE}/user/index.php?id=42", CourseRef("id", "42")),
        (f"{SITE}/enrol/users.php?id=42", CourseRef("id", "42")),
        (f"{SITE}/grade/report/grader/index.php?id=42", CourseRef("id", "42")),
        (f"{SITE}/report/log/index.php?chooselog=1&id=42", CourseRef("id", "42")),
        (f"{SITE}/question/edit.php?courseid=42", CourseRef("id", "42")),
        (f"{SITE}/calendar/view.php?view=month&course=42", CourseRef("id", "42")),
        (f"{SITE}/mod/quiz/index.php?id=42", CourseRef("id", "42")),
        (f"{SITE}/mod/quiz/view.php?id=77#module-77", CourseRef("cmid", "77")),
        (f"{SITE}/mod/assign/view.php?id=77&action=grading", CourseRef("cmid", "77")),
        (f"{SITE}/course/modedit.php?update=77&return=1", CourseRef("cmid", "77")),
        (f"{SITE}/course/modedit.php?add=quiz&course=42&section=1", CourseRef("id", "42")),
        (f"{SITE}/course/section.php?id=9", CourseRef("sectionid", "9")),
    ],
)
def test_a_course_may_be_named_in_every_way_of_the_contract(word: str, ref: CourseRef) -> None:
    assert parse_course(word, SITE) == ref


@pytest.mark.parametrize(
    "word",
    [
        "https://other.example.org/learn/course/view.php?id=42",
        "https://moodle.example.org/course/view.php?id=42",
        "https://moodle.example.org:8443/learn/course/view.php?id=42",
        "https://moodle.example.org/learner/course/view.php?id=42",
        "https://moodle.example.org:abc/learn/course/view.php?id=42",
        "https://[::1/learn/course/view.php?id=42",
        f"{SITE}/mod/forum/discuss.php?d=42",
        f"{SITE}/user/profile.php?id=42",
        f"{SITE}/my/courses.php",
        "other.example.org/learn/course/view.php?id=42",
        f"{SITE}/course/view.php?id=4x",
        f"{SITE}/course/view.php",
        "id:abc",
        "shortname:",
        "",
    ],
)
def test_a_word_that_names_no_course_of_this_site_is_a_usage_error(word: str) -> None:
    with pytest.raises(UsageError):
        parse_course(word, SITE)


@pytest.mark.parametrize(
    ("word", "id"),
    [
        ("Science / Biology", 2),
        ("Science  /  Biology", 2),
        ("Biology", 2),
        ("Science / Art / Design & <b>Craft</b>", 3),
        ("Art / Design & <b>Craft</b>", 3),
        ("Science / Art / Design & <b>Craft</b> / 2026", 4),
        ("idnumber:SCI", 1),
        ("4", 4),
    ],
)
def test_a_category_may_be_named_by_its_path_though_names_hold_the_separator(word: str, id: int) -> None:
    class Categories:
        def categories(self) -> list[Category]:
            names = {1: "Science", 2: "Biology", 3: "Art / Design & <b>Craft</b>", 4: "2026"}
            paths = {1: (1,), 2: (1, 2), 3: (1, 3), 4: (1, 3, 4)}
            return [Category(n, names[n], "SCI" if n == 1 else "", 0, tuple(names[p] for p in path), True, 0)
                    for n, path in paths.items()]  # fmt: skip

    assert naming.find_category(cast(Site, Categories()), word).id == id


def test_a_backup_is_an_area_a_file_in_it_or_a_local_path(tmp_path: Path) -> None:
    local = tmp_path / "x@course"
    assert naming.parse_backup("BIO@automated") == StoredBackup("BIO", "automated", None)
    assert naming.parse_backup("idnumber:X9@course/a b.mbz") == StoredBackup("idnumber:X9", "course", "a b.mbz")
    assert naming.parse_backup("me@uni.org@private") == StoredBackup("me@uni.org", "private", None)
    assert naming.parse_backup("some/file.mbz") == LocalBackup(Path("some/file.mbz"))
    local.touch()
    assert naming.parse_backup(str(local)) == LocalBackup(local)


def test_a_wrong_area_is_named_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="'attic'") as error:
        naming.parse_backup("BIO@attic")
    assert "course, private, automated" in (error.value.hint or "")


def test_a_missing_local_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not there"):
        naming.existing(tmp_path / "gone.mbz")
    with pytest.raises(NotFound, match="is a folder"):
        naming.existing(tmp_path)


SECTIONS = (
    Section(10, 0, "General", activities=(Activity(100, "forum", "News"),)),
    Section(
        11,
        1,
        "Cells",
        activities=(Activity(101, "quiz", "Test"), Activity(102, "subsection", "More", subsection_id=13)),
    ),
    Section(12, 2, "Plants", activities=(Activity(103, "quiz", "Test"), Activity(104, "page", "Moss"))),
    Section(13, 3, "More", activities=(Activity(105, "page", "Deep"),), parent_activity=102),
)


def test_choosing_an_activity_brings_the_section_it_stands_in() -> None:
    choice = choose_items(ItemWords(only=["page:Moss"]), SECTIONS)
    assert choice == ItemChoice(only_sections=frozenset({12}), only_activities=frozenset({104}))


def test_choosing_a_section_brings_its_activities_and_its_subsections() -> None:
    choice = choose_items(ItemWords(only=["section:Cells"]), SECTIONS)
    assert choice.only_sections == {11, 13}
    assert choice.only_activities == {101, 102, 105}


def test_choosing_deep_in_a_subsection_brings_all_that_it_stands_in() -> None:
    choice = choose_items(ItemWords(only=["cmid:105"]), SECTIONS)
    assert choice.only_sections == {11, 13}
    assert choice.only_activities == {102, 105}


def test_choosing_and_skipping_the_same_leaves_nothing_and_says_so() -> None:
    for word in ("mod:quiz", "page:Moss", "section:Cells"):
        with pytest.raises(UsageError, match="takes away all"):
            choose_items(ItemWords(only=[word], skip=[word]), SECTIONS)


def test_every_activity_of_a_type_may_be_skipped() -> None:
    choice = choose_items(ItemWords(skip=["mod:quiz"], no_userdata=["section:0"]), SECTIONS)
    assert choice.only_activities is None
    assert choice.skip_activities == {101, 103}
    assert choice.no_userdata_sections == {10}
    assert choice.no_userdata_activities == {100}


def test_a_name_that_fits_two_items_lists_both() -> None:
    with pytest.raises(NotFound, match="fits 2 items") as error:
        choose_items(ItemWords(only=["quiz:Test"]), SECTIONS)
    assert [line.split()[0] for line in error.value.details["items"]] == ["cmid:101", "cmid:103"]


@pytest.mark.parametrize("word", ["section:9", "section:Nowhere", "cmid:9", "page:Tree", "mod:wiki"])
def test_an_item_that_is_not_there_lists_what_is(word: str) -> None:
    with pytest.raises(NotFound) as error:
        choose_items(ItemWords(only=[word]), SECTIONS)
    assert error.value.details


@pytest.mark.parametrize("word", ["quiz", "section:", ":x", "cmid:x", "Qu iz:x"])
def test_a_word_that_is_no_item_is_a_usage_error(word: str) -> None:
    with pytest.raises(UsageError):
        parse_item(word)


def test_quotation_marks_make_a_number_a_name() -> None:
    assert parse_item('section:"2"').kind == "section-name"
    assert parse_item("section:2").kind == "section-number"


def test_settings_are_joined_by_commas_and_may_not_contradict() -> None:
    assert naming.settings_from(["users,logs"], ["blocks"]) == {"users": True, "logs": True, "blocks": False}
    with pytest.raises(UsageError, match="both"):
        naming.settings_from(["users"], ["users"])
    with pytest.raises(UsageError):
        naming.settings_from(["us ers"], [])
