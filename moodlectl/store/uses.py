"""Which contents backups need, by the million: kept in a temporary file, not in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from moodlectl.site.port import Content

_STEP = 10_000


class Uses:
    """A set of contents with their sizes, as large as it may be; gone at the end of the block."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name
        self._db.execute("PRAGMA cache_size = -16000")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE content (sha1 BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID")

    def add(self, contents: Iterable[Content]) -> None:
        """Those, too."""
        rows = ((bytes.fromhex(one.sha1), one.size) for one in contents)
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO content VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def has(self, sha1: str) -> bool:
        """Whether that one is among them."""
        return self.size(sha1) is not None

    def size(self, sha1: str) -> int | None:
        """Its size, None where it is not among them."""
        row = self._db.execute("SELECT size FROM content WHERE sha1 = ?", (bytes.fromhex(sha1),)).fetchone()
        return None if row is None else int(row[0])

    def total(self) -> tuple[int, int]:
        """How many they are, and their bytes."""
        count, size = self._db.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM content").fetchone()
        return int(count), int(size)

    def __iter__(self) -> Iterator[Content]:
        for sha1, size in self._db.execute("SELECT sha1, size FROM content ORDER BY sha1"):
            yield Content(bytes(sha1).hex(), int(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._db.close()
