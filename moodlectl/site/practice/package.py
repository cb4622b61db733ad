"""One course as Moodle's backup format sees it: the form in which it is stored here, backed up and restored.

A course is a set of small XML documents in the schema of Moodle 5.1, and a list of files. What a backup leaves out
and what a restore renumbers are operations on such a package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from moodlectl.site.port import Counts
from moodlectl.site.practice.xmltree import ident, number, text, walk

# Fields that hold a user's id, and those of them that make Moodle carry the person along in users.xml.
USER_FIELDS = frozenset(
    [
        "userid",
        "usermodified",
        "modifierid",
        "createdby",
        "modifiedby",
        "ownerid",
        "grader",
        "loggeduser",
        "usercreated",
        "recipientid",
        "issuerid",
        "authorid",
        "reviewerid",
        "assessorid",
        "allocatedmarker",
        "relateduserid",
        "realuserid",
        "privatereplyto",
        "gradeoverby",
    ]
)
CARRIED_USER_FIELDS = USER_FIELDS - {"modifierid", "loggeduser", "relateduserid", "realuserid"}
NOT_COUNTED_COMPONENTS = frozenset({"backup", "tool_recyclebin", "user"})
# What Moodle makes anew from students' files whenever it is looked at.
_DERIVED_AREAS = frozenset(["pages", "readonlypages", "partial", "combined", "importhtml", "tmp_jpg_to_pdf"])


@dataclass
class SectionDocs:
    """One section; ``parent`` is the course module id of the subsection whose content it is."""

    id: int
    number: int
    title: str
    parent: int | None = None
    docs: dict[str, Element] = field(default_factory=dict)


@dataclass
class ActivityDocs:
    """One activity and its documents by name (``module.xml``, ``forum.xml``, ``blocks/html_3/block.xml``, …)."""

    id: int
    module: str
    section: int
    title: str
    contextid: int
    docs: dict[str, Element] = field(default_factory=dict)

    @property
    def instance(self) -> int:
        """The id in the module's own table."""
        return ident(self.docs[f"{self.module}.xml"])

    @property
    def visible(self) -> bool:
        """Whether students see it."""
        return text(self.docs["module.xml"], "visible", "1") == "1"

    @property
    def key(self) -> str:
        """The name Moodle gives it in settings and folders: ``forum_12``."""
        return f"{self.module}_{self.id}"


@dataclass
class Package:
    """A whole course, or the part of one that was chosen.

    ``docs`` are the documents of the course by path.
    """

    course_id: int
    contextid: int
    docs: dict[str, Element] = field(default_factory=dict)
    sections: list[SectionDocs] = field(default_factory=list)
    activities: list[ActivityDocs] = field(default_factory=list)
    users: dict[int, Element] = field(default_factory=dict)
    files: list[Element] = field(default_factory=list)

    @property
    def course(self) -> Element:
        """The course document."""
        return self.docs["course/course.xml"]

    def all_docs(self) -> Iterator[Element]:
        """Every document but users.xml and files.xml."""
        yield from self.docs.values()
        for section in self.sections:
            yield from section.docs.values()
        for activity in self.activities:
            yield from activity.docs.values()

    def activities_of(self, section_id: int) -> list[ActivityDocs]:
        """The activities of one section in order."""
        return [activity for activity in self.activities if activity.section == section_id]

    def content_hashes(self) -> dict[str, int]:
        """The content of every file, by sha1, with its size in bytes."""
        return {
            text(file, "contenthash"): number(file, "filesize") for file in self.files if text(file, "filename") != "."
        }


def referenced_users(docs: Iterator[Element]) -> set[int]:
    """The ids of everybody those documents need to be whole."""
    found = set()
    for element in walk(docs):
        if element.tag in CARRIED_USER_FIELDS and element.text and element.text.isdigit():
            found.add(int(element.text))
    return found - {0}


def enrolled(package: Package, without: tuple[str, ...] = ()) -> set[int]:
    """The ids of the people enrolled, by any method but those."""
    doc = package.docs.get("course/enrolments.xml")
    methods = doc.iterfind("enrols/enrol") if doc is not None else ()
    return {
        number(entry, "userid")
        for method in methods
        if text(method, "enrol") not in without
        for entry in method.iter("enrolment")
    }


def grade_items(package: Package) -> Iterator[Element]:
    """Every grade item, of the gradebook and of the activities."""
    if (book := package.docs.get("gradebook.xml")) is not None:
        yield from book.iter("grade_item")
    for activity in package.activities:
        if (grades := activity.docs.get("grades.xml")) is not None:
            yield from grades.iter("grade_item")


def _counts(file: Element) -> bool:
    component = text(file, "component")
    derived = component == "assignfeedback_editpdf" and text(file, "filearea") in _DERIVED_AREAS
    return text(file, "filename") != "." and component not in NOT_COUNTED_COMPONENTS and not derived


def count(package: Package) -> Counts:
    """What the package holds, in the numbers of the port."""
    items = list(grade_items(package))
    grades = [
        grade
        for item in items
        for grade in item.iter("grade_grade")
        if text(item, "itemtype") not in ("course", "category") or text(grade, "overridden") not in ("", "0")
    ]  # totals are computed, and come and go
    questions = package.docs.get("questions.xml")
    groups = package.docs.get("groups.xml")
    counted = [file for file in package.files if _counts(file)]
    return Counts(
        sections=len(package.sections),
        activities=dict(sorted(Counter(activity.module for activity in package.activities).items())),
        users=len(enrolled(package)),
        groups=len(list(groups.iter("group"))) if groups is not None else 0,
        grade_items=len(items),
        grades=sum(1 for grade in grades if text(grade, "finalgrade") or text(grade, "rawgrade")),
        questions=len(list(questions.iter("question_bank_entry"))) if questions is not None else 0,
        files=len(counted),
        file_bytes=sum(number(file, "filesize") for file in counted),
    )
