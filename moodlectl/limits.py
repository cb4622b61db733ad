"""How hard a site may be worked in a batch: how much at once, in which hours, and when to let it rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, time, timedelta
from typing import Any


@dataclass(frozen=True)
class Hours:
    """A part of the day, in the time of this machine: ``22:00-06:00`` goes over midnight."""

    begin: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """From ``HH:MM-HH:MM``. Raises ValueError."""
        found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)", text.strip())
        if found is None:
            raise ValueError(text)
        first, second, third, fourth = (int(part) for part in found.groups())
        return cls(time(first, second), time(third, fourth))

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"

    def contains(self, moment: datetime) -> bool:
        """Whether that moment lies in it."""
        now = moment.time().replace(tzinfo=None)
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end

    def opens(self, moment: datetime) -> datetime:
        """When it begins next."""
        begin = moment.replace(hour=self.begin.hour, minute=self.begin.minute, second=0, microsecond=0)
        return begin if begin > moment else begin + timedelta(days=1)


@dataclass(frozen=True)
class Limits:
    """The limits of one site, as ``[sites.NAME.limits]`` in the settings file.

    ``backups``, ``restores`` and ``transfers`` are how many may run at once; ``hours`` when work may begin, always if
    empty. A site is let rest while its ``load`` (of a minute, for each processor) or its waiting ``tasks`` are above
    that, or less than ``free`` bytes are left where it keeps files. After ``failures`` failures in a row, or when it
    is out of reach for ``patience`` seconds, the batch pauses.
    """

    backups: int = 2
    restores: int = 2
    transfers: int = 4
    hours: tuple[Hours, ...] = ()
    load: float = 2.0
    tasks: int = 1000
    free: int = 1_000_000_000
    failures: int = 5
    patience: float = 600.0

    def slots(self, slot: str) -> int | None:
        """How many of that kind at once; None where only the number of jobs limits it."""
        return {"backup": self.backups, "restore": self.restores, "transfer": self.transfers}.get(slot)

    def opens(self, moment: datetime) -> datetime | None:
        """When work may begin, None where it may now."""
        if not self.hours or any(part.contains(moment) for part in self.hours):
            return None
        return min(part.opens(moment) for part in self.hours)

    def as_dict(self) -> dict[str, Any]:
        """What differs from the usual, as the settings file writes it."""
        told: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if value != one.default:
                told[one.name] = [str(part) for part in value] if one.name == "hours" else value
        return told


def hours_text(hours: Sequence[Hours]) -> str:
    """The hours for people: ``22:00-06:00 and 12:00-13:00``."""
    return " and ".join(str(part) for part in hours)
