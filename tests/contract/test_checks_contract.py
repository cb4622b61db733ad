"""What every site finds before a restore: told by its plan, refused by its restore in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moodlectl.actions import checks
from moodlectl.errors import AccessError, MoodlectlError, Refused
from moodlectl.findings import Finding
from tests.contract import archives
from tests.contract.worlds import World


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    yield


def hotrole(path: Path, target: Path) -> Path:
    """A backup in which students have a role that nobody has heard of."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if name == "roles.xml":
            data = data.replace(b"<shortname>student<", b"<shortname>hotrole<")
            data = data.replace(b"<archetype>student<", b"<archetype>hottype<")
        return name, data

    return archives.changed(path, target, change)


def whole(path: Path, _: Path) -> Path:
    return path


@dataclass(frozen=True)
class Case:
    """A danger: how the backup is made, what is asked, what is found and how it is refused."""

    name: str
    change: Callable[[Path, Path], Path] = whole
    asked: dict[str, Any] = field(default_factory=dict)
    error: type[MoodlectlError] = Refused


CASES = [
    Case("newer-backup", archives.newer),
    Case("missing-plugins", archives.with_unknown_module),
    Case("missing-roles", hotrole),
    Case("shortname_taken", asked={"shortname": "EMPTY1"}),
    Case("idnumber_taken", asked={"idnumber": "X9"}),
    Case("no_capability", asked={"as_user": "teacher1"}, error=AccessError),
    Case("user_conflict", lambda _path, _target: archives.DATA / "course-4.5-tgz-users.mbz"),
]


def report_of(world: World, source: Path, **asked: Any) -> checks.Report:
    request = world.request(source, "new", category_id=world.category, **asked)
    return checks.before(world.site, request, None, checks.Look(all=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_danger_is_told_by_the_plan_and_refused_by_the_restore(world: World, case: Case) -> None:
    source = case.change(world.download(world.backup()), world.tmp / "changed.mbz")
    before = world.everything()
    report = report_of(world, source, **case.asked)
    found = next(one for one in report.findings if one.name == case.name)
    assert found.stops(())
    assert len(found.remedy) > 10
    assert found.access is (case.error is AccessError)
    refusal = report.refusal(frozenset())
    assert refusal is not None
    assert refusal.exit_status == case.error.exit_status
    with pytest.raises(case.error) as raised:
        world.new(source, **case.asked)
    assert raised.value.code == case.name
    assert raised.value.message == found.message
    assert raised.value.hint == found.remedy
    assert case.name in {one["name"] for one in raised.value.details["findings"]}
    assert world.everything() == before


def test_everything_is_found_at_once_and_the_worst_is_told_first(world: World) -> None:
    source = archives.with_unknown_module(world.download(world.backup()), world.tmp / "hotpot.mbz")
    report = report_of(world, source, as_user="teacher1", shortname="EMPTY1")
    names = [one.name for one in report.findings]
    assert names[0] == "no_capability"
    assert {"shortname_taken", "missing-plugins", "without-people"} <= set(names)
    assert names.index("shortname_taken") < names.index("missing-plugins") < names.index("names")
    assert report.plan is not None
    assert report.plan.expected.activities["page"] >= 1


def test_a_danger_that_is_accepted_stays_in_the_report(world: World) -> None:
    source = archives.newer(world.download(world.backup()), world.tmp / "newer.mbz")
    done = world.new(source, allow=frozenset({"newer-backup"}))
    assert [one.name for one in done.findings if one.accepted({"newer-backup"})] == ["newer-backup"]
    assert "people" in {one.name for one in done.findings}


def test_a_file_that_is_not_whole_does_not_travel(world: World) -> None:
    request = world.request(archives.DATA / "truncated-tgz.mbz", "new", category_id=world.category)
    report = checks.before(world.site, request, None, checks.Look(all=True))
    assert [(one.name, one.severity) for one in report.findings] == [("truncated", "forbidden")]
    assert report.plan is None


def guarded(world: World, mode: str, **asked: Any) -> dict[str, Finding]:
    course = world.rich
    request = world.request(world.backup(), mode, course_id=course.id)
    report = checks.before(world.site, request, course, checks.Look(plan=False, **asked))
    return {one.name: one for one in report.findings}


def test_the_guards_see_who_and_what_is_in_a_course(world: World) -> None:
    standing = world.site.standing(world.rich.id)
    assert standing.students is not None and standing.students >= 12
    assert standing.grades is not None and standing.grades >= 12
    assert standing.submissions is not None and standing.submissions >= 2
    empty = world.site.standing(world.course("EMPTY1").id)
    assert (empty.students, empty.grades, empty.submissions) == (0, 0, 0)
    found = guarded(world, "replace")
    assert found["students"].details == {"students": standing.students}
    assert (found["title"].severity, found["students"].severity, found["grades"].severity) == (
        "note", "warning", "warning"
    )  # fmt: skip
    stopped = guarded(world, "replace", guards={"students": "stop", "grades": "ignore"})
    assert (stopped["students"].severity, "grades" in stopped) == ("danger", False)
    assert "--allow students" in stopped["students"].remedy
