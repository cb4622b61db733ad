"""Many courses from one plan, on real Moodles: a rollover that runs twice, a migration that takes what has changed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import desks
import pytest
import rig
from conftest import Command, Outcome

# Copies of test courses are made with Moodle's own classes, not with the command that is being tested.
COPY = """
require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
require_once($CFG->dirroot . '/backup/util/includes/restore_includes.php');
require_once($CFG->dirroot . '/course/lib.php');
$CFG->backup_file_logger_level = backup::LOG_NONE;
$from = $DB->get_field('course', 'id', ['shortname' => $arguments['from']], MUST_EXIST);
$bc = new backup_controller(backup::TYPE_1COURSE, $from, backup::FORMAT_MOODLE, backup::INTERACTIVE_NO,
    backup::MODE_GENERAL, 2);
$bc->execute_plan();
$file = $bc->get_results()['backup_destination'];
$id = restore_dbops::create_new_course($arguments['fullname'], $arguments['shortname'], $arguments['category']);
$file->extract_to_pathname(get_file_packer('application/vnd.moodle.backup'),
    make_backup_temp_directory($temp = 'plans' . $id));
$rc = new restore_controller($temp, $id, backup::INTERACTIVE_NO, backup::MODE_GENERAL, 2, backup::TARGET_NEW_COURSE);
$rc->get_plan()->get_setting('enrolments')->set_value(backup::ENROL_ALWAYS);
foreach (['fullname', 'shortname'] as $name) {
    $rc->get_plan()->get_setting('course_' . $name)->set_value($arguments[$name]);
}
$rc->execute_precheck();
$rc->execute_plan();
$bc->destroy();
$rc->destroy();
$file->delete();
fulldelete($CFG->backuptempdir . '/' . $temp);
// As a course of last year would be that was not made from another one.
$DB->set_field('course', 'originalcourseid', null, ['id' => $id]);
update_course((object)['id' => $id, 'idnumber' => $arguments['idnumber'], 'visible' => 1]);
echo $id;
"""

LOOK = """
$c = $DB->get_record('course', ['shortname' => $arguments['shortname']]);
if (!$c) {
    echo 'null';
    return;
}
$zone = core_date::get_server_timezone_object();
$roles = $DB->get_fieldset_sql("SELECT DISTINCT r.shortname FROM {role_assignments} ra JOIN {role} r ON r.id = ra.roleid
    JOIN {context} x ON x.id = ra.contextid WHERE x.contextlevel = 50 AND x.instanceid = ?", [$c->id]);
sort($roles);
echo json_encode(['id' => (int)$c->id, 'fullname' => $c->fullname, 'idnumber' => $c->idnumber, 'visible' => (int)$c->visible,
    'path' => implode(' / ', array_map(function($id) use ($DB) {
            return $DB->get_field('course_categories', 'name', ['id' => $id]);
        }, explode('/', trim($DB->get_field('course_categories', 'path', ['id' => $c->category]), '/')))),
    'start' => $c->startdate ? (new DateTime("@$c->startdate"))->setTimezone($zone)->format('Y-m-d') : null,
    'due' => (int)$DB->get_field_sql('SELECT MAX(duedate) FROM {assign} WHERE course = ?', [$c->id]),
    'roles' => $roles, 'methods' => $DB->get_records_menu('enrol', ['courseid' => $c->id], 'id', 'enrol, status'),
    'active' => $DB->count_records_sql('SELECT COUNT(*) FROM {user_enrolments} u JOIN {enrol} e ON e.id = u.enrolid
        WHERE e.courseid = ? AND u.status = 0', [$c->id]),
    'people' => $DB->count_records_sql('SELECT COUNT(DISTINCT u.userid) FROM {user_enrolments} u JOIN {enrol} e
        ON e.id = u.enrolid WHERE e.courseid = ?', [$c->id]),
    'posts' => $DB->count_records_sql('SELECT COUNT(*) FROM {forum_posts} p JOIN {forum_discussions} d
        ON d.id = p.discussion WHERE d.course = ?', [$c->id]),
    // From 5.0 on a course's question bank is an activity of its own.
    'activities' => $DB->count_records_sql("SELECT COUNT(*) FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module
        WHERE cm.course = ? AND m.name <> 'qbank'", [$c->id])]);
"""

# Whatever an idle second run could have touched.
EVERYTHING = """
$out = [];
foreach (['course' => 'id, shortname, fullname, idnumber, category, visible, startdate, enddate, timemodified',
        'course_categories' => 'id, name, idnumber, path, visible, timemodified'] as $table => $fields) {
    $out[$table] = array_values($DB->get_records($table, null, 'id', $fields));
}
$out['enrolments'] = array_values($DB->get_records('user_enrolments', null, 'id', 'id, enrolid, userid, status, timemodified'));
$out['backups'] = $DB->count_records_select('files', "component = 'backup' AND filename <> '.'");
echo json_encode($out);
"""

RENAME_PAGE = """
require_once($CFG->dirroot . '/course/lib.php');
$page = $DB->get_record_sql('SELECT * FROM {page} WHERE course = ?', [$arguments['course']], IGNORE_MULTIPLE);
$DB->set_field('page', 'content', $arguments['text'], ['id' => $page->id]);
rebuild_course_cache($arguments['course'], true);
"""


def look(desk: desks.Desk, shortname: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(desk.site.php(LOOK, shortname=shortname))
    return found


def copy(desk: desks.Desk, source: str, shortname: str) -> int:
    return int(
        desk.site.php(
            COPY, **{"from": source}, shortname=shortname, fullname=f"Über {shortname}", category=desk.category,
            idnumber=f"N-{shortname}",
        )
    )  # fmt: skip


def path_of(desk: desks.Desk) -> str:
    return str(desk.site.sql(f"SELECT name FROM {{course_categories}} WHERE id = {desk.category}")[0][0])


def never_rest(command: Command, *names: str) -> None:
    """The machine the tests run on may be busy with others: that is not to hold these up."""
    settings = command.home / "config" / "moodlectl" / "config.toml"
    with settings.open("a", encoding="utf-8") as file:
        for name in names:
            file.write(f"\n[sites.{name}.limits]\nload = 1000.0\n")


# Whatever lies about where backups are unpacked and speaks of our courses; others may be at work on the same site.
LIES_ABOUT = """
$found = [];
$files = new RecursiveIteratorIterator(new RecursiveDirectoryIterator($CFG->backuptempdir, FilesystemIterator::SKIP_DOTS));
foreach ($files as $file) {
    if ($file->isFile() && $file->isReadable() && $file->getSize() < 4000000
            && strpos((string)@file_get_contents($file->getPathname()), $arguments['tag']) !== false) {
        $found[] = $file->getFilename();
    }
}
echo json_encode($found);
"""


def lies_about(desk: desks.Desk, tag: str) -> list[str]:
    found: list[str] = json.loads(desk.site.php(LIES_ABOUT, tag=tag))
    return found


@dataclass
class Year:
    """A category with last year's courses: two copies of RICH101 and one of EMPTY1; and a plan for this year."""

    desk: desks.Desk
    tag: str
    plan: Path

    def roll(self, *words: str) -> Outcome:
        return self.desk.run("--site", "live", "-o", "json", "rollover", str(self.plan), *words)

    def everything(self) -> str:
        """All that matters here, whatever others do on the site meanwhile."""
        found = json.loads(self.desk.site.php(EVERYTHING))
        ours = {row["id"] for row in found["course"] if self.tag in row["shortname"]}
        mine = [row for row in found["course"] if row["id"] in ours]
        places = [row for row in found["course_categories"] if f"/{self.desk.category}" in row["path"]]
        return json.dumps([mine, places])


PLAN = """
[defaults]
shift_weeks = 52
category_path = "{place} / {{year}}"
create_categories = true
keep_roles = ["editingteacher"]
hidden_until = 2099-01-01

[[course]]
select = {{category = "id:{category}", shortname = "*-{tag}-2026"}}
shortname = "{{source.shortname|s/-2026$/-{{year}}/}}"
fullname = "{{source.fullname}} ({{year}}/{{yy+1}})"
idnumber = "{{source.idnumber}}-n"
year = 2027

[course.old]
fullname = "{{source.fullname}} [old]"
category_path = "{place} / Archive"
visible = false
enrolments = "suspended"
"""


@pytest.fixture
def year(moodle: rig.LiveMoodle, moodles: dict[str, rig.LiveMoodle], tmp_path: Path) -> Iterator[Year]:
    with desks.opened(moodles, "Rolled") as desk_at:
        desk = desk_at(moodle.name)
        tag = f"r{os.getpid()}"
        for name, source in (("A", "RICH101"), ("B", "RICH101"), ("C", "EMPTY1")):
            copy(desk, source, f"{name}-{tag}-2026")
        never_rest(desk.run, "live")
        plan = tmp_path / "plan.toml"
        text = PLAN.format(place=path_of(desk), category=desk.category, tag=tag)
        plan.write_text(text.replace("/-{year}/", "/-2027/"), encoding="utf-8")
        yield Year(desk, tag, plan)


def test_a_rollover_makes_this_years_courses_and_does_nothing_the_second_time(year: Year) -> None:
    desk, tag = year.desk, year.tag
    before = {name: look(desk, f"{name}-{tag}-2026") for name in "ABC"}
    held = year.everything()

    dry = year.roll("--dry-run")
    assert dry.status == 0, dry.stderr
    told = {one["course"]: one for one in dry.json["courses"]}
    assert set(told) == {f"{name}-{tag}-2027" for name in "ABC"}
    assert told[f"A-{tag}-2027"]["size"] > 0
    assert told[f"A-{tag}-2027"]["people"] == 0
    assert told[f"A-{tag}-2027"]["old"]["visible"] is False
    assert dry.json["totals"]["todo"] == 3
    assert year.everything() == held

    done = year.roll()
    assert done.status == 0, done.stderr
    assert done.json["totals"] == {"done": 3, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0}
    for name in "ABC":
        new, old = look(desk, f"{name}-{tag}-2027"), look(desk, f"{name}-{tag}-2026")
        assert new["fullname"] == f"Über {name}-{tag}-2026 (2027/28)"
        assert new["idnumber"] == f"N-{name}-{tag}-2026-n"
        assert new["visible"] == 0
        assert new["path"] == f"{path_of(desk)} / 2027"
        assert new["activities"] == before[name]["activities"]
        assert (new["posts"], set(new["roles"]) - {"editingteacher"}) == (0, set())
        if before[name]["due"]:
            assert abs(new["due"] - before[name]["due"] - 364 * 86400) <= 3600
        assert old["id"] == before[name]["id"]
        assert (old["visible"], old["active"], old["people"]) == (0, 0, before[name]["people"])
        assert old["fullname"] == f"Über {name}-{tag}-2026 [old]"
        assert old["path"] == f"{path_of(desk)} / Archive"
        assert old["posts"] == before[name]["posts"]
    rich = look(desk, f"A-{tag}-2027")
    assert rich["roles"] == ["editingteacher"]
    assert rich["people"] == rich["active"] > 0
    stored = json.loads(desk.site.php(desks.TRACES, id=desk.category))
    assert (stored["backups"], stored["private"], stored["temporary"]) == (0, 0, stored["temporary"])

    held = year.everything()
    again = year.roll()
    assert again.status == 0, again.stderr
    assert [one["state"] for one in again.json["items"]] == ["skipped"] * len(again.json["items"])
    assert year.everything() == held

    # Nothing is known here any more: the site itself says what was made from what.
    with tempfile.TemporaryDirectory() as state:
        lost = desk.run(
            "--site", "live", "-o", "json", "rollover", str(year.plan), env={"MOODLECTL_STATE": state}
        )
    assert lost.status == 0, lost.stderr
    assert {one["state"] for one in lost.json["items"]} <= {"skipped"}
    assert year.everything() == held


def test_the_new_course_takes_the_old_ones_name_and_idnumber(year: Year, tmp_path: Path) -> None:
    desk, tag = year.desk, year.tag
    name = f"A-{tag}-2026"
    year.plan.write_text(
        f'[[course]]\ntemplatecourse = "{name}"\nshortname = "{name}"\nidnumber = "N-{name}"\n'
        f'startdate = 2027-09-01\nenddate = 2028-06-30\n'
        f'[course.old]\nshortname = "{name}-old"\nidnumber = ""\nenrolments = "manual"\n',
        encoding="utf-8",
    )
    before = look(desk, name)
    done = year.roll()
    assert done.status == 0, done.stderr
    new, old = look(desk, name), look(desk, f"{name}-old")
    assert (old["id"], old["idnumber"], old["people"]) == (before["id"], "", before["people"])
    assert new["id"] != before["id"]
    assert (new["idnumber"], new["start"]) == (f"N-{name}", "2027-09-01")
    held = year.everything()
    again = year.roll()
    assert (again.status, year.everything()) == (0, held), again.stderr
    with tempfile.TemporaryDirectory() as state:
        lost = desk.run("--site", "live", "rollover", str(year.plan), env={"MOODLECTL_STATE": state})
    assert (lost.status, year.everything()) == (0, held), lost.stderr


def test_every_problem_of_a_plan_is_told_and_nothing_is_touched(year: Year) -> None:
    tag, held = year.tag, year.everything()
    year.plan.write_text(
        f'[[course]]\ntemplatecourse = "A-{tag}-2062"\nshortname = "X1"\n\n'
        f'[[course]]\ntemplatecourse = "A-{tag}-2026"\nshortname = "RICH101"\nwith = ["user"]\n\n'
        f'[[course]]\ntemplatecourse = "B-{tag}-2026"\nshortname = "X2"\ncategory_path = "No / Such"\n'
        'idnumber = "X9"\nstartdate = "2027-13-01"\nkeep_roles = ["editingteachers"]\n',
        encoding="utf-8",
    )
    done = year.roll()
    assert done.status == 5
    told = {(one["line"], one["column"]) for one in done.error["details"]["problems"]}
    assert told >= {(2, "templatecourse"), (8, "with"), (15, "startdate")}
    assert f"A-{tag}-2026" in str(done.error["details"]["problems"])
    assert year.everything() == held


@dataclass
class Move:
    """Courses on one site, an empty category on another, and one command that knows both."""

    old: desks.Desk
    new: desks.Desk
    run: Command
    plan: Path
    tag: str

    def migrate(self, *words: str) -> Outcome:
        return self.run("-o", "json", "migrate", str(self.plan), "--from", "old", "--to", "live", *words)

    def items(self, outcome: Outcome) -> dict[str, str]:
        return {one["course"]: one["state"] for one in outcome.json["items"]}


@pytest.fixture
def move(moodles: dict[str, rig.LiveMoodle], tmp_path: Path) -> Iterator[Move]:
    names = list(moodles)
    if len(names) < 2:
        pytest.fail("a migration needs two sites: name two source directories in MOODLE_DIRS")
    with desks.opened(moodles, "Moved") as desk_at:
        old, new = desk_at(names[0]), desk_at(names[-1])
        tag = f"m{os.getpid()}"
        for name, source in (("R", "RICH101"), ("G", "GEN_XS"), ("E", "EMPTY1")):
            copy(old, source, f"{name}-{tag}")
        new.run.add_site("old", old.site)
        told = new.run("site", "add", "old", "--replace", "--ssh-config", str(old.site.ssh_config))
        assert told.status == 0, told.stderr
        never_rest(new.run, "live", "old")
        plan = tmp_path / "plan.toml"
        plan.write_text(
            f'[defaults]\ncategory_path = "{path_of(new)} / {{source.category}}"\ncreate_categories = true\n'
            'map = ["admin=admin"]\n\n'
            f'[[course]]\nselect = {{category = "id:{old.category}"}}\n',
            encoding="utf-8",
        )
        yield Move(old, new, new.run, plan, tag)


def test_a_migration_brings_everything_and_afterwards_only_what_has_changed(move: Move, tmp_path: Path) -> None:
    old, new, tag = move.old, move.new, move.tag
    names = [f"{letter}-{tag}" for letter in "RGE"]
    page = f'<p><a href="{old.site.url}/course/view.php?id=2">over there</a> {old.site.url}/mod/forum/</p>'
    old.site.php(RENAME_PAGE, course=look(old, names[0])["id"], text=page)

    dry = move.migrate("--dry-run")
    assert dry.status == 0, dry.stderr
    assert {one["course"] for one in dry.json["courses"]} == set(names)
    assert dry.json["totals"]["free_here"] > 0
    assert look(new, names[0]) is None

    addresses = tmp_path / "addresses.csv"
    done = move.migrate("--addresses", str(addresses))
    assert done.status == 0, (done.stderr, done.stdout)
    assert move.items(done) == dict.fromkeys(names, "done")
    facts = {one["course"]: one["facts"] for one in done.json["items"]}
    assert facts[names[0]]["links_to_old_site"] >= 2
    assert "lead to the old site" in done.stderr
    for name in names:
        there, here = look(old, name), look(new, name)
        assert (here["fullname"], here["idnumber"], here["visible"]) == (there["fullname"], there["idnumber"], 1)
        assert (here["people"], here["posts"], here["activities"]) == (
            there["people"], there["posts"], there["activities"],
        )  # fmt: skip
        assert here["path"] == f"{path_of(new)} / {path_of(old)}"
        compared = move.run("-o", "json", "--site", "old", "course", "compare", name, name, "--site-b", "live")
        assert compared.status == 0, compared.stdout
        pair = f"{old.site.url}/course/view.php?id={there['id']},{new.site.url}/course/view.php?id={here['id']}"
        assert pair in addresses.read_text()
    assert [lies_about(desk, tag) for desk in (old, new)] == [[], []]
    assert json.loads(old.site.php(desks.TRACES, id=old.category))["backups"] == 0

    again = move.migrate()
    assert again.status == 0, again.stderr
    assert move.items(again) == dict.fromkeys(names, "skipped")

    old.site.php(RENAME_PAGE, course=look(old, names[0])["id"], text="<p>changed since</p>")
    changed = move.migrate()
    assert changed.status == 0, (changed.stderr, changed.stdout)
    assert move.items(changed) == {names[0]: "done", names[1]: "skipped", names[2]: "skipped"}
    compared = move.run("--site", "old", "course", "compare", names[0], names[0], "--site-b", "live")
    assert compared.status == 0, compared.stdout
    assert look(new, names[0])["posts"] == look(old, names[0])["posts"]

    old.site.php(RENAME_PAGE, course=look(old, names[0])["id"], text="<p>changed there</p>")
    new.site.php(RENAME_PAGE, course=look(new, names[0])["id"], text="<p>changed here</p>")
    both = move.migrate()
    assert both.status == 7, both.stderr
    assert move.items(both)[names[0]] == "failed"
    assert "changed here" in str(new.site.sql(f"SELECT content FROM {{page}} WHERE course = {look(new, names[0])['id']}"))


def test_an_account_that_conflicts_fails_one_course_with_the_plans_remedy(move: Move) -> None:
    text = move.plan.read_text(encoding="utf-8")
    move.plan.write_text(text.replace('map = ["admin=admin"]\n', ""), encoding="utf-8")
    old = move.old
    names = [f"{letter}-{move.tag}" for letter in "RGE"]
    other_admin = """
    $course = $DB->get_record('course', ['shortname' => $arguments['shortname']], '*', MUST_EXIST);
    $plugin = enrol_get_plugin('manual');
    $instance = $DB->get_record('enrol', ['courseid' => $course->id, 'enrol' => 'manual'], '*', MUST_EXIST);
    $plugin->enrol_user($instance, 2, $DB->get_field('role', 'id', ['shortname' => 'student']));
    $DB->set_field('user', 'email', 'someone.else@example.invalid', ['id' => 2]);
    """
    email = old.site.sql("SELECT email FROM {user} WHERE id = 2")[0][0]
    try:
        old.site.php(other_admin, shortname=names[0])
        done = move.migrate()
    finally:
        old.site.php("$DB->set_field('user', 'email', $arguments['email'], ['id' => 2]);", email=email)
    assert done.status == 7, (done.stdout, done.stderr)
    states = move.items(done)
    assert (states[names[0]], states[names[2]]) == ("failed", "done")
    for one in done.json["items"]:
        assert one["state"] == "done" or "map = " in json.dumps(one), one
    assert [lies_about(desk, move.tag) for desk in (old, move.new)] == [[], []]
    assert look(move.new, names[0]) is None
