"""``--help`` on a terminal of 80 columns: whole sentences, and words that people know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from moodlectl.cli import app, main


def paths(command: Any, *above: str) -> Iterator[tuple[str, ...]]:
    yield above
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, *above, name)


@pytest.mark.parametrize("words", list(paths(typer.main.get_command(app))), ids=" ".join)
def test_help_is_whole_and_speaks_of_no_types(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out
    assert max(len(line) for line in told.splitlines()) <= 80
    assert not re.search(r"<(str|int|float|path|file|list|directory)\b", told)
    assert not re.search(r"[{}]", told.splitlines()[0])
    assert "..." not in told.replace("COMMAND [ARGS]...", "")
