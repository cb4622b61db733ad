"""What a backup says it is, and what was counted in it: frozen records, and their JSON.

Texts are as Moodle stored them; show them to a person only through ``printable``. Times are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

MODES = MappingProxyType(
    {
        10: "general",
        20: "import",
        30: "hub",
        40: "samesite",
        50: "automated",
        60: "converted",
        70: "async",
        80: "copy",
    }
)
FORMATS = MappingProxyType(
    {
        "moodle2": "Moodle backup",
        "moodle1": "Moodle 1.9 backup",
        "imscc1": "IMS Common Cartridge 1.0",
        "imscc11": "IMS Common Cartridge 1.1",
    }
)


@dataclass(frozen=True)
class OriginalSite:
    """Where a backup was made: the site's address and the md5 of its identifier, None where the file is
    silent."""

    url: str | None = None
    identifier_hash: str | None = None


@dataclass(frozen=True)
class CourseFacts:
    """The course a backup was made of, as it was called there. ``id`` is its id on the original site."""

    id: int | None
    fullname: str
    shortname: str
    format: str | None = None
    startdate: datetime | None = None
    enddate: datetime | None = None
    idnumber: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class ActivityFacts:
    """One activity of a backup: ``id`` is the course module id; ``subsection`` the section it unfolds to."""

    id: int
    module: str
    title: str
    included: bool
    userinfo: bool
    section_id: int
    directory: str
    subsection: SectionFacts | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys that scripts rely on; a subsection's activity also has ``subsection``, a whole section."""
        facts: dict[str, Any] = {
            "id": self.id,
            "module": self.module,
            "title": self.title,
            "included": self.included,
            "userinfo": self.userinfo,
        }
        if self.subsection:
            facts["subsection"] = self.subsection.as_dict()
        return facts


@dataclass(frozen=True)
class SectionFacts:
    """One section of a backup. ``number`` is its place in the course, None where section.xml is missing."""

    id: int
    title: str
    included: bool
    userinfo: bool
    directory: str
    number: int | None = None
    parent_cmid: int | None = None
    activities: tuple[ActivityFacts, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The keys that scripts rely on, with ``number`` and, for a subsection, ``parent_cmid``."""
        return {
            "id": self.id,
            "number": self.number,
            "title": self.title,
            "included": self.included,
            "userinfo": self.userinfo,
            "parent_cmid": self.parent_cmid,
            "activities": [activity.as_dict() for activity in self.activities],
        }


@dataclass(frozen=True)
class FileCounts:
    """A number of files and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class ArchiveCounts:
    """What was counted in the file itself.

    ``activities`` by module name; ``grades`` those that have a value; ``questions`` question bank entries
    (before Moodle 4.0: questions); ``files`` the files the course names, without folders; ``pool`` the
    contents that are really in the archive, each once.
    """

    sections: int = 0
    activities: Mapping[str, int] = field(default_factory=dict)
    users: int = 0
    enrolments: int = 0
    groups: int = 0
    groupings: int = 0
    grade_items: int = 0
    grades: int = 0
    questions: int = 0
    badges: int = 0
    files: FileCounts = FileCounts()
    pool: FileCounts = FileCounts()

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON has them."""
        flat = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return flat | {
            "activities": dict(self.activities),
            "files": {"count": self.files.count, "bytes": self.files.bytes},
            "pool": {"count": self.pool.count, "bytes": self.pool.bytes},
        }


@dataclass(frozen=True)
class Plugins:
    """The plugins a site needs to restore all of it, by kind: names without their prefix, sorted."""

    mod: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    qtype: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    enrol: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, list[str]]:
        """The names by kind."""
        return {kind: list(getattr(self, kind)) for kind in self.__dataclass_fields__}


@dataclass(frozen=True)
class Danger:
    """Something a person should know before restoring: a stable ``code`` for scripts, and a sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class Dependency:
    """One thing an item needs that lies elsewhere.

    ``item`` is ``cmid:12``, ``section:34`` or ``course``; ``kind`` is ``restriction``, ``completion``,
    ``grade``, ``grouping``, ``question`` or ``link``; ``needs`` names the other end the same way (or
    ``grade_item:5``, ``group:6``, ``grouping:7``, ``grade_category:8``, ``question_bank_entry:9``,
    ``question_category:10``, ``profile_field:NAME``, or ``forum:11`` for a forum known only by its own number).
    ``cmid`` is the activity in this file that brings it, None where no single one does. ``missing`` is whether the
    file lacks it.
    """

    item: str
    kind: str
    needs: str
    missing: bool
    cmid: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The dependency as JSON has it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Manifest:
    """Everything ``backup inspect`` knows about a file. ``size`` is the file's own bytes.

    ``sections`` are those of the course page; a subsection hangs on its activity. ``settings`` are Moodle's
    root settings; ticks are booleans. ``same_site`` is None where it cannot be known.
    """

    type: str
    format: str
    mode: str
    container: str
    size: int
    course: CourseFacts
    backup_date: datetime | None = None
    name: str = ""
    moodle_release: str | None = None
    moodle_version: str | None = None
    backup_release: str | None = None
    backup_version: str | None = None
    original_site: OriginalSite = OriginalSite()
    same_site: bool | None = None
    include_files: bool = True
    external_content: bool = False
    mnet_users: bool = False
    settings: Mapping[str, bool | int | str | None] = field(default_factory=dict)
    sections: tuple[SectionFacts, ...] = ()
    counts: ArchiveCounts = ArchiveCounts()
    plugins: Plugins = Plugins()
    dangers: tuple[Danger, ...] = ()
    dependencies: tuple[Dependency, ...] = ()

    @property
    def kind(self) -> str:
        """What the file is, in words: ``Moodle backup of a course``, ``IMS Common Cartridge 1.1``."""
        words = FORMATS.get(self.format, "unknown format")
        return f"{words} of {_ARTICLES.get(self.type, self.type)}" if self.format == "moodle2" else words

    @property
    def has_users(self) -> bool:
        """Whether people's records are in the file."""
        return self.counts.users > 0

    def all_sections(self) -> Iterator[SectionFacts]:
        """Every section, subsections right after the section they lie in."""
        stack = list(reversed(self.sections))
        while stack:
            section = stack.pop()
            yield section
            inner = [activity.subsection for activity in section.activities if activity.subsection]
            stack.extend(reversed(inner))

    def all_activities(self) -> Iterator[ActivityFacts]:
        """Every activity, those of subsections included."""
        for section in self.all_sections():
            yield from section.activities

    def missing(self) -> tuple[Dependency, ...]:
        """What items of this file need and the file does not hold."""
        return tuple(dependency for dependency in self.dependencies if dependency.missing)

    def broken_by(self, sections: set[int], cmids: set[int]) -> tuple[Dependency, ...]:
        """What the chosen items (ids of sections and of course modules) need and would not get.

        That is what the file lacks, and what only an activity outside the choice brings. Reads only.
        """
        chosen = {f"section:{id_}" for id_ in sections} | {f"cmid:{id_}" for id_ in cmids} | {"course"}
        return tuple(
            dependency
            for dependency in self.dependencies
            if dependency.item in chosen
            and (dependency.missing or (dependency.cmid is not None and dependency.cmid not in cmids))
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``backup inspect``: times ISO 8601 with offset, sizes in bytes."""
        course = self.course
        return {
            "type": self.type,
            "format": self.format,
            "kind": self.kind,
            "mode": self.mode,
            "container": self.container,
            "name": self.name,
            "backup_date": _iso(self.backup_date),
            "moodle_release": self.moodle_release,
            "moodle_version": self.moodle_version,
            "backup_release": self.backup_release,
            "backup_version": self.backup_version,
            "original_site": {
                "url": self.original_site.url,
                "identifier_hash": self.original_site.identifier_hash,
            },
            "same_site": self.same_site,
            "include_files": self.include_files,
            "include_file_references_to_external_content": self.external_content,
            "course": {
                "id": course.id,
                "fullname": course.fullname,
                "shortname": course.shortname,
                "idnumber": course.idnumber,
                "category": course.category,
                "format": course.format,
                "startdate": _iso(course.startdate),
                "enddate": _iso(course.enddate),
            },
            "settings": dict(self.settings),
            "sections": [section.as_dict() for section in self.sections],
            "users": self.counts.users,
            "size": self.size,
            "files": {"count": self.counts.files.count, "bytes": self.counts.files.bytes},
            "questions": self.counts.questions,
            "counts": self.counts.as_dict(),
            "plugins": self.plugins.as_dict(),
            "dangers": [{"code": danger.code, "text": danger.text} for danger in self.dangers],
            "missing": [dependency.as_dict() for dependency in self.missing()],
        }


_ARTICLES = MappingProxyType({"course": "a course", "section": "a section", "activity": "an activity"})


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
