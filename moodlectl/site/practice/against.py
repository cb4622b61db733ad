"""What a restore on the practice site would make of the people of a backup, person by person."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from moodlectl.site.port import Person, UserFate, UsersAgainst, UsersQuestion
from moodlectl.site.practice.people import Actor, identifier_hash, match
from moodlectl.site.practice.store import Store


def users_against(
    store: Store, actor: Actor, people: Sequence[Person], question: UsersQuestion, wwwroot: str
) -> UsersAgainst:
    """The fate of each, by the rules a restore here goes by (``people.match``). Reads only."""
    if question.identifier_hash:
        same = question.identifier_hash == identifier_hash(store)
    else:
        same = (question.url or "").rstrip("/") == wwwroot.rstrip("/")
    may = all(actor.may(f"moodle/restore:{name}", question.course_id) for name in ("createuser", "userinfo"))
    return UsersAgainst(same, "site", tuple(_fate(store, one, same, may) for one in people))


def _fate(store: Store, person: Person, same: bool, may_create: bool) -> UserFate:
    matches = match(store, {person.id: _element(person)}, same, may_create)
    if matches.same:
        account = store.user_by_id(matches.same[person.id])
        name = account.username if account else None
        if same:
            rule = "1D" if name != person.username else "1A" if matches.same[person.id] == person.id else "1B"
        else:
            rule = "2A1"
        return UserFate("match", rule, matches.same[person.id], name)
    if matches.conflicts:
        there = store.user(person.username)
        return UserFate("conflict", "1E" if same else "2D", there.id if there else None, person.username)
    return UserFate("create" if matches.created else "cannot_create", "1F" if same else "2E")


def _element(person: Person) -> Element:
    """The person as users.xml has them."""
    user = Element("user", {"id": str(person.id)})
    for name in ("username", "email", "firstname", "lastname"):
        SubElement(user, name).text = getattr(person, name)
    SubElement(user, "firstaccess").text = str(person.firstaccess)
    SubElement(user, "deleted").text = "1" if person.deleted else "0"
    return user
