"""Ways to break a restore on a real site at a moment of one's choosing, seen and not guessed.

The moment is read from the account that a deed keeps of itself on the host, and from locks that hold it at a place;
nothing here waits for a time to pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk

from moodlectl import ledger

Account = dict[str, Any]
Moment = Callable[[Account], bool]

LOCK = """
$transaction = $DB->start_delegated_transaction();
$DB->get_records_sql($arguments['sql'] . ' FOR UPDATE', [$arguments['course']]);
echo "locked\\n";
fgets(STDIN);
$transaction->allow_commit();
"""


def state_path(desk: Desk) -> Path:
    """The ledger of the command at that desk."""
    return Path(desk.run.env["XDG_STATE_HOME"]) / "moodlectl" / "ledger.sqlite"


def newest_job(desk: Desk) -> ledger.Job:
    """The job begun last."""
    path = state_path(desk)
    return ledger.job(ledger.jobs(path, limit=1)[0].id, path)


@dataclass
class Running:
    """A command under way, and the deed it has begun on the site."""

    desk: Desk
    process: subprocess.Popen[str]
    stage: str
    outcome: tuple[int, str, str] | None = None
    earlier: frozenset[int] = frozenset()
    relief: Path | None = None  # what fills a disk

    @property
    def children(self) -> list[int]:
        """The ssh processes of the command, the shared connection's too."""
        mark = self.desk.run.env["XDG_RUNTIME_DIR"]
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if mark.encode() in entry.read_bytes():
                    found.append(int(entry.parent.name))
        return [pid for pid in found if pid != self.process.pid]

    def account(self) -> Account | None:
        """What the deed has written of itself so far."""
        try:
            job = newest_job(self.desk)
            if job.id in self.earlier:
                return None
            facts = job.items[0].facts
        except Exception:  # the job is not there yet
            return None
        number = facts.get(f"deed_{self.stage}")
        if number is None:
            return None
        path = self.desk.site.dataroot / "temp" / "backup" / f"moodlectl-deed-{number}.json"
        try:
            line = path.read_text(encoding="utf-8").partition("\n")[0]
            found: Account = json.loads(line)
        except (OSError, ValueError):
            return None
        return {**found, "path": str(path)}

    def until(self, moment: Moment, seconds: float = 300) -> Account:
        """Watch until the moment has come."""
        end = time.monotonic() + seconds
        last: Account | None = None
        while time.monotonic() < end:
            account = self.account()
            if account is not None:
                last = account
                if moment(account):
                    return account
            assert self.process.poll() is None or account is not None, self.process.communicate()
            time.sleep(0.002)
        raise AssertionError(f"the moment did not come; last seen {last}")

    @property
    def safety(self) -> Path:
        """Where the command keeps safety backups."""
        return state_path(self.desk).parent / "safety"

    def until_here(self, moment: Callable[[Path, int], bool], seconds: float = 300) -> None:
        """Watch this machine until the moment has come, and hold the command there."""
        end = time.monotonic() + seconds
        job = None
        while time.monotonic() < end:
            if job is None or job in self.earlier:
                job = _last_job(self.desk)
            else:
                with contextlib.suppress(FileNotFoundError):
                    if moment(self.safety, job):
                        self.process.send_signal(signal.SIGSTOP)
                        return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.001)
        raise AssertionError("the moment did not come")

    def until_true(self, true: Callable[[], bool], seconds: float = 300) -> Account:
        """Watch until it is so; returns what the deed has written of itself then."""
        end = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "the moment did not come"
            time.sleep(0.005)
        account = self.account()
        assert account is not None
        return account

    def gone(self, pid: int) -> None:
        """Wait until a process has ended."""
        end = time.monotonic() + 120
        while _lives(pid) and time.monotonic() < end:
            time.sleep(0.01)
        assert not _lives(pid)

    def ended(self) -> tuple[int, str, str]:
        """How the command ended."""
        if self.outcome is None:
            out, error = self.process.communicate(timeout=600)
            self.outcome = self.process.returncode, out, error
        return self.outcome


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begin(desk: Desk, *words: str, stage: str = "restore") -> Running:
    """Start a command and do not wait."""
    earlier = frozenset(job.id for job in ledger.jobs(state_path(desk)))
    process = desk.run.popen("--site", "live", "-o", "json", "-y", *words)
    return Running(desk, process, stage, earlier=earlier)


def _last_job(desk: Desk) -> int | None:
    found = ledger.jobs(state_path(desk), limit=1)
    return found[0].id if found else None


# --- moments ------------------------------------------------------------------------------------------------------


def uploading(account: Account) -> bool:
    """A part of the archive is there, and not all of it."""
    return account["phase"] == "prepared" and _size(account, "-archive") > 0


def unpacking(account: Account) -> bool:
    """The archive is being taken apart."""
    return account["phase"] == "prepared" and any(_base(account).glob("*")) and not account.get("ids")


def prechecking(account: Account) -> bool:
    """The controller is made, nothing of the course is touched."""
    return account["phase"] == "prepared" and account.get("cms") is not None


def deleting(account: Account) -> bool:
    """The course is being emptied."""
    return bool(account["phase"] == "deleting")


def executing(least: int) -> Moment:
    """So many thousandths of the restore are done."""
    return lambda account: account["phase"] == "executing" and account.get("progress", 0) >= least


def done(account: Account) -> bool:
    """All is done, and the answer on its way."""
    return bool(account["phase"] == "done")


def _base(account: Account) -> Path:
    names = account.get("directories") or ["-"]
    return Path(account["path"]).with_name(names[0])


def _size(account: Account, ending: str) -> int:
    path = _base(account).with_name(_base(account).name + ending) / "backup.mbz"
    return path.stat().st_size if path.exists() else 0


# --- moments on this machine, while the safety backup is made ---------------------------------------------------------


def downloading(folder: Path, job: int) -> bool:
    """A part of the safety backup has arrived."""
    return any(part.stat().st_size > 0 for part in folder.glob(f"job-{job}-*.part"))


def verifying(folder: Path, job: int) -> bool:
    """All of it has arrived, and is read through."""
    return any(folder.glob(f"job-{job}-*.mbz")) and not any(folder.glob(f"job-{job}-*.json"))


# --- a plugin that breaks ------------------------------------------------------------------------------------------

# Moodle loads restore_report_log_plugin wherever such a file is (restore_structure_step add_plugin_structure, all
# releases); there is none in core. It does nothing unless the file in $CFG->dataroot names the course at work, and then
# once: at the n-th activity, or when all are restored and the plan comes to its end.
PLUGIN = r"""<?php
class restore_report_log_plugin extends restore_report_plugin {
    private static $seen = 0;

    protected function define_module_plugin_structure() {
        self::$seen++;
        $this->trouble(self::$seen);
        return [new restore_path_element('report_log_nothing', $this->get_pathfor('/nothing'))];
    }

    public function process_report_log_nothing($data) {
    }

    public function after_restore_module() {
        $this->trouble('end');
    }

    private function trouble($moment) {
        global $CFG;
        $path = "$CFG->dataroot/moodlectl-test-fault.json";
        $wanted = is_readable($path) ? json_decode(file_get_contents($path), true) : null;
        if (!$wanted || $wanted['moment'] !== $moment || !in_array($wanted['course'], [(int)$this->task->get_courseid(), 0])) {
            return;
        }
        unlink($path);
        switch ($wanted['how']) {
            case 'fatal': // nobody can catch that
                ini_set('memory_limit', memory_get_usage(true) + (8 << 20));
                $eaten = str_repeat('x', 512 << 20);
                break;
            case 'timeout':
                set_time_limit(1);
                while (true) {
                }
            case 'exit':
                exit(0);
            case 'exception':
                throw new moodle_exception('error', 'moodle', '', 'a plugin gives up');
            case 'error':
                moodlectl_test_no_such_function();
                break;
            case 'segfault':
                posix_kill(getmypid(), 11);
                break;
            case 'hang': // whoever waits for this does something to the process, and then lets it go
                touch("$path.there");
                while (!file_exists("$path.go")) {
                    usleep(2000);
                }
        }
    }
}
"""


@dataclass
class Plugin:
    """That plugin on one site, and its orders."""

    site: rig.LiveMoodle

    @property
    def _orders(self) -> Path:
        return self.site.dataroot / "moodlectl-test-fault.json"

    def order(self, course: int, moment: int | str, how: str) -> None:
        """Break, once, a restore into that course (0: any), at its n-th activity or at the ``end``."""
        self.forget()
        self._orders.write_text(json.dumps({"course": course, "moment": moment, "how": how}))
        self._orders.chmod(0o644)

    def there(self) -> bool:
        """Whether one hangs."""
        return self._orders.with_name(self._orders.name + ".there").exists()

    def go(self) -> None:
        """Let it go on."""
        self._orders.with_name(self._orders.name + ".go").touch()

    def forget(self) -> None:
        """No orders."""
        for ending in ("", ".there", ".go"):
            self._orders.with_name(self._orders.name + ending).unlink(missing_ok=True)


@contextlib.contextmanager
def plugin(site: rig.LiveMoodle) -> Iterator[Plugin]:
    """The plugin in the site's own copy of the code, taken away afterwards."""
    base = site.moodle_dir / "public" if (site.moodle_dir / "public/version.php").exists() else site.moodle_dir
    folder = base / "report/log/backup/moodle2"
    made = not folder.parent.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "restore_report_log_plugin.class.php"
    path.write_text(PLUGIN)
    for one in (folder.parent, folder):
        one.chmod(0o755)
    path.chmod(0o644)
    found = Plugin(site)
    try:
        yield found
    finally:
        found.forget()
        path.unlink()
        if made:
            folder.rmdir()
            folder.parent.rmdir()


# --- what is done to it -------------------------------------------------------------------------------------------


def kill(pid: int) -> None:
    """No mercy."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_php(running: Running, account: Account) -> None:
    kill(account["pid"])


def kill_client(running: Running, account: Account) -> None:
    kill(running.process.pid)
    running.ended()


def interrupt_client(running: Running, account: Account) -> None:
    running.process.send_signal(signal.SIGINT)


def terminate_client(running: Running, account: Account) -> None:
    running.process.send_signal(signal.SIGTERM)


def hang_up_on_client(running: Running, account: Account) -> None:
    running.process.send_signal(signal.SIGHUP)


def cut_connection(running: Running, account: Account) -> None:
    for pid in running.children:
        kill(pid)


def kill_both(running: Running, account: Account) -> None:
    running.process.send_signal(signal.SIGSTOP)  # it shall not see how PHP ends
    kill(account["pid"])
    kill_client(running, account)
    running.gone(account["pid"])


@contextlib.contextmanager
def full_disk(site: rig.LiveMoodle, hash_: str) -> Iterator[None]:
    """No room for that content in the site's pool: a disk of 64 KiB where it would lie."""
    place = site.dataroot / "filedir" / hash_[:2] / hash_[2:4]
    site.php("@mkdir($arguments['place'], $CFG->directorypermissions, true);", place=str(place))
    (place / hash_).unlink(missing_ok=True)
    (site.dataroot / "trashdir" / hash_[:2] / hash_[2:4] / hash_).unlink(missing_ok=True)  # it would come from there
    mode = place.stat().st_mode & 0o7777
    if rig.AS_ROOT:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0777", "moodlectl-test", str(place)], check=True)
    else:
        place.chmod(0o500)
    try:
        yield
    finally:
        if rig.AS_ROOT:
            subprocess.run(["umount", str(place)], check=True)
        else:
            place.chmod(mode)


@contextlib.contextmanager
def small_temp(site: rig.LiveMoodle, megabytes: int = 160) -> Iterator[Callable[[Running, Account], None]]:
    """The site's directory for restores on a small disk of its own; yields what fills that disk to the last byte."""
    if not rig.AS_ROOT:
        pytest.skip("only root can mount a small disk")
    place = site.dataroot / "temp" / "backup"
    ballast = place / "ballast"
    owner = place.stat()
    options = f"size={megabytes}m,mode={owner.st_mode & 0o7777:o},uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "moodlectl-test", str(place)], check=True)

    def fill(running: Running, account: Account) -> None:
        free = os.statvfs(place)
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        with ballast.open("ab") as file, contextlib.suppress(OSError):
            file.write(b"x" * (1 << 20))
        running.relief = ballast

    try:
        yield fill
    finally:
        ballast.unlink(missing_ok=True)
        subprocess.run(["umount", str(place)], check=True)


def take_memory(running: Running, account: Account) -> None:
    """From now on the process gets no more memory."""
    status = Path(f"/proc/{account['pid']}/status").read_text()
    held = int(re.findall(r"VmSize:\s+(\d+)", status)[0]) * 1024
    site = running.desk.site
    user = ["sudo", "-n", "-u", site.web_user, "--"] if rig.AS_ROOT else []
    subprocess.run([*user, "prlimit", "--pid", str(account["pid"]), f"--as={held}"], check=True)


def end_database(running: Running, account: Account) -> None:
    """The database server hangs up on that process."""
    site = running.desk.site
    ports = _database_ports(account["pid"], site.machine.database(site.db).port)
    assert ports, "the process has no connection to the database"
    for port in ports:
        if site.db == "pgsql":
            site.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = {port}")
        else:
            rows = site.sql(f"SELECT id FROM information_schema.processlist WHERE host LIKE '%:{port}'")
            site.sql(f"KILL {rows[0][0]}")


@contextlib.contextmanager
def no_database(site: rig.LiveMoodle) -> Iterator[None]:
    """The site's database lets nobody in, and throws out who is there; other sites on the server go on."""
    database = site.machine.database(site.db)
    if site.db == "pgsql":
        away = (f"ALTER DATABASE {site.dbname} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{site.dbname}'")  # fmt: skip
        back = (f"ALTER DATABASE {site.dbname} ALLOW_CONNECTIONS true",)
        other = "postgres"
    else:
        # The rig's account may do everything, so that the database is taken away and not the right to it.
        away = (f"RENAME TABLE {site.dbname}.mdl_config TO {site.dbname}.mdl_config_away",)
        back = (f"RENAME TABLE {site.dbname}.mdl_config_away TO {site.dbname}.mdl_config",)
        other = "mysql"
    for query in away:
        database.sql(other, query)
    if site.db != "pgsql":
        for (number,) in database.sql(other, f"SELECT id FROM information_schema.processlist WHERE db = '{site.dbname}'"):
            database.sql(other, f"KILL {number}")
    try:
        yield
    finally:
        for query in back:
            database.sql(other, query)


def _database_ports(pid: int, server: int) -> list[int]:
    """The local ports of that process's connections to the database."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if found:
                sockets.add(found[1])
    ports = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in sockets and int(words[2].rpartition(":")[2], 16) == server:
                ports.append(int(words[1].rpartition(":")[2], 16))
    return ports


@contextlib.contextmanager
def held(site: rig.LiveMoodle, sql: str, course: int) -> Iterator[None]:
    """Hold those rows, so that a restore comes to them and no further."""
    prelude = (
        f"define('CLI_SCRIPT', true); require '{site.moodle_dir}/config.php';"
        f"$arguments = json_decode('{json.dumps({'sql': sql, 'course': course})}', true);"
    )
    argv = [rig.program("php"), *rig.PHP, "-r", prelude + LOCK]
    user = ["sudo", "-n", "-u", site.web_user, "--"] if rig.AS_ROOT else []
    process = subprocess.Popen([*user, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               cwd=site.moodle_dir)  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
    finally:
        process.communicate("go\n", timeout=60)
