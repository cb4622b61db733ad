"""What every site does with a backup, whoever does it: new, merge, replace, what is refused, what is left."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from moodlectl.errors import AccessError, NotFound, Refused, UsageError
from moodlectl.site.port import BackupFile, Counts, ItemChoice, Placement, Progress
from tests.contract import archives
from tests.contract.worlds import World, practice_world


def same(one: Counts, other: Counts, *fields: str) -> None:
    """Two counts agree in those fields."""
    assert {name: getattr(one, name) for name in fields} == {name: getattr(other, name) for name in fields}


ALL = ("sections", "activities", "users", "groups", "questions", "files", "file_bytes")


# --- new --------------------------------------------------------------------------------------------------------


def test_a_new_course_holds_what_the_backup_holds(world: World) -> None:
    seen = list[Progress]()
    request = world.request(world.backup(), "new", category_id=world.category)
    done = world.site.restore(request, seen.append)
    world.made.append(done.course.id)
    source = world.site.counts(world.rich.id)
    same(done.after, done.expected, *ALL)
    same(done.after, source, *ALL)
    assert done.after == world.site.counts(done.course.id)
    assert not done.before.activities and not done.before.sections and not done.before.users
    assert (done.users.created, done.users.conflicts) == (0, ())
    assert done.users.matched >= (source.users or 0)  # who made something without being enrolled is in it too
    assert done.precheck.errors == ()
    assert done.course.category_id == world.category
    cms = {one.id for section in world.site.contents(world.rich.id) for one in section.activities}
    mine = {one.id for section in world.site.contents(done.course.id) for one in section.activities}
    assert (set(done.activities), set(done.activities.values())) == (cms, mine)
    assert "restore" in {step.phase for step in seen}


def test_a_name_that_is_taken_gets_moodles_suffix(world: World) -> None:
    done = world.new(world.backup(settings={"users": False, "files": False}))
    assert done.course.fullname.startswith("Biologie végétale 🌱 copy ")
    assert done.course.shortname.startswith("RICH101_")
    assert done.course.idnumber == ""


def test_names_idnumber_date_and_visibility_are_as_asked(world: World) -> None:
    start = world.rich.startdate
    assert start is not None
    done = world.new(
        world.backup(settings={"users": False}),
        fullname="Ökologie & Wald 🌲",
        shortname="WALD-27",
        idnumber="W27",
        startdate=(start + timedelta(days=371, hours=12)).date(),  # noon: midnight there may be another day in UTC
        visible=False,
    )
    course = done.course
    assert (course.fullname, course.shortname, course.idnumber) == ("Ökologie & Wald 🌲", "WALD-27", "W27")
    assert not course.visible
    assert course.startdate is not None
    assert abs(course.startdate - (start + timedelta(days=371))) < timedelta(days=1)


def test_without_people_nobody_is_enrolled_and_no_work_is_there(world: World) -> None:
    done = world.new(world.backup(), settings={"users": False})
    assert (done.after.users, done.after.grades) == (0, 0)
    assert done.users.matched == 0
    same(done.after, world.site.counts(world.rich.id), "sections", "activities", "questions")


def test_methods_can_be_restored_without_people(world: World) -> None:
    done = world.new(world.backup(settings={"users": False}), enrolments="always")
    assert done.after.users == 0
    with pytest.raises(Refused) as problem:
        world.new(world.backup(settings={"users": False}), enrolments="with-users")
    assert problem.value.code == "setting_locked"


def test_everybody_can_be_enrolled_by_hand(world: World) -> None:
    done = world.new(world.backup(), enrolments="manual")
    assert done.after.users == world.site.counts(world.rich.id).users


def test_only_the_chosen_activity_is_restored(world: World) -> None:
    _, quiz = world.items()["quiz"]
    choice = ItemChoice(only_sections=frozenset(), only_activities=frozenset({quiz.id}))
    done = world.new(world.backup(), items=choice)
    assert dict(done.after.activities) == {"quiz": 1}
    assert set(done.activities) == {quiz.id}
    same(done.after, done.expected, "sections", "activities", "questions", "grades", "grade_items")


def test_a_skipped_section_is_not_restored(world: World) -> None:
    section, _ = world.items()["quiz"]
    done = world.new(world.backup(), items=ItemChoice(skip_sections=frozenset({section.id})))
    gone = {one.id for one in section.activities}
    assert not gone & set(done.activities)
    same(done.after, done.expected, "activities")


def test_user_data_can_be_left_out_of_one_activity(world: World) -> None:
    _, forum = world.items()["assign"]
    full = world.new(world.backup())
    lean = world.new(world.backup(), items=ItemChoice(no_userdata_activities=frozenset({forum.id})))
    assert (lean.after.files or 0) < (full.after.files or 0)
    assert lean.after.activities == full.after.activities
    same(lean.after, lean.expected, "activities", "files", "users")


def test_an_item_that_is_not_in_the_backup_is_not_found(world: World) -> None:
    before = world.everything()
    with pytest.raises(NotFound) as problem:
        world.new(world.backup(), items=ItemChoice(only_activities=frozenset({999999})))
    assert problem.value.code == "item_not_found"
    assert world.everything() == before


def test_a_file_restores_as_a_stored_backup_does(world: World) -> None:
    file = world.backup()
    done = world.new(world.download(file))
    same(done.after, world.site.counts(world.rich.id), *ALL)


@pytest.mark.parametrize("name", ["course-4.5-tgz-rich-users.mbz"])
def test_a_real_moodles_backup_is_restored_whole(world: World, name: str) -> None:
    done = world.new(archives.DATA / name, shortname="from-4.5")
    same(done.after, done.expected, "sections", "activities", "groups", "questions", "users", "files", "file_bytes")
    assert done.after.activities["wiki"] == 1
    assert done.after.grades == done.expected.grades == 22
    assert done.users.conflicts == ()


def test_every_site_restores_what_a_practice_site_made(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    with practice_world(tmp_path_factory.mktemp("other")) as other:
        path, source = other.download(other.backup()), other.site.counts(other.rich.id)
    done = world.new(path, shortname="from-practice", users_conflict="without-users", allow=frozenset({"newer-backup"}))
    same(done.after, source, "sections", "activities", "groups", "questions")
    if not done.users.conflicts:
        same(done.after, source, *ALL)
        assert (done.after.grades or 0) >= (source.grades or 0)


# --- plans ------------------------------------------------------------------------------------------------------


def test_a_plan_tells_and_leaves_nothing(world: World) -> None:
    source, target = world.backup(), world.course("EMPTY1")
    before, counts = world.everything(), world.site.counts(target.id)
    new = world.site.restore_plan(world.request(source, "new", category_id=world.category))
    merge = world.site.restore_plan(world.request(source, "merge", course_id=target.id))
    same(new.expected, world.site.counts(world.rich.id), *ALL)
    assert new.target is None and new.target_counts is None
    assert new.shortname.startswith("RICH101_")
    assert new.same_site and not new.dangers
    assert new.users.matched >= (world.site.counts(world.rich.id).users or 0)
    assert merge.target == target
    assert merge.target_counts == counts
    assert (merge.fullname, merge.shortname) == (target.fullname, target.shortname)
    assert {"users", "overwrite_conf", "keep_groups_and_groupings"} <= {one.name for one in merge.settings}
    texts = {"enrolments", "course_fullname", "course_shortname", "course_startdate"}
    for plan in (new, merge):  # what is on or off is said as that, whatever a site keeps it as
        assert {one.name for one in plan.settings if not isinstance(one.value, bool)} <= texts
    assert world.everything() == before
    assert world.site.counts(target.id) == counts


def test_a_plan_names_conflicts_instead_of_stopping_at_them(world: World) -> None:
    path = archives.DATA / "course-4.5-tgz-users.mbz"
    plan = world.site.restore_plan(world.request(path, "new", category_id=world.category))
    assert plan.users.conflicts == ("admin",)
    assert any("admin" in words and "conflict" in words for words in plan.precheck.errors)
    assert not plan.same_site


# --- merge and replace ------------------------------------------------------------------------------------------


def _target(world: World) -> int:
    """A course of the test's own, a copy of EMPTY1."""
    return world.new(world.backup(world.course("EMPTY1").id)).course.id


def test_a_merge_adds_and_changes_nothing_else(world: World) -> None:
    target = _target(world)
    world.restore(world.backup(), "merge", course_id=target)
    before = world.site.counts(target)
    _, page = world.items()["page"]
    choice = ItemChoice(only_sections=frozenset(), only_activities=frozenset({page.id}))
    done = world.restore(world.backup(), "merge", course_id=target, items=choice)
    assert done.before == before
    modules = set(before.activities) | set(done.expected.activities)
    assert dict(done.after.activities) == {
        name: before.activities.get(name, 0) + done.expected.activities.get(name, 0) for name in modules
    }
    same(done.after, before, "users", "groups", "questions", "grades")
    assert done.course.shortname.startswith("EMPTY1")


def test_a_merge_into_an_empty_course_brings_everything_but_the_name(world: World) -> None:
    done = world.restore(world.backup(), "merge", course_id=_target(world))
    same(done.after, world.site.counts(world.rich.id), "activities", "users", "groups", "questions", "grades")
    assert done.course.fullname.startswith("An empty course")


def test_a_merge_takes_names_and_date_that_are_asked_for(world: World) -> None:
    file = world.backup(settings={"users": False, "files": False})
    done = world.restore(
        file, "merge", course_id=_target(world), fullname="Renamed", startdate=date(2027, 3, 1), visible=False
    )
    assert done.course.fullname == "Renamed"
    assert not done.course.visible
    assert done.course.startdate is not None
    assert abs(done.course.startdate - datetime(2027, 3, 1, tzinfo=UTC)) < timedelta(days=1)


def test_a_replace_leaves_only_what_the_backup_holds(world: World) -> None:
    target = _target(world)
    world.restore(world.backup(), "merge", course_id=target)
    stored = world.backup(target, settings={"users": True})
    assert stored in world.site.backups(target, ["course"]).files
    done = world.restore(world.backup(), "replace", course_id=target)
    same(done.after, world.site.counts(world.rich.id), *ALL[:5])
    assert sum(done.before.activities.values()) == sum(done.after.activities.values())
    assert done.course.id == target
    kept = world.site.backups(target, ["course"]).files
    assert [(f.filename, f.sha1, f.timecreated) for f in kept] == [(stored.filename, stored.sha1, stored.timecreated)]
    world.restore(world.backup(), "replace", course_id=target, drop_backups=True)
    assert world.site.backups(target, ["course"]).files == ()


def test_a_replace_can_keep_people_and_groups(world: World) -> None:
    target = _target(world)
    full = world.restore(world.backup(), "merge", course_id=target)
    empty = world.backup(world.course("EMPTY1").id)
    kept = world.restore(empty, "replace", course_id=target, keep_enrolments=True, keep_groups=True)
    assert (kept.after.users, kept.after.groups) == (full.after.users, full.after.groups)
    assert dict(kept.after.activities) == {}
    gone = world.restore(empty, "replace", course_id=target)
    assert (gone.after.users, gone.after.groups) == (0, 0)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field, value", [("shortname", "RICH101"), ("idnumber", "X9")])
def test_a_name_that_belongs_to_another_course_is_refused(world: World, field: str, value: str) -> None:
    before = world.everything()
    with pytest.raises(Refused) as problem:
        world.new(world.backup(world.course("EMPTY1").id), **{field: value})
    assert problem.value.code == f"{field}_taken"
    assert world.everything() == before


def test_a_category_or_course_that_is_not_there_is_not_found(world: World) -> None:
    file = world.backup(world.course("EMPTY1").id)
    with pytest.raises(NotFound) as problem:
        world.new(file, category_id=999999)
    assert problem.value.code == "category_not_found"
    with pytest.raises(NotFound) as problem:
        world.restore(file, "merge", course_id=999999)
    assert problem.value.code == "course_not_found"


def test_an_unknown_setting_of_a_restore_is_an_error(world: World) -> None:
    with pytest.raises(UsageError) as problem:
        world.new(world.backup(world.course("EMPTY1").id), settings={"nosuchsetting": True})
    assert problem.value.code == "unknown_setting"


def test_what_the_backup_was_made_without_cannot_be_asked_for(world: World) -> None:
    before = world.everything()
    with pytest.raises(Refused) as problem:
        world.new(world.backup(settings={"users": False}), settings={"users": True})
    assert problem.value.code == "setting_locked"
    assert world.everything() == before


def test_keeping_groups_means_nothing_in_a_merge_and_is_refused(world: World) -> None:
    target = world.course("EMPTY1")
    with pytest.raises(Refused) as problem:
        world.restore(world.backup(target.id), "merge", course_id=target.id, keep_groups=True)
    assert problem.value.code == "setting_locked"


def test_people_in_conflict_stop_a_restore_or_stay_out_of_it(world: World) -> None:
    path, before = archives.DATA / "course-4.5-tgz-users.mbz", world.everything()
    with pytest.raises(Refused) as problem:
        world.new(path)
    assert problem.value.code == "user_conflict"
    assert "admin" in problem.value.message
    assert world.everything() == before
    done = world.new(path, users_conflict="without-users")
    assert done.users.conflicts == ("admin",)
    assert done.after.users == 0
    assert any("admin" in words for words in done.warnings)


def test_garbage_is_no_backup(world: World) -> None:
    before = world.everything()
    path = world.tmp / "error.mbz"
    path.write_text('{"error":"Invalid token","errorcode":"invalidtoken"}' * 50)
    with pytest.raises(Refused) as problem:
        world.new(path)
    assert problem.value.code == "not_a_backup"
    assert world.everything() == before


@pytest.mark.parametrize("name", ["truncated-tgz.mbz", "truncated-zip.mbz"])
def test_a_truncated_file_is_refused_for_what_it_is(world: World, name: str) -> None:
    before = world.everything()
    with pytest.raises(Refused) as problem:
        world.new(archives.DATA / name)
    assert problem.value.code == "truncated"
    assert world.everything() == before


def _refused_and_allowed(world: World, path: Path, danger: str, **request: Any) -> Counts:
    """The danger is refused by its name, told by a plan, and accepted when it is allowed."""
    before = world.everything()
    with pytest.raises(Refused) as problem:
        world.new(path, **request)
    assert problem.value.code == danger
    assert danger in (problem.value.hint or "") + problem.value.message
    assert world.everything() == before
    assert danger in world.site.restore_plan(world.request(path, "new", category_id=world.category)).dangers
    return world.new(path, allow=frozenset({danger}), **request).after


def test_a_backup_from_a_newer_moodle_must_be_allowed(world: World) -> None:
    path = archives.newer(world.download(world.backup()), world.tmp / "newer.mbz")
    after = _refused_and_allowed(world, path, "newer-backup")
    assert after.activities == world.site.counts(world.rich.id).activities


def test_missing_plugins_are_named_and_must_be_allowed(world: World) -> None:
    path = archives.with_unknown_module(world.download(world.backup()), world.tmp / "hotpot.mbz")
    plan = world.site.restore_plan(world.request(path, "new", category_id=world.category))
    assert plan.precheck.missing_plugins == ("mod_hotpot",)
    after = _refused_and_allowed(world, path, "missing-plugins")
    assert "choice" not in after.activities
    assert "hotpot" not in after.activities


def test_a_backup_without_the_files_it_needs_must_be_allowed(world: World) -> None:
    path = archives.DATA / "course-4.1-tgz-without-files.mbz"  # it has an admin of its own, too
    after = _refused_and_allowed(world, path, "without-files", users_conflict="without-users")
    assert after.activities["page"] == 50


def test_a_teacher_may_not_make_courses(world: World) -> None:
    file, before = world.download(world.backup(world.course("EMPTY1").id)), world.everything()
    with pytest.raises(AccessError) as problem:
        world.new(file, as_user="teacher1")
    assert problem.value.code == "no_capability"
    assert world.everything() == before


def test_a_user_nobody_knows_is_not_found(world: World) -> None:
    with pytest.raises(NotFound) as problem:
        world.new(world.backup(world.course("EMPTY1").id), as_user="nobody99")
    assert problem.value.code == "user_unknown"


# --- where merged items land ------------------------------------------------------------------------------------


def _copy_and_choice(world: World, module: str) -> tuple[int, BackupFile, ItemChoice, str]:
    """A copy of RICH101, a backup of it, the choice of one activity in it, and that activity's name."""
    copy = world.new(world.backup()).course.id
    file = world.backup(copy)
    section, activity = next(
        (s, a) for s in world.site.contents(copy) for a in s.activities if a.module == module and not s.parent_activity
    )
    items = ItemChoice(only_sections=frozenset({section.id}), only_activities=frozenset({activity.id}))
    return copy, file, items, activity.name


def _page(world: World, course: int) -> list[tuple[str, list[str]]]:
    return [
        (one.name, [two.name for two in one.activities])
        for one in world.site.contents(course)
        if one.parent_activity is None
    ]


def test_a_merged_activity_lands_in_the_section_that_was_named(world: World) -> None:
    copy, file, items, name = _copy_and_choice(world, "assign")
    before = _page(world, copy)
    target = [one for one in world.site.contents(copy) if one.parent_activity is None][2]
    done = world.restore(file, "merge", course_id=copy, items=items, placement=Placement("into", target.id))
    after = _page(world, copy)
    assert len(after) == len(before), "the section it came with is gone again"
    assert after[2][1] == [*before[2][1], name]
    assert [one for i, one in enumerate(after) if i != 2] == [one for i, one in enumerate(before) if i != 2]
    assert set(done.sections.values()) == {target.id}
    (new,) = done.activities.values()
    assert [one.id for one in world.site.contents(copy)[2].activities][-1] == new


def test_a_merged_section_lands_after_the_one_that_was_named(world: World) -> None:
    copy, file, _, _ = _copy_and_choice(world, "assign")
    before = _page(world, copy)
    sections = [one for one in world.site.contents(copy) if one.parent_activity is None]
    chosen = next(one for one in sections[1:] if one.activities and not any(a.subsection_id for a in one.activities))
    items = ItemChoice(only_sections=frozenset({chosen.id}))
    done = world.restore(file, "merge", course_id=copy, items=items, placement=Placement("after", sections[0].id))
    after = _page(world, copy)
    assert after == [before[0], (chosen.name, [one.name for one in chosen.activities]), *before[1:]]
    assert done.sections == {chosen.id: world.site.contents(copy)[1].id}


def test_a_section_that_the_course_has_not_is_no_place(world: World) -> None:
    copy, file, items, _ = _copy_and_choice(world, "page")
    elsewhere = world.site.contents(world.rich.id)[1].id
    before = world.site.contents(copy)
    with pytest.raises(NotFound) as problem:
        world.restore(file, "merge", course_id=copy, items=items, placement=Placement("into", elsewhere))
    assert problem.value.code == "section_not_found"
    assert world.site.contents(copy) == before


def test_items_come_back_with_peoples_work_and_leave_the_course_itself_alone(world: World) -> None:
    copy, file, items, _ = _copy_and_choice(world, "assign")
    before = world.site.counts(copy)
    wishes = frozenset({"users", "grade_histories", "userscompletion"})
    done = world.restore(file, "merge", course_id=copy, items=items, items_only=True, wishes=wishes)
    same(done.after, before, "users", "groups", "questions")
    assert (done.after.grades or 0) > (before.grades or 0)
    assert done.after.activities == {**before.activities, "assign": before.activities["assign"] + 1}
    assert done.settings["users"] and done.settings["userscompletion"]
