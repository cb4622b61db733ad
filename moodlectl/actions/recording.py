"""The record of a deed: *started* before it, how it ended after it, whatever happens in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from moodlectl.errors import MoodlectlError, OutcomeUnknown
from moodlectl.ledger import Item, Ledger
from moodlectl.site.port import BEGUN, OnProgress, Progress, Site


class Entry(ABC):
    """One item of a job, while its deed is under way. ``facts`` are all that was written down."""

    def __init__(self, job: int, facts: Mapping[str, Any] | None = None) -> None:
        self.job = job
        self.facts: dict[str, Any] = dict(facts or {})
        self.state: str | None = None

    @property
    def name(self) -> str:
        """What ``restore --undo`` calls it by."""
        return str(self.job)

    @abstractmethod
    def note(self, **facts: Any) -> None:
        """Write facts down at once: what a later look at the site, or an undo, needs."""

    @abstractmethod
    def end(self, state: str, message: str = "", **facts: Any) -> None:
        """Write how it ended; what is written first stays."""

    def watching(self, stage: str, on_progress: OnProgress) -> OnProgress:
        """A progress callback that also writes down when the deed of that stage makes its first lasting change."""

        def told(progress: Progress) -> None:
            if progress.phase == BEGUN:
                self.note(**{f"begun_{stage}": int(progress.done)})
            else:
                on_progress(progress)

        return told

    def has_begun(self, stage: str) -> bool:
        """Whether the deed of that stage is known to have made its first lasting change."""
        return self.facts.get(f"begun_{stage}") is not None


class _Single(Entry):
    """The only item of a job of its own."""

    def __init__(self, ledger: Ledger, job: int, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(job, facts)
        self._ledger = ledger

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)
        self._ledger.note(self.job, 1, **facts)

    def end(self, state: str, message: str = "", **facts: Any) -> None:
        if self.state is None:
            self.state = state
            self.facts.update(facts)
            self._ledger.end(self.job, 1, state, message, **facts)
            self._ledger.close_job(self.job)


@contextmanager
def recorded(
    site: Site, kind: str, item: Item, options: Mapping[str, Any], path: Path | None = None
) -> Iterator[Entry]:
    """Record one deed: who on this machine did it, as whom on the site (``acting``), with what options, how it ended.

    It ends *done* when the block does, unless the block said otherwise. Writes the ledger on this machine. Raises
    AccessError where it cannot be kept, before anything is begun.
    """
    ledger = Ledger(path)
    try:
        info = site.info()
        item = replace(item, facts={**item.facts, "acting": options.get("as_user") or info.username})
        job = ledger.begin(kind, site.name, info.url, options)
        begun.append(job)
        ledger.start(job, item)
        with _ending(site, _Single(ledger, job, item.facts), kept=kind in ACCOUNTED) as entry:
            yield entry
    finally:
        ledger.close()


@contextmanager
def resumed(site: Site, job: int, path: Path | None = None) -> Iterator[Entry]:
    """Take up a job whose process is gone, and record how it ended, as ``recorded`` does.

    Raises NotFound, and Refused while somebody else works on it.
    """
    ledger = Ledger(path)
    try:
        item = ledger.adopt(job)
        begun.append(job)
        with _ending(site, _Single(ledger, job, item.facts), kept=False) as entry:
            yield entry
    finally:
        ledger.close()


ACCOUNTED: Final = frozenset({"restore", "undo", "backup", "copy", "import"})
"""The kinds of job that write down the stage they are at before a site begins with it."""

NOTHING_CHANGED: Final = "Nothing had been changed on the site."

begun: list[int] = []
"""The jobs that this process has begun or taken up: while there are none, no site has been changed."""


def _so_far(entry: Entry) -> str:
    """What an interrupted job has to say of the site when none of its steps has said it."""
    if entry.facts.get("stage") is None:
        return NOTHING_CHANGED
    return f"What it had come to by then: moodlectl job resume {entry.job}"


@contextmanager
def _ending(site: Site, entry: Entry, *, kept: bool) -> Iterator[Entry]:
    try:
        yield entry
        entry.end("done")
    except OutcomeUnknown as error:
        error.details.setdefault("job", entry.job)
        error.hint = f"When the site answers again: moodlectl job resume {entry.job}"
        entry.end("unknown", error.message)
        raise
    except MoodlectlError as error:
        entry.end("failed", error.message, code=error.code)
        raise
    except BaseException as error:
        if kept and isinstance(error, KeyboardInterrupt) and not getattr(error, "__notes__", []):
            error.add_note(_so_far(entry))
        notes = getattr(error, "__notes__", [])
        harmless = any(note.startswith(NOTHING_CHANGED) for note in notes)
        entry.end("failed" if harmless else "unknown", f"{type(error).__name__}: {'; '.join(notes) or error}")
        raise
    finally:
        if entry.state in ("done", "failed"):
            _forget(site, entry.facts)


def _forget(site: Site, facts: Mapping[str, Any]) -> None:
    """Let the site forget what was written down here; it does so by itself after a week."""
    for name, number in facts.items():
        if name.startswith("deed_"):
            with suppress(MoodlectlError):
                site.forget_deed(str(number))
