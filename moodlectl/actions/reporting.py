"""A job accounted for to the last course: what was done, how long it took, what failed and why. Reads only."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moodlectl.ledger import Item, Job
from moodlectl.ledger_batch import Reader

SLOWEST = 10


@dataclass(frozen=True)
class Account:
    """One course in a report: ``seconds`` it was worked on, without what it waited; ``size`` of its backup in bytes."""

    item: Item
    seconds: float
    size: int
    differences: tuple[str, ...]
    warnings: tuple[str, ...]
    code: str = ""
    hint: str = ""
    step: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of the new course; empty where there is none, or it is no web address."""
        url = str(self.item.facts.get("url") or "")
        return url if url.startswith(("https://", "http://")) else ""

    @property
    def links(self) -> int:
        """How many links to the old site were found in it."""
        return _number(self.item.facts.get("links_to_old_site"))


@dataclass(frozen=True)
class Summary:
    """The whole job in a few figures, with the courses that need to be looked at."""

    job: Job
    totals: Mapping[str, int]
    began: datetime
    ended: datetime
    bytes: int
    worked: float
    slowest: tuple[Account, ...]
    troubles: tuple[Account, ...]
    different: tuple[Account, ...]
    links: int

    @property
    def seconds(self) -> float:
        """From the first course's beginning to the last one's end."""
        return max((self.ended - self.began).total_seconds(), 0.0)

    def as_dict(self) -> dict[str, Any]:
        """For printing."""
        return {
            "id": self.job.id,
            "kind": self.job.kind,
            "state": self.job.state,
            "site": self.job.site,
            "who": self.job.who,
            "began": self.began,
            "ended": self.ended if not self.job.running else None,
            "seconds": round(self.seconds, 1),
            "bytes": self.bytes,
            "totals": dict(self.totals),
            "slowest": [{"course": one.item.course, "seconds": round(one.seconds, 1)} for one in self.slowest],
            "troubles": [
                {
                    "course": one.item.course,
                    "state": one.item.state,
                    "step": one.step or None,
                    "message": one.item.message,
                    "hint": one.hint or None,
                    "code": one.code or None,
                }
                for one in self.troubles
            ],
            "differences": {one.item.course: list(one.differences) for one in self.different},
            "links_to_old_site": self.links,
        }


def summary(reader: Reader) -> Summary:
    """The job in figures, in one pass over its items."""
    slowest: list[tuple[float, int, Account]] = []
    troubles, different, size, worked, links = [], [], 0, 0.0, 0
    began, ended = None, None
    seconds = durations(reader)
    for item in reader.items():
        one = account(item, seconds.get(item.seq))
        size, worked, links = size + one.size, worked + one.seconds, links + one.links
        began = min(filter(None, (began, item.started)), default=None)
        ended = max(filter(None, (ended, item.ended)), default=None)
        if one.seconds:
            heapq.heappush(slowest, (one.seconds, item.seq, one))
            if len(slowest) > SLOWEST:
                heapq.heappop(slowest)
        if item.state in ("failed", "unknown"):
            troubles.append(one)
        if one.differences:
            different.append(one)
    job = reader.job
    return Summary(
        job=job,
        totals=reader.totals(),
        began=began or job.created,
        ended=ended or job.ended or job.created,
        bytes=size,
        worked=worked,
        slowest=tuple(one for _, _, one in sorted(slowest, reverse=True)),
        troubles=tuple(troubles),
        different=tuple(different),
        links=links,
    )


def account(item: Item, seconds: float | None = None) -> Account:
    """One course as a report tells of it; without ``seconds`` from its beginning to its end."""
    facts = item.facts
    if seconds is None:
        seconds = (item.ended - item.started).total_seconds() if item.started and item.ended else 0.0
    error = facts.get("error")
    error = error if isinstance(error, Mapping) else {}
    return Account(
        item=item,
        seconds=max(seconds, 0.0),
        size=_number(facts.get("bytes") or facts.get("size")),
        differences=_texts(facts.get("differences")),
        warnings=_texts(facts.get("warnings")),
        code=str(error.get("code") or facts.get("code") or ""),
        hint=str(error.get("hint") or ""),
        step=str(error.get("step") or item.step or ""),
        details=error.get("details") or {},
    )


def durations(reader: Reader) -> dict[int, float]:
    """How many seconds the steps of each item took, waiting left out; empty for a job without steps."""
    found: dict[int, float] = {}
    for stage in reader.stages():
        if stage.started is not None:
            end = datetime.fromisoformat(stage.ended) if stage.ended else datetime.now(UTC)
            took = (end - datetime.fromisoformat(stage.started)).total_seconds()
            found[stage.seq] = found.get(stage.seq, 0.0) + max(took, 0.0)
    return found


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
