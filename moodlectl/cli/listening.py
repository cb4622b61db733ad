"""Who hears of a batch's events: a live table in a terminal, a line each in a log, JSON Lines in a pipe, or nobody."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from moodlectl.actions.events import Event, OnEvent, nobody
from moodlectl.cli.board import Board, in_words
from moodlectl.cli.output import plain, tell, warn
from moodlectl.cli.state import Output, State


@contextmanager
def listener(state: State, kind: str, *, events: bool) -> Iterator[OnEvent]:
    """The listener that fits where this runs."""
    if events and state.output is Output.json:
        yield stream
    elif state.quiet:
        yield nobody
    elif sys.stderr.isatty():
        with _live(state, kind) as hear:
            yield hear
    else:
        yield Lines(verbose=state.verbose)


@contextmanager
def _live(state: State, kind: str) -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.live import Live

    board = Board(kind)
    console = Console(stderr=True, no_color=not state.color, highlight=False)
    with _undisturbed(), Live(console=console, get_renderable=board.draw, refresh_per_second=5, transient=True):
        yield board.hear


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the terminal from writing ^C into the table, and from dropping what is half drawn then: both shift it."""
    import termios

    def ours() -> bool:
        """Whether it is this program's terminal now: one in the background may not touch it."""
        return os.tcgetpgrp(terminal) == os.getpgrp()

    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        if not ours():
            raise OSError
        quiet = [*before[:3], before[3] & ~termios.ECHOCTL | termios.NOFLSH, *before[4:]]
        termios.tcsetattr(terminal, termios.TCSANOW, quiet)
    except (OSError, ValueError, termios.error):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError, termios.error):
            if ours():
                termios.tcsetattr(terminal, termios.TCSANOW, before)


def stream(event: Event) -> None:
    """One event as one line of JSON on standard output, at once. That nobody reads it (any more), or it cannot be
    written, must not end what is going on on a site: it is said once, and the job goes on."""
    try:
        sys.stdout.write(json.dumps(event.as_dict(), ensure_ascii=True, default=str) + "\n")
        sys.stdout.flush()
    except OSError as error:
        from moodlectl.cli import failures

        failures.silence_output()
        warn(f"events cannot be written any more ({error.strerror}); the job goes on without")


class Lines:
    """One line for each event worth one: how every course ended, what sites are like; steps with ``--verbose``."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose

    def __call__(self, event: Event) -> None:
        text = self._text(event)
        if text:
            tell(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {plain(text).replace(chr(10), ' ')}\n")

    def _text(self, event: Event) -> str:
        why = f": {event.message}" if event.message else ""
        if event.what == "job":
            return f"job {event.job} {event.state}{why}" + (f" ({in_words(event.totals)})" if event.totals else "")
        if event.what == "site":
            return f"site {event.site} {event.state}{why}"
        if event.what == "item":
            where = f" at {event.step}" if event.state in ("failed", "unknown") else ""
            total = sum(event.totals.values())
            count = f"[{total - event.totals.get('pending', 0)}/{total}]"
            address = f" {event.facts['url']}" if event.state == "done" and event.facts.get("url") else ""
            return f"{count} {event.course} {event.state}{where}{why}{address}"
        if event.what == "step" and (event.state == "again" or self.verbose):
            return f"{event.course} {event.step} {event.state}{why}"
        return ""
