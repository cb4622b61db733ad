"""``--profile``: where the time of a command went."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from moodlectl.cli import profile
from moodlectl.spent import MOODLE, Spent, Step


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "moodlectl", *words]
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "c"),
        "XDG_DATA_HOME": str(home / "d"),
    }
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_profile_is_told_on_standard_error_after_everything_else_wherever_the_option_stands(tmp_path: Path) -> None:
    done = run(tmp_path, "site", "list", "-o", "json", "--profile")
    assert done.returncode == 0
    assert done.stdout.strip() == "[]"
    assert "everything else here" in done.stderr
    assert "in all" in done.stderr


def test_nobody_is_told_who_did_not_ask(tmp_path: Path) -> None:
    assert "in all" not in run(tmp_path, "site", "list").stderr


def test_a_command_that_fails_tells_its_profile_too(tmp_path: Path) -> None:
    done = run(tmp_path, "--profile", "course", "list", "--site", "nowhere")
    assert done.returncode == 4
    assert "in all" in done.stderr


def test_what_an_admin_can_do_about_moodles_own_time_is_said() -> None:
    steps = [Step("restore by Moodle", MOODLE, 1, 10.0, 40_000, 8.0), Step("start Moodle", MOODLE, 1, 0.9)]
    said = " ".join(profile.advice(steps, set()))
    assert "73 % of Moodle's own time is its database: 40000 round trips of 0.20 ms" in said
    assert "socket" in said and "innodb_flush_log_at_trx_commit" in said and "opcache" in said
    assert "innodb" not in " ".join(profile.advice(steps, {"asynchronous commit, made lasting at the end"}))


def test_steps_side_by_side_are_summed_and_said_to_be_so() -> None:
    account = Spent()
    for _ in range(3):
        account.add("download", 5.0)
    assert [(step.name, step.times, step.seconds) for step in account.steps] == [("download", 3, 15.0)]
