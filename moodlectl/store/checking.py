"""Everything in a store read: every content against its sha1, every archive, and what each backup needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from moodlectl import mbz
from moodlectl.errors import Failed, MoodlectlError
from moodlectl.mbz import printable
from moodlectl.site.port import Content, OnProgress, Progress, no_progress
from moodlectl.store import entries
from moodlectl.store.adding import UNTIDY, Intake, entered_anew, needed_by
from moodlectl.store.entries import Entry
from moodlectl.store.locks import Lock, locked, reading
from moodlectl.store.pool import CONTENTS
from moodlectl.store.uses import Uses

if TYPE_CHECKING:
    from moodlectl.store import Store

_CONTENT = re.compile(rf"{CONTENTS}/([0-9a-f]{{2}})/(\1[0-9a-f]{{38}})")
_MOST: Final = 10_000
"""So many holes are named; more are counted."""


@dataclass(frozen=True)
class Hole:
    """A file of a backup whose content is not in the store, or not what it was."""

    entry: Entry
    filename: str
    sha1: str
    damaged: bool

    def __str__(self) -> str:
        name, course = printable(self.filename), printable(self.entry.shortname)
        what = "is damaged" if self.damaged else "is missing"
        return f"{course}, {self.entry.when:%Y-%m-%d}, {self.entry.id[:10]}: the content of {name} {what} ({self.sha1})"

    def as_dict(self) -> dict[str, Any]:
        """The hole as JSON has it."""
        return {
            "backup": self.entry.id,
            "course": self.entry.shortname,
            "file": self.filename,
            "content": self.sha1,
            "damaged": self.damaged,
        }


@dataclass
class Checked:
    """What was found: how much was read, the ``holes``, other ``problems`` (a sentence each), ``repaired`` ones, and
    the contents that belong to no backup, which are no problem."""

    backups: int = 0
    contents: int = 0
    bytes: int = 0
    holes: list[Hole] = field(default_factory=list)
    more_holes: int = 0
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    unclaimed: int = 0
    unclaimed_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether every backup is whole."""
        return not self.holes and not self.problems


def check(store: Store, on_progress: OnProgress = no_progress, *, repair: bool = False) -> Checked:
    """Read everything in the store, and name what is missing or damaged. Reads only.

    ``repair`` takes damaged contents away, so that the next backup that has them brings good ones, and writes lists of
    contents and entries anew that are not what they were. Raises Refused ``store_busy``, Unreachable.
    """
    found = Checked()
    with _held(store, repair=repair) as lock, Uses() as good, Uses() as bad, Uses() as used:
        _contents(store, found, good, bad, on_progress)
        if repair:
            _drop(store, found, bad)
        there, broken = store.look()
        if lock is not None and broken:
            _mend_entries(store, lock, found, broken)
            there, broken = store.look()
        found.problems += [failed.message for failed in broken]
        for number, entry in enumerate(there):
            on_progress(Progress("backups", number, len(there)))
            found.backups += 1
            _backup(store, found, entry, _Pools(good, bad, used, repair))
        for one in good:
            if not used.has(one.sha1):
                found.unclaimed += 1
                found.unclaimed_bytes += one.size
    return found


@contextmanager
def _held(store: Store, *, repair: bool) -> Iterator[Lock | None]:
    if repair:
        with locked(store.place, exclusive=True) as lock:
            yield lock
    else:
        with reading(store.place):
            yield None


def _contents(store: Store, found: Checked, good: Uses, bad: Uses, on_progress: OnProgress) -> None:
    """Hash every content there is."""
    folders = store.pool.folders()
    for number, folder in enumerate(folders):
        on_progress(Progress("contents", number, len(folders), message=f"{found.contents} contents"))
        for one in store.place.found(folder):
            name = _CONTENT.fullmatch(one.name)
            if name is None:
                continue
            digest, size = hashlib.sha1(usedforsecurity=False), 0
            for piece in store.place.read(one.name, one.size):
                digest.update(piece)
                size += len(piece)
            found.contents += 1
            found.bytes += size
            (good if digest.hexdigest() == name[2] else bad).add([Content(name[2], size)])


def _mend_entries(store: Store, lock: Lock, found: Checked, broken: Sequence[Failed]) -> None:
    """Write entries anew that are damaged, where all else of their backups is whole."""
    for failed in broken:
        number = str(failed.details.get("name", "")).split("/")[1:2]
        if failed.code != "store_damaged" or not number:
            continue
        try:
            with store.place.incoming() as folder:
                coming = Intake(store, lock, folder)
                with coming.lean.open("wb") as out:
                    for piece in store.place.read(f"{entries.folder_of(number[0])}/backup.mbz"):
                        out.write(piece)
                listed = [data for _, data in store.place.load([f"{entries.folder_of(number[0])}/contents.txt"])]
                entry = entered_anew(coming, number[0], listed_none=listed == [b""])
        except MoodlectlError:
            continue  # it is told as damaged
        found.repaired.append(f"The entry of {printable(entry.shortname)}, {entry.when:%Y-%m-%d}, was written anew.")


def _drop(store: Store, found: Checked, bad: Uses) -> None:
    for one in bad:
        store.place.remove([f"{CONTENTS}/{one.sha1[:2]}/{one.sha1}"])
        found.repaired.append(f"The damaged content {one.sha1} was taken away; the next backup that has it brings it.")


@dataclass(frozen=True)
class _Pools:
    """What is whole, what is damaged, what backups need; and whether to mend."""

    good: Uses
    bad: Uses
    used: Uses
    repair: bool


def _backup(store: Store, found: Checked, entry: Entry, pools: _Pools) -> None:
    """One backup: its archive, its list, its contents."""
    name = f"{printable(entry.shortname)}, {entry.when:%Y-%m-%d}, {entry.id[:10]}"
    try:
        with store.archive(entry) as lean:
            report = mbz.verify(lean)
            found.problems += [f"{name}: {one.message}" for one in report.problems if one.code not in UNTIDY]
            files = needed_by(lean) if entry.carries else []
    except MoodlectlError as error:
        found.problems.append(f"{name}: {error.message}")
        _by_list(store, found, entry, pools)
        return
    holes = set(entry.holes)
    needed = [Content(one.sha1, one.size) for one in files if one.sha1 not in holes]
    pools.used.add(needed)
    for one in files:
        if one.sha1 not in holes and pools.good.size(one.sha1) != one.size:
            _hole(found, Hole(entry, one.filename, one.sha1, pools.bad.has(one.sha1) or pools.good.has(one.sha1)))
    _list(store, found, entry, needed, repair=pools.repair)


def _hole(found: Checked, hole: Hole) -> None:
    if len(found.holes) < _MOST:
        found.holes.append(hole)
    else:
        found.more_holes += 1


def _by_list(store: Store, found: Checked, entry: Entry, pools: _Pools) -> None:
    """Of a backup whose archive is damaged the list still tells what it needs."""
    try:
        pools.used.add(entries.contents_of(store.place, entry))
    except MoodlectlError as error:
        found.problems.append(error.message)


def _list(store: Store, found: Checked, entry: Entry, needed: list[Content], *, repair: bool) -> None:
    """Whether the list says what the archive needs: by it is known what may be taken away."""
    try:
        if list(entries.contents_of(store.place, entry)) == needed:
            return
        trouble = Failed(f"The list of the contents of {entry.filename} is that of another backup.")
    except MoodlectlError as error:
        trouble = error if isinstance(error, Failed) else Failed(error.message)
    if not repair:
        found.problems.append(trouble.message)
        return
    text = entries.list_text(needed)
    with store.place.incoming() as folder:
        (folder / "contents.txt").write_bytes(text)
        store.place.put([(folder / "contents.txt", entry.listed)])
    mended = replace(
        entry,
        contents=len(needed),
        content_bytes=sum(one.size for one in needed),
        list_sha1=hashlib.sha1(text, usedforsecurity=False).hexdigest(),
    )
    store.place.save(entries.name_of(entry.id), entries.written(mended))
    found.repaired.append(f"The list of the contents of {entry.filename} was written anew.")
