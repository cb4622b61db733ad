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
            facts = newest_job(self.desk).items[0].facts
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
    return Running(desk, desk.run.popen("--site", "live", "-o", "json", "-y", *words), stage)


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
