"""Backups of a site in a store: made without packing its files, and restored from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.actions import backup, fromstore, keeping, restore, storing
from moodlectl.actions import contents as carrying
from moodlectl.actions.travelling import Road
from moodlectl.site.port import Identity
from moodlectl.store import Store, checking
from moodlectl.store.entries import Entry
from tests.contract.worlds import World


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return storing.opened(str(tmp_path / "store"), create=True)


def made(world: World, store: Store, **settings: bool) -> Entry:
    """A backup of the rich course in the store; nothing of it is left on the site, where others may be at work, too."""
    wanted = backup.Wanted(settings=settings, store=store.address)
    done = backup.run(world.site, backup.plan(world.site, "RICH101", wanted))
    assert done.stored is not None
    assert done.removed
    assert done.made.file.filename not in {one.filename for one in world.site.backups(world.rich.id).files}
    return done.stored


def files(world: World, course_id: int) -> list[tuple[str, ...]]:
    found: list[Identity] = []
    world.site.identities(course_id, found.append)
    return sorted((kind, *key, *map(str, sorted(facts.items()))) for kind, key, facts in found if kind == "file")


def test_a_course_goes_into_a_store_each_content_once_and_leaves_nothing_on_the_site(world: World, store: Store) -> None:
    assert carrying.why_not_from(world.site) is None
    first, second = made(world, store), made(world, store)
    assert first.content_bytes == second.content_bytes > 0
    assert second.came == second.lean_size
    assert checking.check(store).ok
    of_course = {one.sha1 for one in world.site.pool().of_course(world.rich.id)}
    assert {one.sha1 for one in mbz.pool_files(world.tmp / "store" / first.archive)} & of_course


def test_what_is_exported_equals_an_ordinary_backup_of_the_course(world: World, store: Store) -> None:
    done = keeping.export(store, made(world, store), world.tmp / "out.mbz")
    assert done.report.ok
    ordinary = world.download(world.backup())
    one, two = mbz.inspect(done.path), mbz.inspect(ordinary)
    assert (one.counts, one.sections, one.include_files) == (two.counts, two.sections, two.include_files)
    assert {**one.settings, "filename": ""} == {**two.settings, "filename": ""}
    assert mbz.pool_files(done.path) == mbz.pool_files(ordinary)
    world.new(done.path, settings={"users": False}, shortname=f"EXPORTED {world.category}")


def test_a_course_is_restored_from_a_store_as_from_its_file(world: World, store: Store) -> None:
    entry = made(world, store)
    held = {one.sha1 for one in world.site.pool().held()}
    courses = []
    for whole, name in ((True, f"WHOLE {world.category}"), (False, f"LEAN {world.category}")):
        with fromstore.restorable(store, entry, world.site, Road(whole=whole)) as path:
            assert mbz.inspect(path).include_files is whole
            courses.append(world.new(path, settings={"users": False}, shortname=name).course.id)
    assert files(world, courses[0]) == files(world, courses[1])
    ours = {one.sha1 for one in mbz.pool_files(world.tmp / "store" / entry.archive)}
    assert not ({one.sha1 for one in world.site.pool().held()} - held) & ours


def test_a_backup_that_lies_on_the_site_is_taken_in_by_its_sha1(world: World, store: Store) -> None:
    file = world.backup()
    word = f"RICH101@{file.area}/{file.filename}"
    added = storing.add(store, word, lambda: _Lent(world))
    assert (added.entry.id, added.entry.size, added.new) == (file.sha1, file.size, True)
    assert not storing.add(store, word, lambda: _Lent(world)).new
    done = keeping.export(store, added.entry, world.tmp / "out.mbz")
    ordinary = world.download(file)
    assert mbz.inspect(done.path).counts == mbz.inspect(ordinary).counts
    assert mbz.pool_files(done.path) == mbz.pool_files(ordinary)


def test_without_files_by_wish_is_without_files_in_the_store(world: World, store: Store) -> None:
    wanted = backup.Wanted(settings={"files": False}, store=store.address, remove_remote=True)
    done = backup.run(world.site, backup.plan(world.site, "RICH101", wanted))
    assert done.stored is not None
    assert (done.stored.carries, done.stored.contents) == (False, 0)


def test_what_is_restored_from_a_store_is_looked_at_like_any_file(world: World, store: Store) -> None:
    entry = made(world, store)
    with fromstore.restorable(store, entry, world.site, Road()) as path:
        source = restore.RestoreSource(path=path)
        plan = restore.plan(world.site, world.request(path, "new", category_id=world.category, settings={"users": False}))
        assert "without-files" not in plan.dangers
        held = restore.look(world.site, source, needed=True)
        assert held is not None and held.course is not None


class _Lent:
    """The world's site, which is not closed by whoever borrows it."""

    def __init__(self, world: World) -> None:
        self._site = world.site

    def __getattr__(self, name: str) -> object:
        return getattr(self._site, name)

    def download(self, *_: object) -> None:
        """Nothing may come whole."""
        raise AssertionError("it was brought whole")

    def close(self) -> None:
        """Not yet."""
