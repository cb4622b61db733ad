"""Finding an item in the backups of a course, on the practice site."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodlectl.actions import searching
from moodlectl.actions.searching import Query
from moodlectl.errors import AccessError, NotFound, UsageError
from moodlectl.site.port import BackupRequest, CourseRef
from moodlectl.site.practice import PracticeSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PracticeSite]:
    made = PracticeSite(tmp_path / "site")
    yield made
    made.close()


def test_an_item_is_found_in_every_backup_newest_first_whatever_its_case(site: PracticeSite) -> None:
    found = searching.run(site, "RICH101", Query("ESSAY"))
    assert found.looked == 3 and found.unread == ()
    assert [one.module for one in found.hits] == ["assign"] * 3
    times = [one.file.timecreated for one in found.hits]
    assert times == sorted(times, reverse=True)
    assert all(one.userdata for one in found.hits)
    words = shlex.split(found.command or "")
    assert words[:2] == ["moodlectl", "restore"] and words[-1].startswith('assign:"Essay')


def test_accents_may_be_composed_or_not(site: PracticeSite) -> None:
    one = searching.run(site, "RICH101", Query("photosynth\u00e8se"))
    other = searching.run(site, "RICH101", Query("photosynthe\u0300se"))
    assert one.hits and [hit.id for hit in one.hits] == [hit.id for hit in other.hits]


def test_what_is_only_in_an_older_backup_is_found_there(site: PracticeSite) -> None:
    course = site.course(CourseRef("shortname", "RICH101")).id
    with site.store.transaction():
        package = site.store.load(course)
        package.activities = [one for one in package.activities if one.module != "choice"]
        site.store.save(package, site.course(CourseRef("id", str(course))).category_id)
    site.backup(BackupRequest(course))
    found = searching.run(site, "RICH101", Query("which"))
    assert found.looked == 4 and len(found.hits) == 3


def test_backups_without_people_say_so(site: PracticeSite) -> None:
    course = site.course(CourseRef("shortname", "RICH101")).id
    site.backup(BackupRequest(course, {"users": False}))
    found = searching.run(site, "RICH101", Query("Essay"))
    without = [one for one in found.hits if not one.userdata]
    assert [one.file.area for one in without] == ["private"]
    assert "--userdata" in (found.command or ""), "the one with people is meant"


def test_a_broken_backup_is_named_and_the_others_are_searched(site: PracticeSite) -> None:
    file = site.backups(site.course(CourseRef("shortname", "RICH101")).id).files[0]
    assert file.sha1 is not None
    site.store.content_path(file.sha1).write_bytes(b"no backup")
    found = searching.run(site, "RICH101", Query("essay"))
    assert [one.file.filename for one in found.unread] == [file.filename]
    assert len(found.hits) == 2


class Web(PracticeSite):
    """A site over REST alone, whose backups cannot be read where they lie."""

    def manifest_xml(self, file: Any) -> bytes:
        raise AccessError("no shell", code="noshell")

    def inside(self, file: Any, on_progress: Any = None) -> Any:
        return None


def test_over_rest_alone_what_was_not_looked_into_is_said_and_may_be_brought_down(tmp_path: Path) -> None:
    site = Web(tmp_path / "site")
    found = searching.run(site, "RICH101", Query("essay"))
    assert (found.looked, len(found.unread), found.hits, found.command) == (0, 3, (), None)
    found = searching.run(site, "RICH101", Query("essay", download=True))
    assert (found.looked, len(found.hits)) == (3, 3)
    site.close()


def test_an_empty_text_is_refused_and_an_unknown_course_not_found(site: PracticeSite) -> None:
    with pytest.raises(UsageError):
        searching.run(site, "RICH101", Query("  "))
    with pytest.raises(NotFound):
        searching.run(site, "NOSUCH", Query("x"))


@pytest.fixture
def call(tmp_path: Path) -> Any:
    PracticeSite(tmp_path / "cli").close()
    config = tmp_path / "config.toml"
    config.write_text(f'default = "p"\n[sites.p]\nkind = "practice"\nfolder = "{tmp_path / "cli"}"\n')

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "moodlectl", "--config", str(config), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)

    return run


def test_the_command_shows_what_it_found_and_how_to_bring_it_back(call: Any) -> None:
    done = call("backup", "search", "RICH101", "essay")
    assert done.returncode == 0 and done.stdout.count('assign:"Essay') == 3
    assert "bring it back: moodlectl restore RICH101@" in done.stderr
    done = call("-o", "json", "backup", "search", "RICH101", "essay", "--area", "automated")
    told = json.loads(done.stdout)
    assert (told["looked"], told["unread"]) == (2, [])
    assert {one["backup"]["area"] for one in told["found"]} == {"automated"}
    assert told["found"][0]["userdata"] is True


def test_the_command_exits_4_where_nothing_is_found(call: Any) -> None:
    done = call("backup", "search", "RICH101", "no such title")
    assert done.returncode == 4 and "no such title" in done.stderr
