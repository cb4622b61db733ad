"""Verification after a restore, on the practice site: every road is clean, and whatever is taken away is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moodlectl.actions import requests
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import AccessError
from moodlectl.mbz import inspect
from moodlectl.site.port import (
    BackupRequest,
    CourseRef,
    CourseSource,
    ItemChoice,
    Restored,
    RestoreRequest,
    RestoreSource,
)
from moodlectl.site.practice import PracticeSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PracticeSite]:
    made = PracticeSite(tmp_path / "practice")
    yield made
    made.close()


@pytest.fixture
def backup(site: PracticeSite, tmp_path: Path) -> Path:
    path = tmp_path / "rich.mbz"
    site.download(site.backup(BackupRequest(course(site), {"grade_histories": True})).file, path)
    return path


def course(site: PracticeSite, shortname: str = "RICH101") -> int:
    return site.course(CourseRef("shortname", shortname)).id


def verified(site: PracticeSite, request: RestoreRequest, spoil: Any = None) -> Verified:
    with Verification(site, request) as verification:
        verification.look()
        done = site.restore(request)
        if spoil is not None:
            spoil(done)
        found = verification.verify(done)
    assert found is not None
    return found


def new(site: PracticeSite, path: Path, **asked: Any) -> RestoreRequest:
    return RestoreRequest(RestoreSource(path=path), "new", category_id=site.categories()[0].id, **asked)


def first(path: Path, module: str) -> int:
    return next(one.id for one in inspect(path).all_activities() if one.module == module)


def activity(path: Path, module: str) -> ItemChoice:
    held = inspect(path)
    cmid = first(path, module)
    sections = frozenset(one.id for one in held.all_sections() if any(two.id == cmid for two in one.activities))
    return ItemChoice(only_activities=frozenset({cmid}), only_sections=sections)


ROADS: dict[str, dict[str, Any]] = {
    "whole": {},
    "with histories": {"settings": {"grade_histories": True}},
    "without people": {"settings": {"users": False}},
    "everybody by hand": {"enrolments": "manual"},
    "with methods always": {"enrolments": "always"},
    "methods without people": {"settings": {"users": False}, "enrolments": "always"},
    "without groups, blocks and events": {"settings": {"groups": False, "blocks": False, "calendarevents": False}},
    "without activities": {"settings": {"activities": False}},
    "hidden": {"visible": False, "fullname": "Other"},
}


@pytest.mark.parametrize("road", ROADS)
def test_a_restore_that_brought_everything_has_no_differences(site: PracticeSite, backup: Path, road: str) -> None:
    found = verified(site, new(site, backup, **ROADS[road]))
    assert (found.differences, found.note) == ((), None)
    assert found.compared is not None and found.compared > 10


def test_a_stored_backup_is_compared_where_it_lies_even_if_the_restore_deletes_it(site: PracticeSite) -> None:
    stored = site.backups(course(site), ["automated"]).files[0]
    target = site.restore(new(site, site.inside(stored).path)).course.id  # type: ignore[attr-defined]
    request = RestoreRequest(RestoreSource(stored=stored), "replace", course_id=course(site), drop_backups=True)
    found = verified(site, request)
    assert (found.differences, found.note) == ((), None)
    assert site.course(CourseRef("id", str(target))).id == target


@pytest.mark.parametrize("module", ["assign", "forum", "quiz", "page"])
def test_a_part_is_compared_with_that_part(site: PracticeSite, backup: Path, module: str) -> None:
    for mode, into in (("new", {"category_id": site.categories()[0].id}), ("merge", {"course_id": course(site)})):
        request = RestoreRequest(RestoreSource(path=backup), mode, items=activity(backup, module), **into)  # type: ignore[arg-type]
        found = verified(site, request)
        assert (found.differences, found.note) == ((), None), mode


@pytest.mark.parametrize("kept", [{}, {"keep_enrolments": True}, {"keep_groups": True}, {"overwrite_config": True}])
def test_a_replaced_course_is_compared_with_the_backup(site: PracticeSite, backup: Path, kept: dict[str, bool]) -> None:
    found = verified(site, RestoreRequest(RestoreSource(path=backup), "replace", course_id=course(site), **kept))  # type: ignore[arg-type]
    assert (found.differences, found.note) == ((), None)


def test_a_merge_shows_what_was_lost_of_the_course_that_was_there(site: PracticeSite, backup: Path) -> None:
    request = RestoreRequest(RestoreSource(path=backup), "merge", course_id=course(site), items=activity(backup, "page"))

    def spoil(done: Restored) -> None:
        with site.store.transaction():
            target = site.store.load(done.course.id)
            gone = next(one for one in target.activities if one.module == "choice")
            target.activities.remove(gone)
            category = site.store.rows("SELECT category FROM courses WHERE id = ?", done.course.id)[0][0]
            site.store.save(target, category)

    found = verified(site, request, spoil)
    assert any(text.startswith("choice ") and "only in the course before" in text for text in found.differences)


def test_a_thing_that_is_missing_is_named(site: PracticeSite, backup: Path) -> None:
    def spoil(done: Restored) -> None:
        with site.store.transaction():
            target = site.store.load(done.course.id)
            groups = target.docs["groups.xml"]
            groups.remove(groups.findall("group")[0])
            category = site.store.rows("SELECT category FROM courses WHERE id = ?", done.course.id)[0][0]
            site.store.save(target, category)

    found = verified(site, new(site, backup), spoil)
    assert not found.ok
    assert any(text.startswith("group ") and text.endswith("only in the backup") for text in found.differences)


def test_where_things_cannot_be_asked_for_the_numbers_are_compared_and_that_is_said(
    site: PracticeSite, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AccessError("The user lacks moodle/backup:userinfo.")

    monkeypatch.setattr(site, "identities", refused)
    found = verified(site, new(site, backup))
    assert (found.ok, found.compared) == (True, None)
    assert found.note is not None and "moodle/backup:userinfo" in found.note


def test_nothing_is_read_where_nobody_wants_it_verified(site: PracticeSite, backup: Path) -> None:
    with Verification(site, new(site, backup), wanted=False) as verification:
        verification.look()
        assert verification.verify(site.restore(new(site, backup))) is None


def test_a_request_is_read_back_from_the_ledger_as_long_as_its_file_is_what_it_was(
    site: PracticeSite, backup: Path, tmp_path: Path
) -> None:
    from moodlectl.actions.files import sha1_of

    request = new(site, backup, settings={"logs": True}, shortname="X", visible=False)
    facts = {"request": requests.written(request), "sha1": sha1_of(backup)}
    assert requests.read(facts) == replace(request, source=RestoreSource(path=backup.resolve()))
    backup.write_bytes(b"other")
    assert requests.read(facts) is None and requests.read({}) is None
    stored = site.backups(course(site)).files[0]
    request = replace(request, source=RestoreSource(stored=stored))
    assert requests.read({"request": requests.written(request)}) == request


@pytest.mark.parametrize("settings", [{"users": False}, {"users": True}, {"users": False, "blocks": False}])
def test_a_copy_is_compared_with_the_course_it_was_made_of(site: PracticeSite, settings: dict[str, bool]) -> None:
    source = CourseSource(course(site), "copy", settings)
    request = RestoreRequest(RestoreSource(course=source), "new", category_id=site.categories()[0].id, shortname="COPY")
    assert requests.read({"request": requests.written(request)}) == request
    found = verified(site, request)
    assert (found.differences, found.note) == ((), None)

    def spoil(done: Restored) -> None:
        with site.store.transaction():
            target = site.store.load(done.course.id)
            target.activities = [one for one in target.activities if one.module != "page"]
            site.store.save(target, request.category_id or 0)

    found = verified(site, replace(request, shortname="COPY2"), spoil)
    assert any(text.startswith("page ") for text in found.differences)


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_an_import_is_compared_with_the_course_it_was_made_of(site: PracticeSite, mode: Any) -> None:
    into = site.restore(new(site, site.inside(site.backups(course(site)).files[0]).path)).course.id  # type: ignore[attr-defined]
    source = CourseSource(course(site), "import", {})
    kept = {} if mode == "merge" else {"keep_enrolments": True, "keep_groups": True}
    found = verified(site, RestoreRequest(RestoreSource(course=source), mode, course_id=into, **kept))  # type: ignore[arg-type]
    assert (found.differences, found.note) == ((), None)
