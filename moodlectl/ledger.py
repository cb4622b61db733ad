"""What was asked, started and finished: one SQLite file, in the platform's folder for a program's state.

Every deed is a job with a number. *Started* is written before a deed and *done* after it was verified; a *started* row
whose process is gone means *unknown*, and the site has to be looked at. Listing only reads, and does not even make the
file. The audit table is append-only: triggers refuse to change or delete what stands there.

Secrets never come here: options are what the command line said, and no command line of ours carries one.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moodlectl import ledger_schema
from moodlectl.errors import AccessError, NotFound, Refused

STATES = ("planned", "started", "done", "failed", "skipped", "unknown")


@dataclass(frozen=True)
class Item:
    """One course of a job. ``facts`` are what a later look at the site needs: ids, hashes, the safety backup.

    In a batch ``spec`` is what the plan says of it, ``steps`` how many steps are done, and ``step`` the one under way,
    or where it goes on.
    """

    seq: int
    course: str
    action: str
    state: str
    attempts: int = 0
    source: str | None = None
    target: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    message: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    step: str | None = None


@dataclass(frozen=True)
class Job:
    """One job. ``running`` is whether the process that works on it is there: ``process``, as host and number, since
    ``since``. ``key`` is set for a batch: what must not run twice at once. ``message`` says why a batch rests."""

    id: int
    kind: str
    site: str
    url: str
    state: str
    created: datetime
    ended: datetime | None
    who: str
    running: bool
    options: Mapping[str, Any]
    items: tuple[Item, ...] = ()
    key: str | None = None
    process: str = ""
    since: datetime | None = None
    wish: str | None = None
    message: str | None = None

    @property
    def batch(self) -> bool:
        """Whether it is a job of many items, which the engine works on."""
        return self.key is not None

    def totals(self) -> dict[str, int]:
        """How many items are in each state, with the keys of the contract."""
        names = ("done", "failed", "skipped", "unknown", "pending")
        found = dict.fromkeys(names, 0)
        for item in self.items:
            found[item.state if item.state in found else "pending"] += 1
        return found


def default_path() -> Path:
    """Where the ledger is: ``MOODLECTL_STATE``, else the platform's folder for a program's state."""
    told = os.environ.get("MOODLECTL_STATE")
    if told:
        return Path(told) / "ledger.sqlite"
    import platformdirs

    return Path(platformdirs.user_state_dir("moodlectl")) / "ledger.sqlite"


class Ledger:
    """The ledger, open for writing. Several processes may have it open at once."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # what was started must be known after a power cut, too
            ledger_schema.prepare(self._db)
            self.path.chmod(0o600)
        except ledger_schema.TooNew as error:
            raise AccessError(
                f"The record of what is done in {self.path} was written by a later moodlectl: {error}.",
                "Nothing was begun. Use that one, or name another folder in MOODLECTL_STATE.",
                code="ledger",
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise AccessError(
                f"The record of what is done cannot be kept in {self.path}: {error}.",
                "Nothing was begun. Make that folder writable, or name another one in MOODLECTL_STATE.",
                code="ledger",
            ) from error

    def begin(self, kind: str, site: str, url: str, options: Mapping[str, Any]) -> int:
        """A new job; returns its number."""
        with self.transaction():
            row = self._db.execute(
                "INSERT INTO job (kind, site, url, state, created, who, process, options) VALUES (?,?,?,?,?,?,?,?)",
                (kind, site, url, "started", now(), who(), process(), dumped(options)),
            )
            job = int(row.lastrowid or 0)
            self._audit(job, 0, "job", {"kind": kind, "site": site, "url": url, "options": dict(options)})
        return job

    def start(self, job: int, item: Item) -> None:
        """Write *started* for one item, before the deed."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO item (job, seq, course, action, state, attempts, source, target, started, facts)"
                " VALUES (?,?,?,?,'started',1,?,?,?,?)"
                " ON CONFLICT (job, seq) DO UPDATE SET state = 'started', attempts = attempts + 1, started = ?9",
                (job, item.seq, item.course, item.action, item.source, item.target, now(), dumped(item.facts), now()),
            )
            detail = {"course": item.course, "action": item.action, "source": item.source, "target": item.target}
            self._audit(job, item.seq, "started", {**detail, **item.facts})

    def adopt(self, job: int) -> Item:
        """Take up a job whose process is gone; returns its item. Raises NotFound, and Refused while it is at work."""
        with self.transaction():
            found = _job(self._db, job)
            if found.running:
                raise Refused(
                    f"Job {job} is still at work.",
                    f"Wait until it has ended: moodlectl job show {job}{take_over_hint(found)}",
                    code="job_running",
                )
            if not found.items:
                raise NotFound(f"Job {job} has begun nothing.", code="job_empty")
            self._db.execute(
                "UPDATE job SET state = 'started', ended = NULL, process = ? WHERE id = ?", (process(), job)
            )
            self._audit(job, 1, "resumed", {})
        return found.items[0]

    def disown(self, job: int) -> None:
        """Say that the process on another machine (or in a container) that worked on a job is gone, which cannot be
        seen from here; from then on the job can be gone on with. Raises NotFound, and Refused where it is this one's.
        """
        with self.transaction():
            found = head(self._db, job)
            if not found.running:
                return
            host, _, number = found.process.partition(" ")
            if host == socket.gethostname():
                raise Refused(
                    f"Job {job} is at work on this very machine: process {number}.",
                    f"Wait until it has ended, or end it: moodlectl job cancel {job}",
                    code="job_running",
                )
            self._db.execute("UPDATE job SET process = ? WHERE id = ?", (f"{socket.gethostname()} 0 -", job))
            self._audit(job, 0, "taken over", {"from": found.process})

    def note(self, job: int, seq: int, **facts: Any) -> None:
        """Add facts to an item while its deed is under way."""
        with self.transaction():
            row = self._db.execute("SELECT facts FROM item WHERE job = ? AND seq = ?", (job, seq)).fetchone()
            known = json.loads(row[0]) if row else {}
            self._db.execute(
                "UPDATE item SET facts = ? WHERE job = ? AND seq = ?", (dumped({**known, **facts}), job, seq)
            )
            self._audit(job, seq, "note", facts)

    def end(self, job: int, seq: int, state: str, message: str = "", **facts: Any) -> None:
        """Write how one item ended, after it was verified; the job's own state follows from its items."""
        assert state in STATES
        with self.transaction():
            row = self._db.execute("SELECT facts FROM item WHERE job = ? AND seq = ?", (job, seq)).fetchone()
            known = json.loads(row[0]) if row else {}
            self._db.execute(
                "UPDATE item SET state = ?, ended = ?, message = ?, facts = ? WHERE job = ? AND seq = ?",
                (state, now(), message or None, dumped({**known, **facts}), job, seq),
            )
            self._audit(job, seq, state, {"message": message, **facts})

    def lift(self, batch: int, item: Item, site: str, url: str) -> int:
        """A job of its own for one item of a batch that has ended, with all that is known of it; returns its number."""
        with self.transaction():
            row = self._db.execute(
                "INSERT INTO job (kind, site, url, state, created, ended, who, process, options)"
                " SELECT 'restore', ?, ?, i.state, i.started, i.ended, j.who, j.process, ? FROM item i JOIN job j"
                " ON j.id = i.job WHERE i.job = ? AND i.seq = ?",
                (site, url, dumped({"batch": batch, "item": item.seq}), batch, item.seq),
            )
            number = int(row.lastrowid or 0)
            self._db.execute(
                "INSERT INTO item (job, seq, course, action, state, attempts, source, target, started, ended, message,"
                " facts) SELECT ?, 1, course, action, state, attempts, source, target, started, ended, message, facts"
                " FROM item WHERE job = ? AND seq = ?",
                (number, batch, item.seq),
            )
            facts = dumped({**item.facts, "undo_job": number})
            self._db.execute("UPDATE item SET facts = ? WHERE job = ? AND seq = ?", (facts, batch, item.seq))
            self._audit(number, 1, "lifted", {"batch": batch, "item": item.seq})
        return number

    def close_job(self, job: int) -> str:
        """Write the job's own end, from how its items ended; returns its state."""
        with self.transaction():
            states = {row[0] for row in self._db.execute("SELECT state FROM item WHERE job = ?", (job,))}
            state = next((s for s in ("unknown", "started", "failed") if s in states), "done")
            state = "unknown" if state == "started" else state
            self._db.execute("UPDATE job SET state = ?, ended = ? WHERE id = ?", (state, now(), job))
        return state

    def job(self, number: int) -> Job:
        """One job with its items. Raises NotFound."""
        return _job(self._db, number)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _audit(self, job: int, seq: int, event: str, detail: Mapping[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO audit (at, who, job, seq, event, detail) VALUES (?,?,?,?,?,?)",
            (now(), who(), job, seq, event, dumped(detail)),
        )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything written in the block, on disk at its end, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@dataclass(frozen=True)
class Which:
    """Which jobs are meant: all that fit everything that is said. ``course`` is a short name, or a course's id."""

    site: str | None = None
    kind: str | None = None
    state: str | None = None
    since: datetime | None = None
    course: str | int | None = None

    def where(self) -> tuple[str, list[Any]]:
        """As SQL; whether a job still runs is not in the ledger, so ``state`` is left to whoever reads the rows."""
        said: list[tuple[str, tuple[Any, ...]]] = []
        if self.site is not None:
            said.append(("site = ?", (self.site,)))
        if self.kind is not None:
            said.append(("kind = ?", (self.kind,)))
        if self.since is not None:
            said.append(("created >= ?", (self.since.astimezone(UTC).isoformat(timespec="milliseconds"),)))
        if isinstance(self.course, int):
            at = f"course {self.course}"
            said.append((
                "EXISTS (SELECT 1 FROM item WHERE job = job.id AND (target = ? OR source = ?"
                " OR json_extract(facts, '$.course') = ? OR json_extract(facts, '$.request.course.course_id') = ?))",
                (at, at, self.course, self.course),
            ))  # fmt: skip
        elif self.course is not None:
            said.append((
                "EXISTS (SELECT 1 FROM item WHERE job = job.id AND (course = ? OR source = ?"
                " OR substr(source, 1, length(?) + 1) = ? || '@'))",
                (self.course,) * 4,
            ))  # fmt: skip
        words = " AND ".join(text for text, _ in said)
        return (f"WHERE {words}" if words else ""), [value for _, values in said for value in values]


def jobs(path: Path | None = None, *, limit: int | None = None, which: Which | None = None) -> Sequence[Job]:
    """All jobs, or those that are meant, newest first, without their items. Reads only; no ledger yet means none."""
    database = reading(path)
    if database is None:
        return ()
    where, values = which.where() if which is not None else ("", [])
    found: list[Job] = []
    try:
        for row in database.execute(f"SELECT * FROM job {where} ORDER BY id DESC", values):
            if limit is not None and len(found) >= limit:
                break
            job = _read_job(row, (), _orphans(database, row))
            if which is None or which.state in (None, job.state):
                found.append(job)
        return found
    finally:
        database.close()


def job(number: int, path: Path | None = None) -> Job:
    """One job with its items. Reads only. Raises NotFound."""
    database = reading(path)
    if database is None:
        raise no_job(number)
    try:
        return _job(database, number)
    finally:
        database.close()


def job_head(number: int, path: Path | None = None) -> Job:
    """One job without its items, of which there may be very many. Reads only. Raises NotFound."""
    database = reading(path)
    if database is None:
        raise no_job(number)
    try:
        return head(database, number)
    finally:
        database.close()


def restored_from(sha1: str, url: str, course_id: int, path: Path | None = None) -> Sequence[tuple[Job, Item]]:
    """Every restore of the backup with that sha1 into that course of that site, oldest first. Reads only.

    Those are meant that brought activities (fact ``activities``) and were not put back since.
    """
    database = reading(path)
    if database is None:
        return ()
    try:
        rows = database.execute(
            "SELECT item.*, item.job AS number FROM item JOIN job ON job.id = item.job"
            " WHERE job.url = ? AND item.target = ? AND item.facts LIKE ? ORDER BY item.job, item.seq",
            (url, f"course {course_id}", f'%"{sha1}"%'),
        ).fetchall()
        found = []
        for row in rows:
            item = read_item(row)
            of_it = sha1 in (item.facts.get("origin_sha1"), item.facts.get("sha1"))
            if of_it and "activities" in item.facts and not item.facts.get("undone"):
                found.append((head(database, row["number"]), item))
        return found
    finally:
        database.close()


def audit(path: Path | None = None, *, job: int | None = None) -> Iterator[dict[str, Any]]:
    """The audit log in the order it was written. Reads only."""
    database = reading(path)
    if database is None:
        return
    try:
        where, values = ("WHERE job = ?", (job,)) if job is not None else ("", ())
        for row in database.execute(f"SELECT at, who, job, seq, event, detail FROM audit {where} ORDER BY id", values):
            yield {**dict(row), "detail": json.loads(row["detail"])}
    finally:
        database.close()


def history(kind: str, path: Path | None = None) -> Iterator[Item]:
    """The items of all jobs of a kind that were begun, the oldest first. Reads only."""
    database = reading(path)
    if database is None:
        return
    try:
        query = "SELECT item.* FROM item JOIN job ON job.id = item.job WHERE job.kind = ? ORDER BY item.job, item.seq"
        for row in database.execute(query, (kind,)):
            if row["state"] not in ("planned", "skipped"):
                yield read_item(row)
    finally:
        database.close()


def reading(path: Path | None) -> sqlite3.Connection | None:
    """The ledger open for reading alone, None where there is none yet. Raises AccessError."""
    place = path or default_path()
    if not place.is_file() or (place.stat().st_size == 0 and not Path(f"{place}-wal").exists()):
        return None  # an empty one is what a full disk has left of the attempt to begin it
    try:
        database = sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        database.row_factory = sqlite3.Row
        database.execute("SELECT 1 FROM job LIMIT 1")
    except sqlite3.Error as error:
        raise AccessError(f"The record of jobs in {place} cannot be read: {error}.", code="ledger") from error
    return database


def _job(database: sqlite3.Connection, number: int) -> Job:
    with _named_columns(database):
        items = database.execute("SELECT * FROM item WHERE job = ? ORDER BY seq", (number,)).fetchall()
    return head(database, number, tuple(read_item(item) for item in items))


def head(database: sqlite3.Connection, number: int, items: tuple[Item, ...] = ()) -> Job:
    """One job as it stands in a ledger that is open, without its items unless they are given. Raises NotFound."""
    with _named_columns(database):
        row = database.execute("SELECT * FROM job WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise no_job(number)
        return _read_job(row, items, _orphans(database, row))


@contextmanager
def _named_columns(database: sqlite3.Connection) -> Iterator[None]:
    previous, database.row_factory = database.row_factory, sqlite3.Row
    try:
        yield
    finally:
        database.row_factory = previous


def has_batches(database: sqlite3.Connection) -> bool:
    """Whether the ledger has the tables of batches: one that nobody has written to since may lack them."""
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'step'").fetchone() is not None


def _orphans(database: sqlite3.Connection, row: sqlite3.Row) -> bool:
    """Whether something of a job was begun and its end not written: a batch may also have stopped between steps."""
    if row["state"] != "started" or "key" not in row.keys() or row["key"] is None:  # noqa: SIM118
        return True
    query = "SELECT 1 FROM item WHERE job = ? AND state IN ('started', 'unknown') LIMIT 1"
    return database.execute(query, (row["id"],)).fetchone() is not None


def no_job(number: int) -> NotFound:
    """The error for a number no job has."""
    return NotFound(f"There is no job {number}.", "'moodlectl job list' shows those there are.", code="job_unknown")


def _read_job(row: sqlite3.Row, items: tuple[Item, ...], orphans: bool) -> Job:
    more = row.keys()  # an older ledger has fewer columns, and reading does not change it
    running = row["ended"] is None and _alive(row["process"])
    state = row["state"]
    if state == "started" and not running:
        # Whoever began it is gone, and nobody wrote how it ended.
        state = "unknown" if orphans else "paused"
    items = items if running else tuple(orphaned(item) for item in items)
    return Job(
        id=row["id"],
        kind=row["kind"],
        site=row["site"],
        url=row["url"],
        state=state,
        created=_time(row["created"]) or datetime.now(UTC),
        ended=_time(row["ended"]),
        who=row["who"],
        running=running,
        options=json.loads(row["options"]),
        items=items,
        key=row["key"] if "key" in more else None,
        process=" ".join(row["process"].split(" ")[:2]),
        since=_time(row["since"]) if "since" in more else None,
        wish=row["wish"] if "wish" in more else None,
        message=row["message"] if "message" in more else None,
    )


def orphaned(item: Item) -> Item:
    """An item nobody works on any more: what was begun is unknown."""
    return replace(item, state="unknown") if item.state == "started" else item


def read_item(row: sqlite3.Row) -> Item:
    """An item from its row."""
    batch = "spec" in row.keys()  # noqa: SIM118 - a row is no mapping
    return Item(
        seq=row["seq"],
        course=row["course"],
        action=row["action"],
        state=row["state"],
        attempts=row["attempts"],
        source=row["source"],
        target=row["target"],
        started=_time(row["started"]),
        ended=_time(row["ended"]),
        message=row["message"],
        facts=json.loads(row["facts"]),
        spec=json.loads(row["spec"]) if batch else {},
        steps=row["steps"] if batch else 0,
        step=row["step"] if batch else None,
    )


@functools.cache
def who() -> str:
    """The person on this machine, as ``user@host``."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def elsewhere(job: Job) -> bool:
    """Whether a job is at work on another machine, or so it says: whether that is there cannot be seen from here."""
    return job.running and job.process.partition(" ")[0] != socket.gethostname()


def take_over_hint(job: Job) -> str:
    """What to do where the machine that works on a job is gone; empty where it is this one."""
    if not elsewhere(job):
        return ""
    return f"   Should that machine be gone for good: moodlectl job resume {job.id} --take-over"


def process() -> str:
    """This process, told apart from a later one with the same number by when it started."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def _alive(process: str) -> bool:
    host, number, started = process.split(" ", 2)
    if host != socket.gethostname():
        return True  # another machine's, on a shared home: not ours to call gone
    return _started(int(number)) == started != ""


def _started(number: int) -> str:
    """When a process began, in the kernel's clock ticks; empty where there is none."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
        words = stat.rpartition(")")[2].split()
        return words[19] if words[0] not in "ZX" else ""  # one that nobody has waited for is dead all the same
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # no /proc (macOS): the number alone has to do
        os.kill(number, 0)
    except OSError:
        return ""
    return "-"


def now() -> str:
    """This moment as the ledger writes it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def dumped(value: Mapping[str, Any]) -> str:
    """Facts as the ledger keeps them: JSON, and what JSON has no word for as its text."""
    return json.dumps(dict(value), ensure_ascii=False, default=str)
