"""What depends on what: restrictions, completion rules, grades, question banks and links that point
elsewhere.

Moodle does not say; it drops or breaks what it cannot find on restore. The forms read here are those of
``availability`` JSON, completion.xml, grades.xml, question references and encoded links (Moodle 2.7 to 5.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.manifest import Dependency
from moodlectl.mbz.xmlstream import NULL, XmlReader

# By the number of a course module, whatever follows it; and by an activity's own number (backup_*_activity_task,
# encode_content_links, 3.9 to 5.1).
_LINK = re.compile(
    rb"\$@(?:(?!COURSE|USERINDEX|BADGES)[A-Z0-9]{2,40}(?:VIEWBYID|VIEWBYIDCH|ANALYSISBYID|SHOWENTRIESBYID)"
    rb"|LESSON(?:EDIT|EDITPAGE|ESSAY|MEDIAFILE|REPORT|VIEWPAGE))\*([0-9]{1,18})(?:@\$|\*)"
)
_INSTANCE_LINK = re.compile(
    rb"\$@(?:(BOOK)VIEWBYB(?:CH)?|(DATA)VIEW(?:BYD|RECORD)|(FORUM)VIEWBYF|(QUIZ)VIEWBYQ|(URL)VIEWBYU)\*([0-9]{1,18})[@*]"
)
_ACTIVITY_HEAD = re.compile(rb'<activity id="([0-9]{1,18})" moduleid="([0-9]{1,18})" modulename="([a-z][a-z0-9_]*)"')
_LONGEST_LINK = 80
_FIELD_NAME = re.compile(r"\w{1,100}")
_GRADE_ITEM = re.compile(r"##gi([0-9]{1,18})##")
_CRITERIA_ACTIVITY = "4"
Want = tuple[str, str, str, str]


@dataclass
class Needs:
    """Gathers, while the archive streams by, what each item needs and what the file has."""

    limits: Limits = LIMITS
    _wants: set[Want] = field(default_factory=set)
    _fields: set[tuple[str, str]] = field(default_factory=set)
    _here: dict[str, dict[str, int | None]] = field(default_factory=dict)

    def here(self, what: str, id_: str | None, cmid: int | None = None) -> None:
        """The file holds this grade item, group, … ; ``cmid`` is the activity that brings it."""
        known = self._here.setdefault(what, {})
        if id_ is not None and len(known) < self.limits.kept_ids:
            known[id_] = cmid

    def profile_field(self, item: str, name: object) -> None:
        """A restriction by a profile field that the original site made, which no backup brings."""
        if isinstance(name, str) and _FIELD_NAME.fullmatch(name) and len(self._fields) < self.limits.kept_ids:
            self._fields.add((item, name))

    def wants(self, item: str, kind: str, what: str, id_: str | None) -> None:
        """An item needs something; ids of 0 and NULL mean nothing."""
        if id_ and id_ not in (NULL, "0") and id_.isascii() and id_.isdecimal() and len(id_) < 19:
            want = (item, kind, what, id_)
            if want not in self._wants and len(self._wants) < self.limits.kept_ids:
                self._wants.add(want)

    @staticmethod
    def bank(contextinstance: str | None) -> int | None:
        """The activity whose question bank a category is, as far as it can be one."""
        usable = contextinstance and contextinstance.isdecimal() and len(contextinstance) < 19
        return int(contextinstance) if usable and contextinstance else None

    def restriction(self, item: str, text: str) -> None:
        """The availability JSON of an activity or a section."""
        if text == NULL or not text:
            return
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            return
        for condition in _conditions(tree):
            kind = condition.get("type")
            if kind == "profile":
                self.profile_field(item, condition.get("cf"))
            id_ = condition.get("cm" if kind == "completion" else "id")
            what = {
                "completion": "cmid",
                "grade": "grade_item",
                "group": "group",
                "grouping": "grouping",
            }.get(str(kind))
            if what and isinstance(id_, int) and id_ > 0:
                self.wants(item, "restriction", what, str(id_))

    def calculation(self, item: str, text: str) -> None:
        """The formula of a grade item, which names others."""
        for id_ in _GRADE_ITEM.findall(text):
            self.wants(item, "grade", "grade_item", id_)

    def module(self, name: str, cmid: int) -> XmlReader:
        """A reader of an activity's module.xml."""

        def end(depth: int, tag: str, text: str | None) -> None:
            if depth != 2 or not text:
                return
            if tag == "availability":
                self.restriction(f"cmid:{cmid}", text)
            elif tag == "groupingid":
                self.wants(f"cmid:{cmid}", "grouping", "grouping", text)

        return XmlReader(name, None, end, frozenset({"availability", "groupingid"}), self.limits)

    def completion(self, name: str) -> XmlReader:
        """A reader of completion.xml, the course's own completion rules."""
        rule: dict[str, str] = {}

        def end(depth: int, tag: str, text: str | None) -> None:
            if depth == 3 and text is not None:
                rule[tag] = text
            elif depth == 2:
                if tag == "course_completion_criteria" and rule.get("criteriatype") == _CRITERIA_ACTIVITY:
                    self.wants("course", "completion", "cmid", rule.get("moduleinstance"))
                rule.clear()

        return XmlReader(name, None, end, frozenset({"criteriatype", "moduleinstance"}), self.limits)

    def activity(self, name: str, cmid: int) -> XmlReader:
        """A reader of an activity's own XML, for the questions it takes from elsewhere."""

        def end(_: int, tag: str, text: str | None) -> None:
            if tag == "questionbankentryid":
                self.wants(f"cmid:{cmid}", "question", "question_bank_entry", text)
            elif tag == "filtercondition" and text:
                for id_ in _categories(text):
                    self.wants(f"cmid:{cmid}", "question", "question_category", id_)

        fields = frozenset({"questionbankentryid", "filtercondition"})
        return XmlReader(name, None, end, fields, self.limits)

    def links(self, item: str) -> Callable[[bytes | memoryview], None]:
        """A taker of an item's raw bytes that finds links to other activities."""
        tail = b""

        def take(chunk: bytes | memoryview) -> None:
            nonlocal tail
            data = tail + bytes(chunk)
            if not tail and (head := _ACTIVITY_HEAD.search(data, 0, 1000)):
                self.here(head[3].decode("ascii"), head[1].decode("ascii"), int(head[2]))
            for found in _INSTANCE_LINK.finditer(data):
                module = next(filter(None, found.groups())).decode("ascii").lower()
                self.wants(item, "link", module, found[6].decode("ascii"))
            for id_ in _LINK.findall(data):
                self.wants(item, "link", "cmid", id_.decode("ascii"))
            tail = data[-_LONGEST_LINK:]

        return take

    def resolve(self, cmids: set[int]) -> tuple[Dependency, ...]:
        """Every dependency between items, told whether the file holds the other end.

        ``cmids`` are its activities.
        """
        found = []
        for item, kind, what, id_ in sorted(self._wants, key=_order):
            if what == "cmid":
                cmid: int | None = int(id_)
                missing = cmid not in cmids
                if missing:
                    cmid = None
            else:
                known = self._here.get(what, {})
                missing, cmid = id_ not in known, known.get(id_)
                if cmid not in cmids:
                    cmid = None
                elif kind == "link":
                    what, id_ = "cmid", str(cmid)
            if f"cmid:{cmid}" != item:
                found.append(Dependency(item, kind, f"{what}:{id_}", missing, cmid))
        for item, name in sorted(self._fields):
            found.append(Dependency(item, "restriction", f"profile_field:{name}", missing=True))
        return tuple(found)


def _order(want: Want) -> tuple[str, int, str, str, int]:
    item, kind, what, id_ = want
    name, _, number = item.partition(":")
    return name, int(number or 0), kind, what, int(id_)


def _conditions(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every single condition of an availability tree, however deep. Reads only."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("c"), list):
                stack.extend(node["c"])
            elif "type" in node:
                yield node


def _categories(text: str) -> list[str]:
    """The question categories that random questions are drawn from: the forms of Moodle 4.0 to 4.2, and
    since."""
    try:
        condition = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(condition, dict):
        return []
    found: list[Any] = [condition.get("questioncategoryid")]
    chosen = condition.get("filter")
    category = chosen.get("category") if isinstance(chosen, dict) else None
    values = category.get("values") if isinstance(category, dict) else None
    if isinstance(values, list):
        found.extend(values[:1000])
    return [str(id_) for id_ in found if isinstance(id_, int | str)]
