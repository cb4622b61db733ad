"""Ctrl-C, TERM and kill -9 at every moment: the exit status, no process left, no half file, and a clean site."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, Traces, left, opened, traces

# A course that takes its time: many pages, and a file that does not compress.
SLOW = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
$g = phpunit_util::get_data_generator();
$course = $g->create_course(['shortname' => 'slow', 'category' => $arguments['category']]);
for ($i = 0; $i < 60; $i++) {
    $page = $g->create_module('page', ['course' => $course->id, 'name' => "Page $i"]);
}
get_file_storage()->create_file_from_string(['contextid' => context_module::instance($page->cmid)->id,
    'component' => 'mod_page', 'filearea' => 'content', 'itemid' => 0, 'filepath' => '/', 'filename' => 'big.bin'],
    random_bytes(24 << 20));
echo $course->id;
"""

UNCHANGED = "Nothing had been changed on the site."


@dataclass
class Stage:
    """A desk whose PHP on the host has a name of its own, so that each process of ours can be found."""

    desk: Desk
    php: str
    course: int
    file: Path

    def folder(self) -> Path:
        path = self.desk.run.home / "down"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def start(self, *words: str, site: str = "live") -> subprocess.Popen[str]:
        """The command as a terminal starts it: the leader of a process group."""
        command = self.desk.run
        return subprocess.Popen(
            [*command.argv, "--site", site, "-o", "json", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=command.env, cwd=command.home, start_new_session=True)  # fmt: skip

    def processes(self) -> list[str]:
        """Every process anywhere on this machine that has to do with our PHP: ssh, sudo, php."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if self.php in words and "moodlectl site add" not in words:
                    found.append(words[:120])
        return found

    def temporary(self) -> set[str]:
        return {path.name for path in (self.desk.site.dataroot / "temp/backup").glob("*")}

    def new_courses(self) -> int:
        query = f"SELECT COUNT(*) FROM {{course}} WHERE category = {self.desk.category}"
        return int(self.desk.site.sql(query)[0][0])


@pytest.fixture(scope="module")
def stages(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[[str], Stage]]:
    made: dict[str, Stage] = {}
    with opened(moodles, "Interrupted") as desk_at:

        def stage_at(name: str) -> Stage:
            if name not in made:
                made[name] = _stage(desk_at(name))
            return made[name]

        yield stage_at


@pytest.fixture
def stage(moodle: rig.LiveMoodle, stages: Callable[[str], Stage]) -> Stage:
    return stages(moodle.name)


def _stage(desk: Desk) -> Stage:
    for path in (desk.run.home.parent, desk.run.home):
        path.chmod(0o755)
    php = desk.run.home / f"php-{os.getpid()}-{desk.category}"
    php.unlink(missing_ok=True)
    php.symlink_to(shutil.which("php") or "php")
    told = desk.run("site", "add", "live", "--replace", "--php", str(php))
    assert told.status == 0, told.stderr
    hops = [word for hop in desk.site.via for word in ("--via", hop)]
    told = desk.run("site", "add", "host", "--url", desk.site.url, "--php", str(php), *hops, "--moodle-dir",
                    str(desk.site.moodle_dir), "--ssh-config", str(desk.site.ssh_config))  # fmt: skip
    assert told.status == 0, told.stderr
    course = int(desk.site.php(SLOW, category=desk.category))
    [done] = desk.ok("backup", "create", "slow", "--download", str(desk.run.home))
    return Stage(desk, php.name, course, Path(done["path"]))


def until(true: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 60) -> None:
    """Wait for it; a process that ends before it came true was too quick to be disturbed, which is a failure."""
    end = time.monotonic() + seconds
    while not true():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended before it could be disturbed: {process.communicate()}")
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


def disturb(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str, str]:
    """Send a signal to the whole group, as a terminal does, and wait for the end."""
    os.killpg(process.pid, how)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def error_in(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])["error"]
    return found


def check_gone(stage: Stage, before: Traces, how: signal.Signals = signal.SIGINT) -> None:
    """Nothing of it runs, and the site is as it was.

    Where nobody was left to hear the end, the account that the deed kept of itself waits there for ``job resume``.
    """
    until(lambda: stage.processes() == [], seconds=45)
    accounts = (stage.desk.site.dataroot / "temp/backup").glob("moodlectl-deed-*.json")
    unheard = {path.name for path in accounts} if how == signal.SIGKILL else set()
    assert left(stage.desk, replace(before, under_way=before.under_way | unheard)) == ""


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


def check_told(how: signal.Signals, ended: tuple[int, str, str], *, begun: bool | None) -> None:
    """The exit status, no data, and a message that says what is known of the site."""
    status, out, err = ended
    assert (status, out) == (SIGNALS[how], ""), ended
    assert "Traceback" not in err
    if how == signal.SIGKILL:
        return
    error = error_in(err)
    assert error["code"] == "interrupted"
    if begun is not None:
        assert (UNCHANGED in error["message"]) is not begun


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_while_the_host_is_being_reached(stage: Stage, how: signal.Signals) -> None:
    before = traces(stage.desk)
    process = stage.start("backup", "create", "slow", site="host")
    until(stage.processes, process)
    check_told(how, disturb(process, how), begun=None)
    check_gone(stage, before, how)


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_while_a_backup_is_made(stage: Stage, how: signal.Signals) -> None:
    folder, before, there = stage.folder(), traces(stage.desk), stage.temporary()
    process = stage.start("backup", "create", "slow", "--download", str(folder))
    place = stage.desk.site.dataroot / "temp/backup"
    until(lambda: any(list((place / name).glob("*/activities")) for name in stage.temporary() - there), process)
    check_told(how, disturb(process, how), begun=None if how == signal.SIGKILL else True)
    assert list(folder.iterdir()) == []
    check_gone(stage, before, how)


@pytest.mark.parametrize("site", ["live", "host"])
@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_while_a_backup_comes_down(stage: Stage, how: signal.Signals, site: str) -> None:
    """Over HTTP (live) and over ssh (host): only the part stays, and the next run goes on from there."""
    folder, before = stage.folder(), traces(stage.desk)
    words = ("backup", "download", f"slow@course/{stage.file.name}", "-d", str(folder))
    process = stage.start(*words, site=site)
    until(lambda: any(p.stat().st_size for p in folder.glob("*.part")), process)
    os.kill(process.pid, signal.SIGSTOP)
    os.killpg(process.pid, how)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=90)
    check_told(how, (process.returncode, out, err), begun=None)
    assert {path.name.removeprefix(stage.file.name) for path in folder.iterdir()} <= {".part", ".part.json"}
    check_gone(stage, before, how)
    [got] = stage.desk.ok(*words)
    [stored] = stage.desk.stored(stage.file.name)
    assert got["sha1"] == stored["contenthash"]
    assert Path(got["path"]).read_bytes() == stage.file.read_bytes()


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_while_a_backup_travels_up(stage: Stage, how: signal.Signals) -> None:
    before, there = traces(stage.desk), stage.temporary()
    process = stage.start("restore", str(stage.file), "--new", f"id:{stage.desk.category}")
    until(lambda: stage.temporary() - there, process)
    os.kill(process.pid, signal.SIGSTOP)
    os.killpg(process.pid, how)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=90)
    check_told(how, (process.returncode, out, err), begun=None)
    check_gone(stage, before, how)


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_while_a_new_course_is_filled(stage: Stage, how: signal.Signals) -> None:
    before = traces(stage.desk)
    process = stage.start("restore", str(stage.file), "--new", f"id:{stage.desk.category}")
    until(lambda: stage.new_courses() > len(before.ours["courses"]), process)
    check_told(how, disturb(process, how), begun=True)
    check_gone(stage, before, how)


def test_a_second_ctrl_c_ends_it_without_a_traceback(stage: Stage) -> None:
    before, there = traces(stage.desk), stage.temporary()
    process = stage.start("backup", "create", "slow")
    until(lambda: stage.temporary() - there, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.05)  # a person's second press; nothing can be waited for here
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    check_gone(stage, before, signal.SIGKILL)
