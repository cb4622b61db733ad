"""What happens in a batch, told one by one to whoever shows it: a live table, a log of cron's, a stream of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

What = Literal["job", "item", "step", "progress", "site"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job, to one of its items, to a step of an item, or to a site.

    ``state`` is: for a job ``started``, ``resumed``, and how it ended; for an item as in the ledger; for a step
    ``started``, ``done``, ``failed``, ``again`` (tried once more, ``message`` says why) or ``planned`` (put back); for
    a site ``resting``, ``working`` or ``down``. ``facts`` are what was noted of an item that has ended. ``progress``
    has ``done`` of ``total`` in ``unit`` (``bytes`` or ``steps``) of a ``phase``.
    """

    what: What
    state: str
    job: int = 0
    seq: int = 0
    course: str = ""
    step: str = ""
    site: str = ""
    message: str = ""
    attempt: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON Lines have it: only what it says something about."""
        record: dict[str, Any] = {"at": self.at.isoformat(timespec="milliseconds"), "event": self.what}
        for name in ("state", "job", "seq", "course", "step", "site", "message", "attempt"):
            if value := getattr(self, name):
                record[name] = value
        for name in ("facts", "progress", "totals"):
            if value := getattr(self, name):
                record[name] = dict(value)
        return record


OnEvent = Callable[[Event], None]


def nobody(_: Event) -> None:
    """The listener where nobody listens."""
