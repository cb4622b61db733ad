"""What is asked of the host for backups, and how its replies are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from moodlectl.errors import Failed, Unreachable
from moodlectl.site.live import automated, backup, backups, shell_courses
from moodlectl.site.port import BackupRequest, ItemChoice, Progress
from moodlectl.site.runner import Runner

STORED: dict[str, Any] = {
    "course_id": 8, "course_shortname": "RICH101", "area": "private",
    "filename": "backup-moodle2-course-8-rich101-20261123-2130-nu-nf.mbz", "size": 527765,
    "timecreated": 1795469446, "sha1": "1f7fccf1b5f83f3cba29456b456f2238219a4846", "has_users": False,
    "url": "http://moodle.example/pluginfile.php/5/user/backup/backup-moodle2.mbz", "owner": "admin",
    "directory": None,
    "locator": {"contextid": 5, "component": "user", "filearea": "backup", "itemid": 0, "filepath": "/",
                "filename": "backup-moodle2-course-8-rich101-20261123-2130-nu-nf.mbz", "course_id": 8},
}  # fmt: skip


class Host:
    """A host that holds one backup; it can break off after some bytes, and lie about the hash."""

    def __init__(self, content: bytes, *, breaks_at: int | None = None, sha1: str | None = None) -> None:
        self.content = content
        self.breaks_at = breaks_at
        self.sha1 = sha1 or hashlib.sha1(content).hexdigest()
        self.offsets: list[int] = []

    def fetch(self, call: str, params: Mapping[str, Any], sink: Callable[[bytes], None]) -> dict[str, Any]:
        assert call == "fetch_backup"
        self.offsets.append(params["offset"])
        end = self.breaks_at or len(self.content)
        for start in range(params["offset"], end, 1000):
            sink(self.content[start : min(start + 1000, end)])
        if self.breaks_at is not None:
            self.breaks_at = None
            raise Unreachable("The connection broke.")
        return {"size": len(self.content), "sha1": self.sha1}


def runner(host: Host) -> Runner:
    return cast(Runner, host)


CONTENT = bytes(range(256)) * 40


def listed(content: bytes, **changes: Any) -> Any:
    record = {**STORED, "size": len(content), "sha1": hashlib.sha1(content).hexdigest(), **changes}
    return backups.read_file(record)


def test_a_stored_backup_is_read_with_its_time_and_locator() -> None:
    file = backups.read_file(STORED)
    assert file.timecreated == datetime(2026, 11, 23, 21, 30, 46, tzinfo=UTC)
    assert (file.area, file.owner, file.has_users) == ("private", "admin", False)
    assert file.locator["contextid"] == 5


def test_a_listing_keeps_its_notes() -> None:
    listing = backups.read_listing({"files": [STORED], "notes": ["The course area was not looked at."]})
    assert len(listing.files) == 1
    assert listing.notes == ("The course area was not looked at.",)


def test_a_request_is_sent_as_lists_in_order_and_none_where_all_are_meant() -> None:
    choice = ItemChoice(only_activities=frozenset({9, 3}), skip_sections=frozenset({4}))
    sent = backup.params(BackupRequest(8, {"users": False}, choice))
    assert sent["settings"] == {"users": False}
    assert sent["items"]["only_sections"] is None
    assert sent["items"]["only_activities"] == [3, 9]
    assert sent["items"]["skip_sections"] == [4]
    assert sent["items"]["no_userdata_activities"] == []


def test_a_made_backup_tells_its_settings_and_warnings() -> None:
    made = backup.read_made({"file": STORED, "settings": {"users": False}, "warnings": ["w"], "seconds": 0.9})
    assert (made.settings, made.warnings, made.seconds) == ({"users": False}, ("w",), 0.9)
    assert made.file.course_id == 8


def test_settings_are_read_with_locks_and_items() -> None:
    record = {"name": "page_60_userinfo", "value": True, "level": "subactivity", "label": "-", "visible": True,
              "locked_by": "hierarchy", "depends_on": ["users", "section_28_userinfo"], "item_id": 60,
              "item": "Page inside", "module": "page", "choices": None}  # fmt: skip
    (setting,) = backup.read_settings([record])
    assert (setting.locked_by, setting.depends_on) == ("hierarchy", ("users", "section_28_userinfo"))
    assert (setting.item_id, setting.module, setting.choices) == (60, "page", None)


def test_automated_runs_have_no_time_where_moodle_has_none() -> None:
    (run,) = automated.read_runs(
        [{"course_id": 3, "shortname": "A", "status": "notyetrun", "started": 0, "ended": 0, "before": None}])
    assert (run.status, run.started, run.ended) == ("notyetrun", None, None)


def test_contents_name_the_subsection_they_belong_to() -> None:
    sections = shell_courses.read_contents([
        {"id": 26, "number": 3, "name": "Excursion", "visible": True, "parent_activity": None, "activities": [
            {"id": 59, "module": "subsection", "name": "Inside", "visible": True, "subsection_id": 28}]},
        {"id": 28, "number": 5, "name": "Inside", "visible": True, "parent_activity": 59, "activities": []},
    ])  # fmt: skip
    assert sections[0].activities[0].subsection_id == sections[1].id
    assert sections[1].parent_activity == 59


def test_a_download_arrives_whole_and_tells_how_far_it_is(tmp_path: Path) -> None:
    seen: list[Progress] = []
    host = Host(CONTENT)
    file = backups.download(runner(host), listed(CONTENT), tmp_path / "a.mbz", seen.append)
    assert (tmp_path / "a.mbz").read_bytes() == CONTENT
    assert file.sha1 == hashlib.sha1(CONTENT).hexdigest()
    assert (seen[-1].phase, seen[-1].unit, seen[-1].done) == ("download", "bytes", len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mbz"]


def test_a_broken_download_keeps_its_part_and_goes_on_from_there(tmp_path: Path) -> None:
    host = Host(CONTENT, breaks_at=4000)
    with pytest.raises(Unreachable):
        backups.download(runner(host), listed(CONTENT), tmp_path / "a.mbz")
    assert (tmp_path / "a.mbz.part").stat().st_size == 4000
    backups.download(runner(host), listed(CONTENT), tmp_path / "a.mbz")
    assert host.offsets == [0, 4000]
    assert (tmp_path / "a.mbz").read_bytes() == CONTENT


def test_a_part_of_something_else_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "a.mbz.part").write_bytes(b"x" * 5000)
    host = Host(CONTENT)
    backups.download(runner(host), listed(CONTENT), tmp_path / "a.mbz")
    assert host.offsets == [5000, 0]
    assert (tmp_path / "a.mbz").read_bytes() == CONTENT


def test_a_backup_that_changed_since_it_was_listed_is_not_taken_for_the_listed_one(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        backups.download(runner(Host(CONTENT)), listed(CONTENT, sha1="0" * 40), tmp_path / "a.mbz")
    assert caught.value.code == "changed"
    assert list(tmp_path.iterdir()) == []


def test_content_that_is_not_what_its_hash_says_is_damaged(tmp_path: Path) -> None:
    host = Host(CONTENT, sha1="1" * 40)
    with pytest.raises(Failed) as caught:
        backups.download(runner(host), listed(CONTENT, sha1=None), tmp_path / "a.mbz")
    assert caught.value.code == "download_damaged"
    assert list(tmp_path.iterdir()) == []
