"""Who may do what on the practice site, and whom the people of a backup are here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from moodlectl.errors import AccessError, NotFound
from moodlectl.site.port import UsersOutcome
from moodlectl.site.practice.store import Store, User
from moodlectl.site.practice.xmltree import ident, number, parse, text

# What an editing teacher may do in his course; managers and administrators may do everything (facts as in
# 5.1's
# lib/db/access.php: userinfo, anonymise and createuser are the manager's alone, rolldates his and the
# course creator's).
_TEACHER = frozenset(
    [
        "moodle/backup:backupcourse",
        "moodle/backup:backuptargetimport",
        "moodle/restore:restoretargetimport",
        "moodle/backup:configure",
        "moodle/backup:downloadfile",
        "moodle/restore:restorecourse",
        "moodle/restore:configure",
        "moodle/restore:uploadfile",
        "moodle/restore:viewautomatedfilearea",
        "moodle/course:view",
        "moodle/course:update",
        "moodle/course:changefullname",
        "moodle/course:changeshortname",
        "moodle/course:changeidnumber",
        "moodle/course:visibility",
        "moodle/course:enrolconfig",
    ]
)
_STUDENT = frozenset({"moodle/course:view"})


@dataclass(frozen=True)
class Actor:
    """The acting user with his rights."""

    store: Store
    user: User

    def may(self, capability: str, course_id: int | None) -> bool:
        """Whether the user has that capability in a course, or (None) on the site."""
        if self.user.role in ("admin", "manager"):
            return True
        if course_id is None:
            return False
        roles = {
            number(assignment, "roleid")
            for row in self.store.rows(
                "SELECT xml FROM docs WHERE course = ? AND owner = '' AND path = 'course/roles.xml'",
                course_id,
            )
            for assignment in parse(row["xml"], "roles.xml").iter("assignment")
            if number(assignment, "userid") == self.user.id
        }
        return (3 in roles and capability in _TEACHER) or (bool(roles) and capability in _STUDENT)

    def need(self, capability: str, course_id: int | None, todo: str, code: str = "missing_capability") -> None:
        """Raises AccessError, naming the capability, where the user lacks it."""
        if not self.may(capability, course_id):
            raise AccessError(
                f"The user {self.user.username} may not {todo}: the capability {capability} is missing.",
                "Act as somebody who may (--as USERNAME), or ask for a role that allows it:"
                f" {whom_to_ask(self.store)}.",
                code=code,
                details={"capability": capability, "username": self.user.username},
            )


def whom_to_ask(store: Store) -> str:
    """Managers and administrators, who may do everything here."""
    rows = store.rows(
        "SELECT username, siterole FROM users WHERE siterole IN ('manager', 'admin') ORDER BY siterole DESC, id"
    )
    return "; ".join(row["username"] + (", a site administrator" if row["siterole"] == "admin" else "") for row in rows)


def actor(store: Store, username: str) -> Actor:
    """The user of that name. Raises NotFound ``user_unknown``."""
    user = store.user(username.lower())
    if user is None:
        raise NotFound(
            f"The site has no user '{username}'.",
            "Give --as a username as Moodle shows it in the profile.",
            code="user_unknown",
            details={"username": username},
        )
    return Actor(store, user)


@dataclass
class Matches:
    """What a restore does to the people of a backup: whom it maps to whom, creates, and cannot place."""

    same: dict[int, int] = field(default_factory=dict)
    created: list[Element] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    uncreatable: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> UsersOutcome:
        """The numbers of the port."""
        return UsersOutcome(len(self.same), len(self.created), tuple(self.conflicts))

    @property
    def words(self) -> tuple[str, ...]:
        """Moodle's own sentences for what is wrong (lang/en/error.php)."""
        return (
            *(f"Trying to restore user '{name}' from backup file will cause conflict" for name in self.conflicts),
            *(f"User '{name}' cannot be created: you do not have the permission" for name in self.uncreatable),
        )


def match(store: Store, users: Mapping[int, Element], same_site: bool, may_create: bool) -> Matches:
    """Place everybody, by the rules of ``restore_dbops::precheck_user`` (1.A to 2.E)."""
    result = Matches()
    for old, user in users.items():
        username = text(user, "username")
        there = store.user(username)
        by_id = store.user_by_id(old) if same_site else None
        found = _same_site(user, there, by_id) if same_site else _other_site(user, there)
        if found is not None:
            result.same[old] = found.id
        elif there is not None:
            result.conflicts.append(username)
        elif may_create:
            result.created.append(user)
        else:
            result.uncreatable.append(username)
    return result


def _same_site(user: Element, there: User | None, by_id: User | None) -> User | None:
    if there is not None and (there.id == ident(user) or _is_anonymous(user)):
        return there
    deleted = text(user, "deleted") == "1"
    if deleted and by_id is not None and _email(by_id.element)[:89] == _without_time(text(user, "username"))[:89]:
        return by_id
    return None


def _other_site(user: Element, there: User | None) -> User | None:
    if there is None:
        return None
    seen = number(user, "firstaccess")
    same_email = _email(user) == _email(there.element) and _email(user) != ""
    return there if same_email or (seen and seen == number(there.element, "firstaccess")) else None


def _email(user: Element) -> str:
    return text(user, "email").lower()


def _without_time(username: str) -> str:
    """A deleted user's name is his address with the time he was deleted at its end."""
    return re.sub(r"\.\d+$", "", username)


def _is_anonymous(user: Element) -> bool:
    """``backup_anonymizer_helper::is_anonymous_user``."""
    return bool(
        re.fullmatch(r"anon\d*", text(user, "username"))
        and re.fullmatch(r"anonfirstname\d*", text(user, "firstname"))
        and re.fullmatch(r"anonlastname\d*", text(user, "lastname"))
        and re.fullmatch(r"anon\d*@doesntexist\.(com|invalid)", text(user, "email"))
    )


def identifier_hash(store: Store) -> str:
    """The md5 of the site identifier, as backups carry it."""
    return hashlib.md5(store.config("identifier").encode(), usedforsecurity=False).hexdigest()
