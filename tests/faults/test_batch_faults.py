"""A migration whose process is killed again and again, at whatever moment: every course arrives, and none twice."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moodlectl import ledger
from moodlectl.site.port import BackupRequest, Course, CourseRef, RestoreRequest, RestoreSource
from moodlectl.site.practice import PracticeSite
from tests.faults.breaking import held

COURSES = 6
PLAN = """
[defaults]
category_path = "Arrived"
create_categories = true
shortname = "{source.shortname}"
fullname = "{source.fullname}"
[[course]]
select = {search = "Killed"}
"""


@dataclass
class World:
    """Two practice sites, a plan from one to the other, and a ledger, all in one folder."""

    folder: Path
    old: PracticeSite
    new: PracticeSite

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "moodlectl", "-o", "json", "-y", *words]

    def migrate(self, *words: str) -> list[str]:
        return self.command("migrate", str(self.folder / "plan.toml"), "--from", "old", "--to", "new", *words)

    def run(self, *words: str) -> tuple[int, Any]:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=300)
        text = done.stdout or done.stderr[done.stderr.index('{"error"') :]
        return done.returncode, json.loads(text)

    def arrived(self) -> list[Course]:
        return [one for one in self.new.courses() if "KILLED" in one.shortname]

    def leftovers(self) -> list[str]:
        """What a migration leaves behind if it does not clear up: stored backups, files on this machine."""
        stored = [
            file.filename for site in (self.old, self.new) for one in site.courses() for file in site.backups(one.id).files
            if "KILLED" in one.shortname
        ]  # fmt: skip
        # The practice site runs in the process that is killed: what it was just writing goes by itself after a day.
        return stored + [str(path) for path in (self.folder / "state" / "jobs").rglob("*") if path.is_file()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MOODLECTL_CONFIG", str(tmp_path / "config.toml"))
    sites = "".join(f'[sites.{name}]\nkind = "practice"\nfolder = "{name}"\n' for name in ("old", "new"))
    (tmp_path / "config.toml").write_text(sites, encoding="utf-8")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    old, new = PracticeSite(tmp_path / "old", "old"), PracticeSite(tmp_path / "new", "new")
    course = old.course(CourseRef("shortname", "GEO200"))
    made = old.backup(BackupRequest(course.id)).file
    for number in range(COURSES):
        request = RestoreRequest(
            RestoreSource(stored=made), "new", category_id=course.category_id,
            shortname=f"KILLED{number}", fullname=f"Killed {number}",
        )  # fmt: skip
        old.restore(request)
    yield World(tmp_path, old, new)
    old.close()
    new.close()


def kill_after(argv: list[str], events: int, dice: random.Random) -> int | None:
    """Run until so many events were told, and a moment longer, then kill; None where it was killed in time."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(events):
            if not process.stdout.readline():
                return process.wait()
        time.sleep(dice.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None if process.returncode == -signal.SIGKILL else process.returncode


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_batch_killed_at_random_moments_loses_nothing_and_repeats_nothing(world: World, seed: int) -> None:
    dice = random.Random(seed)
    argv, kills, ended = world.migrate("--events"), 0, None
    while ended is None and kills < 25:
        ended = kill_after(argv, dice.randint(1, 14), dice)
        kills += ended is None
        job = ledger.job(1)
        assert not job.running
        assert sum(job.totals().values()) == COURSES
        if dice.random() < 0.7:
            argv = world.command("job", "resume", "1", "--events")
        else:  # as cron would, the same command once more
            argv = world.migrate("--events")
    if ended is None:
        ended = subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=300).returncode
    assert (ended, kills >= 3) == (0, True)
    job = ledger.job(1)
    assert job.totals() == {"done": COURSES, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0}
    assert len(ledger.jobs()) == 1
    arrived = world.arrived()
    assert sorted(one.shortname for one in arrived) == [f"KILLED{number}" for number in range(COURSES)]
    assert world.leftovers() == []
    for one in arrived:
        status, told = world.run(
            "--site", "new", "course", "compare", one.shortname, one.shortname, "--site-b", "old"
        )
        assert (status, told["differences"]) == (0, []), told


def stop(process: subprocess.Popen[str], world: World) -> None:
    """Let the process stand still at a moment when it holds no database for itself."""
    databases = [world.folder / "state" / "ledger.sqlite", *world.folder.glob("*/practice.sqlite")]
    while True:
        process.send_signal(signal.SIGSTOP)
        if not any(is_held(database) for database in databases):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)


def is_held(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as opened:
        try:
            opened.execute("BEGIN IMMEDIATE")
            opened.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def test_the_second_process_is_told_who_is_at_it(world: World) -> None:
    with subprocess.Popen(world.migrate("--events"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stop(process, world)  # it is there, however long the others take
        try:
            for words in (world.migrate(), world.command("job", "resume", "1")):
                second = subprocess.run(words, capture_output=True, text=True)
                error = json.loads(second.stderr.splitlines()[-1])["error"]
                assert (second.returncode, error["code"]) == (5, "job_running"), error
                assert error["details"]["pid"] == process.pid
        finally:
            process.send_signal(signal.SIGCONT)
            process.stdout.read()
    assert process.returncode == 0


def test_events_are_one_json_object_a_line(world: World) -> None:
    done = subprocess.run(world.migrate("--events"), capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["event"], events[-1]["event"], events[-1]["state"]) == ("job", "job", "done")
    ends = [event for event in events if event["event"] == "item"]
    assert len(ends) == COURSES
    assert all(event["facts"]["url"].startswith("https://") for event in ends)
    assert ends[-1]["totals"] == {"done": COURSES, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0}


def test_ctrl_c_finishes_what_runs_and_the_rest_is_done_by_resume(world: World) -> None:
    with subprocess.Popen(world.migrate("--events"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(6):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        error = json.loads(process.stderr.read().splitlines()[-1])["error"]
    assert (process.returncode, error["code"]) == (130, "interrupted")
    assert "moodlectl job resume 1" in error["message"]
    job = ledger.job(1)
    assert (job.state, job.totals()["unknown"]) == ("paused", 0)
    assert world.run("job", "resume", "1")[0] == 0
    assert len(world.arrived()) == COURSES
    assert world.leftovers() == []


def test_one_that_fails_makes_it_seven_and_can_be_tried_again(world: World) -> None:
    taken = world.new.course(CourseRef("shortname", "EMPTY1"))
    argv = world.migrate("--events", "--jobs", "1")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while "restore" not in process.stdout.readline():
            pass
        # Somebody takes the name of the last one meanwhile.
        made = world.new.backup(BackupRequest(taken.id)).file
        request = RestoreRequest(
            RestoreSource(stored=made), "new", category_id=taken.category_id, shortname="KILLED5", fullname="Mine"
        )
        mine = world.new.restore(request).course
        process.stdout.read()
    assert process.returncode == 7
    status, told = world.run("job", "show", "1", "--state", "failed")
    assert (status, [item["course"] for item in told["items"]]) == (0, ["KILLED5"])
    assert told["totals"]["done"] == COURSES - 1
    world.new.store.run("UPDATE courses SET shortname = 'MINE' WHERE id = ?", mine.id)
    assert world.run("job", "resume", "1", "--retry-failed")[0] == 0


def test_a_job_that_is_given_up_begins_nothing_more(world: World) -> None:
    dice = random.Random(7)
    assert kill_after(world.migrate("--events", "--jobs", "1"), 5, dice) is None
    status, told = world.run("job", "cancel", "1")
    assert (status, told["cancelled"] >= COURSES - 2) == (0, True)
    if told["left"]:
        assert world.run("job", "resume", "1")[0] == 0
    job = ledger.job(1)
    assert job.totals()["skipped"] == told["cancelled"]
    assert len(world.arrived()) == COURSES - told["cancelled"]
    assert world.leftovers() == []


def test_what_a_plan_has_replaced_can_be_put_back_course_by_course(world: World) -> None:
    plan = world.folder / "plan.toml"
    names = ("GEO200", "EMPTY1")
    plan.write_text(
        "".join(
            f'[[course]]\ntemplatecourse = "KILLED{number}"\nmode = "replace"\nshortname = "{name}"\n'
            for number, name in enumerate(names)
        ),
        encoding="utf-8",
    )
    courses = {name: world.new.course(CourseRef("shortname", name)) for name in names}
    before = {name: held(world.new, one.id) for name, one in courses.items()}
    done = subprocess.run(world.migrate(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert held(world.new, courses["EMPTY1"].id) != before["EMPTY1"]
    status, told = world.run("restore", "--undo", "1", "--site", "new")
    assert (status, told["error"]["code"]) == (5, "ambiguous")
    assert "1/2 EMPTY1" in told["error"]["hint"]
    status, told = world.run("restore", "--undo", "1/2", "--dry-run")
    assert (status, told["course"]["shortname"]) == (0, "EMPTY1")
    assert len(ledger.jobs()) == 1
    status, told = world.run("restore", "--undo", "1/2")
    assert (status, told["verified"]["ok"]) == (0, True)
    assert held(world.new, courses["EMPTY1"].id) == before["EMPTY1"]
    assert [(one.kind, one.state) for one in ledger.jobs()] == [("undo", "done"), ("restore", "done"), ("migrate", "done")]
    assert world.run("restore", "--undo", "1/9")[0] == 4
    assert world.run("restore", "--undo", "one")[0] == 2
