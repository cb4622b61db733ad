"""Long lists, printed row by row: the same words as a short one, in constant memory, harmless everywhere."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from moodlectl.actions.spool import Spool
from moodlectl.cli import output, streams
from moodlectl.cli.state import State
from moodlectl.mbz.usermap import read_user_map

EVIL = "\x9b31m\u202e=1+1\U000e0041\ud800"


def test_a_spool_gives_back_what_was_added_however_often_it_is_asked() -> None:
    with Spool() as spool:
        for number in range(50_000):
            spool.add([number, f"Ngọc {number}\n", None])
        assert len(spool) == 50_000
        assert [row[0] for row in spool] == list(range(50_000))
        assert next(iter(spool)) == [0, "Ngọc 0\n", None]


def test_streamed_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    streams.print_json("users", iter([{"a": EVIL}, {"a": None}]), {"totals": {"users": 2}})
    said = capsys.readouterr().out
    assert json.loads(said) == {"users": [{"a": EVIL}, {"a": None}], "totals": {"users": 2}}
    assert said.replace("\n", "").isprintable()
    streams.print_json("users", iter([]), {})
    assert json.loads(capsys.readouterr().out) == {"users": []}


def test_any_json_is_harmless_on_a_terminal_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"title": EVIL})
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == {"title": EVIL}


def test_a_cell_that_would_be_a_formula_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"a": word} for word in ("=HYPERLINK(1)", "@bob", "+1-2", "-x", "-", "-5", "+3.5", "\t=1", "plain", -7)]
    streams.print_csv(rows, ["a"])
    said = capsys.readouterr().out
    cells = [row[0] for row in csv.reader(io.StringIO(said))][1:]
    assert cells == ["'=HYPERLINK(1)", "'@bob", "'+1-2", "'-x", "-", "-5", "+3.5", "'\t=1", "plain", "-7"]
    # Who makes a user map out of it gets the names as they are.
    map_ = tmp_path / "map.csv"
    map_.write_text("old,new\n'@bob,bob\n'-x,-\n", encoding="utf-8")
    assert [(entry.old, entry.new) for entry in read_user_map(map_).entries] == [("@bob", "bob"), ("-x", None)]


def test_a_streamed_table_lines_up_and_folds_nothing_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(1, "王", "a\nb\x1b[2J"), (22, "x" * 300, None)]
    streams.print_table(State(), lambda: rows, ["id", "name", "text"])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith("ID  NAME")
    assert first.startswith(" 1  王")
    assert first.endswith("a\\nb\\x1b[2J")
    assert second == f"22  {'x' * 300}  -"


def test_a_table_too_wide_for_a_terminal_goes_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = Terminal()
    monkeypatch.setattr("sys.stdout", said)
    monkeypatch.setenv("COLUMNS", "40")
    streams.print_table(State(color=False), lambda: [(1, "n" * 50, "王" * 20)], ["id", "name", "text"])
    lines = said.getvalue().splitlines()
    assert all(len(line.replace("王", "xx")) <= 40 for line in lines)
    assert "".join(lines).count("n") == 50
    assert "".join(lines).count("王") == 20
