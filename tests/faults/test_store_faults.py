"""A store whose users are killed, at any moment and as hard as can be; and several of them at once."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.backups import DAY, make_backup

# Runs the command line, and kills itself, as hard as can be, before the so-manieth change to the file system.
KILLED = """
import os, signal, sys
left = int(sys.argv[1])

def hook(event, arguments):
    global left
    writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes and "store" not in str(arguments[0]):
        return
    if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        if event != "open" and "store" not in str(arguments[0]):
            return
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
from moodlectl.cli import main
sys.exit(main(sys.argv[2:]))
"""


@dataclass
class Machine:
    """The command with a store of its own."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "moodlectl", "-y", "-o", "json", "store", *words],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def killed(self, after: int, *words: str) -> bool:
        """Whether it was killed before it had ended."""
        argv = [sys.executable, "-c", KILLED, str(after), "-q", "-y", "store", *words]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "moodlectl", "-q", "-y", "store", *words]
        return subprocess.Popen(argv, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def ids(self) -> set[str]:
        return {one["id"] for one in self("list")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    told = {"MOODLECTL_STORE": str(tmp_path / "store"), "MOODLECTL_STATE": str(tmp_path / "state")}
    (tmp_path / "config.toml").write_text("")
    return Machine(tmp_path, {**os.environ, **told, "MOODLECTL_CONFIG": str(tmp_path / "config.toml")})


def nights(folder: Path, *days: int, course: int = 42) -> list[str]:
    shared = {f"shared-{n}": bytes([n]) * 2000 for n in range(4)}
    return [
        str(
            make_backup(
                folder / f"{course}-{day}.mbz", {**shared, "own": b"%d" % day}, course=course, date=DAY + timedelta(days=day)
            )
        )
        for day in days
    ]


STEPS = (0, 1, 2, 4, 7, 11, 16, 22, 29, 37, 46, 56, 67, 79, 92, 110, 130, 160, 200, 300)


def test_a_process_killed_while_it_adds_loses_nothing(machine: Machine) -> None:
    one, two = nights(machine.folder, 0, 1)
    [first] = machine("add", one)
    deaths = 0
    for after in STEPS:
        died = machine.killed(after, "add", two)
        deaths += died
        assert machine("verify")["ok"]
        assert first["id"] in machine.ids()
        if not died:
            break
    assert deaths >= 5
    assert len(machine.ids()) == 2
    [again] = machine("add", two)
    assert not again["new"]


def test_a_process_killed_while_it_prunes_loses_nothing(machine: Machine) -> None:
    deaths = 0
    files = nights(machine.folder, 0, 1, 400, 401)
    for after in STEPS:
        machine("add", *files)
        keep = {one["id"] for one in machine("prune", "--keep-last", "2", "--keep-within", "2d", "--dry-run")["backups"] if one["keep"]}
        died = machine.killed(after, "prune", "--keep-last", "2", "--keep-within", "2d")
        deaths += died
        checked = machine("verify")
        assert checked["ok"], checked
        assert keep <= machine.ids()
        if not died:
            break
    assert deaths >= 3
    assert machine.ids() == keep


@pytest.mark.parametrize("seed", [1, 2])
def test_many_at_once_some_of_them_killed_lose_nothing(machine: Machine, seed: int) -> None:
    chance = random.Random(seed)
    machine("add", *nights(machine.folder, 0, course=9))  # there is a store already: else pruning would find none
    for day in itertools.count():
        files = [nights(machine.folder, day, course=course)[0] for course in (1, 2, 3)]
        running = [machine.start("add", file) for file in files]
        running.append(machine.start("prune", "--keep-last", "1", "--keep-within", "1h"))
        doomed = chance.sample(running, 2)
        time.sleep(chance.uniform(0.3, 1.5))
        for one in doomed:
            one.kill()
        for one in running:
            _, told = one.communicate(timeout=120)
            assert one in doomed or one.returncode == 0, told
        checked = machine("verify")
        assert checked["ok"], checked
        kept = {one["course"]["id"]: one["date"] for one in machine("list")[::-1]}
        for number, one in enumerate(running[:3]):
            if one not in doomed:
                assert kept[number + 1] == (DAY + timedelta(days=day)).isoformat()
        if day == 4:
            break
    machine("add", *files)
    machine("prune", "--keep-last", "1", "--keep-within", "1h")
    assert len(machine.ids()) == 4


def test_an_interrupted_process_leaves_no_lock_and_nothing_on_its_way(machine: Machine) -> None:
    large = make_backup(machine.folder / "large.mbz", {f"{n}": os.urandom(1_500_000) for n in range(30)})
    process = machine.start("add", str(large))
    _until(lambda: any((machine.folder / "store" / "locks").glob("*.json")))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    left = [path for name in ("locks", "incoming") for path in (machine.folder / "store" / name).rglob("*")]
    assert process.returncode in (0, 130)
    assert left == []


def _until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not there() and time.monotonic() < until:
        time.sleep(0.01)
