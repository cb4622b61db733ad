"""The bytes of one answer as they arrive, put straight into buffers that are used again and again."""

from __future__ import annotations

import time
from http.client import HTTPResponse

import urllib3

_LEAST = 1 << 14
_QUICK = 0.02  # seconds in which a full piece arrives: the next one may be larger
_SLOW = 0.2  # in which it does not: smaller ones show progress sooner, and less is lost when the connection breaks


class Arriving:
    """The body of a streamed response. Large pieces where the network is fast, small ones where it is slow.

    What http.client reads (it knows lengths and chunks) goes into the caller's buffer without a copy; an encoded
    body is decoded by urllib3 and copied. Reading raises what those raise.
    """

    def __init__(self, raw: urllib3.HTTPResponse, *, encoded: bool) -> None:
        self._raw = raw
        inner = getattr(raw, "_fp", None)  # not there, or another thing, in a test or a later urllib3
        self._inner = inner if isinstance(inner, HTTPResponse) and not encoded else None
        self._encoded = encoded
        self._size = _LEAST

    def first(self, size: int) -> bytes:
        """The first ``size`` bytes, fewer only where there are no more.

        Through urllib3, which so knows how many come: an answer that is no file is read to its end by it.
        """
        return self._raw.read(size, self._encoded)

    def into(self, buffer: memoryview) -> memoryview:
        """Fill a buffer from its beginning; returns the part that was filled, empty at the end of the body."""
        if self._inner is None:
            piece = self._raw.read1(len(buffer), decode_content=self._encoded)
            buffer[: len(piece)] = piece
            return buffer[: len(piece)]
        began = time.monotonic()
        filled = self._inner.readinto(buffer[: self._size])
        took = time.monotonic() - began
        if took < _QUICK:
            self._size = min(2 * self._size, len(buffer))
        elif took > _SLOW:
            self._size = max(self._size // 2, _LEAST)
        return buffer[:filled]
