"""Puts a renumbered package into a course beside what is there, and empties a course."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from moodlectl.site.practice.package import Package, SectionDocs
from moodlectl.site.practice.schema import grade_category, grade_item, gradebook_doc, section_doc
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import ident, node, number, put, text

# Documents whose entries are simply added to those that are there: path → the element that holds the entries.
_ADDED = {
    "course/calendar.xml": "", "course/comments.xml": "", "badges.xml": "", "scales.xml": "",
    "outcomes.xml": "",
    "questions.xml": "", "course/contentbank.xml": "", "course/logs.xml": "", "course/loglastaccess.xml": "",
}  # fmt: skip


def empty(target: Package, *, keep_enrolments: bool, keep_groups: bool) -> None:
    """Take everything out of a course but its own settings and what is to be kept."""
    kept = {"course/course.xml", "roles.xml"}
    if keep_enrolments:
        kept |= {"course/enrolments.xml", "course/roles.xml"}
    if keep_groups:
        kept |= {"groups.xml"}
    target.docs = {path: doc for path, doc in target.docs.items() if path in kept}
    if not keep_enrolments and keep_groups and "groups.xml" in target.docs:
        for members in target.docs["groups.xml"].iter("group_members"):  # who is not enrolled is in no group
            members.clear()
    target.sections, target.activities, target.files = [], [], []
    put(target.course, "summary", "")


def merge_into(target: Package, part: Package, store: Store) -> None:
    """Add a package, whose ids are the site's already, to a course."""
    _sections(target, part, store)
    for activity in part.activities:
        place = next((each for each in target.sections if each.id == activity.section), None)
        module = activity.docs["module.xml"]
        put(module, "sectionid", activity.section)
        put(module, "sectionnumber", place.number if place else 0)
        target.activities.append(activity)
    _groups(target, part)
    _enrolments(target, part, store)
    _gradebook(target, part, store)
    for path, doc in part.docs.items():
        if path in (
            "course/course.xml",
            "course/enrolments.xml",
            "gradebook.xml",
            "grade_history.xml",
            "groups.xml",
        ):
            continue
        if path not in target.docs:
            target.docs[path] = doc
        elif path == "course/roles.xml":
            _roles(target.docs[path], doc)
        elif path in _ADDED:
            target.docs[path].extend(list(doc))
    merged = {activity.id for activity in part.activities}
    order = {section.id: place for place, section in enumerate(target.sections)}
    # Within a section what was there comes first.
    target.activities.sort(key=lambda each: (order.get(each.section, 0), each.id in merged))
    _files(target, part)


def _sections(target: Package, part: Package, store: Store) -> None:
    """A section meets the one of its number; subsections, and those beyond the last, are added."""
    there = {section.id: section for section in target.sections}
    for section in sorted(part.sections, key=lambda each: (bool(each.parent), each.number)):
        own = there.get(section.id)
        if own is None:
            numbers = {each.number for each in target.sections}
            if section.number in numbers:
                section.number = max(numbers, default=-1) + 1
            put(section.docs["section.xml"], "number", section.number)
            target.sections.append(section)
            continue
        mine, its = own.docs["section.xml"], section.docs["section.xml"]
        for name in ("name", "summary"):  # only what is empty is filled in
            if not text(mine, name) and text(its, name):
                put(mine, name, text(its, name))
                own.title = text(mine, "name") or own.title
    for place in gaps(target.sections):  # a course has every section up to its last
        new = store.allocate("section")
        target.sections.append(
            SectionDocs(new, place, str(place), None, {"section.xml": section_doc(new, place, None)})
        )
    target.sections.sort(key=lambda each: each.number)


def gaps(sections: list[SectionDocs]) -> list[int]:
    """The numbers below the highest that no section of the course page has."""
    taken = {section.number for section in sections if not section.parent}
    return [place for place in range(max(taken, default=-1) + 1) if place not in taken]


def _groups(target: Package, part: Package) -> None:
    """A group that is there, by idnumber or by name, takes the members; the others are added."""
    its = part.docs.get("groups.xml")
    if its is None:
        return
    mine = target.docs.setdefault("groups.xml", node("groups", node("groupings")))
    moved: dict[str, int] = {}
    for group in its.findall("group"):
        same = next((each for each in mine.findall("group") if _same_group(each, group)), None)
        if same is None:
            mine.insert(len(mine.findall("group")), group)
            continue
        moved[str(ident(group))] = ident(same)
        members = _holder(same, "group_members")
        known = {number(each, "userid") for each in members}
        members.extend([each for each in group.iter("group_member") if number(each, "userid") not in known])
    groupings = _holder(mine, "groupings")
    for grouping in its.iterfind("groupings/grouping"):
        same = next(
            (each for each in groupings.findall("grouping") if text(each, "name") == text(grouping, "name")),
            None,
        )
        if same is None:
            groupings.append(grouping)
    for doc in (mine, *(doc for activity in part.activities for doc in activity.docs.values())):
        for element in doc.iter("groupid"):
            if element.text in moved:
                element.text = str(moved[element.text])


def _same_group(one: Element, other: Element) -> bool:
    if text(one, "idnumber") or text(other, "idnumber"):
        return text(one, "idnumber") == text(other, "idnumber")
    return text(one, "name") == text(other, "name")


def _holder(parent: Element, name: str) -> Element:
    found = parent.find(name)
    if found is None:
        found = Element(name)
        parent.append(found)
    return found


def _enrolments(target: Package, part: Package, store: Store) -> None:
    """Methods of the same kind are one; nobody is enrolled twice by the same."""
    its = part.docs.get("course/enrolments.xml")
    if its is None:
        return
    if "course/enrolments.xml" not in target.docs:
        target.docs["course/enrolments.xml"] = its
        return
    methods = _holder(target.docs["course/enrolments.xml"], "enrols")
    for method in its.iter("enrol"):
        if not method.get("id"):
            continue  # the field of the same name
        same = next((each for each in methods.findall("enrol") if text(each, "enrol") == text(method, "enrol")), None)
        if same is None:
            methods.append(method)
            continue
        entries = _holder(same, "user_enrolments")
        known = {number(each, "userid") for each in entries}
        entries.extend([each for each in method.iter("enrolment") if number(each, "userid") not in known])


def _roles(mine: Element, its: Element) -> None:
    assignments = _holder(mine, "role_assignments")
    known = {(number(each, "userid"), number(each, "roleid")) for each in assignments}
    for each in its.iter("assignment"):
        if (number(each, "userid"), number(each, "roleid")) not in known:
            assignments.append(each)


def _gradebook(target: Package, part: Package, store: Store) -> None:
    """The whole gradebook only into a bare one; else the activities' own items alone, in the course's category."""
    its, mine = part.docs.get("gradebook.xml"), target.docs.get("gradebook.xml")
    bare = mine is None or (len(list(mine.iter("grade_item"))) <= 1 and not _activity_items(target, part))
    if its is not None and list(its.iter("grade_item")) and bare:
        target.docs["gradebook.xml"] = its
        if "grade_history.xml" in part.docs:
            target.docs["grade_history.xml"] = part.docs["grade_history.xml"]
        return
    items = _activity_items(part, None)
    if items and mine is None:
        category = store.allocate("grade_category")
        total = grade_item(store.allocate("grade_item"), itemtype="course", iteminstance=category)
        mine = target.docs["gradebook.xml"] = gradebook_doc([grade_category(category)], [total])
    if mine is not None:
        top = next((ident(each) for each in mine.iter("grade_category") if not text(each, "parent")), 0)
        for item in items:
            put(item, "categoryid", top)


def _activity_items(package: Package, beside: Package | None) -> list[Element]:
    new = {activity.id for activity in beside.activities} if beside else set()
    return [
        item
        for activity in package.activities
        if activity.id not in new and "grades.xml" in activity.docs
        for item in activity.docs["grades.xml"].iter("grade_item")
    ]


def _files(target: Package, part: Package) -> None:
    """Files beside those there are; the same place is taken once."""

    def place(file: Element) -> tuple[str, ...]:
        return tuple(
            text(file, key) for key in ("contextid", "component", "filearea", "itemid", "filepath", "filename")
        )

    known = {place(file) for file in target.files}
    target.files.extend([file for file in part.files if place(file) not in known])
