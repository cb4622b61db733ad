"""Where the time goes: every step that takes some, counted while somebody wants to know (``--profile``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

MOODLE: Final = "Moodle"
OURS: Final = "moodlectl"
NETWORK: Final = "network"
CODE_CACHE: Final = "compiled code kept"

# Steps of the host (php/spent.php) that Moodle's own code fills.
_MOODLES: Final = frozenset({"backup by Moodle", "pre-check by Moodle", "restore by Moodle"})
_ROADS: Final = frozenset({"receive the backup"})


@dataclass
class Step:
    """One kind of step: how often, seconds, and of these how many database round trips and seconds in them."""

    name: str
    whose: str
    times: int = 0
    seconds: float = 0.0
    queries: int = 0
    database: float = 0.0


class Spent:
    """The account of one run; several threads may write in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[tuple[str, str], Step] = {}
        self._began = time.monotonic()
        self.session: set[str] = set()

    def add(self, name: str, seconds: float, whose: str = OURS, *, queries: int = 0, database: float = 0.0) -> None:
        """Count one step."""
        with self._lock:
            step = self._steps.setdefault((name, whose), Step(name, whose))
            step.times += 1
            step.seconds += seconds
            step.queries += queries
            step.database += database

    @property
    def steps(self) -> list[Step]:
        """All steps, the longest first."""
        with self._lock:
            return sorted(self._steps.values(), key=lambda step: -step.seconds)

    @property
    def elapsed(self) -> float:
        """Seconds since the account was opened; steps side by side may sum to more."""
        return time.monotonic() - self._began


_account: Spent | None = None


def keep() -> Spent:
    """Begin to keep an account, until the process ends."""
    global _account
    _account = Spent()
    return _account


def kept() -> Spent | None:
    """The account, None where nobody keeps one."""
    return _account


def add(name: str, seconds: float, whose: str = OURS) -> None:
    """Count one step, if somebody keeps an account."""
    if _account is not None:
        _account.add(name, seconds, whose)


def used(word: str) -> None:
    """Note that this was used to be faster, if somebody keeps an account."""
    if _account is not None:
        _account.session.add(word)


@contextmanager
def on(name: str, whose: str = OURS) -> Iterator[None]:
    """Count what runs inside as one step."""
    began = time.monotonic()
    try:
        yield
    finally:
        add(name, time.monotonic() - began, whose)


def of_host(answer: Mapping[str, Any], seconds: float) -> None:
    """Count the steps that the host told with its answer; what is missing of ``seconds`` was spent on the way."""
    if _account is None:
        return
    told = answer.get("spent") or []
    for step in told:
        name = str(step["step"])
        whose = MOODLE if name in _MOODLES else NETWORK if name in _ROADS else OURS
        _account.add(
            name, float(step["seconds"]), whose, queries=int(step["queries"]), database=float(step["database"])
        )
    _account.session.update(str(word) for word in answer.get("session") or [])
    _account.add("on the way to the host", max(0.0, seconds - sum(float(step["seconds"]) for step in told)), NETWORK)
