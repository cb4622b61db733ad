"""What is kept of small backups between walks: the same members, never more than there is room for, nothing refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import mbz_corpus as corpus
import pytest

from moodlectl.errors import Refused
from moodlectl.mbz import Limits, archive, kept, open_backup
from moodlectl.mbz.kept import Kept, Walk

Seen = list[tuple[str, int, str, bytes]]


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """An empty shelf for each test."""
    fresh = Kept()
    monkeypatch.setattr(archive, "KEPT", fresh)
    return fresh


def walked(path: Path, limits: Limits | None = None) -> Seen:
    with open_backup(path, **({} if limits is None else {"limits": limits})) as backup:
        return [(one.name, one.size, one.kind, b"".join(one.chunks())) for one in backup.members()]


def holds(shelf: Kept, path: Path) -> bool:
    return shelf.get(kept.key_of(path.read_bytes())) is not None


@pytest.mark.parametrize("path", sorted(corpus.DATA.glob("course-*.mbz")), ids=lambda path: path.name)
def test_a_second_walk_sees_what_the_first_one_saw(path: Path, shelf: Kept) -> None:
    first = walked(path)
    assert holds(shelf, path) is ("-tgz-" in path.name and path.stat().st_size <= kept.PACKED)
    assert walked(path) == first


def test_a_second_walk_knows_remarks_and_names_tells_progress_and_hands_on_the_raw_bytes(tmp_path: Path) -> None:
    path = tmp_path / "odd.mbz"
    path.write_bytes(corpus.SMALL.read_bytes() + b"behind the end")

    def told() -> tuple[object, ...]:
        sha1, progress = hashlib.sha1(usedforsecurity=False), list[int]()
        with open_backup(path, tap=sha1.update, progress=lambda done, _: progress.append(done)) as backup:
            first, *_ = [backup.has(corpus.MANIFEST) for _ in backup.members()]
            return backup.remarks, first, backup.has(corpus.MANIFEST), sha1.hexdigest(), progress[-1]

    sha1 = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert told() == told() == (
        ["14 bytes that belong to nothing follow the gzip stream."], False, True, sha1, path.stat().st_size,
    )  # fmt: skip


def test_a_file_changed_in_place_is_read_anew_even_if_size_and_time_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.mbz"
    path.write_bytes(corpus.SMALL.read_bytes())
    before, state = walked(path), path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(Refused) as refused:
        assert walked(path) == before
    assert refused.value.code == "damaged"


@pytest.mark.parametrize("name", ["dot dot", "absolute", "backslash", "escape"])
def test_a_hostile_name_is_refused_on_the_second_walk_as_on_the_first(name: str, tmp_path: Path) -> None:
    bad = {"dot dot": "../evil.xml", "absolute": "/etc/passwd", "backslash": "a\\b.xml", "escape": "a\x1b[2J.xml"}
    path = corpus.write_tgz(tmp_path / "bad.mbz", [*corpus.pieces(), corpus.Piece(bad[name])])
    codes = []
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            walked(path)
        codes.append(refused.value.code)
    assert codes[0] == codes[1]
    assert codes[0] in ("hostile_path", "hostile_name")


def test_stricter_limits_than_those_of_the_first_walk_are_kept_to(tmp_path: Path) -> None:
    walked(corpus.SMALL)
    with pytest.raises(Refused, match="more than 3 members"):
        walked(corpus.SMALL, Limits(members=3))


def test_a_walk_that_breaks_off_is_not_kept(shelf: Kept) -> None:
    with open_backup(corpus.SMALL) as backup:
        next(backup.members())
    assert not holds(shelf, corpus.SMALL)


def test_members_read_in_part_or_not_at_all_are_kept_whole() -> None:
    with open_backup(corpus.SMALL) as backup:
        for number, member in enumerate(backup.members()):
            if number % 2:
                next(member.chunks(), None)
    again = walked(corpus.SMALL)
    assert all(len(content) == size for _, size, _, content in again)
    with open_backup(corpus.SMALL, limits=Limits()) as backup:  # as it lies on the disk
        assert [(one.name, one.size, one.kind, b"".join(one.chunks())) for one in backup.members()] == again


def test_what_unpacks_to_more_than_there_is_room_for_is_walked_and_not_kept(
    tmp_path: Path, shelf: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "UNPACKED", 100_000)
    path = corpus.write_tgz(tmp_path / "big.mbz", [*corpus.pieces(), corpus.Piece("big.xml", bytes(200_000))])
    first = walked(path)
    assert (not holds(shelf, path), walked(path)) == (True, first)


def test_a_large_file_is_never_held() -> None:
    assert kept.PACKED < kept.UNPACKED < kept.MOST <= 32 << 20


def test_all_walks_together_stay_within_their_room() -> None:
    room = Kept(most=1000)
    for number in range(50):
        room.put(bytes([number]), Walk((), (), 300))
    assert [number for number in range(50) if room.get(bytes([number]))] == [47, 48, 49]
    room.get(bytes([47]))
    room.put(b"new", Walk((), (), 300))
    assert (room.get(bytes([48])), room.get(bytes([47])) is not None) == (None, True)
    room.put(b"huge", Walk((), (), 5000))
    assert room.get(b"huge") is None
