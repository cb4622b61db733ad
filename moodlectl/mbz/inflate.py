"""The one place where a decompressor is chosen: igzip where it is installed, zlib where it is not."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

GZIP = 31
RAW_DEFLATE = -15


class Inflate(Protocol):
    """A running decompression, as zlib's ``decompressobj`` has it."""

    unused_data: bytes
    unconsumed_tail: bytes
    eof: bool

    def decompress(self, data: Any, max_length: int = ..., /) -> bytes: ...


class BadStream(Exception):
    """The compressed bytes are not what they claim to be, or their checksum is wrong."""


@cache
def _engine() -> tuple[str, Callable[[int], Inflate], tuple[type[Exception], ...]]:
    try:
        from isal import isal_zlib
    except ImportError:
        return "zlib", cast("Callable[[int], Inflate]", zlib.decompressobj), (zlib.error,)
    make = cast("Callable[[int], Inflate]", isal_zlib.decompressobj)
    return "igzip", make, cast("tuple[type[Exception], ...]", (isal_zlib.error, zlib.error))


def engine() -> str:
    """Which decompressor is in use: ``igzip`` or ``zlib``. Reads only."""
    return _engine()[0]


class Inflater:
    """Decompresses one gzip member or one raw deflate stream, never more than asked for at a time."""

    def __init__(self, wbits: int) -> None:
        _, make, self._errors = _engine()
        self._object = make(wbits)

    def feed(self, data: bytes, most: int) -> bytes:
        """Up to ``most`` bytes out of ``data``; what was not consumed waits in ``rest``. Raises BadStream."""
        try:
            return self._object.decompress(data, most)
        except self._errors as error:
            raise BadStream(str(error)) from error

    @property
    def rest(self) -> bytes:
        """Bytes given but not consumed: more of this stream, or after its end what follows it."""
        return self._object.unused_data if self._object.eof else self._object.unconsumed_tail

    @property
    def ended(self) -> bool:
        """Whether the stream reached its own end (and, for gzip, its checksum was right)."""
        return self._object.eof
