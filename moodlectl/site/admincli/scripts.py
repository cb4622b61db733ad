"""Moodle's own scripts: how they are called, and what their words mean. Pure.

All rests on ``admin/cli`` and ``lib/clilib.php`` of 3.10, 4.1, 4.5.6 and 5.1. Headings (``== … ==``) and exceptions
(``!!! … !!!``) are in the site's language, what ``mtrace`` says is English everywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

BACKUP = "backup.php"
RESTORE = "restore_backup.php"
AUTOMATED = "automated_backups.php"
DELETE = "delete_course.php"


@dataclass(frozen=True)
class Said:
    """How a script ended: its exit status, which proves little, and its last lines."""

    status: int
    output: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All it said that is not blank, for people."""
        return tuple(line for line in (*self.output, *self.errors) if line.strip())

    @property
    def evidence(self) -> dict[str, object]:
        """What an error tells of it."""
        return {"exit_status": self.status, "last_lines": list(self.lines[-10:])}


# --- calling ---------------------------------------------------------------------------------------------------------


def roots(moodle_dir: str) -> tuple[str, ...]:
    """Where ``admin/cli`` may lie: since 5.1 it is beside ``public``, not in it."""
    given = moodle_dir.rstrip("/") or "/"
    return (posixpath.dirname(given), given) if posixpath.basename(given) == "public" else (given,)


def script_path(root: str, name: str) -> str:
    """A script below a root."""
    return f"{root.rstrip('/')}/admin/cli/{name}"


def backup_options(course_id: int, destination: str | None = None) -> list[str]:
    """``backup.php`` for one course; without a destination it goes where Moodle keeps such backups."""
    return [f"--courseid={course_id}", *([f"--destination={destination}"] if destination else [])]


def restore_options(file: str, *, category_id: int | None = None, course_id: int | None = None) -> list[str]:
    """``restore_backup.php``: a new course in a category, or into a course; never both, a category would win."""
    where = f"--categoryid={category_id}" if course_id is None else f"--courseid={course_id}"
    return [f"--file={file}", where]


def delete_options(course_id: int, *, recycle_bin: bool) -> list[str]:
    """``delete_course.php`` for one course, asking nothing."""
    return [f"--courseid={course_id}", *([] if recycle_bin else ["--disablerecyclebin"]), "--non-interactive"]


# --- understanding ---------------------------------------------------------------------------------------------------


def options_in(said: Said) -> frozenset[str]:
    """The options that a script's ``--help`` names."""
    return frozenset(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", "\n".join(said.output)))


def no_such_script(said: Said) -> bool:
    """Whether PHP found no script there."""
    return said.status != 0 and any(line.startswith("Could not open input file") for line in said.lines)


def has_begun(output: Sequence[str]) -> bool:
    """Whether Moodle had started: a script that has said a heading, or more than an error, is at work."""
    return any(line.strip() and not line.startswith(("!!!", "Could not open", "PHP ")) for line in output)


def problem(said: Said) -> str:
    """The script's own words for what went wrong: its exception, a fatal error of PHP, else its last line."""
    lines = said.lines
    for line in reversed(lines):
        if told := re.fullmatch(r"!!!\s*(?:Exception - )?(.*?)\s*!!!", line.strip()):
            return told[1]
    for line in reversed(lines):
        if fatal := re.search(r"Fatal error: +(.*)", line):
            return fatal[1]
    words = [line for line in said.output if line.strip()] or lines  # ssh speaks after the script
    return words[-1].strip() if words else f"it said nothing and ended with status {said.status}"


def stopped_by_precheck(said: Said) -> bool:
    """Whether the restore was not begun because of the pre-check, whose errors the script keeps to itself."""
    return any("restore_not_executable_awaiting_required" in line for line in said.lines)


def stored(said: Said) -> bool:
    """Whether ``backup.php`` says that it is done."""
    return any(line.startswith("Backup completed") for line in said.output)


def written(said: Said) -> str | None:
    """The file that ``backup.php --destination`` says it writes."""
    found = [line[len("Writing ") :] for line in said.output if line.startswith("Writing /")]
    return found[-1].rstrip() if found else None


def destination_refused(said: Said) -> bool:
    """Whether ``backup.php`` may not write to its destination; it then ends with status 0."""
    return any(line.startswith("Destination directory does not exist") for line in said.output)


def restored_id(said: Said) -> int | None:
    """The course in the last heading (``== Restored course ID: 42 ==``), whatever the site's language."""
    if said.status != 0:
        return None
    headings = [line.strip() for line in said.output if re.fullmatch(r"== .* ==", line.strip())]
    if not headings or "/" in headings[-1]:
        return None
    numbers = re.findall(r"(?<!\w)\d+(?!\w)", headings[-1])
    return int(numbers[0]) if len(numbers) == 1 else None


def unpacked_at(said: Said) -> str | None:
    """The temporary directory that the script unpacked to, on the host."""
    for line in said.output:
        if found := re.fullmatch(r"== [^/]*(/.*?) ==", line.strip()):
            return found[1]
    return None


# --- automated backups -----------------------------------------------------------------------------------------------

Fate = Literal["queued", "skipped", "notyetrun"]


@dataclass(frozen=True)
class Looked:
    """What the automated backups decided about one course, known by its id, before 4.2 by its full name."""

    fate: Fate
    course_id: int | None = None
    fullname: str | None = None


@dataclass(frozen=True)
class Automated:
    """What ``automated_backups.php`` said: ``state`` is ``ran``, ``inactive``, ``busy`` or ``unclear``.

    ``started`` is the host's clock at the start. Its "completed correctly" means nothing and is not kept.
    """

    state: Literal["ran", "inactive", "busy", "unclear"]
    started: datetime | None
    looked: tuple[Looked, ...] = ()


_QUEUED = re.compile(r"Putting backup of (?:course id (?P<id>\d+)|(?P<name>.+?)) in adhoc task queue")
_SKIPPED = re.compile(r"Skipping (?:course id (?P<id>\d+): (?P<why>.*)|(?P<name>.+) \((?P<because>[^()]*)\))")


def automated(said: Said) -> Automated:
    """``backup_cron_automated_helper::run_automated_backup`` (3.9 to 5.1), from what it printed."""
    looked: list[Looked] = []
    for line in said.output:
        if found := _QUEUED.match(line):
            looked.append(Looked("queued", _number(found["id"]), found["name"]))
        elif found := _SKIPPED.match(line):
            why = found["why"] if found["id"] else found["because"]
            fate: Fate = "notyetrun" if why.startswith("Not scheduled") else "skipped"
            looked.append(Looked(fate, _number(found["id"]), found["name"]))
    return Automated(_state(said), _server_time(said), tuple(looked))


def _state(said: Said) -> Literal["ran", "inactive", "busy", "unclear"]:
    text = "\n".join(said.output)
    checked = re.search(r"Checking automated backup status\.\.\. *(\w*)", text)
    if checked is None:
        return "unclear"
    if "Checking courses" in text:
        return "ran" if "No admin account was found" not in text else "unclear"
    return "inactive" if checked[1] == "INACTIVE" else "busy"


def _server_time(said: Said) -> datetime | None:
    for line in said.output:
        if line.startswith("Server Time: "):
            try:
                return parsedate_to_datetime(line.removeprefix("Server Time: ").strip()).astimezone(UTC)
            except ValueError:
                return None
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text else None
