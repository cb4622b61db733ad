"""The practice site's file pool, content by content: what is put there ahead is entered in a table of its own."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from moodlectl.mbz.lean import write_hollowed
from moodlectl.site.contents import Arriving, arriving, packed
from moodlectl.site.port import BackupFile, Content, ContentsTaken, HeldContent, OnProgress, Progress, no_progress
from moodlectl.site.practice.people import Actor
from moodlectl.site.practice.store import CHUNK, Store

_TABLE = """CREATE TABLE IF NOT EXISTS held (
    contenthash TEXT PRIMARY KEY, filesize INTEGER NOT NULL, since INTEGER NOT NULL)"""
_CLAIMS = "SELECT 1 FROM files WHERE contenthash = ?"


class PracticePool:
    """The pool of one practice site; see ``port.Pool``."""

    def __init__(self, store: Store, actor: Actor) -> None:
        actor.need("moodle/site:config", None, "move the contents of files by their hash", "no_capability")
        self._store = store

    def of_course(self, course_id: int, *, users: bool = False) -> Sequence[Content]:
        """The contents of a course's files, once each; nobody here has a picture. Reads only."""
        del users
        rows = self._store.rows(
            "SELECT DISTINCT contenthash, filesize FROM files WHERE course = ? AND filesize > 0 ORDER BY contenthash",
            course_id,
        )
        return [Content(row["contenthash"], row["filesize"]) for row in rows]

    def lacking(self, contents: Sequence[Content]) -> Sequence[Content]:
        """Those the pool has not got, or not whole. Reads only."""
        return [one for one in contents if not self._has(one)]

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        """Those contents as one stream. Reads only."""
        for one in contents:
            if not self._has(one):
                for piece in packed(one, None):
                    receive(piece)
                continue
            with self._store.content_path(one.sha1).open("rb") as file:
                for piece in packed(one, _read(file), pack=pack):
                    receive(piece)

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken:
        """Put a stream of contents into the pool, each checked by its sha1. Writes to the site."""
        del more  # its disk is small, and nobody else's
        count, size, missing, refused = 0, 0, list[str](), list[str]()
        total = sum(one.size for one in coming)
        for one in arriving(stream):
            if not one.there:
                missing.append(one.content.sha1)
            elif self._enter(one):
                count, size = count + 1, size + one.content.size
                on_progress(Progress("contents", size, total, "bytes"))
            else:
                refused.append(one.content.sha1)
        return ContentsTaken(count, size, tuple(missing), tuple(refused))

    def backup_without_files(self, file: BackupFile, receive: Callable[[bytes], None]) -> bool:
        """A stored backup without its file pool. Reads only."""
        path = self._store.content_path(str(file.sha1))
        with path.open("rb") as archive:
            if archive.read(2) != b"\x1f\x8b":
                return False
        with tempfile.TemporaryFile() as lean:
            write_hollowed(path, lean)
            lean.seek(0)
            for piece in _read(lean):
                receive(piece)
        return True

    def held(self) -> Sequence[HeldContent]:
        """What was put there ahead, oldest first. Reads only."""
        if not self._store.rows("SELECT 1 FROM sqlite_master WHERE name = 'held'"):
            return []
        rows = self._store.rows("SELECT contenthash, filesize, since FROM held ORDER BY since, rowid")
        return [
            HeldContent(
                row["contenthash"],
                row["filesize"],
                datetime.fromtimestamp(row["since"], UTC),
                self._claimed(row["contenthash"]),
            )
            for row in rows
        ]

    def release(self, sha1s: Sequence[str], *, unclaimed: bool = False) -> int:
        """Let go of those that files have claimed, or of all. Writes to the site."""
        count = 0
        with self._store.transaction():
            self._store.run(_TABLE)
            for sha1 in sha1s:
                if unclaimed or self._claimed(sha1):
                    count += self._store.run("DELETE FROM held WHERE contenthash = ?", sha1)
        self._store.sweep()
        return count

    def _has(self, one: Content) -> bool:
        return self._store.has_content(one.sha1, one.size)

    def _claimed(self, sha1: str) -> bool:
        return bool(self._store.rows(_CLAIMS, sha1))

    def _enter(self, one: Arriving) -> bool:
        """Write it aside, check it, and enter it; whether it was what it was called."""
        digest, size = hashlib.sha1(usedforsecurity=False), 0
        with self._store.incoming() as file:
            for piece in one.pieces:
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            if digest.hexdigest() != one.content.sha1 or size != one.content.size:
                return False
            with self._store.transaction():
                self._store.run(_TABLE)
                self._store.run("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", one.content.sha1, size, int(time.time()))
                damaged = self._store.content_path(one.content.sha1)
                if damaged.is_file() and damaged.stat().st_size != size:
                    damaged.unlink()
                self._store.adopt(Path(file.name), one.content.sha1)
        return True


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
