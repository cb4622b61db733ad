"""Stored backups of a live site, read where they lie: a zip in pieces, a tgz hollowed on the host."""

from __future__ import annotations

import io
import logging
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

from moodlectl.errors import AccessError, Unreachable
from moodlectl.site.live import storedfiles
from moodlectl.site.pieces import BLOCK, Pieces
from moodlectl.site.port import BackupFile, Inside, OnProgress
from moodlectl.site.runner import Runner
from moodlectl.site.webservice import WebService

_log = logging.getLogger(__name__)
_GZIP = b"\x1f\x8b"


def inside(
    file: BackupFile, webservice: WebService | None, runner: Runner | None, on_progress: OnProgress
) -> Inside | None:
    """The backup to be read where it lies: over HTTP ranges or, on the host, in pieces or hollowed.

    None where only a download is left: a tgz without a shell, a server that sends files whole. Reads only.
    """
    pieces = _over_http(file, webservice, runner)
    if pieces is not None and not pieces.head().startswith(_GZIP):
        return pieces
    if runner is None:
        return None
    if pieces is None:
        pieces = _on_host(file, runner)
    return HollowBackup(file, runner, pieces.head(), on_progress) if pieces.head().startswith(_GZIP) else pieces


def _over_http(file: BackupFile, webservice: WebService | None, runner: Runner | None) -> Pieces | None:
    if webservice is None or not (file.url or file.locator.get("url")):
        return None
    from moodlectl.site import ranges

    try:
        return ranges.pieces(webservice, file.filename, storedfiles.address_of(webservice, file), file.size)
    except (AccessError, Unreachable) as trouble:
        if runner is None:
            raise
        _log.debug("read over the shell instead: %s", trouble.message)
        return None


def _on_host(file: BackupFile, runner: Runner) -> Pieces:
    def fetch(offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        params = {"locator": dict(file.locator), "offset": offset, "length": length}
        runner.fetch("backup_piece", params, parts.append)
        return b"".join(parts)

    return Pieces(file.filename, file.size, fetch, fetch(0, min(BLOCK, file.size)))


class HollowBackup:
    """A tgz that the host unpacks and sends on without the contents of its file pool (``php/inside.php``)."""

    hollow = True

    def __init__(self, file: BackupFile, runner: Runner, head: bytes, on_progress: OnProgress) -> None:
        self.name, self.size = file.filename, file.size
        self._file, self._runner, self._head, self._on_progress = file, runner, head, on_progress

    def head(self) -> bytes:
        """Its first bytes as they lie there."""
        return self._head

    def open(self) -> BinaryIO:
        """The hollowed backup as it comes from the host, from its start. Whoever opens it closes it."""
        return cast(BinaryIO, _Coming(self._send))

    def _send(self, take: _Take) -> None:
        params = {"locator": dict(self._file.locator)}
        self._runner.fetch("backup_hollow", params, take, on_progress=self._on_progress)


class _GivenUp(Exception):
    """Nobody reads on."""


class _Take:
    """Where a sender puts its pieces; waits while enough are there, ends the sender when nobody reads on."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(16)
        self.closed = threading.Event()

    def __call__(self, piece: bytes) -> None:
        self.put(bytes(piece))

    def put(self, piece: bytes | BaseException | None) -> None:
        while not self.closed.is_set():
            try:
                self.pieces.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue
        raise _GivenUp


class _Coming(io.RawIOBase):
    """A stream that a thread fills; its trouble is raised where it is read."""

    def __init__(self, send: Callable[[_Take], None]) -> None:
        super().__init__()
        self._send = send
        self._take = _Take()
        self._rest = memoryview(b"")
        self._over = False
        self._thread = threading.Thread(target=self._run, name="hollow backup", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._send(self._take)
            self._take.put(None)
        except _GivenUp:
            return
        except BaseException as trouble:
            try:
                self._take.put(trouble)
            except _GivenUp:
                return

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size``; empty at the end. Raises what the sender met."""
        if not self._rest and not self._over:
            piece = self._take.pieces.get()
            if piece is None:
                self._over = True
            elif isinstance(piece, BaseException):
                self._over = True
                raise piece
            else:
                self._rest = memoryview(piece)
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    def close(self) -> None:
        """End the sender, which may be in the middle."""
        if not self.closed:
            self._take.closed.set()
            self._thread.join(10)
        super().close()
