"""Courses, categories and contents from the host's PHP, for sites without a web service. Reads only.

Each question is a function that asks and a pure one that reads the reply of ``php/courses.php``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moodlectl.site.live.restore import read_counts
from moodlectl.site.port import Activity, Category, Counts, Course, CourseRef, Section, SiteInfo
from moodlectl.site.runner import Runner

Record = Mapping[str, Any]


def info(runner: Runner) -> SiteInfo:
    """The site's name, address, release and identifier hash, and the user it acts as."""
    return read_info(runner.ask("info", {}))


def read_info(reply: Record) -> SiteInfo:
    """What ``moodlectl_call_info`` answered."""
    return SiteInfo(
        name=str(reply["name"]),
        url=str(reply["url"]),
        release=str(reply["release"]),
        version=str(reply["version"]),
        username=str(reply["username"]),
        identifier_hash=str(reply["identifier_hash"]),
    )


def categories(runner: Runner) -> tuple[Category, ...]:
    """All categories the acting user may see, parents before children."""
    return tuple(read_category(each) for each in runner.ask("categories", {}))


def read_category(record: Record) -> Category:
    """One category as ``moodlectl_call_categories`` tells it."""
    return Category(
        id=int(record["id"]),
        name=str(record["name"]),
        idnumber=str(record["idnumber"]),
        parent=int(record["parent"]),
        path=tuple(str(name) for name in record["path"]),
        visible=bool(record["visible"]),
        courses=int(record["courses"]),
    )


def courses(
    runner: Runner, *, category_id: int | None = None, search: str | None = None
) -> tuple[Course, ...]:
    """The courses of a category with those below it, those a search finds, both, or all."""
    reply = runner.ask("courses", {"category_id": category_id, "search": search})
    return tuple(read_course(each) for each in reply)


def course(runner: Runner, ref: CourseRef) -> Course:
    """The one course so named. Raises NotFound, and AccessError where the acting user may not see it."""
    return read_course(runner.ask("course", {"field": ref.field, "value": ref.value}))


def read_course(record: Record) -> Course:
    """One course as ``moodlectl_course_record`` tells it."""
    return Course(
        id=int(record["id"]),
        shortname=str(record["shortname"]),
        fullname=str(record["fullname"]),
        idnumber=str(record["idnumber"]),
        category_id=int(record["category_id"]),
        category_name=str(record["category_name"]),
        startdate=moment(record["startdate"]),
        visible=bool(record["visible"]),
        url=str(record["url"]),
        format=str(record["format"]),
        enddate=moment(record["enddate"]),
    )


def contents(runner: Runner, course_id: int) -> tuple[Section, ...]:
    """Sections in order with their activities, hidden ones too where the acting user may see them."""
    return read_contents(runner.ask("contents", {"course_id": course_id}))


def read_contents(reply: Sequence[Record]) -> tuple[Section, ...]:
    """What ``moodlectl_call_contents`` answered."""
    return tuple(
        Section(
            id=int(record["id"]),
            number=int(record["number"]),
            name=str(record["name"]),
            visible=bool(record["visible"]),
            activities=tuple(_activity(each) for each in record["activities"]),
            parent_activity=record["parent_activity"],
        )
        for record in reply
    )


def _activity(record: Record) -> Activity:
    return Activity(
        id=int(record["id"]),
        module=str(record["module"]),
        name=str(record["name"]),
        visible=bool(record["visible"]),
        subsection_id=record["subsection_id"],
    )


def counts(runner: Runner, course_id: int) -> Counts:
    """What the course holds now, in numbers."""
    return read_counts(runner.ask("counts", {"course_id": course_id}))


def moment(seconds: Any) -> datetime | None:
    """A time of Moodle's, which writes 0 for none."""
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None
