"""A job and its items as they are printed."""

from __future__ import annotations

from typing import Any

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
