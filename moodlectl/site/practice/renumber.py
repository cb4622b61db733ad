"""Gives everything in a package new ids, so that it can stand beside what a site already holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from moodlectl.site.practice.package import USER_FIELDS, ActivityDocs, Package, SectionDocs
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import NULL, ident, number, put, text, to_int

# Elements whose id attribute becomes a new one, and what kind of id that is.
_OWN = {
    "group": "group", "grouping": "grouping", "group_member": "member", "grouping_group": "member",
    "enrol": "enrol", "enrolment": "enrolment", "assignment": "role_assignment", "grade_item": "grade_item",
    "grade_category": "grade_category", "grade_grade": "grade", "scale": "scale", "outcome": "outcome",
    "event": "event", "badge": "badge", "question_category": "question_category",
    "question_bank_entry": "question_bank_entry", "question_versions": "question_versions",
    "question": "question",
    "answer": "question_answer",
}  # fmt: skip
# Fields that speak of something else by its id.
_REFERENCES = {
    "groupid": "group", "groupingid": "grouping", "defaultgroupingid": "grouping",
    "teamsubmissiongroupingid": "grouping",
    "sectionid": "section", "moduleinstance": "cm", "moduleid": "cm",
    "contextid": "context", "usingcontextid": "context",
    "questionscontextid": "context", "parentcontextid": "context", "courseid": "course", "scaleid": "scale",
    "outcomeid": "outcome", "questioncategoryid": "question_category",
    "questionbankentryid": "question_bank_entry",
    "questionid": "question", "trueanswer": "question_answer", "falseanswer": "question_answer",
    "badgeid": "badge",
}  # fmt: skip
# Of these kinds a reference to what was left out becomes 0, as a restore does; others keep their number.
_ZEROED = frozenset({"group", "grouping"})
_BY_ID = re.compile(r"\$@([A-Z]+BYID)\*(\d+)@\$")


@dataclass
class Numbers:
    """Old ids to new ones by kind, with the date offset in seconds that a new start date brings."""

    store: Store
    acting: int
    offset: int = 0
    course_context: int = 0
    maps: dict[str, dict[int, int]] = field(default_factory=dict)

    def new(self, kind: str, old: int, sequence: str | None = None) -> int:
        """A fresh id for something."""
        return self.maps.setdefault(kind, {}).setdefault(old, self.store.allocate(sequence or kind))

    def put(self, kind: str, old: int, new: int) -> None:
        """Say what an id becomes."""
        self.maps.setdefault(kind, {})[old] = new

    def get(self, kind: str, old: int, default: int) -> int:
        """What an id became."""
        return self.maps.get(kind, {}).get(old, default)


def renumber(package: Package, numbers: Numbers, course: tuple[int, int]) -> None:
    """Renumber everything in place; ``course`` is the id and context id of the course it will stand in.

    The users' new ids must be in ``numbers`` already. Sections that are mapped already keep that mapping.
    """
    numbers.course_context = course[1]
    numbers.put("course", package.course_id, course[0])
    numbers.put("context", package.contextid, course[1])
    for section in package.sections:
        if section.id not in numbers.maps.get("section", {}):
            numbers.new("section", section.id)
    for activity in package.activities:
        numbers.new("cm", activity.id)
        numbers.new("context", activity.contextid)
        numbers.new(f"instance_{activity.module}", activity.instance, f"mod_{activity.module}")
    _own_ids(package, numbers)
    for doc in package.docs.values():
        _document(doc, numbers)
    for section in package.sections:
        _section(section, package, numbers)
    for activity in package.activities:
        _activity(activity, numbers)
    _files(package, numbers)
    package.docs = _renamed_blocks(package.docs, "course/blocks/")
    package.course_id, package.contextid = course


def _own_ids(package: Package, numbers: Numbers) -> None:
    for doc in package.all_docs():
        inside_questions = doc.tag == "question_categories"
        for element in doc.iter():
            kind = _OWN.get(element.tag)
            if kind and element.get("id") and (inside_questions or not kind.startswith("question")):
                numbers.new(kind, ident(element))
            elif element.tag == "block" and element.get("contextid"):
                numbers.new("block", ident(element))
                numbers.new("context", int(element.get("contextid", "0")))


def _document(doc: Element, numbers: Numbers) -> None:
    questions, grades = (
        doc.tag == "question_categories",
        doc.tag in ("gradebook", "activity_gradebook", "grade_history"),
    )
    for element in doc.iter():
        kind = _OWN.get(element.tag)
        if kind and element.get("id") and (questions or not kind.startswith("question")):
            element.set("id", str(numbers.get(kind, ident(element), ident(element))))
        elif element.tag == "block":
            element.set("id", str(numbers.get("block", ident(element), 0)))
            element.set("contextid", str(numbers.get("context", to_int(element.get("contextid")), 0)))
        if element.text and len(element) == 0:
            _field(element, numbers, grades)
        if element.tag == "grade_category" and grades:
            _grade_category(element, numbers)
        elif element.tag == "grade_item" and grades and text(element, "itemtype") != "mod":
            _refer(element, "iteminstance", "grade_category", numbers)
        elif questions and element.tag in ("question_category", "question"):
            _refer(element, "parent", element.tag, numbers)
            if element.tag == "question_category":
                _question_context(element, numbers)
        elif element.tag == "event" and numbers.offset:
            for name in ("timestart", "timesort"):
                if value := number(element, name):
                    put(element, name, value + numbers.offset)


def _question_context(category: Element, numbers: Numbers) -> None:
    """A category stays with its activity; without it, it belongs to the course (its contextid is new already)."""
    cms, course = numbers.maps.get("cm", {}), next(iter(numbers.maps["course"].items()))
    cmid = number(category, "contextinstanceid")
    if number(category, "contextlevel") == 70 and cmid in cms:
        put(category, "contextinstanceid", cms[cmid])
        return
    put(category, "contextlevel", 50)
    put(category, "contextinstanceid", course[1])
    put(category, "contextid", numbers.course_context)


def _field(element: Element, numbers: Numbers, grades: bool) -> None:
    words = element.text or ""
    if words.isdigit():
        value = int(words)
        if element.tag in USER_FIELDS and value:
            element.text = str(numbers.get("user", value, numbers.acting))
        elif kind := _REFERENCES.get(element.tag):
            element.text = str(numbers.get(kind, value, 0 if kind in _ZEROED else value))
        elif grades and element.tag == "categoryid":
            element.text = str(numbers.get("grade_category", value, 0))
        elif grades and element.tag == "itemid":
            element.text = str(numbers.get("grade_item", value, value))
        elif element.tag in DATES and value and numbers.offset:
            element.text = str(value + numbers.offset)
    elif "$@" in words and words != NULL:
        element.text = _BY_ID.sub(lambda found: _link(found, numbers), words)
    elif element.tag in ("availability", "availabilityjson") and words.startswith("{"):
        element.text = _availability(words, numbers)


# Dates that a new start date of the course moves (``apply_date_offset`` in the modules' restore steps of
# 5.1).
DATES = frozenset(
    [
        "duedate",
        "cutoffdate",
        "gradingduedate",
        "allowsubmissionsfromdate",
        "timeopen",
        "timeclose",
        "timeavailablefrom",
        "timeavailableto",
        "timeviewfrom",
        "timeviewto",
        "available",
        "deadline",
        "assesstimestart",
        "assesstimefinish",
        "completionexpected",
        "submissionstart",
        "submissionend",
        "assessmentstart",
        "assessmentend",
    ]
)


def _link(found: re.Match[str], numbers: Numbers) -> str:
    kind = "course" if found[1].startswith("COURSE") else "cm"
    return f"$@{found[1]}*{numbers.get(kind, int(found[2]), int(found[2]))}@$"


def _availability(words: str, numbers: Numbers) -> str:
    """A restriction with its ids and dates moved along (``availability/condition/*/classes/condition.php``)."""
    try:
        tree = json.loads(words)
    except ValueError:
        return words

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                walk(each)
        elif isinstance(part, dict):
            kinds = {"completion": ("cm", "cm"), "grade": ("id", "grade_item"), "group": ("id", "group"),
                     "grouping": ("id", "grouping")}  # fmt: skip
            key, kind = kinds.get(str(part.get("type")), ("", ""))
            if isinstance(part.get(key), int):
                part[key] = numbers.get(kind, part[key], 0)
            if part.get("type") == "date" and isinstance(part.get("t"), int):
                part["t"] += numbers.offset
            walk(part.get("c"))

    walk(tree)
    return json.dumps(tree, separators=(",", ":"))


def _refer(element: Element, name: str, kind: str, numbers: Numbers) -> None:
    if value := number(element, name):
        put(element, name, numbers.get(kind, value, value))


def _grade_category(element: Element, numbers: Numbers) -> None:
    _refer(element, "parent", "grade_category", numbers)
    path = [to_int(word) for word in text(element, "path").strip("/").split("/")]
    put(element, "path", "/" + "".join(f"{numbers.get('grade_category', step, step)}/" for step in path))


def _section(section: SectionDocs, package: Package, numbers: Numbers) -> None:
    doc = section.docs["section.xml"]
    for each in section.docs.values():
        _document(each, numbers)
    if section.parent:
        put(doc, "itemid", _instance_of(package, section.parent, numbers))
        section.parent = numbers.get("cm", section.parent, section.parent)
    section.id = numbers.get("section", section.id, section.id)
    doc.set("id", str(section.id))


def _instance_of(package: Package, cmid: int, numbers: Numbers) -> int:
    """The new instance id of a subsection, whether its activity was renumbered already or not."""
    for activity in package.activities:
        if activity.id == cmid:
            return numbers.get(f"instance_{activity.module}", activity.instance, activity.instance)
    return 0


def _activity(activity: ActivityDocs, numbers: Numbers) -> None:
    own = activity.docs[f"{activity.module}.xml"]
    instance = numbers.get(f"instance_{activity.module}", activity.instance, 0)
    for doc in activity.docs.values():
        _document(doc, numbers)
    for item in activity.docs.get("grades.xml", own).iter("grade_item"):
        put(item, "iteminstance", instance)
    activity.id = numbers.get("cm", activity.id, 0)
    activity.contextid = numbers.get("context", activity.contextid, 0)
    activity.section = numbers.get("section", activity.section, 0)
    for element in (own, own[0]):
        element.set("id", str(instance))
    own.set("moduleid", str(activity.id))
    own.set("contextid", str(activity.contextid))
    activity.docs["module.xml"].set("id", str(activity.id))
    activity.docs = _renamed_blocks(activity.docs, "blocks/")


def _renamed_blocks(docs: Mapping[str, Element], prefix: str) -> dict[str, Element]:
    """Documents of blocks under the folder names of their new ids."""
    folders: dict[str, str] = {}
    for path, doc in docs.items():
        if path.startswith(prefix) and path.endswith("/block.xml"):
            folder = path.removesuffix("/block.xml")
            folders[folder] = f"{prefix}{text(doc, 'blockname')}_{ident(doc)}"
    moved: Callable[[str], str] = lambda path: folders.get(path.rpartition("/")[0], path.rpartition("/")[0])  # noqa: E731
    return {
        f"{moved(path)}/{path.rpartition('/')[2]}" if path.startswith(prefix) else path: doc
        for path, doc in docs.items()
    }


def _files(package: Package, numbers: Numbers) -> None:
    for file in package.files:
        file.set("id", str(numbers.store.allocate("file")))
        if text(file, "component") == "course" and text(file, "filearea") == "section":
            _refer(file, "itemid", "section", numbers)
        elif text(file, "component") == "badges":
            _refer(file, "itemid", "badge", numbers)
        elif text(file, "component") == "question":
            for kind in ("question", "question_answer"):
                if number(file, "itemid") in numbers.maps.get(kind, {}):
                    _refer(file, "itemid", kind, numbers)
                    break
        _refer(file, "contextid", "context", numbers)
        if user := number(file, "userid"):
            put(file, "userid", numbers.get("user", user, numbers.acting))
