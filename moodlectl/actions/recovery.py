"""Bringing a part of a backup back into a course that is in use: what is set for it, what it adds, what it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from moodlectl.actions import chosen as choosing
from moodlectl.actions.compare import from_file, from_site
from moodlectl.actions.holdings import Holdings, Pair
from moodlectl.actions.likenesses import kind_of, place, what
from moodlectl.errors import MoodlectlError
from moodlectl.site.port import OnProgress, RestorePlan, Site, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from moodlectl.mbz import Manifest
    from moodlectl.mbz.sources import Source

FEW = 10
"""Of a kind of thing so many are named; of more only the number is told."""

WISHES = frozenset({"users", "grade_histories", "userscompletion", "comments", "logs", "xapistate", "groups"})
"""The settings that people's work in an activity hangs on (``restore_root_task``, 3.9 to 5.1)."""

_IN_WORDS: Mapping[str, str] = {
    "grade_histories": "the history of grades",
    "userscompletion": "what people completed",
    "comments": "comments",
    "logs": "log entries",
}


def is_meant(mode: str, only: Sequence[str], userdata: Sequence[str]) -> bool:
    """Whether items are to come back with people's work: ``--merge COURSE --only ITEM --userdata ITEM``."""
    return mode == "merge" and bool(only) and bool(userdata)


def lacks(held: Manifest) -> tuple[str, ...]:
    """What of people's work cannot be brought because the backup was made without it, one sentence each."""
    without = [word for name, word in _IN_WORDS.items() if not held.settings.get(name)]
    return tuple(f"The backup was made without {word}: it cannot be brought." for word in without)


@dataclass(frozen=True)
class Added:
    """Things of one kind that a restore would add; ``names`` are all of them where they are few, else none."""

    kind: str
    number: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Additions:
    """What merging would add to a course, the heaviest kinds first, and what it finds there already."""

    added: tuple[Added, ...]
    met: tuple[Added, ...]


def additions(
    site: Site, plan: RestorePlan, where: Path | Source, on_progress: OnProgress = no_progress
) -> Additions | None:
    """Exactly what that merge would add; None where the site cannot be asked what the course holds. Reads only."""
    from moodlectl import mbz

    request = plan.request
    assert request.course_id is not None
    settings = {one.name: one.value for one in plan.settings}
    taken = choosing.chosen_by(mbz.inspect(where), settings)
    with Holdings() as holdings:
        try:
            from_file(partial(holdings.add, "a"), where, on_progress, taken)
            from_site(partial(holdings.add, "b"), site, request.course_id, on_progress, as_user=request.as_user)
        except MoodlectlError:
            return None
        off = {name for name, value in settings.items() if not value}
        return _sorted(holdings, off, items_only=request.items_only)


def _sorted(holdings: Holdings, off: set[str], *, items_only: bool) -> Additions:
    added: dict[str, list[str]] = {}
    met: dict[str, list[str]] = {}
    for kind, key, facts in holdings.things("a"):
        pair = Pair(kind, key, facts, None)
        found = kind_of(kind)
        if found.setting in off or (found.people and "users" in off):
            continue
        if kind == "activity" or place(pair):
            _count(added, pair, facts)
        elif kind in _OF_ITEMS or (kind in _OF_COURSE and not items_only):
            _count(met if holdings.has("b", kind, key) else added, pair, facts)
    return Additions(_told(added), _told(met))


_OF_ITEMS = ("group", "grouping", "question", "section")
_OF_COURSE = ("person", "role", "group_member", "grouping_group")


def _count(kinds: dict[str, list[str]], pair: Pair, facts: Mapping[str, str]) -> None:
    times = int(facts.get("count") or 1) if pair.kind in ("grade_history", "logs") else 1
    kinds.setdefault(pair.kind, []).extend([what(pair)] * times)


def _told(kinds: Mapping[str, list[str]]) -> tuple[Added, ...]:
    order = sorted(kinds, key=lambda kind: (kind_of(kind).weight, kind))
    found = []
    for kind in order:
        names = Counter(kinds[kind])
        few = tuple(names) if len(names) <= FEW else ()
        found.append(Added(kind, names.total(), few))
    return tuple(found)

