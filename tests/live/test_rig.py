"""The rig itself: that the sites are real, whole, private, and reached every way the tests reach them."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import rig


def call(moodle: rig.LiveMoodle, function: str, token: str = "admin", **arguments: Any) -> Any:
    """One web-service call, made without moodlectl."""
    words = {"wstoken": moodle.tokens[token], "wsfunction": function, "moodlewsrestformat": "json"}
    body = urllib.parse.urlencode({**words, **arguments}).encode()
    with urllib.request.urlopen(f"{moodle.url}/webservice/rest/server.php", body, timeout=120) as reply:
        return json.load(reply)


def test_every_token_answers_for_its_own_user(moodle: rig.LiveMoodle) -> None:
    names = {
        token: call(moodle, "core_webservice_get_site_info", token)["username"]
        for token in ("admin", "manager1", "teacher1", "poor")
    }
    assert names == {"admin": "admin", "manager1": "manager1", "teacher1": "teacher1", "poor": "admin"}


def test_the_poor_service_lacks_most_functions(moodle: rig.LiveMoodle) -> None:
    reply = call(moodle, "core_course_get_categories", "poor")
    assert reply["errorcode"] == "accessexception"


def test_the_host_is_reached_over_ssh_as_the_web_servers_user(moodle: rig.LiveMoodle) -> None:
    sudo = ["sudo", "-n", "-u", moodle.web_user] if len(moodle.via) > 1 else []
    done = subprocess.run(
        ["ssh", "-F", str(moodle.ssh_config), moodle.ssh_alias, *sudo, "id", "-un"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, moodle.web_user), done.stderr


def test_the_rich_course_holds_work_of_people(moodle: rig.LiveMoodle) -> None:
    course = moodle.content["rich"]["id"]

    def count(sql: str) -> int:
        return int(moodle.sql(f"SELECT count(*) {sql}")[0][0])

    assert count(f"FROM {{user_enrolments}} u JOIN {{enrol}} e ON e.id = u.enrolid"
                 f" WHERE e.courseid = {course}") >= 16
    assert count(f"FROM {{assign_submission}} s JOIN {{assign}} a ON a.id = s.assignment"
                 f" WHERE a.course = {course} AND s.status = 'submitted'") == 8
    assert count(f"FROM {{assign_grades}} g JOIN {{assign}} a ON a.id = g.assignment"
                 f" WHERE a.course = {course}") == 6
    assert count(f"FROM {{quiz_attempts}} t JOIN {{quiz}} q ON q.id = t.quiz"
                 f" WHERE q.course = {course} AND t.state = 'finished'") == 5
    assert count(f"FROM {{forum_posts}} p JOIN {{forum_discussions}} d ON d.id = p.discussion"
                 f" WHERE d.course = {course}") == 16
    assert count(f"FROM {{grade_grades_history}} h JOIN {{grade_items}} i ON i.id = h.itemid"
                 f" WHERE i.courseid = {course} AND i.itemmodule = 'assign'") >= 12
    for table in ("badge", "groups", "groupings"):
        assert count(f"FROM {{{table}}} WHERE courseid = {course}") >= 1, table
    assert count(f"FROM {{event}} WHERE courseid = {course} AND name = 'Excursion'") == 1
    assert count(f"FROM {{logstore_standard_log}} WHERE courseid = {course}") >= 20
    assert count(f"FROM {{course_modules_completion}} c JOIN {{course_modules}} m ON m.id = c.coursemoduleid"
                 f" WHERE m.course = {course}") >= 4
    assert count(f"FROM {{course_sections}} WHERE course = {course} AND component = 'mod_subsection'") == 1


def test_names_survive_in_every_script(moodle: rig.LiveMoodle) -> None:
    rows = moodle.sql("SELECT fullname FROM {course} WHERE shortname = 'RICH101'")
    assert rows == [["Biologie végétale 🌱"]]


def test_two_backups_lie_in_their_areas(moodle: rig.LiveMoodle) -> None:
    assert [one["filename"] for one in moodle.content["course_backups"]] == ["rig-course-backup.mbz"]
    automated = moodle.content["automated_backups"]
    assert len(automated) == 1
    assert automated[0]["filename"].startswith("backup-moodle2-course-")


def test_the_scripts_own_word_reaches_php_unchanged(moodle: rig.LiveMoodle) -> None:
    word = "it's \"quoted\" $HOME `id` 🌱\n"
    assert moodle.php("echo $arguments['word'];", word=word) == word


def test_config_php_is_a_file_of_its_own_and_not_the_persons(moodle: rig.LiveMoodle) -> None:
    assert (moodle.moodle_dir / "config.php").stat().st_nlink == 1


def test_the_web_server_listens_on_loopback_only(moodle: rig.LiveMoodle) -> None:
    port = int(moodle.url.rsplit(":", 1)[1])
    listening = {
        line.split()[1].rsplit(":", 1)[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rsplit(":", 1)[1], 16) == port
    }
    assert listening == {socket.inet_aton("127.0.0.1")[::-1].hex().upper()}
