"""Restores that break off, and answers that are lost: the record stays true, and the course comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl import ledger
from moodlectl.actions import deeds, protected, resuming, safety
from moodlectl.errors import Failed, OutcomeUnknown, Refused, Unreachable
from moodlectl.site.port import Course, CourseRef, RestoreRequest, RestoreSource
from tests.faults.breaking import BreakingSite, held

KEEP = protected.Protection()
AUTO = protected.Protection(auto_undo=True)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BreakingSite]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(deeds, "SILENCE", 0.0)
    monkeypatch.setattr(deeds, "_PAUSE", 0.001)
    monkeypatch.setattr(resuming, "PATIENCE", 0.0)
    made = BreakingSite(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def course(site: BreakingSite) -> Course:
    return site.course(CourseRef("shortname", "RICH101"))


def replace_it(site: BreakingSite, course: Course, protection: protected.Protection = KEEP) -> protected.Protected:
    """Replace the rich course with the newest backup of another one."""
    other = site.course(CourseRef("shortname", "GEO200"))
    source = RestoreSource(stored=site.backups(other.id).files[0])
    request = RestoreRequest(source, "replace", course_id=course.id)
    return protected.run(site, request, course, {"backup": "x"}, protection)


def last() -> ledger.Job:
    return ledger.job(ledger.jobs(limit=1)[0].id)


def test_a_replace_is_done_and_can_be_undone(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    done = replace_it(site, course)
    assert (last().state, held(site, course.id) == before) == ("done", False)
    job = ledger.job(done.job)
    undone = protected.undo(site, job, safety.plan_undo(site, job))
    assert (undone.differences, last().id, last().state) == ((), undone.job, "done")
    assert held(site, course.id) == before


def test_stored_backups_survive_a_replace_unless_told_otherwise(site: BreakingSite, course: Course) -> None:
    stored = site.backups(course.id, ["course", "automated"]).files
    assert stored
    replace_it(site, course)
    assert site.backups(course.id, ["course", "automated"]).files == stored


def test_an_answer_that_is_lost_is_asked_for_again(site: BreakingSite, course: Course) -> None:
    site.faults = ["", "lost"]
    done = replace_it(site, course)
    assert done.done.differences == ()
    assert (last().state, last().items[0].facts["begun_restore"]) == ("done", course.id)
    assert site.deed(last().items[0].facts["deed_restore"]).found is False  # it was let go of


def test_a_lost_answer_to_the_safety_backup_does_not_stop_anything(site: BreakingSite, course: Course) -> None:
    site.faults = ["lost"]
    done = replace_it(site, course)
    assert done.safety is not None and done.safety.path.is_file()
    assert last().state == "done"


def test_what_never_arrived_changed_nothing(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    site.faults = ["", "cut"]
    with pytest.raises(Unreachable):
        replace_it(site, course)
    assert (last().state, held(site, course.id)) == ("failed", before)


def test_a_silent_site_leaves_the_outcome_unknown_until_it_is_resumed(site: BreakingSite, course: Course) -> None:
    site.faults = ["", "mute"]
    with pytest.raises(OutcomeUnknown) as raised:
        replace_it(site, course)
    job = last()
    assert job.state == "unknown"
    assert raised.value.hint == f"When the site answers again: moodlectl job resume {job.id}"
    assert raised.value.details["put_back"] == f"moodlectl restore --undo {job.id}"
    site.silent = 1
    with pytest.raises(OutcomeUnknown):
        resuming.resume(site, job)
    assert last().state == "unknown"
    found = resuming.resume(site, last())
    assert (found.state, last().state) == ("done", "done")
    assert found.restored is not None and found.restored.course.id == course.id
    assert resuming.resume(site, last()).state == "done"


def test_what_had_begun_and_left_no_account_stays_unknown(site: BreakingSite, course: Course) -> None:
    site.faults = ["", "gone"]
    with pytest.raises(OutcomeUnknown):
        replace_it(site, course)
    with pytest.raises(OutcomeUnknown, match="no account"):
        resuming.resume(site, last())
    assert last().state == "unknown"


@pytest.mark.parametrize("fault", ["dead", "torn"])
def test_what_broke_off_is_told_with_the_way_back(site: BreakingSite, course: Course, fault: str) -> None:
    before = held(site, course.id)
    site.faults = ["", fault]
    with pytest.raises(Failed) as raised:
        replace_it(site, course)
    job = last()
    assert job.state == "failed"
    assert raised.value.hint == f"Put back what the course held before: moodlectl restore --undo {job.id}"
    assert held(site, course.id) != before
    found = resuming.resume(site, job)
    assert (found.state, found.undo) == ("failed", True)
    assert (resuming.put_back(site, found).differences, held(site, course.id)) == ((), before)
    assert resuming.resume(site, ledger.job(job.id)).undo is False


@pytest.mark.parametrize("fault", ["dead", "torn"])
def test_auto_undo_puts_back_what_broke_off(site: BreakingSite, course: Course, fault: str) -> None:
    before = held(site, course.id)
    site.faults = ["", fault]
    with pytest.raises(Failed, match="was put back, and is as it was") as raised:
        replace_it(site, course, AUTO)
    assert raised.value.details["auto_undo"] == "done"
    assert (last().state, last().items[0].facts["undone"]) == ("failed", True)
    assert held(site, course.id) == before


def test_an_undo_that_fails_as_well_names_the_safety_backup(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    site.faults = ["", "dead", "torn"]
    with pytest.raises(Failed) as raised:
        replace_it(site, course, AUTO)
    assert str(raised.value.details["auto_undo"]).startswith("failed: ")
    assert raised.value.details["safety_backup"] in (raised.value.hint or "")
    job = last()
    assert job.state == "failed"
    undone = protected.undo(site, job, safety.plan_undo(site, job))
    assert (undone.differences, held(site, course.id)) == ((), before)


def test_a_lost_answer_to_an_undo_is_found_out_by_resume(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    site.faults = ["", "torn", "mute"]
    with pytest.raises(OutcomeUnknown):
        replace_it(site, course, AUTO)
    assert last().state == "unknown"
    found = resuming.resume(site, last())
    assert (found.state, found.undo, last().items[0].facts["undone"]) == ("failed", False, True)
    assert held(site, course.id) == before


def test_an_interrupted_restore_that_was_finished_is_resumed(site: BreakingSite, course: Course) -> None:
    site.faults = ["", "stop"]
    with pytest.raises(KeyboardInterrupt) as raised:
        replace_it(site, course)
    assert any("job resume" in note for note in raised.value.__notes__)
    assert last().state == "unknown"
    assert resuming.resume(site, last()).state == "done"


def test_a_new_course_that_broke_off_is_a_plain_failure(site: BreakingSite, course: Course) -> None:
    source = RestoreSource(stored=site.backups(course.id).files[0])
    request = RestoreRequest(source, "new", category_id=course.category_id, shortname="n")
    site.faults = ["dead"]
    with pytest.raises(Failed):
        protected.run(site, request, None, {}, KEEP)
    assert (last().state, site.settled) == ("failed", [last().items[0].facts["deed_restore"]])
    assert resuming.resume(site, last()).undo is False


def test_a_job_of_another_site_is_not_resumed_here(site: BreakingSite, course: Course) -> None:
    replace_it(site, course)
    site.name = "elsewhere"
    with pytest.raises(Refused, match="was on the site 'practice'"):
        resuming.resume(site, last())


def test_a_job_at_work_is_not_resumed(site: BreakingSite, course: Course) -> None:
    book = ledger.Ledger()
    number = book.begin("restore", site.name, site.info().url, {})
    book.start(number, ledger.Item(1, "x", "replace", "planned"))
    with pytest.raises(Refused, match="still at work"):
        resuming.resume(site, ledger.job(number))
    book.close()


def test_an_undo_can_be_undone(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    done = replace_it(site, course)
    replaced = held(site, course.id)
    job = ledger.job(done.job)
    first = resuming.undo(site, job, safety.plan_undo(site, job), safe=True)
    assert (first.differences, held(site, course.id) == before) == ((), True)
    assert first.safety is not None
    assert ledger.job(job.id).items[0].facts["undone_by"] == first.job
    again = ledger.job(first.job)
    second = resuming.undo(site, again, safety.plan_undo(site, again), safe=True)
    assert (second.differences, held(site, course.id)) == ((), replaced)
    assert ledger.job(job.id).items[0].facts["undone"] is False
    assert ledger.job(first.job).items[0].facts["undone_by"] == second.job


def test_an_undo_that_breaks_off_is_put_back_from_the_job_it_was_for(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    job = ledger.job(replace_it(site, course).job)
    site.faults = ["", "torn"]
    with pytest.raises(Failed) as raised:
        resuming.undo(site, job, safety.plan_undo(site, job), safe=True)
    assert raised.value.hint == f"Remove the cause, then try again: moodlectl restore --undo {job.id}"
    found = resuming.resume(site, last())
    assert (found.state, found.undo) == ("failed", True)
    assert resuming.put_back(site, found).differences == ()
    assert held(site, course.id) == before


def test_an_undo_waits_until_it_is_known_how_the_restore_ended(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    site.faults = ["", "mute"]
    with pytest.raises(OutcomeUnknown):
        replace_it(site, course)
    site.silent = 1
    with pytest.raises(OutcomeUnknown):
        resuming.settled(site, last())
    job = resuming.settled(site, last())
    assert job.state == "done"
    assert resuming.undo(site, job, safety.plan_undo(site, job)).differences == ()
    assert held(site, course.id) == before


def test_what_left_no_account_can_still_be_undone(site: BreakingSite, course: Course) -> None:
    before = held(site, course.id)
    site.faults = ["", "gone"]
    with pytest.raises(OutcomeUnknown):
        replace_it(site, course)
    job = resuming.settled(site, last())
    assert job.state == "unknown"
    assert resuming.undo(site, job, safety.plan_undo(site, job)).differences == ()
    assert held(site, course.id) == before
