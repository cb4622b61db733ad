"""Backups given back: the archive out of the store, and with its contents put in again an ordinary ``.mbz``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from moodlectl import mbz
from moodlectl.errors import Failed, MoodlectlError
from moodlectl.mbz.lean import write_whole
from moodlectl.site.port import Content
from moodlectl.store.adding import UNTIDY
from moodlectl.store.entries import Entry, sha1_of
from moodlectl.store.places import Folder, Place, elsewhere, lost, room

if TYPE_CHECKING:
    from moodlectl.mbz.archive import ProgressBytes
    from moodlectl.store import Store


@contextmanager
def brought(place: Place, entry: Entry) -> Iterator[Path]:
    """The archive without files as a file of this machine, its sha1 checked. Reads only."""
    if isinstance(place, Folder):
        path = place.path / entry.archive
        if not path.is_file():
            raise lost(entry.archive, place.address)
        _check(path, entry)
        yield path
        return
    with elsewhere() as folder:
        path = folder / "lean.mbz"
        with room(folder), path.open("wb") as out:
            for piece in place.read(entry.archive, entry.lean_size):
                out.write(piece)
        _check(path, entry)
        yield path


def _check(path: Path, entry: Entry) -> None:
    if sha1_of(path) != entry.lean_sha1:
        raise Failed(
            f"The archive of {entry.filename} in the store is damaged.",
            "Other backups of that course are not touched by it: 'moodlectl store verify' tells which are whole.",
            code="store_damaged",
            details={"backup": entry.id, "name": entry.archive},
        )


def write(
    store: Store, entry: Entry, target: Path, progress: ProgressBytes | None = None, *, allow_holes: bool = False
) -> mbz.VerifyReport:
    """Write the backup as an ordinary one to a file that is not there yet, and read it once more to its last byte.

    Raises Failed where something of it is lost or damaged, with the name of the file that has it, and Refused
    ``no_space``; nothing stays then.
    """
    part = target.with_name(target.name + ".part")
    try:
        with room(target.parent), store.archive(entry) as lean, part.open("wb") as out:
            if entry.carries:
                _whole(store, entry, lean, out, progress)
            else:
                with lean.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
        report = mbz.verify(part, progress)
        if not report.ok and not (allow_holes and entry.holes):
            _refuse(report, entry)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return report


def _whole(store: Store, entry: Entry, lean: Path, out: BinaryIO, progress: ProgressBytes | None) -> None:
    names: dict[str, str] = {}

    def content(one: mbz.PoolFile) -> Iterator[bytes]:
        names[one.sha1] = one.filename
        try:
            yield from store.pool.read(Content(one.sha1, one.size))
        except MoodlectlError as error:
            if error.code in ("store_lost", "content_damaged"):
                error.message = f"{one.filename} of {entry.filename}: {error.message}"
                error.details["file"] = one.filename
            raise

    write_whole(lean, out, content, progress=progress, without=frozenset(entry.holes))


def _refuse(report: mbz.VerifyReport, entry: Entry) -> None:
    problems = [one for one in report.problems if one.code not in UNTIDY]
    if problems:
        raise Failed(
            f"What came of {entry.filename} is not whole: {problems[0].message}",
            "'moodlectl store verify' tells what is wrong with the store.",
            code="not_whole",
            details={"problems": [one.as_dict() for one in problems[:50]]},
        )
