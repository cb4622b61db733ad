"""Backups taken in: their contents first, each that lacks, then the archive without them, and last the entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moodlectl import mbz
from moodlectl.errors import NotFound, Refused
from moodlectl.mbz.lean import Carried, write_lean
from moodlectl.site.port import Content
from moodlectl.store import entries
from moodlectl.store.entries import Entry
from moodlectl.store.locks import Lock, locked
from moodlectl.store.places import room
from moodlectl.store.pool import EMPTY, Batch

if TYPE_CHECKING:
    from moodlectl.mbz.archive import ProgressBytes
    from moodlectl.mbz.checks import Problem, VerifyReport
    from moodlectl.store import Store

# What is no reason to refuse a backup: Moodle does not read what it does not know.
UNTIDY: Final = frozenset({"unexpected", "unclaimed", "index", "container", "more"})


@dataclass(frozen=True)
class Origin:
    """The file a backup came as: its sha1, its name, and its bytes, None where it came without its files."""

    sha1: str
    filename: str
    size: int | None = None


@dataclass(frozen=True)
class Added:
    """A backup that is in the store; ``new`` is False for one that was there already."""

    entry: Entry
    new: bool


@dataclass
class Intake:
    """A backup on its way in: the lock that is held, a folder for what is on its way, and what came new with it."""

    store: Store
    lock: Lock
    folder: Path
    came: int = 0
    _wanted: dict[str, int] = field(default_factory=dict)

    @property
    def lean(self) -> Path:
        """Where the archive without files is to be written."""
        return self.folder / "lean.mbz"

    def take_apart(self, where: Path, progress: ProgressBytes | None = None) -> Carried:
        """Write a backup's archive without files, and put those of its contents in that lack. Writes to the store.

        Raises Refused for what is no whole backup, and where there is no room.
        """
        found = list[Carried]()
        contents = self.folder / "contents"
        contents.mkdir()
        with room(self.folder), self.lean.open("wb") as out, Batch(self.store.place, contents) as batch:

            def look(carried: Carried) -> None:
                found.append(carried)
                wanted = [Content(sha1, size) for sha1, size in carried.contents.items()]
                self._wanted = {one.sha1: one.size for one in self.store.pool.lacking(wanted)}
                self.store.pool.check_room(sum(self._wanted.values()))

            def content(sha1: str, chunks: Iterator[memoryview]) -> None:
                if sha1 not in self._wanted:
                    for _ in chunks:
                        pass  # its sha1 is checked all the same
                elif batch.add(Content(sha1, self._wanted[sha1]), chunks):
                    self.came += self._wanted[sha1]
                else:
                    for _ in chunks:
                        pass

            write_lean(where, out, content, progress=progress, on_found=look)
        return found[0]


@contextmanager
def intake(store: Store) -> Iterator[Intake]:
    """Begin to take a backup in. Writes to the store nothing that counts before ``finish``."""
    with locked(store.place, exclusive=False) as lock, store.place.incoming() as folder:
        yield Intake(store, lock, folder)


def add_file(
    store: Store, path: Path, origin: Origin, *, allow: Iterable[str] = (), progress: ProgressBytes | None = None
) -> Added:
    """Take a backup file in, tgz or zip. Writes to the store.

    Raises Refused for what ``backup verify`` calls not whole; ``allow`` ``not-whole`` takes what is left of it.
    """
    there = store.entry(origin.sha1)
    if there is not None:
        return Added(there, new=False)
    with intake(store) as coming:
        carried = coming.take_apart(path, progress)
        return finish(coming, origin, carries=carried.include_files, allow=allow)


def needed_by(lean: Path) -> list[mbz.PoolFile]:
    """The contents that a backup without files needs to be whole. Reads only."""
    return [one for one in mbz.pool_files(lean) if one.sha1 != EMPTY]


def finish(coming: Intake, origin: Origin, *, carries: bool, allow: Iterable[str] = ()) -> Added:
    """Make what was taken in a backup of the store, when all that it needs is there. Writes to the store.

    Raises Refused ``not_whole`` with what is wrong or missing, by the names of the files.
    """
    store, lean = coming.store, coming.lean
    report = mbz.verify(lean)
    files = needed_by(lean) if carries else []
    lacking = store.pool.lacking([Content(one.sha1, one.size) for one in files])
    holes = tuple(sorted(one.sha1 for one in lacking))
    _refuse(origin, report, _named(files, holes), frozenset(allow))
    contents = [Content(one.sha1, one.size) for one in files if one.sha1 not in set(holes)]
    listed = coming.folder / "contents.txt"
    with room(coming.folder):
        listed.write_bytes(entries.list_text(contents))
    entry = _entry(coming, origin, carries=carries, contents=contents, holes=holes, listed=listed)
    coming.lock.check()
    there = store.entry(entry.id)
    if there is not None:
        return Added(there, new=False)  # somebody else has brought the same meanwhile
    store.place.put([(lean, entry.archive), (listed, entry.listed)])
    coming.lock.check()
    store.place.save(entries.name_of(entry.id), entries.written(entry))
    try:
        store.pool.must_have(contents)
    except NotFound:
        store.place.remove([entries.name_of(entry.id)])
        raise
    return Added(entry, new=True)


def entered_anew(coming: Intake, number: str, *, listed_none: bool) -> Entry:
    """The entry of a backup whose own is damaged, made of its archive, which lies at ``coming.lean``.

    What the file was called, and its size, is lost with it; what it lacked when it came is told as missing from now on.
    ``listed_none``: its list had no contents, as that of a backup made without files. Writes to the store. Raises
    Refused where the archive is not whole.
    """
    store, origin = coming.store, Origin(number, f"backup-{number[:10]}.mbz")
    _refuse(origin, mbz.verify(coming.lean), (), frozenset())
    contents = [Content(one.sha1, one.size) for one in needed_by(coming.lean)]
    carries = not listed_none or not store.pool.lacking(contents)
    contents = contents if carries else []
    listed = coming.folder / "contents.txt"
    listed.write_bytes(entries.list_text(contents))
    entry = _entry(coming, origin, carries=carries, contents=contents, holes=(), listed=listed)
    coming.lock.check()
    store.place.put([(listed, entry.listed)])
    store.place.save(entries.name_of(number), entries.written(entry))
    return entry


def _entry(
    coming: Intake, origin: Origin, *, carries: bool, contents: Sequence[Content], holes: tuple[str, ...], listed: Path
) -> Entry:
    told = mbz.inspect(coming.lean)
    size = sum(one.size for one in contents)
    lean = coming.lean.stat().st_size
    course = told.course
    return Entry(
        id=origin.sha1,
        filename=origin.filename,
        added=datetime.now(UTC),
        date=told.backup_date,
        course_id=course.id if course else None,
        shortname=course.shortname if course else "",
        fullname=course.fullname if course else "",
        site_url=told.original_site.url or "",
        site_hash=told.original_site.identifier_hash or "",
        kind=told.type,
        release=told.moodle_release or "",
        has_users=bool(told.settings.get("users")),
        size=lean + size if origin.size is None else origin.size,
        lean_size=lean,
        lean_sha1=entries.sha1_of(coming.lean),
        contents=len(contents),
        content_bytes=size,
        list_sha1=entries.sha1_of(listed),
        came=coming.came + lean,
        carries=carries,
        holes=holes,
    )


def _refuse(origin: Origin, report: VerifyReport, names: Sequence[str], allow: frozenset[str]) -> None:
    """Raise Refused for a backup with something wrong, unless that is only that contents lack and it is allowed."""
    problems: list[Problem] = [one for one in report.problems if one.code not in UNTIDY]
    if problems:
        raise Refused(
            f"{origin.filename} is not whole: {problems[0].message}",
            "'moodlectl backup verify' tells all that is wrong with it. Get it again, or make another.",
            code=problems[0].code,
            details={"problems": [one.as_dict() for one in problems[:50]]},
        )
    if names and "not-whole" not in allow:
        raise Refused(
            f"{origin.filename} is not whole: it lacks the contents of {len(names)} files: {', '.join(names[:3])}.",
            "Get it again, or make another. To keep what is left of it: --allow not-whole",
            code="not_whole",
            details={"files": list(names[:200])},
        )


def _named(files: Sequence[mbz.PoolFile], holes: Sequence[str]) -> list[str]:
    wanted = set(holes)
    return [one.filename for one in files if one.sha1 in wanted]
