"""What was found before a restore, as a person reads it: worst first, what to do about it below."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from moodlectl.cli import output
from moodlectl.cli.state import State
from moodlectl.findings import Finding

if TYPE_CHECKING:
    from moodlectl.site.port import Course

_COLORS = {"forbidden": "red", "danger": "red", "accepted": "magenta", "warning": "yellow", "note": "blue"}
_NARROWEST = 40
_COLUMNS = 100


def print_findings(state: State, findings: Sequence[Finding], allow: frozenset[str]) -> None:
    """The report on standard output, folded to the width of the terminal; nothing is cut off."""
    names = max((len(one.name) for one in findings), default=0)
    color = state.color and sys.stdout.isatty()
    room = max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST) if sys.stdout.isatty() else 10_000
    for one in findings:
        word = "accepted" if one.accepted(allow) else one.severity
        shown = typer.style(f"{word:<9}", fg=_COLORS[word], bold=one.stops(allow)) if color else f"{word:<9}"
        wide = room >= _COLUMNS  # a narrow terminal has no room for columns
        before = 13 + names if wide else 4
        name = output.plain(one.name)
        sys.stdout.write(f"{shown}  {name:<{names}}  " if wide else f"{shown}  {name}\n{'':<{before}}")
        lines = _folded(one.message, room - before)
        sys.stdout.write(f"\n{'':<{before}}".join(lines) + "\n")
        if one.remedy:
            hint = _folded(one.remedy, room - before - 2)
            sys.stdout.write(f"{'':<{before}}→ " + f"\n{'':<{before + 2}}".join(hint) + "\n")


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most that width; a long word, an address say, is left whole."""
    plain = output.plain(text).replace("\n", " ")
    return textwrap.wrap(plain, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def tell(state: State, findings: Iterable[Finding], allow: frozenset[str]) -> None:
    """On standard error: every warning and every danger that was accepted; notes unless ``--quiet``."""
    for one in findings:
        if one.accepted(allow):
            output.warn(f"{one.message} (accepted: --allow {one.name})")
        elif one.severity == "warning":
            output.warn(one.message)
        elif one.severity == "note":
            output.remark(state, f"note: {one.message}")


def type_back(state: State, course: Course, verb: str) -> None:
    """Have a person type the course's title, full or short, before it is changed. Raises Refused."""
    from moodlectl.errors import Refused

    said = typer.prompt(
        output.plain(f"{verb} {course.fullname} ({course.shortname})? Type its full or short name"), err=True
    )
    if said.strip() not in (course.fullname.strip(), course.shortname.strip()):
        raise Refused(
            f"Nothing was changed: '{said.strip()}' is not what the course is called.",
            f"It is called {course.fullname}, or {course.shortname}.",
            code="not_confirmed",
        )
