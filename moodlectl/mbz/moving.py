"""What does not move well with a course: links into the site it comes from, and ways to enrol another may not have.

Addresses of the old site stand in texts as they were written. Links to courses and activities Moodle encodes when it
backs up; those that lead out of the backup become addresses of the old site again when it is restored
(``backup/util/helper/restore_decode_rule.class.php``, 3.9 to 5.1).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from moodlectl.mbz.archive import MANIFEST, open_backup
from moodlectl.mbz.inspection import inspect
from moodlectl.mbz.xmlstream import XmlReader

_COURSE = re.compile(rb"\$@COURSE[A-Z]*BYID\*([0-9]{1,18})@\$")
_MODULE = re.compile(rb"\$@(?!COURSE|USERINDEX|BADGES)[A-Z]{2,40}VIEWBYID\*([0-9]{1,18})@\$")
_LONGEST = 300
_TEXTS = re.compile(
    r"(course/course\.xml|sections/section_\d+/section\.xml|activities/(?P<activity>[a-z0-9_]+_\d+)/(?P<file>\w+)\.xml"
    r"|questions\.xml|groups\.xml|badges\.xml|course/blocks/\w+/block\.xml|course/calendar\.xml)"
)
_NOT_TEXT = frozenset(
    {"grade_history", "logs", "logstores", "grades", "roles", "inforef", "module", "completion", "filters", "xapistate"}
)


@dataclass(frozen=True)
class Moving:
    """What to know before a backup goes to another site. ``links`` counts addresses of the old site by where they
    stand (``course``, ``sections``, ``questions``, an activity's ``forum_12``); ``methods`` are the names of the
    enrolment methods that the course has, each with how many people it enrols."""

    url: str
    links: Mapping[str, int] = field(default_factory=dict)
    methods: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many links lead to the old site."""
        return sum(self.links.values())


def moving(path: Path) -> Moving:
    """The links into its old site and the enrolment methods of a backup. Reads only, once.

    Raises Refused where the file is no whole backup, or hostile.
    """
    manifest = inspect(path)
    url = (manifest.original_site.url if manifest.original_site else None) or ""
    cmids = {str(one.id).encode() for one in manifest.all_activities()}
    course = str(manifest.course.id).encode() if manifest.course else b""
    links: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    with open_backup(path) as archive:
        for member in archive.members():
            if member.kind != "file" or member.name == MANIFEST:
                continue
            if member.name == "course/enrolments.xml":
                member.parse(_methods(member.name, methods))
                continue
            where = _where(member.name)
            if where is not None:
                found = _Finder(url, course, cmids)
                for chunk in member.chunks():
                    found.take(chunk)
                links[where] += found.end()
    return Moving(url, {name: amount for name, amount in links.items() if amount}, dict(methods))


def _where(name: str) -> str | None:
    """What a member with texts belongs to; None for one without."""
    found = _TEXTS.fullmatch(name)
    if not found or found["file"] in _NOT_TEXT:
        return None
    if found["activity"]:
        return found["activity"]
    return {"course": "course", "sections": "sections"}.get(name.partition("/")[0], name.partition(".")[0])


def _methods(name: str, methods: Counter[str]) -> XmlReader:
    """A reader of course/enrolments.xml: ``enrol`` in an ``enrol`` is a method's name."""
    names: list[str] = []

    def start(depth: int, tag: str, _: dict[str, str]) -> None:
        if tag == "enrolment" and names:
            methods[names[-1]] += 1

    def end(depth: int, tag: str, text: str | None) -> None:
        if tag == "enrol" and text and text.strip() and depth == 4:
            names.append(text.strip())
            methods[names[-1]] += 0

    return XmlReader(name, start, end, frozenset({"enrol"}))


class _Finder:
    """Counts, in bytes that come in pieces, what leads to the old site."""

    def __init__(self, url: str, course: bytes, cmids: set[bytes]) -> None:
        self._address = _address(url)
        self._course, self._cmids = course, cmids
        self._rest = b""
        self._count = 0

    def take(self, chunk: bytes | memoryview) -> None:
        """The next piece; what might go on in the one after it is kept back."""
        data = self._rest + bytes(chunk)
        keep = max(0, len(data) - _LONGEST)
        self._count += sum(1 for place in self._places(data) if place < keep)
        self._rest = data[keep:]

    def end(self) -> int:
        """How many there were in all."""
        count = self._count + sum(1 for _ in self._places(self._rest))
        self._rest = b""
        return count

    def _places(self, data: bytes) -> Iterator[int]:
        if self._address is not None:
            yield from (found.start() for found in self._address.finditer(data))
        yield from (found.start() for found in _COURSE.finditer(data) if found[1] != self._course)
        yield from (found.start() for found in _MODULE.finditer(data) if found[1] not in self._cmids)


def _address(url: str) -> re.Pattern[bytes] | None:
    """Any address below a site's, with http or https, as it stands in XML."""
    parts = urlsplit(url)
    if not parts.netloc:
        return None
    place = re.escape((parts.netloc + parts.path.rstrip("/")).encode())
    return re.compile(rb"https?://" + place + rb"(?![\w.-]|:[0-9])", re.IGNORECASE)


def addresses(
    old: str, new: str, course: tuple[int, int], activities: Mapping[int, tuple[str, int]]
) -> list[list[str]]:
    """Pairs of an old address and its new one: the course's (old id, new id) and those of its activities (old id →
    module, new id)."""
    old, new = old.rstrip("/"), new.rstrip("/")
    found = [[f"{old}/course/view.php?id={course[0]}", f"{new}/course/view.php?id={course[1]}"]]
    for before, (module, after) in activities.items():
        found.append([f"{old}/mod/{module}/view.php?id={before}", f"{new}/mod/{module}/view.php?id={after}"])
    return found
