"""What was read lately of files on this machine: the steps of a batch look at the same backup time and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.sources import Source

T = TypeVar("T")
Identity = tuple[int, int, int, int]


def identity(path: Path) -> Identity | None:
    """Which file that is, and in which state: another one, or one that was written to, has another. Reads only."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Seen(Generic[T]):
    """The last few answers of one question about files. For several threads."""

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._answers: OrderedDict[Identity, T] = OrderedDict()

    def ask(
        self,
        where: Path | Source,
        read: Callable[[], T],
        limits: Limits = LIMITS,
        progress: Callable[[int, int], None] | None = None,
    ) -> T:
        """The answer remembered of this very file, else what ``read`` says. Raises what it raises.

        ``progress`` is told the end of a file that need not be read again.
        """
        key = identity(where) if isinstance(where, Path) and limits is LIMITS else None
        if key is None:
            return read()
        with self._lock:
            known = key in self._answers
            if known:
                self._answers.move_to_end(key)
                answer = self._answers[key]
        if not known:
            answer = read()
            if identity(where) == key:  # type: ignore[arg-type]  # only a path has a key
                self.remember(key, answer)
        elif progress is not None:
            progress(key[2], key[2])
        return answer

    def remember(self, key: Identity | None, answer: T) -> None:
        """Take an answer down that was found in another way."""
        if key is None:
            return
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > self._keep:
                self._answers.popitem(last=False)
