"""The guards on a course: what each mode makes of what they find, and what a merge would bring a second time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moodlectl import config
from moodlectl.actions import checks, guards, protected
from moodlectl.errors import ConfigError, Refused, UsageError
from moodlectl.findings import DANGERS, GUARDS, Finding, refusal, worst_first
from moodlectl.site.port import Course, CourseRef, RestoreRequest, RestoreSource, Standing
from moodlectl.site.practice import PracticeSite


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeSite]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    made = PracticeSite(tmp_path / "site")
    yield made
    made.close()


def course(site: PracticeSite, name: str = "EMPTY1") -> Course:
    return site.course(CourseRef("shortname", name))


def merge(site: PracticeSite, **more: frozenset[str]) -> RestoreRequest:
    source = RestoreSource(stored=site.backups(course(site, "RICH101").id, ["course"]).files[0])
    return RestoreRequest(source, "merge", course_id=course(site).id, **more)  # type: ignore[arg-type]


def found(site: PracticeSite, standing: Standing, modes: guards.Modes) -> dict[str, Finding]:
    scene = guards.Scene(site, merge(site), course(site), standing, "0" * 40)
    return {one.name: one for one in guards.findings(scene, modes)}


BUSY = Standing(3, 2, 1, 5, datetime.now(UTC) - timedelta(hours=3), 0, (), ())


def test_every_guard_warns_unless_somebody_says_otherwise(site: PracticeSite) -> None:
    told = found(site, BUSY, {})
    assert {name: one.severity for name, one in told.items()} == {
        "title": "note", "students": "warning", "grades": "warning", "visited": "warning", "visible": "warning",
    }  # fmt: skip
    assert "5 people were in EMPTY1 in the last two weeks, the last of them 3 hours ago." in told["visited"].message


@pytest.mark.parametrize("name", ["title", "students", "grades", "visited", "visible"])
def test_a_guard_that_stops_is_passed_by_its_name_and_one_that_is_ignored_is_silent(
    site: PracticeSite, name: str
) -> None:
    stopping = found(site, BUSY, {name: "stop"})[name]
    assert stopping.severity == "danger"
    assert f"--allow {name}" in stopping.remedy
    assert refusal([stopping]) is not None
    assert refusal([stopping], {name}) is None
    assert name not in found(site, BUSY, {name: "ignore"})


def test_what_a_site_could_not_be_asked_is_said(site: PracticeSite) -> None:
    told = found(site, Standing(), {})
    assert {"students", "grades", "visited"} <= {name for name, one in told.items() if one.severity == "note"}


def test_a_merge_of_the_same_backup_is_refused_until_it_is_taken_back_or_allowed(site: PracticeSite) -> None:
    protection = protected.Protection(safety=False)
    done = protected.run(site, merge(site), course(site), {}, protection)
    with pytest.raises(Refused) as raised:
        protected.run(site, merge(site), course(site), {}, protection)
    assert raised.value.code == "same-backup"
    assert raised.value.details["jobs"] == [done.job]
    again = protected.run(site, merge(site, allow=frozenset({"same-backup"})), course(site), {}, protection)
    assert [one.name for one in again.findings if one.accepted({"same-backup"})] == ["same-backup"]
    over = replace(merge(site), mode="replace")
    told = protected.run(site, over, course(site), {}, protection)
    assert [one.severity for one in told.findings if one.name == "same-backup"] == ["warning", "warning"]
    # All that it brought is gone now: there is nothing to be doubled but what the last one brought.
    with pytest.raises(Refused) as last:
        protected.run(site, merge(site), course(site), {}, protection)
    assert last.value.details["jobs"] == [told.job]


def test_the_worst_is_told_first_and_a_missing_permission_before_all() -> None:
    note, warning = Finding("a", "note", "a"), Finding("b", "warning", "b")
    danger, forbidden = Finding("in-use", "danger", "c"), Finding("d", "forbidden", "d")
    access = Finding("e", "forbidden", "e", access=True)
    ordered = worst_first([note, warning, danger, forbidden, access])
    assert [one.name for one in ordered] == ["e", "d", "in-use", "b", "a"]
    error = refusal(ordered, {"in-use"})
    assert error is not None
    assert (error.exit_status, error.code, len(error.details["findings"])) == (3, "e", 5)
    assert refusal([note, warning, danger], {"in-use"}) is None


def test_words_of_the_command_line_are_checked() -> None:
    assert guards.parse(["students=stop", "visible=ignore"]) == {"students": "stop", "visible": "ignore"}
    for word in ("people=stop", "students", "students=maybe"):
        with pytest.raises(UsageError):
            guards.parse([word])
    assert not set(DANGERS) & set(GUARDS)


def test_the_settings_of_a_site_know_the_guards_and_nothing_else() -> None:
    text = '[sites.s]\nurl = "https://m.example"\n[sites.s.guards]\n'
    loaded = config.parse(text + 'same-backup = "warn"\n', Path("c.toml")).sites["s"]
    assert loaded.guards == {"same-backup": "warn"}
    assert loaded.as_dict()["guards"] == {"same-backup": "warn"}
    for line, place in (('people = "stop"', "sites.s.guards.people"), ('grades = "no"', "sites.s.guards.grades")):
        with pytest.raises(ConfigError) as raised:
            config.parse(text + line, Path("c.toml"))
        assert place in raised.value.message


def test_a_course_that_is_in_use_is_told_in_the_report(site: PracticeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = replace(BUSY, active=2, running=("a backup that admin began at 2026-11-25 10:00 runs",))
    monkeypatch.setattr(site, "standing", lambda _course, as_user=None: busy)
    for mode, severities in (("merge", ["danger", "warning"]), ("replace", ["danger", "danger"])):
        request = replace(merge(site), mode=mode)  # type: ignore[arg-type]
        report = checks.before(site, request, course(site), checks.Look(plan=False))
        assert [one.severity for one in report.findings if one.name == "in-use"] == severities
        assert report.refusal(frozenset({"in-use"})) is None
