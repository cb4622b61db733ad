"""Words that several commands share: option types, and records written as the contract's JSON keys."""

from __future__ import annotations

import enum
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli.state import State

if TYPE_CHECKING:
    from moodlectl.actions.verification import Verified
    from moodlectl.site.port import Area, BackupFile, Counts, Course

InStore = Annotated[
    str | None,
    typer.Option("--store", metavar="PLACE", help="The store that store:ENTRY is in, if not the usual one."),
]
BACKUP = "A file, COURSE@AREA[/FILENAME], or store:ENTRY."


class Where(enum.StrEnum):
    """The areas of ``--area``."""

    course = "course"
    private = "private"
    automated = "automated"
    all = "all"


def areas_of(where: Where) -> list[Area]:
    """The areas that an ``--area`` means."""
    from moodlectl.site.port import AREAS

    return [area for area in AREAS if where is Where.all or area == where.value]


With = Annotated[
    list[str], typer.Option("--with", metavar="S,…", help="Settings to switch on, by Moodle's names.")
]
Without = Annotated[list[str], typer.Option("--without", metavar="S,…", help="Settings to switch off.")]
Only = Annotated[list[str], typer.Option("--only", metavar="ITEM", help="Only this section or activity (repeatable).")]
Skip = Annotated[list[str], typer.Option("--skip", metavar="ITEM", help="Not this section or activity (repeatable).")]
NoUserdata = Annotated[
    list[str], typer.Option("--no-userdata", metavar="ITEM", help="This item without people's data (repeatable).")
]
As = Annotated[str | None, typer.Option("--as", metavar="USERNAME", help="Act as this user of the site.")]
Quietly = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]


def state_of(ctx: typer.Context) -> State:
    """The global options of this run."""
    state = ctx.obj
    assert isinstance(state, State)
    return state


def course_record(course: Course) -> dict[str, Any]:
    """A course with the contract's keys."""
    return {
        "id": course.id,
        "shortname": course.shortname,
        "fullname": course.fullname,
        "idnumber": course.idnumber,
        "category": {"id": course.category_id, "name": course.category_name},
        "startdate": course.startdate,
        "visible": course.visible,
        "url": course.url,
    }


def course_row(course: Course) -> dict[str, Any]:
    """A course as a table shows it."""
    return {**course_record(course), "category": course.category_name}


def file_record(file: BackupFile, path: Path | None = None) -> dict[str, Any]:
    """A stored backup with the contract's keys; ``path`` where it lies here after a download."""
    record: dict[str, Any] = {
        "course": {"id": file.course_id, "shortname": file.course_shortname},
        "area": file.area,
        "filename": file.filename,
        "size": file.size,
        "timecreated": file.timecreated,
        "sha1": file.sha1,
        "has_users": file.has_users,
        "url": file.url,
    }
    if file.owner is not None:
        record["owner"] = file.owner
    if file.directory is not None:
        record["directory"] = file.directory
    if path is not None:
        record["path"] = str(path)
    return record


def counts_record(counts: Counts) -> dict[str, Any]:
    """Counts as JSON; what was not counted is left out."""
    record: dict[str, Any] = {"sections": counts.sections, "activities": dict(counts.activities)}
    for name in ("users", "groups", "grade_items", "grades", "questions", "files", "file_bytes"):
        record[name] = getattr(counts, name)
    return {name: value for name, value in record.items() if value is not None}


def verified_record(verified: Verified | None) -> dict[str, Any] | None:
    """How a course was verified with the contract's keys; None where nobody looked."""
    if verified is None:
        return None
    return {
        "ok": verified.ok,
        "differences": list(verified.differences),
        "known": list(verified.known),
        "compared": verified.compared,
        "note": verified.note,
    }


def parse_day(text: str | None) -> date | None:
    """A day written ``YYYY-MM-DD``. Raises UsageError."""
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        from moodlectl.errors import UsageError

        raise UsageError(f"'{text}' is no day.", "Write it as YYYY-MM-DD, such as 2027-02-15.") from error


def parse_rate(text: str) -> float:
    """Bytes a second written ``500K``, ``2M`` or ``1.5G`` (of 1024), as curl's --limit-rate. Raises UsageError."""
    import re

    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)B?(?:/s)?", text.strip(), re.IGNORECASE)
    rate = float(found[1]) * 1024 ** " KMG".index(found[2].upper() or " ") if found else 0.0
    if rate < 1:
        from moodlectl.errors import UsageError

        raise UsageError(f"'{text}' is no rate.", "Write it as bytes a second, such as 500K or 2M.")
    return rate
