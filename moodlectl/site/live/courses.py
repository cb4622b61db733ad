"""Courses, categories and contents by web service: what is asked, and how the replies are read.

Each question is a function that makes the parameters and a pure one that reads the reply. Texts come raw, as
Moodle
stores them; only section names come formatted and are turned back. All of it reads only.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moodlectl.errors import NotFound
from moodlectl.site.port import (
    Activity,
    Category,
    Course,
    CourseRef,
    Section,
    SiteInfo,
)
from moodlectl.site.webservice import WebService

Record = Mapping[str, Any]

FRONT_PAGE = 1
"""The course id of the site's front page: the first course of every Moodle, and none that is backed up
here."""

NEEDED: Mapping[str, str] = {
    "core_webservice_get_site_info": "knowing the site and its release",
    "core_course_get_categories": "listing categories",
    "core_course_get_courses_by_field": "listing and finding courses",
    "core_course_search_courses": "searching for courses",
    "core_course_get_contents": "showing the sections and activities of a course",
    "core_files_get_files": "listing the backups of a course",
}
"""Every web-service function used here → what for."""

_FEW_CATEGORIES = 20
_IDS_AT_ONCE = 100


# --- the site -----------------------------------------------------------------------------------------------


def info(ws: WebService) -> SiteInfo:
    """The site's name, address and release, and whose token it is."""
    return read_info(ws.site_info(), ws.url)


def read_info(reply: Record, url: str) -> SiteInfo:
    """``core_webservice_get_site_info`` (``webservice/externallib.php``, 3.9 to 5.1)."""
    return SiteInfo(
        name=str(reply.get("sitename") or ""),
        url=str(reply.get("siteurl") or url),
        release=str(reply.get("release") or ""),
        version=str(reply.get("version") or ""),
        username=str(reply.get("username") or ""),
    )


def missing_functions(site_info: Record) -> list[str]:
    """The functions used here that the token's service lacks, in the order of ``NEEDED``."""
    there = {each.get("name") for each in site_info.get("functions") or ()}
    return [name for name in NEEDED if name not in there]


# --- categories ---------------------------------------------------------------------------------------------


def categories(ws: WebService) -> tuple[Category, ...]:
    """All categories the token's user may see, parents before children, in the site's order."""
    return read_categories(ws.call("core_course_get_categories", {"addsubcategories": True}))


def read_categories(reply: Sequence[Record]) -> tuple[Category, ...]:
    """``core_course_get_categories`` (``course/externallib.php``, 3.9 to 5.1).

    A parent that may not be seen is not in the reply; its children then stand at the top.
    """
    by_id = {int(each["id"]): each for each in reply}
    children: dict[int, list[Record]] = {}
    for each in sorted(reply, key=lambda one: (one.get("sortorder") or 0, one["id"])):
        parent = int(each.get("parent") or 0)
        children.setdefault(parent if parent in by_id else 0, []).append(each)
    found: list[Category] = []

    def walk(parent: int, path: tuple[str, ...]) -> None:
        for each in children.get(parent, ()):
            here = (*path, str(each["name"]))
            found.append(_category(each, here))
            walk(int(each["id"]), here)

    walk(0, ())
    return tuple(found)


def _category(each: Record, path: tuple[str, ...]) -> Category:
    return Category(
        id=int(each["id"]),
        name=str(each["name"]),
        idnumber=str(each.get("idnumber") or ""),
        parent=int(each.get("parent") or 0),
        path=path,
        visible=bool(each.get("visible", 1)),
        courses=int(each.get("coursecount") or 0),
    )


def below(known: Iterable[Category], category_id: int) -> tuple[int, ...]:
    """A category and all below it, by id. Raises NotFound where it is not among those known."""
    found: list[int] = []
    for each in known:  # parents come before children
        if each.id == category_id or each.parent in found:
            found.append(each.id)
    if category_id not in found:
        raise NotFound(
            f"There is no category with id {category_id}.",
            "List them with `moodlectl category list`; hidden ones need "
            "`moodle/category:viewhiddencategories`.",
            details={"category": category_id},
        )
    return tuple(found)


# --- courses ------------------------------------------------------------------------------------------------


def courses(
    ws: WebService, *, category_id: int | None = None, search: str | None = None
) -> tuple[Course, ...]:
    """The courses of a category with those below it, those a search finds, both, or all; never the front
    page."""
    wanted = below(categories(ws), category_id) if category_id is not None else None
    if search is not None:
        found = _search(ws, search)
    elif wanted is not None and len(wanted) <= _FEW_CATEGORIES:
        found = [one for each in wanted for one in _by_field(ws, "category", str(each))]
    else:
        found = _by_field(ws, "", "")
    return tuple(each for each in found if wanted is None or each.category_id in wanted)


def course(ws: WebService, ref: CourseRef) -> Course:
    """The one course so named. Raises NotFound; hidden courses are left out without a word by Moodle."""
    if ref.field == "cmid":
        ref = _of_activity(ws, ref)
    found = _by_field(ws, ref.field, ref.value)
    exact = [each for each in found if ref.field == "shortname" and each.shortname == ref.value] or found
    if len(exact) == 1:
        return exact[0]
    if not exact:
        front = ref.field == "id" and ref.value.strip() == str(FRONT_PAGE)
        raise NotFound(
            "Course 1 is the site's front page, which is no course to back up."
            if front
            else f"There is no course {ref} on {ws.url}, or the token's user may not see it.",
            "List the courses with `moodlectl course list`. A hidden course is seen only with "
            "`moodle/course:viewhiddencourses`.",
            details={"course": str(ref), "url": ws.url},
        )
    names = ", ".join(f"{each.id} ({each.shortname})" for each in exact)
    raise NotFound(
        f"{len(exact)} courses on {ws.url} have the {ref.field} {ref.value}.",
        f"Name the one you mean by its id: {names}.",
        code="ambiguous",
        details={"course": str(ref), "ids": [each.id for each in exact]},
    )


def _of_activity(ws: WebService, ref: CourseRef) -> CourseRef:
    """``core_course_get_course_module`` (``course/externallib.php``, 3.9 to 5.1): the course of an activity."""
    reply = ws.call("core_course_get_course_module", {"cmid": int(ref.value)})
    return CourseRef("id", str(reply["cm"]["course"]))


def _by_field(ws: WebService, field: str, value: str) -> list[Course]:
    """``core_course_get_courses_by_field`` (``course/externallib.php``, 3.9 to 5.1); no field means all."""
    params = {"field": field, "value": value} if field else {}
    return read_courses(ws.call("core_course_get_courses_by_field", params), ws.url)


def _search(ws: WebService, text: str) -> list[Course]:
    """``core_course_search_courses`` gives only the public half of a course; the rest is asked for by id."""
    params = {"criterianame": "search", "criteriavalue": text}
    found = read_courses(ws.call("core_course_search_courses", params), ws.url)
    ids = [str(each.id) for each in found]
    for start in range(0, len(ids), _IDS_AT_ONCE):
        whole = {each.id: each for each in _by_field(ws, "ids", ",".join(ids[start : start + _IDS_AT_ONCE]))}
        found = [whole.get(each.id, each) for each in found]
    return found


def read_courses(reply: Record, url: str) -> list[Course]:
    """The courses of a reply without the front page, in the site's order, each once."""
    known: dict[int, Record] = {int(each["id"]): each for each in reply["courses"]}
    ordered = sorted(known.values(), key=lambda one: (one.get("sortorder") or 0, one["id"]))
    return [_course(each, url) for each in ordered if int(each["id"]) != FRONT_PAGE]


def _course(each: Record, url: str) -> Course:
    """One course; what only some may see (idnumber, dates, visibility) may be missing from it."""
    return Course(
        id=int(each["id"]),
        shortname=str(each["shortname"]),
        fullname=str(each["fullname"]),
        idnumber=str(each.get("idnumber") or ""),
        category_id=int(each.get("categoryid") or 0),
        category_name=str(each.get("categoryname") or ""),
        startdate=moment(each.get("startdate")),
        visible=bool(each.get("visible", 1)),
        url=f"{url}/course/view.php?id={each['id']}",
        format=str(each.get("format") or ""),
        enddate=moment(each.get("enddate")),
    )


# --- contents -----------------------------------------------------------------------------------------------


def contents(ws: WebService, course_id: int) -> tuple[Section, ...]:
    """The sections of a course in order, with their activities. Raises NotFound, AccessError."""
    if course_id == FRONT_PAGE:
        course(ws, CourseRef("id", str(course_id)))
    return read_contents(ws.call("core_course_get_contents", contents_params(course_id)))


def contents_params(course_id: int) -> dict[str, Any]:
    """``core_course_get_contents`` without the files of the activities, with those that only a link
    reaches."""
    wanted = ("excludecontents", "includestealthmodules")
    return {"courseid": course_id, "options": [{"name": name, "value": 1} for name in wanted]}


def read_contents(reply: Sequence[Record]) -> tuple[Section, ...]:
    """``core_course_get_contents`` (``course/externallib.php``, 3.9 to 5.1; subsections since 4.5).

    A section with ``component`` mod_subsection unfolds the subsection activity whose instance is its
    ``itemid``.
    Section -1 holds activities that only a link reaches, out of sections the user may not see.
    """
    unfolds = {int(each["itemid"]): int(each["id"]) for each in reply if _is_subsection(each)}
    activity_of = {
        int(module["instance"]): int(module["id"])
        for each in reply
        for module in each.get("modules") or ()
        if module["modname"] == "subsection" and module.get("instance")
    }
    return tuple(
        Section(
            id=int(each["id"]),
            number=int(each["section"]) if each.get("section") is not None else -1,
            name=html.unescape(str(each.get("name") or "")),
            visible=bool(each.get("visible", 1)),
            activities=tuple(_activity(module, unfolds) for module in each.get("modules") or ()),
            parent_activity=activity_of.get(int(each["itemid"])) if _is_subsection(each) else None,
        )
        for each in reply
    )


def _activity(module: Record, unfolds: Mapping[int, int]) -> Activity:
    is_subsection = module["modname"] == "subsection"
    return Activity(
        id=int(module["id"]),
        module=str(module["modname"]),
        name=str(module["name"]),
        visible=bool(module.get("visible", 1)),
        subsection_id=unfolds.get(int(module.get("instance") or 0)) if is_subsection else None,
    )


def _is_subsection(section: Record) -> bool:
    return section.get("component") == "mod_subsection" and bool(section.get("itemid"))


def moment(seconds: Any) -> datetime | None:
    """A time of Moodle's, None where it stores 0 or none."""
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None
