"""Names that sites give to files, made fit for this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from moodlectl.actions import backup
from moodlectl.actions.files import safe_name
from moodlectl.errors import Failed
from moodlectl.site.practice import PracticeSite


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("backup-moodle2-course-4-x-20261125-1034.mbz", "backup-moodle2-course-4-x-20261125-1034.mbz"),
        ("../../etc/passwd", "passwd"),
        ("a\\b.mbz", "b.mbz"),
        (".hidden.mbz", "hidden.mbz"),
        ("new\nline\x1b.mbz", "new_line_.mbz"),
        ("...", "backup.mbz"),
        ("", "backup.mbz"),
    ],
)
def test_a_name_from_a_site_is_one_harmless_part(given: str, kept: str) -> None:
    assert safe_name(given) == kept


@pytest.mark.parametrize("letter", ["a", "é", "日", "🌱"])
def test_of_a_name_too_long_for_a_file_system_the_middle_is_left_out(letter: str) -> None:
    name = safe_name(f"backup-moodle2-course-4-{letter * 255}-20261125-1034.mbz")
    assert name.startswith(f"backup-moodle2-course-4-{letter}")
    assert name.endswith(f"{letter}-20261125-1034.mbz")
    assert 200 < len((name + ".part.json").encode()) < 255


def test_the_copy_on_the_site_is_not_removed_before_the_one_here_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    site = PracticeSite(tmp_path / "site")
    course = site.courses()[0]
    wanted = backup.Wanted(download=tmp_path / "here", remove_remote=True)
    before = {one.filename for one in site.backups(course.id).files}
    try:
        planned = backup.plan(site, f"id:{course.id}", wanted)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(Failed, match="copy on the site is kept|cannot be written to the disk"):
                backup.run(site, planned)
        assert {one.filename for one in site.backups(course.id).files} > before
        done = backup.run(site, planned)
        assert done.removed
    finally:
        site.close()
