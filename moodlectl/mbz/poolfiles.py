"""The contents that the files of a backup have, whether the backup carries them or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from moodlectl.mbz.archive import ProgressBytes, open_backup
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.recordpaths import Record, RecordPaths
from moodlectl.mbz.seen import Seen
from moodlectl.mbz.sources import Source

_SHA1 = re.compile(r"[0-9a-f]{40}")
_FILES = "files.xml"


@dataclass(frozen=True, slots=True)
class PoolFile:
    """One content: its sha1, its size in bytes, and the name of one of the files that have it."""

    sha1: str
    size: int
    filename: str


def pool_files(
    where: Path | Source, *, progress: ProgressBytes | None = None, limits: Limits = LIMITS
) -> tuple[PoolFile, ...]:
    """Every content that files.xml names, once, in the order of their sha1. Reads only.

    Files that lie in a repository elsewhere have none. Raises Refused for a file that is no whole backup.
    """
    return _SEEN.ask(where, lambda: _read(where, progress, limits), limits, progress)


_SEEN: Seen[tuple[PoolFile, ...]] = Seen()


def _read(where: Path | Source, progress: ProgressBytes | None, limits: Limits) -> tuple[PoolFile, ...]:
    found: dict[str, PoolFile] = {}

    def take(record: Record) -> None:
        sha1, size = record.get("contenthash"), record.get("filesize")
        if record.get("filename") == "." or record.get("repositoryid") or not _SHA1.fullmatch(sha1):
            return
        if size.isdecimal() and len(size) < 16:
            found.setdefault(sha1, PoolFile(sha1, int(size), record.get("filename")))

    with open_backup(where, progress=progress, limits=limits) as archive:
        for member in archive.members():
            if member.name == _FILES and member.kind == "file":
                member.parse(RecordPaths(_FILES, {("files", "file"): take}, limits))
    return tuple(found[sha1] for sha1 in sorted(found))
