"""A job and its items as they are printed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from moodlectl import ledger
from moodlectl.errors import UsageError
from moodlectl.ledger import Item
from moodlectl.ledger_batch import Reader

COLUMNS = ["course", "action", "state", "step", "source", "target", "started", "ended", "message"]
SPARE = ["started", "ended", "source", "action", "target", "step"]
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


def columns(rows: list[dict[str, Any]]) -> list[str]:
    """The columns of a table of those rows, without the step where none is at one."""
    return [name for name in COLUMNS if name != "step" or any(row.get("step") for row in rows)]


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


def record(reader: Reader, state: str | None = None, limit: int | None = None) -> dict[str, Any]:
    """A job with its items, all of them unless a state or limit is asked for; ``totals`` are of all in any case."""
    items = [item_record(item) for item in reader.items(state, limit=limit)]
    return {**head(reader), "items": items, "totals": reader.totals()}


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


def log(number: int) -> list[dict[str, Any]]:
    """Every entry of the audit log about one job, oldest first. Reads only. Raises NotFound."""
    ledger.job_head(number)
    return [
        {
            "at": entry["at"],
            "who": entry["who"],
            "event": entry["event"],
            "item": entry["seq"] or None,
            "detail": json.dumps(entry["detail"], ensure_ascii=False),
        }
        for entry in ledger.audit(job=number)
    ]
