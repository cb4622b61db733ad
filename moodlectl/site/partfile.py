"""A file that arrives in pieces: written to ``NAME.part``, hashed on the way, renamed once it is whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from moodlectl.errors import Failed
from moodlectl.site.runningsha1 import RunningSha1

CHUNK = 1 << 20


class PartFile:
    """The unfinished ``destination.part`` of a download, kept for resuming when the download breaks off.

    ``offset`` is how many bytes are there already, ``sha1`` their running hash. Writes a local file. Raises
    Failed where it cannot be written.
    """

    def __init__(self, destination: Path, *, resume: bool = True) -> None:
        self.destination = destination
        self.path = destination.with_name(destination.name + ".part")
        self.offset = 0
        self._hash = RunningSha1()
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._file: BinaryIO = cast(BinaryIO, os.fdopen(handle, "r+b", buffering=0))
            # An empty one is not emptied: ext4 would have its content on the disk when it is closed, and be waited for.
            if not resume and os.fstat(handle).st_size:
                self._file.truncate(0)
        except OSError as problem:
            raise _unwritable(self.path, problem) from problem
        while piece := self._file.read(CHUNK):
            self._hash.update(piece)
            self.offset += len(piece)

    @property
    def sha1(self) -> str:
        """The sha1 of what has arrived so far, in hex."""
        return self._hash.hexdigest()

    def buffer(self) -> memoryview:
        """A buffer to receive the next piece in; ``write`` takes as much of its beginning as was filled."""
        return self._hash.buffer()

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece."""
        rest = memoryview(piece)
        try:
            while rest:  # unbuffered: a disk that is filling up takes less than it is given
                rest = rest[self._file.write(rest) :]
        except OSError as problem:
            raise _unwritable(self.path, problem) from problem
        self._hash.update(piece)
        self.offset += len(piece)

    def restart(self) -> None:
        """Forget what has arrived and begin at the first byte again."""
        self._file.seek(0)
        self._file.truncate()
        self._hash.close()
        self._hash = RunningSha1()
        self.offset = 0

    def finish(self, *, size: int | None = None, sha1: str | None = None) -> str:
        """Check size and sha1 (where known), give the file its name; returns its sha1.

        It does not wait for the disk: as long as the site has it too, a power cut costs another download. Who lets the
        other copy go waits first (``actions.files.make_lasting``).
        Raises Failed where what arrived is not what was sent; the part is then removed, so that the next
        attempt starts afresh. A file that is only short so far stays, and the next attempt goes on from there.
        """
        try:
            self._file.close()  # some network file systems say only now that there is no room
        except OSError as problem:
            raise _unwritable(self.path, problem) from problem
        details = {"path": str(self.destination), "size": self.offset, "expected_size": size,
                   "sha1": self.sha1, "expected_sha1": sha1}  # fmt: skip
        if size is not None and self.offset < size:
            raise Failed(
                f"The download of {self.destination.name} broke off after {self.offset} of {size} bytes.",
                "Ask for it again: it goes on where it stopped.",
                code="download_incomplete",
                details=details,
            )
        if (size is not None and self.offset != size) or (sha1 and sha1 != self.sha1):
            self.path.unlink(missing_ok=True)
            raise Failed(
                f"What arrived as {self.destination.name} is not what the site sent.",
                "Download it again. If it happens again, the file is damaged on the site or on the way.",
                code="download_damaged",
                details=details,
            )
        try:
            self.path.replace(self.destination)
        except OSError as problem:
            raise _unwritable(self.destination, problem) from problem
        return self.sha1

    def close(self) -> None:
        """Let go of the file; the part stays for another attempt, unless nothing had arrived."""
        self._hash.close()
        if not self._file.closed:
            self._file.close()
            if self.offset == 0:
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unwritable(path: Path, problem: OSError) -> Failed:
    return Failed(
        f"Cannot write {path}: {problem.strerror or problem}.",
        "Free some space there or choose another directory.",
        code="cannot_write",
        details={"path": str(path)},
    )
