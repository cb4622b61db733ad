"""Restores a backup into the practice site: new, merged or in place of what a course holds, by Moodle's rules.

The rules are those of ``restore_controller``, ``restore_dbops`` and the restore steps of Moodle 5.1. The caller
holds one transaction around it, so that a restore which fails, or is only planned, leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from xml.etree.ElementTree import Element

from moodlectl.errors import Refused
from moodlectl.site.port import Counts, LockedBy, Precheck, RestoreRequest, Setting
from moodlectl.site.practice import arranging, placing
from moodlectl.site.practice.cut import by_number, cut
from moodlectl.site.practice.merge import empty, gaps, merge_into
from moodlectl.site.practice.package import Package, count, enrolled
from moodlectl.site.practice.people import Actor, Matches, identifier_hash, match
from moodlectl.site.practice.plugins import FORMATS, MODULES, QUESTION_TYPES, RELEASE, VERSION
from moodlectl.site.practice.reader import Read
from moodlectl.site.practice.renumber import Numbers, renumber
from moodlectl.site.practice.schema import course_doc, enrol_method, enrolment
from moodlectl.site.practice.settings import (
    ENROLMENTS,
    RESTORE_ROOT,
    Chosen,
    Sheet,
    add_items,
    chosen,
    item_wishes,
    require_known,
)
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import node, number, put, text

NOT_PASSING = ("cohort", "meta")  # enrolment methods that mean nothing on another site
_CHOICES = {"manual": 0, "with-users": 1, "always": 2}
_WITHOUT = {
    "message": "the backup was made without it.",
    "locked_by": "hierarchy",
    "hint": "Make a backup that includes it.",
}


@dataclass
class Prepared:
    """A restore that has been looked at from all sides and not begun."""

    request: RestoreRequest
    read: Read
    sheet: Sheet
    part: Package
    matches: Matches
    same_site: bool
    missing: tuple[str, ...]
    dangers: Mapping[str, Mapping[str, object]]
    warnings: list[str]
    target: Package | None

    @property
    def expected(self) -> Counts:
        """What the restore will bring: a whole one into a new course gives exactly these."""
        part, mode = count(self.part), self.request.mode
        sections, items = part.sections or 0, part.grade_items or 0
        if mode != "merge":
            sections += len(gaps(self.part.sections))
            if items and "gradebook.xml" not in self.part.docs:
                items += 1  # the course total comes into being with the first grade item
        people = enrolled(self.part, without=() if self.passing else NOT_PASSING) & set(self.part.users)
        if mode == "replace" and self.target is not None and self.sheet.value("keep_roles_and_enrolments"):
            people |= enrolled(self.target)
        return replace(part, sections=sections, grade_items=items, users=len(people))

    @property
    def passing(self) -> bool:
        """Whether enrolments by cohort and by other courses mean something here."""
        return self.same_site or int(self.sheet.value("enrolments") or 0) == 0

    @property
    def precheck(self) -> Precheck:
        """What Moodle's pre-check says."""
        warnings = []
        if _is_newer(self.read):
            warnings.append(
                f"This backup file has been created with Moodle {self.read.fact('moodle_release')}"
                f" ({self.read.fact('moodle_version')}) and it's newer than your currently installed"
                f" Moodle {RELEASE}"
                f" ({VERSION}). This could cause some inconsistencies because backwards compatibility of"
                " backup files cannot be guaranteed."
            )
        return Precheck(self.matches.words, tuple(warnings), self.missing)


def prepare(store: Store, request: RestoreRequest, read: Read, actor: Actor, target: Package | None) -> Prepared:
    """Settle the settings, and find what stands against it. Raises UsageError and Refused. Reads only."""
    names = {word: request.settings.get(f"course_{word}") for word in ("fullname", "shortname")}
    texts = {word: str(name) for word, name in names.items() if isinstance(name, str)}
    request = replace(
        request,
        fullname=request.fullname or texts.get("fullname"),
        shortname=request.shortname or texts.get("shortname"),
    )
    same_site = read.fact("original_site_identifier_hash") == identifier_hash(store)
    missing = _missing_plugins(read.package)
    whole = _without_missing(read.package)
    warnings: list[str] = []
    sheet, part, matches = _settle(store, request, replace(read, package=whole), actor, same_site)
    if matches.words and request.users_conflict == "without-users":
        left_out = [*matches.conflicts, *matches.uncreatable]
        warnings.append(
            f"Restored without people and their data, because {len(left_out)} of them cannot be restored:"
            f" {', '.join(left_out[:50])}."
        )
        lean = replace(request, settings={**request.settings, "users": False})
        sheet, part, left = _settle(store, lean, replace(read, package=whole), actor, same_site)
        matches = replace(left, conflicts=matches.conflicts)
    prepared = Prepared(request, read, sheet, part, matches, same_site, missing, {}, warnings, target)
    placing.check(request, part, target)
    prepared.dangers = _dangers(store, prepared)
    return prepared


@dataclass(frozen=True)
class CarriedOut:
    """The course's id, and old course module and section ids to new ones."""

    course_id: int
    activities: Mapping[int, int]
    sections: Mapping[int, int]


def carry_out(store: Store, prepared: Prepared, actor: Actor, now: int) -> CarriedOut:
    """Do it, inside the caller's transaction."""
    request, part, target = prepared.request, prepared.part, prepared.target
    if target is None:
        assert request.category_id is not None
        category = request.category_id
        target = Package(store.allocate("course"), store.allocate("context"))
        name = store.rows("SELECT name FROM categories WHERE id = ?", category)[0][0]
        target.docs["course/course.xml"] = course_doc(
            target.course_id, target.contextid, (category, name), timecreated=now
        )
    else:
        category = store.rows("SELECT category FROM courses WHERE id = ?", target.course_id)[0][0]
        if request.mode == "replace":
            _empty(store, target, prepared.sheet)
            if request.drop_backups:
                store.run("DELETE FROM backups WHERE course = ? AND area <> 'private'", target.course_id)
    numbers = Numbers(store, actor.user.id)
    for old, new in prepared.matches.same.items():
        numbers.put("user", old, new)
    for user in prepared.matches.created:
        _create_user(store, user, numbers, now)
    _course_texts(store, prepared, target, category)
    numbers.offset = _offset(prepared, target)
    if request.placement is not None:
        placing.set_apart(part, target)
    places = {} if request.placement is not None else by_number(target.sections)
    for section in part.sections:
        if not section.parent and section.number in places and not places[section.number].parent:
            numbers.put("section", section.id, places[section.number].id)
    if not request.items_only:
        _enrolments(store, prepared, part, target, now)
    cms = [activity.id for activity in part.activities]
    sections = [section.id for section in part.sections]
    renumber(part, numbers, (target.course_id, target.contextid))
    merge_into(target, part, store)
    if request.placement is not None:
        came = [numbers.get("section", old, 0) for old in sections]
        placing.place(request, target, came, [numbers.get("cm", old, 0) for old in cms])
    _afterwards(prepared, target)
    store.save(target, category)
    if request.mode == "new" and prepared.same_site:
        arranging.set_original(store, target.course_id, int(prepared.read.fact("original_course_id") or 0))
    return CarriedOut(
        target.course_id,
        {old: numbers.get("cm", old, 0) for old in cms},
        {old: _section_now(request, target, numbers.get("section", old, 0)) for old in sections},
    )


def _section_now(request: RestoreRequest, target: Package, section: int) -> int:
    """A new section, or the one its activities were moved into."""
    there = any(one.id == section for one in target.sections)
    return section if there or request.placement is None else request.placement.section_id


# --- looking ------------------------------------------------------------------------------------------------


def _missing_plugins(package: Package) -> tuple[str, ...]:
    missing = {f"mod_{activity.module}" for activity in package.activities if activity.module not in MODULES}
    course_format = text(package.course, "format", "topics")
    if course_format not in FORMATS:
        missing.add(f"format_{course_format}")
    if (questions := package.docs.get("questions.xml")) is not None:
        kinds = {text(question, "qtype") for question in questions.iter("question")} - {""}
        missing |= {f"qtype_{kind}" for kind in kinds - QUESTION_TYPES}
    return tuple(sorted(missing))


def _without_missing(package: Package) -> Package:
    """Moodle leaves activities whose module is missing out of the plan, without a word."""
    return replace(package, activities=[each for each in package.activities if each.module in MODULES])


def _is_newer(read: Read) -> bool:
    try:
        # The first eight digits are the branch's date: a later build of the same branch is not newer.
        return int(read.fact("moodle_version")[:8]) > int(VERSION[:8])
    except ValueError:
        return False


def _dangers(store: Store, prepared: Prepared) -> dict[str, Mapping[str, object]]:
    read, found = prepared.read, dict[str, Mapping[str, object]]()
    if _is_newer(read):
        found["newer-backup"] = {"backup": read.fact("moodle_release"), "site": RELEASE}
    if prepared.missing:
        found["missing-plugins"] = {"missing_plugins": list(prepared.missing)}
    needed = prepared.part.content_hashes()
    lost = [
        each for each, size in needed.items() if each not in read.contents and not store.has_content(each, size)
    ]
    if lost:
        names = {text(file, "filename") for file in prepared.part.files if text(file, "contenthash") in lost}
        found["without-files"] = {"files": sorted(names), "contents": lost[:200], "count": len(lost)}
    return found


def _settle(
    store: Store, request: RestoreRequest, read: Read, actor: Actor, same_site: bool
) -> tuple[Sheet, Package, Matches]:
    sheet = _sheet(request, read, actor)
    wishes = {**item_wishes(read.package, request.items), **_asked(request, sheet)}
    sheet.apply(wishes)
    if not read.package.users or not sheet.value("users"):
        sheet.settings["users"] = replace(sheet.settings["users"], value=False)
        if sheet.value("enrolments") == 1:
            sheet.settings["enrolments"] = replace(sheet.settings["enrolments"], value=0)
    taken = chosen(sheet, read.package)
    package = _items_only(read.package) if request.items_only else read.package
    part = cut(package, Chosen({**taken.root, "imscc11": False, "files": True}, *_sets(taken)))
    may_create = actor.may("moodle/restore:createuser", request.course_id)
    return sheet, part, match(store, part.users, same_site, may_create)


def _items_only(package: Package) -> Package:
    """A backup without what belongs to the course itself."""
    docs = {path: doc for path, doc in package.docs.items() if not path.startswith("course/")}
    return replace(package, docs={**docs, "course/course.xml": package.docs["course/course.xml"]})


def _sets(taken: Chosen) -> tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int]]:
    return taken.sections, taken.activities, taken.userinfo_sections, taken.userinfo_activities


def _sheet(request: RestoreRequest, read: Read, actor: Actor) -> Sheet:
    made_with, sheet = read.root_settings, Sheet()
    for name, depends in RESTORE_ROOT:
        if name == "enrolments":
            with_users = int(made_with.get("users") == "1")
            choices = {key: words for key, words in ENROLMENTS.items() if with_users or key != "1"}
            sheet.add(Setting(name, with_users, "root", "Include enrolment methods", choices=choices))
            continue
        there = made_with.get(name, "1" if name in _ON_WHERE_UNSAID else "0") == "1"
        locked_by, why = _restore_lock(name, there, request, actor)
        on = there and locked_by is None
        sheet.add(Setting(name, on, "root", f"Include {name}", locked_by=locked_by, depends_on=depends), why)
    for name, default in _course_settings(request, read).items():
        keep = name.startswith("keep_")
        fixed = (keep and request.mode != "replace") or (name == "overwrite_conf" and request.mode == "new")
        lock: LockedBy | None = "config" if fixed else None
        why = {
            "message": f"The setting {name} means nothing when the mode is {request.mode}.",
            "locked_by": "config",
            "hint": "It belongs to --replace." if keep else "Leave it as it is.",
        }
        sheet.add(Setting(name, default, "course", visible=not fixed, locked_by=lock), why if fixed else None)
    add_items(sheet, read.package, lambda key: read.ticked(f"{key}_userinfo"))
    return sheet


# A backup of an older release does not have them, and what they stand for is in it.
_ON_WHERE_UNSAID = frozenset({"groups", "permissions", "customfield"})


def _restore_lock(
    name: str, there: bool, request: RestoreRequest, actor: Actor
) -> tuple[LockedBy | None, dict[str, str] | None]:
    """Who locks a root setting of a restore, and the explanation."""
    if name == "users" and not actor.may("moodle/restore:userinfo", request.course_id):
        return "permission", {
            "message": f"The setting users cannot be on: the user {actor.user.username} lacks the permission"
            " moodle/restore:userinfo.",
            "locked_by": "permission",
            "hint": "Act as somebody who may, with --as USERNAME.",
        }
    if there:
        return None, None
    return "hierarchy", {**_WITHOUT, "message": f"The setting {name} cannot be on: {_WITHOUT['message']}"}


def _course_settings(request: RestoreRequest, read: Read) -> dict[str, str | int | bool | None]:
    return {
        "overwrite_conf": request.mode == "new",
        "course_fullname": read.fact("original_course_fullname"),
        "course_shortname": read.fact("original_course_shortname"),
        "course_startdate": int(read.fact("original_course_startdate") or 0),
        "keep_roles_and_enrolments": False,
        "keep_groups_and_groupings": False,
    }


def _asked(request: RestoreRequest, sheet: Sheet) -> dict[str, str | int | bool | None]:
    known = [
        name for name, setting in sheet.settings.items() if setting.level in ("root", "course") and setting.visible
    ]
    require_known((name for name in request.settings if name not in sheet.settings), known, "restores")
    asked: dict[str, str | int | bool | None] = {
        name: True for name in request.wishes if name in sheet.settings and sheet.settings[name].locked_by is None
    }
    asked.update(request.settings)
    if request.enrolments is not None:
        asked["enrolments"] = _CHOICES[request.enrolments]
    for name, wanted in (
        ("keep_roles_and_enrolments", request.keep_enrolments),
        ("keep_groups_and_groupings", request.keep_groups),
        ("overwrite_conf", request.overwrite_config),
    ):
        if wanted:
            asked[name] = True
    choices = sheet.settings["enrolments"].choices or {}
    if "enrolments" in asked and str(int(asked["enrolments"] or 0)) not in choices:
        raise Refused(
            "The setting enrolments cannot be 'with-users': the backup was made without users.",
            "It can be: manual, always.",
            code="setting_locked",
            details={"setting": "enrolments", "choices": dict(choices)},
        )
    return asked


# --- doing --------------------------------------------------------------------------------------------------


def _empty(store: Store, target: Package, sheet: Sheet) -> None:
    """What a deleting restore does first: everything goes (``remove_course_contents``) but the stored backups."""
    empty(
        target,
        keep_enrolments=bool(sheet.value("keep_roles_and_enrolments")),
        keep_groups=bool(sheet.value("keep_groups_and_groupings")),
    )
    store.run("DELETE FROM automated WHERE course = ?", target.course_id)


def _create_user(store: Store, user: Element, numbers: Numbers, now: int) -> None:
    made = deepcopy(user)
    new = store.allocate("user")
    numbers.put("user", int(user.get("id", "0")), new)
    made.set("id", str(new))
    made.set("contextid", str(numbers.new("context", int(user.get("contextid", "0")))))
    # A new account's password must be set before the first login; nobody has agreed to this site's policy.
    for name, value in (("auth", "manual"), ("policyagreed", 0), ("timecreated", now), ("timemodified", now)):
        put(made, name, value)
    store.add_user(made)


def _course_texts(store: Store, prepared: Prepared, target: Package, category: int) -> None:
    """Names, dates and the rest of the course's own settings, where the restore may change them."""
    request, mine = prepared.request, target.course
    if request.mode == "new" or prepared.sheet.value("overwrite_conf"):
        for child in prepared.part.course:
            keep = request.mode != "new" and child.tag in ("fullname", "shortname", "startdate", "enddate")
            if len(child) == 0 and child.tag not in ("idnumber", "timecreated", "defaultgroupingid") and not keep:
                put(mine, child.tag, child.text or "")
            elif child.tag in ("tags", "customfields", "courseformatoptions"):
                _replace_child(mine, deepcopy(child))
        if text(mine, "format") not in FORMATS:
            put(mine, "format", "topics")
    if request.mode == "new":
        fullname, shortname = final_names(store, prepared)
        put(mine, "fullname", fullname)
        put(mine, "shortname", shortname)
        idnumber = text(prepared.part.course, "idnumber")
        free = not store.rows("SELECT 1 FROM courses WHERE idnumber = ? AND id <> ?", idnumber, target.course_id)
        put(mine, "idnumber", idnumber if prepared.same_site and idnumber and free else "")


def _replace_child(parent: Element, child: Element) -> None:
    if (old := parent.find(child.tag)) is not None:
        parent.remove(old)
    parent.append(child)


def final_names(store: Store, prepared: Prepared) -> tuple[str, str]:
    """The names the course will have in the end (``restore_dbops::calculate_course_names``)."""
    request = prepared.request
    if prepared.target is not None:
        own = prepared.target.course
        return request.fullname or text(own, "fullname"), request.shortname or text(own, "shortname")
    wanted = request.fullname or prepared.read.fact("original_course_fullname")
    short = request.shortname or prepared.read.fact("original_course_shortname")
    fullname, shortname, number_ = wanted, short, 0
    while store.rows("SELECT 1 FROM courses WHERE fullname = ? OR shortname = ?", fullname, shortname):
        number_ += 1
        fullname, shortname = f"{wanted} copy {number_}", f"{short}_{number_}"
    return request.fullname or fullname, request.shortname or shortname


def _midnight(request: RestoreRequest) -> int | None:
    if request.startdate is None:
        return None
    return int(datetime.combine(request.startdate, time(), UTC).timestamp())


def _offset(prepared: Prepared, target: Package) -> int:
    """By how many seconds the dates of activities move."""
    original = int(prepared.read.fact("original_course_startdate") or 0)
    wanted = _midnight(prepared.request)
    return wanted - original if wanted is not None and original else 0


def _afterwards(prepared: Prepared, target: Package) -> None:
    """What was asked for by name holds, whatever the plan made of it."""
    request, mine = prepared.request, target.course
    for name, value in (
        ("fullname", request.fullname),
        ("shortname", request.shortname),
        ("idnumber", request.idnumber),
    ):
        if value is not None:
            put(mine, name, value)
    if request.visible is not None:
        put(mine, "visible", int(request.visible))
    start = _midnight(request)
    if start is not None:
        before = number(mine, "startdate")
        put(mine, "startdate", start)
        if before and number(mine, "enddate"):
            put(mine, "enddate", number(mine, "enddate") + start - before)


def _enrolments(store: Store, prepared: Prepared, part: Package, target: Package, now: int) -> None:
    """The three choices: methods as they were, everybody by hand, or methods without people."""
    path = "course/enrolments.xml"
    doc = part.docs.pop(path, None)
    if prepared.sheet.value("keep_roles_and_enrolments"):
        part.docs.pop("course/roles.xml", None)
        return
    choice, methods = (
        int(prepared.sheet.value("enrolments") or 0),
        list(doc.iter("enrol")) if doc is not None else [],
    )
    if doc is not None and methods and choice:
        for holder in doc.iter("enrols"):
            for method in [each for each in holder if text(each, "enrol") in NOT_PASSING]:
                if not prepared.passing:
                    holder.remove(method)
        for entries in doc.iter("user_enrolments"):
            for entry in [each for each in entries if number(each, "userid") not in part.users]:
                entries.remove(entry)
        part.docs[path] = doc
        return
    people = [number(each, "userid") for each in doc.iter("enrolment")] if doc is not None else list(part.users)
    people = [user for user in dict.fromkeys(people) if user in part.users]
    if people or path not in target.docs:
        entries_by_hand = [enrolment(store.allocate("enrolment"), user, now) for user in people]
        manual = enrol_method(store.allocate("enrol"), "manual", *entries_by_hand, timecreated=now, timemodified=now)
        part.docs[path] = node("enrolments", node("enrols", manual))
