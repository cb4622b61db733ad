"""All courses and categories of a site, asked for once and looked up many times. Reads only."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property

from moodlectl.actions import naming
from moodlectl.errors import NotFound
from moodlectl.plans import Selection
from moodlectl.site.port import Category, Course, CourseFacts, CourseRef, Site


class Catalogue:
    """What a plan has to know of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._facts: dict[int, CourseFacts] = {}

    @cached_property
    def info(self) -> tuple[str, str, str]:
        """The site's address, what tells it from every other site, and its release."""
        info = self.site.info()
        return info.url, info.identifier_hash or info.url, info.release

    @cached_property
    def courses(self) -> dict[int, Course]:
        """Every course that may be seen, by id."""
        return {course.id: course for course in self.site.courses()}

    @cached_property
    def categories(self) -> Sequence[Category]:
        """Every category that may be seen, parents before children."""
        return self.site.categories()

    @cached_property
    def _by_shortname(self) -> dict[str, Course]:
        return {course.shortname: course for course in self.courses.values()}

    @cached_property
    def _by_idnumber(self) -> dict[str, list[Course]]:
        found: dict[str, list[Course]] = {}
        for course in self.courses.values():
            if course.idnumber:
                found.setdefault(course.idnumber, []).append(course)
        return found

    def facts(self, course_id: int) -> CourseFacts:
        """Who is enrolled in a course and what it was made from."""
        if course_id not in self._facts:
            self._facts[course_id] = self.site.course_facts(course_id)
        return self._facts[course_id]

    def named(self, shortname: str) -> Course | None:
        """The course of that short name."""
        return self._by_shortname.get(shortname)

    def numbered(self, idnumber: str) -> Course | None:
        """A course of that idnumber."""
        return next(iter(self._by_idnumber.get(idnumber, ())), None)

    def course(self, word: str) -> Course:
        """The one course a COURSE means. Raises NotFound (none, or more than one), UsageError."""
        ref = naming.parse_course(word, self.info[0])
        found = self._found(ref)
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(f"'{word}' fits {len(found)} courses", "Name it by its id.", code="course_ambiguous")
        near = get_close_matches(ref.value, self._by_shortname, 1, 0.75) if ref.field == "shortname" else []
        hint = f"Did you mean '{near[0]}'?" if near else None
        raise NotFound(f"there is no course '{word}' on {self.site.name}, or it may not be seen", hint)

    def _found(self, ref: CourseRef) -> list[Course]:
        if ref.field == "id":
            found = self.courses.get(int(ref.value))
            return [found] if found else []
        if ref.field == "idnumber":
            return self._by_idnumber.get(ref.value, [])
        found = self.named(ref.value) if ref.field == "shortname" else None
        return [found] if found else []

    def category(self, category_id: int) -> Category | None:
        """The category with that id."""
        return next((one for one in self.categories if one.id == category_id), None)

    def category_numbered(self, idnumber: str) -> Category | None:
        """The category with that idnumber."""
        return next((one for one in self.categories if one.idnumber == idnumber), None)

    def category_at(self, path: Sequence[str]) -> list[Category]:
        """The categories of that path; more than one where two have the same name."""
        return [one for one in self.categories if one.path == tuple(path)]

    def path_of(self, course: Course) -> tuple[str, ...]:
        """The names of the categories a course is in, from the top."""
        found = self.category(course.category_id)
        return found.path if found is not None else (course.category_name,)

    def select(self, wanted: Selection, among: Iterable[Course] | None = None) -> list[Course]:
        """The courses a selection means, of all or of some. Raises NotFound where no category is as it says."""
        found: Iterable[Course] = self.courses.values() if among is None else among
        if wanted.category is not None:
            inside = self._inside(wanted.category)
            found = [one for one in found if one.category_id in inside]
        if wanted.search is not None:
            hits = {one.id for one in self.site.courses(search=wanted.search)}
            found = [one for one in found if one.id in hits]
        return [
            one
            for one in found
            if (wanted.visible is None or one.visible == wanted.visible)
            and (wanted.shortname is None or fnmatch.fnmatchcase(one.shortname, wanted.shortname))
            and not any(fnmatch.fnmatchcase(one.shortname, pattern) for pattern in wanted.leave_out)
        ]

    def _inside(self, word: str) -> set[int]:
        """The categories a word means, with all below them. ``*`` is any one name; ``A / *`` is what is below A."""
        if "*" in word or "?" in word:
            levels = split_path(word)
            found = [
                one
                for one in self.categories
                if len(one.path) == len(levels) and all(map(fnmatch.fnmatchcase, one.path, levels))
            ]
        else:
            ref = naming.parse_category(word)
            exact = self.category_at(split_path(word)) if ref.field == "path" else []
            found = exact or [one for one in self.categories if naming.category_fits(one, ref)]
            if len(found) > 1:
                raise NotFound(f"'{word}' fits {len(found)} categories", "Name it by its whole path, or by its id.")
        if not found:
            raise NotFound(f"there is no category '{word}' on {self.site.name}, or it may not be seen")
        inside = {one.id for one in found}
        for one in self.categories:  # parents come before their children
            if one.parent in inside:
                inside.add(one.id)
        return inside


def split_path(words: str) -> tuple[str, ...]:
    """A path of names taken apart, as Moodle's upload does: ``Science / Biology``."""
    return tuple(name.strip() for name in re.split(r"\s+/\s+", words.strip()))
