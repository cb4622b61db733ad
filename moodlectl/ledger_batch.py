"""The ledger of jobs of many courses: written by many hands at once, read page by page.

Whoever must not go on before it is on disk writes, for itself and for all others that have handed something over;
what comes meanwhile goes into the next transaction together. So many courses in flight share one ``fsync``.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlectl import ledger
from moodlectl.errors import AccessError, NotFound, Refused
from moodlectl.ledger import Item, Job, Ledger

_Write = tuple[str, tuple[Any, ...]]

CANCEL = "cancel"
GIVEN_UP = "cancelled"
"""What an item says that was not begun when its job was given up; such a job ends *cancelled*."""
FINISHED = ("done", "failed", "cancelled")
"""States of a batch in which nothing of it is left to do."""


@dataclass(frozen=True)
class Fresh:
    """One item as it is planned. ``state`` may be ``skipped`` from the start, with a message."""

    course: str
    action: str
    source: str | None
    target: str | None
    spec: Mapping[str, Any]
    state: str = "planned"
    message: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a batch is: its kind, what must not run twice, its sites' names and addresses, what was asked."""

    kind: str
    key: str
    site: str
    url: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One step of one item, as it was last tried."""

    seq: int
    number: int
    name: str
    site: str | None
    state: str
    attempts: int
    started: str | None
    ended: str | None
    message: str | None


# --- beginning, taking up, giving up --------------------------------------------------------------------------


def begin(asked: Asked, items: Iterable[Fresh], path: Path | None = None) -> int:
    """Write a whole batch down, all its items or none; returns its number. Nothing is begun by this.

    Raises Refused where a batch of the same key is at work (told by whom) or was left unfinished, AccessError where
    the ledger cannot be written.
    """
    book = Ledger(path)
    try:
        with book.transaction() as database:
            refuse_twice(_same(database, asked.key))
            row = database.execute(
                "INSERT INTO job (kind, site, url, state, created, since, who, process, options, key)"
                " VALUES (?,?,?,'started',?,?,?,?,?,?)",
                (
                    *(asked.kind, asked.site, asked.url, now := ledger.now(), now, ledger.who(), ledger.process()),
                    *(ledger.dumped(asked.options), asked.key),
                ),
            )
            job = int(row.lastrowid or 0)
            database.executemany(
                "INSERT INTO item (job, seq, course, action, state, source, target, spec, message, ended)"
                " VALUES (?,?,?,?,?,?,?,?,?,?)",
                (_row(job, seq, item, now) for seq, item in enumerate(items, 1)),
            )
            count = database.execute("SELECT count(*) FROM item WHERE job = ?", (job,)).fetchone()[0]
            detail = {"kind": asked.kind, "site": asked.site, "options": dict(asked.options), "items": count}
            database.execute(*_audit(job, 0, "job", detail))
        return job
    finally:
        book.close()


def _row(job: int, seq: int, item: Fresh, now: str) -> tuple[Any, ...]:
    ended = now if item.state == "skipped" else None
    texts = (item.course, item.action, item.state, item.source, item.target)
    return (job, seq, *texts, ledger.dumped(item.spec), item.message, ended)


def refuse_twice(job: Job | None) -> None:
    """Refuse to do again what is being done, or was not finished. Raises Refused."""
    if job is None:
        return
    if job.running:
        raise at_work(job)
    raise Refused(
        f"Job {job.id} of the same plan was not finished.",
        f"Go on with it: moodlectl job resume {job.id}   or give it up: moodlectl job cancel {job.id}",
        code="job_unfinished",
        details={"job": job.id},
    )


def at_work(job: Job) -> Refused:
    """The refusal of a job that somebody else works on, with who it is."""
    host, _, number = job.process.partition(" ")
    since = job.since or job.created
    return Refused(
        f"Job {job.id} is at work: process {number} of {job.who} on {host}, since {since.astimezone():%Y-%m-%d %H:%M}.",
        f"Wait until it has ended: moodlectl job show {job.id} --watch{ledger.take_over_hint(job)}",
        code="job_running",
        details={"job": job.id, "host": host, "pid": int(number), "since": since.isoformat()},
    )


def plan_changed(job: Job) -> Refused:
    """The refusal of a plan whose job was left unfinished, and that says something else by now."""
    return Refused(
        f"Job {job.id} of this plan was not finished, and the plan has been changed since.",
        f"Finish it as it was: moodlectl job resume {job.id}   or give the rest up: moodlectl job cancel {job.id}"
        "   Then run the plan as it is now; it does what is missing.",
        code="job_unfinished",
        details={"job": job.id},
    )


def unfinished(key: str, path: Path | None = None) -> Job | None:
    """The batch of that key that is at work or was left unfinished, without its items. Reads only."""
    database = ledger.reading(path)
    if database is None:
        return None
    try:
        return _same(database, key) if ledger.has_batches(database) else None
    finally:
        database.close()


def _same(database: sqlite3.Connection, key: str) -> Job | None:
    query = "SELECT id FROM job WHERE key = ? AND state NOT IN ('done','failed','cancelled') ORDER BY id DESC"
    row = database.execute(query, (key,)).fetchone()
    return ledger.head(database, int(row[0])) if row is not None else None


def adopt(job: int, path: Path | None = None, *, retry: bool = False) -> Job:
    """Take a batch up; from here on this process works on it. ``retry`` plans what has failed once more: from its
    start, or where a course has got all that was for it (fact ``activities``), from the step that failed. What was
    merged and found wanting, or broken off when the course was changed already, stays failed: merged once more it
    would be there twice.

    Raises NotFound, and Refused where somebody works on it (told who).
    """
    book = Ledger(path)
    try:
        with book.transaction() as database:
            found = ledger.head(database, job)
            if found.running:
                raise at_work(found)
            if not found.batch:
                raise NotFound(f"Job {job} is not a batch.", code="job_empty")
            database.execute(
                "UPDATE job SET state='started', ended=NULL, process=?, since=?, wish=NULL, message=NULL WHERE id=?",
                (ledger.process(), ledger.now(), job),
            )
            if retry:
                _plan_again(database, job)
            database.execute(*_audit(job, 0, "resumed", {"retry_failed": retry}))
            return ledger.head(database, job)
    finally:
        book.close()


def _plan_again(database: sqlite3.Connection, job: int) -> None:
    arrived, wanting = "json_type(facts,'$.activities') IS NOT NULL", "json_array_length(facts,'$.differences')>0"
    touched = f"({arrived} OR coalesce(json_extract(facts,'$.course_changed'),0))"
    put_back = "coalesce(json_extract(facts,'$.undone'),0)"
    database.execute(
        "UPDATE item SET state='planned', ended=NULL, message=NULL"
        f" WHERE job=? AND state='failed' AND {arrived} AND NOT coalesce({wanting},0)",
        (job,),
    )
    database.execute(
        "UPDATE item SET state='planned', steps=0, step=NULL, ended=NULL, message=NULL,"
        " facts=json_object('earlier', json(facts))"
        f" WHERE job=? AND state='failed' AND NOT (action='merge' AND {touched} AND NOT {put_back})",
        (job,),
    )


def cancel(job: int, path: Path | None = None) -> tuple[Job, int, int]:
    """Give up what a batch has not begun. A process at work is asked to do so, and finishes what it has begun.

    Returns the job as it then is, how many items were given up now, and how many that were begun are left open.
    """
    book = Ledger(path)
    try:
        with book.transaction() as database:
            found = ledger.head(database, job)
            if found.running:
                database.execute("UPDATE job SET wish=? WHERE id=?", (CANCEL, job))
                database.execute(*_audit(job, 0, "cancel asked", {}))
                return found, 0, 0
            given_up = _give_up(database, job)
            left = database.execute(
                "SELECT count(*) FROM item WHERE job=? AND state IN ('planned','started','unknown')", (job,)
            ).fetchone()[0]
            if not left and found.state not in FINISHED:
                database.execute(
                    "UPDATE job SET state=?, ended=coalesce(ended, ?) WHERE id=?",
                    (_ended_state(database, job), ledger.now(), job),
                )
            database.execute(*_audit(job, 0, "cancelled", {"given_up": given_up, "left": left}))
            return ledger.head(database, job), given_up, int(left)
    finally:
        book.close()


def given_up(job: int, path: Path | None = None) -> bool:
    """Whether items of a batch were given up when it was cancelled. Reads only."""
    database = ledger.reading(path)
    if database is None:
        return False
    try:
        return _given_up(database, job)
    finally:
        database.close()


def _given_up(database: sqlite3.Connection, job: int) -> bool:
    query = "SELECT 1 FROM item WHERE job=? AND state='skipped' AND message=? LIMIT 1"
    return database.execute(query, (job, GIVEN_UP)).fetchone() is not None


def _give_up(database: sqlite3.Connection, job: int) -> int:
    return database.execute(
        "UPDATE item SET state='skipped', message=?, ended=? WHERE job=? AND state='planned' AND steps=0",
        (GIVEN_UP, ledger.now(), job),
    ).rowcount


def _ended_state(database: sqlite3.Connection, job: int) -> str:
    states = {row[0] for row in database.execute("SELECT DISTINCT state FROM item WHERE job=?", (job,))}
    if states & {"unknown", "started"}:
        return "unknown"
    if "planned" in states:
        return "paused"
    if _given_up(database, job):
        return "cancelled"
    return "failed" if "failed" in states else "done"


# --- writing while it runs ------------------------------------------------------------------------------------


class Book:
    """Writes one batch down while it runs, for all the hands that work on it.

    Methods that wait return when it is on disk; what the others are told is on disk after the next of those, and lost
    before it a step is only looked at again. Raises AccessError where the ledger cannot be written (a full disk).
    """

    def __init__(self, job: int, path: Path | None = None) -> None:
        self.job = job
        self._path = path or ledger.default_path()
        self._more = threading.Condition()
        self._queue: list[_Write] = []
        self._asked = self._written = 0
        self._writing = False
        self._broken: sqlite3.Error | None = None
        self._database = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")

    def start(self, item: Item, number: int, name: str, site: str | None, *, first: bool) -> None:
        """*Started*, for a step, before it is begun. Waits. ``first`` is whether this process begins the item."""
        now = ledger.now()
        self._do(
            (
                "UPDATE item SET state='started', step=?, started=coalesce(started, ?), ended=NULL,"
                " attempts=attempts+? WHERE job=? AND seq=?",
                (name, now, int(first), self.job, item.seq),
            ),
            (
                "INSERT INTO step (job, seq, number, name, site, state, attempts, started) VALUES (?,?,?,?,?,?,1,?)"
                " ON CONFLICT DO UPDATE SET state='started', attempts=attempts+1, started=?7, ended=NULL, message=NULL",
                (self.job, item.seq, number, name, site, "started", now),
            ),
            _audit(self.job, item.seq, "started", {"step": name, "course": item.course, "site": site}),
            wait=True,
        )

    def note(self, seq: int, facts: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        """All facts of an item, of which ``more`` are new. Waits."""
        self._do(
            ("UPDATE item SET facts=? WHERE job=? AND seq=?", (ledger.dumped(facts), self.job, seq)),
            _audit(self.job, seq, "note", more),
            wait=True,
        )

    def done(self, seq: int, number: int, name: str, following: str | None) -> None:
        """A step is done; the next one has that name."""
        self._do(
            _step_ended(self.job, seq, number, "done", None),
            (
                "UPDATE item SET state='planned', steps=?, step=? WHERE job=? AND seq=?",
                (number + 1, following, self.job, seq),
            ),
            _audit(self.job, seq, "step done", {"step": name}),
        )

    def put_back(self, seq: int, number: int, name: str, message: str) -> None:
        """A step has done nothing, and is still to be done."""
        self._do(
            _step_ended(self.job, seq, number, "planned", message),
            ("UPDATE item SET state='planned' WHERE job=? AND seq=?", (self.job, seq)),
            _audit(self.job, seq, "not done", {"step": name, "message": message}),
        )

    def end(self, item: Item, state: str, message: str | None, facts: Mapping[str, Any], number: int) -> None:
        """How an item has ended, at the step of that number."""
        self._do(
            _step_ended(self.job, item.seq, number, state, message),
            (
                "UPDATE item SET state=?, ended=?, message=?, facts=?, steps=? WHERE job=? AND seq=?",
                (
                    *(state, ledger.now(), message or None, ledger.dumped(facts)),
                    *(number + (state == "done"), self.job, item.seq),
                ),
            ),
            _audit(self.job, item.seq, state, {"message": message or ""}),
        )

    def flush(self) -> None:
        """Everything handed over so far is on disk. Waits."""
        with self._more:
            upto = self._asked
        self._wait_for(upto)

    def close(self, reason: str | None) -> None:
        """Everything is on disk, and nobody works on the batch any more: its state follows from its items. Waits."""
        try:
            self.flush()
        finally:
            self._database.close()
        book = Ledger(self._path)
        try:
            with book.transaction() as database:
                state = _ended_state(database, self.job)
                ours = database.execute(
                    "UPDATE job SET state=?, ended=?, message=? WHERE id=? AND process=?",
                    (state, ledger.now(), reason, self.job, ledger.process()),
                )
                if not ours.rowcount:
                    return  # another process has taken it over
                database.execute(*_audit(self.job, 0, state, {"message": reason or ""}))
        finally:
            book.close()

    def give_up(self) -> int:
        """Skip what has not been begun; returns how many."""
        book = Ledger(self._path)
        try:
            with book.transaction() as database:
                return _give_up(database, self.job)
        finally:
            book.close()

    # --- whoever waits, writes --------------------------------------------------------------------------------

    def _do(self, *writes: _Write, wait: bool = False) -> None:
        with self._more:
            if self._broken is not None:
                raise self._unwritable()
            self._queue += writes
            self._asked += 1
            mine = self._asked
        if wait:
            self._wait_for(mine)

    def _wait_for(self, upto: int) -> None:
        """Until that much is on disk. The first to wait writes for all who have handed something over meanwhile."""
        with self._more:
            while self._written < upto:
                if self._broken is not None:
                    raise self._unwritable()
                if self._writing:
                    self._more.wait()
                    continue
                self._writing = True
                writes, self._queue, taken = self._queue, [], self._asked
                self._more.release()
                try:
                    self._write(writes)
                except sqlite3.Error as error:
                    self._broken = error
                finally:
                    self._more.acquire()
                    self._writing = False
                    self._written = self._written if self._broken else taken
                    self._more.notify_all()

    def _write(self, writes: list[_Write]) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in writes:
                database.execute(sql, values)
            database.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def _unwritable(self) -> AccessError:
        return AccessError(
            f"What is done cannot be written down any more in {self._path}: {self._broken}.",
            f"Nothing more was begun. Make room there, then: moodlectl job resume {self.job}",
            code="ledger",
        )


def _step_ended(job: int, seq: int, number: int, state: str, message: str | None) -> _Write:
    return (
        "UPDATE step SET state=?, ended=?, message=? WHERE job=? AND seq=? AND number=?",
        (state, ledger.now(), message, job, seq, number),
    )


def _audit(job: int, seq: int, event: str, detail: Mapping[str, Any]) -> _Write:
    return (
        "INSERT INTO audit (at, who, job, seq, event, detail) VALUES (?,?,?,?,?,?)",
        (ledger.now(), ledger.who(), job, seq, event, ledger.dumped(detail)),
    )


# --- reading --------------------------------------------------------------------------------------------------


class Reader:
    """One job read page by page. Reads only; raises NotFound."""

    def __init__(self, job: int, path: Path | None = None) -> None:
        database = ledger.reading(path)
        if database is None:
            raise ledger.no_job(job)
        self._database = database
        self._number = job
        self._batches = ledger.has_batches(database)
        try:
            self.job = ledger.head(database, job)
        except NotFound:
            database.close()
            raise

    def refresh(self) -> Job:
        """The job as it is now."""
        self.job = ledger.head(self._database, self._number)
        return self.job

    def totals(self) -> dict[str, int]:
        """How many items are in each state, with the keys of the contract, counted by the database."""
        found = dict.fromkeys(("done", "failed", "skipped", "unknown", "pending"), 0)
        for state, count in self._database.execute(
            "SELECT state, count(*) FROM item WHERE job=? GROUP BY state", (self._number,)
        ):
            shown = "unknown" if state == "started" and not self.job.running else state
            found[shown if shown in found else "pending"] += count
        return found

    def items(self, state: str | None = None, *, limit: int | None = None, after: int = 0) -> Iterator[Item]:
        """The items, or those of one state (``pending`` for planned and started), in order, from one number on."""
        where, values = self._where(state)
        query = f"SELECT * FROM item WHERE job=? AND seq>?{where} ORDER BY seq LIMIT ?"
        asked = (self._number, after, *values, -1 if limit is None else limit)
        for row in self._database.execute(query, asked):
            item = ledger.read_item(row)
            yield item if self.job.running else ledger.orphaned(item)

    def _where(self, state: str | None) -> tuple[str, tuple[str, ...]]:
        if state is None:
            return "", ()
        if state == "unknown" and not self.job.running:
            return " AND state IN ('unknown','started')", ()
        if state == "pending":
            return (" AND state IN ('planned','started')" if self.job.running else " AND state='planned'"), ()
        return " AND state=?", (state,)

    def open_items(self) -> Iterator[Item]:
        """What is still to be done: first what was begun, of that first what nobody knows the end of."""
        for where in ("state IN ('started','unknown')", "state='planned' AND steps>0"):
            query = f"SELECT * FROM item WHERE job=? AND {where} ORDER BY seq"
            for row in self._database.execute(query, (self._number,)).fetchall():
                yield ledger.read_item(row)
        last = 0
        query = "SELECT * FROM item WHERE job=? AND state='planned' AND steps=0 AND seq>? ORDER BY seq LIMIT 200"
        while rows := self._database.execute(query, (self._number, last)).fetchall():
            for row in rows:
                last = int(row["seq"])
                yield ledger.read_item(row)

    def stages(self, seqs: Sequence[int] | None = None, *, state: str | None = None) -> Iterator[Stage]:
        """The steps that were begun, of some items or of all, in the order of the items."""
        if not self._batches:
            return
        where, values = "", []
        if state is not None:
            where += " AND state=?"
            values.append(state)
        if seqs is not None:
            where += f" AND seq IN ({','.join(str(int(seq)) for seq in seqs)})"
        columns = "seq, number, name, site, state, attempts, started, ended, message"
        query = f"SELECT {columns} FROM step WHERE job=?{where} ORDER BY seq, number"
        for row in self._database.execute(query, (self._number, *values)):
            yield Stage(*row)

    def wish(self) -> tuple[str | None, bool]:
        """What another process asks of the one at work, and whether that still is this one."""
        row = self._database.execute("SELECT wish, process FROM job WHERE id=?", (self._number,)).fetchone()
        return (row[0], row[1] == ledger.process()) if row is not None else (None, False)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
