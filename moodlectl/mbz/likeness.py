"""How values are made comparable: across sites, databases and files, without ids and without anybody's words."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

Identity = tuple[str, tuple[str, ...], Mapping[str, str]]
"""One thing a course holds: its kind, the key by which it is found again, and what it is like.

Keys hold no ids: names, positions, usernames. What stands in or belongs to an activity has its module and name as the
first two words of its key, what belongs to the course itself ``course`` and an empty name.
"""

COURSE = ("course", "")
_LONG = 100
_LINK = re.compile(r"(?:\$@[A-Z][^ \t\n\"'<>]*|https?://[^ \t\n\"'<>]+\.php[^ \t\n\"'<>]*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_MARKS = re.compile(r"[{}\[\],:]+")
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)?")

# Of an activity's settings: ids, times of saving, and what Moodle makes up itself.
_OWN = re.compile(
    r"(?!idnumber$).*id$|id|course|name|time(?:created|modified)|added|revision|reference|launch|scale|intro_?format|"
    r"defaultsort|dependency|activitylink|conditions|gradecat|servicesalt|.*password|moderatorpass|viewerpass|"
    r"sha1hash|md5hash|sectionnumber|section|score|visibleold|version|modulename|config|participants|"
    r"firstpagetitle_|recentactivity|contexthash|nosubmissions"
)


def text(value: str) -> str:
    """A text without what a move changes: links to pages of the site, line ends, control characters.

    ``xml_writer::xml_safe_utf8`` (``backup/util/xml/xml_writer.class.php``) drops the same characters.
    """
    value = _CONTROL.sub("", value.replace("\r\n", "\n").replace("\r", "\n"))
    return _LINK.sub("LINK", value).strip(" \t\n")


def digest(value: str) -> str:
    """A text as its sha1, empty for an empty one: words of people are compared, never kept."""
    value = text(value)
    return hashlib.sha1(value.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest() if value else ""


def plain(value: str) -> str:
    """A short value as it is, numbers without trailing zeros; a long one as its sha1."""
    if _DECIMAL.fullmatch(value):
        return value.rstrip("0").rstrip(".") or "0"
    value = text(value)
    return digest(value) if len(value.encode("utf-8", "surrogatepass")) > _LONG else value


def shape(value: str) -> str:
    """A restriction's JSON, whose numbers are ids and dates: its words are compared, in whatever order they stand."""
    if not value.startswith("{"):
        return digest(value)
    try:
        value = json.dumps(json.loads(value), separators=(",", ":"))
    except (ValueError, RecursionError):
        return digest(value)
    return digest("\n".join(sorted(_MARKS.split(_NUMBERS.sub("#", value)))))


def settings(fields: Mapping[str, str]) -> dict[str, str]:
    """An activity's settings as they can be compared: no ids, no times of saving; empty where there was nothing."""
    found: dict[str, str] = {}
    for name, value in fields.items():
        if _OWN.fullmatch(name):
            continue
        # Negative numbers stand for the id of a scale.
        found[name] = "scale" if name.startswith("grade") and value.startswith("-") else plain(value)
    return found
