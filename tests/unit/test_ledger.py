"""What was asked, started and finished is known after anything that can happen to a process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from moodlectl import ledger
from moodlectl.errors import AccessError, NotFound
from moodlectl.ledger import Item, Ledger, Which


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


FIRST_FORM = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, site TEXT NOT NULL, url TEXT NOT NULL,
    state TEXT NOT NULL, created TEXT NOT NULL, ended TEXT, who TEXT NOT NULL, process TEXT NOT NULL,
    options TEXT NOT NULL);
CREATE TABLE item (
    job INTEGER NOT NULL REFERENCES job (id), seq INTEGER NOT NULL, course TEXT NOT NULL, action TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, source TEXT, target TEXT, started TEXT, ended TEXT,
    message TEXT, facts TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (job, seq)) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, job INTEGER NOT NULL, seq INTEGER NOT NULL,
    event TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
PRAGMA user_version = 1;
INSERT INTO job VALUES (7, 'restore', 'school', 'https://m', 'done', '2026-11-01T10:00:00.000+00:00',
    '2026-11-01T10:01:00.000+00:00', 'me@here', 'here 1 2', '{"mode": "new"}');
INSERT INTO item VALUES (7, 1, 'BIO', 'new', 'done', 1, 'x.mbz', 'category 3', '2026-11-01T10:00:00.000+00:00',
    '2026-11-01T10:01:00.000+00:00', NULL, '{"course": 12}');
INSERT INTO audit VALUES (1, '2026-11-01T10:00:00.000+00:00', 'me@here', 7, 1, 'started', '{}');
"""


def test_a_ledger_of_the_first_form_is_read_as_it_is_and_mended_when_written(path: Path) -> None:
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.executescript(FIRST_FORM)
    before = ledger.job(7, path)
    assert (before.state, before.items[0].facts, before.batch) == ("done", {"course": 12}, False)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)  # looking has changed nothing
    Ledger(path).close()
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    assert ledger.job(7, path) == before
    assert len(list(ledger.audit(path))) == 1
    database.execute("PRAGMA user_version = 1")  # as the first moodlectl did to every ledger it opened
    Ledger(path).close()
    assert ledger.job(7, path) == before
    database.close()


def test_a_ledger_of_a_later_moodlectl_is_left_alone(path: Path) -> None:
    Ledger(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    with pytest.raises(AccessError, match="a later moodlectl"):
        Ledger(path)
    assert database.execute("PRAGMA user_version").fetchone() == (99,)
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


def test_jobs_are_found_by_site_course_kind_state_and_time(path: Path) -> None:
    book = Ledger(path)

    def did(kind: str, site: str, item: Item, state: str) -> int:
        number = book.begin(kind, site, "https://m", {})
        book.start(number, item)
        book.end(number, 1, state)
        book.close_job(number)
        return number

    one = did("restore", "school", Item(1, "BIO", "replace", "planned", source="x.mbz", target="course 7"), "done")
    two = did("copy", "school", Item(1, "BIO-2", "new", "planned", source="BIO", facts={"course": 9}), "failed")
    three = did("download", "other", Item(1, "CHEM", "download", "planned", source="BIO@course/a.mbz"), "done")
    did("delete", "other", Item(1, "BIO%", "delete", "planned", source="BIO%@course/a.mbz"), "done")
    book.close()

    def found(**said: Any) -> list[int]:
        return [job.id for job in ledger.jobs(path, which=Which(**said))]

    assert found(site="school") == [two, one]
    assert found(course="BIO") == [three, two, one]
    assert (found(course=7), found(course=9)) == ([one], [two])
    assert found(kind="copy", state="failed") == [two]
    assert found(kind="copy", state="done") == []
    assert found(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert len(ledger.jobs(path, limit=2, which=Which(state="done"))) == 2


def test_a_ledger_that_could_not_be_begun_is_none_yet_and_is_begun_later(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert list(ledger.jobs(path)) == []
    book, number = begin(path)
    book.close()
    assert ledger.job(number, path).id == number


def test_a_killed_process_that_nobody_has_waited_for_is_gone(path: Path) -> None:
    code = (
        f"from pathlib import Path; from moodlectl.ledger import Ledger; n = Ledger(Path({str(path)!r}))"
        ".begin('backup', 's', 'u', {}); print(n, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still to be waited for
        assert not ledger.job_head(number, path).running
