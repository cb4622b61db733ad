"""A course's place on a live site, asked of ``php/arrange.php`` and arranged by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from moodlectl.site.live.shell_courses import read_category, read_course
from moodlectl.site.port import Arrangement, Category, Course, CourseFacts, Enrolled, EnrolMethod
from moodlectl.site.runner import Runner

Record = Mapping[str, Any]


def course_facts(runner: Runner, course_id: int) -> CourseFacts:
    """Who is enrolled and how, and what the course was made from. Reads only."""
    return read_facts(runner.ask("course_facts", {"course_id": course_id}))


def read_facts(reply: Record) -> CourseFacts:
    """What ``moodlectl_call_course_facts`` answered."""
    original = reply["original_course_id"]
    return CourseFacts(
        course=read_course(reply["course"]),
        original_course_id=None if original is None else int(original),
        startday=_day(reply["startday"]),
        endday=_day(reply["endday"]),
        people=tuple(_enrolled(each) for each in reply["people"]),
        methods=tuple(
            EnrolMethod(str(each["method"]), bool(each["active"]), int(each["people"])) for each in reply["methods"]
        ),
    )


def _day(text: Any) -> date | None:
    return date.fromisoformat(str(text)) if text else None


def _enrolled(record: Record) -> Enrolled:
    return Enrolled(
        id=int(record["id"]),
        username=str(record["username"]),
        email=str(record["email"]),
        firstname=str(record["firstname"]),
        lastname=str(record["lastname"]),
        firstaccess=int(record["firstaccess"]),
        roles=tuple(str(name) for name in record["roles"]),
        methods=tuple(str(name) for name in record["methods"]),
        active=bool(record["active"]),
    )


def enrolment_methods(runner: Runner) -> dict[str, bool]:
    """The enrolment plugins there are, and whether each is switched on. Reads only."""
    return _switches(runner.ask("enrolment_methods", {}))


def modules(runner: Runner) -> dict[str, bool]:
    """The activity modules there are, and whether each is switched on. Reads only."""
    return _switches(runner.ask("modules", {}))


def _switches(reply: Any) -> dict[str, bool]:
    return {str(name): bool(on) for name, on in reply.items()} if isinstance(reply, Mapping) else {}


def arrange(runner: Runner, course_id: int, wanted: Arrangement, acting: str | None = None) -> Course:
    """Arrange the course, in a PHP process of its own. Writes to the site; may be repeated."""
    return read_course(runner.do("arrange", arrange_params(course_id, wanted), acting=acting))


def arrange_params(course_id: int, wanted: Arrangement) -> dict[str, Any]:
    """The parameters of ``moodlectl_call_arrange``; what stays is left out."""
    course = {
        "fullname": wanted.fullname,
        "shortname": wanted.shortname,
        "idnumber": wanted.idnumber,
        "category": wanted.category_id,
        "startdate": wanted.startdate.isoformat() if wanted.startdate else None,
        "enddate": wanted.enddate.isoformat() if wanted.enddate else None,
        "visible": None if wanted.visible is None else int(wanted.visible),
    }
    return {
        "course_id": course_id,
        "course": {name: value for name, value in course.items() if value is not None},
        "people": [[username, list(roles)] for username, roles in wanted.people],
        "enrolments": wanted.enrolments,
    }


def make_category(
    runner: Runner, path: Sequence[str], *, idnumber: str, visible: bool, acting: str | None = None
) -> Category:
    """The category, made where it is not there. Writes to the site; may be repeated."""
    params = {"path": list(path), "idnumber": idnumber, "visible": visible}
    return read_category(runner.do("make_category", params, acting=acting))
