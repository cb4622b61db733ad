"""A migration between two real sites while its process is killed, ssh cut, the web server restarted, the disk full.

The long one, of 40 courses and 20 kills, is what a release is held to. Only on sites of its own (no
``MOODLECTL_LIVE_SITES``) is the web server really restarted; on others' it hangs for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import desks
import pytest
import rig
from conftest import Command
from test_plans import copy

BATCHES = [pytest.param((12, 4), id="12-courses"), pytest.param((40, 24), id="40-courses", marks=pytest.mark.long)]
"""How many courses, and how many kills."""
SOURCES = ("EMPTY1", "GEN_XS", "EMPTY1", "RICH101")

ARRIVED = """
$out = [];
foreach ($DB->get_records_select('course', $DB->sql_like('shortname', '?'), ['%' . $arguments['tag'] . '%'], 'id',
        'id, shortname, fullname, category') as $course) {
    $out[] = [$course->shortname, $course->fullname];
}
echo json_encode($out);
"""


@dataclass
class Moving:
    """A batch under way from one real site to another, and the dice that say what befalls it."""

    old: desks.Desk
    new: desks.Desk
    run: Command
    plan: Path
    tag: str
    courses: int
    kills: int
    befell: dict[str, int] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(2027))

    def begin(self) -> subprocess.Popen[str]:
        """The batch, begun or gone on with; returns when its first event is told, or it has ended."""
        words = ["-o", "json", "migrate", str(self.plan), "--from", "old", "--to", "live", "--jobs", "4", "--events"]
        events = self.run.home / "events"
        with events.open("w") as out, (self.run.home / "errors").open("a") as errors:
            process = subprocess.Popen(
                [*self.run.argv, *words], stdout=out, stderr=errors, text=True, env=self.run.env, cwd=self.run.home
            )
        while process.poll() is None and not events.stat().st_size:
            time.sleep(0.05)
        return process

    def job(self, *words: str) -> Any:
        done = self.run("-o", "json", "job", "show", "1", *words)
        assert done.status == 0, done.stderr + (self.run.home / "errors").read_text()[-5000:]
        return done.json

    def arrived(self) -> list[list[str]]:
        found: list[list[str]] = json.loads(self.new.site.php(ARRIVED, tag=self.tag))
        return found


@pytest.fixture
def moving(request: pytest.FixtureRequest, moodles: dict[str, rig.LiveMoodle], tmp_path: Path) -> Iterator[Moving]:
    courses, kills = request.param
    names = list(moodles)
    if len(names) < 2:
        pytest.fail("a migration needs two sites: name two source directories in MOODLE_DIRS")
    with desks.opened(moodles, "Batch") as desk_at:
        old, new = desk_at(names[0]), desk_at(names[-1])
        tag = f"f{os.getpid()}"
        for number in range(courses):
            copy(old, SOURCES[number % len(SOURCES)], f"K{number:02}-{tag}")
        new.run.add_site("old", old.site)
        told = new.run("site", "add", "old", "--replace", "--ssh-config", str(old.site.ssh_config))
        assert told.status == 0, told.stderr
        config = new.run.home / "config" / "moodlectl" / "config.toml"
        with config.open("a", encoding="utf-8") as file:  # whatever else this machine has to do, and up to the full disk
            file.writelines(f"\n[sites.{name}.limits]\nload = 1000\nfree = 1\n" for name in ("old", "live"))
        plan = tmp_path / "plan.toml"
        plan.write_text(
            f'[defaults]\ncategory = "id:{new.category}"\nmap = ["admin=admin"]\n\n'
            f'[[course]]\nselect = {{category = "id:{old.category}"}}\n',
            encoding="utf-8",
        )
        yield Moving(old, new, new.run, plan, tag, courses, kills)


def ended_or_killed(moving: Moving, process: subprocess.Popen[str], kills: int = 10) -> int | None:
    """Its exit status if it ended by itself; else it is killed at a moment that the dice tell.

    Moments are counted in beginnings and ends of steps, of which a course has twelve at most: the ``kills`` that are left
    spread over the courses that are left, however fast the machine is.
    """
    totals = moving.job()["totals"]
    left = totals.get("pending", 0) + totals.get("unknown", 0)
    moments = moving.dice.randrange(max(2, 2 * left * 10 // (kills + 4)))
    while process.poll() is None and steps_told(moving) < moments:
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moving.dice.uniform(0, 2))
    return killed(process)


def killed(process: subprocess.Popen[str]) -> int | None:
    """Its exit status if it has ended by itself; else it is killed."""
    if process.poll() is not None:
        return process.returncode
    process.send_signal(signal.SIGKILL)
    process.wait()
    return None


def steps_told(moving: Moving) -> int:
    return (moving.run.home / "events").read_bytes().count(b'"event": "step"')


def children(pid: int) -> list[int]:
    """The programs a process has started: ssh."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = entry.read_text(errors="replace").rpartition(")")[2].split()
            if int(words[1]) == pid:
                found.append(int(entry.parent.name))
    return found


def cut_ssh(moving: Moving) -> int | None:
    process = moving.begin()
    for _ in range(3):
        time.sleep(moving.dice.uniform(0.5, 2))
        for pid in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return ended_or_killed(moving, process)


def restart_web(moving: Moving) -> int | None:
    process = moving.begin()
    time.sleep(moving.dice.uniform(1, 3))
    site = moving.old.site  # from there the backups are fetched over HTTP
    if site.server is not None:
        site.server.stop(signal.SIGKILL)
        time.sleep(2)
        rig.serve(site)
    else:  # somebody else's to start again: it hangs for a while
        pids = [pid for pid in web_servers(site) if pid]
        for how in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, how)
            time.sleep(4)
    return ended_or_killed(moving, process)


def web_servers(site: rig.LiveMoodle) -> list[int]:
    address = f"127.0.0.1:{site.url.rsplit(':', 1)[1]}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if address in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def fill_disk(moving: Moving) -> int | None:
    """No room where the target unpacks backups, while the batch goes on; it is emptied before the next."""
    place = moving.new.site.dataroot / "temp" / "backup"
    settled(moving)
    if not rig.AS_ROOT or not place.is_dir():
        return ended_or_killed(moving, moving.begin())
    # What deeds have told of themselves must not be hidden by the small disk, nor be gone with it.
    before = accounts(place)
    size = f"size={64 + 40 * len(before)}k,mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "moodlectl-test", str(place)], check=True)
    put(place, before)
    try:
        process, end = moving.begin(), time.monotonic() + 120
        while process.poll() is None and not moving.befell.get("no room") and time.monotonic() < end:
            time.sleep(0.5)
            told = (moving.run.home / "events").read_text(encoding="utf-8")
            moving.befell["no room"] = sum(told.count(words) for words in ("disk space", "disk is full", "not be written"))
        time.sleep(moving.dice.uniform(0, 3))
        status = killed(process)
        settled(moving)
    finally:
        after = accounts(place)
        while subprocess.run(["umount", str(place)], capture_output=True).returncode:
            time.sleep(0.5)
        for name in before:
            (place / name).unlink(missing_ok=True)
        put(place, after)
    return status


def accounts(place: Path) -> dict[str, tuple[bytes, int, int]]:
    """What deeds have written down about themselves, with whose it is."""
    found = {}
    for path in place.glob("moodlectl-deed-*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = (path.read_bytes(), path.stat().st_uid, path.stat().st_gid)
    return found


def put(place: Path, told: dict[str, tuple[bytes, int, int]]) -> None:
    for name, (text, user, group) in told.items():
        path = place / name
        path.touch(mode=0o600)
        path.write_bytes(text)
        os.chown(path, user, group)


def settled(moving: Moving, seconds: float = 60) -> None:
    """No PHP of ours works on the target any more: what a killed client began ends by itself."""
    end = time.monotonic() + seconds
    user = moving.new.site.web_user.encode()
    while time.monotonic() < end:
        busy = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if words[0].endswith(b"php") and b"-r" in words and user:
                    busy.append(entry)
        if not busy:
            return
        time.sleep(0.5)


def left_in_memory() -> set[Path]:
    """Directories of deeds in memory that nobody works in: other tests may run beside this one."""
    there = set(Path("/dev/shm").glob("moodlectl-*"))
    if there:
        time.sleep(60)
    return there & set(Path("/dev/shm").glob("moodlectl-*"))


@pytest.mark.parametrize("moving", BATCHES, indirect=True)
def test_whatever_befalls_a_batch_every_course_arrives_once_or_its_failure_is_true(moving: Moving) -> None:
    before = [desks.traces(desk) for desk in (moving.old, moving.new)]
    status, kills = None, 0
    quarter = moving.kills // 4
    extra = {quarter: cut_ssh, 2 * quarter: restart_web, 3 * quarter: fill_disk}
    while kills < moving.kills and (status is None or moving.job()["state"] == "paused"):
        fault = extra.get(kills)
        if fault is not None:
            status = fault(moving)
        else:
            status = ended_or_killed(moving, moving.begin(), moving.kills - kills)
        kills += status is None
        print(f"kill {kills}: {moving.job()['totals']}", flush=True)
    if status is None or moving.job()["state"] == "paused":
        process = moving.begin()
        status = process.wait(3600)
        print(f"the last: exit status {status}", (moving.run.home / "errors").read_text()[-2000:], flush=True)
    job = moving.job()
    print(moving.befell, json.dumps(job["totals"]), kills, "kills", [(i["course"], i["message"]) for i in job["items"] if i["message"]])
    wanted = 20 if moving.kills > 10 else 3
    assert kills >= wanted, "it was over before all that should could befall it"
    assert moving.befell.get("no room", 1) or moving.kills <= 10, "the full disk was not met with"
    assert job["totals"]["unknown"] == job["totals"]["pending"] == 0
    assert sum(job["totals"].values()) == moving.courses
    assert (status == 0) == (job["totals"]["failed"] == 0)
    done = [item["course"] for item in job["items"] if item["state"] == "done"]
    assert len(done) >= moving.courses * 3 // 4
    assert all(item["message"] for item in job["items"] if item["state"] == "failed")
    assert sorted(name for name, _ in moving.arrived()) == sorted(done)
    for name in done:
        told = moving.run("-o", "json", "--site", "live", "course", "compare", name, name, "--site-b", "old")
        assert (told.status, told.json["equal"]) == (0, True), (name, told.stdout[:3000])
    settled(moving)
    for desk, was in zip((moving.old, moving.new), before, strict=True):
        _, now = desks.settled(desk, was, 60)
        assert (now.ours["backups"], now.ours["private"], now.ours["bin"]) == (0, 0, was.ours["bin"])
        assert now.under_way - was.under_way == frozenset()
    assert left_in_memory() == set()
    kept = [path for path in (moving.run.home / "state").rglob("jobs/*") if path.is_dir()]
    assert kept == [] or job["totals"]["failed"], kept


