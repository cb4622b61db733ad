"""Comparing courses and backups: what differs is named, and what Moodle itself does is told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moodlectl.actions.compare import Comparison, compare, run
from moodlectl.actions.holdings import Holdings
from moodlectl.errors import NotFound
from moodlectl.site.port import (
    BackupRequest,
    CourseRef,
    Identity,
    RestoreRequest,
    RestoreSource,
)
from moodlectl.site.practice import PracticeSite

SITE = {"site": "one", "release": "5.1", "startdate": "1700000000"}
FORUM = ("forum", "News")


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeSite]:
    made = PracticeSite(tmp_path_factory.mktemp("practice"))
    yield made
    made.close()


def differ(
    a: list[Identity], b: list[Identity], about_a: Mapping[str, str] = SITE, about_b: Mapping[str, str] = SITE
) -> Comparison:
    with Holdings() as holdings:
        for side, about, things in (("a", about_a, a), ("b", about_b, b)):
            holdings.add(side, ("about", (), about))  # type: ignore[arg-type]
            for one in things:
                holdings.add(side, one)  # type: ignore[arg-type]
        return compare(holdings, "A", "B")


def course(**facts: str) -> Identity:
    return "course", ("course", ""), {"shortname": "X", "startdate": "1700000000", "enddate": "0", **facts}


def test_equal_sides_have_no_differences() -> None:
    things: list[Identity] = [course(), ("activity", FORUM, {"visible": "1"})]
    assert differ(things, list(reversed(things))).differences == ()


def test_each_thing_is_named_in_words() -> None:
    activity: Identity = ("activity", FORUM, {"visible": "1"})
    found = differ(
        [
            activity,
            ("grade", (*FORUM, "item 0", "amy"), {"value": "8"}),
            ("group_member", ("Red", "amy"), {}),
            ("user_file", (*FORUM, "mod_forum/attachment", "/a.txt"), {"contenthash": "1" * 40, "owner": "amy"}),
            ("quiz_attempt", ("quiz", "Test", "amy", "1"), {"state": "finished"}),
        ],
        [activity, ("grade", (*FORUM, "item 0", "amy"), {"value": "7"})],
    )
    assert not found.equal
    assert [one.text for one in found.differences] == [
        "grade of amy in forum \"News\": value is '8', then '7'",
        'file /a.txt (mod_forum/attachment) of amy in forum "News": only in A',
        "group member amy in Red: only in A",
        'quiz attempt amy, 1 in quiz "Test": only in A',
    ]
    assert {one.kind for one in found.differences} == {"user_file", "grade", "group_member", "quiz_attempt"}


def test_a_missing_activity_is_told_once_with_all_it_held() -> None:
    held: list[Identity] = [
        ("activity", FORUM, {}),
        ("forum_post", (*FORUM, "Hello", "Re", "amy"), {"message": "1"}),
        ("forum_post", (*FORUM, "Hello", "Re", "ben"), {"message": "2"}),
        ("completion", (*FORUM, "amy"), {"state": "1"}),
    ]
    (one,) = differ(held, []).differences
    assert one.text == 'forum "News": only in A, with 1 completion, 2 forum post'


def test_things_of_one_name_are_counted() -> None:
    two: list[Identity] = [("activity", FORUM, {}), ("activity", FORUM, {})]
    (one,) = differ(two, two[:1]).differences
    assert one.text == 'forum "News": only in A'
    texts = [f'{{"n": {n}}}' for n in range(3)]
    posts: list[Identity] = [("forum_post", (*FORUM, "T", "T", "amy"), {"message": text}) for text in texts]
    (one,) = differ(posts, [posts[2], posts[0]]).differences
    assert one.text.endswith("only in A")


def test_facts_that_only_one_side_tells_are_not_compared() -> None:
    assert differ([("activity", FORUM, {"a": "1", "new": "5"})], [("activity", FORUM, {"a": "1"})]).differences == ()


def test_files_of_two_people_are_never_taken_for_one_changed_file() -> None:
    key = (*FORUM, "mod_forum/attachment", "/essay.txt")
    a: list[Identity] = [("user_file", key, {"contenthash": "1" * 40, "owner": "amy"})]
    b: list[Identity] = [("user_file", key, {"contenthash": "2" * 40, "owner": "ben"})]
    assert [one.text.rpartition(": ")[2] for one in differ(a, b).differences] == ["only in A", "only in B"]
    assert len(differ(a, [("user_file", key, {"contenthash": "2" * 40, "owner": "amy"})]).differences) == 1
    assert differ(a, [("user_file", key, {"contenthash": "1" * 40})]).differences == ()


# --- what Moodle itself does --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([course(shortname="X", idnumber="1")], [course(shortname="X_1", idnumber="")]),
        ([("event", ("assign", "Essay", "Essay is due", "due"), {"timestart": "1"})], []),
        ([("grade_history", ("course", "", "Oral"), {"count": "8"})], []),
        ([("grade_history", ("assign", "Essay", "item 0"), {"count": "8"})],
         [("grade_history", ("assign", "Essay", "item 0"), {"count": "12"})]),
        ([], [("grade", ("course", "", "course total", "amy"), {"value": "7", "overridden": "0"})]),
        ([("grade_item", ("course", "", "category Essays"), {"grademax": "100"})],
         [("grade_item", ("course", "", "category Essays"), {"grademax": "210"})]),
        ([("badge", ("Green",), {"status": "3"})], [("badge", ("Green",), {"status": "0"})]),
        ([("badge_issued", ("Green", "amy"), {})], []),
        ([("logs", ("course", ""), {"count": "99"})], [("logs", ("course", ""), {"count": "3"})]),
        ([course(), ("activity", ("assign", "E"), {"duedate": "1700001000", "cutoffdate": "0"})],
         [course(startdate="1700600000"), ("activity", ("assign", "E"), {"duedate": "1700601000", "cutoffdate": "0"})]),
    ],
)  # fmt: skip
def test_what_core_does_not_carry_is_a_remark(a: list[Identity], b: list[Identity]) -> None:
    found = differ(a, b)
    assert found.differences and found.equal
    assert all(one.known and one.reason for one in found.differences)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([course(visible="1")], [course(visible="0")]),
        ([course()], [course(enddate="1700600000", startdate="1700000500")]),
        ([("event", ("course", "", "Trip", "course"), {"timestart": "1"})], []),
        ([("badge", ("Green",), {"status": "3"})], []),
        ([("grade", ("course", "", "course total", "amy"), {"value": "7", "overridden": "1"})], []),
        ([("grade", ("course", "", "Oral", "amy"), {"value": "7", "overridden": "0"})], []),
        ([("grade_item", ("course", "", "course total"), {"gradepass": "1"})],
         [("grade_item", ("course", "", "course total"), {"gradepass": "2"})]),
        ([("override", ("course", "", "student", "mod/forum:viewrating"), {"permission": "-1"})], []),
        ([("person", ("amy", "cohort"), {"status": "0"})], []),
        ([("activity", ("qbank", "Bank"), {})], []),
        ([course(), ("activity", ("assign", "E"), {"duedate": "1700001000"})],
         [course(startdate="1700600000"), ("activity", ("assign", "E"), {"duedate": "1700701000"})]),
    ],
)  # fmt: skip
def test_what_was_lost_is_not_excused(a: list[Identity], b: list[Identity]) -> None:
    assert not differ(a, b).equal


def test_history_may_grow_but_not_be_less_than_in_the_backup() -> None:
    few: list[Identity] = [("grade_history", ("assign", "Essay", "item 0"), {"count": "8"})]
    many: list[Identity] = [("grade_history", ("assign", "Essay", "item 0"), {"count": "12"})]
    backup = {**SITE, "source": "backup"}
    assert differ(few, many, about_a=backup).equal
    assert differ(many, few, about_b=backup).equal
    assert not differ(many, few, about_a=backup).equal
    assert not differ(few, many, about_b=backup).equal
    assert differ(many, few).equal  # histories are off by default


def test_histories_of_activities_of_one_name_are_paired_by_what_they_hold() -> None:
    def histories(*counts: int) -> list[Identity]:
        return [("grade_history", ("assign", "Essay", "item 0"), {"count": str(count)}) for count in counts]

    backup = {**SITE, "source": "backup"}
    assert differ(histories(24, 8), histories(16, 9), about_a=backup).real
    assert differ(histories(24, 8), histories(16, 100), about_a=backup).equal
    assert differ(histories(9, 10), histories(11, 10), about_a=backup).equal
    assert differ(histories(16, 16), histories(24), about_a=backup).real


def test_cohort_enrolments_and_what_came_with_them_stay_on_their_site() -> None:
    a: list[Identity] = [
        ("person", ("amy", "cohort"), {"status": "0"}),
        ("role", ("course", "", "amy", "student"), {}),
        ("group_member", ("Red", "amy"), {}),
        ("enrolment", ("cohort", ""), {"status": "0"}),
        ("person", ("ben", "manual"), {"status": "0"}),
        ("role", ("course", "", "ben", "student"), {}),
    ]
    elsewhere = {**SITE, "site": "two"}
    assert differ(a, a[4:], about_b=elsewhere).equal
    real = differ(a, a[:4], about_b=elsewhere).real
    assert [one.what for one in real] == ["enrolment of ben (manual)", "role student of ben"]
    assert len(differ(a, a[4:]).real) == 4


def test_the_question_bank_of_4_5_moves_into_an_activity() -> None:
    a: list[Identity] = [("question", ("Q", "essay"), {"bank": "course", "category": "top", "text": "1"})]
    b: list[Identity] = [
        ("question", ("Q", "essay"), {"bank": "qbank Bank", "category": "top for Bank", "text": "1"}),
        ("activity", ("qbank", "Bank"), {}),
    ]
    old = {**SITE, "release": "4.5"}
    assert differ(a, b, about_a=old).equal
    assert not differ(a, b).equal
    changed: list[Identity] = [("question", ("Q", "essay"), {**b[0][2], "text": "2"}), b[1]]
    assert not differ(a, changed, about_a=old).equal


def test_what_a_backup_was_made_without_is_not_compared_but_said() -> None:
    a: list[Identity] = [
        ("person", ("amy", "manual"), {"status": "0"}),
        ("grade", (*FORUM, "item 0", "amy"), {"value": "8"}),
        ("block", ("course", "", "html"), {"region": "side-pre"}),
        ("section", ("1",), {"name": "One"}),
    ]
    found = differ(a, a[3:], about_b={**SITE, "setting_users": "0", "setting_blocks": "0"})
    assert found.equal
    assert {one.what for one in found.differences} == {"users", "blocks"}
    assert not differ(a, [], about_b={**SITE, "setting_users": "0"}).equal


# --- whole roads on the practice site -----------------------------------------------------------------------------


def restored(site: PracticeSite, path: Path, **words: object) -> tuple[RestoreRequest, int]:
    category = next(one.id for one in site.categories())
    request = replace(RestoreRequest(RestoreSource(path=path), "new", category_id=category), **words)  # type: ignore[arg-type]
    return request, site.restore(request).course.id


@pytest.fixture(scope="module")
def backup(practice: PracticeSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rich = practice.course(CourseRef("shortname", "RICH101")).id
    path = tmp_path_factory.mktemp("backups") / "rich.mbz"
    practice.download(practice.backup(BackupRequest(rich)).file, path)
    return path


def test_a_course_equals_itself_and_its_backup(practice: PracticeSite, backup: Path) -> None:
    assert run(practice, "RICH101", "RICH101").differences == ()
    found = run(practice, "RICH101", str(backup))
    assert found.equal and found.counts["a"]["activity"] > 10
    assert run(practice, "RICH101", "RICH101@course").equal


def test_a_restored_copy_equals_the_original_and_another_course_does_not(practice: PracticeSite, backup: Path) -> None:
    _, copy = restored(practice, backup, shortname="COPY1")
    assert run(practice, "RICH101", f"id:{copy}").real == ()
    assert not run(practice, "RICH101", "GEO200").equal


def test_a_backup_that_is_not_there_is_named(practice: PracticeSite) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.mbz"):
        run(practice, "RICH101", "nowhere.mbz")
    with pytest.raises(NotFound):
        run(practice, "RICH101", "NOSUCH")


def test_the_command_exits_0_on_equal_and_1_on_different_courses(tmp_path: Path) -> None:
    from moodlectl.cli import app

    folder = tmp_path / "site"
    PracticeSite(folder).close()
    config = tmp_path / "config.toml"
    config.write_text(f'default = "p"\n[sites.p]\nkind = "practice"\nfolder = "{folder}"\n')

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["--config", str(config), *words])
        return done.exit_code, done.stdout

    status, text = call("course", "compare", "RICH101", "RICH101@course")
    assert status == 0 and "hold the same" in text
    status, text = call("course", "compare", "RICH101", "GEO200")
    assert status == 1 and "only in RICH101" in text and len(text.splitlines()) < 60
    status, text = call("-o", "json", "course", "compare", "RICH101", "GEO200")
    told = json.loads(text)
    assert status == 1 and told["equal"] is False and told["counts"]["a"]["activity"] > 10
    assert {"kind", "what", "text", "known"} <= set(told["differences"][0])
