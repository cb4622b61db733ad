"""A file that lies elsewhere and is read in pieces: a zip needs its directory and some members, not all of it."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO, cast

from moodlectl.errors import Unreachable

Fetch = Callable[[int, int], bytes]
"""``fetch(offset, length)``: exactly those bytes, fewer only at the end of the file."""

BLOCK = 64 * 1024
_MOST_AHEAD = 16  # blocks
_KEPT = 64  # blocks


class PieceFile(io.RawIOBase):
    """A read-only file over ``fetch``; who reads straight on is given more and more at a time, 1 MiB at most.

    ``begun`` are the first bytes, already here. ``fetched`` counts the bytes that were asked for.
    """

    def __init__(self, size: int, fetch: Fetch, begun: bytes = b"") -> None:
        super().__init__()
        self._size, self._fetch = size, fetch
        self._at = 0
        self._ahead, self._next = 1, -1
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.fetched = len(begun)
        for number in range(len(begun) // BLOCK):
            self._blocks[number] = begun[number * BLOCK : (number + 1) * BLOCK]
        if len(begun) == size and size % BLOCK:
            self._blocks[size // BLOCK] = begun[size // BLOCK * BLOCK :]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that are asked for unless the file ends. Raises what ``fetch`` raises."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        parts = []
        while self._at < end:
            number, skip = divmod(self._at, BLOCK)
            part = self._block(number)[skip : skip + end - self._at]
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        # Where reading goes straight on it will go on.
        self._ahead = min(self._ahead * 2, _MOST_AHEAD) if number == self._next else 1
        begin = number * BLOCK
        length = min(self._ahead * BLOCK, self._size - begin)
        data = self._fetch(begin, length)
        if len(data) != length:
            raise Unreachable(
                f"Of a piece of {length} bytes {len(data)} arrived.",
                "Try again; if it goes on, download the backup.",
                code="truncated",
            )
        self.fetched += length
        for step in range(-(-length // BLOCK)):
            self._blocks[number + step] = data[step * BLOCK : (step + 1) * BLOCK]
        self._next = number + self._ahead
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]


class Pieces:
    """A backup that is read in pieces. ``name`` is what to call it, ``size`` its bytes."""

    hollow = False

    def __init__(self, name: str, size: int, fetch: Fetch, head: bytes) -> None:
        self.name, self.size = name, size
        self._fetch, self._head = fetch, head
        self.fetched = len(head)

    def head(self) -> bytes:
        """Its first bytes, already here."""
        return self._head

    def open(self) -> BinaryIO:
        """The file, which can be sought."""
        return cast(BinaryIO, PieceFile(self.size, self._fetch, self._head))
