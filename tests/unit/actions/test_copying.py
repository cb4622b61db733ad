"""Copies and imports by way of the host: recorded, verified thing by thing, and undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl import ledger
from moodlectl.actions import copying, protected, requests, safety
from moodlectl.actions.naming import ItemWords
from moodlectl.errors import UsageError
from moodlectl.site.port import CourseRef
from moodlectl.site.practice import PracticeSite
from tests.faults.breaking import held


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeSite]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    opened = PracticeSite(tmp_path / "site")
    yield opened
    opened.close()


def course(site: PracticeSite, shortname: str) -> int:
    return site.course(CourseRef("shortname", shortname)).id


def copy(site: PracticeSite, shortname: str, **more: object) -> protected.Protected:
    wanted = copying.WantedCopy("RICH101", "Science / Biology", shortname, **more)  # type: ignore[arg-type]
    planned = copying.plan_copy(site, wanted)
    return protected.run(site, planned.request, None, copying.asked(wanted), protected.Protection(safety=False))


def import_(site: PracticeSite, target: str, **more: object) -> protected.Protected:
    wanted = copying.WantedImport("RICH101", target, **more)  # type: ignore[arg-type]
    planned = copying.plan_import(site, wanted)
    return protected.run(site, planned.request, planned.target, copying.asked(wanted), protected.Protection())


def test_a_copy_is_compared_with_its_source_thing_by_thing(site: PracticeSite) -> None:
    whole = copy(site, "WHOLE", settings={"users": True}).done.verified
    alone = copy(site, "ALONE").done.verified
    assert whole is not None and alone is not None
    assert (whole.differences, alone.differences) == ((), ())
    assert (whole.compared or 0) > (alone.compared or 0) > 40
    job = ledger.job(ledger.jobs(limit=1)[0].id)
    assert (job.kind, job.items[0].action, job.items[0].source) == ("copy", "new", "RICH101")


def test_a_copy_has_the_full_name_of_the_course_unless_told_otherwise(site: PracticeSite) -> None:
    assert copy(site, "SAME").done.restored.course.fullname == site.course(CourseRef("shortname", "RICH101")).fullname
    assert copy(site, "OTHER", fullname="Autre").done.restored.course.fullname == "Autre"


def test_an_import_in_place_of_the_contents_is_undone(site: PracticeSite) -> None:
    copy(site, "TARGET", settings={"users": True}, items=ItemWords(skip=["mod:quiz"]))
    number = course(site, "TARGET")
    before, people = held(site, number), site.counts(number).users
    done = import_(site, "TARGET", delete_contents=True)
    assert done.done.verified is not None and done.done.verified.differences == ()
    assert site.counts(number).users == people
    assert held(site, number) != before
    job = ledger.job(done.job)
    assert job.kind == "import"
    protected.undo(site, job, safety.plan_undo(site, job))
    assert held(site, number) == before


def test_what_was_asked_is_kept_so_that_a_resumed_job_can_be_verified(site: PracticeSite) -> None:
    job = ledger.job(copy(site, "KEPT").job)
    request = requests.read(job.items[0].facts)
    assert request is not None and request.source.course is not None
    assert (request.source.course.course_id, request.source.course.rules) == (course(site, "RICH101"), "copy")


@pytest.mark.parametrize("name", ["files", "imscc11", "anonymize"])
def test_settings_that_mean_nothing_within_a_site_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="means nothing here"):
        copying.check_copy(copying.WantedCopy("A", "1", "B", settings={name: True}))


def test_an_import_never_brings_people() -> None:
    with pytest.raises(UsageError, match="never brings people"):
        copying.check_import(copying.WantedImport("A", "B", settings={"users": True}))
