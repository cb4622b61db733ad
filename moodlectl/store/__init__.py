"""The local store: backups kept as XML-only archives, and every content of their files kept once, under its sha1.

``places`` is where a store lies; ``pool`` its contents, ``entries`` its backups, ``locks`` who is at work on it;
``adding`` takes backups in, ``exporting`` gives them back, ``pruning`` takes them away, ``checking`` reads everything.

::

    moodlectl-store.json        that it is one
    backups/ID/entry.json       written last: with it the backup is there, without it it is not
    backups/ID/backup.mbz       the backup without the contents of its files
    backups/ID/contents.txt     those contents, a line each
    contents/ab/abcd…           each content once, as it is
    incoming/ locks/            what is under way
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from moodlectl.errors import Failed, NotFound, Refused
from moodlectl.store import entries
from moodlectl.store.entries import Entry
from moodlectl.store.locks import LOCKS
from moodlectl.store.places import INCOMING, Place, place_of
from moodlectl.store.pool import StorePool

MARK: Final = "moodlectl-store.json"
FORMAT: Final = 1
SCHEME: Final = "store:"
"""What a backup of the store is written with where other backups are named, too."""

_NUMBER = re.compile(r"[0-9a-f]{6,40}")
_DAY = re.compile(r"(?P<course>.+)@(?P<day>\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Store:
    """A store that is there. ``pool`` are its contents."""

    place: Place
    pool: StorePool

    @property
    def address(self) -> str:
        """What to call it."""
        return self.place.address

    def entry(self, number: str) -> Entry | None:
        """The backup of that id, None where it is not there. Reads only."""
        return next(entries.load(self.place, [number]), None)

    def entries(self) -> list[Entry]:
        """All backups, newest first. Reads only. Raises Failed ``store_damaged``."""
        found, broken = self.look()
        if broken:
            raise broken[0]
        return found

    def look(self) -> tuple[list[Entry], list[Failed]]:
        """All backups that can be read, newest first, and what is wrong with the others. Reads only."""
        found, broken = list[Entry](), list[Failed]()
        names = [entries.name_of(number) for number in entries.numbers(self.place)]
        for name, data in self.place.load(names):
            if data is None:
                continue
            try:
                found.append(entries.read(name, data))
            except Failed as failed:
                broken.append(failed)
        return sorted(found, key=lambda one: (one.when, one.added, one.id), reverse=True), broken

    def find(self, word: str) -> Entry:
        """The backup a person means: its id or the beginning of it, ``COURSE`` for the newest of a course, or
        ``COURSE@YYYY-MM-DD`` for the newest made up to that day.

        COURSE is a short name or ``id:42``; all of them may be written as ``store:ENTRY``, too. Reads only. Raises
        NotFound, with what there is.
        """
        found, _ = self.look()
        word = word.removeprefix(SCHEME)
        if _NUMBER.fullmatch(word):
            same = [one for one in found if one.id.startswith(word)]
            if len(same) > 1:
                raise _several(word, same)
            if same:
                return same[0]
        course, day = word, None
        if (match := _DAY.fullmatch(word)) is not None:
            course, day = match["course"], match["day"]
        same = [one for one in found if is_of(one, course)]
        if day is not None:
            same = [one for one in same if one.when < _end_of(day)]
        if not same:
            raise _none(self, word, found)
        if len({(one.site_hash, one.site_url, one.course_id) for one in same}) > 1:
            raise _several(word, same)
        return same[0]

    @contextmanager
    def archive(self, entry: Entry) -> Iterator[Path]:
        """The archive without files as a file of this machine, until the end of the block. Reads only.

        Raises Failed ``store_damaged`` where it is not what it was.
        """
        from moodlectl.store.exporting import brought

        with brought(self.place, entry) as path:
            yield path


def open_store(address: str, *, create: bool = False) -> Store:
    """The store at an address; ``create`` makes one where there is nothing yet.

    Reads only, but for that. Raises ConfigError, NotFound ``no_store``, Refused for a folder with other things in it.
    """
    place = place_of(address)
    [(_, mark)] = place.load([MARK])
    if mark is None:
        if not create:
            raise NotFound(
                f"There is no store in {place.address}.",
                "'moodlectl store add FILE' makes one, 'backup create COURSE --download store:' does, too. Another "
                "place is named with --store, MOODLECTL_STORE or 'store' in the settings.",
                code="no_store",
            )
        _refuse_other_things(place)
        place.save(MARK, json.dumps({"moodlectl-store": FORMAT}).encode())
    elif _format(mark) != FORMAT:
        raise Failed(
            f"The store in {place.address} was made by a later moodlectl, or is none.",
            "Use that one, or a newer one.",
            code="store_too_new",
        )
    return Store(place, StorePool(place))


def is_store(path: Path) -> bool:
    """Whether a folder of this machine is a store. Reads only."""
    return (path / MARK).is_file()


def _refuse_other_things(place: Place) -> None:
    for name, _ in place.below():
        if name in (LOCKS, INCOMING):
            continue
        raise Refused(
            f"{place.address} is no store, and not empty: {name} lies there.",
            "Name a folder of its own for the store. If it was one, its mark is lost: write "
            f'{{"moodlectl-store": {FORMAT}}} into {MARK} there.',
            code="not_a_store",
        )


def _format(mark: bytes) -> int | None:
    try:
        number = json.loads(mark)["moodlectl-store"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def is_of(entry: Entry, word: str) -> bool:
    """Whether a backup is of the course that a COURSE names: a short name, or ``id:42``."""
    if word.startswith("id:"):
        return str(entry.course_id) == word.removeprefix("id:")
    return entry.shortname == word.removeprefix("shortname:")


def _end_of(day: str) -> datetime:
    """The end of a day, where we are."""
    try:
        begin = datetime.combine(date.fromisoformat(day), datetime.min.time()).astimezone()
    except ValueError as error:
        raise NotFound(f"{day} is no day.", "Write it as COURSE@YYYY-MM-DD.", code="backup_unknown") from error
    return (begin + timedelta(days=1)).astimezone(UTC)


def _several(word: str, found: list[Entry]) -> NotFound:
    told = [f"{one.id[:10]}  {one.shortname}  {one.when.date()}  {one.site_url}" for one in found[:20]]
    return NotFound(
        f"'{word}' names {len(found)} backups of the store: {'; '.join(told[:3])}.",
        "Give the id of one of them: 'moodlectl store list' shows them.",
        code="ambiguous_backup",
        details={"backups": told},
    )


def _none(store: Store, word: str, found: list[Entry]) -> NotFound:
    courses = sorted({one.shortname for one in found})
    return NotFound(
        f"The store {store.address} has no backup '{word}'.",
        "'moodlectl store list' shows those there are. A backup is named by its id, COURSE, or COURSE@YYYY-MM-DD.",
        code="backup_unknown",
        details={"courses": courses[:50]},
    )
