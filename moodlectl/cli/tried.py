"""Several things asked for in one command: one that fails stops nothing, and is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moodlectl.errors import MoodlectlError, SomeFailed


@dataclass
class Tried:
    """What was done of several things (``what`` they are, in the plural), and which of them failed."""

    what: str
    done: list[str] = field(default_factory=list)
    failed: list[tuple[str, MoodlectlError]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def one(self, word: str, *, of: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Try one of them; the block hands over the record of what was done. The error of an only one is raised."""
        try:
            yield self.rows.append
            self.done.append(word)
        except MoodlectlError as error:
            if of == 1:
                raise
            self.failed.append((word, error))
        except KeyboardInterrupt as stop:
            if self.done:
                stop.add_note(f"Done before that: {', '.join(self.done)}")
            raise

    def tell(self) -> None:
        """Raise SomeFailed where some failed, each named with its reason."""
        if self.failed:
            raise SomeFailed(
                f"{len(self.failed)} of {len(self.failed) + len(self.done)} {self.what} failed.",
                self.failed[0][1].hint,
                details={
                    "done": self.done,
                    "failed": [f"{word}: {error.message}" for word, error in self.failed],
                },
            )
