"""A file read in pieces is the file, and little of it is asked for."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from moodlectl.errors import Unreachable
from moodlectl.site.pieces import BLOCK, PieceFile

CONTENT = os.urandom(5 * BLOCK + 1234)


def fetch(offset: int, length: int) -> bytes:
    return CONTENT[offset : offset + length]


@settings(suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(
    some.lists(some.tuples(some.integers(0, len(CONTENT) + 10), some.integers(0, 3 * BLOCK)), max_size=12),
    some.sampled_from([0, 100, BLOCK, BLOCK + 5]),
)
def test_whatever_is_sought_and_read_is_what_the_file_holds(reads: list[tuple[int, int]], begun: int) -> None:
    file = PieceFile(len(CONTENT), fetch, CONTENT[:begun])
    plain = io.BytesIO(CONTENT)
    for offset, length in reads:
        file.seek(offset)
        plain.seek(offset)
        assert file.read(length) == plain.read(length)
        assert offset > len(CONTENT) or file.tell() == plain.tell()


def test_who_reads_straight_on_is_given_more_at_a_time() -> None:
    asked: list[int] = []

    def noted(offset: int, length: int) -> bytes:
        asked.append(length)
        return b"x" * length

    file = PieceFile(40 * BLOCK, noted)
    while file.read(1000):
        pass
    assert asked[:5] == [BLOCK, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK, 16 * BLOCK]
    assert sum(asked) == 40 * BLOCK


def test_a_zips_directory_and_one_member_need_little_of_it() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("moodle_backup.xml", "<moodle_backup/>")
        for number in range(20):
            archive.writestr(f"files/{number}", os.urandom(1_000_000))
    content = made.getvalue()
    file = PieceFile(len(content), lambda offset, length: content[offset : offset + length])
    with zipfile.ZipFile(file) as archive:  # type: ignore[arg-type]
        assert archive.read("moodle_backup.xml") == b"<moodle_backup/>"
    assert file.fetched < 5 * BLOCK


def test_a_piece_that_comes_short_is_no_end_of_the_file() -> None:
    file = PieceFile(10 * BLOCK, lambda offset, length: b"x" * (length - 1))
    with pytest.raises(Unreachable):
        file.read(10)
