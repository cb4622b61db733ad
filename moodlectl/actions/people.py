"""Who is in a backup, and what restoring them on a site would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

from moodlectl.actions import inspecting, naming
from moodlectl.actions.spool import Spool
from moodlectl.errors import UsageError
from moodlectl.site.port import FATES, OnProgress, Person, Site, UserFate, UsersAgainst, UsersQuestion

if TYPE_CHECKING:
    from moodlectl.mbz import UserRecord

_AT_ONCE = 1000
_KEPT = attrgetter("id", "username", "email", "firstname", "lastname")
_FATE = attrgetter("outcome", "rule", "account_id", "account_username")


@dataclass(frozen=True)
class Against:
    """The site to restore on, how it is opened, and where there (CATEGORY or COURSE), if that is said."""

    open_site: Callable[[], Site]
    category: str | None = None
    course: str | None = None
    as_user: str | None = None


class Shown(NamedTuple):
    """One person of a backup, as far as they are shown, and their fate where a site was asked."""

    id: int
    username: str
    email: str
    firstname: str
    lastname: str
    fate: UserFate | None = None


@dataclass
class People:
    """Everybody in a backup, to be gone through as often as wanted, and closed at the end.

    However many they are, they are not held in memory.
    """

    way: inspecting.Way = "here"
    same_site: bool | None = None
    source: Literal["site", "web service"] | None = None
    notes: Sequence[str] = ()
    _spool: Spool = field(default_factory=Spool)
    _fates: Counter[str] = field(default_factory=Counter)

    def add(self, people: Iterable[Person], told: UsersAgainst | None) -> None:
        """More of them, each with a fate where a site was asked."""
        if told is None:
            for person in people:
                self._spool.add([*_KEPT(person)])
            return
        self.same_site, self.source, self.notes = told.same_site, told.source, told.notes
        for person, fate in zip(people, told.fates, strict=True):
            self._fates[fate.outcome] += 1
            self._spool.add([*_KEPT(person), *_FATE(fate)])

    def __iter__(self) -> Iterator[Shown]:
        for values in self._spool:
            fate = UserFate(*values[5:]) if values[5:] else None
            yield Shown(values[0], values[1], values[2], values[3], values[4], fate)

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def totals(self) -> Mapping[str, int]:
        """How many there are, and how many of each fate."""
        totals: dict[str, int] = {"users": len(self)}
        if self.source:
            totals |= {fate: self._fates[fate] for fate in FATES if fate != "unknown" or self._fates[fate]}
        return totals

    def close(self) -> None:
        """Forget them."""
        self._spool.close()


def users(
    open_site: Callable[[], Site], word: str, against: Against | None, on_progress: OnProgress
) -> People:
    """Who is in a backup, and, with ``against``, what restoring each of them there would do. Reads only.

    Raises UsageError, NotFound, AccessError, Unreachable, Refused.
    """
    if against and against.category is not None and against.course is not None:
        raise UsageError("A backup goes into a new course or into one there is: give --new or --merge, not both.")
    with inspecting.people(open_site, word, on_progress) as (origin, records, way):
        found = People(way)
        if against is None:
            found.add(records, None)
            return found
        with closing(against.open_site()) as site:
            category = None if against.category is None else naming.find_category(site, against.category).id
            course = None if against.course is None else naming.find_course(site, against.course).id
            question = UsersQuestion(origin.url, origin.identifier_hash, category, course, against.as_user)
            _ask(site, records, question, found)
    return found


def _ask(site: Site, records: Iterator[UserRecord], question: UsersQuestion, found: People) -> None:
    """Asks for some hundred at a time; also for none, because the answer says more than the fates."""
    batch = list(islice(records, _AT_ONCE))
    while True:
        found.add(batch, site.users_against(batch, question))
        batch = list(islice(records, _AT_ONCE))
        if not batch:
            return
