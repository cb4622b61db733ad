"""Before and while a download is written: is there room, and is nobody else writing the same part."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moodlectl.errors import MoodlectlError, Refused


@contextmanager
def only_one(destination: Path) -> Iterator[None]:
    """Keep a second download from writing the same part. Raises Refused where one is at it."""
    path = destination.with_name(destination.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise Refused(f"{destination.name} is being downloaded there by another moodlectl.",
                          "Wait for it, or choose another directory.", code="busy",
                          details={"path": str(path)}) from busy  # fmt: skip
        try:
            yield
        finally:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


def check_room(destination: Path, size: int | None) -> None:
    """Raise Refused where a file of that many bytes will not fit; None is not checked."""
    part = destination.with_name(destination.name + ".part")
    there = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(destination.parent).free
    if size is not None and size - there > free:
        raise _no_room(destination, free, size)


@contextmanager
def room_told(destination: Path) -> Iterator[None]:
    """A disk that fills up on the way is refused in its own words; what has arrived stays."""
    try:
        yield
    except MoodlectlError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(destination, shutil.disk_usage(destination.parent).free, None) from error
        raise


def _no_room(destination: Path, free: int, size: int | None) -> Refused:
    need = f" {destination.name} has {size:,} bytes," if size is not None else ""
    return Refused(
        f"No room in {destination.parent}:{need} {free:,} bytes are free.",
        "Free some space or choose another directory with -d; what has arrived so far is kept.",
        code="nospace",
        details={"path": str(destination), "free": free, "size": size},
    )
