"""Counting what is in a backup while it streams by: people, grades, groups, questions, files, plugins."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from moodlectl.mbz.archive import Member
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.manifest import ArchiveCounts, FileCounts, Plugins
from moodlectl.mbz.needs import Needs
from moodlectl.mbz.roster import Roster
from moodlectl.mbz.xmlstream import NULL, RecordReader, XmlReader

POOL = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{40})")
_BLOCK = re.compile(r"(?:course|activities/[^/]+)/blocks/([a-z][a-z0-9_]*)_[0-9]+/block\.xml")
_SECTION = re.compile(r"sections/section_([0-9]{1,18})/section\.xml")
_ACTIVITY = re.compile(r"activities/([a-z][a-z0-9_]*)_([0-9]{1,18})/([a-z0-9_]+)\.xml")
# What is counted or looked for in a grades.xml.
_GRADES = ("grade_item", "grade_category", "finalgrade", "categoryid", "calculation")
_PLUGIN = re.compile(r"[a-z][a-z0-9_]{0,99}")
# CONTEXT_MODULE, lib/accesslib.php.
_MODULE_LEVEL = "70"
# Core modules that take no questions from a bank: theirs are the largest files, and need no parsing.
_WITHOUT_QUESTIONS = frozenset(
    {
        *(
            "assign",
            "bigbluebuttonbn",
            "book",
            "chat",
            "choice",
            "data",
            "feedback",
            "folder",
            "forum",
            "glossary",
        ),
        *(
            "h5pactivity",
            "imscp",
            "label",
            "lesson",
            "lti",
            "page",
            "qbank",
            "resource",
            "scorm",
            "subsection",
        ),
        *("survey", "url", "wiki", "workshop"),
    }
)


@dataclass
class Tally:
    """The running counts of one archive; ``see`` is called with every member in stream order."""

    limits: Limits = LIMITS
    numbers: dict[int, int] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    course: dict[str, str] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)
    _plugins: dict[str, set[str]] = field(default_factory=dict)

    def see(self, member: Member) -> None:
        """Counts one member, reading no more of it than that takes. Raises Refused."""
        if member.kind == "dir":
            return
        if POOL.fullmatch(member.name):
            self._add("pool")
            self._add("pool_bytes", member.size)
            return
        if block := _BLOCK.fullmatch(member.name):
            self._plugin("block", block[1])
        if section := _SECTION.fullmatch(member.name):
            self._linked(member, f"section:{int(section[1])}", self._section(member.name, int(section[1])))
        elif member.name == "course/course.xml":
            self._linked(member, "course", self._course(member.name))
        elif member.name == "users.xml":
            self._people(member)
        elif member.name.endswith("/grades.xml") and self.limits is LIMITS and member.lacks(*_GRADES):
            return
        elif reader := self._reader(member.name):
            member.parse(reader)
        elif (activity := _ACTIVITY.fullmatch(member.name)) and activity[1] == activity[3]:
            self._activity(member, activity[1], int(activity[2]))

    def counts(self, sections: int, activities: Mapping[str, int]) -> ArchiveCounts:
        """What was counted, with what the manifest names."""
        count = self._count.get
        return ArchiveCounts(
            sections=sections,
            activities=dict(activities),
            users=count("user", 0),
            enrolments=count("enrolment", 0),
            groups=count("group", 0),
            groupings=count("grouping", 0),
            grade_items=count("grade_item", 0),
            grades=count("grade", 0),
            # Moodle 4.0 brought question bank entries; before, each question was its own.
            questions=count("question_bank_entry", 0) or count("question", 0),
            badges=count("badge", 0),
            files=FileCounts(count("file", 0), count("file_bytes", 0)),
            pool=FileCounts(count("pool", 0), count("pool_bytes", 0)),
        )

    def plugins(self, modules: set[str], course_format: str | None) -> Plugins:
        """The plugins met, with the manifest's modules and course format."""
        found = {kind: tuple(sorted(names)) for kind, names in self._plugins.items()}
        formats = {course_format or self.course.get("format") or ""} - {""}
        return Plugins(mod=tuple(sorted(modules)), format=tuple(sorted(formats)), **found)

    def _reader(self, name: str) -> XmlReader | None:
        """The reader a member is counted with, None for those that are passed over."""
        if maker := _ROOTS.get(name):
            return maker(self, name)
        activity = _ACTIVITY.fullmatch(name)
        if activity and activity[3] == "grades":
            return self._grades(name, int(activity[2]))
        if activity and activity[3] == "module":
            return self.needs.module(name, int(activity[2]))
        return None

    def _activity(self, member: Member, module: str, cmid: int) -> None:
        reader = None if module in _WITHOUT_QUESTIONS else self.needs.activity(member.name, cmid)
        self._linked(member, f"cmid:{cmid}", reader)

    def _linked(self, member: Member, item: str, reader: XmlReader | None) -> None:
        """Reads a document whose texts may link to activities, with a reader or without."""
        links = self.needs.links(item)
        for chunk in member.chunks():
            links(chunk)
            if reader:
                reader.feed(chunk)
        if reader:
            reader.close()

    def _people(self, member: Member) -> None:
        roster = Roster(member.name, frozenset())
        for chunk in member.chunks():
            self._add("user", len(roster.feed(chunk)))
        self._add("user", len(roster.close()))

    def _files(self, name: str) -> XmlReader:
        def file(_: str, record: Mapping[str, str]) -> None:
            if record.get("filename") != ".":
                self._add("file")
                self._add("file_bytes", _size(record.get("filesize")))

        return RecordReader(name, 2, frozenset({"file"}), frozenset({"filename", "filesize"}), file)

    def _groups(self, name: str) -> XmlReader:
        def start(depth: int, tag: str, attributes: dict[str, str]) -> None:
            if (depth, tag) in ((2, "group"), (3, "grouping")):
                self._add(tag)
                self.needs.here(tag, attributes.get("id"))

        return XmlReader(name, start, limits=self.limits)

    def _badges(self, name: str) -> XmlReader:
        return RecordReader(name, 2, frozenset({"badge"}), frozenset(), lambda tag, _: self._add(tag))

    def _gradebook(self, name: str) -> XmlReader:
        return self._grades(name, None)

    def _grades(self, name: str, cmid: int | None) -> XmlReader:
        """grades.xml of an activity, or gradebook.xml, where items and categories belong to the course."""

        def start(_: int, tag: str, attributes: dict[str, str]) -> None:
            if tag == "grade_item":
                self._add(tag)
                self.needs.here(tag, attributes.get("id"), cmid)
            elif tag == "grade_category":
                self.needs.here(tag, attributes.get("id"))

        def end(_: int, tag: str, text: str | None) -> None:
            if tag == "finalgrade":
                self._add("grade", 0 if text in (NULL, "", None) else 1)
            elif tag == "categoryid" and cmid is not None:
                self.needs.wants(f"cmid:{cmid}", "grade", "grade_category", text)
            elif tag == "calculation" and text:
                item = "course" if cmid is None else f"cmid:{cmid}"
                self.needs.calculation(item, text)

        return XmlReader(
            name, start, end, frozenset({"finalgrade", "categoryid", "calculation"}), self.limits
        )

    def _questions(self, name: str) -> XmlReader:
        # The category being read: its id, the level of its context, and the activity it is the bank of.
        category: dict[str, str | None] = {}

        def start(depth: int, tag: str, attributes: dict[str, str]) -> None:
            if tag == "question_bank_entry":
                self._add(tag)
                self.needs.here(tag, attributes.get("id"), self.needs.bank(category.get("bank")))
            elif tag == "question":
                self._add(tag)
            elif tag == "question_category" and depth == 2:
                category.clear()
                category["id"] = attributes.get("id")

        def end(depth: int, tag: str, text: str | None) -> None:
            if tag == "qtype" and text:
                self._plugin("qtype", text)
            elif depth == 3 and tag == "contextlevel":
                category["level"] = text
            elif depth == 3 and tag == "contextinstanceid":
                category["bank"] = text if category.get("level") == _MODULE_LEVEL else None
                self.needs.here("question_category", category.get("id"), self.needs.bank(category["bank"]))

        return XmlReader(
            name, start, end, frozenset({"qtype", "contextlevel", "contextinstanceid"}), self.limits
        )

    def _enrolments(self, name: str) -> XmlReader:
        def start(_: int, tag: str, __: dict[str, str]) -> None:
            if tag == "enrolment":
                self._add(tag)

        def end(depth: int, tag: str, text: str | None) -> None:
            # <enrol id="1"><enrol>manual</enrol>: the inner one names the plugin.
            if tag == "enrol" and depth == 4 and text:
                self._plugin("enrol", text)

        return XmlReader(name, start, end, frozenset({"enrol"}), self.limits)

    def _course(self, name: str) -> XmlReader:
        def end(depth: int, tag: str, text: str | None) -> None:
            if text is not None and text != NULL:
                if depth == 2:
                    self.course[tag] = text
                elif depth == 3 and tag == "name":
                    self.course["category"] = text

        return XmlReader(name, None, end, frozenset({"format", "idnumber", "name"}), self.limits)

    def _section(self, name: str, id_: int) -> XmlReader:
        def end(depth: int, tag: str, text: str | None) -> None:
            if tag == "number" and depth == 2 and text and text.isdecimal() and len(text) < 10:
                self.numbers[id_] = int(text)
            elif tag == "availabilityjson" and depth == 2 and text:
                self.needs.restriction(f"section:{id_}", text)

        return XmlReader(name, None, end, frozenset({"number", "availabilityjson"}), self.limits)

    def _add(self, what: str, many: int = 1) -> None:
        self._count[what] = self._count.get(what, 0) + many

    def _plugin(self, kind: str, name: str) -> None:
        known = self._plugins.setdefault(kind, set())
        # Names of plugins are short words of one alphabet; anything else is nothing a site could install.
        if _PLUGIN.fullmatch(name) and len(known) < 5000:
            known.add(name)


_ROOTS: Mapping[str, Callable[[Tally, str], XmlReader]] = {
    "files.xml": Tally._files,
    "groups.xml": Tally._groups,
    "badges.xml": Tally._badges,
    "gradebook.xml": Tally._gradebook,
    "questions.xml": Tally._questions,
    "completion.xml": lambda tally, name: tally.needs.completion(name),
    "course/enrolments.xml": Tally._enrolments,
}


def _size(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else 0
