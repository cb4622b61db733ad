"""Bytes on their way to the disk while more arrive, so that making them durable at the end costs little."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP = 16 << 20
_sync = getattr(os, "fdatasync", os.fsync)


class Writeback:
    """Has the system write a growing file to the disk, every 16 MiB, in a thread of its own.

    It only hastens what fsync does at the end, which also reports any trouble: trouble here is left to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = _STEP
        self._turns: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def reached(self, offset: int) -> None:
        """Tell how far the file has grown."""
        if offset < self._next:
            return
        self._next = offset + _STEP
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="writeback", daemon=True)
            self._thread.start()
        self._turns.put(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._turns.put(False)
            self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY)
            try:
                while self._turns.get():
                    _sync(handle)
            finally:
                os.close(handle)
