"""moodle_backup.xml, read as it streams by (``backup_main_structure_step``, Moodle 2.0 to 5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache

from moodlectl.errors import Refused
from moodlectl.mbz.archive import Member
from moodlectl.mbz.limits import KIB, LIMITS, Limits
from moodlectl.mbz.manifest import ActivityFacts, SectionFacts
from moodlectl.mbz.names import refuse
from moodlectl.mbz.text import printable
from moodlectl.mbz.xmlstream import XmlReader, value

_DIRECTORY = re.compile(r"(activities|sections)/[a-z][a-z0-9_]*_[0-9]+|course")
_SMALL = 512 * KIB
_ITEMS = frozenset({"activity", "section", "setting", "course", "detail"})
_FIELDS = frozenset(
    {
        *(
            "moduleid",
            "sectionid",
            "modulename",
            "title",
            "directory",
            "insubsection",
            "parentcmid",
            "modname",
        ),
        *("level", "section", "activity", "name", "value", "courseid"),
        *("type", "format", "mode", "interactive", "execution", "executiontime"),
    }
)
_INFORMATION = frozenset(
    {
        *("name", "moodle_version", "moodle_release", "backup_version", "backup_release", "backup_date"),
        *("mnet_remoteusers", "include_files", "include_file_references_to_external_content"),
        *(
            "original_wwwroot",
            "original_site_identifier_hash",
            "original_course_id",
            "original_course_format",
        ),
        *("original_course_fullname", "original_course_shortname", "original_course_startdate"),
        *("original_course_enddate", "original_course_contextid", "original_system_contextid"),
    }
)


@dataclass
class Information:
    """What moodle_backup.xml says, as it says it: flat fields, and one mapping for each item and setting."""

    fields: dict[str, str] = field(default_factory=dict)
    detail: dict[str, str] = field(default_factory=dict)
    course: dict[str, str] = field(default_factory=dict)
    activities: list[dict[str, str]] = field(default_factory=list)
    sections: list[dict[str, str]] = field(default_factory=list)
    settings: list[dict[str, str]] = field(default_factory=list)

    def root_settings(self) -> dict[str, bool | int | str | None]:
        """The root settings by Moodle's name; 0 and 1 are ticks."""
        found: dict[str, bool | int | str | None] = {}
        for setting in self.settings:
            if setting.get("level") == "root" and "name" in setting:
                found[setting["name"]] = _setting_value(setting.get("value"))
        return found

    def ticks(self) -> dict[str, bool]:
        """The ticks of sections and activities: ``section_12_included``, ``quiz_34_userinfo``."""
        return {
            setting["name"]: setting.get("value") not in (None, "", "0")
            for setting in self.settings
            if setting.get("level") in ("section", "activity", "subsection") and "name" in setting
        }


def read_information(member: Member, limits: Limits = LIMITS) -> Information:
    """The content of moodle_backup.xml, which several readers may share. Reads only.

    Raises Refused: ``bad_xml``, ``hostile_*``, and ``not_a_backup`` where it is some other XML.
    """
    if member.size > limits.manifest_bytes:
        raise refuse(
            "hostile_size", f"{member.name} is larger than {limits.manifest_bytes} bytes.", size=member.size
        )
    if member.size <= _SMALL and limits is LIMITS:
        return _read_small(member.name, member.read(_SMALL))
    return _read(member, limits)


@lru_cache(maxsize=8)
def _read_small(name: str, document: bytes) -> Information:
    """Each step of a move reads it anew."""
    return _read(Member(name, len(document), "file", lambda: iter((memoryview(document),))), LIMITS)


def _read(member: Member, limits: Limits) -> Information:
    found = Information()
    path: list[str] = []
    record: dict[str, str] | None = None
    count = 0

    def start(depth: int, name: str, attributes: dict[str, str]) -> None:
        nonlocal record
        if depth == 1 and name != "moodle_backup":
            raise Refused(
                f"{member.name} is not what Moodle writes: its root is <{printable(name[:60])}>.",
                "Name a backup that Moodle wrote.",
                code="not_a_backup",
            )
        path.append(name)
        if name in _ITEMS and record is None and _list_of(path, found) is not None:
            record = dict(attributes)

    def end(depth: int, name: str, text: str | None) -> None:
        nonlocal record, count
        if record is not None:
            items = _list_of(path, found) if name in _ITEMS else None
            if items is not None:
                items.append(record)
                record = None
                count += 1
                if count > limits.manifest_items * 4:
                    raise refuse("hostile_manifest", f"{member.name} names more items than any course has.")
            elif text is not None and (known := value(text)) is not None:
                record[name] = known
        elif (
            text is not None
            and depth == 3
            and path[1] == "information"
            and (known := value(text)) is not None
            and found.fields.setdefault(name, known) != known
        ):
            raise refuse("hostile_manifest", f"{member.name} says two things about {name}.")
        path.pop()

    member.parse(XmlReader(member.name, start, end, _FIELDS | _INFORMATION, limits))
    if len(found.activities) + len(found.sections) > limits.manifest_items:
        raise refuse("hostile_manifest", f"{member.name} names more items than any course has.")
    if not found.fields:
        raise Refused(f"{member.name} says nothing.", "Name a backup that Moodle wrote.", code="not_a_backup")
    return found


def _list_of(path: list[str], found: Information) -> list[dict[str, str]] | None:
    """The list an element at this path belongs to, None where it is no item."""
    match path[1:]:
        case ["information", "contents", "activities", "activity"]:
            return found.activities
        case ["information", "contents", "sections", "section"]:
            return found.sections
        case ["information", "settings", "setting"]:
            return found.settings
        case ["information", "contents", "course"]:
            return _Only(found.course)
        case ["information", "details", "detail"]:
            return _Only(found.detail)
    return None


class _Only(list[dict[str, str]]):
    """A list whose one element is kept in a mapping."""

    def __init__(self, target: dict[str, str]) -> None:
        super().__init__()
        self._target = target

    def append(self, item: dict[str, str]) -> None:
        self._target.update(item)


def nest(information: Information, numbers: Mapping[int, int]) -> tuple[SectionFacts, ...]:
    """The sections with their activities, subsections hung on the activity they unfold from. Reads only.

    ``numbers`` are the places of sections by id. Raises Refused ``hostile_manifest`` where items name
    folders or ids that Moodle never writes.
    """
    ticks = information.ticks()
    by_section: dict[int, list[ActivityFacts]] = {}
    cmids: set[int] = set()
    for item in information.activities:
        activity = _activity(item, ticks)
        _once(activity.id, cmids, "activity")
        by_section.setdefault(activity.section_id, []).append(activity)
    ids: set[int] = set()
    known = [_section(item, ticks, numbers) for item in information.sections]
    for section in known:
        _once(section.id, ids, "section")
    inner = {section.parent_cmid: section for section in known if section.parent_cmid in cmids}
    placed = 0

    def whole(section: SectionFacts, depth: int = 1) -> SectionFacts:
        nonlocal placed
        placed += 1
        activities = []
        for activity in by_section.get(section.id, ()):
            sub = inner.get(activity.id)
            if sub is not None and depth < 8:
                activity = replace(activity, subsection=whole(sub, depth + 1))
            activities.append(activity)
        return replace(section, activities=tuple(activities))

    nested = {section.id for section in inner.values()}
    tops = [whole(section) for section in known if section.id not in nested]
    if placed != len(known):
        raise refuse("hostile_manifest", "moodle_backup.xml nests sections in a circle.")
    # An activity backup names no section at all; its activity still belongs somewhere.
    for id_, activities in by_section.items():
        if id_ not in ids:
            tops.append(SectionFacts(id_, "", False, False, "", activities=tuple(activities)))
    return tuple(tops)


def _once(id_: int, seen: set[int], what: str) -> None:
    if id_ in seen:
        raise refuse("hostile_manifest", f"moodle_backup.xml names the {what} {id_} twice.")
    seen.add(id_)


def _activity(item: Mapping[str, str], ticks: Mapping[str, bool]) -> ActivityFacts:
    directory = _directory(item)
    key = directory.rpartition("/")[2]
    return ActivityFacts(
        id=number(item.get("moduleid")),
        module=item.get("modulename", ""),
        title=item.get("title", ""),
        # Moodle lists only what it included (backup_controller_dbops, all releases).
        included=ticks.get(f"{key}_included", True),
        userinfo=ticks.get(f"{key}_userinfo", False),
        section_id=number(item.get("sectionid")),
        directory=directory,
    )


def _section(item: Mapping[str, str], ticks: Mapping[str, bool], numbers: Mapping[int, int]) -> SectionFacts:
    directory = _directory(item)
    key, id_ = directory.rpartition("/")[2], number(item.get("sectionid"))
    parent = item.get("parentcmid")
    return SectionFacts(
        id=id_,
        title=item.get("title", ""),
        included=ticks.get(f"{key}_included", True),
        userinfo=ticks.get(f"{key}_userinfo", False),
        directory=directory,
        number=numbers.get(id_),
        parent_cmid=number(parent) if parent else None,
    )


def _directory(item: Mapping[str, str]) -> str:
    directory = item.get("directory", "")
    if not _DIRECTORY.fullmatch(directory):
        raise refuse(
            "hostile_manifest", f"moodle_backup.xml names a folder Moodle never writes: {directory[:120]}"
        )
    return directory


def number(text: str | None) -> int:
    """A Moodle id or count as a number. Raises Refused ``hostile_manifest`` where it is none."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise refuse(
            "hostile_manifest", f"moodle_backup.xml holds {str(text)[:40]!r} where a number belongs."
        )
    return int(text)


def moment(text: str | None) -> datetime | None:
    """Seconds since 1970 as an aware time in UTC; None for 0, nothing, or a year that cannot be."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > 11 or int(text) == 0:
        return None
    return datetime.fromtimestamp(int(text), UTC)


def _setting_value(text: str | None) -> bool | int | str | None:
    if text in ("0", "1"):
        return text == "1"
    if text is not None and text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    return text
