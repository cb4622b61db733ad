"""Look into a course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodlectl.actions import naming
from moodlectl.site.port import AREAS, Course, Section, Site


@dataclass(frozen=True)
class Shown:
    """A course with its sections, and how many backups lie in each area."""

    course: Course
    sections: Sequence[Section]
    backups: Mapping[str, int]
    notes: Sequence[str]


def show(site: Site, word: str) -> Shown:
    """What there is to know of a course before backing it up. Reads only. Raises NotFound."""
    course = naming.find_course(site, word)
    listing = site.backups(course.id)
    numbers: dict[str, int] = {area: sum(1 for f in listing.files if f.area == area) for area in AREAS}
    return Shown(course, site.contents(course.id), numbers, listing.notes)
