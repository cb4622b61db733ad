"""Records by the hundred thousand, kept out of memory between the reading and the showing of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

_IN_MEMORY = 1024 * 1024


class Spool:
    """Lists of plain values, added once and read in order as often as wanted; in memory as long as they are few.

    What does not fit lies in a temporary file without a name, which nobody else can open and which is gone with
    the process.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, mode="w+", encoding="ascii")  # noqa: SIM115
        self._count = 0

    def add(self, record: list[Any]) -> None:
        """One more, behind all others."""
        self._file.write(json.dumps(record) + "\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[Any]]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        """Forget all of them."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
