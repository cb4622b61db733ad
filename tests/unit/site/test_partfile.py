"""Files that arrive in pieces: their sha1 beside the arriving, and a disk that takes less than it is given."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from moodlectl.errors import Failed
from moodlectl.site.partfile import PartFile
from moodlectl.site.runningsha1 import RunningSha1


@pytest.mark.parametrize("size", [0, 1, 8 << 20, 20_000_001])
def test_the_running_sha1_is_that_of_all_pieces_in_their_order(size: int) -> None:
    content, running, done = random.Random(4).randbytes(size), RunningSha1(), 0
    while done < size:
        piece = content[done : done + 700_001]
        running.update(piece)
        done += len(piece)
        if done > size // 2:
            assert running.hexdigest() == hashlib.sha1(content[:done]).hexdigest()
    assert running.hexdigest() == hashlib.sha1(content).hexdigest()
    running.close()
    running.close()
    assert not [one for one in threading.enumerate() if one.name == "sha1"]


def test_a_part_begun_anew_forgets_what_was_hashed(tmp_path: Path) -> None:
    with PartFile(tmp_path / "x.mbz") as part:
        for _ in range(20):
            part.write(bytes(1 << 20))
        part.restart()
        part.write(b"anew")
        assert part.finish(size=4, sha1=hashlib.sha1(b"anew").hexdigest())
    assert (tmp_path / "x.mbz").read_bytes() == b"anew"


def test_a_write_that_takes_only_a_part_is_gone_on_with(tmp_path: Path) -> None:
    with PartFile(tmp_path / "x.mbz") as part:
        real = part._file

        class Reluctant:
            def write(self, piece: memoryview) -> int:
                return real.write(piece[:3])

        part._file = cast(BinaryIO, Reluctant())
        part.write(b"0123456789")
        part._file = real
        part.finish(size=10, sha1=hashlib.sha1(b"0123456789").hexdigest())
    assert (tmp_path / "x.mbz").read_bytes() == b"0123456789"


def test_a_full_disk_is_said_and_counts_only_what_is_there() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    part = PartFile.__new__(PartFile)
    part.path, part.offset, part._hash = Path("/dev/full"), 0, RunningSha1()
    with Path("/dev/full").open("r+b", buffering=0) as full:
        part._file = full  # type: ignore[assignment]
        with pytest.raises(Failed, match="No space left"):
            part.write(b"x")
    assert part.offset == 0
