"""What was asked, started and finished is known after anything that can happen to a process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from moodlectl import ledger
from moodlectl.errors import AccessError, NotFound
from moodlectl.ledger import Item, Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def begin(path: Path) -> tuple[Ledger, int]:
    book = Ledger(path)
    number = book.begin("restore", "school", "https://m", {"mode": "replace"})
    book.start(number, Item(1, "BIO", "replace", "planned", source="x.mbz", facts={"sha1": "abc"}))
    return book, number


def test_a_job_is_started_then_done_and_keeps_its_facts(path: Path) -> None:
    book, number = begin(path)
    book.note(number, 1, safety="/safe.mbz")
    book.end(number, 1, "done", sections=3)
    assert book.close_job(number) == "done"
    book.close()
    job = ledger.job(number, path)
    assert (job.state, job.items[0].state, job.items[0].attempts) == ("done", "done", 1)
    assert job.items[0].facts == {"sha1": "abc", "safety": "/safe.mbz", "sections": 3}
    assert job.totals() == {"done": 1, "failed": 0, "skipped": 0, "unknown": 0, "pending": 0}


def test_listing_does_not_make_the_file(path: Path) -> None:
    assert list(ledger.jobs(path)) == []
    assert list(ledger.audit(path)) == []
    with pytest.raises(NotFound, match="no job 7"):
        ledger.job(7, path)
    assert not path.parent.exists()


def test_a_job_of_a_running_process_is_started_and_of_a_killed_one_unknown(path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from moodlectl.ledger import Item, Ledger\n"
        f"book = Ledger(Path({str(path)!r}))\n"
        "n = book.begin('backup', 's', 'u', {})\n"
        "book.start(n, Item(1, 'BIO', 'backup', 'planned'))\n"
        "print(n, flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    running = ledger.job(number, path)
    assert (running.state, running.running, running.items[0].state) == ("started", True, "started")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    gone = ledger.job(number, path)
    assert (gone.state, gone.running, gone.items[0].state) == ("unknown", False, "unknown")


def test_a_failed_item_makes_the_job_failed_and_an_unknown_one_unknown(path: Path) -> None:
    book, number = begin(path)
    book.end(number, 1, "failed", "user conflict")
    assert book.close_job(number) == "failed"
    book, number = begin(path)
    book.end(number, 1, "unknown", "the site went away")
    assert book.close_job(number) == "unknown"
    assert [job.id for job in ledger.jobs(path)] == [2, 1]


def test_the_audit_log_can_neither_be_changed_nor_shortened(path: Path) -> None:
    book, number = begin(path)
    book.end(number, 1, "done")
    book.close()
    assert [entry["event"] for entry in ledger.audit(path)] == ["job", "started", "done"]
    database = sqlite3.connect(path)
    for deed in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            database.execute(deed)
    database.close()


def test_where_no_record_can_be_kept_nothing_is_begun(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="cannot be kept") as error:
        Ledger(tmp_path / "file" / "ledger.sqlite")
    assert "MOODLECTL_STATE" in (error.value.hint or "")


def test_only_its_owner_can_read_the_ledger(path: Path) -> None:
    Ledger(path).close()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
