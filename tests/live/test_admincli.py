"""A host whose sudo rule allows nobody but Moodle's own scripts, driven by those and web services alone.

Run as root, a person of that host is made for it: a system user whom a private sshd lets in and whom sudo lets run
four scripts as the web server's user, and nothing else. Otherwise the site's plain hops are used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
import servers
from conftest import Command

DATA = Path(__file__).parents[1] / "data" / "mbz"
PERSON = "mctl-cli"
RULES = (
    "{php} {dir}/admin/cli/backup.php *, {php} {dir}/admin/cli/restore_backup.php *, "
    "{php} {dir}/admin/cli/automated_backups.php, {php} {dir}/admin/cli/delete_course.php *"
)

MAKE = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
$g = phpunit_util::get_data_generator();
$category = core_course_category::create(['name' => $arguments['name']])->id;
$course = $g->create_course(['shortname' => $arguments['name'], 'fullname' => 'Verger & potager 🌱',
    'category' => $category, 'numsections' => 3], ['createsections' => true]);
$student = $DB->get_record('user', ['username' => 'bstudent1']) ?: $g->create_user(['username' => 'bstudent1']);
$g->enrol_user($student->id, $course->id, 'student');
foreach ([['page', 1], ['page', 3], ['forum', 2]] as list($module, $section)) {
    $g->create_module($module, ['course' => $course->id, 'name' => "Un $module"], ['section' => $section]);
}
echo json_encode(['category' => (int)$category, 'course' => (int)$course->id]);
"""

# Nothing of ours stays: courses, what lies in bins and private areas, and tasks in the queue.
CLEAR = """
require_once($CFG->dirroot . '/course/lib.php');
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
foreach ($DB->get_fieldset_select('course', 'id', 'category = ?', [$arguments['id']]) as $course) {
    $DB->delete_records_select('task_adhoc', $DB->sql_like('classname', '?') . ' AND '
        . $DB->sql_like('customdata', '?'), ['%course_backup_task', '%"courseid":"' . $course . '"%']);
    foreach ($DB->get_fieldset_select('files', 'id', "component = 'user' AND filearea = 'backup' AND filename LIKE ?",
            ["%-moodle2-course-$course-%"]) as $file) {
        get_file_storage()->get_file_by_id($file)->delete();
    }
}
core_course_category::get($arguments['id'])->delete_full(false);
"""

MODULES = """
echo json_encode((object)$DB->get_records_sql_menu("SELECT m.name, COUNT(*) FROM {course_modules} cm JOIN {modules} m
    ON m.id = cm.module WHERE cm.course = ? AND cm.deletioninprogress = 0 GROUP BY m.name", [$arguments['id']]));
"""

SWITCH = """
set_config('backup_auto_active', $arguments['active'], 'backup');
if (!empty($arguments['course'])) {
    $DB->delete_records('backup_courses', ['courseid' => $arguments['course']]);
    $DB->insert_record('backup_courses', (object)['courseid' => $arguments['course'], 'laststarttime' => 0,
        'lastendtime' => 0, 'laststatus' => '5', 'nextstarttime' => 1]);
}
"""


@dataclass
class Place:
    """One site seen by the person who may run scripts only, with a category and a course of the test's own."""

    site: rig.LiveMoodle
    command: Command
    exchange: Path
    category: int
    course: int

    def __call__(self, *words: str) -> Any:
        return self.command("--site", "scripts", "-o", "json", *words)

    def courses(self) -> list[str]:
        """Everything in the category, by short name, asked of the database."""
        query = f"SELECT shortname FROM {{course}} WHERE category = {self.category} ORDER BY id"
        return [row[0] for row in self.site.sql(query)]

    def modules(self, course: int) -> dict[str, int]:
        found = json.loads(self.site.php(MODULES, id=course))
        return {name: int(number) for name, number in found.items()}


@pytest.fixture(scope="session")
def host(moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """The private sshd that lets the person in, as its directory; None where we are not root."""
    if not servers.AS_ROOT:
        yield None
        return
    work = Path("/tmp") / f"mctl-cli-{uuid.uuid4().hex[:8]}"
    work.mkdir(mode=0o755)
    web_user = next(iter(moodles.values())).web_user
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--password", "*", PERSON], check=True)
    subprocess.run(["usermod", "-a", "-G", web_user, PERSON], check=True)
    sudoers = Path(f"/etc/sudoers.d/{PERSON}")
    php = shutil.which("php")
    rules = ", ".join(RULES.format(php=php, dir=site.moodle_dir) for site in moodles.values())
    sudoers.touch(mode=0o440)
    sudoers.write_text(f"{PERSON} ALL=({web_user}) NOPASSWD: {rules}\n")
    ssh = None
    try:
        subprocess.run(["visudo", "-cqf", str(sudoers)], check=True)
        ssh = servers.start_sshd(work, "scripts-host")
        (work / "ssh").chmod(0o711)  # the person's own sshd process reads the authorized keys
        ssh.config.write_text(ssh.config.read_text().replace(f"User {servers.ME}", f"User {PERSON}"))
        yield ssh.config
    finally:
        if ssh is not None:
            ssh.stop()
        sudoers.unlink()
        subprocess.run(["userdel", PERSON], check=False, capture_output=True)
        shutil.rmtree(work)


@pytest.fixture
def place(moodle: rig.LiveMoodle, moodlectl: Command, host: Path | None) -> Iterator[Place]:
    """A place of the test's own, gone afterwards; nothing may be left in the exchange folder."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    exchange = Path("/tmp") / f"mctl-{name}"
    exchange.mkdir()
    if host is not None:
        shutil.chown(exchange, PERSON, moodle.web_user)
    exchange.chmod(0o2770)
    made = json.loads(moodle.php(MAKE, name=name))
    found = Place(moodle, moodlectl, exchange, made["category"], made["course"])
    add(found, host, "scripts", token=True)
    try:
        yield found
        assert list(exchange.iterdir()) == [], "what was carried to the host must be gone"
    finally:
        moodle.php(CLEAR, id=found.category)
        shutil.rmtree(exchange)


def add(place: Place, host: Path | None, name: str, *, token: bool) -> None:
    """Tell the command about the site, with engine admin-cli and the person's hops."""
    site = place.site
    words = ["site", "add", name, "--url", site.url, "--engine", "admin-cli", "--no-check"]
    words += ["--moodle-dir", str(site.moodle_dir), "--exchange-dir", str(place.exchange)]
    if host is None:
        place.command.use(site)
    via = site.via if host is None else ["ssh:scripts-host", f"user:{site.web_user}"]
    for hop in via:
        words += ["--via", hop]
    if host is not None:
        words += ["--ssh-config", str(host)]
    if token:
        secret = place.command.home / f"{name}.token"
        secret.touch(mode=0o600)
        secret.write_text(site.tokens["admin"])
        words += ["--token-from", f"file:{secret}"]
    done = place.command(*words)
    assert done.status == 0, done.stderr


def test_the_rule_lets_nothing_else_run(place: Place, host: Path | None) -> None:
    if host is None:
        assert place.site.via
        return
    there = ["ssh", "-F", str(host), "scripts-host"]
    assert subprocess.run([*there, "whoami"], capture_output=True, text=True, check=True).stdout == f"{PERSON}\n"
    for words in (["php", "-r", "echo 1;"], ["true"], ["php", f"{place.site.moodle_dir}/admin/cli/cfg.php"]):
        sudo = ["sudo", "-n", "-u", place.site.web_user, *words]
        assert subprocess.run([*there, *sudo], capture_output=True, check=False).returncode == 1


def test_the_check_tries_every_script_and_the_folder_for_both_users(place: Place) -> None:
    done = place("site", "check", "scripts")
    assert done.status == 0, done.stdout + done.stderr
    found = {line["name"]: line["verdict"] for line in done.json}
    wanted = ["backup.php", "restore_backup.php", "automated_backups.php", "delete_course.php"]
    assert {found[f"admin/cli/{name}"] for name in wanted} == {"ok"}
    assert found["restores"] == "ok"
    assert found["exchange_dir"] == found["exchange_dir for the web server"] == "ok"
    assert found["exchange_dir's permissions"] == "ok"


def test_a_folder_the_web_server_may_not_write_to_is_an_error_of_the_check(place: Place, host: Path | None) -> None:
    if host is not None:
        shutil.chown(place.exchange, PERSON, PERSON)
    place.exchange.chmod(0o700 if host is not None else 0o500)
    done = place("site", "check", "scripts")
    place.exchange.chmod(0o700)
    assert done.status == 3
    found = {line["name"]: line["verdict"] for line in done.json}
    assert "error" in (found["exchange_dir for the web server"], found["exchange_dir"])


def test_a_course_is_backed_up_found_by_evidence_brought_down_and_restored_into_a_new_one(place: Place) -> None:
    made = place("backup", "create", f"id:{place.course}", "--download", "down")
    assert made.status == 0, made.stderr
    path = place.command.home / made.json[0]["path"]
    assert path.stat().st_size == made.json[0]["size"] > 0
    assert made.json[0]["area"] == "course"
    assert place("backup", "verify", str(path)).status == 0
    stored = place.site.sql(
        "SELECT contenthash FROM {files} f JOIN {context} x ON x.id = f.contextid WHERE f.component = 'backup' AND "
        f"x.contextlevel = 50 AND x.instanceid = {place.course} AND f.filename <> '.'"
    )
    assert stored == [[made.json[0]["sha1"]]]
    done = place("restore", str(path), "--new", f"id:{place.category}")
    assert done.status == 0, done.stderr
    assert done.json["verified"]["ok"]
    assert place.modules(done.json["course"]["id"]) == place.modules(place.course) == {"page": 2, "forum": 1}
    assert len(place.courses()) == 2


def test_a_stored_backup_is_restored_from_where_it_lies(place: Place) -> None:
    assert place("backup", "create", f"id:{place.course}").status == 0
    done = place("restore", f"id:{place.course}@course", "--new", f"id:{place.category}")
    assert done.status == 0, done.stderr
    assert place.modules(done.json["course"]["id"]) == {"page": 2, "forum": 1}


def test_two_backups_in_one_minute_are_both_seen_though_one_takes_the_others_name(place: Place) -> None:
    first, second = (place("backup", "create", f"id:{place.course}") for _ in range(2))
    assert (first.status, second.status) == (0, 0), second.stderr
    assert second.json[0]["filename"][:40] == first.json[0]["filename"][:40]


def test_without_a_token_a_course_named_by_id_is_backed_up_into_the_exchange_folder(
    place: Place, host: Path | None
) -> None:
    add(place, host, "blind", token=False)
    words = ["--site", "blind", "-o", "json", "backup", "create"]
    made = place.command(*words, f"id:{place.course}", "--download", "down", "--remove-remote")
    assert made.status == 0, made.stderr
    path = place.command.home / made.json[0]["path"]
    assert place("backup", "verify", str(path)).status == 0
    inspected = place("backup", "inspect", str(path))
    assert inspected.json["course"]["id"] == place.course
    unknown = place.command(*words, "id:2000000000", "--download", "down")
    assert unknown.status == 1
    assert unknown.error["code"] == "script_failed"
    named = place.command(*words, "RICH101")
    assert (named.status, named.error["code"]) == (3, "notoken")
    assert "scripts" not in named.error["message"]


def test_a_backup_is_merged_into_a_course(place: Place) -> None:
    before = place.modules(place.course)
    made = place("backup", "create", f"id:{place.course}", "--download", "down")
    path = str(place.command.home / made.json[0]["path"])
    done = place("restore", path, "--merge", f"id:{place.course}", "--no-safety-backup")
    assert done.status == 0, done.stderr
    assert done.json["verified"]["ok"]
    assert place.modules(place.course) == {name: 2 * number for name, number in before.items()}
    assert len(place.courses()) == 1


def test_people_in_conflict_are_named_and_no_course_stays_behind(place: Place) -> None:
    words = ["restore", str(DATA / "course-4.5-tgz-users.mbz"), "--new", f"id:{place.category}"]
    planned = place(*words, "--dry-run")
    done = place(*words)
    assert any("'admin'" in text for text in planned.json["precheck"]["errors"])
    assert done.status == 5, done.stdout + done.stderr
    assert done.error["code"] == "user_conflict"
    assert "admin" in done.error["details"]["conflicts"]
    assert "course_removed" not in done.error["details"]  # none was made
    assert len(place.courses()) == 1


def test_a_newer_backup_and_one_without_files_are_refused_before_anything_runs(place: Place) -> None:
    wanted = {"course-4.1-tgz-without-files.mbz": "without-files"}
    if place.site.release == "4.5":
        wanted["course-5.1-tgz-subsections.mbz"] = "newer-backup"
    for name, code in wanted.items():
        done = place("restore", str(DATA / name), "--new", f"id:{place.category}")
        assert done.status == 5, done.stdout + done.stderr
        # People in conflict, where the file has any, are told first.
        assert code in {one["name"] for one in done.error["details"]["findings"]}
    assert len(place.courses()) == 1


REFUSED = [
    ["backup", "create", "COURSE", "--without", "users"],
    ["backup", "create", "COURSE", "--skip", "section:1"],
    ["backup", "create", "COURSE", "--anonymize"],
    ["backup", "create", "COURSE", "--as", "teacher1"],
    ["backup", "settings", "COURSE"],
    ["restore", "FILE", "--new", "CATEGORY", "--shortname", "X"],
    ["restore", "FILE", "--new", "CATEGORY", "--startdate", "2030-01-01"],
    ["restore", "FILE", "--new", "CATEGORY", "--hidden"],
    ["restore", "FILE", "--new", "CATEGORY", "--without", "blocks"],
    ["restore", "FILE", "--new", "CATEGORY", "--enrolments", "manual"],
    ["restore", "FILE", "--new", "CATEGORY", "--on-user-conflict", "without-users"],
    ["-y", "restore", "FILE", "--replace", "COURSE", "--no-safety-backup"],
    ["restore", "FILE", "--merge", "COURSE"],  # whose safety backup would have to have everything
]


def test_what_the_scripts_cannot_do_is_refused_by_name_before_anything_runs(place: Place) -> None:
    stand_for = {
        "COURSE": f"id:{place.course}",
        "CATEGORY": f"id:{place.category}",
        "FILE": str(DATA / "course-4.5-tgz-users.mbz"),
    }
    for words in REFUSED:
        done = place(*(stand_for.get(word, word) for word in words))
        assert (done.status, done.error["code"]) == (5, "engine_cannot"), (words, done.stdout, done.stderr)
        assert "admin-cli" in done.error["message"]
    assert len(place.courses()) == 1
    assert place("backup", "list", f"id:{place.course}", "--area", "course").json == []


def test_a_stored_backup_is_not_deleted_and_that_is_said(place: Place) -> None:
    assert place("backup", "create", f"id:{place.course}").status == 0
    done = place("-y", "backup", "delete", f"id:{place.course}@course")
    assert (done.status, done.error["code"]) == (5, "engine_cannot")
    assert len(place("backup", "list", f"id:{place.course}", "--area", "course").json) == 1


def test_automated_backups_that_are_off_are_refused_and_those_put_into_the_queue_are_called_queued(
    place: Place,
) -> None:
    query = "SELECT value FROM {config_plugins} WHERE plugin = 'backup' AND name = 'backup_auto_active'"
    was = int(place.site.sql(query)[0][0])
    try:
        place.site.php(SWITCH, active=0)
        off = place("backup", "automated")
        place.site.php(SWITCH, active=2, course=place.course)
        done = place("backup", "automated")
    finally:
        place.site.php(SWITCH, active=was)
    assert (off.status, off.error["code"]) == (5, "automated_disabled")
    assert done.status == 0, done.stderr
    ours = [row for row in done.json if row["course"]["id"] == place.course]
    assert [row["status"] for row in ours] == ["queued"]


def test_a_connection_that_breaks_while_the_script_works_leaves_the_outcome_unknown(place: Place) -> None:
    process = place.command.popen("--site", "scripts", "-o", "json", "backup", "create", f"id:{place.course}")
    wanted = f"backup.php --courseid={place.course}"
    until(lambda: bool(children(process.pid, wanted)), process)
    client = children(process.pid, wanted)
    os.kill(client[0], 9)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (6, 8), errors
    # The script goes on on the host; it has to end before its course is cleared away.
    until(lambda: not running(wanted), None)


def children(parent: int, words: str) -> list[int]:
    """The processes below one of ours whose command line holds those words."""
    found = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and words in args]


def running(words: str) -> bool:
    found = subprocess.run(["ps", "-wweo", "args="], capture_output=True, text=True, check=True).stdout
    return any(words in line for line in found.splitlines())


def until(ready: Callable[[], bool], process: subprocess.Popen[str] | None, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process is None or process.poll() is None, process.communicate() if process else ""
        assert time.monotonic() < end
        time.sleep(0.05)
