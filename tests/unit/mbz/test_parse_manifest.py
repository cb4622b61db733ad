"""A manifest read on a site tells the same items as the whole file does."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.errors import Refused

DATA = Path(__file__).parents[2] / "data" / "mbz"


@pytest.mark.parametrize("name", ["course-5.1-tgz-rich-users.mbz", "course-4.5-zip-users.mbz"])
def test_the_manifest_alone_names_the_same_sections_and_activities(name: str) -> None:
    whole = mbz.inspect(DATA / name)
    with mbz.open_backup(DATA / name) as archive:
        xml = next(m.read(10_000_000) for m in archive.members() if m.name == "moodle_backup.xml")
    alone = mbz.parse_manifest(xml)
    assert [(s.id, s.title) for s in alone.all_sections()] == [(s.id, s.title) for s in whole.all_sections()]
    assert list(alone.all_activities()) and [a.id for a in alone.all_activities()] == [
        a.id for a in whole.all_activities()
    ]
    assert alone.course.shortname == whole.course.shortname
    assert alone.settings == whole.settings


def test_other_xml_is_refused() -> None:
    with pytest.raises(Refused) as error:
        mbz.parse_manifest(b"<?xml version='1.0'?><html></html>")
    assert error.value.code == "not_a_backup"
