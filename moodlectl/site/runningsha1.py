"""The sha1 of a file while it arrives, worked out beside the arriving: neither waits for the other."""

from __future__ import annotations

import hashlib
import queue
import threading

_ALONE = 8 << 20  # what is smaller is not worth a thread
_WAITING = 8  # pieces that may wait, so that memory stays small where hashing is slower than the network
_BUFFERS = 4
BUFFER = 1 << 19


class RunningSha1:
    """Takes the pieces in turn. From 8 MiB on a thread of its own hashes them; ``hexdigest`` waits for it.

    Pieces may lie in a buffer it lends: the same few buffers go round, which spares the system the making of new
    memory for every piece.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha1(usedforsecurity=False)
        self._taken = 0
        self._pieces: queue.Queue[bytes | memoryview | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._made = 0
        self._lent: memoryview | None = None

    def buffer(self) -> memoryview:
        """A buffer to fill, whose beginning is then given to ``update``; waits until one is free.

        One that was lent and never came back, since nothing arrived, is lent again.
        """
        if self._lent is None:
            if self._made < _BUFFERS and self._free.empty():
                self._made += 1
                self._lent = memoryview(bytearray(BUFFER))
            else:
                self._lent = self._free.get()
        return self._lent

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece; a buffer that was lent is free again once it is hashed."""
        self._taken += len(piece)
        if self._lent is not None and isinstance(piece, memoryview) and piece.obj is self._lent.obj:
            self._lent = None
        if self._thread is None and self._taken > _ALONE:
            self._thread = threading.Thread(target=self._run, name="sha1", daemon=True)
            self._thread.start()
        if self._thread is None:
            self._hashed(piece)
        else:
            self._pieces.put(piece)

    def hexdigest(self) -> str:
        """The sha1 of all that was taken so far, in hex."""
        self._pieces.join()
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread, when what was taken has been hashed."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            piece = self._pieces.get()
            if piece is not None:
                self._hashed(piece)
            self._pieces.task_done()
            if piece is None:
                return

    def _hashed(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        if isinstance(piece, memoryview):
            self._free.put(memoryview(piece.obj))
