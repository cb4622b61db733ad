"""A backup that is left to the site's cron: found again by its number until it is there, and then as any other."""

from __future__ import annotations

import uuid

import pytest

from moodlectl.errors import AccessError, UsageError
from moodlectl.site.port import BackupRequest, ItemChoice
from tests.contract import archives
from tests.contract.worlds import World


def test_a_backup_left_to_cron_is_known_until_it_is_there(world: World) -> None:
    course, numbers = world.course("EMPTY1"), [uuid.uuid4().hex for _ in range(2)]
    left = [
        world.site.queue_backup(BackupRequest(course.id, settings={"users": users}, deed=number))
        for number, users in zip(numbers, (True, False), strict=True)
    ]
    assert [one.area for one in left] == ["course", "private"]
    waiting = [world.site.deed(number) for number in numbers]
    assert world.name == "practice" or [(one.running, one.phase) for one in waiting] == [(True, "queued")] * 2
    assert not any(one.unsettled for one in waiting)
    world.cron()
    for number, one in zip(numbers, left, strict=True):
        deed = world.site.deed(number)
        assert deed.ended
        assert deed.made is not None, deed.error
        file = deed.made.file
        world.stored.append(file)
        assert (file.area, file.filename, file.course_id) == (one.area, one.filename, course.id)
        assert file in world.site.backups(course.id, [one.area]).files
        assert (file.has_users is not False) == (one.area == "course") == deed.made.settings["users"]
        assert archives.manifest(world.download(file, number)).findtext("original_course_shortname") == "EMPTY1"
        world.site.forget_deed(number)
        assert not world.site.deed(number).found


def test_what_was_queued_holds_what_was_chosen(world: World) -> None:
    items, number = world.items(), uuid.uuid4().hex
    skip = frozenset({items["quiz"][1].id})
    request = BackupRequest(
        world.rich.id, {"comments": False, "badges": False}, ItemChoice(skip_activities=skip), deed=number
    )
    world.site.queue_backup(request)
    world.cron()
    deed = world.site.deed(number)
    assert deed.made is not None, deed.error
    world.stored.append(deed.made.file)
    path = world.download(deed.made.file)
    assert (archives.settings(path)["comments"], archives.settings(path)["users"]) == ("0", "1")
    assert skip.isdisjoint(cmid for cmid, _ in archives.activities(path))


def test_what_may_not_be_backed_up_is_not_queued(world: World) -> None:
    with pytest.raises(UsageError):
        world.site.queue_backup(BackupRequest(world.rich.id, {"nosuchsetting": True}, deed=uuid.uuid4().hex))
    number = uuid.uuid4().hex
    with pytest.raises(AccessError):
        world.site.queue_backup(BackupRequest(world.rich.id, as_user="student1", deed=number))
    assert not world.site.deed(number).found
