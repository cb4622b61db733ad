"""Several things in one command: one that fails stops nothing; and what Ctrl-C leaves is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moodlectl.actions.naming import course_word, parse_course
from moodlectl.cli import main
from moodlectl.site.port import CourseRef
from moodlectl.site.practice import PracticeSite

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("home")


def run(capsys: Captured, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main([*words])
    return status, *capsys.readouterr()


def error_of(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.strip().splitlines()[-1])["error"]
    return found


def test_of_several_downloads_the_failing_one_is_named_and_the_others_are_there(capsys: Captured, home: Path) -> None:
    for course in ("RICH101", "GEO200"):
        assert main(["backup", "create", course]) == 0
    mine, *_ = json.loads(run(capsys, "-o", "json", "backup", "list", "RICH101", "--area", "course")[1])
    (home / "down").mkdir()
    (home / "down" / mine["filename"]).write_text("something else")
    words = ("backup", "download", "RICH101@course", "GEO200@course", "-d", "down")
    status, out, err = run(capsys, "-o", "json", *words)
    error = error_of(err)
    assert (status, error["code"]) == (7, "some_failed")
    assert [Path(row["path"]).is_file() for row in json.loads(out)] == [True]
    assert error["details"]["done"] == ["GEO200@course"]  # type: ignore[index]
    assert run(capsys, *words[:3], "-d", "down")[0] == 5


def test_a_file_that_is_missing_does_not_keep_others_from_being_verified(capsys: Captured, home: Path) -> None:
    assert main(["backup", "create", "GEO200", "--download", "."]) == 0
    [file] = home.glob("*.mbz")
    status, out, err = run(capsys, "-o", "json", "backup", "verify", "none.mbz", file.name)
    assert (status, [row["ok"] for row in json.loads(out)]) == (7, [True])
    assert "none.mbz" in str(error_of(err)["details"])
    assert run(capsys, "backup", "verify", "none.mbz")[0] == 4


def test_every_backup_that_can_be_deleted_is(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moodlectl.errors import Failed

    for course in ("RICH101", "GEO200"):
        assert main(["backup", "create", course]) == 0
    delete = PracticeSite.delete_backup

    def stumbling(self: PracticeSite, file: object) -> None:
        if getattr(file, "course_shortname", "") == "RICH101":
            raise Failed("It stays.")
        delete(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(PracticeSite, "delete_backup", stumbling)
    status, out, err = run(capsys, "-y", "-o", "json", "backup", "delete", "RICH101@course", "GEO200@course")
    assert (status, [row["course"]["shortname"] for row in json.loads(out)]) == (7, ["GEO200"])
    assert "RICH101@course: It stays." in str(error_of(err)["details"])
    assert json.loads(run(capsys, "-o", "json", "backup", "list", "GEO200", "--area", "course")[1]) == []


@pytest.mark.parametrize("step", ["download", "delete_backup"])
def test_ctrl_c_after_the_backup_was_made_says_where_it_is(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PracticeSite, step, stopped)
    status, out, err = run(capsys, "-o", "json", "backup", "create", "GEO200", "--download", ".", "--remove-remote")
    message = str(error_of(err)["message"])
    assert (status, out) == (130, "")
    assert "The backup was made" in message
    assert "GEO200@course/" in message
    assert "Nothing" not in message
    assert ("brought to" in message) is (step == "delete_backup")


def test_ctrl_c_while_the_second_course_is_looked_up_or_made_names_the_first(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = PracticeSite.backup

    def stopping(self: PracticeSite, request: object, *rest: object) -> object:
        if getattr(request, "course_id", 0) != self.course(CourseRef("shortname", "GEO200")).id:
            raise KeyboardInterrupt
        return backup(self, request, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PracticeSite, "backup", stopping)
    status, _, err = run(capsys, "-o", "json", "backup", "create", "GEO200", "RICH101")
    assert status == 130
    assert "Done before that: GEO200@course/" in str(error_of(err)["message"])


def test_ctrl_c_while_a_restore_is_compared_says_how_to_find_out(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from moodlectl.actions.verification import Verification

    assert main(["backup", "create", "GEO200", "--download", "."]) == 0
    [file] = home.glob("*.mbz")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Verification, "verify", stopped)
        status, _, err = run(capsys, "-o", "json", "restore", file.name, "--new", "Science", "--shortname", "CUT1")
    assert status == 130
    assert "moodlectl job resume 2" in str(error_of(err)["message"])
    assert run(capsys, "job", "resume", "2")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(Verification, "look", stopped)
        status, _, err = run(capsys, "-o", "json", "restore", file.name, "--new", "Science", "--shortname", "CUT2")
    assert (status, error_of(err)["message"]) == (130, "interrupted. Nothing had been changed on the site.")


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_reader_that_goes_away_is_no_failure(home: Path, output: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "moodlectl", "-o", output, "course", "list"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("name", ["BIO101", "a b", "424242", "id:5", "idnumber:X", "--new", " led", "", "https://x.org/a",
                                  "new\nline", "x@course", "Bio/Chem"])  # fmt: skip
def test_a_course_is_named_so_that_the_word_means_that_course(name: str) -> None:
    found = parse_course(course_word(7, name))
    assert found in (CourseRef("id", "7"), CourseRef("shortname", name))
    assert (found == CourseRef("shortname", name)) is (name in ("BIO101", "a b", "x@course", "Bio/Chem"))
