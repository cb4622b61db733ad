"""Where what is merged into a practice course lands: in one of its sections, or as sections of its own after one."""

from __future__ import annotations

from collections.abc import Collection

from moodlectl.errors import NotFound, Refused, UsageError
from moodlectl.site.port import RestoreRequest
from moodlectl.site.practice.package import Package, SectionDocs
from moodlectl.site.practice.xmltree import put


def check(request: RestoreRequest, part: Package, target: Package | None) -> None:
    """Refuse a place that is none. Raises UsageError, NotFound, Refused."""
    place = request.placement
    if place is None:
        return
    if target is None or request.mode != "merge":
        raise UsageError("A place is only chosen for what is merged into a course.", code="no_merge")
    section = next((one for one in target.sections if one.id == place.section_id), None)
    if section is None:
        raise NotFound(
            f"The course has no section with the id {place.section_id}.",
            "See which there are: moodlectl course show COURSE",
            code="section_not_found",
        )
    if section.parent and place.how == "after":
        raise Refused("Sections cannot be placed after a subsection.", code="in_subsection")
    if section.parent and any(one.module == "subsection" for one in part.activities):
        raise Refused("A subsection cannot stand in another.", code="in_subsection")
    if place.how == "after" and not part.sections:
        raise Refused(
            "The backup holds a single activity and no section that could be placed.",
            "Bring it into a section: --into-section ITEM",
            code="no_section",
        )


def set_apart(part: Package, target: Package) -> None:
    """Let the sections of the backup come behind all others, so that they meet none of the course's."""
    coming = sorted(part.sections, key=lambda one: (bool(one.parent), one.number))
    page = [one for one in target.sections if not one.parent]
    order = [*page, *(one for one in coming if not one.parent), *(one for one in target.sections if one.parent)]
    for number, section in enumerate([*order, *(one for one in coming if one.parent)]):
        section.number = number


def place(request: RestoreRequest, target: Package, new_sections: Collection[int], cms: Collection[int]) -> None:
    """Move what came, by the site's ids, to where it was wanted."""
    wanted = request.placement
    assert wanted is not None
    new = [one for one in target.sections if one.id in new_sections and not one.parent]
    if wanted.how == "into":
        moved = {one.id for one in new}
        coming = [one for one in target.activities if one.section in moved or (not new and one.id in cms)]
        target.activities = [one for one in target.activities if one not in coming]
        for activity in coming:
            activity.section = wanted.section_id
        end = max((i + 1 for i, one in enumerate(target.activities) if one.section == wanted.section_id), default=0)
        target.activities[end:end] = coming
        target.sections = [one for one in target.sections if one.id not in moved]
    _number(target, new if wanted.how == "after" else [], wanted.section_id)


def _number(target: Package, new: list[SectionDocs], after: int) -> None:
    """Give every section its number: those of the course page first, the new ones behind the one meant."""
    page = [one for one in target.sections if not one.parent and one not in new]
    at = next((i + 1 for i, one in enumerate(page) if one.id == after), len(page))
    page[at:at] = new
    target.sections = [*page, *(one for one in target.sections if one.parent)]
    order = {}
    for number, section in enumerate(target.sections):
        section.number = number
        put(section.docs["section.xml"], "number", number)
        order[section.id] = number
    for activity in target.activities:
        put(activity.docs["module.xml"], "sectionid", activity.section)
        put(activity.docs["module.xml"], "sectionnumber", order.get(activity.section, 0))
    target.activities.sort(key=lambda one: order.get(one.section, 0))
