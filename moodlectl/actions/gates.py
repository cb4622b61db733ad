"""A site's gate in a batch: who may go in now, and why not. It asks nobody but the clock, and has no lock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from moodlectl.errors import AccessError, Failed, MoodlectlError, OutcomeUnknown, Refused, Unreachable
from moodlectl.limits import Limits, hours_text

SITE_WIDE: Final = frozenset({"no_space", "nospace", "maintenance", "upgrade", "busy"})
"""Codes of refusals that lie with the site as it is now, and not with the course."""

PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""How long a site that is out of reach or cannot now is left alone, in seconds, each time longer."""


def site_wide(error: MoodlectlError) -> bool:
    """Whether nothing happened, and another course would have met with the same."""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.code in SITE_WIDE)


def here() -> datetime:
    """The time of this machine."""
    return datetime.now()


@dataclass
class Gate:
    """How it stands with one site. ``down`` says why no more work goes there in this run; empty while it does."""

    name: str
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    down: str = ""
    resting: str = ""
    in_row: int = 0
    looked: float | None = None
    looking: bool = False
    _busy_since: float | None = None
    _used: Counter[str] = field(default_factory=Counter)
    _until: float = 0.0
    _trouble_since: float | None = None
    _troubles: int = 0

    def opens(self, slot: str) -> float | None:
        """In how many seconds a step of that kind may begin: 0 now, None only when another has ended."""
        if self.down:
            return None
        now = self.clock()
        if now < self._until:
            return self._until - now
        if self.looking or (self.troubled or self._busy_since is not None) and self._used.total():
            return None  # one is let through to see whether the site is well again
        most = self.limits.slots(slot)
        if most is not None and self._used[slot] >= most:
            return None
        moment = here() if self.limits.hours else None
        opening = self.limits.opens(moment) if moment is not None else None
        if moment is not None and opening is not None:  # a minute at a time: clocks are set
            self.resting = f"outside its hours ({hours_text(self.limits.hours)}), from {opening:%H:%M}"
            return min((opening - moment).total_seconds(), 60.0)
        return 0.0

    def enter(self, slot: str) -> None:
        """A step of that kind begins."""
        self._used[slot] += 1
        if not self.troubled and self._busy_since is None:
            self.resting = ""  # its hours have begun

    def leave(self, slot: str) -> None:
        """It has ended."""
        self._used[slot] -= 1

    @property
    def troubled(self) -> bool:
        """Whether the last that was heard of the site is that it cannot now."""
        return self._trouble_since is not None

    def busy(self, why: str, seconds: float, *, hard: bool) -> None:
        """It has too much to do, and is left alone for so long. Given up after its patience where that is ``hard``."""
        now = self.clock()
        self._busy_since = now if self._busy_since is None else self._busy_since
        self._rest(why, seconds)
        self.looking = False
        if hard and now - self._busy_since > self.limits.patience:
            self.down = f"{self.name}: {why}"

    @property
    def insists(self) -> bool:
        """Whether it was left alone for long enough: a step is begun now although there is much to do."""
        return self._busy_since is not None and self.clock() - self._busy_since > self.limits.patience

    def calm(self) -> None:
        """It was asked, and has not too much to do."""
        self.looking, self._busy_since = False, None
        if not self.troubled:
            self.resting = ""

    def _rest(self, why: str, seconds: float) -> None:
        self._until, self.resting = self.clock() + seconds, why

    def well(self) -> None:
        """The site has answered as it should."""
        self.in_row = self._troubles = 0
        self._trouble_since = None
        if self._busy_since is None:
            self.resting = ""

    def trouble(self, error: MoodlectlError) -> None:
        """The site cannot now, and nothing happened: it is left alone for a while, each time longer."""
        now = self.clock()
        if now < self._until:
            return  # another course has met with it already
        if self._trouble_since is None:
            self._trouble_since = now
        pause = PAUSES[min(self._troubles, len(PAUSES) - 1)]
        self._troubles += 1
        if now + pause - self._trouble_since > self.limits.patience:
            self.down = f"{self.name}: {error.message}"
        self._rest(error.message, pause)

    def failed(self, error: MoodlectlError) -> None:
        """A course failed there; after too many in a row nothing more is begun."""
        if isinstance(error, Failed | OutcomeUnknown | AccessError):
            self.in_row += 1
            if self.in_row >= self.limits.failures and not self.down:
                self.down = f"{self.name}: {self.in_row} failures in a row, the last: {error.message}"
