"""The record of a deed: *started* before it, how it ended after it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moodlectl.errors import MoodlectlError, OutcomeUnknown
from moodlectl.ledger import Item, Ledger
from moodlectl.site.port import Site


class Entry:
    """One job with one item, while its deed is under way."""

    def __init__(self, ledger: Ledger, job: int) -> None:
        self._ledger = ledger
        self.job = job
        self._ended = False

    def note(self, **facts: Any) -> None:
        """Write facts down at once: what a later look at the site, or an undo, needs."""
        self._ledger.note(self.job, 1, **facts)

    def end(self, state: str, message: str = "", **facts: Any) -> None:
        """Write how it ended; what is written first stays."""
        if not self._ended:
            self._ended = True
            self._ledger.end(self.job, 1, state, message, **facts)
            self._ledger.close_job(self.job)


@contextmanager
def recorded(
    site: Site, kind: str, item: Item, options: Mapping[str, Any], path: Path | None = None
) -> Iterator[Entry]:
    """Record one deed. It ends *done* when the block does, unless the block said otherwise.

    Writes the ledger on this machine. Raises AccessError where it cannot be kept, before anything is begun.
    """
    ledger = Ledger(path)
    try:
        job = ledger.begin(kind, site.name, site.info().url, options)
        ledger.start(job, item)
        entry = Entry(ledger, job)
        try:
            yield entry
        except OutcomeUnknown as error:
            error.details.setdefault("job", job)
            entry.end("unknown", error.message)
            raise
        except MoodlectlError as error:
            entry.end("failed", error.message, code=error.code)
            raise
        except BaseException as error:
            notes = getattr(error, "__notes__", [])
            harmless = any(note.startswith("Nothing had been changed") for note in notes)
            entry.end("failed" if harmless else "unknown", f"{type(error).__name__}: {'; '.join(notes) or error}")
            raise
        entry.end("done")
    finally:
        ledger.close()
