"""What is asked of the host for a restore, and how its answers are read: without any host."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from moodlectl.errors import Failed, NotFound, UsageError
from moodlectl.site.live.restore import (
    NOTHING,
    digest,
    read_chunks,
    read_counts,
    read_plan,
    read_restored,
    restore,
    restore_params,
    restore_plan,
    source_params,
)
from moodlectl.site.port import BackupFile, ItemChoice, Progress, RestoreRequest, RestoreSource

SOURCE = {"kind": "upload", "size": 3, "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d", "name": "abc.mbz"}

COURSE = {
    "id": 17, "shortname": "src1_1", "fullname": "Été 🌱", "idnumber": "", "category_id": 2, "category_name": "Science",
    "startdate": 1795392000, "enddate": 0, "visible": True, "url": "https://m.example/course/view.php?id=17",
    "format": "topics",
}
COUNTS = {
    "sections": 2, "activities": {"forum": 1, "page": 2}, "users": 3, "groups": 0, "grade_items": 2, "grades": 1,
    "questions": 4, "files": 5, "file_bytes": 9280,
}
SETTING = {
    "name": "enrolments", "value": 1, "level": "root", "label": "Include enrolment methods", "visible": True,
    "locked_by": "config", "depends_on": [], "item_id": None, "item": "", "module": "",
    "choices": {"0": "No", "1": "Yes, but only if users are included", "2": "Yes, always"},
}
PRECHECK = {"errors": [], "warnings": ["newer"], "missing_plugins": ["mod_hotpot"]}
USERS = {"matched": 2, "created": 1, "conflicts": []}
PLAN: dict[str, Any] = {
    "precheck": PRECHECK, "users": USERS, "settings": [SETTING], "expected": COUNTS, "target": None,
    "target_counts": None, "fullname": "Été 🌱", "shortname": "src1_1", "backup_release": "4.5.6 (Build: 20250811)",
    "site_release": "5.1+ (Build: 20251017)", "same_site": False, "seconds": 0.5,
    "findings": [
        {"name": "missing-plugins", "severity": "danger", "message": "The site lacks mod_hotpot.", "remedy": "Install it.",
         "details": {"missing_plugins": ["mod_hotpot"]}, "access": False},
        {"name": "people", "severity": "note", "message": "…", "remedy": "", "details": [], "access": False},
    ],
}
DONE: dict[str, Any] = {
    "course": COURSE, "mode": "new", "precheck": PRECHECK, "users": USERS, "expected": COUNTS, "before": None,
    "after": {**COUNTS, "more": {"blocks": 1}}, "activities": {"3": 195, "5": 196}, "warnings": ["a"], "seconds": 1.25,
}


def request(**words: Any) -> RestoreRequest:
    return RestoreRequest(RestoreSource(path=Path("abc.mbz")), "new", category_id=2, **words)


def stored(locator: dict[str, str | int]) -> BackupFile:
    return BackupFile(8, "RICH101", "course", "a.mbz", 3, datetime.now(UTC), None, True, None, locator=locator)


class Host:
    """A host that keeps what it is sent and gives one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.got, self.params = answer, b"", {}
        self.call, self.acting = "", ""

    def do(self, call: str, params: Any, *, acting: Any = None, source: Any = None, on_progress: Any = None) -> Any:
        self.call, self.params, self.acting = call, params, acting
        self.got = b"".join(source) if source is not None else b""
        return self.answer


def test_texts_that_were_not_given_are_not_asked_for() -> None:
    params = restore_params(request(fullname="A", startdate=date(2027, 9, 1), visible=False), SOURCE, dry_run=True)
    assert params["texts"] == {"fullname": "A", "startdate": "2027-09-01", "visible": False}
    assert params["dry_run"] is True
    assert (params["category_id"], params["course_id"]) == (2, None)


def test_no_choice_of_items_is_told_from_an_empty_one() -> None:
    everything = restore_params(request(), SOURCE, dry_run=False)["items"]
    nothing = restore_params(request(items=ItemChoice(only_activities=frozenset())), SOURCE, dry_run=False)["items"]
    some = restore_params(request(items=ItemChoice(skip_sections=frozenset({9, 4}))), SOURCE, dry_run=False)["items"]
    assert everything["only_activities"] is None
    assert nothing["only_activities"] == []
    assert some["skip_sections"] == [4, 9]


def test_a_local_file_is_announced_by_size_and_sha1_and_sent_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    path = tmp_path / "backup.mbz"
    path.write_bytes(content)
    host = Host(DONE)
    seen: list[Progress] = []
    done = restore(host, RestoreRequest(RestoreSource(path=path), "new", category_id=2, as_user="m"), seen.append)  # type: ignore[arg-type]
    assert host.params["source"]["sha1"] == hashlib.sha1(content, usedforsecurity=False).hexdigest()
    assert host.params["source"]["size"] == len(host.got) == len(content)
    assert (host.got, host.call, host.acting) == (content, "restore", "m")
    assert seen[-1].done == seen[-1].total == len(content)
    assert done.course.shortname == "src1_1"


def test_a_stored_backup_is_named_by_its_locator_and_nothing_is_sent() -> None:
    locator: dict[str, str | int] = {"contextid": 5, "filename": "a.mbz"}
    host = Host(PLAN)
    restore_plan(host, RestoreRequest(RestoreSource(stored=stored(locator)), "new", category_id=2))  # type: ignore[arg-type]
    assert host.params["source"] == {"kind": "stored", "locator": locator}
    assert host.got == b""


def test_a_source_without_a_backup_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        source_params(RestoreSource())


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        digest(tmp_path / "none.mbz")


def test_a_file_that_changes_while_it_is_sent_stops_the_restore(tmp_path: Path) -> None:
    path = tmp_path / "growing.mbz"
    path.write_bytes(b"abc")
    chunks = read_chunks(path, 3)
    path.write_bytes(b"abcdef")
    with pytest.raises(Failed) as raised:
        list(chunks)
    assert raised.value.code == "file_changed"


def test_a_plan_is_read_with_settings_dangers_and_no_target() -> None:
    asked = request()
    plan = read_plan(PLAN, asked)
    assert plan.request is asked
    assert plan.dangers == ("missing-plugins",)
    assert [(one.name, one.severity, dict(one.details)) for one in plan.findings] == [
        ("missing-plugins", "danger", {"missing_plugins": ["mod_hotpot"]}),
        ("people", "note", {}),
    ]
    assert plan.precheck.missing_plugins == ("mod_hotpot",)
    assert plan.settings[0].choices == {
        "0": "No", "1": "Yes, but only if users are included", "2": "Yes, always"}
    assert plan.settings[0].locked_by == "config"
    assert plan.target is None and plan.target_counts is None


def test_a_plan_for_a_course_there_is_names_it_and_what_it_holds() -> None:
    plan = read_plan({**PLAN, "target": COURSE, "target_counts": COUNTS}, request())
    assert plan.target is not None and plan.target.id == 17
    assert plan.target.startdate == datetime(2026, 11, 23, tzinfo=UTC)
    assert plan.target.enddate is None
    assert plan.target_counts == plan.expected


def test_a_restored_course_is_read_with_the_mapping_of_its_activities() -> None:
    done = read_restored(DONE)
    assert done.activities == {3: 195, 5: 196}
    assert done.before == NOTHING
    assert done.after == done.expected
    assert done.seconds == 1.25


def test_php_writes_an_empty_object_as_a_list_now_and_then() -> None:
    counts = read_counts({**COUNTS, "activities": []})
    assert counts.activities == {}
    assert read_restored({**DONE, "activities": []}).activities == {}


def test_what_was_not_counted_is_told_from_nothing() -> None:
    counts = read_counts({"sections": 0, "files": None})
    assert (counts.sections, counts.files, counts.users) == (0, None, None)
