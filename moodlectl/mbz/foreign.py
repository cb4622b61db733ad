"""Course files that are no Moodle 2 backups but that Moodle restores: Moodle 1.9 and IMS Common Cartridge."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from moodlectl.mbz.archive import Member
from moodlectl.mbz.text import printable
from moodlectl.mbz.xmlstream import XmlReader, read_xml

_CC = re.compile(rb"imsglobal\.org/xsd/ims(?:cc|ccv1p\d)/imscp_v1p1")
_CC11 = re.compile(rb"imsglobal\.org/xsd/imsccv1p[1-9]/")
_HEAD = 4096
_MOST_ITEMS = 100_000


@dataclass
class Foreign:
    """What such a file says of itself; ``format`` is Moodle's word: ``moodle1``, ``imscc1``, ``imscc11``."""

    format: str
    name: str = ""
    fullname: str = ""
    shortname: str = ""
    course_id: int | None = None
    course_format: str | None = None
    date: str | None = None
    release: str | None = None
    version: str | None = None
    url: str | None = None
    users: int = 0
    questions: int = 0
    sections: list[str] = field(default_factory=list)
    activities: dict[str, int] = field(default_factory=dict)


class ForeignReader:
    """Looks out for moodle.xml and imsmanifest.xml; ``found`` is what it met, None for a Moodle 2 backup."""

    def __init__(self) -> None:
        self.found: Foreign | None = None

    def see(self, member: Member) -> bool:
        """Whether the member was one of those, and has been read.

        Raises Refused where it is hostile or broken.
        """
        if member.kind == "dir" or member.name not in ("moodle.xml", "imsmanifest.xml"):
            return False
        chunks = member.chunks()
        first = next(chunks, memoryview(b""))
        head = bytes(first[:_HEAD])
        reader = None
        if member.name == "moodle.xml" and b"<MOODLE_BACKUP>" in head:
            self.found = Foreign("moodle1")
            reader = _moodle1(member.name, self.found)
        elif member.name == "imsmanifest.xml" and _CC.search(head):
            self.found = Foreign("imscc11" if _CC11.search(head) else "imscc1")
            reader = _cartridge(member.name, self.found)
        if reader:
            reader.feed(first)
            read_xml(chunks, reader)
        return reader is not None


def _moodle1(name: str, found: Foreign) -> XmlReader:
    """moodle.xml of Moodle 1.5 to 1.9: INFO, COURSE/HEADER, SECTIONS, MODULES, USERS (all in upper case)."""
    path: list[str] = []
    information = {
        "NAME": "name",
        "DATE": "date",
        "MOODLE_RELEASE": "release",
        "MOODLE_VERSION": "version",
        "ORIGINAL_WWWROOT": "url",
    }
    header = {"FULLNAME": "fullname", "SHORTNAME": "shortname", "FORMAT": "course_format"}

    def start(_: int, tag: str, __: dict[str, str]) -> None:
        path.append(tag)
        if path[2:] == ["USERS", "USER"]:
            found.users += 1
        elif len(path) == 6 and path[2] == "QUESTION_CATEGORIES" and tag == "QUESTION":
            found.questions += 1

    def end(_: int, tag: str, text: str | None) -> None:
        if text is not None:
            if len(path) == 3 and path[1] == "INFO" and tag in information:
                setattr(found, information[tag], text)
            elif path[1:3] == ["COURSE", "HEADER"] and len(path) == 4:
                if tag in header:
                    setattr(found, header[tag], text)
                elif tag == "ID" and text.isdecimal() and len(text) < 19:
                    found.course_id = int(text)
            elif path[2:] == ["SECTIONS", "SECTION", "NUMBER"] and len(found.sections) < _MOST_ITEMS:
                found.sections.append(printable(text))
            elif path[2:] == ["MODULES", "MOD", "MODTYPE"] and (
                text in found.activities or len(found.activities) < 500
            ):
                found.activities[text] = found.activities.get(text, 0) + 1
        path.pop()

    fields = frozenset({*information, *header, "ID", "NUMBER", "MODTYPE"})
    return XmlReader(name, start, end, fields)


def _cartridge(name: str, found: Foreign) -> XmlReader:
    """imsmanifest.xml of a Common Cartridge 1.0 to 1.3: its title, the items of its organisation, its
    resources."""
    path: list[str] = []

    def start(_: int, tag: str, attributes: dict[str, str]) -> None:
        path.append(tag)
        if path[1:] == ["resources", "resource"]:
            kind = attributes.get("type", "")[:100]
            if kind in found.activities or len(found.activities) < 500:
                found.activities[kind] = found.activities.get(kind, 0) + 1

    def end(_: int, tag: str, text: str | None) -> None:
        if text is not None:
            plain = [part.rpartition(":")[2] for part in path[1:]]
            if plain[-3:] == ["general", "title", "string"] and plain[0] == "metadata" and not found.fullname:
                found.fullname = text
            elif (
                plain == ["organizations", "organization", "item", "item", "title"]
                and len(found.sections) < _MOST_ITEMS
            ):
                found.sections.append(text)
        path.pop()

    return XmlReader(name, start, end, frozenset({"title", "string", "lomimscc:string", "lom:string"}))
