"""A backup without its files, and whole again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.errors import Refused
from moodlectl.mbz.lean import write_lean, write_whole

DATA = Path(__file__).parents[2] / "data" / "mbz"
FILES = ["course-4.5-tgz-rich-users.mbz", "course-4.5-zip-users.mbz", "course-5.1-tgz-subsections.mbz"]


def taken_apart(name: str, folder: Path) -> tuple[Path, dict[str, bytes]]:
    contents: dict[str, bytes] = {}
    with (folder / "lean.mbz").open("wb") as out:
        write_lean(DATA / name, out, lambda sha1, chunks: contents.update({sha1: b"".join(chunks)}))
    return folder / "lean.mbz", contents


@pytest.mark.parametrize("name", FILES)
def test_only_the_files_are_gone_and_the_manifest_says_so(name: str, tmp_path: Path) -> None:
    lean, contents = taken_apart(name, tmp_path)
    before, after = mbz.inspect(DATA / name), mbz.inspect(lean)
    assert (before.include_files, after.include_files) == (True, False)
    assert (after.settings, after.sections) == (before.settings, before.sections)
    assert after.counts.files == before.counts.files
    assert after.counts.pool.count == 0
    assert len(contents) == before.counts.pool.count
    assert mbz.verify(lean).ok


@pytest.mark.parametrize("name", FILES)
def test_with_its_files_put_back_it_is_an_ordinary_backup_again(name: str, tmp_path: Path) -> None:
    lean, contents = taken_apart(name, tmp_path)
    whole = tmp_path / "whole.mbz"
    with whole.open("wb") as out:
        write_whole(lean, out, lambda one: [contents[one.sha1]])
    report = mbz.verify(whole)
    assert report.ok, report.problems
    before, after = mbz.inspect(DATA / name), mbz.inspect(whole)
    assert (after.counts, after.include_files, after.settings) == (before.counts, True, before.settings)


def test_every_content_is_named_once_with_a_file_that_has_it() -> None:
    path = DATA / "course-4.5-tgz-rich-users.mbz"
    found = mbz.pool_files(path)
    assert len({one.sha1 for one in found}) == len(found) == mbz.inspect(path).counts.pool.count
    assert all(one.filename not in ("", ".") for one in found)


@pytest.mark.parametrize("name", ["truncated-tgz.mbz", "truncated-zip.mbz"])
def test_a_file_that_is_cut_short_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        write_lean(DATA / name, io.BytesIO())


def test_a_content_that_is_not_what_it_is_called_is_refused(tmp_path: Path) -> None:
    lean, contents = taken_apart("course-4.5-zip-users.mbz", tmp_path)
    sha1, other = next(iter(contents)), b"x"
    with (tmp_path / "bad.mbz").open("wb") as out:
        write_whole(lean, out, lambda one: [other * one.size if one.sha1 == sha1 else contents[one.sha1]])
    with pytest.raises(Refused) as refused:
        write_lean(tmp_path / "bad.mbz", io.BytesIO(), lambda _, chunks: [*chunks].clear())
    assert refused.value.code == "content_damaged"
