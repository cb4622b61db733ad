"""The engine of a batch: many courses at once, each step where there is room for it, and nothing done twice.

A course in flight is at one of its steps, or waits for one. A step runs in a thread of its own when the gate of its
site lets it in; steps of different courses so overlap: while one is backed up, another travels, a third is restored.
*Started* is on disk before a step is called and its end after it. What a killed process has left *started* is called
again, and looks at the site. See ``steps.py`` for what a step promises, ``gates.py`` for when a site is let rest.
"""

from __future__ import annotations

import errno
import logging
import queue
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from moodlectl import ledger, ledger_batch
from moodlectl.actions.events import Event, OnEvent, nobody
from moodlectl.actions.flights import Flight, Hands, NotOpened, Worker, attempt
from moodlectl.actions.gates import PAUSES, Gate, site_wide
from moodlectl.actions.steps import Planned, Recipe
from moodlectl.errors import MoodlectlError, OutcomeUnknown, Unreachable
from moodlectl.ledger_batch import Asked, Book, Fresh, Reader
from moodlectl.limits import Limits
from moodlectl.site.port import Site

log = logging.getLogger(__name__)

TRIES: Final = 5
"""How often a step is tried that met with something another try may help against."""
AHEAD: Final = 50
"""How many courses are looked at to find one whose first step can begin now."""
GRACE: Final = 40.0
"""How long steps may take to end when told to, in seconds."""


@dataclass
class Stop:
    """How often somebody has asked the engine to stop: once ends after what runs, twice ends what runs.

    ``ask`` may be called by a signal's handler: it takes no lock.
    """

    asked: int = 0
    word: str = ""

    def ask(self, word: str = "") -> None:
        self.asked += 1
        self.word = word or self.word


@dataclass(frozen=True)
class Terms:
    """How a batch is run: how many courses at once, the limits of each site, whether the first failure ends it."""

    jobs: int = 4
    limits: Mapping[str, Limits] = field(default_factory=dict)
    fail_fast: bool = False


@dataclass(frozen=True)
class Around:
    """Whom the engine deals with: who opens sites, who hears of events, who may stop it, and where the ledger is."""

    opener: Callable[[str], Site]
    on_event: OnEvent = nobody
    stop: Stop = field(default_factory=Stop)
    path: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How far a batch has come. ``reason`` says why it rests although something is left to do, empty if it does not;
    ``interrupted`` is by what, where somebody has stopped it before its end."""

    job: int
    state: str
    totals: Mapping[str, int]
    reason: str = ""
    interrupted: str | None = None


def begin(
    recipe: Recipe, planned: Iterable[Planned], options: Mapping[str, Any], *, key: str, path: Path | None = None
) -> int:
    """Write a batch down; nothing is begun by this. Returns its number. Raises Refused, AccessError."""
    asked = Asked(recipe.kind, key, " → ".join(dict.fromkeys(recipe.sites)), "", options)
    items = (Fresh(p.course, p.action, p.source, p.target, p.spec, p.state, p.message) for p in planned)
    return ledger_batch.begin(asked, items, path)


def run(job: int, recipe: Recipe, terms: Terms, around: Around) -> Ended:
    """Do what is left of a batch that this process has begun or taken up. Writes to sites and ledger.

    Never raises for what happens to a course: that is in the ledger, and told to ``on_event``.
    """
    return _Engine(job, recipe, terms, around).run()


class _Engine:
    """One run of one batch. All but the workers' own calls happen in the thread that called ``run``."""

    def __init__(self, job: int, recipe: Recipe, terms: Terms, around: Around) -> None:
        self.job, self.recipe, self.terms, self.stop = job, recipe, terms, around.stop
        self.reader = Reader(job, around.path)
        self.book = Book(job, around.path)
        self.folder = (around.path or ledger.default_path()).parent / "jobs" / str(job)
        self.options = self.reader.job.options
        self.totals = self.reader.totals()
        self.gates = {name: self._new_gate(name) for name in recipe.sites}
        self.hands = Hands(self.book, job, self.folder, around.opener, around.on_event, self._hard)
        self.tell = self.hands.tell
        self.waiting: list[Flight] = []  # in flight, between steps
        self.at_work: set[Flight] = set()
        self.fresh = self._open_flights()
        self.ahead: list[Flight] = []
        self.back: queue.SimpleQueue[Flight] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.idle: list[Worker] = []
        self.ends: list[Event] = []
        self.reason = ""
        self.cancelled = False
        self._next_wish = 0.0
        self._stops_told = 0
        self._hard_since: float | None = None
        self._told_of: dict[str, tuple[str, str]] = {}

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> Ended:
        self.tell(Event("job", "started", self.job, totals=dict(self.totals)))
        try:
            while self._turn():
                self._wait()
        except MoodlectlError as error:  # the ledger cannot be written: nothing more is begun
            self.reason = error.message
            self._drain()
        finally:
            self._dismiss()
        return self._end()

    def _turn(self) -> bool:
        """Let in what can begin now; whether there is anything to wait for."""
        self._look_at_wish()
        self._tell_of_stop()
        while self.hands.calm:
            self.gates[self.hands.calm.popleft()].calm()
        if not self.stop.asked and not self.reason:
            self._let_in()
        self._tell_of_sites()
        self._tell_ends()
        if self.at_work:
            return not (self.stop.asked > 1 and self._overdue())
        if self.stop.asked or self.reason:
            return False
        if not self.waiting and not self._fill():
            return False
        if all(map(self._is_down, self.waiting)) and all(map(self._leads_nowhere, self.ahead)):
            self.reason = "; ".join(gate.down for gate in self.gates.values() if gate.down)
            return False
        return True

    def _let_in(self) -> None:
        """Begin every step there is room for: first of courses in flight, then of the next in the plan."""
        for flight in list(self.waiting):
            if self._opens(flight) == 0:
                self.waiting.remove(flight)
                self._begin(flight)
        while self._may_begin_another() and self._fill():
            found = next((one for one in self.ahead if not self._leads_nowhere(one) and self._opens(one) == 0), None)
            if found is None:
                return
            self.ahead.remove(found)
            self._begin(found)

    def _fill(self) -> bool:
        if not self.cancelled:
            self.ahead += islice(self.fresh, AHEAD - len(self.ahead))
        return bool(self.ahead)

    def _open_flights(self) -> Iterator[Flight]:
        for item in self.reader.open_items():
            yield Flight(item, self.recipe.steps(item.spec))

    def _opens(self, flight: Flight) -> float | None:
        if flight.until is not None and not flight.until():
            return 0.1
        wait = max(0.0, flight.not_before - time.monotonic())
        gate = self._gate(flight)
        if gate is None:
            return wait
        opens = gate.opens(flight.step.slot)
        return None if opens is None else max(opens, wait)

    def _gate(self, flight: Flight) -> Gate | None:
        name = flight.step.site
        if name is not None and name not in self.gates:
            self.gates[name] = self._new_gate(name)
        return self.gates[name] if name is not None else None

    def _new_gate(self, name: str) -> Gate:
        return Gate(name, self.terms.limits.get(name, Limits()))

    def _is_down(self, flight: Flight) -> bool:
        gate = self._gate(flight)
        return gate is not None and bool(gate.down)

    def _may_begin_another(self) -> bool:
        """Whether there is a hand for one more course, and not too many wait for one of their later steps.

        Those that wait for a site that is given up do not count, nor do a few that wait for what another brings.
        """
        if len(self.waiting) >= 3 * self.terms.jobs:
            return False
        waiting = sum(flight.until is None and not self._is_down(flight) for flight in self.waiting)
        return max(len(self.at_work), waiting) < self.terms.jobs

    def _leads_nowhere(self, flight: Flight) -> bool:
        """Whether a step that is still to come is on a site that is given up: such a course is not begun."""
        rest = flight.steps[flight.number :]
        return any(step.site is not None and step.site in self.gates and self.gates[step.site].down for step in rest)

    def _begin(self, flight: Flight) -> None:
        flight.until = None
        gate = self._gate(flight)
        if gate is not None:
            gate.enter(flight.step.slot)
            flight.limits = gate.limits
            flight.look, flight.insists = self._wants_a_look(gate), gate.insists
        self.at_work.add(flight)
        worker = flight.hand if flight.hand in self.idle else self.idle[-1] if self.idle else self._new_worker()
        if worker in self.idle:
            self.idle.remove(worker)
        flight.hand = worker
        worker.tasks.put(flight)

    def _new_worker(self) -> Worker:
        worker = Worker(len(self.workers) + 1, self._work)
        self.workers.append(worker)
        return worker

    def _wants_a_look(self, gate: Gate) -> bool:
        """Whether the site is to be asked how loaded it is before this step: once in a while."""
        now = gate.clock()
        if gate.looked is not None and now - gate.looked < LOOK_EVERY:
            return False
        gate.looked, gate.looking = now, True
        return True

    def _work(self, tasks: queue.SimpleQueue[Flight | None]) -> None:
        """A worker: calls steps until it is dismissed."""
        try:
            while (flight := tasks.get()) is not None:
                attempt(flight, self.hands, self.job, self.options)
                self.back.put(flight)
        finally:
            self.hands.close_sites()

    def _wait(self) -> None:
        """Until a step has ended, a pause is over, or it is time to look up."""
        with suppress(queue.Empty):
            self._settle(self.back.get(timeout=self._patience()))
            while True:
                self._settle(self.back.get_nowait())

    def _tell_ends(self) -> None:
        """Tell of what has ended when it is on disk, and not before."""
        if self.ends:
            self.book.flush()
            for event in self.ends:
                self.tell(event)
            self.ends.clear()

    def _patience(self) -> float:
        pauses = [self._opens(flight) for flight in [*self.waiting, *self.ahead[:5]]]
        return min([0.2, *(max(pause, 0.01) for pause in pauses if pause is not None)])

    # --- after a step -----------------------------------------------------------------------------------------

    def _settle(self, flight: Flight) -> None:
        """Take a flight back from its step: on to the next, once more, or to its end."""
        self._comes_back(flight)
        gate, error, step = self._gate(flight), flight.error, flight.step
        if gate is not None:
            gate.leave(step.slot)
        flight.error = None
        if gate is not None and flight.look and error is not None:
            gate.looking = False  # it could not even be asked
        if flight.busy:
            assert gate is not None
            gate.busy(flight.busy, REST, hard=flight.busy_hard)
            flight.busy, gate.looked = "", None
            self.waiting.append(flight)
        elif flight.until is not None:
            self.book.put_back(flight.seq, flight.number, step.name, "another course brings what it needs")
            self.waiting.append(flight)
        elif error is None:
            if gate is not None:
                gate.well()
            self._forward(flight)
        elif isinstance(error, KeyboardInterrupt):
            self._interrupted(flight)
        elif isinstance(error, NotOpened):
            self._shut(flight, error)
        elif isinstance(error, MoodlectlError):
            self._trouble(flight, gate, error)
        else:
            self._unforeseen(flight, error)

    def _comes_back(self, flight: Flight) -> None:
        self.at_work.discard(flight)
        if flight.hand is not None:
            self.idle.append(flight.hand)

    def _forward(self, flight: Flight) -> None:
        step = flight.step
        self.tell(Event("step", "done", self.job, flight.seq, flight.course, step.name, step.site or ""))
        if flight.ended is not None:
            self._land(flight, *flight.ended)
            return
        following = flight.following()
        if following is None:
            self._land(flight, "done", "")
            return
        self.book.done(flight.seq, flight.number, step.name, following)
        flight.go_on()
        self.waiting.append(flight)

    def _trouble(self, flight: Flight, gate: Gate | None, error: MoodlectlError) -> None:
        """An error of ours: another try where nothing happened or nobody knows, else the item has failed."""
        flight.tries += 1
        if site_wide(error):
            self._site_trouble(flight, gate, error)
        elif isinstance(error, OutcomeUnknown) and flight.tries < TRIES:
            self._again(flight, error, PAUSES[min(flight.tries + 1, len(PAUSES) - 1)], known=False)
        elif error.details.get("retry") and flight.tries < TRIES:
            self._again(flight, error, PAUSES[min(flight.tries, len(PAUSES) - 1)], known=True)
        else:
            if gate is not None:
                gate.failed(error)
            state = "unknown" if isinstance(error, OutcomeUnknown) else "failed"
            self._land(flight, state, error.message, error)

    def _shut(self, flight: Flight, shut: NotOpened) -> None:
        """A site that cannot be opened is given up at once, unless it is only out of reach for now."""
        gate = self.gates.setdefault(shut.name, self._new_gate(shut.name))
        if isinstance(shut.error, Unreachable):
            gate.trouble(shut.error)
        else:
            gate.down = gate.down or f"{shut.name}: {shut.error.message}"
        self._again(flight, shut.error, 0.0, known=True)

    def _site_trouble(self, flight: Flight, gate: Gate | None, error: MoodlectlError) -> None:
        """The site cannot now, and nothing happened: it rests, and the course waits. No item is burnt by this.

        Unless the site works for the others, and this one has met with it time and again.
        """
        if gate is None or (flight.tries >= TRIES and not gate.troubled):
            self._land(flight, "failed", error.message, error)
            return
        gate.trouble(error)
        self._again(flight, error, 0.0, known=True)

    def _again(self, flight: Flight, error: MoodlectlError, pause: float, *, known: bool) -> None:
        """Let a step be called once more. ``known`` is whether it is sure that nothing happened."""
        flight.again = not known
        flight.not_before = time.monotonic() + pause
        if known:
            self.book.put_back(flight.seq, flight.number, flight.step.name, error.message)
        self.tell(
            Event(
                *("step", "again", self.job, flight.seq, flight.course, flight.step.name, flight.step.site or ""),
                message=error.message,
                attempt=flight.tries,
            )
        )
        self.waiting.append(flight)

    def _interrupted(self, flight: Flight) -> None:
        """Ended in the middle, at the second Ctrl-C: planned again where nothing was changed, else left *started*."""
        if flight.ended is not None and flight.facts.get("course_changed"):
            self._land(flight, *flight.ended)
        elif flight.ended is not None:
            self.book.put_back(flight.seq, flight.number, flight.step.name, flight.ended[1])
            flight.ended = None

    def _unforeseen(self, flight: Flight, error: BaseException) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.reason = f"this machine's disk is full: {error.filename or self.folder}"
            self.book.put_back(flight.seq, flight.number, flight.step.name, self.reason)
            return
        log.debug("unforeseen, at %s of %s", flight.step.name, flight.course, exc_info=error)
        told = MoodlectlError(
            f"unforeseen {type(error).__name__}: {error}", "This is a bug in moodlectl; please report it.", code="bug"
        )
        self._land(flight, "failed", told.message, told)

    def _land(self, flight: Flight, state: str, message: str, error: MoodlectlError | None = None) -> None:
        """An item has ended."""
        if error is not None:
            flight.facts["error"] = {"code": error.code, "hint": error.hint, "step": flight.step.name}
            if error.details:
                flight.facts["error"]["details"] = error.details
        self.book.end(flight.item, state, message, flight.facts, flight.number)
        self.totals[state] = self.totals.get(state, 0) + 1
        before = flight.item.state if flight.item.state in self.totals else "pending"
        self.totals[before] -= 1
        self._tidy(flight)
        self.hands.forget(flight)
        self.ends.append(
            Event(
                *("item", state, self.job, flight.seq, flight.course, flight.step.name, flight.step.site or ""),
                message=message,
                facts=flight.facts,
                totals=dict(self.totals),
            )
        )
        if self.terms.fail_fast and state in ("failed", "unknown") and not self.reason:
            self.reason = f"{flight.course} {state}, and --fail-fast was asked for"

    def _tidy(self, flight: Flight) -> None:
        if flight.number or flight.facts:
            shutil.rmtree(self.folder / str(flight.seq), ignore_errors=True)

    def _tell_of_sites(self) -> None:
        """Tell of every site that has begun or ceased to rest, or is given up."""
        for gate in self.gates.values():
            now = (gate.down, gate.resting)
            if self._told_of.get(gate.name, ("", "")) != now:
                self._told_of[gate.name] = now
                state = "down" if gate.down else "resting" if gate.resting else "working"
                self.tell(Event("site", state, self.job, site=gate.name, message=gate.down or gate.resting))

    # --- stopping ---------------------------------------------------------------------------------------------

    def _hard(self) -> bool:
        return self.stop.asked > 1

    def _tell_of_stop(self) -> None:
        if self.stop.asked > self._stops_told:
            self._stops_told = self.stop.asked
            message = "stopping now" if self._hard() else "stopping after what runs; once more stops it now"
            self.tell(Event("job", "stopping", self.job, message=message))

    def _overdue(self) -> bool:
        now = time.monotonic()
        self._hard_since = self._hard_since or now
        return self.stop.asked > 2 or now - self._hard_since > GRACE

    def _look_at_wish(self) -> None:
        """Now and then: whether another process has asked to cancel, or has taken the job over."""
        now = time.monotonic()
        if now < self._next_wish:
            return
        self._next_wish = now + 1.0
        wish, ours = self.reader.wish()
        if not ours:
            self.reason = self.reason or "another process has taken the job over"
        elif wish == ledger_batch.CANCEL and not self.cancelled:
            self.cancelled = True
            given_up = self.book.give_up()
            self.ahead = [flight for flight in self.ahead if flight.number or flight.again]
            self.totals["pending"] -= given_up
            self.totals["skipped"] += given_up
            self.tell(Event("job", "cancelled", self.job, message=f"{given_up} given up", totals=dict(self.totals)))

    def _drain(self) -> None:
        """The ledger is broken: wait for what runs, whose end can be looked up later."""
        while self.at_work and not self._hard():
            with suppress(queue.Empty):
                self._comes_back(self.back.get(timeout=0.2))

    def _dismiss(self) -> None:
        for worker in self.workers:
            worker.tasks.put(None)
        if not self.at_work:
            for worker in self.workers:
                worker.thread.join(GRACE)

    def _end(self) -> Ended:
        word = self.stop.word or "interrupted" if self.stop.asked else None
        with suppress(MoodlectlError):
            self._tell_ends()
        with suppress(MoodlectlError):
            self.book.close(self.reason or word)
        job, totals = self.reader.refresh(), self.reader.totals()
        self.reader.close()
        if job.state in ledger_batch.FINISHED:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.tell(Event("job", job.state, self.job, message=self.reason, totals=totals))
        finished = job.state in ledger_batch.FINISHED
        return Ended(self.job, job.state, totals, self.reason, None if finished else word)


LOOK_EVERY: Final = 30.0
"""How often a site is asked how loaded it is, in seconds."""
REST: Final = 30.0
"""How long a loaded site is left alone, in seconds."""
