"""What a batch is made of: a recipe tells the steps of one course, and a step does one thing that may be asked again.

A step that was begun and whose end nobody wrote down (the process was killed, the site fell silent) is simply called
again, with the facts it has noted: it looks at the site, and never repeats blindly. So nothing a step needs may live
in memory alone: it is in the ``spec`` of its item, in the job's options, or among the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from moodlectl.actions.recording import Entry
from moodlectl.ledger import Item
from moodlectl.site.port import OnProgress, Progress, Site

Slot = Literal["backup", "restore", "transfer", "other"]
SLOTS: tuple[Slot, ...] = ("backup", "restore", "transfer", "other")


class Skipped(Exception):  # noqa: N818 - not an error
    """There is nothing to do for this course; the message says why. Its item ends *skipped*."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Later(Exception):  # noqa: N818 - not an error
    """A step has to wait for what another course's is doing; nothing has happened. ``ready`` says when it may go on."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__("not yet")
        self.ready = ready


class Work(Entry):
    """One item while one of its steps is under way; whatever takes an ``Entry`` takes it, too.

    ``spec`` is what the plan says of the item and ``options`` what was asked of the whole job; ``again`` is whether
    this step was begun before and its end not written down. ``folder`` lies on this machine, is private to the item,
    and is removed when the item ends; the step that needs it makes it. ``progress`` is to be handed on.
    """

    def __init__(self, item: Item, job: int, options: Mapping[str, Any], hands: Hands, *, again: bool) -> None:
        super().__init__(job, item.facts)
        self.seq = item.seq
        self.course = item.course
        self.spec = item.spec
        self.options = options
        self.attempt = item.attempts
        self.again = again
        self.folder = hands.folder(item.seq)
        self.progress: OnProgress = hands.progress
        self.message = ""
        self._hands = hands

    @property
    def name(self) -> str:
        """What ``restore --undo`` calls it by: the job, and which of its items."""
        return f"{self.job}/{self.seq}"

    def site(self, name: str) -> Site:
        """The site of that name, open, for this step alone. Raises AccessError, ConfigError, NotFound."""
        return self._hands.site(name)

    def note(self, **facts: Any) -> None:
        """Write facts down at once: what the same step, or a later one, needs when it is called by another process."""
        self.facts.update(facts)
        self._hands.note(self.seq, facts)

    def end(self, state: str, message: str = "", **facts: Any) -> None:
        """Say that the item has ``failed`` although its step returns; with ``done`` only the facts are noted."""
        if facts:
            self.note(**facts)
        if state != "done" and self.state is None:
            self.state, self.message = state, message


class Hands(Protocol):
    """What the engine lends to a step: the ledger to note in, its sites, a folder, and who hears of its progress."""

    def note(self, seq: int, facts: Mapping[str, Any]) -> None: ...
    def site(self, name: str) -> Site: ...
    def folder(self, seq: int) -> Path: ...
    def progress(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Step:
    """One thing to do for one course. ``site`` is whose limit it counts against, None where only this machine works;
    ``slot`` says which limit: of backups, restores, transfers, or none of them."""

    name: str
    site: str | None
    slot: Slot
    do: Callable[[Work], None]


@dataclass(frozen=True)
class Planned:
    """One course of a batch: what people read of it, and ``spec``, all that its steps need to know, fit for JSON.

    ``state`` is ``skipped`` with a message where it is known beforehand that there is nothing to do.
    """

    course: str
    action: str
    source: str | None = None
    target: str | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    state: Literal["planned", "skipped"] = "planned"
    message: str | None = None


class Recipe(Protocol):
    """How one kind of job is done: ``kind`` is its name in the ledger, ``sites`` the names of the sites it uses."""

    @property
    def kind(self) -> str: ...
    @property
    def sites(self) -> Sequence[str]: ...

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        """The steps of one item in order; the same each time for the same spec."""
