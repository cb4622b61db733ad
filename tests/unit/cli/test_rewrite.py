"""``backup rewrite`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from moodlectl.cli import rewrite
from moodlectl.cli.state import Output, State
from moodlectl.mbz import read_users, verify

TGZ = Path(__file__).parents[2] / "data" / "mbz" / "course-4.5-tgz-users.mbz"


def run(*words: str, output: Output = Output.table) -> tuple[int, str, str]:
    app = typer.Typer()
    rewrite.register(app)
    app.callback()(lambda: None)
    done = CliRunner().invoke(app, ["rewrite", *words], obj=State(output=output, quiet=False))
    return done.exit_code, done.stdout, done.stderr


def test_the_new_file_goes_to_standard_output_and_what_was_done_to_standard_error(tmp_path: Path) -> None:
    new = tmp_path / "new.mbz"
    status, out, err = run(str(TGZ), "--output", str(new), "--map", "admin=boss", "--map", "tool_generator_000001=-")
    assert (status, out) == (0, f"{new}\n")
    assert "admin becomes boss" in err
    assert "tool_generator_000001 is left out" in err
    assert "note: The email of boss" in err
    assert verify(new).ok
    assert "boss" in [person.username for person in read_users(new)]


def test_an_anonymised_copy_warns_of_what_could_not_be_known(tmp_path: Path) -> None:
    status, _, err = run(str(TGZ), "--output", str(tmp_path / "new.mbz"), "--anonymize")
    assert status == 0
    assert "warning: what could not be known to be harmless" in err
    assert "forum: text written by or about a person: post.message (2)" in err


def test_the_report_is_one_json_object(tmp_path: Path) -> None:
    table = tmp_path / "map.csv"
    table.write_text("old,new\nadmin,boss\n")
    words = (str(TGZ), "--output", str(tmp_path / "new.mbz"), "--user-map", str(table))
    status, out, _ = run(*words, output=Output.json)
    report = json.loads(out)
    assert status == 0
    assert report["mapped"] == [{"old": "admin", "new": "boss"}]
    assert {"path", "output", "size", "sha1", "left_out", "stand_ins", "changed", "notes", "leftovers"} <= set(report)
