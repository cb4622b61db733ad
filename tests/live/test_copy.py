"""Copies and imports on real sites, by the installed command; what became of them is told by the site's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import rig
from desks import Desk, left, opened, traces
from faults import Running, newest_job
from snapshots import changes, snapshot


@pytest.fixture(scope="module")
def desks(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[[str], Desk]]:
    with opened(moodles, "Copies") as desk_at:
        yield desk_at


@pytest.fixture
def desk(moodle: rig.LiveMoodle, desks: Callable[[str], Desk]) -> Desk:
    return desks(moodle.name)


def copied(desk: Desk, shortname: str, *words: str, course: str = "RICH101") -> int:
    """A copy in the desk's category; returns its id."""
    name = f"{shortname}-{desk.category}"
    done = desk.ok("copy", course, "--new", f"id:{desk.category}", "--shortname", name, *words)
    assert (done["verified"]["ok"], done["verified"]["note"]) == (True, None)
    assert done["verified"]["compared"]
    assert done["course"]["shortname"] == name
    return int(done["course"]["id"])


def test_a_copy_with_people_is_the_course_again_and_nothing_else_is_left(desk: Desk) -> None:
    before = traces(desk)
    backups = desk.ok("backup", "list", "RICH101")
    copy = copied(desk, "whole", "--with", "users")
    assert desk.ok("course", "compare", "RICH101", f"id:{copy}")["equal"] is True
    assert desk.holds(copy) == desk.holds(desk.rich)
    assert desk.ok("backup", "list", "RICH101") == backups
    now = traces(desk)
    assert not now.under_way - before.under_way
    assert now.ours["backups"] == before.ours["backups"]
    assert newest_job(desk).kind == "copy"


def test_a_copy_for_the_next_term_leaves_people_behind_and_moves_the_dates(desk: Desk) -> None:
    copy = copied(desk, "term", "--startdate", "2031-02-03", "--hidden", "--fullname", "Next term ✓", "--idnumber",
                  f"T-{desk.category}")  # fmt: skip
    course, held, rich = desk.course(copy), desk.holds(copy), desk.holds(desk.rich)
    assert (course["fullname"], course["startdate"], course["visible"]) == ("Next term ✓", "2031-02-03", 0)
    assert course["idnumber"] == f"T-{desk.category}"
    assert (held["users"], held["posts"], held["attempts"], held["submissions"]) == (0, 0, 0, 0)
    assert held["activities"] == rich["activities"]


def test_a_copy_is_planned_and_refused_before_anything_is_made(desk: Desk) -> None:
    before = traces(desk)
    where = ["--new", f"id:{desk.category}", "--shortname"]
    plan = desk.ok("copy", "RICH101", *where, f"dry-{desk.category}", "--dry-run")
    assert plan["expected"]["users"] == 0
    assert desk.fails(5, "copy", "RICH101", *where, "EMPTY1")["code"] == "shortname_taken"
    assert desk.fails(4, "copy", "RICH101", *where, "x", "--only", "forum:Nowhere")["code"] == "item_unknown"
    assert desk.fails(2, "copy", "RICH101", *where, "x", "--without", "files")["code"] == "usage"
    assert left(desk, before) == ""


def test_an_import_adds_to_a_course_and_undo_takes_it_back(desk: Desk) -> None:
    target = copied(desk, "target", "--with", "users", course="GEN_XS")
    before = snapshot(desk.site, target)
    held, rich = desk.holds(target), desk.holds(desk.rich)
    done = desk.ok("import", "RICH101", f"id:{target}")
    assert done["verified"]["ok"] and done["mode"] == "merge"
    now = desk.holds(target)
    assert now["users"] == held["users"]
    assert sum(now["activities"].values()) == sum(held["activities"].values()) + sum(rich["activities"].values())
    desk.ok("-y", "restore", "--undo", str(done["job"]))
    assert changes(before, snapshot(desk.site, target)) == []


def test_an_import_in_place_of_the_contents_asks_keeps_people_and_can_be_undone(desk: Desk) -> None:
    target = copied(desk, "emptied", "--with", "users", course="GEN_XS")
    before, held = snapshot(desk.site, target), desk.holds(target)
    words = ["import", "RICH101", f"id:{target}", "--delete-contents"]
    assert desk.fails(5, *words)["code"] == "not_confirmed"
    assert changes(before, snapshot(desk.site, target)) == []
    done = desk.ok("-y", *words)
    assert done["verified"]["ok"] and done["mode"] == "replace" and done["safety_backup"]
    now, rich = desk.holds(target), desk.holds(desk.rich)
    assert now["activities"] == rich["activities"]
    assert (now["users"], now["grades"], now["posts"]) == (held["users"], 0, 0)
    desk.ok("-y", "restore", "--undo", str(done["job"]))
    assert changes(before, snapshot(desk.site, target)) == []


def test_a_part_of_a_course_is_imported(desk: Desk) -> None:
    target = copied(desk, "part", course="EMPTY1")
    held = desk.holds(target)["activities"]
    desk.ok("import", "RICH101", f"id:{target}", "--only", "mod:quiz", "--no-safety-backup")
    now = desk.holds(target)["activities"]
    assert {name: number for name, number in now.items() if number != held.get(name, 0)} in (
        {"quiz": now["quiz"]}, {"quiz": now["quiz"], "qbank": now.get("qbank")})  # fmt: skip


def test_a_copy_whose_php_is_killed_leaves_no_course_and_the_job_knows_it(desk: Desk) -> None:
    before = traces(desk)
    words = ["copy", "RICH101", "--new", f"id:{desk.category}", "--shortname", f"killed-{desk.category}"]
    run = Running(desk, desk.run.popen("--site", "live", "-o", "json", *words), "restore")
    account = run.until(lambda account: account.get("phase") == "executing")
    desk.site.php("posix_kill((int)$arguments['pid'], 9);", pid=account["pid"])
    status, _, error = run.ended()
    assert status == 1, error
    assert "The new course was removed again" in error
    assert newest_job(desk).state == "failed"
    assert left(desk, before) == ""
