"""A client that is killed in the middle of a restore: what became of it is known afterwards, and can be put back.

On the practice site, whose deeds are one transaction each: killed before its end, nothing has happened.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodlectl import ledger
from moodlectl.site.port import CourseRef
from moodlectl.site.practice import PracticeSite
from tests.faults.breaking import held

# A restore that stops dead at a step of its progress, as often as it comes by.
RUN = """
import signal, sys, time
from pathlib import Path
from moodlectl.actions import protected, restore
from moodlectl.site.port import RestoreRequest, RestoreSource, CourseRef
from moodlectl.site.practice import PracticeSite

folder, phase, step, mode = sys.argv[1:]
site = PracticeSite(Path(folder), "practice")
course = site.course(CourseRef("shortname", "RICH101"))
other = site.course(CourseRef("shortname", "GEO200"))
source = RestoreSource(stored=site.backups(other.id).files[0])
if mode == "new":
    request, target = RestoreRequest(source, "new", category_id=course.category_id, shortname="killed"), None
else:
    request, target = RestoreRequest(source, mode, course_id=course.id), course

def told(progress):
    if progress.phase == phase and progress.done >= float(step):
        print("there", flush=True)
        time.sleep(600)

protected.run(site, request, target, {"backup": "x"}, protected.Protection(), told)
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MOODLECTL_CONFIG", str(tmp_path / "config.toml"))
    config = f'default = "practice"\n[sites.practice]\nkind = "practice"\nfolder = "{tmp_path / "site"}"\n'
    (tmp_path / "config.toml").write_text(config)
    return tmp_path


@pytest.fixture
def site(state: Path) -> Iterator[PracticeSite]:
    made = PracticeSite(state / "site", "practice")
    yield made
    made.close()


def kill_at(state: Path, phase: str, step: float, mode: str = "replace", how: int = signal.SIGKILL) -> ledger.Job:
    """Run a restore until that step of its progress, and end it there."""
    argv = [sys.executable, "-c", RUN, str(state / "site"), phase, str(step), mode]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "there\n", process.stderr.read()
        process.send_signal(how)
    return ledger.job(ledger.jobs(limit=1)[0].id)


def moodlectl(*words: str) -> tuple[int, Any]:
    """The command's exit status, and its JSON from standard output or, where it failed, standard error."""
    argv = [sys.executable, "-m", "moodlectl", "-o", "json", "-y", *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    text = done.stdout or done.stderr[done.stderr.index('{"error"') :]
    return done.returncode, json.loads(text)


def rich(site: PracticeSite) -> int:
    return site.course(CourseRef("shortname", "RICH101")).id


# Before the safety backup, after it was made, while it comes down, and before the course is replaced for good.
EARLY = [("backup", 0), ("download", 1), ("restore", 0), ("restore", 1)]


@pytest.mark.parametrize(("phase", "step"), EARLY)
def test_a_client_killed_early_has_changed_nothing(state: Path, site: PracticeSite, phase: str, step: float) -> None:
    before = held(site, rich(site))
    job = kill_at(state, phase, step)
    assert job.state == "unknown"
    status, told = moodlectl("job", "resume", str(job.id))
    assert (status, told["error"]["code"]) == (1, "job_failed")
    assert ledger.job(job.id).state == "failed"
    assert held(site, rich(site)) == before  # the safety backup has left no copy on the site, either


def test_a_client_killed_before_the_answer_is_resumed_and_undone(state: Path, site: PracticeSite) -> None:
    before = held(site, rich(site))
    job = kill_at(state, "restore", 2)
    assert job.state == "unknown"
    status, told = moodlectl("job", "resume", str(job.id))
    assert (status, told["state"], told["course"]["id"]) == (0, "done", rich(site))
    assert ledger.job(job.id).state == "done"
    assert held(site, rich(site)) != before
    status, told = moodlectl("restore", "--undo", str(job.id))
    assert (status, told["verified"]["ok"], told["verified"]["differences"]) == (0, True, [])
    assert held(site, rich(site)) == before


def test_an_interrupted_client_writes_down_what_it_knows(state: Path, site: PracticeSite) -> None:
    before = held(site, rich(site))
    job = kill_at(state, "restore", 1, how=signal.SIGINT)
    assert job.state in ("failed", "unknown")
    if job.state == "unknown":
        moodlectl("job", "resume", str(job.id))
    assert ledger.job(job.id).state == "failed"
    assert held(site, rich(site)) == before


@pytest.mark.parametrize(("step", "state_after"), [(0, "failed"), (1, "failed"), (2, "done")])
def test_a_new_course_is_there_wholly_or_not_at_all(
    state: Path, site: PracticeSite, step: int, state_after: str
) -> None:
    names = {course.shortname for course in site.courses()}
    job = kill_at(state, "restore", step, "new")
    status, _ = moodlectl("job", "resume", str(job.id))
    assert status == (0 if state_after == "done" else 1)
    assert ledger.job(job.id).state == state_after
    made = {course.shortname for course in site.courses()} - names
    assert made == ({"killed"} if state_after == "done" else set())


def test_a_merge_can_be_undone_as_well(state: Path, site: PracticeSite) -> None:
    before = held(site, rich(site))
    job = kill_at(state, "restore", 2, "merge")
    assert moodlectl("job", "resume", str(job.id))[0] == 0
    assert held(site, rich(site)) != before
    assert moodlectl("restore", "--undo", str(job.id))[0] == 0
    assert held(site, rich(site)) == before


def test_every_deed_is_listed_with_its_end(state: Path, site: PracticeSite) -> None:
    job = kill_at(state, "restore", 2)
    moodlectl("job", "resume", str(job.id))
    moodlectl("restore", "--undo", str(job.id))
    status, rows = moodlectl("job", "list")
    assert status == 0
    assert [(row["kind"], row["state"]) for row in rows] == [("undo", "done"), ("restore", "done")]
    events = [line["event"] for line in ledger.audit(job=job.id)]
    assert events[:2] == ["job", "started"]
    assert "resumed" in events
    assert events[-2:] == ["done", "note"]
