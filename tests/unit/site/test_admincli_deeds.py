"""Deeds of the engine admin-cli: a stand-in for PHP that lies as Moodle's scripts do, and a site seen over HTTP."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import responses

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, Failed, NotFound, OutcomeUnknown, Refused
from moodlectl.secret import Secret
from moodlectl.site.admincli import AdminCliSite
from moodlectl.site.port import BackupRequest, RestoreRequest, RestoreSource
from moodlectl.site.webservice import WebService

URL = "https://moodle.example"
FILE = Path(__file__).parents[2] / "data" / "mbz" / "course-4.5-tgz-users.mbz"
FUNCTIONS = [
    "core_webservice_get_site_info",
    "core_course_get_courses_by_field",
    "core_course_get_categories",
    "core_course_get_contents",
    "core_files_get_files",
    "core_user_get_users_by_field",
]
NAME = "backup-moodle2-course-4-bio-20261123-2121.mbz"

# Runs, for each script, the lines of a file of its name; what it does to the site it does to site.json.
PHP = """#!/bin/sh
here={here}
name=$(basename "$1")
shift
[ "$1" = --help ] || echo "$name $*" >>"$here/calls"
if [ ! -f "$here/$name" ]; then
    echo "Could not open input file: $name"
    exit 1
fi
file=${{1#--file=}}
. "$here/$name"
"""
RESTORE = """
if [ "$1" = --help ]; then echo "-c, --categoryid=INT"; echo "-C, --courseid=INT"; exit 0; fi
echo "== Extracting backup file to: /d/temp/backup/1f ==" ; echo "== Preprocessing backup file =="
"""
CONFLICT = """
echo "== Cleaning temp data =="; echo "!!! Exception - error/restore_not_executable_awaiting_required !!!"; exit 1
"""


@dataclass
class Fake:
    """A site in a file: ``state`` before, and ``after`` by name for the scripts to put in its place."""

    folder: Path
    asked: list[str] = field(default_factory=list)

    @property
    def exchange(self) -> Path:
        return self.folder / "exchange"

    def state(self, name: str = "site", **what: Any) -> None:
        """Lay down what the site is, or what a script makes of it: courses, contents, files, accounts."""
        everything = {"courses": [course(4, "BIO")], "contents": {}, "files": [], "accounts": [], **what}
        (self.folder / f"{name}.json").write_text(json.dumps(everything))

    def script(self, name: str, lines: str) -> None:
        (self.folder / name).write_text(lines)

    def becomes(self, name: str) -> str:
        """The shell words that make the site what ``name`` says."""
        return f'cp "$here/{name}.json" "$here/site.json"\n'

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def open(self, *, token: bool = True, **settings: Any) -> AdminCliSite:
        given = {"php": str(self.folder / "php"), "moodle_dir": "/srv/moodle", "exchange_dir": str(self.exchange)}
        config = SiteConfig("s", url=URL, **{**given, **settings})
        return AdminCliSite(config, WebService(URL, Secret("a" * 32)) if token else None)

    def answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        asked = {key: values[0] for key, values in parse_qs(request.body).items()}
        self.asked.append(asked["wsfunction"])
        state = json.loads((self.folder / "site.json").read_text())
        return 200, {}, json.dumps(reply(asked, state))


def reply(asked: dict[str, str], state: dict[str, Any]) -> Any:
    match asked["wsfunction"]:
        case "core_webservice_get_site_info":
            functions = [{"name": name} for name in FUNCTIONS]
            return {"userid": 2, "username": "admin", "siteurl": URL, "release": "4.5.6 (Build: 20250811)",
                    "version": "2024100706.00", "functions": functions}  # fmt: skip
        case "core_course_get_courses_by_field":
            name = {"category": "categoryid", "": ""}.get(asked.get("field", ""), asked.get("field", ""))
            wanted = [one for one in state["courses"] if not name or str(one[name]) == asked["value"]]
            return {"courses": wanted}
        case "core_course_get_categories":
            return [{"id": 3, "name": "Arts", "parent": 0}]
        case "core_course_get_contents":
            return state["contents"].get(asked["courseid"], [])
        case "core_files_get_files":
            mine = [one for one in state["files"] if one["filearea"] == asked["filearea"]]
            return {"files": [one for one in mine if one["component"] == asked["component"]]}
        case "core_user_get_users_by_field":
            names = {value for key, value in asked.items() if key.startswith("values")}
            return [one for one in state["accounts"] if str(one[asked["field"]]) in names]
    raise AssertionError(asked["wsfunction"])


def course(id_: int, shortname: str, visible: int = 1) -> dict[str, Any]:
    return {"id": id_, "shortname": shortname, "fullname": shortname, "categoryid": 3, "visible": visible}


def stored(filename: str = NAME, size: int = 99, made: int = 1795468814, **more: Any) -> dict[str, Any]:
    where = {"contextid": 9, "component": "backup", "filearea": "course", "itemid": 0, "filepath": "/"}
    return {**where, "filename": filename, "isdir": False, "filesize": size, "timecreated": made, "url": "", **more}


def contents_of_file() -> list[dict[str, Any]]:
    """The sections and activities that ``FILE`` holds, as Moodle's web services would show them."""
    modules = ["resource", "resource", "forum", "assign", "page"]
    shown = [{"id": 20 + n, "modname": name, "name": name, "instance": n} for n, name in enumerate(modules)]
    return [{"id": 1, "section": 0, "name": "", "modules": shown[:2]},
            {"id": 2, "section": 1, "name": "", "modules": shown[2:]}]  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(tmp_path)
    made.exchange.mkdir(mode=0o700)
    php = tmp_path / "php"
    php.write_text(PHP.format(here=shlex.quote(str(tmp_path))))
    php.chmod(0o755)
    made.state()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        mocked.add_callback(responses.POST, re.compile(rf"{URL}/webservice/rest/.*"), made.answer)
        yield made


def new_course() -> RestoreRequest:
    return RestoreRequest(RestoreSource(path=FILE), "new", category_id=3, allow=frozenset({"without-files"}))


# --- backups --------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_file_that_was_not_there_before(fake: Fake) -> None:
    fake.state(files=[stored("backup-moodle2-course-4-bio-20261122-2121.mbz", made=1)])
    fake.state("after", files=[stored("backup-moodle2-course-4-bio-20261122-2121.mbz", made=1), stored()])
    fake.script("backup.php", f'echo "== Performing backup... =="\n{fake.becomes("after")}echo "Backup completed, …"\n')
    made = fake.open().backup(BackupRequest(4))
    assert (made.file.filename, made.file.area, made.file.size) == (NAME, "course", 99)
    assert fake.calls() == ["backup.php --courseid=4"]


def test_a_backup_that_takes_the_name_of_an_older_one_is_seen_by_its_time(fake: Fake) -> None:
    fake.state(files=[stored(made=1795468814)])
    fake.state("after", files=[stored(made=1795468830)])
    fake.script("backup.php", f'echo "== x =="\n{fake.becomes("after")}echo "Backup completed, …"\n')
    assert fake.open().backup(BackupRequest(4)).file.timecreated.timestamp() == 1795468830


def test_a_backup_without_people_is_found_in_the_private_area(fake: Fake) -> None:
    private = stored(NAME.replace(".mbz", "-nu.mbz"), component="user", filearea="backup")
    fake.state("after", files=[private])
    fake.script("backup.php", f'echo "== x =="\n{fake.becomes("after")}echo "Backup completed, …"\n')
    made = fake.open().backup(BackupRequest(4))
    assert (made.file.area, made.settings) == ("private", {"users": False})


@pytest.mark.parametrize("words", ["Error: No admin account was found", "Perform backup of the given course."])
def test_status_0_and_no_new_file_is_a_failure_in_the_scripts_words(fake: Fake, words: str) -> None:
    fake.state(files=[stored()])
    fake.script("backup.php", f'echo "{words}"\nexit 0\n')
    with pytest.raises(Failed, match=words) as error:
        fake.open().backup(BackupRequest(4))
    assert error.value.details["exit_status"] == 0


def test_a_backup_said_to_be_made_that_nobody_sees_is_an_unknown_outcome(fake: Fake) -> None:
    fake.script("backup.php", 'echo "== x =="\necho "Backup completed, the new file is listed in …"\n')
    with pytest.raises(OutcomeUnknown) as error:
        fake.open().backup(BackupRequest(4))
    assert error.value.code == "backup_not_seen"
    assert "first administrator" in (error.value.hint or "")


def test_a_script_killed_at_work_leaves_the_outcome_unknown(fake: Fake) -> None:
    fake.script("backup.php", 'echo "== Performing backup... =="\nkill -9 $$\n')
    with pytest.raises(OutcomeUnknown) as error:
        fake.open().backup(BackupRequest(4))
    assert error.value.code == "cut_off"


def test_a_fatal_error_of_php_is_a_failure_and_not_a_lost_connection(fake: Fake) -> None:
    fake.script("backup.php", 'echo "== x =="\necho "PHP Fatal error:  Allowed memory size exhausted"\nexit 255\n')
    with pytest.raises(Failed, match="Allowed memory size exhausted"):
        fake.open().backup(BackupRequest(4))


def test_a_release_without_the_script_is_said_by_name(fake: Fake) -> None:
    with pytest.raises(Refused, match=r"admin/cli/backup\.php") as error:
        fake.open().backup(BackupRequest(4))
    assert error.value.code == "engine_cannot"


def test_no_php_is_said_by_name(fake: Fake) -> None:
    with pytest.raises(NotFound) as error:
        fake.open(php="/nowhere/php").backup(BackupRequest(4))
    assert error.value.code == "php_missing"


def test_a_script_that_sudo_does_not_allow_is_said_with_the_rule_that_would(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(__file__).parents[2] / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN_SUDO_SAYS", "sudo: a password is required")
    with pytest.raises(AccessError) as error:
        fake.open(via=("user:nobody-we-are",)).backup(BackupRequest(4))
    assert error.value.code == "sudo_password"
    assert "/srv/moodle/admin/cli/backup.php" in (error.value.hint or "")


# --- the exchange folder --------------------------------------------------------------------------------------------


def test_without_a_token_a_backup_goes_through_the_exchange_folder(fake: Fake, tmp_path: Path) -> None:
    fake.script("backup.php", f"""
dir=${{2#--destination=}}
echo "== Performing backup... =="; cp {shlex.quote(str(FILE))} "$dir/{NAME}"
echo "Writing $dir/{NAME}"; echo "Backup completed."
""")
    site = fake.open(token=False)
    made = site.backup(BackupRequest(4))
    assert made.file.size == FILE.stat().st_size
    got = site.download(made.file, tmp_path / "here.mbz")
    assert (tmp_path / "here.mbz").read_bytes() == FILE.read_bytes()
    assert got.sha1 == made.file.sha1
    site.delete_backup(made.file)
    assert list(fake.exchange.iterdir()) == []


def test_a_download_from_the_exchange_folder_goes_on_where_it_stopped(fake: Fake, tmp_path: Path) -> None:
    shutil.copy(FILE, fake.exchange / NAME)
    fake.script("backup.php", f'echo "== x =="\necho "Writing {fake.exchange}/{NAME}"\necho "Backup completed."\n')
    site = fake.open(token=False)
    made = site.backup(BackupRequest(4))
    (tmp_path / "here.mbz.part").write_bytes(FILE.read_bytes()[:1000])
    told: list[float] = []
    site.download(made.file, tmp_path / "here.mbz", lambda progress: told.append(progress.done))
    assert told[0] > 1000
    assert (tmp_path / "here.mbz").read_bytes() == FILE.read_bytes()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Destination directory does not exists or not writable.", "exchange_dir"),
        ("== Performing backup... ==", "script_failed"),
        ("Writing /elsewhere/x.mbz", "script_failed"),
    ],
)
def test_a_backup_that_does_not_reach_the_exchange_folder_is_no_backup(fake: Fake, words: str, code: str) -> None:
    fake.script("backup.php", f'echo "{words}"\nexit 0\n')
    with pytest.raises((AccessError, Failed)) as error:
        fake.open(token=False).backup(BackupRequest(4))
    assert error.value.code == code


def test_an_empty_file_in_the_exchange_folder_is_no_backup(fake: Fake) -> None:
    (fake.exchange / NAME).touch()
    fake.script("backup.php", f'echo "== x =="\necho "Writing {fake.exchange}/{NAME}"\necho "Backup completed."\n')
    with pytest.raises(Failed) as error:
        fake.open(token=False).backup(BackupRequest(4))
    assert error.value.code == "backup_not_seen"


# --- restores -------------------------------------------------------------------------------------------------------


def test_a_restore_carries_the_file_there_and_takes_it_away_again(fake: Fake) -> None:
    fake.state("after", courses=[course(4, "BIO"), course(9, "BIO_1")], contents={"9": contents_of_file()})
    keep = 'cp "$file" "$here/arrived"; stat -c %a "$file" >"$here/mode"\n'
    fake.script("restore_backup.php", f'{RESTORE}{keep}{fake.becomes("after")}echo "== Restored course ID: 9 =="\n')
    done = fake.open().restore(new_course())
    assert (done.course.id, done.course.shortname) == (9, "BIO_1")
    assert done.expected.activities == done.after.activities == {"resource": 2, "forum": 1, "assign": 1, "page": 1}
    assert done.expected.sections == done.after.sections == 2
    assert (fake.folder / "arrived").read_bytes() == FILE.read_bytes()
    assert (fake.folder / "mode").read_text() == "644\n"
    assert list(fake.exchange.iterdir()) == []


def test_a_restore_that_names_a_course_that_was_there_before_is_not_believed(fake: Fake) -> None:
    fake.script("restore_backup.php", f'{RESTORE}echo "== Restored course ID: 4 =="\n')
    with pytest.raises(Failed, match="said of no course"):
        fake.open().restore(new_course())


def test_people_in_conflict_are_refused_before_anything_runs(fake: Fake) -> None:
    fake.state(accounts=[{"id": 77, "username": "admin", "email": "another@example.invalid", "firstaccess": 5}])
    fake.script("restore_backup.php", f'{RESTORE}touch "$here/ran"\n')
    with pytest.raises(Refused) as error:
        fake.open().restore(new_course())
    assert (error.value.code, error.value.details["conflicts"]) == ("user_conflict", ["admin"])
    assert not (fake.folder / "ran").exists()
    assert list(fake.exchange.iterdir()) == []


def test_people_who_are_in_conflict_all_of_a_sudden_are_found_and_the_empty_course_is_removed(fake: Fake) -> None:
    someone = {"id": 77, "username": "admin", "email": "another@example.invalid", "firstaccess": 5}
    fake.state("begun", courses=[course(4, "BIO"), course(9, "restoring", 0)], accounts=[someone])
    fake.state("cleared", accounts=[someone])
    fake.script("restore_backup.php", f"{RESTORE}{fake.becomes('begun')}{CONFLICT}")
    # As in 4.5.6 and 5.1: past the recycle bin it breaks off at an empty course.
    fake.script("delete_course.php", f"""
case "$*" in
*disablerecyclebin*) echo "!!! Exception - Call to undefined function course_get_format() !!!"; exit 1;;
esac
{fake.becomes("cleared")}echo "Done!"
""")
    with pytest.raises(Refused) as error:
        fake.open().restore(new_course())
    assert error.value.code == "user_conflict"
    assert error.value.details["conflicts"] == ["admin"]
    assert error.value.details["course_removed"] == 9
    assert error.value.details["in_recycle_bin"] is True
    assert fake.calls()[1:] == [
        "delete_course.php --courseid=9 --disablerecyclebin --non-interactive",
        "delete_course.php --courseid=9 --non-interactive",
    ]
    assert list(fake.exchange.iterdir()) == []


def test_the_placeholder_is_known_in_any_language_where_the_pre_check_stopped_it(fake: Fake) -> None:
    fake.state("begun", courses=[course(4, "BIO"), course(9, "wiederherstellung", 0)])
    fake.state("cleared")
    fake.script("restore_backup.php", f"{RESTORE}{fake.becomes('begun')}{CONFLICT}")
    fake.script("delete_course.php", f'{fake.becomes("cleared")}echo "Done!"\n')
    with pytest.raises(Refused) as error:
        fake.open().restore(new_course())
    assert error.value.details["course_removed"] == 9


def test_what_may_be_anothers_course_is_named_and_not_deleted(fake: Fake) -> None:
    both = [course(4, "BIO"), course(9, "restoring", 0), course(10, "restoring_1", 0)]
    fake.state("begun", courses=both)
    fake.script("restore_backup.php", f"{RESTORE}{fake.becomes('begun')}{CONFLICT}")
    with pytest.raises(Failed, match="id:9 restoring, id:10 restoring_1"):
        fake.open().restore(new_course())
    assert all("delete_course" not in call for call in fake.calls())


def test_a_course_that_somebody_made_meanwhile_is_left_alone(fake: Fake) -> None:
    fake.state("begun", courses=[course(4, "BIO"), course(9, "CHEM", 1)])
    fake.script("restore_backup.php", f"{RESTORE}{fake.becomes('begun')}{CONFLICT}")
    with pytest.raises(Refused):
        fake.open().restore(new_course())
    assert all("delete_course" not in call for call in fake.calls())


def test_a_release_without_delete_course_names_what_is_left(fake: Fake) -> None:
    fake.state("begun", courses=[course(4, "BIO"), course(9, "restoring", 0)])
    fake.script("restore_backup.php", f"{RESTORE}{fake.becomes('begun')}{CONFLICT}")
    with pytest.raises(Failed, match="delete it by hand: id:9 restoring") as error:
        fake.open().restore(new_course())
    assert error.value.details["left_behind"] == ["id:9 restoring"]


def test_where_the_script_never_got_to_a_course_none_is_looked_for(fake: Fake) -> None:
    fake.script("restore_backup.php", """
if [ "$1" = --help ]; then echo "--categoryid"; exit 0; fi
echo "!!! Sorry, the requested file could not be found !!!"; exit 1
""")
    with pytest.raises(Failed, match="requested file could not be found"):
        fake.open().restore(new_course())


def test_a_release_that_cannot_merge_says_so_before_anything_is_carried(fake: Fake) -> None:
    fake.script("restore_backup.php", 'echo "-f, --file=STRING"; echo "-c, --categoryid=INT"; exit 0\n')
    with pytest.raises(Refused, match="--courseid") as error:
        fake.open().restore(RestoreRequest(RestoreSource(path=FILE), "merge", course_id=4))
    assert error.value.code == "engine_cannot"
    assert fake.calls() == []


def test_a_merge_that_breaks_off_says_what_the_course_holds_now(fake: Fake) -> None:
    fake.state("half", contents={"4": contents_of_file()[:1]})
    fake.script("restore_backup.php", f'{RESTORE}{fake.becomes("half")}echo "!!! Exception - boom !!!"; exit 1\n')
    with pytest.raises(Failed, match="boom") as error:
        fake.open().restore(RestoreRequest(RestoreSource(path=FILE), "merge", course_id=4))
    assert error.value.details["left"] == {"sections": 1, "activities": {"resource": 2}}


def test_a_restore_without_an_exchange_folder_says_that_it_needs_one(fake: Fake) -> None:
    with pytest.raises(AccessError) as error:
        fake.open(exchange_dir=None).restore(new_course())
    assert error.value.code == "noexchange"


def test_an_exchange_folder_that_is_not_there_is_said_and_nothing_is_run(fake: Fake) -> None:
    fake.script("restore_backup.php", RESTORE)
    with pytest.raises(AccessError) as error:
        fake.open(exchange_dir=str(fake.folder / "none")).restore(new_course())
    assert error.value.code == "exchange_dir"
    assert fake.calls() == []


def test_a_plan_runs_nothing_and_names_who_conflicts(fake: Fake) -> None:
    fake.state(accounts=[{"id": 77, "username": "admin", "email": "another@example.invalid", "firstaccess": 5}])
    fake.script("restore_backup.php", RESTORE)
    plan = fake.open().restore_plan(new_course())
    assert plan.users.conflicts == ("admin",)
    assert any("'admin'" in text for text in plan.precheck.errors)
    assert any("pre-check cannot be run" in text for text in plan.precheck.warnings)
    assert fake.calls() == []


# --- automated backups ----------------------------------------------------------------------------------------------


def test_a_queued_backup_is_ok_only_where_its_file_is_there(fake: Fake) -> None:
    newer = stored(filearea="automated", made=1795468900)
    fake.state(courses=[course(4, "BIO"), course(5, "CHEM")])
    fake.state("after", courses=[course(4, "BIO"), course(5, "CHEM")], files=[newer])
    fake.script("automated_backups.php", f"""
echo "Server Time: Mon, 23 Nov 2026 21:20:00 +0000"; echo "Checking automated backup status...OK"
echo "Checking courses"; echo "Putting backup of course id 4 in adhoc task queue"
echo "Skipping course id 5: Not modified since previous backup"; {fake.becomes("after")}
echo "Automated cron backups completed correctly"
""")
    ran = fake.open().run_automated()
    assert [(one.shortname, one.status) for one in ran] == [("BIO", "ok"), ("CHEM", "skipped")]


def test_without_evidence_a_queued_backup_stays_queued(fake: Fake) -> None:
    fake.script("automated_backups.php", """
echo "Server Time: Mon, 23 Nov 2026 21:20:00 +0000"; echo "Checking automated backup status...OK"
echo "Checking courses"; echo "Putting backup of course id 4 in adhoc task queue"
echo "Automated cron backups completed correctly"
""")
    assert [one.status for one in fake.open().run_automated()] == ["queued"]
    assert [one.status for one in fake.open(token=False).run_automated()] == ["queued"]


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("Checking automated backup status...INACTIVE", Refused, "automated_disabled"),
        ("Checking automated backup status...", Refused, "automated_running"),
        ("CLI maintenance mode active, backup execution suspended.", Refused, "suspended"),
        ("something new", OutcomeUnknown, "unclear"),
    ],
)
def test_automated_backups_that_did_not_run_are_not_called_done(
    fake: Fake, words: str, kind: type[Exception], code: str
) -> None:
    fake.script("automated_backups.php", f'echo "{words}"; echo "Automated cron backups completed correctly"\n')
    with pytest.raises(kind) as error:
        fake.open().run_automated()
    assert error.value.code == code  # type: ignore[attr-defined]


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys
from moodlectl.config import SiteConfig
from moodlectl.site.admincli import AdminCliSite
from moodlectl.site.port import BackupRequest
config = SiteConfig("s", url="https://m.example", php=sys.argv[1], moodle_dir="/m", exchange_dir=sys.argv[2])
try:
    AdminCliSite(config, None).backup(BackupRequest(4))
except KeyboardInterrupt as stop:
    print(*stop.__notes__)
"""


def test_ctrl_c_ends_the_script_here_and_tells_that_it_had_begun(fake: Fake) -> None:
    fake.script("backup.php", 'echo "== Performing backup... =="\necho $$ >"$here/pid"\nexec sleep 60\n')
    words = [sys.executable, "-c", INTERRUPTED, str(fake.folder / "php"), str(fake.exchange)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    pid = fake.folder / "pid"
    end = time.monotonic() + 20
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=20)
    assert "backup.php had begun" in told
    end = time.monotonic() + 10  # long before the script's own end: it was told to stop, and init takes it away
    while Path(f"/proc/{pid.read_text().strip()}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
