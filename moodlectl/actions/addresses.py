"""Pasted addresses: which course the page of a site belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from moodlectl.errors import UsageError
from moodlectl.site.port import CourseRef

_LIKE = "A course's address looks like …/course/view.php?id=42."

# Pages whose ``id`` is the course's, and those that say it by another name; the rest say it nowhere
# (the scripts' required_param, 3.9 to 5.1).
_ID_IS_THE_COURSE = re.compile(
    r"/(course/(view|edit|info|completion|reset|switchrole|delete|copy|admin|extraedit)"
    r"|user/index|enrol/(users|instances|otherusers)|group/\w+|backup/\w+|badges/\w+|grade/[\w/]+|report/[\w/]+"
    r"|mod/\w+/index|outcome/course|course/format/\w+/\w+)\.php$"
)
_ID_IS_THE_ACTIVITY = re.compile(r"/mod/\w+/(?!index)\w+\.php$")
_ID_IS_THE_SECTION = re.compile(r"/course/(section|editsection)\.php$")
_MODEDIT = re.compile(r"/course/modedit\.php$")
_NAMED = ("courseid", "course")


def is_address(word: str) -> bool:
    """Whether a word is a web address, with or without https:// in front."""
    text = word.strip().strip("<>")
    return bool(re.match(r"https?://", text, re.IGNORECASE) or re.match(r"[\w.-]+(:\d+)?/\S*\.php(\?|$)", text))


def course_of(address: str, site_url: str | None) -> CourseRef:
    """The course a page belongs to: by its id, or by an activity (``cmid``) or section that the site has to look up.

    Raises UsageError for another site's address and for a page that says no course.
    """
    text = address.strip().strip("<>").rstrip(".,;)")
    if not re.match(r"https?://", text, re.IGNORECASE):
        text = f"https://{text}"
    parts = _parts(text)
    if site_url is not None and not _belongs(parts, site_url):
        raise UsageError(
            f"The address {text} does not belong to the site in use, {site_url}.",
            "Name its site with --site ('moodlectl site list' shows them), or give the course's id or short name.",
        )
    found = _reference(parts, parse_qs(parts.query.replace("&amp;", "&")))
    if found is None:
        raise UsageError(f"The address {text} is not a course's.", _LIKE)
    return found


def _reference(parts: SplitResult, query: Mapping[str, list[str]]) -> CourseRef | None:
    for name in _NAMED:
        if len(query.get(name, ())) == 1 and _is_id(query[name][0]):
            return CourseRef("id", query[name][0])
    fields: tuple[tuple[re.Pattern[str], str, Literal["id", "cmid", "sectionid"]], ...] = (
        (_ID_IS_THE_COURSE, "id", "id"),
        (_ID_IS_THE_ACTIVITY, "id", "cmid"),
        (_ID_IS_THE_SECTION, "id", "sectionid"),
        (_MODEDIT, "update", "cmid"),
    )
    for pattern, name, field in fields:
        values = query.get(name, [])
        if pattern.search(parts.path) and len(values) == 1 and _is_id(values[0]):
            return CourseRef(field, values[0])
    return None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _parts(address: str) -> SplitResult:
    """An address taken apart. Raises UsageError for what is none, such as a port that is no number."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"'{address}' is no web address.", _LIKE) from error
    return parts


def _belongs(theirs: SplitResult, site_url: str) -> bool:
    ours = urlsplit(site_url)
    folder = ours.path.rstrip("/") + "/"
    same_host = (ours.hostname or "").lower() == (theirs.hostname or "").lower() and _port(ours) == _port(theirs)
    return same_host and theirs.path.startswith(folder)


def _port(parts: SplitResult) -> int | None:
    """Its port, said or not. A site that answers on https may be pasted as http: both mean the usual one."""
    return None if parts.port in (80, 443) else parts.port
