"""The one door of errors, and the streams around it: everything a person or a script can do wrong, as a process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodlectl.cli import failures
from moodlectl.cli.output import _fitting
from moodlectl.errors import NotFound, Refused

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Starts the command in a home of its own; ``ends`` is what a shell adds to the line, such as ``>&-``."""
    home = tmp_path / "home"
    home.mkdir()
    ours = ("MOODLECTL_", "XDG_", "LC_", "LANG")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {"HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "LC_ALL": "C.UTF-8"}

    def start(*words: str | bytes, ends: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        argv: list[str | bytes] = [sys.executable, "-m", "moodlectl", *words]
        if ends:
            argv = ["sh", "-c", f'"$@" {ends}', "sh", *argv]
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", env={**env, **more}, timeout=60,
                              stdin=subprocess.DEVNULL, check=False)  # fmt: skip

    return start


@pytest.fixture
def practice(run: Run, tmp_path: Path) -> str:
    """A configuration file with one practice site, called ``practice``."""
    path = tmp_path / "config.toml"
    path.write_text(f'default = "practice"\n[sites.practice]\nkind = "practice"\nfolder = "{tmp_path}/site"\n')
    return str(path)


def error_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])["error"]
    return found


@pytest.mark.parametrize(
    ("line", "says", "hint"),
    [
        ("backup creat X", "Did you mean 'create'?", "backup --help"),
        ("backup create", "COURSE", "backup create --help"),
        ("backup create X --wiht users", "--with", "backup create --help"),
        ("-o xml course list", "'xml' is not one of 'table', 'json', 'csv'", "--help"),
        ("course list --site", "requires an argument", "--help"),
        ("restore x.mbz", "Where to restore", "--new CATEGORY"),
        ("restore x.mbz --new 1 --merge 2", "Where to restore", "--new CATEGORY"),
        ("restore x.mbz --new 1 --startdate soon", "'soon' is no day", "YYYY-MM-DD"),
    ],
)
def test_a_wrong_line_is_told_with_where_help_is(run: Run, line: str, says: str, hint: str) -> None:
    done = run(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert hint in done.stderr.splitlines()[-1]
    assert "Value error" not in done.stderr
    again = run(*line.split(), "-o", "json") if "xml" not in line else run("-o", "json", "course", "creat")
    assert (again.returncode, again.stdout) == (2, "")
    assert set(error_of(again)) == {"code", "message", "hint", "details"}


def test_a_group_without_a_command_answers_with_its_help(run: Run) -> None:
    done = run("backup")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: moodlectl backup")
    assert "error:" not in done.stderr
    assert error_of(run("backup", "-o", "json"))["message"] == "A command is missing."


def test_without_any_settings_the_first_step_is_named(run: Run) -> None:
    done = run("course", "list")
    assert done.returncode == 3
    assert "moodlectl site add" in done.stderr and "moodlectl demo" in done.stderr


def test_a_site_nobody_knows_is_not_found(run: Run, practice: str) -> None:
    done = run("--config", practice, "--site", "practise", "course", "list", "-o", "json")
    assert done.returncode == 4
    assert "practice" in error_of(done)["hint"]


@pytest.mark.parametrize("content", [b"sites = 3", b"\xff\xfe", b"[sites.x]\nurl = 'http://x y'", b"default = "])
def test_settings_that_cannot_be_read_are_refused(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    done = run("--config", str(path), "course", "list", "-o", "json")
    assert (done.returncode, done.stdout, error_of(done)["code"]) == (3, "", "config")


@pytest.mark.parametrize("path", ["/nonexistent/x.toml", "/"])
def test_settings_that_are_not_there_are_refused(run: Run, path: str) -> None:
    assert run("--config", path, "course", "list").returncode == 3


def test_words_that_are_no_text_are_a_wrong_line(run: Run, practice: str) -> None:
    done = run("--config", practice, "-o", "json", "course", "show", b"\xff\xfe")
    assert done.returncode in (2, 4)
    assert error_of(done)["code"] in ("usage", "course_unknown", "notfound")


def test_closed_streams_break_nothing(run: Run, practice: str) -> None:
    config = ("--config", practice)
    whole = run(*config, "course", "list")
    assert whole.returncode == 0, whole.stderr
    for ends in (">&-", "<&- >&- 2>&-"):
        assert run(*config, "course", "list", ends=ends).returncode == 0
        assert run(*config, "course", "show", "NOPE", ends=ends).returncode == 4
    assert run(*config, "course", "list", ends="2>&-").stdout == whole.stdout
    assert run("--version", ends=">&-").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["course", "list"]])
def test_a_full_disk_behind_the_output_is_told(run: Run, practice: str, words: list[str]) -> None:
    config = ["--config", practice] if words != ["--version"] else []
    done = run(*config, *words, ends=">/dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if words != ["--version"]:
        assert "output cannot be written" in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly(run: Run, practice: str) -> None:
    for words in (["course", "list"], ["--help"], ["course", "show", "NOPE"]):
        done = run("--config", practice, *words, ends="2>&1 | true")
        assert done.stderr == ""


def test_in_a_locale_without_its_letters_everything_is_still_printed(run: Run, practice: str) -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("--config", practice, "course", "list", **poor)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    told = json.loads(run("--config", practice, "course", "list", "-o", "json", **poor).stdout)
    assert told == json.loads(run("--config", practice, "course", "list", "-o", "json").stdout)


def test_what_a_stranger_wrote_cannot_pass_for_a_line_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    failures.report(NotFound("There is no course A\nhint: rm -rf\x1b[2J", "Look."), as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: There is no course A", "  hint: rm -rf\\x1b[2J", "hint: Look."]


def test_what_the_message_says_already_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    error = Refused("No setting 'userz'.", "There are: users, files.",
                    details={"setting": "userz", "available": ["users", "files"], "more": "told"})  # fmt: skip
    failures.report(error, as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: No setting 'userz'.", "  more: told", "hint: There are: users, files."]  # fmt: skip
    failures.report(error, as_json=True)
    assert json.loads(capsys.readouterr().err)["error"]["details"]["available"] == ["users", "files"]


def test_settings_that_stand_in_the_way_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    problems = {
        "users": {"message": "'users' is locked.", "locked_by": "permission", "hint": "Ask Ada."},
        "logs": {"message": "'logs' is locked.", "locked_by": "config", "hint": "Ask Ben."},
        "blocks": {"message": "'blocks' is locked.", "locked_by": "config", "hint": "Ask Ben."},
    }
    error = Refused("'users' is locked. 'logs' is locked.", "Ask Ada.", details={"settings": problems})
    failures.report(error, as_json=False)
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == ["  Ask Ben.", "  also: 'blocks' is locked. Ask Ben.", "hint: Ask Ada."]


def test_a_message_without_end_is_shortened_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("There is no course " + "x" * 100_000)
    failures.report(error, as_json=False)
    assert len(capsys.readouterr().err) < 3000
    failures.report(error, as_json=True)
    assert len(capsys.readouterr().err) > 100_000


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (KeyboardInterrupt("SIGTERM"), 143),
        (KeyboardInterrupt("SIGHUP"), 129),
        (Refused("x"), 5),
        (ValueError("x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
    ],
)
def test_every_ending_has_its_status(error: BaseException, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    saved = os.dup(1)
    try:
        assert failures.report(error, as_json=True) == status
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert json.loads(capfd.readouterr().err)["error"]["message"]


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``nohup`` leaves it: the terminal may be closed and the command goes on."""
    from moodlectl import cli

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        cli.main(["--version"])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def test_a_narrow_table_gives_up_spare_columns_first() -> None:
    rows = [{"name": "n" * 50, "sha1": "s" * 40, "size": 12}]
    columns = ["name", "size", "sha1"]
    assert _fitting(rows, columns, ["sha1", "size"], 200) == columns
    assert _fitting(rows, columns, ["sha1", "size"], 80) == ["name", "size"]
    assert _fitting(rows, columns, ["sha1", "size"], 30) == ["name"]
