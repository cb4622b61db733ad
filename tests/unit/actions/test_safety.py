"""The safety backup is whole, leaves nothing on the site, and is trusted only while it is what it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moodlectl import ledger, mbz
from moodlectl.actions import safety
from moodlectl.actions.recording import Entry, recorded
from moodlectl.errors import AccessError, NotFound, Refused
from moodlectl.ledger import Item
from moodlectl.site.port import Course, CourseRef
from moodlectl.site.practice import PracticeSite


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeSite]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    made = PracticeSite(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def course(site: PracticeSite) -> Course:
    return site.course(CourseRef("shortname", "RICH101"))


@pytest.fixture
def entry(site: PracticeSite) -> Iterator[Entry]:
    with recorded(site, "restore", Item(1, "RICH101", "replace", "planned"), {}) as made:
        yield made


def ended(entry: Entry, saved: safety.SafetyBackup) -> ledger.Job:
    """The job of that safety backup, when it has been done."""
    entry.note(**saved.facts())
    entry.end("done")
    return ledger.job(entry.job)


def test_it_holds_everything_and_leaves_nothing_there(site: PracticeSite, course: Course, entry: Entry) -> None:
    before = site.backups(course.id).files
    saved = safety.take(site, course, safety.ready(site, course), entry)
    assert site.backups(course.id).files == before
    assert saved.path.parent == safety.folder()
    assert saved.path.stat().st_mode & 0o777 == 0o600
    settings = mbz.inspect(saved.path).settings
    off = {name for name, value in settings.items() if not value}
    assert off == {"anonymize", "imscc11", *saved.lacks}
    assert saved.lacks == ("logs",)  # locked off on this site
    assert mbz.verify(saved.path).ok
    assert saved.counts == site.counts(course.id)


def test_it_is_not_put_back_when_it_is_gone_or_changed(site: PracticeSite, course: Course, entry: Entry) -> None:
    saved = safety.take(site, course, safety.ready(site, course), entry)
    job = ended(entry, saved)
    undo = safety.plan_undo(site, job)
    assert (undo.request.mode, undo.request.overwrite_config) == ("replace", True)
    assert undo.request.settings["grade_histories"] is True
    with saved.path.open("ab") as file:
        file.write(b"!")
    with pytest.raises(Refused, match="was changed since"):
        safety.plan_undo(site, job)
    saved.path.unlink()
    with pytest.raises(Refused, match="is gone"):
        safety.plan_undo(site, job)


def test_a_job_without_one_says_why(site: PracticeSite, entry: Entry) -> None:
    with pytest.raises(Refused, match="has no safety backup"):
        safety.plan_undo(site, ledger.job(entry.job))


def test_a_job_at_work_is_not_undone(site: PracticeSite, course: Course, entry: Entry) -> None:
    entry.note(**safety.take(site, course, safety.ready(site, course), entry).facts())
    with pytest.raises(Refused, match="still at work"):
        safety.plan_undo(site, ledger.job(entry.job))


def test_a_course_deleted_since_is_told_with_the_way_to_have_it_again(
    site: PracticeSite, course: Course, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended(entry, saved := safety.take(site, course, safety.ready(site, course), entry))

    def gone(_: CourseRef) -> Course:
        raise NotFound("There is no such course.", code="course_not_found")

    monkeypatch.setattr(site, "course", gone)
    with pytest.raises(NotFound, match="has been deleted since") as raised:
        safety.plan_undo(site, job)
    assert f"moodlectl restore '{saved.path}' --new id:{course.category_id}" in (raised.value.hint or "")


def test_nothing_is_begun_where_it_cannot_be_kept(site: PracticeSite, course: Course) -> None:
    safety.folder().parent.mkdir(parents=True, exist_ok=True)
    safety.folder().write_text("in the way")
    with pytest.raises(AccessError, match="No safety backup can be kept") as raised:
        safety.ready(site, course)
    assert "--no-safety-backup" in (raised.value.hint or "")


def test_nothing_is_begun_where_there_is_no_room_for_it(
    site: PracticeSite, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = site.counts(course.id).file_bytes or 0
    room = SimpleNamespace(free=size + safety.SPARE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(Refused, match="no room for the safety backup") as raised:
        safety.ready(site, course)
    assert raised.value.details["needed"] == size + safety.SPARE
    room.free += 1
    safety.ready(site, course)


def test_a_disk_that_fills_on_the_way_leaves_nothing_here_and_there(
    site: PracticeSite, course: Course, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.backups(course.id).files

    def full(file: Any, destination: Path, _: Any) -> None:
        destination.with_name(destination.name + ".part").write_bytes(b"half")
        raise Refused("No room.", "Choose another directory with -d.", code="nospace")

    monkeypatch.setattr(site, "download", full)
    with pytest.raises(Refused) as raised:
        safety.take(site, course, safety.ready(site, course), entry)
    assert "nothing was restored. No room" in raised.value.message
    assert "MOODLECTL_STATE" in (raised.value.hint or "")
    assert list(safety.folder().iterdir()) == []
    assert site.backups(course.id).files == before


def test_what_no_backup_carries_is_kept_beside_it_and_given_back(
    site: PracticeSite, course: Course, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "keepsake", lambda _: {"notes": ["éclat"]})
    job = ended(entry, saved := safety.take(site, course, safety.ready(site, course), entry))
    assert saved.keepsake.stat().st_mode & 0o777 == 0o600
    assert safety.plan_undo(site, job).request.keepsake == {"notes": ["éclat"]}
    saved.keepsake.unlink()
    undo = safety.plan_undo(site, job)
    assert undo.request.keepsake is None
    assert "do not carry" in undo.lacks[-1]


def test_what_is_told_of_it_names_what_it_lacks_and_the_way_back(
    site: PracticeSite, course: Course, entry: Entry
) -> None:
    job = ended(entry, saved := safety.take(site, course, safety.ready(site, course), entry))
    told = safety.told(job.id, job.items[0].facts)
    assert told[0] == f"safety backup: {saved.path}"
    assert "logs" in told[1]
    assert told[2].endswith(f"moodlectl restore --undo {job.id}")
    assert safety.told(job.id, {**job.items[0].facts, "undone": True, "undone_by": 7})[-1] == "it was put back by job 7"
