"""The stream in which one file pool sends contents to another: ``php/contents.php`` speaks the same.

For each content: its sha1 in hexadecimal, one letter (``R`` as it is, ``Z`` deflated, ``M`` not there), its size in 16
hexadecimal digits, then pieces, each a length in 8 hexadecimal digits and so many bytes, the last of length 0.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from moodlectl.errors import Failed
from moodlectl.site.port import Content

HEAD: Final = 57
_HEAD: Final = re.compile(rb"([0-9a-f]{40})([RZM])([0-9a-f]{16})")
_MOST: Final = 16 << 20
_OUT: Final = 1 << 20
_WORTH: Final = 0.8
END: Final = b"%08x" % 0


def packed(content: Content, pieces: Iterable[bytes] | None, *, pack: bool = False) -> Iterator[bytes]:
    """One content as it stands in the stream; None where the pool has not got it. The first piece tells what packs."""
    if pieces is None:
        yield content.sha1.encode() + b"M" + b"%016x" % 0 + END
        return
    coming = iter(pieces)
    first = next(coming, b"")
    packs = pack and len(first) > 512 and len(zlib.compress(first, 1)) < _WORTH * len(first)
    yield content.sha1.encode() + (b"Z" if packs else b"R") + b"%016x" % content.size
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS) if packs else None
    for piece in (first, *coming) if not packs else _deflated(first, coming, deflate):
        if piece:
            yield b"%08x" % len(piece) + piece
    yield END


def _deflated(first: bytes, rest: Iterator[bytes], deflate: zlib._Compress | None) -> Iterator[bytes]:
    assert deflate is not None
    yield deflate.compress(first)
    for piece in rest:
        yield deflate.compress(piece)
    yield deflate.flush()


@dataclass
class Arriving:
    """One content of a stream: ``there`` is whether the sender had it. ``pieces`` are to be read before the next."""

    content: Content
    there: bool
    pieces: Iterator[bytes]


def arriving(stream: Iterable[bytes]) -> Iterator[Arriving]:
    """The contents of a stream, one after the other. Raises Failed where it is cut short or is no such stream."""
    reader = _Reader(stream)
    while (head := reader.read(HEAD, may_end=True)) is not None:
        found = _HEAD.fullmatch(head)
        if found is None:
            raise Failed("What arrived is no stream of contents.", "Try again.", code="protocol")
        content = Content(found[1].decode(), int(found[3], 16))
        pieces = _pieces(reader, content.size, packed=found[2] == b"Z")
        yield Arriving(content, found[2] != b"M", pieces)
        for _ in pieces:
            pass  # whatever was not read


def _pieces(reader: _Reader, size: int, *, packed: bool) -> Iterator[bytes]:
    """The bytes of one content, unpacked, some more than its size at most: what it says it has, its hash tells."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if packed else None
    given = 0
    while length := int(reader.need(8), 16):
        if length > _MOST:
            raise Failed("What arrived is no stream of contents.", "Try again.", code="protocol")
        piece = reader.need(length)
        if inflate is None:
            yield piece
            continue
        try:
            while piece and given <= size:
                out = inflate.decompress(piece, _OUT)
                given += len(out)
                yield out
                piece = inflate.unconsumed_tail
        except zlib.error:
            yield b""  # its hash will not be right
    if inflate and given <= size:
        yield inflate.flush()


class _Reader:
    """Exactly so many bytes of a stream, in whatever pieces it comes."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = iter(stream)
        self._buffer = bytearray()

    def read(self, length: int, *, may_end: bool = False) -> bytes | None:
        while len(self._buffer) < length:
            piece = next(self._stream, None)
            if piece is None:
                if may_end and not self._buffer:
                    return None
                raise Failed("The contents that arrived are cut short.", "Try again.", code="contents_cut")
            self._buffer += piece
        found = bytes(self._buffer[:length])
        del self._buffer[:length]
        return found

    def need(self, length: int) -> bytes:
        return self.read(length) or b""
