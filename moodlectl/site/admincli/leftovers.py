"""The unfinished course that ``restore_backup.php`` leaves behind when it fails, found and removed.

The script makes a hidden course named "restoring" before it looks at anything else (3.10 to 5.1). It is only taken
for the leftover where no other course of the category can be meant; what is in doubt is named, not deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodlectl.errors import MoodlectlError
from moodlectl.site.admincli import scripts
from moodlectl.site.admincli.looking import Means, in_category, offers
from moodlectl.site.live import courses

Record = Mapping[str, Any]

_BY_WEB = "core_course_delete_courses"


@dataclass(frozen=True)
class Before:
    """The category before the script ran, and the short name that the course would get."""

    category_id: int
    known: frozenset[int]
    shortname: str


def remove(means: Means, before: Before, *, surely_empty: bool) -> dict[str, Any]:
    """Remove what a failed restore left in the category; says what became of it. Writes to the site.

    ``surely_empty``: the script is known to have stopped right after making its empty course. The answer has
    ``course_removed`` (an id), and ``in_recycle_bin`` where Moodle keeps a copy there; or ``left_behind``, courses
    that are in doubt or could not be removed, and ``not_removed``, why.
    """
    assert means.web is not None
    try:
        new = [each for id_, each in in_category(means.web, before.category_id).items() if id_ not in before.known]
        found = [each for each in new if is_leftover(each, before.shortname)]
        if not found and surely_empty:
            found = [each for each in new if not each.get("visible", 1) and _is_empty(means, int(each["id"]))]
    except MoodlectlError as trouble:
        return {"not_looked": trouble.message}
    if not found:
        return {}
    if len(found) > 1:
        return {"left_behind": [_name(each) for each in found], "not_removed": "more than one course may be meant"}
    return _delete(means, before, found[0])


def is_leftover(course: Record, shortname: str) -> bool:
    """Whether a new course is the script's: its hidden placeholder, or the backup's own name, begun and left."""
    name = str(course["shortname"])
    if re.fullmatch(r"restoring(_\d+)?", name):
        return not course.get("visible", 1)
    return bool(shortname) and re.fullmatch(re.escape(shortname) + r"(_\d+)?", name) is not None


def _is_empty(means: Means, course_id: int) -> bool:
    assert means.web is not None
    return not any(section.activities for section in courses.contents(means.web, course_id))


def _name(course: Record) -> str:
    return f"id:{course['id']} {course['shortname']}"


def _delete(means: Means, before: Before, course: Record) -> dict[str, Any]:
    """First past the recycle bin; ``delete_course.php`` of 4.5.6 and 5.1 breaks off at an empty course then, because
    only the recycle bin loads ``course/lib.php`` for it. So next with the bin, and last by web service."""
    assert means.web is not None
    course_id, why = int(course["id"]), ""
    ways = [("script", False), ("script", True), *([("web", True)] if offers(means.web, _BY_WEB) else [])]
    for way, bin_ in ways:
        try:
            if way == "script":
                options = scripts.delete_options(course_id, recycle_bin=bin_)
                said = means.host.script(scripts.DELETE, options, deed=True)
                why = scripts.problem(said) if said.status != 0 else why
            else:
                means.web.call(_BY_WEB, {"courseids": [course_id]})
            if course_id not in in_category(means.web, before.category_id):
                return {"course_removed": course_id, **({"in_recycle_bin": True} if bin_ else {})}
        except MoodlectlError as trouble:
            why = trouble.message
    return {"left_behind": [_name(course)], "not_removed": why}


def told(found: Mapping[str, Any]) -> str:
    """What became of the leftover, in a sentence for people; empty where there was none."""
    if "left_behind" in found:
        return f"An unfinished course is left behind, delete it by hand: {', '.join(found['left_behind'])}."
    if found.get("in_recycle_bin"):
        return (
            "The unfinished course was removed; where the site has its recycle bin on, the empty course lies in the "
            "category's bin, because delete_course.php of this release cannot delete an empty course past it."
        )
    if "not_looked" in found:
        return "Whether an unfinished course is left in the category could not be looked up."
    return ""
