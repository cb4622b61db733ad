"""Names that sites give to files, made fit for this machine."""

from __future__ import annotations

import pytest

from moodlectl.actions.files import safe_name


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
