"""The safety backup is whole, leaves nothing on the site, and is trusted only while it is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl import ledger, mbz
from moodlectl.actions import safety
from moodlectl.actions.recording import Entry, recorded
from moodlectl.errors import Refused
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
    entry.note(**saved.facts())
    job = ledger.job(entry.job)
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
