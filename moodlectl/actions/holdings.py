"""Everything two courses hold, side by side, kept on disk while it is compared: courses may hold millions of things."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Literal, Self

from moodlectl.site.port import Identity

Side = Literal["a", "b"]
Facts = Mapping[str, str]
_AT_ONCE = 2000


@dataclass(frozen=True)
class Pair:
    """What was found under one key on only one side, or on both with different facts (None: not there)."""

    kind: str
    key: tuple[str, ...]
    a: Facts | None
    b: Facts | None

    def changed(self) -> dict[str, tuple[str, str]]:
        """The facts that both sides tell, and tell differently."""
        return _changed(self.a or {}, self.b or {}) if self.a is not None and self.b is not None else {}


def _changed(a: Facts, b: Facts) -> dict[str, tuple[str, str]]:
    return {name: (a[name], b[name]) for name in a if name in b and a[name] != b[name]}


@dataclass
class Holdings:
    """Two sides of a comparison; to be used in a ``with`` block. Needs little memory, some disk."""

    about: dict[str, dict[str, str]] = field(default_factory=lambda: {"a": {}, "b": {}})
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {"a": {}, "b": {}})
    _index: bool = False
    _waiting: list[tuple[str, str, str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        # An empty name is a private file that SQLite deletes by itself.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE thing (kind TEXT, key TEXT, side TEXT, facts TEXT)")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, side: Side, identity: Identity) -> None:
        """Keep one thing of one side."""
        kind, key, facts = identity
        if kind == "about":
            self.about[side] = dict(facts)
            return
        counts = self.counts[side]
        counts[kind] = counts.get(kind, 0) + 1
        self._waiting.append((kind, json.dumps(key), side, json.dumps(facts, sort_keys=True)))
        if len(self._waiting) >= _AT_ONCE:
            self._write()

    def forget(self, side: Side) -> None:
        """Let go of what one side holds."""
        self._write()
        self._db.execute("DELETE FROM thing WHERE side = ?", (side,))
        self.counts[side], self.about[side] = {}, {}

    def _write(self) -> None:
        # SQLite keeps no half surrogates; Python's JSON writes them as escapes.
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO thing VALUES (?, ?, ?, ?)", self._waiting)
        self._db.execute("COMMIT")
        self._waiting.clear()

    def keys(self, side: Side, kind: str) -> Iterator[tuple[str, ...]]:
        """The keys of one kind on one side."""
        self._write()
        for (key,) in self._db.execute("SELECT key FROM thing WHERE kind = ? AND side = ?", (kind, side)):
            yield tuple(json.loads(key))

    def facts(self, side: Side, kind: str) -> Facts:
        """The facts of the one thing of a kind, such as the course; none where there is none."""
        self._write()
        row = self._db.execute("SELECT facts FROM thing WHERE kind = ? AND side = ? LIMIT 1", (kind, side)).fetchone()
        return json.loads(row[0]) if row else {}

    def things(self, side: Side) -> Iterator[Identity]:
        """Everything of one side, by kind and key."""
        self._write()
        rows = self._db.execute("SELECT kind, key, facts FROM thing WHERE side = ? ORDER BY kind, key", (side,))
        for kind, key, facts in rows:
            yield kind, tuple(json.loads(key)), json.loads(facts)

    def has(self, side: Side, kind: str, key: tuple[str, ...]) -> bool:
        """Whether one side has a thing of that kind and key."""
        if self._index is False:
            self._write()
            self._db.execute("CREATE INDEX things ON thing (side, kind, key)")
            self._index = True
        found = self._db.execute(
            "SELECT 1 FROM thing WHERE side = ? AND kind = ? AND key = ? LIMIT 1", (side, kind, json.dumps(key))
        )
        return found.fetchone() is not None

    def values(self, side: Side, fact: str) -> set[str]:
        """Every value that a fact has on one side."""
        self._write()
        rows = self._db.execute("SELECT facts FROM thing WHERE side = ?", (side,))
        return {value for (facts,) in rows if (value := json.loads(facts).get(fact))}

    def differing(self) -> Iterator[Pair]:
        """Everything that is not the same on both sides, by kind and key."""
        self._write()
        rows = self._db.execute("SELECT kind, key, side, facts FROM thing ORDER BY kind, key, side, facts")
        for (kind, key), group in groupby(rows, lambda row: (row[0], row[1])):
            sides: dict[str, list[str]] = {"a": [], "b": []}
            for _, _, side, facts in group:
                sides[side].append(facts)
            if sides["a"] != sides["b"]:
                words = tuple(json.loads(key))
                for a, b in _match(sides["a"], sides["b"]):
                    yield Pair(kind, words, a, b)


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _match(a: list[str], b: list[str]) -> Iterator[tuple[Facts | None, Facts | None]]:
    """Things with one key: those alike belong together, then those of the same place, the rest is alone."""
    alike = Counter(a) & Counter(b)
    # By length first: of counts that have grown, the least then belongs to the least.
    left = [json.loads(one) for one in sorted((Counter(a) - alike).elements(), key=_by_length)]
    right = [json.loads(one) for one in sorted((Counter(b) - alike).elements(), key=_by_length)]
    remaining = []
    for one in left:
        twin = next((i for i, other in enumerate(right) if not _changed(one, other)), None)
        if twin is None:
            remaining.append(one)
        else:
            right.pop(twin)
    for one in remaining:
        # What belongs to two people is two things, whatever it is called.
        near = next((i for i, other in enumerate(right) if "owner" not in _changed(one, other)), None)
        yield one, None if near is None else right.pop(near)
    for other in right:
        yield None, other
