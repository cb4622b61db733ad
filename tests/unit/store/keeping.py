"""What the tests of the store share: put in, and see that everything in it is whole."""

from __future__ import annotations

from pathlib import Path

from moodlectl.actions.files import sha1_of
from moodlectl.store import Store, adding, checking
from moodlectl.store.adding import Added, Origin


def add(store: Store, path: Path, *allow: str) -> Added:
    return adding.add_file(store, path, Origin(sha1_of(path), path.name, path.stat().st_size), allow=allow)


def names(store: Store) -> list[str]:
    return sorted(one.name for one in store.place.found(""))


def whole(store: Store) -> checking.Checked:
    """Check the store; fails where any backup in it is not whole."""
    found = checking.check(store)
    assert found.ok, (found.holes, found.problems)
    return found


def kept(store: Store) -> set[str]:
    return {one.id for one in store.entries()}
