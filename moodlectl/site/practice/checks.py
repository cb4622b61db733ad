"""What the practice site has to say before a restore, in the words of the real one (``php/restore_checks.php``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from moodlectl.findings import Finding
from moodlectl.site.port import Course, RestoreRequest, Standing
from moodlectl.site.practice.package import Package, grade_items
from moodlectl.site.practice.people import Actor, whom_to_ask
from moodlectl.site.practice.plugins import RELEASE
from moodlectl.site.practice.schema import ROLES
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import number, text

if TYPE_CHECKING:
    from moodlectl.site.practice.restorer import Prepared

_GRADED = 5  # the role of students


def on_the_way(store: Store, request: RestoreRequest, acting: Actor, target: Course | None) -> Iterator[Finding]:
    """What is known before the backup is opened: the site's state, the actor's rights, names that are taken."""
    if store.config("maintenance"):
        yield Finding(
            "maintenance",
            "danger",
            "The site is in maintenance mode: somebody works on it.",
            "Wait until it has ended. If it is you who works on it: --allow maintenance",
        )
    if target is None:
        yield from _need(acting, "moodle/course:create", None, "the category")
    else:
        imports = request.source.course is not None and request.source.course.rules == "import"
        capability = "moodle/restore:restoretargetimport" if imports else "moodle/restore:restorecourse"
        yield from _need(acting, capability, target.id, f"the course {target.shortname}")
    for name in ("shortname", "idnumber"):
        value = getattr(request, name)
        mine = target.id if target else 0
        query = f"SELECT id, fullname FROM courses WHERE {name} = ? AND id <> ?"
        rows = store.rows(query, value, mine) if value else []
        if rows:
            yield Finding(
                f"{name}_taken",
                "forbidden",
                f"The {name} {value} belongs to another course, {rows[0]['fullname']} (id:{rows[0]['id']}).",
                f"Choose another with --{name}.",
                {"course_id": rows[0]["id"], name: value},
            )


def _need(acting: Actor, capability: str, course_id: int | None, where: str) -> Iterator[Finding]:
    if acting.may(capability, course_id):
        return
    username, ask = acting.user.username, whom_to_ask(acting.store)
    yield Finding(
        "no_capability",
        "forbidden",
        f"The user {username} lacks {capability} in {where}.",
        f"Act as somebody who has it (--as USERNAME), or ask for a role that allows it: {ask}.",
        {"capability": capability, "username": username, "ask": ask},
        access=True,
    )


def of_prepared(store: Store, prepared: Prepared, acting: Actor, names: tuple[str, str]) -> Iterator[Finding]:
    """What lies in the backup and its settings."""
    yield from _dangers(prepared)
    yield from _people(prepared, acting)
    yield from _roles(prepared)
    request, read = prepared.request, prepared.read
    told = [read.fact(f"original_course_{name}") for name in ("fullname", "shortname")]
    asked = request.fullname is not None and request.shortname is not None
    if request.mode == "new" and not asked and (request.fullname or told[0], request.shortname or told[1]) != names:
        yield Finding(
            "names",
            "warning",
            f"The names of the backup's course are taken here; the new course will be {names[0]} ({names[1]}).",
            "Choose them with --fullname and --shortname.",
            {"fullname": names[0], "shortname": names[1]},
        )


def _dangers(prepared: Prepared) -> Iterator[Finding]:
    for name, details in prepared.dangers.items():
        words = {
            "newer-backup": (
                f"The backup was made by Moodle {prepared.read.fact('moodle_release')}; this site has {RELEASE}."
                " Moodle restores it without a promise.",
                "Update the site first, or restore a backup from an older site. To try it all the same:",
            ),
            "missing-plugins": (
                f"The site lacks {', '.join(prepared.missing)}; what the backup holds of them is left out without a"
                " word from Moodle.",
                "Have an administrator install them. To go without:",
            ),
            "without-files": (
                f"The backup carries no files, and the site has not got {details.get('count')} of the contents:"
                f" {', '.join(_texts(details.get('files'))[:5])}. They will be missing.",
                "Make the backup with its files (--with files). To go without:",
            ),
        }
        yield Finding(name, "danger", words[name][0], f"{words[name][1]} --allow {name}", details)


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list | tuple) else []


def _people(prepared: Prepared, acting: Actor) -> Iterator[Finding]:
    matches, username, ask = prepared.matches, acting.user.username, whom_to_ask(acting.store)
    details = {
        "precheck": list(matches.words),
        "conflicts": matches.conflicts[:50],
        "uncreatable": matches.uncreatable[:50],
        "count": len(matches.conflicts),
    }
    if prepared.request.users_conflict == "without-users":
        for words in prepared.warnings:
            yield Finding("people", "warning", words, "", details)
    elif matches.conflicts:
        first = matches.conflicts[0]
        yield Finding(
            "user_conflict",
            "forbidden",
            f"The site has other people under the same usernames: {', '.join(matches.conflicts[:50])}.",
            f"If they are the same people, say so: --map {first}={first} (OLD=NEW, repeatable; - leaves them out), or"
            " --user-map FILE.csv for many. Or restore without people: --on-user-conflict without-users.",
            details,
        )
    elif not matches.uncreatable and (matches.same or matches.created):
        yield Finding(
            "people",
            "note",
            f"People of the backup: {len(matches.same)} have an account here,"
            f" {len(matches.created)} accounts will be made.",
            "",
            {"matched": len(matches.same), "created": len(matches.created)},
        )
    if matches.uncreatable and prepared.request.users_conflict != "without-users":
        yield Finding(
            "cannot_create_users",
            "forbidden",
            f"The user {username} may not create (moodle/restore:createuser, moodle/restore:userinfo) the people who"
            f" are in the backup and not on the site: {', '.join(matches.uncreatable[:50])}.",
            f"Act as somebody who may (--as USERNAME), or ask: {ask}. Or restore without people: --without users",
            {**details, "ask": ask},
        )
    setting, asked = prepared.sheet.settings["users"], "users" in prepared.request.settings
    if not setting.value and setting.locked_by == "permission" and prepared.read.package.users and not asked:
        yield Finding(
            "without-people",
            "danger",
            "The backup holds people. They and their work are left out: the user"
            f" {username} lacks moodle/restore:userinfo.",
            f"Act as somebody who may bring them (--as USERNAME), or ask: {ask}. To restore without them:"
            " --without users (or --allow without-people).",
            {"capability": "moodle/restore:userinfo", "username": username, "ask": ask},
            access=True,
        )


def _roles(prepared: Prepared) -> Iterator[Finding]:
    """Roles that people have in the chosen part and that this site has not got."""
    definitions = prepared.part.docs.get("roles.xml")
    if not prepared.sheet.value("users") or definitions is None:
        return
    used: dict[int, int] = {}
    for doc in prepared.part.all_docs():
        for assignment in doc.iterfind("role_assignments/assignment"):
            role = number(assignment, "roleid")
            used[role] = used.get(role, 0) + 1
    lost = {
        text(role, "shortname"): used[int(role.get("id", "0"))]
        for role in definitions.iter("role")
        if int(role.get("id", "0")) in used
        and not {text(role, "shortname"), text(role, "archetype")} & set(ROLES.values())
    }
    if lost:
        yield Finding(
            "missing-roles",
            "danger",
            f"People have roles in the backup that cannot be given here: {', '.join(lost)} ({sum(lost.values())}"
            " assignments). They come without them.",
            "Make such a role on the site. To go without: --allow missing-roles",
            {"roles": lost},
        )


def standing(package: Package) -> Standing:
    """Who and what stands in the way of changing a course; nobody visits a practice site, and it keeps no log."""
    grades = sum(
        1
        for item in grade_items(package)
        if text(item, "itemtype") not in ("course", "category")
        for grade in item.iter("grade_grade")
        if text(grade, "finalgrade")
    )
    roles = package.docs.get("course/roles.xml")
    students = {number(one, "userid") for one in roles.iter("assignment") if number(one, "roleid") == _GRADED} if (
        roles is not None
    ) else set[int]()
    work = 0
    for activity in package.activities:
        own = activity.docs.get(f"{activity.module}.xml")
        if own is not None and activity.module == "assign":
            work += sum(1 for one in own.iter("submission") if text(one, "status") == "submitted")
        elif own is not None and activity.module == "quiz":
            work += sum(1 for one in own.iter("attempt") if text(one, "preview") != "1")
    return Standing(len(students), grades, work, 0, None, 0, (), None)
