"""Support staff: any address a teacher sends, work done with the teacher's rights, and whom to ask where those end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, left, opened, traces

TEACHER = "teacher1"


@pytest.fixture(scope="module")
def desks(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[[str], Desk]]:
    with opened(moodles, "Support") as desk_at:
        yield desk_at


@pytest.fixture
def desk(moodle: rig.LiveMoodle, desks: Callable[[str], Desk]) -> Desk:
    return desks(moodle.name)


ENROL = """
$plugin = enrol_get_plugin('manual');
foreach (enrol_get_instances($arguments['course'], true) as $instance) {
    if ($instance->enrol === 'manual') {
        $plugin->enrol_user($instance, $DB->get_field('user', 'id', ['username' => 'teacher1']),
            $DB->get_field('role', 'id', ['shortname' => 'editingteacher']));
        echo 'enrolled';
    }
}
"""


def taught(desk: Desk, word: str) -> int:
    """A course of the teacher's own, with the contents of RICH101."""
    done = desk.ok("copy", "RICH101", "--new", f"id:{desk.category}", "--shortname", f"{word}-{desk.category}")
    course = int(done["course"]["id"])
    assert desk.site.php(ENROL, course=course) == "enrolled"
    return course


def asks(error: dict[str, Any], capability: str) -> None:
    """A refusal names the capability, in plain words that it is missing, and people who can help."""
    assert capability in error["message"], error
    assert "admin" in (error["hint"] or "") and "ask" in error["hint"], error


def test_any_address_of_a_course_names_it(desk: Desk) -> None:
    url, rich = desk.site.url, desk.rich
    shown = desk.ok("course", "show", "RICH101")
    section = shown["sections"][1]
    activity = next(one for each in shown["sections"] for one in each["activities"])
    pages = [
        f"course/view.php?id={rich}&section=2#section-2",
        f"course/edit.php?id={rich}",
        f"user/index.php?id={rich}",
        f"grade/report/grader/index.php?id={rich}",
        f"mod/{activity['module']}/view.php?id={activity['id']}",
        f"course/section.php?id={section['id']}",
    ]
    for page in pages:
        assert desk.ok("course", "show", f"{url}/{page}")["id"] == rich, page
    assert desk.ok("backup", "list", f"{url}/{pages[4]}") == desk.ok("backup", "list", "RICH101")
    other = desk.fails(2, "course", "show", f"https://elsewhere.example.org/course/view.php?id={rich}")
    assert "elsewhere.example.org" in other["message"] and url in other["message"]
    assert desk.fails(4, "course", "show", f"{url}/mod/page/view.php?id=99999999")["code"] in (
        "course_not_found", "notfound", "invalidrecord", "invalidcoursemodule")  # fmt: skip


def test_a_teacher_backs_up_restores_and_imports_within_his_rights(desk: Desk, tmp_path: Path) -> None:
    mine = taught(desk, "mine")
    settings = {one["name"]: one for one in desk.ok("backup", "settings", f"id:{mine}", "--as", TEACHER)}
    assert settings["users"]["value"] in (False, 0) and settings["users"]["locked_by"] == "permission"
    [made] = desk.ok("backup", "create", f"id:{mine}", "--as", TEACHER, "--download", str(tmp_path), "--remove-remote")
    assert made["has_users"] is False
    before = sum(desk.holds(mine)["activities"].values())
    desk.ok("restore", made["path"], "--merge", f"id:{mine}", "--only", "mod:page", "--as", TEACHER, "--no-safety-backup")
    assert sum(desk.holds(mine)["activities"].values()) > before
    target = taught(desk, "target")
    done = desk.ok("import", f"id:{mine}", f"id:{target}", "--only", "mod:page", "--as", TEACHER, "--no-safety-backup")
    assert done["verified"]["ok"]
    record = desk.ok("job", "list", "--kind", "import", "--state", "done")[0]
    job = desk.ok("job", "show", str(record["id"]))
    assert (job["items"][0]["facts"]["acting"], bool(job["who"]), job["state"]) == (TEACHER, True, "done")


def test_what_a_teacher_may_not_is_refused_with_the_capability_and_whom_to_ask(desk: Desk, tmp_path: Path) -> None:
    mine = taught(desk, "limits")
    [made] = desk.ok("backup", "create", f"id:{mine}", "--as", TEACHER, "--download", str(tmp_path), "--remove-remote")
    before = traces(desk)
    where = ["--new", f"id:{desk.category}"]
    asks(desk.fails(5, "backup", "create", f"id:{mine}", "--with", "users", "--as", TEACHER), "moodle/backup:userinfo")
    asks(desk.fails(3, "copy", f"id:{mine}", *where, "--shortname", "x", "--as", TEACHER), "moodle/course:create")
    asks(desk.fails(3, "restore", made["path"], *where, "--as", TEACHER), "moodle/course:create")
    error = desk.fails(3, "import", f"id:{mine}", "EMPTY1", "--as", TEACHER, "--no-safety-backup")
    asks(error, "moodle/restore:restoretargetimport")
    error = desk.fails(3, "backup", "create", "EMPTY1", "--as", TEACHER)
    assert TEACHER in error["message"] and "admin" in error["hint"], error
    assert desk.fails(4, "backup", "create", f"id:{mine}", "--as", "nobody-of-that-name")["hint"]
    assert left(desk, before) == ""
