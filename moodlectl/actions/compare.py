"""Compare all that two courses hold, or a course and a backup, thing by thing."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.actions import files, naming
from moodlectl.actions.holdings import Holdings, Pair
from moodlectl.actions.likenesses import Judge, kind_of, place, what
from moodlectl.site.port import ALL, Identity, OnProgress, Part, Progress, Site, no_progress

if TYPE_CHECKING:
    from moodlectl.mbz.identities import Chosen
    from moodlectl.mbz.sources import Source

_SHA1 = re.compile(r"[0-9a-f]{40}")
_TIME = re.compile(r"[1-9][0-9]{9}")
_STEP = 2000
Add = Callable[[Identity], None]


@dataclass(frozen=True)
class Difference:
    """One difference: the kind of thing, the thing in words, a whole sentence, and whether Moodle itself makes it.

    ``known`` ones are what core's backup and restore do not carry, or a setting left out; ``reason`` says why.
    ``where`` is the activity it belongs to, if it does; ``key`` are the words it is found by, ``facts``
    the names of what is different about it.
    """

    kind: str
    what: str
    text: str
    known: bool
    reason: str | None = None
    where: str = ""
    key: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """How two sides compare: the differences, the heaviest first, known ones last; how many things each side holds.

    ``a`` and ``b`` are what the sides are called in the sentences.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def real(self) -> tuple[Difference, ...]:
        """The differences that nothing explains."""
        return tuple(one for one in self.differences if not one.known)

    @property
    def known(self) -> tuple[Difference, ...]:
        """The differences that Moodle itself makes."""
        return tuple(one for one in self.differences if one.known)

    @property
    def equal(self) -> bool:
        """Whether there is no difference but those that Moodle itself makes."""
        return not self.real


def run(
    site: Site, course: str, other: str, site_b: Site | None = None, on_progress: OnProgress = no_progress
) -> Comparison:
    """Compare a COURSE with a BACKUP (a file here, or one on ``site_b``) or with a COURSE of ``site_b``. Reads only.

    Raises UsageError, NotFound, AccessError, Unreachable, and Refused for a file that is not a whole backup.
    """
    there = site_b or site
    found = naming.find_course(site, course)
    with Holdings() as holdings:
        from_site(partial(holdings.add, "a"), site, found.id, on_progress)
        name, other_name = found.shortname, _other_side(holdings, there, other, on_progress)
        if name == other_name:
            name, other_name = f"{name} ({site.name})", f"{other_name} ({there.name})"
        return compare(holdings, name, other_name)


def _other_side(holdings: Holdings, site: Site, word: str, on_progress: OnProgress) -> str:
    """Read side b; returns what it is called."""
    if _is_backup(word):
        with _at_hand(site, word, on_progress) as path:
            from_file(partial(holdings.add, "b"), path, on_progress)
            return path.name
    course = naming.find_course(site, word)
    from_site(partial(holdings.add, "b"), site, course.id, on_progress)
    return course.shortname


def _is_backup(word: str) -> bool:
    """Whether a word names a backup; everything else names a course."""
    if word.lower().startswith(("http://", "https://")):
        return False
    parsed = naming.parse_backup(word)
    if isinstance(parsed, naming.StoredBackup):
        return True
    return parsed.path.is_file() or word.lower().endswith((".mbz", ".zip", ".tgz", ".tar.gz"))


@contextmanager
def _at_hand(site: Site, word: str, on_progress: OnProgress) -> Iterator[Path]:
    """The backup as a local file; one that lies on the site is brought here until the end of the block."""
    parsed = naming.parse_backup(word)
    if isinstance(parsed, naming.LocalBackup):
        yield naming.existing(parsed.path)
        return
    stored = naming.find_stored(site, parsed)
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / files.safe_name(stored.filename)
        site.download(stored, path, on_progress)
        yield path


def from_site(
    add: Add,
    site: Site,
    course_id: int,
    on_progress: OnProgress,
    part: Part = ALL,
    *,
    as_user: str | None = None,
) -> None:
    """Put what a course holds on a side. Reads only."""
    count = 0

    def receive(identity: Identity) -> None:
        nonlocal count
        add(identity)
        count += 1
        if count % _STEP == 0:
            on_progress(Progress("scan", count, message=f"{count} things"))

    site.identities(course_id, receive, part, as_user=as_user)


def from_file(add: Add, where: Path | Source, on_progress: OnProgress, chosen: Chosen | None = None) -> None:
    """Put what a backup holds, or a chosen part of it, on a side. Reads only."""
    from moodlectl.mbz.identities import WHOLE, identities

    def progress(done: int, total: int) -> None:
        on_progress(Progress("scan", done, total, "bytes"))

    for identity in identities(where, chosen=chosen or WHOLE, progress=progress):
        add(identity)


# --- what differs -----------------------------------------------------------------------------------------------------


def compare(holdings: Holdings, a: str, b: str) -> Comparison:
    """The differences between both sides; ``a`` and ``b`` are what they are called.

    What belongs to an activity that is only on one side is told with it, not thing by thing.
    """
    judge = Judge(holdings)
    alone: dict[tuple[str, ...], Counter[str]] = {}
    found: list[tuple[int, Difference, tuple[str, ...]]] = []
    left_out: dict[str, Counter[str]] = {}
    # Activities come first: the order of kinds is that of the alphabet.
    for pair in holdings.differing():
        reason = judge.left_out(pair)
        if reason is not None:
            left_out.setdefault(reason, Counter())[kind_of(pair.kind).name] += 1
            continue
        if pair.kind == "activity" and (pair.a is None or pair.b is None):
            alone[pair.key] = Counter()
        elif place(pair) and pair.key[:2] in alone:
            alone[pair.key[:2]][kind_of(pair.kind).name] += 1
            continue
        found.append((kind_of(pair.kind).weight, _difference(pair, judge, a, b), pair.key))
    told = [(weight, _with_content(one, alone.get(key))) for weight, one, key in found]
    told.sort(key=lambda entry: (entry[1].known, entry[0], entry[1].kind, entry[1].what))
    settings = [_setting(name, kinds) for name, kinds in sorted(left_out.items())]
    counts = {"a": holdings.counts["a"], "b": holdings.counts["b"]}
    return Comparison(a, b, (*(one for _, one in told), *settings), counts)


def _difference(pair: Pair, judge: Judge, a: str, b: str) -> Difference:
    named = what(pair)
    if pair.b is None:
        text = f"{named}: only in {a}"
    elif pair.a is None:
        text = f"{named}: only in {b}"
    else:
        changes = [_change(name, *values) for name, values in sorted(pair.changed().items())]
        text = f"{named}: {'; '.join(changes)}"
    reason = judge.known(pair)
    return Difference(pair.kind, named, text, reason is not None, reason, _where(pair), pair.key, tuple(pair.changed()))


def _where(pair: Pair) -> str:
    """The activity a thing belongs to; a question belongs to the one whose bank it is in."""
    if pair.kind == "question":
        bank = (pair.a or pair.b or {}).get("bank", "course")
        return "" if bank == "course" else bank
    return place(pair)


def _change(name: str, a: str, b: str) -> str:
    if _SHA1.fullmatch(a) or _SHA1.fullmatch(b):
        return f"{name} differs"
    return f"{name} is {_shown(a)}, then {_shown(b)}"


def _shown(value: str) -> str:
    if _TIME.fullmatch(value):
        return datetime.fromtimestamp(int(value), UTC).isoformat()
    return f"'{value}'" if value else "empty"


def _with_content(one: Difference, content: Counter[str] | None) -> Difference:
    if one.kind != "activity" or not content:
        return one
    held = ", ".join(f"{number} {name}" for name, number in sorted(content.items()))
    return replace(one, text=f"{one.text}, with {held}")


def _setting(name: str, kinds: Counter[str]) -> Difference:
    held = ", ".join(f"{number} {kind.removesuffix(' of')}" for kind, number in sorted(kinds.items()))
    reason = "people were made nobody" if name == "anonymize" else f"made without {name}"
    return Difference("setting", name, f"not compared, one side was {reason}: {held}", True, reason)
