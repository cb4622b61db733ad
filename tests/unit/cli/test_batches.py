"""Batches from the command line: what is printed of very many courses, who reads it, and the exit status at the end."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from moodlectl import ledger, ledger_batch
from moodlectl.cli import batch, main, watching
from moodlectl.ledger_batch import Asked, Fresh

PLAN = "templatecourse,shortname,category\nRICH101,R-27,Science\nFR-B1,F-27,Science\nGEO200,G-27,Science\n"
GUARDED = "templatecourse,shortname,mode,category,guards\nFR-B1,F-27,new,Science,\nRICH101,GEO200,merge,,students=stop\n"


@pytest.fixture
def plan(home: Path) -> Path:
    path = home / "plan.csv"
    path.write_text(PLAN, encoding="utf-8")
    return path


def process(*words: str) -> list[str]:
    return [sys.executable, "-m", "moodlectl", *words]


def many(count: int) -> int:
    """A job of so many courses that nobody has begun."""
    fresh = (Fresh(f"C{n}", "new", "old", "new", {}, "skipped", "there\nalready") for n in range(count))
    job = ledger_batch.begin(Asked("rollover", "k", "p", "", {"site": "p"}), fresh)
    ledger_batch.Book(job).close(None)
    return job


def events(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_that_nobody_reads_the_events_any_more_ends_no_course(plan: Path) -> None:
    argv = process("-o", "json", "rollover", str(plan), "--events")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        assert json.loads(run.stdout.readline())["event"] == "job"
        run.stdout.close()
        said = run.stderr.read().decode()
        assert run.wait() == 0, said
    assert said.count("events cannot be written any more") == 1
    assert ledger.jobs()[0].state == "done"


def test_the_exit_status_is_true_even_if_nobody_reads_the_table(plan: Path) -> None:
    plan.write_text(GUARDED, encoding="utf-8")
    argv = process("-o", "json", "rollover", str(plan))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        run.stderr.read()
        assert run.wait() == 7


@pytest.mark.usefixtures("home")
def test_events_are_one_a_line_also_where_nothing_is_to_be_done(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-o", "json", "rollover", str(plan), "--events"]) == 0
    assert events(capsys.readouterr().out)[-1]["totals"]["done"] == 3
    assert main(["-o", "json", "rollover", str(plan), "--events"]) == 0
    *items, last = events(capsys.readouterr().out)
    assert [(one["event"], one["state"]) for one in items] == [("item", "skipped")] * 3
    assert (last["event"], last["state"], last["totals"]["skipped"]) == ("job", "done", 3)
    assert main(["-o", "json", "job", "resume", "1", "--events"]) == 0
    (only,) = events(capsys.readouterr().out)
    assert (only["state"], only["totals"]["done"]) == ("done", 3)


def test_a_job_in_which_courses_failed_ends_with_7_however_often_it_is_resumed(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(GUARDED, encoding="utf-8")
    assert main(["rollover", str(plan)]) == 7
    assert "job resume 1 --retry-failed" in capsys.readouterr().err
    assert main(["job", "resume", "1"]) == 7
    assert "nothing is left to do of job 1" in capsys.readouterr().err
    assert main(["job", "resume", "1", "--retry-failed"]) == 7


def test_a_plan_that_was_changed_meanwhile_does_not_go_on_with_its_unfinished_job(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"plan": str(plan), "plan_sha1": "another"}
    job = ledger_batch.begin(Asked("rollover", f"rollover {plan} p", "p", "", options), [Fresh("R", "new", "", "", {})])
    ledger_batch.Book(job).close("stopped")
    assert main(["rollover", str(plan)]) == 5
    said = capsys.readouterr().err
    assert "the plan has been changed since" in said
    assert f"job cancel {job}" in said
    assert main(["rollover", str(plan), "--dry-run"]) == 0
    assert f"job {job} of this plan was not finished" in capsys.readouterr().err


def test_a_hint_is_told_once_however_many_columns_are_unknown(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text("templatecourse,shortname,red,green\nRICH101,R-27,1,2\n", encoding="utf-8")
    assert main(["rollover", str(plan)]) == 5
    said = capsys.readouterr().err
    assert ("line 1, green" in said, "line 1, red" in said, said.count("Columns: ")) == (True, True, 1)


def test_a_ctrl_c_that_comes_after_the_last_course_does_not_say_that_nothing_was_begun(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "show_end", interrupted)
    assert main(["rollover", str(plan)]) == 130
    said = capsys.readouterr().err
    assert "Job 1 is done: 3 done" in said
    assert "Nothing had been begun" not in said


def test_a_ctrl_c_at_the_very_beginning_is_told_without_a_traceback() -> None:
    code = (
        "import sys, types\n"
        "class Early(types.ModuleType):\n"
        "    def __getattr__(self, name): raise KeyboardInterrupt\n"
        "sys.modules['moodlectl.cli'] = Early('moodlectl.cli')\n"
        "from moodlectl.start import main; main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (130, "error: interrupted. Nothing had been begun on a site.\n")


# --- very many ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_a_job_is_printed_whole_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    job = many(250)
    assert main(["-o", "json", "job", "show", str(job)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [*told][-2:] == ["items", "totals"]
    assert (told["id"], len(told["items"]), told["totals"]["skipped"]) == (job, 250, 250)
    assert main(["-o", "csv", "job", "show", str(job), "--limit", "240"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (len(rows), rows[0]["course"], rows[0]["state"], rows[-1]["course"]) == (240, "C0", "skipped", "C239")
    assert main(["job", "show", str(job), "--limit", "240"]) == 0
    captured = capsys.readouterr()
    assert "+00:00" not in captured.out  # times for people
    assert sum(line.startswith("C") and "there\\nalready" in line for line in captured.out.splitlines()) == 240
    assert "10 more" in captured.err
    assert main(["job", "show", str(job), "--state", "failed"]) == 0
    assert "no item is failed" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_a_job_of_very_many_courses_is_shown_without_holding_them_in_memory() -> None:
    job = many(15_000)
    peak = (
        "import pathlib, re, sys; from moodlectl.cli import main; main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s*([0-9]+)', pathlib.Path('/proc/self/status').read_text())[1], file=sys.stderr)"
    )
    for words in (["-o", "json"], ["-o", "csv"], []):
        argv = [sys.executable, "-c", peak, *words, "job", "show", str(job), "--limit", "15000"]
        run = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
        assert int(run.stderr.split()[-1]) < 80_000, words


@pytest.mark.usefixtures("home")
def test_the_log_of_a_job_is_printed_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    job = many(2)
    assert main(["-o", "json", "job", "show", str(job), "--log"]) == 0
    assert [one["event"] for one in json.loads(capsys.readouterr().out)] == ["job", "done"]
    assert main(["-o", "csv", "job", "show", str(job), "--log"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 2
    assert main(["job", "show", str(job), "--log"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["AT", "WHO", "EVENT", "ITEM", "DETAIL"]


def test_a_second_process_may_take_a_job_over_from_a_machine_that_is_gone(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollover", str(plan)]) == 0
    with ledger.Ledger().transaction() as database:
        database.execute("UPDATE job SET state='started', ended=NULL, process='elsewhere 7 123'")
    assert main(["rollover", str(plan)]) == 5
    assert "job resume 1 --take-over" in capsys.readouterr().err
    assert main(["job", "resume", "1"]) == 5
    assert main(["job", "resume", "1", "--take-over"]) == 0
    assert main(["job", "resume", "1", "--take-over"]) == 0


# --- what a migration tells at its end ------------------------------------------------------------------------------


@pytest.fixture
def two_sites(home: Path) -> Path:
    settings = home / "config.toml"
    other = f'[sites.q]\nkind = "practice"\nfolder = "{home / "other"}"\n'
    settings.write_text(settings.read_text(encoding="utf-8") + other, encoding="utf-8")
    path = home / "plan.csv"
    path.write_text("templatecourse,shortname,category,idnumber\nFR-B1,F-27,Science,-\n", encoding="utf-8")
    return path


def test_addresses_that_cannot_be_written_are_told_before_anything_moves(
    two_sites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["migrate", str(two_sites), "--from", "p", "--to", "q", "--addresses"]
    assert main([*words, str(two_sites.parent / "nowhere" / "a.csv")]) == 3
    assert "there is no folder" in capsys.readouterr().err
    assert main([*words, str(two_sites.parent)]) == 3
    assert "it is a folder" in capsys.readouterr().err
    assert list(ledger.jobs()) == []


def test_a_migration_that_is_gone_on_with_by_its_number_writes_its_addresses_too(
    two_sites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = two_sites.parent / "a.csv"
    assert main(["migrate", str(two_sites), "--from", "p", "--to", "q", "--addresses", str(addresses)]) == 0
    whole = addresses.read_text(encoding="utf-8")
    assert whole.startswith("old,new\n") and whole.count("\n") > 1
    addresses.unlink()
    with ledger.Ledger().transaction() as database:  # as if it had been killed at its last step
        database.execute("UPDATE job SET state='started', ended=NULL, process='gone 0 -'")
        database.execute("UPDATE item SET state='started', ended=NULL, steps=steps-1")
    assert main(["job", "resume", "1", "--take-over"]) == 0
    assert addresses.read_text(encoding="utf-8") == whole
    capsys.readouterr()
    assert main(["migrate", str(two_sites), "--from", "p", "--to", "q"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_who_looks_on_sees_how_many_are_done_and_what_is_at_work() -> None:
    job = ledger_batch.begin(Asked("rollover", "k", "p", "", {}), [Fresh(f"C{n}", "new", "", "", {}) for n in range(3)])
    book = ledger_batch.Book(job)
    with closing(ledger_batch.Reader(job)) as reader:
        first, *_ = reader.items()
        book.start(first, 0, "backup", "p", first=True)
        console = Console(width=80, force_terminal=True, color_system=None)
        with console.capture() as shown:
            console.print(watching._drawn(reader))
    book.close(None)
    said = shown.get()
    assert "0 done   0 failed   0 skipped   0 unknown   3 pending" in said
    assert "0 of 3" in said
    assert "backup       p            C0" in said
