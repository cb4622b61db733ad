"""Everything in a store is read, and every hole is named; what can be mended is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from moodlectl.store import Store, checking, entries, exporting
from moodlectl.store.entries import Entry
from moodlectl.store.pool import name_of
from tests.backups import DAY, make_backup, sha1
from tests.unit.store.keeping import add, whole

ESSAY, NOTES = b"essay " * 100, b"notes " * 100


def two(store: Store, folder: Path) -> tuple[Entry, Entry]:
    one = add(store, make_backup(folder / "1.mbz", {"essay.pdf": ESSAY, "notes.txt": NOTES}))
    two = add(store, make_backup(folder / "2.mbz", {"same-essay.pdf": ESSAY}, date=DAY + timedelta(days=1)))
    return one.entry, two.entry


def damage(store: Store, folder: Path, name: str, data: bytes) -> None:
    (folder / "damage").write_bytes(data)
    store.place.put([(folder / "damage", name)])


def test_a_whole_store_is_whole(store: Store, tmp_path: Path) -> None:
    two(store, tmp_path)
    found = whole(store)
    assert (found.backups, found.contents, found.bytes, found.unclaimed) == (2, 2, len(ESSAY + NOTES), 0)


def test_a_lost_and_a_damaged_content_are_named_with_every_file_that_has_them(store: Store, tmp_path: Path) -> None:
    one, other = two(store, tmp_path)
    damage(store, tmp_path, name_of(sha1(ESSAY)), ESSAY.replace(b"e", b"f", 1))
    store.place.remove([name_of(sha1(NOTES))])
    found = checking.check(store)
    assert not found.ok
    assert {(hole.entry.id, hole.filename, hole.sha1, hole.damaged) for hole in found.holes} == {
        (one.id, "essay.pdf", sha1(ESSAY), True),
        (one.id, "notes.txt", sha1(NOTES), False),
        (other.id, "same-essay.pdf", sha1(ESSAY), True),
    }
    assert all(hole.entry.shortname in str(hole) and hole.filename in str(hole) for hole in found.holes)


def test_what_was_damaged_is_made_good_by_the_next_backup_that_has_it(store: Store, tmp_path: Path) -> None:
    two(store, tmp_path)
    damage(store, tmp_path, name_of(sha1(ESSAY)), ESSAY.replace(b"e", b"f", 1))
    assert not checking.check(store, repair=True).ok
    add(store, make_backup(tmp_path / "3.mbz", {"essay.pdf": ESSAY}, date=DAY + timedelta(days=2)))
    assert whole(store).backups == 3


def test_a_damaged_archive_is_told_and_its_contents_stay_claimed(store: Store, tmp_path: Path) -> None:
    one, _ = two(store, tmp_path)
    damage(store, tmp_path, one.archive, b"nonsense")
    found = checking.check(store)
    assert len(found.problems) == 1 and one.id[:10] in found.problems[0]
    assert (found.holes, found.unclaimed) == ([], 0)
    store.place.remove([one.archive])
    assert not checking.check(store).ok


def test_a_damaged_list_is_told_and_written_anew(store: Store, tmp_path: Path) -> None:
    one, _ = two(store, tmp_path)
    for data in (b"", b"nonsense", f"{sha1(ESSAY)} {len(ESSAY)}\n".encode()):
        damage(store, tmp_path, one.listed, data)
        assert not checking.check(store).ok
        assert checking.check(store, repair=True).repaired
        whole(store)
    store.place.remove([one.listed])
    assert checking.check(store, repair=True).repaired
    whole(store)


def test_a_damaged_entry_is_told(store: Store, tmp_path: Path) -> None:
    one, _ = two(store, tmp_path)
    store.place.save(entries.name_of(one.id), b"{")
    found = checking.check(store)
    assert (len(found.problems), found.backups) == (1, 1)


def test_a_damaged_entry_is_written_anew_from_its_backup(store: Store, tmp_path: Path) -> None:
    one, other = two(store, tmp_path)
    for data in (b"{", b"", b'{"format": 1}'):
        store.place.save(entries.name_of(one.id), data)
        assert checking.check(store, repair=True).repaired
        whole(store)
    again = store.find(one.id)
    assert (again.course_id, again.date, again.contents, again.list_sha1, again.lean_sha1) == (
        one.course_id, one.date, one.contents, one.list_sha1, one.lean_sha1,
    )  # fmt: skip
    exporting.write(store, again, tmp_path / "again.mbz")
    assert store.find(other.id) == other


def test_a_content_that_is_gone_when_an_entry_is_written_anew_is_a_hole_that_is_told(
    store: Store, tmp_path: Path
) -> None:
    one, _ = two(store, tmp_path)
    lost = next(iter(entries.contents_of(store.place, one)))
    store.place.remove([name_of(lost.sha1)])
    store.place.save(entries.name_of(one.id), b"{")
    found = checking.check(store, repair=True)
    assert lost.sha1 in {hole.sha1 for hole in found.holes}
    assert not checking.check(store).ok


def test_an_entry_whose_backup_is_damaged_too_stays_told(store: Store, tmp_path: Path) -> None:
    one, _ = two(store, tmp_path)
    store.place.save(entries.name_of(one.id), b"{")
    damage(store, tmp_path, one.archive, b"nonsense")
    found = checking.check(store, repair=True)
    assert len(found.problems) == 1 and not found.repaired
    store.place.save(entries.name_of(one.id), b'{"format": 9}')
    assert len(checking.check(store, repair=True).problems) == 1


def test_contents_that_belong_to_no_backup_are_counted_and_no_hole(store: Store, tmp_path: Path) -> None:
    two(store, tmp_path)
    damage(store, tmp_path, name_of(sha1(b"loose")), b"loose")
    found = whole(store)
    assert (found.unclaimed, found.unclaimed_bytes) == (1, 5)


def test_of_very_many_holes_some_are_named_and_all_are_counted(folder: Store, tmp_path: Path) -> None:
    from unittest import mock

    add(folder, make_backup(tmp_path / "1.mbz", {f"{n}": b"%d" % n for n in range(9)}))
    folder.place.remove([name_of(sha1(b"%d" % n)) for n in range(9)])
    with mock.patch.object(checking, "_MOST", 4):
        found = checking.check(folder)
    assert (len(found.holes), found.more_holes) == (4, 5)
