"""The file pool of a site, content by content: what is put there ahead, and backups restored from it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.actions.contents import How, carry
from moodlectl.errors import Refused
from moodlectl.mbz.lean import write_lean
from moodlectl.site.contents import arriving, packed
from moodlectl.site.port import Content, Identity, Pool
from tests.contract.worlds import World

DATA = Path(__file__).parents[1] / "data" / "mbz"


def content(data: bytes) -> Content:
    return Content(hashlib.sha1(data, usedforsecurity=False).hexdigest(), len(data))


def stream(*data: bytes, pack: bool = False) -> Iterator[bytes]:
    for one in data:
        yield from packed(content(one), [one[:300_000], one[300_000:]], pack=pack)


@pytest.fixture
def pool(world: World) -> Iterator[Pool]:
    """The site's pool; what a test put there ahead is taken out again."""
    found = world.site.pool()
    before = {one.sha1 for one in found.held()}
    yield found
    found.release([one.sha1 for one in found.held() if one.sha1 not in before], unclaimed=True)


@pytest.mark.parametrize("pack", [False, True])
def test_contents_put_there_ahead_are_had_and_held_until_they_are_let_go(pool: Pool, *, pack: bool) -> None:
    data = [os.urandom(400_000), b"the same again and again " * 40_000, b"x"]
    contents = [content(one) for one in data]
    assert list(pool.lacking(contents)) == contents
    taken = pool.take(stream(*data, pack=pack), contents)
    assert (taken.count, taken.bytes) == (3, sum(len(one) for one in data))
    assert (taken.missing, taken.refused) == ((), ())
    assert list(pool.lacking(contents)) == []
    held = {one.sha1: one for one in pool.held()}
    assert [(held[one.sha1].size, held[one.sha1].claimed) for one in contents] == [
        (one.size, False) for one in contents
    ]
    names = [one.sha1 for one in contents]
    assert pool.release(names) == 0
    assert pool.release(names, unclaimed=True) == 3
    assert list(pool.lacking(contents)) == contents


def test_a_content_that_is_not_what_it_is_called_is_refused_and_the_others_stay(pool: Pool) -> None:
    good, bad, short = os.urandom(5000), os.urandom(5000), os.urandom(5000)
    wrong = Content(content(bad).sha1, 5000)

    def lying() -> Iterator[bytes]:
        yield from packed(wrong, [good])
        yield from packed(Content(content(short).sha1, 5000), [short[:-1]])
        yield from packed(content(good), [good])

    contents = [wrong, content(short), content(good)]
    taken = pool.take(lying(), contents)
    assert (taken.count, set(taken.refused)) == (1, {wrong.sha1, content(short).sha1})
    assert {one.sha1 for one in pool.lacking(contents)} == {wrong.sha1, content(short).sha1}


def test_what_is_sent_is_what_is_there_and_what_is_not_is_said(pool: Pool) -> None:
    data = os.urandom(700_000)
    pool.take(stream(data), [content(data)])
    got: list[bytes] = []
    pool.send([content(data), content(b"nobody has this")], lambda piece: got.append(bytes(piece)))
    there, missing = [(one.content, one.there, b"".join(one.pieces)) for one in arriving(got)]
    assert there == (content(data), True, data)
    assert (missing[0].sha1, missing[1]) == (content(b"nobody has this").sha1, False)


def test_nothing_is_sent_that_is_there_already(pool: Pool) -> None:
    data = os.urandom(9000)
    pool.take(stream(data), [content(data)])
    done = carry(pool, pool, [content(data)], How())
    assert (done.wanted, done.count, done.wire_bytes) == (0, 0, 0)


def test_a_backup_without_files_is_restored_from_the_pool_as_if_it_carried_them(world: World, pool: Pool) -> None:
    whole = DATA / "course-4.5-tgz-rich-users.mbz"
    lean, contents = world.tmp / "lean.mbz", list[Content]()

    def put_ahead(sha1: str, chunks: Iterator[memoryview]) -> None:
        data = b"".join(chunks)
        contents.append(Content(sha1, len(data)))
        pool.take(packed(contents[-1], [data]), contents[-1:])

    with lean.open("wb") as out:
        carried = write_lean(whole, out, put_ahead)
    assert {(one.sha1, one.size) for one in contents} == set(carried)
    assert mbz.verify(lean).ok
    assert lean.stat().st_size < whole.stat().st_size / 4
    settings = {"users": False}
    one = world.new(whole, settings=settings, shortname="WHOLE")
    two = world.new(lean, settings=settings, shortname="LEAN")
    assert one.after == two.after == two.expected
    assert files(world, one.course.id) == files(world, two.course.id)
    assert all(each.claimed for each in pool.held() if each.sha1 in {f.sha1 for f in contents} & used(world, two))
    pool.release([each.sha1 for each in contents])
    assert files(world, one.course.id) == files(world, two.course.id)


def used(world: World, restored: object) -> set[str]:
    found = files(world, restored.course.id)  # type: ignore[attr-defined]
    return {value for _, _, facts in found for value in dict(facts).values() if len(value) == 40}


def files(world: World, course_id: int) -> list[tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]]:
    """Every file of a course: where it is, and what is known of it."""
    found: list[Identity] = []
    world.site.identities(course_id, found.append)
    return sorted((kind, key, tuple(sorted(facts.items()))) for kind, key, facts in found if kind == "file")


def test_a_backup_without_files_is_refused_by_the_name_of_one_that_is_nowhere(world: World, pool: Pool) -> None:
    lean, odd = world.tmp / "lean.mbz", world.tmp / "odd.mbz"
    with lean.open("wb") as out:
        write_lean(DATA / "course-4.5-tgz-rich-users.mbz", out)
    lost = mbz.pool_files(lean)[0]
    with tarfile.open(lean) as old, tarfile.open(odd, "w:gz", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            data = b"" if member.isdir() else old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == "files.xml":
                data = data.replace(lost.sha1.encode(), hashlib.sha1(os.urandom(9)).hexdigest().encode())
            new.addfile(member, io.BytesIO(data))
    before = world.everything()
    with pytest.raises(Refused) as refused:
        world.new(odd, settings={"users": False})
    assert refused.value.code == "without-files"
    assert world.everything() == before


def test_a_stored_backup_comes_without_its_file_pool_and_with_all_else(world: World, tmp_path: Path) -> None:
    from moodlectl.site.port import BackupRequest

    made = world.site.backup(BackupRequest(world.rich.id))
    try:
        whole, raw, lean = tmp_path / "whole.mbz", tmp_path / "raw", tmp_path / "lean.mbz"
        world.site.download(made.file, whole)
        with raw.open("wb") as out:
            assert world.site.pool().backup_without_files(made.file, lambda piece: None if out.write(piece) else None)
        with lean.open("wb") as out:
            write_lean(raw, out)

        def members(path: Path) -> dict[str, bytes]:
            with tarfile.open(path) as archive:
                return {
                    one.name: archive.extractfile(one).read()  # type: ignore[union-attr]
                    for one in archive
                    if one.isfile() and not one.name.startswith((".ARCHIVE", "files/", "moodle_backup"))
                }

        assert members(lean) == members(whole)
        assert mbz.pool_files(lean) == mbz.pool_files(whole)
        assert mbz.inspect(raw).include_files  # what it was made as is still to be seen
        assert not mbz.inspect(lean).include_files
    finally:
        world.site.delete_backup(made.file)
