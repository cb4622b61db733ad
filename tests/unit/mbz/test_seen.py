"""What is remembered of files: of this very file in this very state, and of a few."""

from __future__ import annotations

import os
from pathlib import Path

from moodlectl.mbz.seen import Seen, identity


def test_a_file_is_read_once_and_again_when_it_was_written_to(tmp_path: Path) -> None:
    path, read = tmp_path / "a.mbz", list[str]()
    path.write_text("one")
    seen: Seen[str] = Seen()

    def ask() -> str:
        return seen.ask(path, lambda: read.append(path.read_text()) or read[-1])

    assert (ask(), ask(), len(read)) == ("one", "one", 1)
    path.write_text("two!")
    assert (ask(), len(read)) == ("two!", 2)
    os.utime(path, ns=(1, 1))
    assert (ask(), len(read)) == ("two!", 3)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.mbz"
    path.write_text("one")
    seen: Seen[str] = Seen()

    def read() -> str:
        path.write_text("another")
        return "one"

    assert seen.ask(path, read) == "one"
    assert seen.ask(path, path.read_text) == "another"


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    seen: Seen[int] = Seen(keep=2)
    paths = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
        seen.remember(identity(path), number)
    assert [seen.ask(path, lambda: -1) for path in reversed(paths)] == [2, 1, -1]
