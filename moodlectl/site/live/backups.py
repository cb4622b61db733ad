"""Stored backups over the shell: found, brought down, deleted, looked into (``php/backups.php``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from moodlectl.errors import Failed
from moodlectl.site.partfile import PartFile
from moodlectl.site.port import AREAS, Area, BackupFile, BackupListing, OnProgress, Progress, no_progress
from moodlectl.site.room import check_room, only_one, room_told
from moodlectl.site.runner import Runner
from moodlectl.site.runningsha1 import BUFFER

log = logging.getLogger(__name__)

Record = Mapping[str, Any]

_PROGRESS_EVERY: Final = 0.1


def listing(
    runner: Runner, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
) -> BackupListing:
    """The backups of a course in those areas, newest first; ``owner`` is whose private area. Reads only.

    The private area belongs to a person: files there count as the course's where their name, or else the
    archive itself, says so; those of which it cannot be told are named in a note.
    """
    params = {"course_id": course_id, "areas": [*areas], "owner": owner}
    return read_listing(runner.ask("backups", params))


def read_listing(reply: Record) -> BackupListing:
    """What ``moodlectl_call_backups`` answered."""
    return BackupListing(
        tuple(read_file(each) for each in reply["files"]), tuple(str(note) for note in reply["notes"])
    )


def read_file(record: Record) -> BackupFile:
    """One backup as ``moodlectl_stored_record`` and ``moodlectl_directory_record`` tell it."""
    return BackupFile(
        course_id=int(record["course_id"]),
        course_shortname=str(record["course_shortname"]),
        area=cast(Area, record["area"]),
        filename=str(record["filename"]),
        size=int(record["size"]),
        timecreated=datetime.fromtimestamp(int(record["timecreated"]), UTC),
        sha1=record["sha1"],
        has_users=record["has_users"],
        url=record["url"],
        owner=record["owner"],
        directory=record["directory"],
        locator=dict(record["locator"]),
    )


def download(
    runner: Runner, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress
) -> BackupFile:
    """Bring a backup down to ``destination``, going on where an earlier attempt stopped. Reads only.

    Until it is whole and checked (size, sha1) it is ``destination.part``. Raises Refused (disk full, somebody
    else at it), NotFound, AccessError, Unreachable, and Failed where it is not what was listed.
    """
    with only_one(destination), room_told(destination), PartFile(destination) as part:
        check_room(destination, file.size)
        if part.offset > file.size:
            part.restart()
        resumed = part.offset > 0
        size, sha1 = _fetch(runner, file, part, on_progress)
        if resumed and (part.offset, part.sha1) != (size, sha1):
            log.warning("What was pieced together is not %s; downloading it anew.", file.filename)
            part.restart()
            size, sha1 = _fetch(runner, file, part, on_progress)
        if file.sha1 is not None and file.sha1 != sha1:
            part.restart()
            raise Failed(
                f"{file.filename} has another content on the site than was listed.",
                "List the backups again, then download it again.",
                code="changed",
                details={"listed_sha1": file.sha1, "sha1": sha1, "size": size},
            )
        part.finish(size=size, sha1=sha1)
    return replace(file, size=size, sha1=sha1)


def _fetch(runner: Runner, file: BackupFile, part: PartFile, on_progress: OnProgress) -> tuple[int, str]:
    """The bytes from the part's end on; size and sha1 of the whole as the host knows them."""
    told = 0.0

    def take(piece: bytes) -> None:
        nonlocal told
        # In the part's own few buffers: what another thread hashes and frees lets the memory of this one grow.
        for start in range(0, len(piece), BUFFER):
            some = piece[start : start + BUFFER]
            buffer = part.buffer()
            buffer[: len(some)] = some
            part.write(buffer[: len(some)])
        now = time.monotonic()
        if now - told >= _PROGRESS_EVERY or part.offset >= file.size:
            told = now
            on_progress(Progress("download", part.offset, file.size, "bytes"))

    params = {"locator": dict(file.locator), "offset": part.offset}
    reply = runner.fetch("fetch_backup", params, take)
    return int(reply["size"]), str(reply["sha1"])


def delete(runner: Runner, file: BackupFile) -> None:
    """Delete one stored backup and see that it is gone. Writes to the site.

    Raises NotFound, AccessError, Refused (not of this course) and Failed.
    """
    runner.do("delete_backup", {"locator": dict(file.locator)})


def manifest_xml(runner: Runner, file: BackupFile) -> bytes:
    """The backup's ``moodle_backup.xml``, read where it lies. Reads only. Raises Failed where it has none."""
    pieces: list[bytes] = []
    runner.fetch("manifest", {"locator": dict(file.locator)}, pieces.append)
    return b"".join(pieces)
