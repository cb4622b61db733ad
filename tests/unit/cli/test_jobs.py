"""What was done from this machine: listed, filtered, and the audit log word for word."""

from __future__ import annotations

import json

import pytest

from moodlectl.cli import main

pytestmark = pytest.mark.usefixtures("home")


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["-o", "json", "job", "list", *words]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_every_deed_is_written_down_with_who_when_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", "create", "RICH101", "--as", "teacher1", "--without", "users"]) == 0
    assert main(["backup", "download", "RICH101@course"]) == 0
    assert main(["copy", "RICH101", "--new", "id:3", "--shortname", "COPY"]) == 0
    assert main(["copy", "RICH101", "--new", "id:3", "--shortname", "WEB", "--by-web"]) == 0
    assert main(["-y", "import", "RICH101", "COPY", "--delete-contents"]) == 0
    assert main(["-y", "backup", "delete", "RICH101@course"]) == 0
    kinds = ["delete", "import", "copy", "copy", "download", "backup"]
    everything = listed(capsys)
    assert [job["kind"] for job in everything] == kinds
    assert all(job["state"] == "done" and job["who"] and job["created"] for job in everything)
    assert [job["kind"] for job in listed(capsys, "--course", "COPY")] == ["import", "copy"]
    assert [job["kind"] for job in listed(capsys, "--course", "https://practice.invalid/course/view.php?id=7")] == [
        "import", "copy"]  # fmt: skip
    assert len(listed(capsys, "--kind", "copy", "--state", "done", "--since", "1h", "--site", "p")) == 2
    assert listed(capsys, "--site", "elsewhere") == listed(capsys, "--state", "failed") == []

    assert main(["-o", "json", "job", "show", "2", "--log"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["event"] for entry in entries] == ["job", "started", "done"]
    started = json.loads(entries[1]["detail"])
    assert started["acting"] == "admin" and len(started["sha1"]) == 40
    assert main(["-o", "json", "job", "show", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["facts"]["acting"] == "teacher1"


@pytest.mark.parametrize("words", [["--since", "soon"], ["--state", "odd"], ["--course", "idnumber:X"]])
def test_a_filter_that_means_nothing_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "list", *words]) == 2
    assert "hint:" in capsys.readouterr().err
