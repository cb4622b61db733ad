"""``job show --watch``: a job looked at from outside, from its record alone, until it has ended."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from moodlectl.cli import output
from moodlectl.cli.board import COLOURS, STATES, clock, in_words
from moodlectl.cli.output import plain
from moodlectl.cli.state import State

if TYPE_CHECKING:
    from rich.console import RenderableType

    from moodlectl.ledger import Item
    from moodlectl.ledger_batch import Reader, Stage

EVERY: Final = 1.0
"""How often the record is looked at, in seconds."""


def watch(state: State, reader: Reader) -> None:
    """Look on until nobody works on the job any more: a table that moves in a terminal, else a line at each change."""
    if sys.stderr.isatty() and not state.quiet:
        _live(state, reader)
        return
    last = ""
    while True:
        told = f"job {reader.refresh().id} {reader.job.state}: {in_words(reader.totals())}"
        if told != last:
            output.remark(state, f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {told}")
            last = told
        if not reader.job.running:
            return
        time.sleep(EVERY)


def _live(state: State, reader: Reader) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, no_color=not state.color, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while reader.refresh().running:
            live.update(_drawn(reader), refresh=True)
            time.sleep(EVERY)


def _drawn(reader: Reader) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from moodlectl.cli.board import bar

    job, totals = reader.job, reader.totals()
    now = datetime.now(UTC)
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f"{job.kind}  job {job.id}", style="bold")
    head.append(f"  {clock((now - (job.since or job.created)).total_seconds())}  by {plain(job.who)}")
    ended = sum(totals[state] for state in STATES)
    figures = Text()
    for state in STATES:
        figures.append(f"{totals[state]} {state}   ", style=COLOURS[state] if totals[state] else "dim")
    figures.append(f"{totals['pending']} pending")
    stages = sorted(reader.stages(state="started"), key=lambda one: one.started or "")[:12]
    courses = {item.seq: item.course for item in _items(reader, stages)}
    lines = [Text(_line(stage, courses, now), no_wrap=True, overflow="ellipsis") for stage in stages]
    return Group(head, bar(ended, sum(totals.values())), figures, *lines)


def _items(reader: Reader, stages: list[Stage]) -> list[Item]:
    return [item for stage in stages for item in reader.items(limit=1, after=stage.seq - 1)]


def _line(stage: Stage, courses: dict[int, str], now: datetime) -> str:
    since = clock((now - datetime.fromisoformat(stage.started)).total_seconds()) if stage.started else ""
    return plain(f"  {since:>8}  {stage.name:<12} {stage.site or '':<12} {courses.get(stage.seq, '')}")
