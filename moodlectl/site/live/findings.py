"""One line of a site check, and how long, how much and how many are said in it."""

from __future__ import annotations

from dataclasses import dataclass

from moodlectl.errors import MoodlectlError
from moodlectl.site.port import Check, Verdict


@dataclass(frozen=True)
class Finding(Check):
    """A line that also knows which exit status fits when it is the first error: 3, 6 or 1."""

    exit_status: int = 0


def ok(name: str, message: str) -> Finding:
    """All is well."""
    return Finding(name, Verdict.OK, message)


def warning(name: str, message: str, hint: str | None = None) -> Finding:
    """It works, but not for everything, or not for long."""
    return Finding(name, Verdict.WARNING, message, hint)


def error(name: str, message: str, hint: str | None = None, *, status: int = 1) -> Finding:
    """It does not work."""
    return Finding(name, Verdict.ERROR, message, hint, status)


def failed(name: str, problem: MoodlectlError) -> Finding:
    """What an error of ours says about one line; its last evidence is shown where there is any."""
    lines = [str(line) for line in problem.details.get("last_lines") or []]
    said = f" (it said: {'; '.join(lines if len(lines) <= 3 else lines[-1:])})" if lines else ""
    status = {3: 3, 4: 3, 6: 6}.get(problem.exit_status, 1)  # what is not found is a wrong setting here
    return error(name, f"{problem.message}{said}", problem.hint, status=status)


def skipped(name: str, why: str) -> Finding:
    """It could not be looked at; a warning, because nobody knows."""
    return warning(name, f"not checked: {why}")


def ago(seconds: float) -> str:
    """How long, in the largest unit that fits: ``3 minutes``."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return count(int(seconds // size), unit)
    return count(max(0, int(seconds)), "second")


def count(number: int, thing: str, things: str | None = None) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def size(number: float) -> str:
    """Bytes for people: ``9.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
