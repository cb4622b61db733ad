"""A batch: steps of many courses where there is room, failures where they belong, nothing done twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from moodlectl import ledger, ledger_batch
from moodlectl.actions import engine, gates
from moodlectl.actions.events import Event
from moodlectl.actions.steps import Later, Planned, Skipped, Slot, Step, Work
from moodlectl.errors import AccessError, Failed, MoodlectlError, OutcomeUnknown, Refused, Unreachable
from moodlectl.ledger import Ledger
from moodlectl.ledger_batch import Reader
from moodlectl.limits import Hours, Limits
from moodlectl.site.port import Pressure, Progress

Do = Callable[[Work], None]


class Nowhere:
    """A site that is asked nothing but how it is."""

    def __init__(self, answers: list[Pressure | MoodlectlError]) -> None:
        self.answers = answers

    def pressure(self) -> Pressure:
        answer = self.answers.pop(0) if self.answers else Pressure()
        if isinstance(answer, MoodlectlError):
            raise answer
        return answer

    def close(self) -> None:
        pass


@dataclass
class Recipe:
    """Backs up on A, brings over, restores on B; ``faults`` are taken by course and step, one each time."""

    faults: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    kind: str = "test"
    sites: Sequence[str] = ("A", "B")
    calls: list[tuple[str, str, bool]] = field(default_factory=list)
    most: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    now: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    pause: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        return (
            self.step("backup", spec.get("from", "A"), "backup"),
            self.step("fetch", spec.get("from", "A"), "transfer"),
            self.step("restore", "B", "restore"),
        )

    def step(self, name: str, site: str, slot: Slot) -> Step:
        def do(work: Work) -> None:
            where = (site, slot)
            with self.lock:
                self.calls.append((work.course, name, work.again))
                self.now[where] += 1
                self.most[where] = max(self.most[where], self.now[where])
            try:
                if self.pause:
                    time.sleep(self.pause * (5 if name == "restore" else 1))
                self.fault(work, name)
                work.note(**{name: True})
            finally:
                with self.lock:
                    self.now[where] -= 1

        return Step(name, site, slot, do)

    def fault(self, work: Work, name: str) -> None:
        waiting = self.faults.get((work.course, name)) or self.faults.get(("*", name))
        fault = waiting.pop(0) if waiting else None
        if callable(fault) and not isinstance(fault, type):
            fault(work)
        elif isinstance(fault, BaseException):
            raise fault

    def times(self, course: str, step: str) -> int:
        return sum(1 for one, name, _ in self.calls if (one, name) == (course, step))


@dataclass
class Run:
    """One batch of a test."""

    path: Path
    recipe: Recipe = field(default_factory=Recipe)
    events: list[Event] = field(default_factory=list)
    stop: engine.Stop = field(default_factory=engine.Stop)
    opened: list[str] = field(default_factory=list)
    refuses: MoodlectlError | None = None
    pressures: list[Pressure | MoodlectlError] = field(default_factory=list)

    def begin(self, courses: int = 3, **spec: Any) -> int:
        planned = [Planned(f"C{n}", "test", spec=spec) for n in range(1, courses + 1)]
        return engine.begin(self.recipe, planned, {"plan": "x"}, key="test x", path=self.path)

    def opener(self, name: str) -> Any:
        self.opened.append(name)
        if self.refuses is not None:
            raise self.refuses
        return Nowhere(self.pressures if name == "A" else [])

    def run(self, job: int, jobs: int = 4, fail_fast: bool = False, **limits: Any) -> engine.Ended:
        terms = engine.Terms(jobs, {name: Limits(**limits) for name in "AB"}, fail_fast)
        return engine.run(job, self.recipe, terms, engine.Around(self.opener, self.told, self.stop, self.path))

    def told(self, event: Event) -> None:
        self.events.append(event)

    def states(self, job: int) -> list[str]:
        return [item.state for item in ledger.job(job, self.path).items]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(gates, "PAUSES", (0.01, 0.02, 0.02))
    monkeypatch.setattr(engine, "PAUSES", (0.01, 0.02, 0.02))
    monkeypatch.setattr(engine, "REST", 0.05)
    return Run(tmp_path / "ledger.sqlite")


def test_every_course_goes_through_every_step_once(run: Run) -> None:
    job = run.begin(20)
    ended = run.run(job)
    assert (ended.state, ended.totals) == ("done", {"done": 20, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0})
    assert Counter(run.recipe.calls) == Counter(
        {(f"C{n}", step, False): 1 for n in range(1, 21) for step in ("backup", "fetch", "restore")}
    )
    item = ledger.job(job, run.path).items[0]
    assert (item.facts, item.steps, item.attempts) == ({"backup": True, "fetch": True, "restore": True}, 3, 1)


def test_steps_of_different_courses_overlap_within_the_limits_of_each_site(run: Run) -> None:
    run.recipe.pause = 0.02
    job = run.begin(12)
    run.run(job, jobs=6, backups=1, restores=2)
    assert run.recipe.most[("A", "backup")] == 1
    assert run.recipe.most[("B", "restore")] == 2
    order = [(event.course, event.step) for event in run.events if event.what == "step" and event.state == "started"]
    assert order.index(("C1", "restore")) < order.index(("C6", "backup"))  # not all backups first


def test_courses_that_wait_for_a_slot_hold_others_up_only_when_as_many_wait_as_may_be_worked_on(run: Run) -> None:
    go, begun = threading.Event(), set[str]()

    def hold(_: Work) -> None:
        for _ in range(100):
            begun.update(course for course, name, _ in [*run.recipe.calls] if name == "backup")
            if go.wait(0.02):
                break

    run.recipe.faults = {("C1", "restore"): [hold]}
    job = run.begin(12)
    threading.Timer(1.0, go.set).start()
    run.run(job, jobs=4, restores=1)
    assert 4 < len(begun) < 2 * 4


def test_a_course_goes_on_with_the_hand_that_has_opened_its_sites(run: Run) -> None:
    run.recipe.pause = 0.01
    hands: dict[str, set[str]] = {}
    fault = run.recipe.fault

    def watch(work: Work, name: str) -> None:
        hands.setdefault(work.course, set()).add(threading.current_thread().name)
        fault(work, name)

    run.recipe.fault = watch  # type: ignore[method-assign]
    run.run(run.begin(4))
    assert [len(names) for names in hands.values()] == [1, 1, 1, 1]


def test_a_busy_site_does_not_keep_others_waiting(run: Run) -> None:
    run.recipe.pause = 0.02
    planned = [Planned(f"C{n}", "test", spec={"from": "A"}) for n in range(1, 9)] + [
        Planned("other", "test", spec={"from": "C"})
    ]
    job = engine.begin(run.recipe, planned, {}, key="fair", path=run.path)
    run.run(job, jobs=4, backups=1)
    begun = [course for course, step, _ in run.recipe.calls if step == "backup"]
    assert begun.index("other") < 4


def test_the_failure_of_one_course_does_not_stop_the_others(run: Run) -> None:
    run.recipe.faults[("C2", "restore")] = [Refused("another person has that name", "map them", code="user_conflict")]
    job = run.begin(3)
    ended = run.run(job)
    assert (ended.state, run.states(job)) == ("failed", ["done", "failed", "done"])
    item = ledger.job(job, run.path).items[1]
    assert item.message == "another person has that name"
    assert item.facts["error"] == {"code": "user_conflict", "hint": "map them", "step": "restore"}
    assert run.recipe.times("C2", "restore") == 1  # a conflict is not tried again


def test_fail_fast_begins_nothing_more(run: Run) -> None:
    run.recipe.faults[("C1", "backup")] = [Failed("broken")]
    job = run.begin(5)
    ended = run.run(job, jobs=1, fail_fast=True)
    assert (ended.state, ended.totals["pending"]) == ("paused", 4)
    assert "--fail-fast" in ended.reason


def test_a_reset_connection_is_tried_again(run: Run) -> None:
    run.recipe.faults[("C1", "backup")] = [Unreachable("reset"), Unreachable("reset")]
    job = run.begin(1)
    assert run.run(job).state == "done"
    assert run.recipe.calls[:3] == [("C1", "backup", False)] * 3
    assert [event.message for event in run.events if event.state == "again"] == ["reset", "reset"]


def test_an_unknown_outcome_is_looked_at_again_and_not_repeated_blindly(run: Run) -> None:
    run.recipe.faults[("C1", "restore")] = [OutcomeUnknown("silence")]
    job = run.begin(1)
    assert run.run(job).state == "done"
    assert run.recipe.calls[-2:] == [("C1", "restore", False), ("C1", "restore", True)]


def test_what_stays_unknown_is_unknown_until_it_is_resumed(run: Run) -> None:
    run.recipe.faults[("C1", "restore")] = [OutcomeUnknown("silence")] * engine.TRIES
    job = run.begin(1)
    ended = run.run(job)
    assert (ended.state, ended.totals["unknown"]) == ("unknown", 1)
    ledger_batch.adopt(job, run.path)
    assert run.run(job).totals == {"done": 1, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0}
    assert run.recipe.calls[-1] == ("C1", "restore", True)
    assert run.recipe.times("C1", "backup") == 1


def test_a_site_that_is_gone_burns_nothing(run: Run) -> None:
    run.recipe.faults[("*", "restore")] = [Unreachable("nobody answers")] * 1000
    job = run.begin(6)
    ended = run.run(job, patience=0.1)
    assert (ended.state, ended.totals["failed"], ended.totals["pending"]) == ("paused", 0, 6)
    assert "nobody answers" in ended.reason
    head = Reader(job, run.path)
    assert (head.job.state, "nobody answers" in str(head.job.message)) == ("paused", True)
    head.close()
    run.recipe.faults.clear()
    ledger_batch.adopt(job, run.path)
    assert run.run(job).state == "done"
    assert max(run.recipe.times(f"C{n}", "backup") for n in range(1, 7)) == 1


def test_a_course_that_alone_meets_with_trouble_fails_and_the_site_is_not_given_up(run: Run) -> None:
    run.recipe.faults[("C1", "restore")] = [Unreachable("reset by this one")] * 1000
    run.recipe.pause = 0.005
    job = run.begin(40)
    ended = run.run(job, patience=60.0)
    assert (ended.totals["done"], ended.totals["failed"]) == (39, 1)


def test_too_many_failures_in_a_row_pause_the_job(run: Run) -> None:
    run.recipe.faults[("*", "backup")] = [Failed("the database is broken")] * 1000
    job = run.begin(50)
    ended = run.run(job, jobs=1, failures=3)
    assert (ended.state, ended.totals["failed"], ended.totals["pending"]) == ("paused", 3, 47)
    assert "3 failures in a row" in ended.reason


def test_refusals_of_single_courses_do_not_count_as_the_sites_failures(run: Run) -> None:
    run.recipe.faults[("*", "backup")] = [Refused("conflict")] * 10
    job = run.begin(12)
    assert run.run(job, jobs=1, failures=3).totals["done"] == 2


def test_a_full_disk_makes_the_site_rest_and_no_course_fail(run: Run) -> None:
    run.recipe.faults[("*", "restore")] = [Refused("full", code="no_space")] * 3
    job = run.begin(4)
    assert run.run(job).totals["done"] == 4
    assert [event.state for event in run.events if event.what == "site"][:1] == ["resting"]


def test_a_token_that_does_not_work_burns_no_more_than_the_failures_in_a_row(run: Run) -> None:
    run.refuses = AccessError("the token is dead")
    run.recipe.faults[("*", "backup")] = [lambda work: work.site("A")] * 100
    job = run.begin(20)
    ended = run.run(job, jobs=1)
    assert (ended.state, ended.totals["failed"], ended.totals["pending"]) == ("paused", 0, 20)
    assert "the token is dead" in ended.reason


def test_a_skipped_course_is_no_failure(run: Run) -> None:
    run.recipe.faults[("C2", "backup")] = [Skipped("already there")]
    job = run.begin(3)
    ended = run.run(job)
    assert (ended.state, run.states(job)) == ("done", ["done", "skipped", "done"])
    assert ledger.job(job, run.path).items[1].message == "already there"


def test_courses_skipped_in_the_plan_are_accounted_for_and_not_touched(run: Run) -> None:
    planned = [Planned("C1", "test", state="skipped", message="unchanged"), Planned("C2", "test")]
    job = engine.begin(run.recipe, planned, {}, key="k", path=run.path)
    assert run.run(job).totals == {"done": 1, "failed": 0, "skipped": 1, "unknown": 0, "pending": 0}
    assert {course for course, _, _ in run.recipe.calls} == {"C2"}


def test_a_step_may_return_and_say_that_the_course_has_failed(run: Run) -> None:
    def different(work: Work) -> None:
        work.end("failed", "not what the backup holds", differences=["2 quizzes"])

    run.recipe.faults[("C1", "restore")] = [different]
    job = run.begin(1)
    run.run(job)
    item = ledger.job(job, run.path).items[0]
    assert (item.state, item.message, item.facts["differences"]) == (
        "failed",
        "not what the backup holds",
        ["2 quizzes"],
    )


def test_one_ctrl_c_finishes_what_runs_and_leaves_the_rest_planned(run: Run) -> None:
    run.recipe.faults[("C2", "backup")] = [lambda work: run.stop.ask()]
    job = run.begin(5)
    ended = run.run(job, jobs=1)
    assert (ended.state, ended.interrupted) == ("paused", "interrupted")
    items = ledger.job(job, run.path).items
    assert [(item.state, item.steps) for item in items[:3]] == [("done", 3), ("planned", 1), ("planned", 0)]
    run.stop = engine.Stop()
    ledger_batch.adopt(job, run.path)
    assert run.run(job).state == "done"
    assert all(run.recipe.times(f"C{n}", "backup") == 1 for n in range(1, 6))


def test_two_ctrl_c_end_the_steps_that_run(run: Run) -> None:
    def long(work: Work) -> None:
        run.stop.ask()
        run.stop.ask()
        for done in range(10_000):
            work.progress(Progress("restore", done))
            time.sleep(0.01)

    run.recipe.faults[("C1", "restore")] = [long]
    job = run.begin(2)
    ended = run.run(job, jobs=1)
    assert (ended.state, ended.interrupted) == ("unknown", "interrupted")
    assert run.states(job) == ["unknown", "planned"]
    run.stop = engine.Stop()
    ledger_batch.adopt(job, run.path)
    assert run.run(job).state == "done"
    assert ("C1", "restore", True) in run.recipe.calls[3:]


def test_a_bug_in_a_step_fails_its_course_alone(run: Run) -> None:
    run.recipe.faults[("C1", "fetch")] = [ZeroDivisionError("oh")]
    job = run.begin(2)
    assert run.run(job).totals["failed"] == 1
    assert "unforeseen ZeroDivisionError" in str(ledger.job(job, run.path).items[0].message)


def test_this_machines_full_disk_pauses_the_job(run: Run) -> None:
    run.recipe.faults[("*", "fetch")] = [OSError(28, "No space left on device")] * 10
    job = run.begin(3)
    ended = run.run(job)
    assert (ended.state, ended.totals["pending"], "disk is full" in ended.reason) == ("paused", 3, True)


def test_another_process_cancels_what_has_not_begun(run: Run) -> None:
    run.recipe.faults[("C1", "backup")] = [lambda work: ledger_batch.cancel(work.job, run.path)]
    run.recipe.pause = 0.3
    job = run.begin(30)
    ended = run.run(job, jobs=2)
    assert ended.state == "cancelled"
    assert ended.totals["skipped"] > 20
    assert ended.totals["done"] + ended.totals["skipped"] == 30


def test_the_same_plan_does_not_run_twice_at_once(run: Run) -> None:
    run.begin(1)
    with pytest.raises(Refused, match="is at work: process") as refused:
        run.begin(1)
    assert (refused.value.code, refused.value.exit_status) == ("job_running", 5)


def test_failed_courses_are_tried_again_when_asked(run: Run) -> None:
    run.recipe.faults[("C1", "restore")] = [Failed("broken")]
    job = run.begin(2)
    assert run.run(job).state == "failed"
    ledger_batch.adopt(job, run.path)
    assert run.run(job).state == "failed"  # resumed without more: what has failed stays so
    ledger_batch.adopt(job, run.path, retry=True)
    assert run.run(job).state == "done"
    assert run.recipe.times("C1", "backup") == 2
    assert ledger.job(job, run.path).items[0].facts["earlier"]["error"]["step"] == "restore"


def test_a_folder_of_this_machine_lasts_until_its_item_ends(run: Run) -> None:
    folders: list[Path] = []

    def keep(work: Work) -> None:
        work.folder.mkdir(parents=True)
        (work.folder / "backup.mbz").touch()
        folders.append(work.folder)

    run.recipe.faults[("C1", "fetch")] = [keep]
    run.recipe.faults[("C1", "restore")] = [lambda work: folders.append(next(work.folder.iterdir()))]
    run.run(run.begin(1))
    assert folders[1] == folders[0] / "backup.mbz"
    assert not folders[0].parent.exists()


@pytest.mark.parametrize(
    ("pressure", "why"),
    [
        (Pressure(load=9.0), "its load is 9.0"),
        (Pressure(tasks=5000), "5000 tasks wait"),
        (Pressure(free=1000), "0 MB are free"),
        (Pressure(maintenance=True), "maintenance"),
    ],
)
def test_a_site_under_pressure_is_let_rest_and_then_worked_again(run: Run, pressure: Pressure, why: str) -> None:
    run.pressures += [pressure, pressure]
    job = run.begin(2)
    assert run.run(job).state == "done"
    sites = [(event.site, event.state) for event in run.events if event.what == "site"]
    assert sites == [("A", "resting"), ("A", "working")]
    assert why in next(event.message for event in run.events if event.what == "site")
    assert run.recipe.times("C1", "backup") == 1


def test_a_site_that_cannot_tell_its_pressure_is_worked(run: Run) -> None:
    run.pressures += [Refused("no script tells it", code="engine_cannot")]
    assert run.run(run.begin(2)).state == "done"


def test_outside_its_hours_nothing_is_begun_on_a_site(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = (Hours.parse("22:00-06:00"),)
    moments = iter([datetime(2026, 11, 25, 21, 59)] * 8)
    monkeypatch.setattr(gates, "here", lambda: next(moments, datetime(2026, 11, 25, 22, 0)))
    job = run.begin(2)
    assert run.run(job, hours=hours).state == "done"
    told = [event.message for event in run.events if event.what == "site"]
    assert told[0] == "outside its hours (22:00-06:00), from 22:00"


@pytest.mark.parametrize(
    ("hours", "moment", "opens"),
    [
        ("22:00-06:00", "23:30", None),
        ("22:00-06:00", "05:59", None),
        ("22:00-06:00", "06:00", "22:00"),
        ("12:00-13:00", "12:00", None),
        ("12:00-13:00", "13:00", "12:00"),
    ],
)
def test_hours_may_go_over_midnight(hours: str, moment: str, opens: str | None) -> None:
    found = Limits(hours=(Hours.parse(hours),)).opens(datetime.fromisoformat(f"2026-11-25 {moment}"))
    assert (found and f"{found:%H:%M}") == opens


def test_a_site_that_is_always_loaded_is_worked_all_the_same_after_its_patience(run: Run) -> None:
    run.pressures += [Pressure(load=9.0)] * 100
    assert run.run(run.begin(2), patience=0.1).state == "done"


def test_a_disk_that_stays_nearly_full_pauses_the_job(run: Run) -> None:
    run.pressures += [Pressure(free=1000)] * 100
    ended = run.run(run.begin(2), patience=0.1)
    assert (ended.state, ended.totals["pending"], "limits.free" in ended.reason) == ("paused", 2, True)


def test_a_listener_that_fails_fails_no_course(run: Run) -> None:
    def told(event: Event) -> None:
        raise BrokenPipeError("nobody reads")

    job = run.begin(3)
    ended = engine.run(job, run.recipe, engine.Terms(2), engine.Around(run.opener, told, run.stop, run.path))
    assert (ended.state, ended.totals["done"]) == ("done", 3)


def test_a_job_that_was_given_up_ends_cancelled_also_when_what_it_had_begun_is_finished_later(run: Run) -> None:
    run.recipe.faults[("C1", "restore")] = [Failed("broken")]
    job = run.begin(5)
    run.stop.ask()
    assert run.run(job).state == "paused"
    with Ledger(run.path).transaction() as database:
        database.execute("UPDATE item SET state='planned', steps=1, step='fetch' WHERE seq=2")
    ended = ledger_batch.cancel(job, run.path)
    assert (ended[1], ended[2]) == (4, 1)
    run.stop = engine.Stop()
    ledger_batch.adopt(job, run.path)
    assert run.run(job).state == "cancelled"
    assert run.states(job) == ["skipped", "done", "skipped", "skipped", "skipped"]


def test_a_job_of_a_machine_that_is_gone_can_be_taken_over_and_whoever_had_it_stops(run: Run) -> None:
    def elsewhere(_: Work) -> None:
        with Ledger(run.path).transaction() as database:
            database.execute("UPDATE job SET process = 'another-machine 7 123'")

    run.recipe.faults[("C1", "backup")] = [elsewhere]
    run.recipe.pause = 0.3
    job = run.begin(30)
    ended = run.run(job, jobs=2)
    assert "taken the job over" in ended.reason
    found = ledger.job_head(job, run.path)
    assert found.running and ended.totals["pending"] > 20  # it is the other one's, and was left as it is
    with pytest.raises(Refused, match="on another-machine") as refused:
        ledger_batch.adopt(job, run.path)
    assert refused.value.hint is not None and "--take-over" in refused.value.hint
    Ledger(run.path).disown(job)
    ledger_batch.adopt(job, run.path)
    run.recipe.pause = 0
    assert run.run(job).state == "done"


def test_a_job_of_this_machine_is_not_taken_over_while_its_process_is_there(run: Run) -> None:
    job = run.begin(1)
    with pytest.raises(Refused, match="on this very machine"):
        Ledger(run.path).disown(job)


def test_a_course_that_waits_for_what_another_brings_keeps_no_hand_from_others(run: Run) -> None:
    there, begun = threading.Event(), threading.Event()

    def brings(work: Work) -> None:
        assert begun.wait(10), "no third course was begun meanwhile"
        there.set()

    def waits(work: Work) -> None:
        if not there.is_set():
            raise Later(there.is_set)

    run.recipe.faults = {
        ("C1", "fetch"): [brings],
        ("C2", "fetch"): [waits, waits],
        ("C3", "backup"): [lambda work: begun.set()],
    }
    ended = run.run(run.begin(3), jobs=2)
    assert ended.totals["done"] == 3
    assert run.recipe.times("C2", "fetch") == 2
    assert all(again is False for course, _, again in run.recipe.calls if course == "C2")
