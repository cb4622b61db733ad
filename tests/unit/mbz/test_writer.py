"""A backup's headers, written fast, are those that Python's own tar module writes."""

from __future__ import annotations

import tarfile
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from moodlectl.errors import Refused
from moodlectl.mbz import writer
from moodlectl.mbz.writer import Item

names = some.text(alphabet="abc/_.é🌱 ", min_size=1, max_size=130)
kinds: some.SearchStrategy[Literal["file", "dir"]] = some.sampled_from(["file", "dir"])


@given(names, some.integers(0, 8**11 + 5), kinds)
def test_a_header_is_what_tarfile_writes(name: str, size: int, kind: Literal["file", "dir"]) -> None:
    item = Item(name, size if kind == "file" else 0, kind)
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = item.size, writer.MTIME, 0o644
    if kind == "dir":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    try:
        theirs = info.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        with pytest.raises(Refused):
            writer._header(item)
    else:
        assert writer._header(item) == theirs
