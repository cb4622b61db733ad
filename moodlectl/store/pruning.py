"""Backups taken away by rule: which may go is judged, shown and asked; then they go, and what nobody needs any more.

At every moment a backup that has its entry has all it needs: entries go first, contents after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from moodlectl.errors import UsageError
from moodlectl.site.port import OnProgress, Progress, no_progress
from moodlectl.store import entries
from moodlectl.store.entries import Entry
from moodlectl.store.locks import Lock, locked
from moodlectl.store.places import INCOMING
from moodlectl.store.pool import CONTENTS
from moodlectl.store.uses import Uses

if TYPE_CHECKING:
    from moodlectl.store import Store

GRACE: Final = timedelta(days=1)
"""How long what belongs to no backup is left alone: it may belong to one that is coming."""

_PARTS = (r"(?:(\d{1,4})y)?", r"(?:(\d{1,4})m)?", r"(?:(\d{1,5})w)?", r"(?:(\d{1,6})d)?", r"(?:(\d{1,6})h)?")
_SPAN = re.compile("".join(_PARTS), re.IGNORECASE | re.ASCII)
_CONTENT = re.compile(rf"{CONTENTS}/([0-9a-f]{{2}})/(\1[0-9a-f]{{38}})")
_STEP = 500


@dataclass(frozen=True)
class Span:
    """A length of time in the calendar's own measures; ``text`` is how it was written."""

    months: int
    rest: timedelta
    text: str

    def before(self, moment: datetime) -> datetime:
        """The moment that long before another: a year before 29 February is 28 February."""
        years, month = divmod(moment.year * 12 + moment.month - 1 - self.months, 12)
        if years < 1:
            return datetime.min.replace(tzinfo=moment.tzinfo)
        for day in (moment.day, 30, 29, 28):
            try:
                return moment.replace(year=years, month=month + 1, day=min(day, moment.day)) - self.rest
            except (ValueError, OverflowError):
                continue
        return datetime.min.replace(tzinfo=moment.tzinfo)

    def __bool__(self) -> bool:
        return bool(self.months or self.rest)


def parse_span(text: str) -> Span:
    """A length of time written ``1y``, ``6m``, ``2w``, ``30d``, ``12h``, or several together. Raises UsageError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise UsageError(
            f"'{text}' is no length of time.", "Write it as 1y, 6m, 2w, 30d or 12h, or together: 1y6m."
        )
    years, months, weeks, days, hours = (int(part or 0) for part in found.groups())
    return Span(years * 12 + months, timedelta(weeks=weeks, days=days, hours=hours), text.strip())


YEAR: Final = Span(12, timedelta(), "1y")


@dataclass(frozen=True)
class Keep:
    """The rule: of each course the ``last`` so many backups, and all made ``within`` that time of its newest one."""

    last: int = 2
    within: Span = YEAR

    def check(self) -> None:
        """Raise UsageError for a rule that would leave a course without any backup."""
        if self.last < 0 or (not self.last and not self.within):
            raise UsageError(
                "That would keep nothing at all.",
                "Keep at least one of each course: --keep-last 1, or --keep-within 1d.",
            )


@dataclass(frozen=True)
class Judged:
    """One backup: why it is kept, nothing where it may go."""

    entry: Entry
    reasons: tuple[str, ...]


def judge(found: Iterable[Entry], keep: Keep, now: datetime | None = None) -> list[Judged]:
    """What the rule says of each backup, course by course, newest first. Reads only.

    Backups of one course with and without people, or of a part of it, are no stand-in for one another. A backup from
    the future, by a clock that went wrong, is kept, and nothing is judged by it.
    """
    keep.check()
    now = now or datetime.now(UTC)
    judged = list[Judged]()
    for same in _by_course(found):
        past = [one for one in same if one.when <= now]
        last = {one.id for one in past[: keep.last]}
        edge = keep.within.before(past[0].when) if past and keep.within else None
        for one in same:
            future = one.when > now
            within = edge is not None and not future and edge <= one.when
            why = (("from the future", future), ("last", one.id in last), (f"within {keep.within.text}", within))
            judged.append(Judged(one, tuple(reason for reason, so in why if so)))
    return judged


def _by_course(found: Iterable[Entry]) -> list[list[Entry]]:
    """The backups of each course, newest first; a course that was renamed is still the same."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for one in found:
        course = one.course_id if one.course_id is not None else one.shortname
        key = (one.site_hash or one.site_url, course, one.kind, one.has_users, one.carries)
        groups.setdefault(key, []).append(one)
    for same in groups.values():
        same.sort(key=lambda one: (one.when, one.added, one.id), reverse=True)
    return sorted(groups.values(), key=lambda same: (same[0].shortname, same[0].id))


@dataclass(frozen=True)
class Freed:
    """What goes, or went: backups, and the bytes that no other backup needs."""

    backups: int
    contents: int
    bytes: int


def would_free(store: Store, going: Sequence[Entry], staying: Sequence[Entry]) -> Freed:
    """What taking those away would free. Reads only. Raises Failed ``store_damaged`` where that cannot be known."""
    with Uses() as needed, Uses() as alone:
        for one in staying:
            needed.add(entries.contents_of(store.place, one))
        for one in going:
            alone.add(each for each in entries.contents_of(store.place, one) if not needed.has(each.sha1))
        count, size = alone.total()
    return Freed(len(going), count, size + sum(one.lean_size for one in going))


def take_away(store: Store, going: Sequence[Entry], on_progress: OnProgress = no_progress) -> Freed:
    """Take those backups out of the store, and whatever no backup needs any more. Writes to the store.

    What came since they were chosen stays. Killed at any moment it leaves no backup that lacks something; what is left
    over goes the next time. Raises Refused ``store_busy``, and Failed ``store_damaged`` before anything has gone.
    """
    with locked(store.place, exclusive=True) as lock:
        chosen = {one.id for one in going}
        there = store.entries()  # nobody adds now; one that cannot be read stops here
        gone = [one for one in there if one.id in chosen]
        with Uses() as needed, Uses() as loose:
            for one in there:
                (loose if one.id in chosen else needed).add(entries.contents_of(store.place, one))
            lock.check()
            store.place.remove([entries.name_of(one.id) for one in gone])
            count, size = _sweep(store, lock, needed, loose, on_progress)
            _sweep_archives(store, lock, chosen)
    return Freed(len(gone), count, size + sum(one.lean_size for one in gone))


def _sweep(store: Store, lock: Lock, needed: Uses, loose: Uses, on_progress: OnProgress) -> tuple[int, int]:
    """Remove what is needed by none: what the backups that went had, and what has long belonged to none."""
    count = size = 0
    folders = store.pool.folders()
    for number, folder in enumerate(folders):
        on_progress(Progress("sweep", number, len(folders)))
        lock.check()
        going = list[str]()
        for one in store.place.found(folder):
            found = _CONTENT.fullmatch(one.name)
            if found is None or needed.has(found[2]):
                continue
            if loose.has(found[2]) or _is_old(one.modified):
                going.append(one.name)
                count, size = count + 1, size + one.size
        for some in _some(going):
            lock.check()
            store.place.remove(some)
    return count, size


def _sweep_archives(store: Store, lock: Lock, chosen: set[str]) -> None:
    """Remove what lies beside no entry: of the backups that went, and of those that never came to be."""
    there = set(entries.numbers(store.place))
    going = []
    for one in store.place.found(entries.BACKUPS):
        number = one.name.split("/")[1]
        if number not in there and (number in chosen or _is_old(one.modified)):
            going.append(one.name)
    going += [one.name for one in store.place.found(INCOMING) if _is_old(one.modified)]
    lock.check()
    store.place.remove(going)


def _is_old(modified: datetime) -> bool:
    return datetime.now(UTC) - modified > GRACE


def _some(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), _STEP):
        yield names[begin : begin + _STEP]
