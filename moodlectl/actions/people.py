"""Who is in a backup, and what restoring them on a site would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from moodlectl.actions import inspecting, naming
from moodlectl.errors import UsageError
from moodlectl.site.port import FATES, OnProgress, Site, UserFate, UsersQuestion

if TYPE_CHECKING:
    from moodlectl.mbz import UserRecord


@dataclass(frozen=True)
class Against:
    """The site to restore on, how it is opened, and where there (CATEGORY or COURSE), if that is said."""

    open_site: Callable[[], Site]
    category: str | None = None
    course: str | None = None
    as_user: str | None = None


@dataclass(frozen=True)
class People:
    """Everybody in a backup; ``fates`` has one entry for each where a site was asked, else none."""

    records: Sequence[UserRecord]
    way: inspecting.Way
    fates: Sequence[UserFate] = ()
    same_site: bool | None = None
    source: Literal["site", "web service"] | None = None
    notes: Sequence[str] = ()

    @property
    def totals(self) -> Mapping[str, int]:
        """How many there are, and how many of each fate."""
        counted = Counter(fate.outcome for fate in self.fates)
        totals: dict[str, int] = {"users": len(self.records)}
        totals |= {fate: counted[fate] for fate in FATES if self.source and (fate != "unknown" or counted[fate])}
        return totals


def users(
    open_site: Callable[[], Site], word: str, against: Against | None, on_progress: OnProgress
) -> People:
    """Who is in a backup, and, with ``against``, what restoring each of them there would do. Reads only.

    Raises UsageError, NotFound, AccessError, Unreachable, Refused.
    """
    if against and against.category is not None and against.course is not None:
        raise UsageError("A backup goes into a new course or into one there is: give --new or --merge, not both.")
    origin, records, way = inspecting.people(open_site, word, on_progress)
    if against is None:
        return People(records, way)
    site = against.open_site()
    try:
        category = None if against.category is None else naming.find_category(site, against.category).id
        course = None if against.course is None else naming.find_course(site, against.course).id
        question = UsersQuestion(origin.url, origin.identifier_hash, category, course, against.as_user)
        told = site.users_against(records, question, on_progress)
    finally:
        site.close()
    return People(records, way, told.fates, told.same_site, told.source, told.notes)
