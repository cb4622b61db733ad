"""A gateway gives up in the middle of a copy or import inside one web request; what became of it is found out.

The gateway waits five seconds (MOODLECTL_GATEWAY_SECONDS); a row that is held keeps Moodle from being done before.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import rig
from desks import Desk, left, opened, traces
from faults import held, newest_job

from tests.faults.gateways import Gateway, gateway

ALLOW = """
require_once($CFG->dirroot . '/webservice/lib.php');
$service = $DB->get_record('external_services', ['shortname' => 'moodlectl'], '*', MUST_EXIST);
$manager = new webservice();
if (!$manager->service_function_exists('core_course_import_course', $service->id)) {
    $manager->add_external_function_to_service('core_course_import_course', $service->id);
}
"""

# The backup that Moodle is about to restore from is taken away: the restore then breaks off.
SPOIL = """
require_once($CFG->libdir . '/filelib.php');
$id = $DB->get_field_sql("SELECT backupid FROM {backup_controllers} WHERE operation = 'backup' AND itemid = ?
    AND purpose = 40 ORDER BY id DESC", [$arguments['course']], IGNORE_MULTIPLE);
fulldelete("$CFG->backuptempdir/$id");
foreach (glob("$CFG->backuptempdir/$id*") as $rest) {
    unlink($rest);
}
"""

STORED = """
foreach ($DB->get_fieldset_select('files', 'id', "contextid = ? AND component = 'backup' AND filename <> '.'",
        [context_course::instance($arguments['course'])->id]) as $id) {
    $file = get_file_storage()->get_file_by_id($id);
    echo $file->get_filename(), ' ';
    $file->delete();
}
"""

CATEGORY = "SELECT id FROM {course_categories} WHERE id = ?"
COURSE = "SELECT id FROM {course} WHERE id = ?"


@dataclass
class Road:
    """A desk with a course of its own, and the way to the site through a gateway, with a token alone."""

    desk: Desk
    course: int

    def told(self, gate: Gateway, *, ssh: bool = False) -> None:
        self.desk.run.env.pop("MOODLECTL_SITE", None)
        name = "hosted" if ssh else "gate"
        self.desk.run("-y", "site", "remove", name)
        self.desk.run.add_site(name, replace(self.desk.site, url=gate.url), ssh=ssh)
        if ssh:
            done = self.desk.run("site", "add", name, "--replace", "--ssh-config", str(self.desk.site.ssh_config))
            assert done.status == 0, done.stderr

    def begun(self, *words: str, site: str = "gate") -> subprocess.Popen[str]:
        return self.desk.run.popen("--site", site, "-o", "json", *words)

    def shortname(self, word: str) -> str:
        return f"{word}-{self.desk.category}"

    def copy(self, word: str, *more: str) -> list[str]:
        where = ["--new", f"id:{self.desk.category}", "--shortname", self.shortname(word)]
        return ["copy", f"id:{self.course}", *where, *more]


@pytest.fixture(scope="module")
def roads(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[[str], Road]]:
    made: dict[str, Road] = {}
    with opened(moodles, "Gateways") as desk_at:

        def road_at(name: str) -> Road:
            if name not in made:
                desk = desk_at(name)
                desk.site.php(ALLOW)
                done = desk.ok("copy", "RICH101", "--new", f"id:{desk.category}", "--shortname", f"source-{desk.category}",
                               "--with", "users")  # fmt: skip
                made[name] = Road(desk, int(done["course"]["id"]))
            return made[name]

        yield road_at


@pytest.fixture
def road(moodle: rig.LiveMoodle, roads: Callable[[str], Road]) -> Road:
    return roads(moodle.name)


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Exit status, and what was printed as JSON: the result, else the error."""
    out, error = process.communicate(timeout=400)
    if out:
        return process.returncode, json.loads(out)
    return process.returncode, json.JSONDecoder().raw_decode(error[error.rindex('{"error"'):])[0]["error"]


def test_a_copy_whose_answer_comes_in_time_is_simply_done(road: Road) -> None:
    with gateway(road.desk.site.url, seconds=300) as gate:
        road.told(gate)
        status, done = ended(road.begun(*road.copy("quick", "--with", "users")))
    assert (status, done["gave_up"], done["verified"]["ok"]) == (0, None, True)
    copied, source = road.desk.holds(done["course"]["id"]), road.desk.holds(road.course)
    assert (copied["activities"], copied["users"]) == (source["activities"], source["users"])
    assert road.desk.site.php(STORED, course=road.course) == ""


@pytest.mark.parametrize("how", ["504", "502", "page", "drop", "reset"])
def test_a_gateway_that_gives_up_is_no_failure(road: Road, how: str) -> None:
    with gateway(road.desk.site.url, how) as gate:
        road.told(gate)
        with held(road.desk.site, CATEGORY, road.desk.category):
            process = road.begun(*road.copy(f"late{how}", *(["--hidden"] if how == "502" else [])))
            assert gate.gave_up.wait(120)
            assert process.poll() is None
        status, done = ended(process)
    assert status == 0, done
    assert done["gave_up"] and done["verified"] == {"ok": True, "differences": [], "by": "web service"}
    assert gate.forwarded == 1
    course, source = road.desk.holds(done["course"]["id"]), road.desk.holds(road.course)
    assert course["activities"] == source["activities"]
    assert (course["users"], course["posts"]) == (0, 0)
    assert road.desk.course(done["course"]["id"])["visible"] == (0 if how == "502" else 1)
    job = newest_job(road.desk)
    assert (job.kind, job.state) == ("copy", "done")
    assert "Moodle finished it all the same" in (job.items[0].message or "")


def test_moodle_really_fails_after_the_gateway_gave_up(road: Road) -> None:
    before = traces(road.desk)
    with gateway(road.desk.site.url) as gate:
        road.told(gate)
        with held(road.desk.site, CATEGORY, road.desk.category):
            process = road.begun(*road.copy("broken", "--wait", "15"))
            assert gate.gave_up.wait(120)
            road.desk.site.php(SPOIL, course=road.course)
        status, error = ended(process)
    assert status == 1, error
    assert "was removed again" in error["message"] and error["details"]["course_removed"] is True
    assert error["details"]["left_backup"].endswith("@course/backup.mbz")
    assert road.desk.site.php(STORED, course=road.course) == "backup.mbz "
    assert gate.forwarded == 1
    assert newest_job(road.desk).state == "failed"
    assert traces(road.desk).ours["courses"] == before.ours["courses"]


def test_a_copy_that_moodle_says_it_broke_off_is_removed_at_once(road: Road) -> None:
    before = traces(road.desk)
    with gateway(road.desk.site.url, seconds=300) as gate:
        road.told(gate)
        with held(road.desk.site, CATEGORY, road.desk.category):
            process = road.begun(*road.copy("said"))
            road.desk.site.php("""
                for ($n = 0; $n < 1200 && !$DB->record_exists('course', ['shortname' => $arguments['shortname']]); $n++) {
                    usleep(100000);
                }
            """, shortname=road.shortname("said"))  # fmt: skip
            road.desk.site.php(SPOIL, course=road.course)
        status, error = ended(process)
    assert status == 1, error
    assert error["details"]["course_removed"] is True
    road.desk.site.php(STORED, course=road.course)
    assert traces(road.desk).ours["courses"] == before.ours["courses"]


def test_a_command_that_is_killed_while_it_waits_is_resumed(road: Road) -> None:
    with gateway(road.desk.site.url) as gate:
        road.told(gate)
        with held(road.desk.site, CATEGORY, road.desk.category):
            process = road.begun(*road.copy("resumed"))
            assert gate.gave_up.wait(120)
            process.kill()
            process.communicate()
        job = newest_job(road.desk)
        assert job.state == "unknown"
        status, done = ended(road.begun("job", "resume", str(job.id)))
    assert (status, done["state"]) == (0, "done"), done
    assert done["course"]["shortname"] == road.shortname("resumed")
    assert gate.forwarded == 1


def test_an_import_is_found_and_verified_behind_a_gateway_that_gave_up(road: Road) -> None:
    target = int(road.desk.ok("copy", "EMPTY1", "--new", f"id:{road.desk.category}", "--shortname",
                              road.shortname("target"))["course"]["id"])  # fmt: skip
    held_before = sum(road.desk.holds(target)["activities"].values())
    with gateway(road.desk.site.url) as gate:
        road.told(gate)
        with held(road.desk.site, COURSE, target):
            process = road.begun("import", f"id:{road.course}", f"id:{target}", "--wait", "40")
            assert gate.gave_up.wait(120)
        status, done = ended(process)
    assert status == 0, done
    assert done["gave_up"] and done["verified"]["ok"]
    assert gate.forwarded == 1
    arrived = road.desk.holds(target)
    assert sum(arrived["activities"].values()) - held_before >= sum(road.desk.holds(road.course)["activities"].values())
    assert arrived["users"] == 0


def test_moodles_own_records_are_asked_where_there_is_a_shell(road: Road) -> None:
    with gateway(road.desk.site.url) as gate:
        road.told(gate, ssh=True)
        with held(road.desk.site, CATEGORY, road.desk.category):
            process = road.begun(*road.copy("hosted", "--by-web"), site="hosted")
            assert gate.gave_up.wait(120)
        status, done = ended(process)
    assert (status, done["verified"]["ok"], bool(done["gave_up"])) == (0, True, True), done


def test_what_cannot_be_done_by_web_is_refused_by_name_and_nothing_is_sent(road: Road) -> None:
    before = traces(road.desk)
    with gateway(road.desk.site.url) as gate:
        road.told(gate)

        def refused(*words: str) -> dict[str, Any]:
            status, error = ended(road.begun(*words))
            assert status == 5, error
            return error

        error = refused("import", "RICH101", f"id:{road.course}", "--delete-contents")
        assert "safety backup" in error["message"] and "shell" in error["hint"]
        assert refused(*road.copy("x", "--startdate", "2031-02-03"))["code"] == "needs_shell"
        assert refused(*road.copy("x", "--without", "badges"))["code"] == "needs_shell"
        assert refused(*road.copy("x")[:-1], "EMPTY1")["code"] == "shortname_taken"
        plan = ended(road.begun(*road.copy("x", "--dry-run")))[1]
        assert plan["settings"]["users"] is False and plan["activities"] > 5
        assert gate.forwarded == 0
    assert left(road.desk, before) == ""
