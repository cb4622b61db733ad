"""Whom the people of a backup are on the practice site: Moodle's rules 1A to 2E, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl.errors import NotFound
from moodlectl.site.practice.people import actor, match
from moodlectl.site.practice.schema import user_doc
from moodlectl.site.practice.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with one person: anna, number 7, known since second 1000."""
    made = Store(tmp_path)
    with made.transaction():
        made.create_schema()
        made.add_user(user_doc(7, 70, username="anna", email="Anna@example.org", firstaccess=1000))
    yield made
    made.close()


SAME, OTHER = True, False


@pytest.mark.parametrize(
    "same_site, old, username, email, firstaccess, fate",
    [
        (SAME, 7, "anna", "anna@example.org", 1000, "same"),  # 1A
        (SAME, 7, "anna", "new@example.org", 0, "same"),  # 1A asks for nothing else
        (SAME, 8, "anna", "anna@example.org", 1000, "conflict"),  # 1E
        (SAME, 9, "bert", "bert@example.org", 0, "created"),  # 1F
        (OTHER, 99, "anna", "ANNA@example.org", 0, "same"),  # 2A1 by address
        (OTHER, 99, "anna", "else@example.org", 1000, "same"),  # 2A1 by first access
        (OTHER, 7, "anna", "else@example.org", 2000, "conflict"),  # 2D, whatever the id
        (OTHER, 7, "anna", "else@example.org", 0, "conflict"),  # a first access of 0 says nothing
        (OTHER, 7, "bert", "anna@example.org", 1000, "created"),  # 2E: an address alone is nobody
    ],
)
def test_a_person_is_matched_created_or_in_conflict(
    store: Store, same_site: bool, old: int, username: str, email: str, firstaccess: int, fate: str
) -> None:
    user = user_doc(old, 1, username=username, email=email, firstaccess=firstaccess)
    found = match(store, {old: user}, same_site, may_create=True)
    assert (found.same, [one.get("id") for one in found.created], found.conflicts) == {
        "same": ({old: 7}, [], []),
        "created": ({}, [str(old)], []),
        "conflict": ({}, [], [username]),
    }[fate]


def test_a_deleted_person_is_found_by_the_address_in_his_name(store: Store) -> None:
    user = user_doc(7, 1, username="anna@example.org.1700000000", email="0cc175b9c0f1b6a8", deleted=1)
    assert match(store, {7: user}, SAME, may_create=True).same == {7: 7}


def test_an_anonymous_person_is_matched_by_name_alone(store: Store) -> None:
    names = {"firstname": "anonfirstname1", "lastname": "anonlastname1", "email": "anon1@doesntexist.invalid"}
    with store.transaction():
        store.add_user(user_doc(8, 80, username="anon1", **names))
    assert match(store, {55: user_doc(55, 1, username="anon1", **names)}, SAME, may_create=True).same == {55: 8}


def test_who_may_not_create_people_is_told_their_names(store: Store) -> None:
    found = match(store, {9: user_doc(9, 1, username="bert")}, OTHER, may_create=False)
    assert found.uncreatable == ["bert"]
    assert "bert" in found.words[0]


def test_nobody_acts_under_a_name_nobody_has(store: Store) -> None:
    with pytest.raises(NotFound) as problem:
        actor(store, "nobody")
    assert problem.value.code == "user_unknown"
