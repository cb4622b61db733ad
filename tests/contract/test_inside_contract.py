"""What every site answers about its stored backups and about the people of any backup."""

from __future__ import annotations

from moodlectl import mbz
from moodlectl.mbz import UserRecord
from moodlectl.site.port import UsersQuestion
from tests.contract.worlds import World

AWAY = UsersQuestion("https://elsewhere.example.org", "0" * 32)


def test_a_stored_backup_is_read_where_it_lies_as_if_it_were_here(world: World) -> None:
    file = world.backup()
    inside = world.site.inside(file)
    assert inside is not None
    assert (inside.name, inside.size) == (file.filename, file.size)
    path = world.download(file, file.filename)
    assert mbz.inspect(inside) == mbz.inspect(path)
    assert mbz.read_people(inside) == mbz.read_people(path)


def test_the_people_of_a_sites_own_backup_are_the_people_of_the_site(world: World) -> None:
    origin, people = mbz.read_people(world.download(world.backup()))
    told = world.site.users_against(people, UsersQuestion(origin.url, origin.identifier_hash))
    assert told.same_site
    assert told.source == "site"
    assert [(fate.outcome, fate.rule) for fate in told.fates] == [("match", "1A")] * len(people)
    assert [fate.account_id for fate in told.fates] == [one.id for one in people]


def test_each_stranger_meets_the_fate_that_moodles_rules_give_them(world: World) -> None:
    _, people = mbz.read_people(world.download(world.backup()))
    known = next(one for one in people if one.email)
    strangers = [
        UserRecord(901, known.username, known.email.upper()),
        UserRecord(902, known.username, "somebody.else@example.org"),
        UserRecord(903, "nobody.here.is.called.that", "new@example.org"),
    ]
    told = world.site.users_against(strangers, AWAY)
    assert not told.same_site
    assert [fate.outcome for fate in told.fates] == ["match", "conflict", "create"]
    assert [fate.rule for fate in told.fates] == ["2A1", "2D", "2E"]
    assert [fate.account_id for fate in told.fates] == [known.id, known.id, None]


def test_who_may_not_create_people_is_told_so(world: World) -> None:
    question = UsersQuestion(AWAY.url, AWAY.identifier_hash, course_id=world.rich.id, as_user="teacher1")
    told = world.site.users_against([UserRecord(1, "nobody.here.is.called.that", "n@example.org")], question)
    assert [fate.outcome for fate in told.fates] == ["cannot_create"]
