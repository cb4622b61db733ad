"""A course's place on its site: the same words from the practice site and from real ones."""

from __future__ import annotations

import uuid
from datetime import date

import pytest

from moodlectl.errors import NotFound, Refused
from moodlectl.site.port import Arrangement, Course
from tests.contract.worlds import World


@pytest.fixture
def course(world: World) -> Course:
    """RICH101 with its people in a course of this test's own."""
    return world.new(world.backup(), shortname=f"ARR-{uuid.uuid4().hex[:8]}", enrolments="always").course


def test_what_a_course_was_made_from_is_known(world: World, course: Course) -> None:
    facts = world.site.course_facts(course.id)
    assert facts.original_course_id in (world.rich.id, None)
    assert facts.course.shortname == course.shortname
    assert world.site.course_facts(world.rich.id).original_course_id is None


def test_who_is_enrolled_is_told_with_roles_and_methods(world: World, course: Course) -> None:
    for one in (world.rich, course):
        people = {person.username: person for person in world.site.course_facts(one.id).people}
        assert people["teacher1"].roles == ("editingteacher",)
        assert "manual" in people["teacher1"].methods
        assert people["teacher1"].active
        assert people["student1"].roles == ("student",)
        assert people["student1"].email
        assert not people["student1"].deleted


def test_a_course_is_named_moved_hidden_and_dated(world: World, course: Course) -> None:
    wanted = Arrangement(
        fullname="Neu — »Pflanzen«",
        shortname=course.shortname + "-x",
        idnumber=course.shortname,
        visible=False,
        startdate=date(2027, 9, 1),
        enddate=date(2028, 6, 30),
    )
    done = world.site.arrange(course.id, wanted)
    assert (done.fullname, done.shortname, done.idnumber) == (wanted.fullname, wanted.shortname, wanted.idnumber)
    assert done.id == course.id
    assert not done.visible
    facts = world.site.course_facts(course.id)
    assert (facts.startday, facts.endday) == (wanted.startdate, wanted.enddate)
    assert world.site.arrange(course.id, wanted) == done
    assert world.site.arrange(course.id, Arrangement()) == done


def test_a_name_that_is_taken_is_refused_and_nothing_changes(world: World, course: Course) -> None:
    before = world.site.course_facts(course.id)
    with pytest.raises(Refused) as refused:
        world.site.arrange(course.id, Arrangement(fullname="Not this", shortname="RICH101"))
    assert refused.value.code == "shortname_taken"
    with pytest.raises(Refused) as refused:
        world.site.arrange(course.id, Arrangement(fullname="Not this", idnumber="X9"))
    assert refused.value.code == "idnumber_taken"
    assert world.site.course_facts(course.id) == before


def test_a_course_does_not_end_before_it_starts(world: World, course: Course) -> None:
    with pytest.raises(Refused) as refused:
        world.site.arrange(course.id, Arrangement(startdate=date(2027, 9, 1), enddate=date(2027, 8, 1)))
    assert refused.value.code == "bad_dates"


def test_people_are_enrolled_by_hand_with_roles_once(world: World, course: Course) -> None:
    wanted = Arrangement(people=(("manager1", ("editingteacher", "teacher")), ("student1", ("teacher",))))
    world.site.arrange(course.id, wanted)
    facts = world.site.course_facts(course.id)
    people = {person.username: person for person in facts.people}
    assert set(people["manager1"].roles) == {"editingteacher", "teacher"}
    assert people["manager1"].methods == ("manual",)
    assert set(people["student1"].roles) == {"student", "teacher"}
    world.site.arrange(course.id, wanted)
    assert world.site.course_facts(course.id) == facts


def test_an_unknown_role_or_person_is_refused(world: World, course: Course) -> None:
    before = world.site.course_facts(course.id)
    with pytest.raises(Refused) as refused:
        world.site.arrange(course.id, Arrangement(fullname="No", people=(("manager1", ("emperor",)),)))
    assert refused.value.code == "role_unknown"
    with pytest.raises(Refused) as refused:
        world.site.arrange(course.id, Arrangement(people=(("nobody-at-all", ("student",)),)))
    assert refused.value.code == "user_unknown"
    assert world.site.course_facts(course.id) == before


def test_all_enrolments_are_suspended_and_nobody_leaves(world: World, course: Course) -> None:
    before = world.site.course_facts(course.id)
    world.site.arrange(course.id, Arrangement(enrolments="suspended"))
    after = world.site.course_facts(course.id)
    assert [one.username for one in after.people] == [one.username for one in before.people]
    assert [one.roles for one in after.people] == [one.roles for one in before.people]
    assert not any(one.active for one in after.people)
    assert all(method.method == "manual" or not method.active for method in after.methods)
    assert world.site.counts(course.id).users == len(before.people)


def test_enrolments_become_manual_and_nobody_leaves(world: World, course: Course) -> None:
    before = world.site.course_facts(course.id)
    world.site.arrange(course.id, Arrangement(enrolments="manual"))
    after = world.site.course_facts(course.id)
    assert [(one.username, one.roles, one.active) for one in after.people] == [
        (one.username, one.roles, one.active) for one in before.people
    ]
    assert all("manual" in one.methods for one in after.people)
    assert all(method.method == "manual" or not method.active for method in after.methods)


def test_a_category_is_made_with_those_above_it_once(world: World, course: Course) -> None:
    name, number = f"Jahr {uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:8]
    top = next(one for one in world.site.categories() if one.id == world.category)
    path = (*top.path, name, "Biologie & mehr")
    made = world.site.make_category(path, idnumber=number)
    assert (made.path, made.idnumber, made.visible) == (path, number, True)
    assert world.site.make_category(path, idnumber=number) == made
    assert world.site.make_category(path) == made
    above = world.site.make_category(path[:-1])
    assert above.id == made.parent
    assert world.site.make_category((*path, "hidden"), visible=False).visible is False
    with pytest.raises(Refused):
        world.site.make_category(path, idnumber=number + "x")
    moved = world.site.arrange(course.id, Arrangement(category_id=made.id))
    assert moved.category_id == made.id
    assert world.site.arrange(course.id, Arrangement(category_id=world.category)).category_id == world.category


def test_an_unknown_category_or_course_is_not_found(world: World, course: Course) -> None:
    with pytest.raises(NotFound):
        world.site.arrange(course.id, Arrangement(category_id=99_999_999))
    with pytest.raises(NotFound):
        world.site.arrange(99_999_999, Arrangement(visible=True))


def test_the_enrolment_plugins_are_told(world: World) -> None:
    methods = world.site.enrolment_methods()
    assert methods["manual"] is True
    assert {"self", "guest", "cohort", "meta"} <= set(methods)


def test_the_activity_modules_are_told(world: World) -> None:
    modules = world.site.modules()
    assert modules["forum"] is True
    assert {"assign", "page", "quiz", "resource"} <= set(modules)
    assert "nothing" not in modules
