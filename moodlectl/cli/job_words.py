"""A job and its items as they are printed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from moodlectl import ledger
from moodlectl.cli import output, streams
from moodlectl.cli.state import Output, State
from moodlectl.errors import UsageError
from moodlectl.ledger import Item
from moodlectl.ledger_batch import Reader

COLUMNS = ["course", "action", "state", "step", "source", "target", "started", "ended", "message"]
CSV_COLUMNS = [*COLUMNS, "attempts", "facts"]
SPARE = ["started", "ended", "source", "action", "target", "step"]
FOLDED = 100
"""So many items at most are shown in a table that rich draws."""
STATES = ("planned", "started", "done", "failed", "skipped", "unknown", "pending")


def item_record(item: Item) -> dict[str, Any]:
    """One item as scripts read it."""
    told: dict[str, Any] = {
        "course": item.course,
        "action": item.action,
        "state": item.state,
        "attempts": item.attempts,
        "source": item.source,
        "target": item.target,
        "started": item.started,
        "ended": item.ended,
        "message": item.message,
        "facts": dict(item.facts),
    }
    if item.step is not None:
        told["step"] = item.step
    return told


def row(item: Item) -> dict[str, Any]:
    """One item as a line of a table: a new course by its address, a trouble with its remedy."""
    told = item_record(item)
    told.pop("facts")
    told["target"] = item.facts.get("url") or item.target
    error = item.facts.get("error")
    if isinstance(error, dict) and error.get("hint") and item.message:
        told["message"] = f"{item.message} {error['hint']}"
    if item.state in ("done", "skipped"):
        told["step"] = None
    else:
        told["step"] = item.step
    return told


def columns(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The columns of a table of those rows, without the step where none is at one."""
    return COLUMNS if any(row.get("step") for row in rows) else [name for name in COLUMNS if name != "step"]


def head(reader: Reader) -> dict[str, Any]:
    """What is told of a job itself."""
    job = reader.job
    told: dict[str, Any] = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "site": job.site,
        "url": job.url,
        "created": job.created,
        "ended": job.ended,
        "who": job.who,
        "options": {name: value for name, value in job.options.items() if value not in (None, [], {}, False)},
    }
    if job.message:
        told["message"] = job.message
    if job.running:
        told["running"] = {"process": job.process, "since": job.since or job.created}
    if not job.url:
        told.pop("url")
    return told


def print_record(state: State, reader: Reader, only: str | None = None, limit: int | None = None) -> None:
    """A job as scripts read it, item by item as they come out of the ledger: with ``-o json`` one object with all its
    items, unless a state or limit is asked for, and ``totals`` of all in any case; with ``-o csv`` a line an item."""
    items = map(item_record, reader.items(only, limit=limit))
    if state.output is Output.csv:
        streams.print_csv(items, CSV_COLUMNS)
    else:
        streams.print_record(head(reader), "items", items, {"totals": reader.totals()})


def print_table(state: State, reader: Reader, states: Sequence[str | None], limit: int | None = None) -> bool:
    """The items of those states as a table; whether there were any. Of however many none is held in memory, but for a
    few in a terminal, whose messages are folded between words."""

    def rows() -> Iterator[dict[str, Any]]:
        return (row(item) for one in states for item in reader.items(one, limit=limit))

    first = list(islice(rows(), FOLDED + 1))
    if not first:
        return False
    if sys.stdout.isatty() and len(first) <= FOLDED:
        output.emit(state, first, columns(first), spare=SPARE)
    else:
        names = columns(rows())
        streams.print_table(state, lambda: ([one.get(name) for name in names] for one in rows()), names)
    return True


# --- which jobs are listed, and what the audit log says ---------------------------------------------------------------

_AGO = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_JOB_STATES = ("started", "done", "failed", "unknown", "paused", "cancelled")


def which(
    site: str | None, course: str | None, kind: str | None, state: str | None, since: str | None
) -> ledger.Which:
    """Which jobs a command line means. Raises UsageError."""
    if state is not None and state not in _JOB_STATES:
        raise UsageError(f"'{state}' is no state of a job.", f"States are: {', '.join(_JOB_STATES)}.")
    return ledger.Which(site, kind, state, _since(since), _course(course))


def _course(word: str | None) -> str | int | None:
    from moodlectl.actions import naming

    if word is None:
        return None
    ref = naming.parse_course(word)
    if ref.field == "shortname":
        return ref.value
    if ref.field == "id":
        return int(ref.value)
    raise UsageError(
        f"'{word}' cannot be looked for in the record of jobs.", "Give the course's short name, id:NUMBER or address."
    )


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
    if ago:
        return datetime.now(UTC) - timedelta(**{_AGO[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise UsageError(f"'{text}' is no time.", "Write a day as 2027-02-15, or how long ago: 12h, 7d, 4w.") from error


LOG_COLUMNS = ["at", "who", "event", "item", "detail"]


def print_log(state: State, number: int) -> None:
    """Every entry of the audit log about one job, oldest first; there are many of each item. Raises NotFound."""
    ledger.job_head(number)
    if state.output is Output.json:
        streams.print_list(_log(number))
    elif state.output is Output.csv:
        streams.print_csv(_log(number), LOG_COLUMNS)
    else:
        streams.print_table(state, lambda: (list(one.values()) for one in _log(number)), LOG_COLUMNS)


def _log(number: int) -> Iterator[dict[str, Any]]:
    for entry in ledger.audit(job=number):
        yield {
            "at": entry["at"],
            "who": entry["who"],
            "event": entry["event"],
            "item": entry["seq"] or None,
            "detail": json.dumps(entry["detail"], ensure_ascii=False),
        }
