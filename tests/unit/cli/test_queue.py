"""``backup create --queue``: left to the site's cron, and waited for by ``job resume``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moodlectl.cli import main

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("home")


def test_a_queued_backup_is_named_at_once_and_found_by_its_job(capsys: Captured) -> None:
    assert main(["-o", "json", "backup", "create", "GEO200", "EMPTY1", "--queue", "--without", "users"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["course"]["shortname"], row["area"], row["queued"], row["job"]) for row in rows] == [
        ("GEO200", "private", True, 1), ("EMPTY1", "private", True, 2)]  # fmt: skip
    assert main(["-o", "json", "job", "show", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "unknown"
    assert main(["job", "resume", "1"]) == 0
    assert rows[0]["word"] in "".join(capsys.readouterr())
    assert main(["-o", "json", "job", "show", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    assert main(["backup", "download", rows[0]["word"], "-d", "down"]) == 0


def test_what_is_queued_cannot_be_brought_down_at_once(capsys: Captured, home: Path) -> None:
    assert main(["backup", "create", "GEO200", "--queue", "--download", "down"]) == 2
    assert "job resume" in capsys.readouterr().err
    assert main(["-o", "json", "job", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_of_several_to_be_queued_one_that_cannot_be_stops_none(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moodlectl.errors import Refused
    from moodlectl.site.practice import PracticeSite

    queue = PracticeSite.queue_backup

    def stumbling(self: PracticeSite, request: object) -> object:
        if getattr(request, "course_id", 0) == 2:
            raise Refused("There is not enough room.")
        return queue(self, request)  # type: ignore[arg-type]

    monkeypatch.setattr(PracticeSite, "queue_backup", stumbling)
    assert main(["-o", "json", "backup", "create", "EMPTY1", "GEO200", "--queue"]) == 7
    out, err = capsys.readouterr()
    assert [row["course"]["shortname"] for row in json.loads(out)] == ["GEO200"]
    assert "EMPTY1: There is not enough room." in err
