"""The live table of a batch in a terminal: drawn from its events, moving even while nothing happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moodlectl.actions.events import Event
from moodlectl.cli.output import plain, size

if TYPE_CHECKING:
    from rich.console import RenderableType

SPAN: Final = 60.0
"""Rates are of the last so many seconds."""
STATES: Final = ("done", "failed", "skipped", "unknown")
COLOURS: Final = {"done": "green", "failed": "red", "unknown": "magenta", "skipped": "yellow"}


@dataclass
class Place:
    """What one course in work is doing."""

    course: str
    step: str
    site: str
    since: float
    phase: str = ""
    done: float = 0.0
    total: float | None = None
    bytes: bool = False
    waits: bool = False


class Board:
    """All that the live table shows, kept up to date by ``hear``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.job = 0
        self.began = time.monotonic()
        self.totals: dict[str, int] = {}
        self.places: dict[int, Place] = {}
        self.sites: dict[str, tuple[str, str]] = {}
        self.failures: deque[tuple[str, str, str]] = deque(maxlen=4)
        self.stopping = ""
        self.moved = 0.0
        self._ends: deque[float] = deque(maxlen=500)
        self._bytes: deque[tuple[float, float]] = deque(maxlen=2000)

    # --- hearing ----------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Take one event in."""
        if event.totals:
            self.totals = dict(event.totals)
        if event.what == "job":
            self.job = event.job
            if event.state == "stopping":
                self.stopping = event.message
        elif event.what == "site":
            self.sites[event.site] = (event.state, event.message)
        elif event.what == "item":
            self.places.pop(event.seq, None)
            self._ends.append(time.monotonic())
            if event.state in ("failed", "unknown"):
                self.failures.append((event.course, event.state, event.message))
        elif event.what == "step":
            self._step(event)
        elif event.what == "progress":
            self._progress(event)

    def _step(self, event: Event) -> None:
        if event.state == "started":
            self.places[event.seq] = Place(event.course, event.step, event.site, time.monotonic())
        elif event.seq in self.places:
            self.places[event.seq].waits = True

    def _progress(self, event: Event) -> None:
        place = self.places.get(event.seq)
        if place is None:
            return
        told = event.progress
        done, bytes_ = float(told["done"]), told["unit"] == "bytes"
        if bytes_ and told["phase"] in ("download", "upload"):
            gained = done - place.done if place.phase == told["phase"] and done >= place.done else done
            self.moved += gained
            self._bytes.append((time.monotonic(), gained))
        place.phase, place.done, place.total, place.bytes = told["phase"], done, told["total"], bytes_

    # --- reckoning --------------------------------------------------------------------------------------------

    def per_minute(self) -> float:
        """How many courses have ended in a minute lately."""
        now = time.monotonic()
        span = min(max(now - self.began, 1.0), 10 * SPAN)
        return 60 * sum(1 for end in self._ends if now - end <= span) / span

    def bytes_per_second(self) -> float:
        """How many bytes have travelled in a second lately."""
        now = time.monotonic()
        span = min(max(now - self.began, 1.0), SPAN)
        return sum(gained for at, gained in self._bytes if now - at <= span) / span

    def left(self) -> float | None:
        """In how many seconds all is done at this rate; None while nobody can say."""
        rate = self.per_minute()
        if len(self._ends) < 3 or not rate:
            return None
        return 60 * self.totals.get("pending", 0) / rate

    # --- drawing ----------------------------------------------------------------------------------------------

    def draw(self) -> RenderableType:
        """The table as it is now; rich calls this a few times a second."""
        from rich.console import Group

        ended = sum(self.totals.get(state, 0) for state in STATES)
        parts: list[RenderableType] = [self._headline(), bar(ended, sum(self.totals.values())), self._figures()]
        if self.places:
            parts.append(self._slots())
        parts += self._remarks()
        return Group(*parts)

    def _headline(self) -> RenderableType:
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self.kind}  job {self.job}", style="bold")
        line.append(f"  {clock(time.monotonic() - self.began)}")
        left = self.left()
        line.append(f"  about {clock(left)} left" if left is not None else "  time left not known yet", style="dim")
        return line

    def _figures(self) -> RenderableType:
        from rich.text import Text

        line = Text()
        working = sum(not place.waits for place in self.places.values())
        for state in STATES:
            count = self.totals.get(state, 0)
            line.append(f"{count} {state}   ", style=COLOURS[state] if count else "dim")
        line.append(f"{working} at work   {max(self.totals.get('pending', 0) - working, 0)} waiting\n")
        courses = f"{self.per_minute():.1f} courses a minute"
        rate = f"{courses}   {size(self.bytes_per_second())}/s   {size(self.moved)} moved"
        line.append(rate, style="dim")
        return line

    def _slots(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("COURSE", no_wrap=True, overflow="ellipsis", ratio=3)
        table.add_column("STEP", no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column("SITE", no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column("", ratio=2, min_width=6)
        table.add_column("", no_wrap=True, justify="right", ratio=3)
        table.add_column("", no_wrap=True, justify="right", min_width=7)
        now = time.monotonic()
        for place in sorted(self.places.values(), key=lambda one: (one.waits, one.since))[:12]:
            style = "dim" if place.waits else ""
            bar = "" if place.waits else ProgressBar(place.total or 100, place.done, pulse=not place.total)
            table.add_row(
                Text(plain(place.course), style=style),
                Text("waits" if place.waits else place.step, style=style),
                Text(plain(place.site), style=style),
                bar,
                Text(_amount(place), style="dim"),
                Text(clock(now - place.since), style=style),
            )
        return table

    def _remarks(self) -> list[RenderableType]:
        from rich.text import Text

        lines: list[RenderableType] = []
        for name, (state, why) in self.sites.items():
            if state != "working":
                style = "red" if state == "down" else "yellow"
                lines.append(Text(plain(f"{name} {'is given up' if state == 'down' else 'rests'}: {why}"), style=style))
        for course, state, why in self.failures:
            text = Text(no_wrap=True, overflow="ellipsis")
            text.append(f"{state} ", style=COLOURS[state])
            text.append(plain(f"{course}: {why}".replace("\n", " ")))
            lines.append(text)
        if self.stopping:
            lines.append(Text(self.stopping, style="bold yellow"))
        return lines


def bar(ended: int, total: int) -> RenderableType:
    """How many of all courses have ended, as a line of its own."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(ProgressBar(total or 1, ended), f"{ended} of {total}")
    return line


def _amount(place: Place) -> str:
    if place.waits or not place.phase:
        return ""
    if place.bytes:
        amount = f"{100 * place.done / place.total:.0f}% of {size(place.total)}" if place.total else size(place.done)
        return f"{place.phase} {amount}"
    return place.phase


def clock(seconds: float) -> str:
    """A duration for people: ``4 s``, ``3:07`` minutes, ``2:03:07`` hours."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"


def in_words(totals: Mapping[str, int]) -> str:
    """``12 done, 1 failed, 3 pending``: what there is any of."""
    return ", ".join(f"{count} {state}" for state, count in totals.items() if count) or "nothing to do"
