"""A process that dies between any two writes: what was there is there, what came is whole or not there at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from moodlectl.store import Store, locks, open_store, pruning
from moodlectl.store.places import Folder
from moodlectl.store.pool import StorePool, name_of
from tests.backups import DAY, make_backup, sha1
from tests.unit.store.keeping import add, kept, names, whole


class Died(BaseException):
    """The process is gone."""


class Dying(Folder):
    """A folder whose user dies after so many changes to it; nothing that would tidy up then happens any more."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path)
        self.left = after

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died

    def save(self, name: str, data: bytes) -> None:
        self._change()
        super().save(name, data)

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        for one in files:
            self._change()
            super().put([one])

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._change()
            super().remove([name])

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        self._change()
        with super().incoming() as folder:
            yield folder
            self._change()


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Each call begins another process's life: what earlier ones have locked is a dead one's."""
    life = itertools.count()
    monkeypatch.setattr(locks, "_began", lambda number: str(now[0]))
    now = [next(life)]

    def begin() -> None:
        now[0] = next(life)

    return begin


FIRST = {"shared": b"shared " * 500, "old": b"old " * 500, "more": b"more"}
SECOND = {"shared": b"shared " * 500, "new": b"new " * 500, "other": b"other"}


def dies(store: Path, after: int, do: Callable[[Store], Any]) -> bool:
    """Whether it died on its way."""
    place = Dying(store, after)
    try:
        do(Store(place, StorePool(place)))
    except Died:
        return True
    return False


def test_dying_at_any_moment_of_coming_in_loses_nothing(tmp_path: Path, lives: Callable[[], None]) -> None:
    one = make_backup(tmp_path / "1.mbz", FIRST)
    two = make_backup(tmp_path / "2.mbz", SECOND, date=DAY + timedelta(days=1))
    for after in itertools.count():
        folder = tmp_path / f"store-{after}"
        store = open_store(str(folder), create=True)
        first = add(store, one).entry
        died = dies(folder, after, lambda dying: add(dying, two))
        lives()
        whole(store)
        assert first.id in kept(store)
        second = add(store, two).entry
        assert kept(store) == {first.id, second.id}
        assert whole(store).contents == 5
        if not died:
            break
    assert after > 8


def test_dying_at_any_moment_of_pruning_loses_nothing_and_leaves_nothing_in_the_end(
    tmp_path: Path, lives: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_backup(tmp_path / "1.mbz", FIRST)
    two = make_backup(tmp_path / "2.mbz", SECOND, date=DAY + timedelta(days=1))
    for after in itertools.count():
        folder = tmp_path / f"store-{after}"
        store = open_store(str(folder), create=True)
        old, new = add(store, one).entry, add(store, two).entry
        died = dies(folder, after, lambda dying, old=old: pruning.take_away(dying, [old]))
        lives()
        whole(store)
        assert new.id in kept(store)
        assert add(store, one).entry.id in kept(store)  # while what it left over lies about
        whole(store)
        with monkeypatch.context() as patch:
            patch.setattr(pruning, "GRACE", timedelta(seconds=-1))
            pruning.take_away(store, [old])
        assert kept(store) == {new.id}
        assert {n for n in names(store) if n.startswith("contents")} == {name_of(sha1(data)) for data in SECOND.values()}
        assert not [n for n in names(store) if old.id in n or n.startswith(("incoming", "locks"))]
        if not died:
            break
    assert after > 6


def test_what_has_arrived_before_a_death_need_not_come_again(tmp_path: Path, lives: Callable[[], None]) -> None:
    two = make_backup(tmp_path / "2.mbz", SECOND)
    folder = tmp_path / "store"
    store = open_store(str(folder), create=True)
    assert dies(folder, 4, lambda dying: add(dying, two))  # a lock, a folder, two contents
    lives()
    arrived = [n for n in names(store) if n.startswith("contents")]
    assert len(arrived) == 2
    added = add(store, two).entry
    assert added.came < sum(map(len, SECOND.values())) + added.lean_size
