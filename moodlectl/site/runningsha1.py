"""The sha1 of a file while it arrives, worked out beside the arriving: neither waits for the other."""

from __future__ import annotations

import hashlib
import queue
import threading

_ALONE = 8 << 20  # what is smaller is not worth a thread
_WAITING = 8  # pieces that may wait, so that memory stays small where hashing is slower than the network


class RunningSha1:
    """Takes the pieces in turn. From 8 MiB on a thread of its own hashes them; ``hexdigest`` waits for it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha1(usedforsecurity=False)
        self._taken = 0
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        self._taken += len(piece)
        if self._thread is None and self._taken > _ALONE:
            self._thread = threading.Thread(target=self._run, name="sha1", daemon=True)
            self._thread.start()
        if self._thread is None:
            self._hash.update(piece)
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
                self._hash.update(piece)
            self._pieces.task_done()
            if piece is None:
                return
