"""What a backup or a restore leaves out of a course, by its settings, as Moodle's steps do it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from xml.etree.ElementTree import Element

from moodlectl.site.practice.package import ActivityDocs, Package, SectionDocs, referenced_users
from moodlectl.site.practice.plugins import is_user_file, strip_user_data
from moodlectl.site.practice.settings import Chosen
from moodlectl.site.practice.xmltree import drop, ident, number, text

_COURSE_DOCS = {
    "filters": ("course/filters.xml",),
    "comments": ("course/comments.xml",),
    "badges": ("badges.xml",),
    "calendarevents": ("course/calendar.xml",),
    "userscompletion": ("completion.xml",),
    "logs": ("course/logs.xml", "course/logstores.xml", "course/loglastaccess.xml"),
    "grade_histories": ("grade_history.xml",),
    "groups": ("groups.xml",),
    "competencies": ("course/competencies.xml",),
    "contentbankcontent": ("course/contentbank.xml",),
}
_ACTIVITY_DOCS = {
    "filters": ("filters.xml",),
    "comments": ("comments.xml",),
    "calendarevents": ("calendar.xml",),
    "userscompletion": ("completion.xml",),
    "logs": ("logs.xml", "logstores.xml"),
    "grade_histories": ("grade_history.xml",),
    "competencies": ("competencies.xml",),
    "xapistate": ("xapistate.xml",),
}


def cut(package: Package, chosen: Chosen) -> Package:
    """The part of a course that was chosen, as documents of its own; the people in it are those it speaks of."""
    activities = [_activity(each, chosen) for each in package.activities if each.id in chosen.activities]
    sections = [replace(each, docs=deepcopy(each.docs)) for each in package.sections if each.id in chosen.sections]
    complete = len(activities) == len(package.activities)
    part = Package(package.course_id, package.contextid, _course_docs(package, chosen, complete), sections, activities)
    _cut_questions(part)
    if chosen["users"]:
        wanted = referenced_users(part.all_docs())
        part.users = {key: deepcopy(user) for key, user in package.users.items() if key in wanted}
    part.files = _cut_files(package, part, chosen)
    return part


def _activity(activity: ActivityDocs, chosen: Chosen) -> ActivityDocs:
    kept = {
        path: deepcopy(doc) for path, doc in activity.docs.items() if chosen["blocks"] or not path.startswith("blocks/")
    }
    for setting, paths in _ACTIVITY_DOCS.items():
        if not chosen[setting]:
            for path in paths:
                kept.pop(path, None)
    if activity.id not in chosen.userinfo_activities:
        # What people completed, and their roles, come all the same where people come at all.
        names: tuple[str, ...] = ("completion.xml", "roles.xml") if chosen["users"] else ()
        spared = {name: kept.pop(name) for name in names if name in kept}
        strip_user_data(activity.module, kept)
        kept.update(spared)
    if not chosen["role_assignments"] and "roles.xml" in kept:
        drop(kept["roles.xml"], "role_assignments")
    return replace(activity, docs=kept)


def _course_docs(package: Package, chosen: Chosen, complete: bool) -> dict[str, Element]:
    docs = {
        path: deepcopy(doc)
        for path, doc in package.docs.items()
        if chosen["blocks"] or not path.startswith("course/blocks/")
    }
    for setting, paths in _COURSE_DOCS.items():
        if not chosen[setting]:
            for path in paths:
                docs.pop(path, None)
    if not chosen["customfield"]:
        drop(docs["course/course.xml"], "customfields")
    # Moodle leaves the gradebook out altogether where an activity is left out.
    if not complete:
        docs.pop("gradebook.xml", None)
        docs.pop("grade_history.xml", None)
    if not chosen["users"]:
        for path in (
            "completion.xml",
            "grade_history.xml",
            "course/loglastaccess.xml",
            "course/comments.xml",
        ):
            docs.pop(path, None)
        for path, tags in (
            ("course/enrolments.xml", ("user_enrolments",)),
            ("course/roles.xml", ("role_assignments",)),
            ("groups.xml", ("group_members",)),
            ("gradebook.xml", ("grade_grades",)),
            ("badges.xml", ("manual_awards",)),
            ("course/competencies.xml", ("user_competencies",)),
        ):
            if path in docs:
                drop(docs[path], *tags)
    if not chosen["role_assignments"] and "course/roles.xml" in docs:
        drop(docs["course/roles.xml"], "role_assignments")
    return docs


def _cut_questions(part: Package) -> None:
    """Keep the question categories of the activities that are left, of the course, and those quizzes draw from."""
    if (questions := part.docs.get("questions.xml")) is None:
        return
    used = {
        number(reference, "questionbankentryid")
        for activity in part.activities
        for doc in activity.docs.values()
        for reference in doc.iter("question_reference")
    }
    contexts = {activity.contextid for activity in part.activities}
    for category in questions.findall("question_category"):
        entries = {ident(entry) for entry in category.iter("question_bank_entry")}
        if number(category, "contextlevel") != 70 or entries & used:
            contexts.add(number(category, "contextid"))
    for category in questions.findall("question_category"):
        if number(category, "contextid") not in contexts:
            questions.remove(category)


def _contexts_of_blocks(docs: dict[str, Element]) -> set[int]:
    return {int(doc.get("contextid", "0")) for path, doc in docs.items() if path.endswith("/block.xml")}


def _cut_files(package: Package, part: Package, chosen: Chosen) -> list[Element]:
    questions = part.docs.get("questions.xml")
    banks = {number(category, "contextid") for category in questions} if questions is not None else set()
    owners = {activity.contextid: activity.id for activity in part.activities}
    blocks = _contexts_of_blocks(part.docs)
    for activity in part.activities:
        blocks |= _contexts_of_blocks(activity.docs)
    people = {int(user.get("contextid", "0")) for user in part.users.values()}
    sections = {section.id for section in part.sections}
    kept = []
    for file in package.files:
        context, component, area = number(file, "contextid"), text(file, "component"), text(file, "filearea")
        if context == package.contextid:
            lost_section = component == "course" and area == "section" and number(file, "itemid") not in sections
            wanted = (
                not lost_section
                and (component, area) != ("course", "legacy")
                or ((component, area) == ("course", "legacy") and chosen["legacyfiles"])
            )
            wanted = wanted and (component != "contentbank" or chosen["contentbankcontent"])
            wanted = wanted and (component != "badges" or chosen["badges"])
        elif context in owners:
            wanted = owners[context] in chosen.userinfo_activities or not is_user_file(file)
        else:
            wanted = context in blocks or context in people or (component == "question" and context in banks)
        if wanted:
            kept.append(deepcopy(file))
    return kept


def anonymised(part: Package) -> None:
    """Replace every name and address by made-up ones, as Moodle's anonymize does (``backup_anonymizer_helper``)."""
    for place, user in enumerate(part.users.values(), 1):
        for name, value in {
            "username": f"anon{place}", "idnumber": "", "email": f"anon{place}@doesntexist.invalid",
            "firstname": f"anonfirstname{place}", "lastname": f"anonlastname{place}", "city": "Perth",
            "country": "AU", "phone1": "", "phone2": "", "institution": "", "department": "", "address": "",
            "lastip": "127.0.0.1", "description": "", "firstaccess": "0",
        }.items():  # fmt: skip
            if (field := user.find(name)) is not None:
                field.text = value


def by_number(sections: list[SectionDocs]) -> dict[int, SectionDocs]:
    """Sections by their place in the course."""
    return {section.number: section for section in sections}
