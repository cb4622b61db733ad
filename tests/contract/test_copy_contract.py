"""What every site does with a course that is copied, or imported into another: no backup of it is kept anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from moodlectl.actions.webwatch import things_in
from moodlectl.errors import AccessError, NotFound, Refused, UsageError
from moodlectl.site.port import (
    WEB_COPY,
    CourseRef,
    CourseSource,
    ItemChoice,
    Restored,
    RestoreRequest,
    RestoreSource,
    WebCopy,
)
from tests.contract.test_restore_contract import same
from tests.contract.worlds import World

NO_PEOPLE = {"users": False}


def source(world: World, rules: str = "copy", **more: Any) -> RestoreSource:
    """RICH101 as a source."""
    return RestoreSource(course=CourseSource(world.rich.id, rules, **more))  # type: ignore[arg-type]


def copied(world: World, settings: dict[str, bool], **request: Any) -> Restored:
    """A copy of RICH101, remembered so that it goes away again."""
    where = source(world, settings=settings)
    done = world.site.restore(RestoreRequest(where, "new", category_id=world.category, settings=settings, **request))
    world.made.append(done.course.id)
    return done


def test_a_copy_with_people_holds_all_that_the_course_holds(world: World) -> None:
    stored = world.site.backups(world.rich.id)
    done = copied(world, {"users": True}, shortname="COPY-1", fullname="Kopie „eins“")
    fields = ("sections", "activities", "users", "groups", "questions", "files", "file_bytes")
    same(done.after, done.expected, *fields, "grades", "grade_items")
    same(done.after, world.site.counts(world.rich.id), *fields)
    assert (done.course.shortname, done.course.fullname) == ("COPY-1", "Kopie „eins“")
    assert world.site.backups(world.rich.id) == stored
    assert not world.site.backups(done.course.id, ["course", "automated"]).files


def test_a_copy_without_people_has_the_contents_alone(world: World) -> None:
    done = copied(world, NO_PEOPLE, shortname="COPY-2", visible=False)
    assert (done.after.users, done.after.grades, done.users.matched) == (0, 0, 0)
    same(done.after, world.site.counts(world.rich.id), "sections", "activities", "questions")
    assert not done.course.visible


def test_a_copy_moves_its_dates_to_its_start(world: World) -> None:
    start = world.rich.startdate
    assert start is not None
    done = copied(world, NO_PEOPLE, shortname="COPY-3", startdate=(start + timedelta(days=371, hours=12)).date())
    assert done.course.startdate is not None
    assert abs(done.course.startdate - (start + timedelta(days=371))) < timedelta(days=1)


def test_a_part_can_be_copied(world: World) -> None:
    _, quiz = world.items()["quiz"]
    only = ItemChoice(only_sections=frozenset(), only_activities=frozenset({quiz.id}))
    where = RestoreSource(course=CourseSource(world.rich.id, "copy", NO_PEOPLE, only))
    done = world.site.restore(RestoreRequest(where, "new", category_id=world.category, settings=NO_PEOPLE))
    world.made.append(done.course.id)
    assert dict(done.after.activities) == {"quiz": 1}


def test_planning_a_copy_leaves_nothing(world: World) -> None:
    before, stored = world.everything(), world.site.backups(world.rich.id)
    plan = world.site.restore_plan(
        RestoreRequest(source(world, settings=NO_PEOPLE), "new", category_id=world.category, settings=NO_PEOPLE)
    )
    assert plan.expected.activities == world.site.counts(world.rich.id).activities
    assert plan.same_site and plan.dangers == () and plan.precheck.errors == ()
    assert (world.everything(), world.site.backups(world.rich.id)) == (before, stored)


def test_a_short_name_that_is_taken_is_refused_before_anything_is_made(world: World) -> None:
    before = world.everything()
    with pytest.raises(Refused) as problem:
        copied(world, NO_PEOPLE, shortname="EMPTY1")
    assert problem.value.code == "shortname_taken"
    assert world.everything() == before


def test_an_import_adds_the_contents_and_never_people(world: World) -> None:
    target = world.restore(world.backup(world.course("EMPTY1").id), "new", category_id=world.category).course
    held = world.site.counts(target.id)
    done = world.site.restore(RestoreRequest(source(world, "import"), "merge", course_id=target.id))
    assert done.course.shortname == target.shortname
    rich = world.site.counts(world.rich.id)
    for module, number in rich.activities.items():
        assert done.after.activities[module] == number + held.activities.get(module, 0)
    assert (done.after.users, done.after.grades) == (held.users, held.grades)
    assert world.site.counts(target.id) == done.after


def test_an_import_can_take_the_place_of_what_was_there_and_leaves_people(world: World) -> None:
    target = world.restore(world.backup(), "new", category_id=world.category).course
    held = world.site.counts(target.id)
    request = RestoreRequest(
        source(world, "import"), "replace", course_id=target.id, keep_enrolments=True, keep_groups=True
    )
    done = world.site.restore(request)
    assert dict(done.after.activities) == dict(world.site.counts(world.rich.id).activities)
    assert (done.after.users, done.after.groups) == (held.users, held.groups)
    assert done.after.grades == 0
    same(done.after, done.expected, "sections", "activities", "users", "groups")


def test_a_course_is_not_imported_into_itself(world: World) -> None:
    with pytest.raises(UsageError) as problem:
        world.site.restore(RestoreRequest(source(world, "import"), "merge", course_id=world.rich.id))
    assert problem.value.code == "same_course"


def test_a_course_that_is_not_there_is_not_found(world: World) -> None:
    where = RestoreSource(course=CourseSource(99999999, "copy"))
    with pytest.raises(NotFound):
        world.site.restore(RestoreRequest(where, "new", category_id=world.category))


def test_a_teacher_may_import_from_his_course_and_is_told_what_he_may_not(world: World) -> None:
    empty = world.course("EMPTY1").id
    with pytest.raises(AccessError) as problem:
        world.site.restore(
            RestoreRequest(source(world, "import"), "merge", course_id=empty, as_user="teacher1")
        )
    assert problem.value.details["capability"] == "moodle/restore:restoretargetimport"
    with pytest.raises(AccessError) as problem:
        where = source(world, settings=NO_PEOPLE)
        world.site.restore(
            RestoreRequest(where, "new", category_id=world.category, settings=NO_PEOPLE, as_user="teacher1")
        )
    assert problem.value.details["capability"] == "moodle/course:create"


# --- inside one web request ------------------------------------------------------------------------------------------


def test_a_course_is_copied_inside_one_web_request(world: World) -> None:
    wanted = WebCopy(world.rich.id, world.category, "Kopie über das Netz", "WEB-1", False, WEB_COPY)
    course_id = world.site.web_copy(wanted)
    world.made.append(course_id)
    course = world.site.course(CourseRef("id", str(course_id)))
    assert (course.shortname, course.fullname, course.visible) == ("WEB-1", "Kopie über das Netz", False)
    assert things_in(world.site.contents(course_id)) == things_in(world.site.contents(world.rich.id))
    assert world.site.counts(course_id).users == 0
    with pytest.raises(Refused) as problem:
        world.site.web_copy(wanted)
    assert problem.value.code == "shortnametaken"


def test_an_unfinished_course_can_be_deleted(world: World) -> None:
    wanted = WebCopy(world.course("EMPTY1").id, world.category, "Weg", "WEB-2", True, WEB_COPY)
    course_id = world.site.web_copy(wanted)
    world.site.delete_course(course_id)
    with pytest.raises(NotFound):
        world.site.course(CourseRef("id", str(course_id)))


def test_moodles_own_records_are_empty_for_a_course_nobody_backs_up(world: World) -> None:
    assert not world.site.controllers([99999999], datetime.now(UTC))
