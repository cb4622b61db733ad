"""Rollovers and migrations, whole, on practice sites: what they make, and that nothing is ever made twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moodlectl import ledger, ledger_batch
from moodlectl.actions import engine, migrate, moves, previews, rollover
from moodlectl.actions.catalogue import Catalogue
from moodlectl.actions.planning import Resolution
from moodlectl.actions.steps import Recipe, Step, Work
from moodlectl.errors import Failed, OutcomeUnknown, Refused, UsageError
from moodlectl.ledger_batch import Reader
from moodlectl.plans import Plan, read_plan, refuse
from moodlectl.site.port import Arrangement, CourseFacts, CourseRef, Deed
from moodlectl.site.practice import PracticeSite

TODAY = date(2026, 11, 25)


@dataclass
class Bench:
    """Two practice sites, a plan, and the ledger in a folder of its own."""

    tmp: Path
    plan: Path
    jobs: list[int] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self, name: str) -> PracticeSite:
        return PracticeSite(self.tmp / name, name)

    def read(self, text: str, kind: str) -> Plan:
        self.plan.write_text(text, encoding="utf-8")
        return read_plan(self.plan, kind)  # type: ignore[arg-type]

    def look(self, text: str, kind: str = "rollover", today: date = TODAY) -> Resolution:
        site, other = self.open("a"), self.open("b")
        try:
            read = self.read(text, kind)
            if kind == "rollover":
                return rollover.plan(read, site, today)
            return migrate.plan(read, site, other, today)
        finally:
            site.close()
            other.close()

    def run(self, text: str, kind: str = "rollover", today: date = TODAY) -> dict[str, str]:
        """Carry a plan out; the state of each course, or ``there`` where nothing was to be done at all."""
        found = self.look(text, kind, today)
        assert found.problems == ()
        if not found.todo:
            return {one.shortname: "there" for one in found.courses}
        recipe = self.recipe(kind)
        options = {"site": "a", "from": "a", "to": "b"}
        job = engine.begin(recipe, [one.planned() for one in found.courses], options, key=f"{kind} {len(self.jobs)}")
        self.jobs.append(job)
        engine.run(job, recipe, engine.Terms(2), engine.Around(self.open))
        return self.ended(job)

    def recipe(self, kind: str) -> Recipe:
        options = {"site": "a", "from": "a", "to": "b"}
        return rollover.Rollover(options) if kind == "rollover" else migrate.Migrate(options)

    def ended(self, job: int) -> dict[str, str]:
        reader = Reader(job)
        try:
            items = list(reader.items())
            self.facts = {item.course: {**item.facts, "message": item.message} for item in items}
            return {item.course: item.state for item in items}
        finally:
            reader.close()

    def names(self, site: str = "a") -> list[str]:
        opened = self.open(site)
        try:
            return sorted(course.shortname for course in opened.courses())
        finally:
            opened.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    yield Bench(tmp_path, tmp_path / "plan.toml")


ROLL = """
[defaults]
shift_weeks = 52
category_path = "{year} / {source.category}"
create_categories = true
keep_roles = ["editingteacher"]
hidden_until = 2027-09-01
[[course]]
select = {category = "Science"}
shortname = "{source.shortname}-{yy}"
fullname = "{source.fullname} {year}"
[course.old]
visible = false
enrolments = "suspended"
fullname = "{source.fullname} (old)"
"""


def test_a_rollover_does_what_the_plan_says_and_nothing_the_second_time(bench: Bench) -> None:
    done = bench.run(ROLL)
    assert done == dict.fromkeys(
        ["HIDDEN1-27", "GEO200-27", "EMPTY1-27", "RICH101-27"], "done"
    )
    site = bench.open("a")
    new, old = (site.course(CourseRef("shortname", name)) for name in ("RICH101-27", "RICH101"))
    facts = site.course_facts(new.id)
    assert (new.fullname, new.visible, facts.startday) == ("Biologie végétale 🌱 2027", False, date(2027, 8, 31))
    assert {person.username: person.roles for person in facts.people} == {
        "teacher1": ("editingteacher",), "assistant1": ("editingteacher",),
    }  # fmt: skip
    assert (old.fullname, old.visible) == ("Biologie végétale 🌱 (old)", False)
    assert not any(person.active for person in site.course_facts(old.id).people)
    category = next(one for one in site.categories() if one.id == new.category_id)
    assert category.path == ("2027", "Biology")
    assert all("-nu" not in file.filename for file in site.backups(old.id).files)
    site.close()
    names = bench.names()
    assert set(bench.run(ROLL).values()) == {"there"}
    assert bench.names() == names


def test_the_site_tells_what_is_done_where_the_ledger_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(ROLL)
    names = bench.names()
    monkeypatch.setenv("MOODLECTL_STATE", str(bench.tmp / "other-state"))
    assert set(bench.run(ROLL).values()) == {"there"}
    assert bench.names() == names


def test_a_course_that_was_hidden_is_shown_on_its_day_once(bench: Bench) -> None:
    bench.run(ROLL)
    assert set(bench.run(ROLL, today=date(2027, 8, 31)).values()) == {"there"}
    shown = bench.run(ROLL, today=date(2027, 9, 1))
    assert set(shown.values()) == {"done"}
    site = bench.open("a")
    course = site.course(CourseRef("shortname", "RICH101-27"))
    assert course.visible
    site.arrange(course.id, Arrangement(visible=False))
    site.close()
    assert bench.run(ROLL, today=date(2027, 9, 2))["RICH101-27"] == "there"


SAME = """
[[course]]
templatecourse = "RICH101"
shortname = "RICH101"
idnumber = "RICH-2026"
startdate = 2027-09-01
[course.old]
shortname = "RICH101-old"
idnumber = "-"
"""


ARCHIVE = """
[[course]]
select = {category = "Science", visible = true}
category_path = "{year} / {source.category}"
create_categories = true
year = 2027
hidden_until = 2027-09-01
shortname = "{source.shortname}-{yy}"
[course.old]
shortname = "{source.shortname}-old"
category_path = "Archive"
visible = false
"""


def test_a_course_that_the_first_run_has_archived_is_still_meant_by_the_selection(bench: Bench) -> None:
    """Else nothing would ever show the new course on its day."""
    done = bench.run(ARCHIVE)
    assert {*done.values()} == {"done"}
    assert bench.run(ARCHIVE) == dict.fromkeys(done, "there")
    again = bench.look(ARCHIVE)
    assert again.notes == ()
    assert {one.where for one in again.courses} == {"2027 / Science", "2027 / Biology"}
    shown = bench.run(ARCHIVE, today=date(2027, 9, 1))
    assert shown == done
    site = bench.open("a")
    assert all(site.course(CourseRef("shortname", name)).visible for name in done)
    site.close()
    assert bench.run(ARCHIVE, today=date(2027, 9, 2)) == dict.fromkeys(done, "there")


def test_an_archived_course_is_not_rolled_over_once_more_under_another_name(bench: Bench) -> None:
    bench.run(ARCHIVE)
    names = bench.names()
    found = bench.look(ARCHIVE.replace("-{yy}", "-again"))
    assert (found.todo, found.problems) == ((), ())
    assert bench.names() == names


def test_the_new_course_may_take_the_names_of_the_old_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.run(SAME)["RICH101"] == "done"
    site = bench.open("a")
    new, old = (site.course(CourseRef("shortname", name)) for name in ("RICH101", "RICH101-old"))
    assert (new.idnumber, old.idnumber) == ("RICH-2026", "")
    assert site.course_facts(new.id).original_course_id == old.id
    site.close()
    assert bench.run(SAME) == {"RICH101": "there"}
    monkeypatch.setenv("MOODLECTL_STATE", str(bench.tmp / "other-state"))
    assert bench.run(SAME) == {"RICH101": "there"}


def test_courses_renamed_by_the_first_run_are_not_rolled_over_again(bench: Bench) -> None:
    plan = """
[[course]]
select = {category = "Science"}
shortname = "{source.shortname}-27"
[course.old]
shortname = "{source.shortname}-was"
"""
    bench.run(plan)
    names = bench.names()
    assert set(bench.run(plan).values()) == {"there"}
    assert bench.names() == names
    single = '[[course]]\ntemplatecourse = "FR-B1"\nshortname = "FR-27"\n[course.old]\nshortname = "FR-26"\n'
    assert bench.run(single)["FR-27"] == "done"
    assert bench.run(single) == {"FR-27": "there"}


PROBLEMS = [
    ('[[course]]\ntemplatecourse = "NONE"\nshortname = "X"\n', 2, "templatecourse", "no course"),
    ('[[course]]\ntemplatecourse = "RICH10"\nshortname = "X"\n', 2, "templatecourse", "no course"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "FR-B1"\n', 3, "shortname", "belongs to another course"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "RICH101"\n', 3, "shortname", "the old course itself"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nidnumber = "X9"\n', 4, "idnumber", "another course"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nidnumber = "RICH-2026"\n', 4, "idnumber", "old course"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\ncategory = "Nowhere"\n', 4, "category", "no category"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\ncategory_idnumber = "NO"\n', 4, "category_idnumber", "no category"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nwith = ["user"]\n', 4, "with", "no setting 'user'"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nwith = ["logs"]\n', 4, "with", "locked"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nallow = ["everything"]\n', 4, "allow", "no danger"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nkeep_roles = ["boss"]\n', 4, "keep_roles", "a role 'boss'"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nmode = "replace"\n', 3, "shortname", "no course 'X'"),
    ('[[course]]\nselect = {category = "Nowhere"}\nshortname = "{source.shortname}-x"\n', 2, "select", "no category"),
    ('[[course]]\nselect = {search = "e"}\nshortname = "{source.year}"\n', 3, "shortname", "made twice"),
    ('[[course]]\nsource_backup = "none.mbz"\nshortname = "X"\ncategory = "Arts"\n', 2, "source_backup", "not there"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\nmap = ["a=nobody9"]\n', 4, "map", "nobody9"),
    ('[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\n[course.old]\nshortname = "FR-B1"\n', 5, "old_shortname", "another"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "words"), PROBLEMS)
def test_what_does_not_fit_the_site_is_told_with_line_and_column(
    bench: Bench, text: str, line: int, column: str, words: str
) -> None:
    found = bench.look(text)
    assert {(one.line, one.column) for one in found.problems} == {(line, column)}
    assert words in found.problems[0].message


def test_a_wrong_word_among_the_defaults_is_told_once_where_it_is_written(bench: Bench) -> None:
    rows = "".join(f'[[course]]\ntemplatecourse = "{name}"\nshortname = "{name}-27"\n' for name in ("RICH101", "FR-B1"))
    plan = (
        '[defaults]\nallow = ["nothing"]\nguards = { odd = "stop" }\nwithout = ["bogus"]\nkeep_roles = ["nobodys"]\n'
        'map = ["a=no-such-account"]\n'
    )
    found = bench.look(plan + rows)
    with pytest.raises(Refused) as refused:
        refuse("plan.toml", found.problems)
    told = [(one["line"], one["column"]) for one in refused.value.details["problems"]]
    assert told == [(2, "allow"), (3, "guards"), (4, "without"), (5, "keep_roles"), (6, "map")]


def test_weeks_among_the_defaults_are_called_weeks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setattr(Catalogue, "facts", lambda *_: CourseFacts(nothing, None, None, None, (), ()))
    found = bench.look('[defaults]\nshift_weeks = 52\n[[course]]\ntemplatecourse = "RICH101"\nshortname = "R-27"\n')
    assert [(one.column, "no start date" in one.message) for one in found.problems] == [("shift_weeks", True)]


def test_problems_of_the_file_and_of_the_site_are_told_together(bench: Bench) -> None:
    found = bench.look(
        '[[course]]\ntemplatecourse = "NONE"\nshortname = "X"\n'
        '[[course]]\ntemplatecourse = "NOT"\nshortname = "Y"\nvisible = "perhaps"\n'
    )
    assert [one.line for one in found.problems] == [7, 2, 5]


def test_a_cell_that_cannot_be_read_hides_nothing_else_of_its_row(bench: Bench) -> None:
    found = bench.look(
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "FR-B1"\ncategory = "Nowhere"\nstartdate = "soon"\nfulname = "x"\n'
    )
    told = sorted((one.line, one.column) for one in found.problems)
    assert told == [(3, "shortname"), (4, "category"), (5, "startdate"), (6, "fulname")]
    assert found.courses == ()


def test_what_follows_only_from_a_cell_that_cannot_be_read_is_not_told(bench: Bench) -> None:
    found = bench.look(
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "{nothing}"\n'
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "X"\ncategory_path = "{year}"\nstartdate = "soon"\n'
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "FR-B1"\nmode = "nwe"\n'
        '[[course]]\nselect = {category = true}\nshortname = "{source.shortname}-x"\n'
    )
    assert [(one.line, one.column) for one in found.problems] == [(3, "shortname"), (8, "startdate"), (12, "mode"), (14, "select")]


def test_a_row_that_names_no_course_is_told_with_all_the_others(bench: Bench) -> None:
    found = bench.look('[[course]]\nshortname = "X"\n[[course]]\ntemplatecourse = "NONE"\nshortname = "Y"\ncategory = "Nowhere"\n')
    assert {(one.line, one.column) for one in found.problems} == {(1, "templatecourse"), (4, "templatecourse"), (6, "category")}


def test_a_selection_that_finds_nothing_is_told_and_is_no_error(bench: Bench) -> None:
    found = bench.look('[[course]]\nselect = {category = "Arts", search = "zzz"}\nshortname = "{source.shortname}-x"\n')
    assert (found.courses, found.problems) == ((), ()) and "line 2" not in found.notes[0] and found.notes


MIGRATE = """
[defaults]
create_categories = true
category_path = "From afar / {source.category}"
idnumber = "-"
map = ["admin=admin"]
[[course]]
select = {category = "*"}
shortname = "{source.shortname}-m"
"""


def test_a_migration_brings_all_courses_and_then_only_what_has_changed(bench: Bench) -> None:
    done = bench.run(MIGRATE, "migrate")
    assert set(done.values()) == {"done"} and len(done) == 5
    first = bench.facts["RICH101-m"]["course"]
    assert bench.run(MIGRATE, "migrate") == dict.fromkeys(done, "there")
    old = bench.open("a")
    rich = old.course(CourseRef("shortname", "RICH101"))
    old.arrange(rich.id, Arrangement(people=(("manager1", ("student",)),)))
    old.close()
    changed = bench.run(MIGRATE, "migrate")
    assert {name: state for name, state in changed.items() if state != "skipped"} == {"RICH101-m": "done"}
    new = bench.open("b")
    target = new.course(CourseRef("shortname", "RICH101-m"))
    assert "manager1" in {person.username for person in new.course_facts(target.id).people}
    assert bench.facts["RICH101-m"]["course"] == target.id == first
    new.close()


@pytest.mark.parametrize(("deed", "times", "state"), [("backup", 2, "done"), ("restore", 1, "done"), ("backup", 99, "failed")])
def test_a_connection_cut_under_a_deed_is_tried_again_but_not_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, deed: str, times: int, state: str
) -> None:
    """As ssh that dies: the site notices that nobody listens any more, and takes back what it had begun."""
    real, cut, asked = PracticeSite.deed, set[str](), list[str]()
    really = getattr(PracticeSite, deed)

    def cut_off(site: PracticeSite, request: Any, on_progress: Any = None) -> Any:
        asked.append(request.deed)
        if len(asked) > times:
            return really(site, request, on_progress)
        cut.add(request.deed)
        raise OutcomeUnknown("The connection was lost.")

    def account(site: PracticeSite, number: str) -> Deed:
        error = Failed("Whoever asked for this has gone away.", code="client_gone")
        return Deed(number, True, phase="failed", error=error) if number in cut else real(site, number)

    forgotten = list[str]()
    forget = PracticeSite.forget_deed

    def forgets(site: PracticeSite, number: str) -> None:
        forgotten.append(number)
        forget(site, number)

    monkeypatch.setattr(PracticeSite, "forget_deed", forgets)
    monkeypatch.setattr(PracticeSite, deed, cut_off)
    monkeypatch.setattr(PracticeSite, "deed", account)
    monkeypatch.setattr(engine, "PAUSES", (0.0,))
    plan = '[[course]]\ntemplatecourse = "GEO200"\nshortname = "GEO-m"\nidnumber = ""\ncategory_path = "Here"\ncreate_categories = true\n'
    assert bench.run(plan, "migrate") == {"GEO-m": state}
    assert len(asked) == (4 if state == "failed" else times + 1) == len({*asked})
    assert all(forgotten.count(number) == 2 for number in asked[:-1])  # when it was found out, and at the very end
    assert bench.names("b").count("GEO-m") == (state == "done")


def test_a_target_that_was_changed_meanwhile_is_not_overwritten(bench: Bench) -> None:
    bench.run(MIGRATE, "migrate")
    old, new = bench.open("a"), bench.open("b")
    old.arrange(old.course(CourseRef("shortname", "RICH101")).id, Arrangement(people=(("manager1", ("student",)),)))
    there = new.course(CourseRef("shortname", "RICH101-m")).id
    new.arrange(there, Arrangement(people=(("manager1", ("teacher",)),)))
    before = new.course_facts(there)
    done = bench.run(MIGRATE, "migrate")
    assert done["RICH101-m"] == "failed" and "was changed" in bench.facts["RICH101-m"]["message"]
    assert new.course_facts(there) == before
    plan = MIGRATE.replace("[defaults]", '[defaults]\non_changed_target = "replace"')
    assert bench.run(plan, "migrate")["RICH101-m"] == "done"
    old.close()
    new.close()


def test_categories_are_made_anew_with_their_idnumbers(bench: Bench) -> None:
    site = bench.open("a")
    category = site.make_category(("Only here", "Below"), idnumber="BELOW")
    course = site.course(CourseRef("shortname", "GEO200"))
    site.arrange(course.id, Arrangement(category_id=category.id, idnumber="GEO-M"))
    site.close()
    plan = '[[course]]\ntemplatecourse = "GEO200"\nshortname = "GEO-M"\ncreate_categories = true\n'
    assert bench.run(plan, "migrate")["GEO-M"] == "done"
    new = bench.open("b")
    made = new.course(CourseRef("shortname", "GEO-M"))
    place = next(one for one in new.categories() if one.id == made.category_id)
    assert (place.path, place.idnumber, made.idnumber) == (("Only here", "Below"), "BELOW", "GEO-M")
    new.close()


def test_a_migration_within_one_site_is_refused(bench: Bench) -> None:
    site = bench.open("a")
    with pytest.raises(UsageError):
        migrate.plan(bench.read(MIGRATE, "migrate"), site, site, TODAY)
    site.close()


def test_a_preview_tells_sizes_people_and_what_the_pre_check_finds(bench: Bench) -> None:
    site = bench.open("a")
    found = rollover.plan(bench.read(ROLL, "rollover"), site, TODAY)
    told = previews.forecast(found, (site, site), 2, {})
    rich = next(one for one in told.previews if one.one.shortname == "RICH101-27")
    assert rich.bytes == site.counts(rich.one.source.course.id).file_bytes  # type: ignore[union-attr]
    assert rich.people == 0 and rich.looked_at.startswith("the backup of")
    assert told.bytes >= (rich.bytes or 0) and told.seconds > 0
    site.close()


LACKING = """
[defaults]
category_path = "Science"
idnumber = "-"
[[course]]
templatecourse = "RICH101"
shortname = "R-NEW"
[[course]]
templatecourse = "FR-B1"
mode = "merge"
shortname = "GEO200"
guards = { students = "stop" }
"""


def test_a_preview_of_a_migration_tells_what_the_other_site_lacks_before_anything_travels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PracticeSite, "modules", lambda _: {"forum": True})
    monkeypatch.setattr(PracticeSite, "enrolment_methods", lambda _: {"manual": True})
    one, other = bench.open("a"), bench.open("b")
    info = one.info()
    newer = replace(info, version="2099010100.00", release="9.9", identifier_hash="another")
    monkeypatch.setattr(one, "info", lambda: newer)
    found = migrate.plan(bench.read(LACKING, "migrate"), one, other, TODAY)
    assert found.problems == ()
    told = previews.forecast(found, (one, other), 2, {})
    rich, merged = ({each.name: each for each in preview.findings} for preview in told.previews)
    assert {"newer-backup", "missing-plugins", "enrolment-methods"} <= rich.keys()
    assert "mod_quiz" in rich["missing-plugins"].message
    assert 'allow = ["missing-plugins"]' in rich["missing-plugins"].remedy
    assert merged["students"].severity == "danger"
    assert 'allow = ["students"]' in merged["students"].remedy
    one.close()
    other.close()


MERGED = """
[[course]]
templatecourse = "FR-B1"
mode = "merge"
shortname = "EMPTY1"
"""


def merged(bench: Bench) -> int:
    """How many activities the course has that something is merged into."""
    site = bench.open("a")
    try:
        course = site.course(CourseRef("shortname", "EMPTY1"))
        return sum(site.counts(course.id).activities.values())
    finally:
        site.close()


def test_what_was_merged_and_found_wanting_is_not_merged_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves.protected, "within", _wanting(moves.protected.within))
    assert bench.run(MERGED) == {"EMPTY1": "failed"}
    count = merged(bench)
    assert count > 0
    (job,) = bench.jobs
    ledger_batch.adopt(job, retry=True)
    recipe = bench.recipe("rollover")
    assert engine.run(job, recipe, engine.Terms(2), engine.Around(bench.open)).totals["failed"] == 1
    assert bench.run(MERGED) == {"EMPTY1": "there"}
    (one,) = bench.look(MERGED).courses
    assert one.wanting and "not all of it came" in (one.message or "")
    assert merged(bench) == count


@pytest.mark.parametrize("how", ["retry", "plan"])
def test_a_merge_that_failed_after_all_had_come_is_finished_and_not_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def broken(*_: object) -> None:
        raise Failed("broken")

    with monkeypatch.context() as patched:
        patched.setattr(PracticeSite, "arrange", broken)
        assert bench.run(MERGED) == {"EMPTY1": "failed"}
    count = merged(bench)
    if how == "retry":
        (job,) = bench.jobs
        ledger_batch.adopt(job, retry=True)
        recipe = bench.recipe("rollover")
        assert engine.run(job, recipe, engine.Terms(2), engine.Around(bench.open)).state == "done"
    else:
        assert [one.action for one in bench.look(MERGED).courses] == ["finish"]
        assert bench.run(MERGED) == {"EMPTY1": "done"}
    assert merged(bench) == count
    assert bench.run(MERGED) == {"EMPTY1": "there"}


def test_a_merge_that_broke_off_when_the_course_was_changed_already_is_not_begun_once_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*words: Any, **_: Any) -> Any:
        words[4].note(course_changed=True)
        raise Failed("broken off")

    with monkeypatch.context() as patched:
        patched.setattr(moves.protected, "within", breaks_off)
        assert bench.run(MERGED) == {"EMPTY1": "failed"}
    (job,) = bench.jobs
    ledger_batch.adopt(job, retry=True)
    recipe = bench.recipe("rollover")
    assert engine.run(job, recipe, engine.Terms(2), engine.Around(bench.open)).totals["failed"] == 1
    (one,) = bench.look(MERGED).courses
    assert (one.state, one.wanting) == ("there", True)
    assert "changed by an earlier run that failed: broken off" in (one.message or "")
    with ledger.Ledger().transaction() as database:  # put back: then it is begun anew
        database.execute("UPDATE item SET facts=json_set(facts, '$.undone', json('true'))")
    assert bench.run(MERGED) == {"EMPTY1": "done"}


def _wanting(within: Any) -> Any:
    def found(*words: Any, **more: Any) -> Any:
        done, rest = within(*words, **more)
        lacks = SimpleNamespace(restored=done.restored, differences=("a page is missing",))
        return lacks, rest

    return found


class Mortal:
    """A recipe whose steps are now and then called again, as after a kill between a deed and the note of its end."""

    def __init__(self, recipe: Recipe, dice: random.Random) -> None:
        self._recipe, self._dice = recipe, dice
        self.kind, self.sites = recipe.kind, recipe.sites

    def steps(self, spec: Any) -> list[Step]:
        return [Step(step.name, step.site, step.slot, self._deadly(step.do)) for step in self._recipe.steps(spec)]

    def _deadly(self, do: Any) -> Any:
        def maybe(work: Work) -> None:
            again = self._dice.random()
            do(work)
            if again < 0.5:
                do(work)

        return maybe


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["rollover", "migrate"])
def test_steps_that_are_called_again_do_nothing_twice(bench: Bench, kind: str, seed: int) -> None:
    text = ROLL if kind == "rollover" else MIGRATE
    found = bench.look(text, kind)
    recipe = Mortal(bench.recipe(kind), random.Random(seed))
    options = {"site": "a", "from": "a", "to": "b"}
    job = engine.begin(recipe, [one.planned() for one in found.courses], options, key=f"{kind} {seed}")
    engine.run(job, recipe, engine.Terms(2), engine.Around(bench.open))
    ended = bench.ended(job)
    assert set(ended.values()) == {"done"}, ended
    names = bench.names("a" if kind == "rollover" else "b")
    assert len(names) == len(set(names)) == (9 if kind == "rollover" else 10)
    assert set(bench.run(text, kind).values()) == {"there"}
