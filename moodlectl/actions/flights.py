"""One course in flight: at one of its steps or between two, and what is lent to the step that runs."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from moodlectl.actions.events import Event, OnEvent
from moodlectl.actions.steps import Later, Skipped, Step, Work
from moodlectl.errors import AccessError, MoodlectlError, Refused, Unreachable
from moodlectl.ledger import Item
from moodlectl.ledger_batch import Book
from moodlectl.limits import Limits
from moodlectl.site.port import Progress, Site

log = logging.getLogger(__name__)

EVERY: Final = 0.2
"""How often the progress of one course is told, in seconds."""


class NotOpened(Exception):  # noqa: N818
    """A site could not even be opened (its token, its settings): every other course would meet with the same."""

    def __init__(self, name: str, error: MoodlectlError) -> None:
        super().__init__(error.message)
        self.name, self.error = name, error


class Flight:
    """An item with where it stands. ``again`` is whether its step was begun before and its end is not known."""

    def __init__(self, item: Item, steps: Sequence[Step]) -> None:
        self.item = item
        self.steps = steps
        self.number = min(item.steps, len(steps) - 1)
        self.facts: dict[str, Any] = dict(item.facts)
        self.again = item.state in ("started", "unknown")
        self.first = True
        self.tries = 0
        self.not_before = 0.0
        self.hand: Worker | None = None
        self.error: BaseException | None = None
        self.ended: tuple[str, str] | None = None
        self.until: Callable[[], bool] | None = None
        self.busy = ""
        self.busy_hard = self.insists = self.look = False
        self.limits = Limits()

    @property
    def seq(self) -> int:
        return self.item.seq

    @property
    def course(self) -> str:
        return self.item.course

    @property
    def step(self) -> Step:
        return self.steps[self.number]

    def following(self) -> str | None:
        """The name of the step after this one, None after the last."""
        return self.steps[self.number + 1].name if self.number + 1 < len(self.steps) else None

    def go_on(self) -> None:
        """This step is done."""
        self.number += 1
        self.again, self.tries, self.not_before = False, 0, 0.0


class Worker:
    """A thread that calls steps. A course is handed to the same one again if that can be."""

    def __init__(self, number: int, work: Callable[[queue.SimpleQueue[Flight | None]], None]) -> None:
        self.tasks: queue.SimpleQueue[Flight | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=work, args=(self.tasks,), name=f"worker-{number}", daemon=True)
        self.thread.start()


class Hands:
    """What the engine lends to every step: the ledger, sites, folders, and an ear for progress.

    A site is lent to one thread at a time, from its first question to the step's end; what has been asked there still
    waits for the next question.
    """

    def __init__(
        self,
        book: Book,
        job: int,
        folder: Path,
        opener: Callable[[str], Site],
        on_event: OnEvent,
        hard: Callable[[], bool],
    ) -> None:
        self.book, self.job, self.hard = book, job, hard
        self._folder = folder
        self._opener = opener
        self._on_event = on_event
        self._ear = threading.Lock()
        self._here = threading.local()
        self._lot = threading.Lock()
        self._open: dict[str, list[Site]] = {}  # sites nobody needs at the moment
        self.calm: deque[str] = deque()
        self._last: dict[int, tuple[str, float]] = {}

    def tell(self, event: Event) -> None:
        """Tell one event; one after the other, from whatever thread. Where a listener fails, no course does."""
        with self._ear:
            try:
                self._on_event(event)
            except Exception:
                log.exception("a listener failed")

    def folder(self, seq: int) -> Path:
        """Where an item may keep files on this machine."""
        return self._folder / str(seq)

    def site(self, name: str) -> Site:
        """The site of that name, lent to this thread until its step has ended."""
        sites: dict[str, Site] = self._here.__dict__.setdefault("sites", {})
        if name not in sites:
            with self._lot:
                open_ones = self._open.get(name)
                found = open_ones.pop() if open_ones else None
            try:
                sites[name] = found or self._opener(name)
            except MoodlectlError as error:
                raise NotOpened(name, error) from error
        return sites[name]

    def give_back(self) -> None:
        """This thread's step has ended: whoever needs its sites next finds them open."""
        with self._lot:
            for name, site in self._here.__dict__.pop("sites", {}).items():
                self._open.setdefault(name, []).append(site)

    def drop_site(self, name: str | None) -> None:
        """Open it anew next time: its connections may be gone."""
        site = self._here.__dict__.get("sites", {}).pop(name, None)
        if site is not None:
            _close(site)

    def close_sites(self) -> None:
        """Close what nobody needs any more."""
        self.give_back()
        with self._lot:
            sites, self._open = self._open, {}
        for site in (site for open_ones in sites.values() for site in open_ones):
            _close(site)

    def progress(self, flight: Flight, progress: Progress) -> None:
        """Tell how far a step has come; raises KeyboardInterrupt in its thread when everything is to stop now."""
        if self.hard():
            raise KeyboardInterrupt
        now = time.monotonic()
        phase, last = self._last.get(flight.seq, ("", 0.0))
        if now - last < EVERY and phase == progress.phase and progress.done != progress.total:
            return
        self._last[flight.seq] = (progress.phase, now)
        step = flight.step
        told = {"phase": progress.phase, "done": progress.done, "total": progress.total, "unit": progress.unit}
        self.tell(
            Event(
                *("progress", "started", self.job, flight.seq, flight.course, step.name, step.site or ""), progress=told
            )
        )

    def forget(self, flight: Flight) -> None:
        """An item has ended."""
        self._last.pop(flight.seq, None)


class _Lent:
    """The engine's hands for one flight."""

    def __init__(self, hands: Hands, flight: Flight) -> None:
        self._hands, self._flight = hands, flight

    def note(self, seq: int, facts: Mapping[str, Any]) -> None:
        self._flight.facts.update(facts)
        self._hands.book.note(seq, self._flight.facts, facts)

    def site(self, name: str) -> Site:
        return self._hands.site(name)

    def folder(self, seq: int) -> Path:
        return self._hands.folder(seq)

    def progress(self, progress: Progress) -> None:
        self._hands.progress(self._flight, progress)


def attempt(flight: Flight, hands: Hands, job: int, options: Mapping[str, Any]) -> None:
    """Call a flight's step, in a worker's thread. How it ended is in the flight: nothing is raised."""
    step, item = flight.step, flight.item
    try:
        if flight.look and step.site is not None:
            flight.busy, flight.busy_hard = _busy(hands.site(step.site), flight.limits)
            if flight.busy and (flight.busy_hard or not flight.insists):
                return
            flight.busy = ""
            hands.calm.append(step.site)
        hands.book.start(item, flight.number, step.name, step.site, first=flight.first)
        flight.first = False
        hands.tell(
            Event(
                *("step", "started", job, flight.seq, flight.course, step.name, step.site or ""),
                attempt=flight.tries + 1,
            )
        )
        current = replace(item, facts=flight.facts, state="started")
        work = Work(current, job, options, _Lent(hands, flight), again=flight.again)
        try:
            step.do(work)
        finally:
            if work.state is not None:
                flight.ended = (work.state, work.message)
    except Later as later:
        flight.until = later.ready
    except Skipped as skipped:
        flight.ended = ("skipped", skipped.message)
    except BaseException as error:  # noqa: BLE001 - it is settled by the engine
        flight.error = error
        if isinstance(error, MoodlectlError):
            hands.drop_site(step.site)
    finally:
        hands.give_back()


def _busy(site: Site, limits: Limits) -> tuple[str, bool]:
    """Why the site should be let rest now; empty where it need not, or where nobody can tell.

    Also whether it is a wall that no patience gets over: a disk that is nearly full.
    Reads only. Raises Unreachable for a site in maintenance.
    """
    try:
        pressure = site.pressure()
    except (Refused, AccessError) as error:
        if error.code in ("maintenance", "upgrade"):
            raise
        return "", False
    if pressure.maintenance:
        raise Unreachable("The site is in maintenance mode.", code="maintenance")
    if pressure.free is not None and pressure.free < limits.free:
        return f"{pressure.free / 1e6:,.0f} MB are free, less than {limits.free / 1e6:,.0f} (limits.free)", True
    if pressure.load is not None and pressure.load > limits.load:
        return f"its load is {pressure.load:.1f} for each processor, above {limits.load:g} (limits.load)", False
    if pressure.tasks is not None and pressure.tasks > limits.tasks:
        return f"{pressure.tasks} tasks wait for cron, more than {limits.tasks} (limits.tasks)", False
    return "", False


def _close(site: Site) -> None:
    try:
        site.close()
    except MoodlectlError:
        return
