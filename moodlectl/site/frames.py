"""The frames between moodlectl and the PHP it runs on a host.
 To the host go ``J <len>\\n<json>`` (a request), ``B <len>\\n<bytes>`` (file content) and ``E 0\\n`` (its
end). From the host come the same ``J`` and ``B`` frames behind a newline and a marker that only this session
knows, so that nothing a site prints can be taken for an answer. What stands between frames is noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

CHUNK: Final = 1 << 20
"""The size of one binary frame and of one read, in bytes."""

LONGEST_JSON: Final = 256 << 20
"""The longest JSON frame that is taken, in bytes; a longer one is a mistake, not an answer."""

_LONGEST_HEAD: Final = 32


class BadFrame(Exception):
    """What came behind the marker is no frame; the stream cannot be read any further."""


class StreamEnded(Exception):
    """The stream ended before the next frame was whole."""


def request(body: Any) -> bytes:
    """One JSON request, as it goes to the host."""
    data = json.dumps(body, ensure_ascii=False).encode()
    return b"J %d\n%b" % (len(data), data)


def content(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """File content as it goes to the host: binary frames of at most 1 MiB, then the end."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), CHUNK):
            piece = view[start : start + CHUNK]
            yield b"B %d\n" % len(piece)
            yield bytes(piece) if len(piece) != len(view) else chunk
    yield b"E 0\n"


class FrameReader:
    """Takes frames out of a stream; what is no frame is handed to ``noise``.

    ``read(n)`` gives up to ``n`` bytes, at least one, and none at the end of the stream. Binary frames come
    out in pieces as they arrive, so a file passes in constant memory and is not searched.
    """

    def __init__(self, read: Callable[[int], bytes], marker: str, noise: Callable[[bytes], None]) -> None:
        self._read = read
        self._noise = noise
        self._needle = b"\n" + marker.encode() + b" "
        self._buffer = b""
        self._left = 0

    def next(self) -> bytes | Any:
        """The next piece of file content (``bytes``), or the next JSON value (anything else).

        Raises StreamEnded, BadFrame.
        """
        while not self._left:
            self._skip_noise()
            kind, length = self._head()
            if kind == b"J":
                return self._json(length)
            self._left = length
        if self._buffer:
            piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        else:
            piece = self._more(min(self._left, CHUNK))
        self._left -= len(piece)
        return piece

    def _more(self, wanted: int) -> bytes:
        data = self._read(wanted)
        if not data:
            if self._buffer:
                self._noise(self._buffer)
                self._buffer = b""
            raise StreamEnded
        return data

    def _skip_noise(self) -> None:
        while (at := self._buffer.find(self._needle)) < 0:
            # The marker may lie across two reads: all but what could be its beginning is noise.
            sure = len(self._buffer) - len(self._needle) + 1
            if sure > 0:
                self._noise(self._buffer[:sure])
                self._buffer = self._buffer[sure:]
            self._buffer += self._more(CHUNK)
        if at:
            self._noise(self._buffer[:at])
        self._buffer = self._buffer[at + len(self._needle) :]

    def _head(self) -> tuple[bytes, int]:
        while (end := self._buffer.find(b"\n", 0, _LONGEST_HEAD)) < 0:
            if len(self._buffer) >= _LONGEST_HEAD:
                raise BadFrame(f"a frame without a head: {self._buffer[:_LONGEST_HEAD]!r}")
            self._buffer += self._more(CHUNK)
        head, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        kind, _, length = head.partition(b" ")
        if kind not in (b"J", b"B") or not length.isdigit():
            raise BadFrame(f"a frame with a wrong head: {head!r}")
        return kind, int(length)

    def _json(self, length: int) -> Any:
        if length > LONGEST_JSON:
            raise BadFrame(f"an answer of {length} bytes, more than {LONGEST_JSON}")
        body = bytearray(self._buffer[:length])
        self._buffer = self._buffer[length:]
        while len(body) < length:
            body += self._more(min(length - len(body), CHUNK))
        try:
            return json.loads(body)
        except ValueError as error:
            raise BadFrame(f"an answer that is not JSON: {error}") from error
