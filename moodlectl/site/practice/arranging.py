"""A course's place on the practice site: who is enrolled and how, its names and category, and how they are changed.

By the rules of ``php/arrange.php``. Whoever changes something holds one transaction around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Final
from xml.etree.ElementTree import Element

from moodlectl.errors import Refused, UsageError
from moodlectl.mbz.usermap import Account
from moodlectl.site.port import Arrangement, Course, CourseFacts, Enrolled, EnrolMethod
from moodlectl.site.practice.package import Package
from moodlectl.site.practice.people import Actor
from moodlectl.site.practice.schema import ROLES, enrol_method, enrolment, role_assignment, roles_doc
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import node, number, put, text

METHODS: Final[Mapping[str, bool]] = {"manual": True, "guest": True, "self": True, "cohort": True, "meta": False}
_ENROLMENTS, _ROLES = "course/enrolments.xml", "course/roles.xml"


def set_original(store: Store, course_id: int, original: int) -> None:
    """Note from which course of this site a course was made."""
    if original:
        store.set_config(f"original_course_{course_id}", str(original))


def facts(store: Store, course: Course) -> CourseFacts:
    """Who is enrolled and how, and what the course was made from. Reads only."""
    package = store.load(course.id)
    original = store.config(f"original_course_{course.id}")
    return CourseFacts(
        course=course,
        original_course_id=int(original) if original else None,
        startday=course.startdate.date() if course.startdate else None,
        endday=course.enddate.date() if course.enddate else None,
        people=tuple(_people(store, package)),
        methods=tuple(
            EnrolMethod(text(method, "enrol"), text(method, "status", "0") == "0", len(_entries(method)))
            for method in _methods(package)
        ),
    )


def accounts(store: Store, usernames: Sequence[str]) -> list[Account]:
    """Those usernames that are accounts. Reads only."""
    found = [user for name in usernames if (user := store.user(name)) is not None]
    return [
        Account(user.username, user.id, text(user.element, "email"), number(user.element, "firstaccess"))
        for user in found
    ]


def _methods(package: Package) -> list[Element]:
    doc = package.docs.get(_ENROLMENTS)
    return list(doc.iterfind("enrols/enrol")) if doc is not None else []


def _entries(method: Element) -> list[Element]:
    return list(method.iterfind("user_enrolments/enrolment"))


def _assignments(package: Package) -> list[Element]:
    doc = package.docs.get(_ROLES)
    return list(doc.iterfind("role_assignments/assignment")) if doc is not None else []


def _people(store: Store, package: Package) -> list[Enrolled]:
    found: dict[int, tuple[list[str], bool]] = {}
    for method in _methods(package):
        on = text(method, "status", "0") == "0"
        for entry in _entries(method):
            methods, active = found.get(number(entry, "userid"), ([], False))
            now = on and text(entry, "status", "0") == "0"
            found[number(entry, "userid")] = ([*methods, text(method, "enrol")], active or now)
    roles: dict[int, list[str]] = {}
    for given in _assignments(package):
        roles.setdefault(number(given, "userid"), []).append(ROLES.get(number(given, "roleid"), "?"))
    people = []
    for user_id, (methods, active) in sorted(found.items()):
        user = store.user_by_id(user_id)
        if user is not None:
            one = user.element
            people.append(
                Enrolled(
                    id=user_id, username=user.username, email=text(one, "email"), firstname=text(one, "firstname"),
                    lastname=text(one, "lastname"), firstaccess=number(one, "firstaccess"),
                    roles=tuple(dict.fromkeys(roles.get(user_id, ()))), methods=tuple(dict.fromkeys(methods)),
                    active=active,
                )
            )  # fmt: skip
    return people


def make_category(store: Store, path: Sequence[str], idnumber: str, *, visible: bool, actor: Actor) -> int:
    """The id of the category of that path, or with that idnumber; made, with those above, where there is none."""
    names = [name.strip() for name in path]
    if not names or not all(names):
        raise UsageError("A category needs a name, and so do all above it.", code="bad_category")
    known = store.rows("SELECT id FROM categories WHERE idnumber = ? AND idnumber <> ''", idnumber)
    parent = 0
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        if last and known:
            return int(known[0]["id"])
        found = store.rows("SELECT * FROM categories WHERE parent = ? AND name = ?", parent, name)
        where = " / ".join(names[: depth + 1])
        if len(found) > 1:
            raise Refused(f"There are two categories '{where}'.", code="ambiguous_category")
        if found and last and idnumber:
            raise Refused(
                f"The category '{where}' is there, but not with the idnumber {idnumber}.",
                "Name it by its path alone, or give it that idnumber.",
                code="category_taken" if found[0]["idnumber"] else "category_without_idnumber",
            )
        if not found:
            actor.need("moodle/category:manage", None, f"make the category '{name}'", "nopermissions")
            new = store.allocate("category")
            store.run(
                "INSERT INTO categories VALUES (?, ?, ?, ?, ?, ?)",
                new, name, idnumber if last else "", parent, int(visible), new,
            )  # fmt: skip
            parent = new
        else:
            parent = int(found[0]["id"])
    return parent


def arrange(store: Store, course: Course, wanted: Arrangement, actor: Actor, now: int) -> None:
    """Arrange the course, inside a transaction of the caller's. Raises Refused, AccessError."""
    package = store.load(course.id)
    category = course.category_id if wanted.category_id is None else wanted.category_id
    changed = _course(store, package, course, wanted, actor) or category != course.category_id
    if category != course.category_id:
        actor.need("moodle/course:changecategory", course.id, "move this course", "nopermissions")
    changed = _enrol(store, package, wanted, actor, now) or changed
    if wanted.enrolments is not None:
        actor.need("moodle/course:enrolconfig", course.id, "change enrolments of this course", "nopermissions")
        (_all_manual if wanted.enrolments == "manual" else _all_suspended)(store, package, now)
        changed = True
    if changed:
        store.save(package, category)


_CAPABILITIES: Final = {
    "fullname": "moodle/course:changefullname",
    "shortname": "moodle/course:changeshortname",
    "idnumber": "moodle/course:changeidnumber",
    "visible": "moodle/course:visibility",
    "startdate": "moodle/course:update",
    "enddate": "moodle/course:update",
}


def _course(store: Store, package: Package, course: Course, wanted: Arrangement, actor: Actor) -> bool:
    """Change the course itself; returns whether anything was different."""
    changed = False
    for name, capability in _CAPABILITIES.items():
        asked = getattr(wanted, name)
        if asked is None:
            continue
        value = _midnight(asked) if isinstance(asked, date) else int(asked) if isinstance(asked, bool) else asked
        if text(package.course, name, "0" if isinstance(value, int) else "") == str(value):
            continue
        actor.need(capability, course.id, f"change the {name} of {course.shortname}", "nopermissions")
        taken = f"SELECT 1 FROM courses WHERE {name} = ? AND id <> ?"
        if name in ("shortname", "idnumber") and value and store.rows(taken, value, course.id):
            raise Refused(f"The {name} {value} belongs to another course.", f"Choose another {name}.",
                          code=f"{name}_taken", details={name: value})  # fmt: skip
        put(package.course, name, value)
        changed = True
    start, end = number(package.course, "startdate"), number(package.course, "enddate")
    if (wanted.startdate or wanted.enddate) and end and end <= start:
        raise Refused(f"The course {course.shortname} would end before it starts.", code="bad_dates")
    return changed


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _enrol(store: Store, package: Package, wanted: Arrangement, actor: Actor, now: int) -> bool:
    changed = False
    known = {name: number_ for number_, name in ROLES.items()}
    for username, roles in wanted.people:
        user = store.user(username)
        if user is None:
            raise Refused(f"There is no account '{username}' to enrol.", code="user_unknown")
        unknown = [name for name in roles if name not in known]
        if unknown:
            raise Refused(f"There is no role '{unknown[0]}' that can be given in a course.", code="role_unknown")
        given = {number(one, "roleid") for one in _assignments(package) if number(one, "userid") == user.id}
        missing = [known[name] for name in roles if known[name] not in given]
        enrolled = any(number(entry, "userid") == user.id for each in _methods(package) for entry in _entries(each))
        if not missing and enrolled:
            continue
        actor.need("enrol/manual:enrol", package.course_id, "enrol people in this course", "nopermissions")
        _by_hand(store, package, user.id, now)
        for role in missing:
            _give_role(store, package, user.id, role, now)
        changed = True
    return changed


def _manual(store: Store, package: Package, now: int) -> Element:
    """The manual method of a course, made where there is none, and switched on."""
    found = next((method for method in _methods(package) if text(method, "enrol") == "manual"), None)
    if found is None:
        found = enrol_method(store.allocate("enrol"), "manual", timecreated=now, timemodified=now)
        doc = package.docs.setdefault(_ENROLMENTS, node("enrolments", node("enrols")))
        holder = doc.find("enrols")
        assert holder is not None
        holder.append(found)
    put(found, "status", 0)
    return found


def _by_hand(store: Store, package: Package, user: int, now: int, status: int = 0) -> None:
    method = _manual(store, package, now)
    if any(number(entry, "userid") == user for entry in _entries(method)):
        return
    entry = enrolment(store.allocate("enrolment"), user, now)
    put(entry, "status", status)
    holder = method.find("user_enrolments")
    assert holder is not None
    holder.append(entry)


def _give_role(store: Store, package: Package, user: int, role: int, now: int) -> None:
    doc = package.docs.setdefault(_ROLES, roles_doc())
    holder = doc.find("role_assignments")
    assert holder is not None
    holder.append(role_assignment(store.allocate("role_assignment"), user, role, now))


def _all_manual(store: Store, package: Package, now: int) -> None:
    _manual(store, package, now)
    for method in _methods(package):
        kind, off = text(method, "enrol"), text(method, "status", "0") != "0"
        if kind in ("manual", "guest"):
            continue
        for entry in _entries(method):
            _by_hand(store, package, number(entry, "userid"), now, 1 if off else number(entry, "status"))
        for given in _assignments(package):
            if text(given, "component") == f"enrol_{kind}":
                put(given, "component", "")
                put(given, "itemid", 0)
    _switch_off(package)


def _all_suspended(_: Store, package: Package, __: int) -> None:
    for method in _methods(package):
        for entry in _entries(method):
            put(entry, "status", 1)
    _switch_off(package)


def _switch_off(package: Package) -> None:
    for method in _methods(package):
        if text(method, "enrol") != "manual":
            put(method, "status", 1)
