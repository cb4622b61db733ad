"""Is on the site what the backup holds? Each difference is one sentence."""

from __future__ import annotations

from dataclasses import replace

from moodlectl.actions.verify import differences
from moodlectl.site.port import Counts, Course, Precheck, Restored, UsersOutcome

COURSE = Course(5, "BIO", "Biology", "", 1, "Science", None, True, "https://m/course/view.php?id=5")
HOLDS = Counts(
    sections=3, activities={"quiz": 2, "page": 1}, users=5, groups=2, grade_items=4, grades=9, questions=6, files=7,
    file_bytes=700,
)


def restored(mode: str, before: Counts, after: Counts, expected: Counts = HOLDS) -> Restored:
    return Restored(COURSE, mode, Precheck(), UsersOutcome(), expected, before, after, {}, (), 1.0)  # type: ignore[arg-type]


def test_a_new_course_that_holds_what_the_backup_holds_has_no_differences() -> None:
    assert differences(restored("new", Counts(), HOLDS)) == ()


def test_a_missing_activity_is_named_by_its_type() -> None:
    after = replace(HOLDS, activities={"quiz": 1, "page": 1})
    assert differences(restored("new", Counts(), after)) == ("activities of type quiz: 2 expected, 1 found",)


def test_too_much_is_a_difference_as_well() -> None:
    after = replace(HOLDS, activities={**HOLDS.activities, "forum": 1}, grades=10)
    assert differences(restored("replace", HOLDS, after)) == (
        "activities of type forum: 0 expected, 1 found",
        "grades: 9 expected, 10 found",
    )


def test_a_merge_adds_activities_and_meets_people_who_may_be_there() -> None:
    before = Counts(
        sections=4, activities={"quiz": 1}, users=3, groups=0, grade_items=1, grades=0, questions=0, files=0
    )
    after = replace(HOLDS, sections=4, activities={"quiz": 3, "page": 1}, users=6)
    assert differences(restored("merge", before, after)) == ()
    lost = replace(after, users=4)
    assert differences(restored("merge", before, lost)) == ("people enrolled: 5 to 8 expected, 4 found",)


def test_what_was_not_counted_is_not_compared() -> None:
    after = Counts(activities=HOLDS.activities)
    assert differences(restored("new", Counts(), after)) == ()
