"""The ledger's tables, and how an older ledger becomes one of today without losing a line."""

from __future__ import annotations

import sqlite3

VERSION = 2

_TABLES = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, site TEXT NOT NULL, url TEXT NOT NULL,
    state TEXT NOT NULL, created TEXT NOT NULL, ended TEXT, who TEXT NOT NULL, process TEXT NOT NULL,
    options TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS item (
    job INTEGER NOT NULL REFERENCES job (id), seq INTEGER NOT NULL, course TEXT NOT NULL, action TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, source TEXT, target TEXT, started TEXT, ended TEXT,
    message TEXT, facts TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (job, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, job INTEGER NOT NULL, seq INTEGER NOT NULL,
    event TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""

# Batches: a job of many items, each with steps. `key` is what must not run twice at once, `since` when the process
# that works on it began, `wish` what another process asks of it, `message` why it rests. `steps` of an item is how
# many of its steps are done, `step` the name of the one that comes next or is under way.
_BATCHES = """
ALTER TABLE job ADD COLUMN key TEXT;
ALTER TABLE job ADD COLUMN since TEXT;
ALTER TABLE job ADD COLUMN wish TEXT;
ALTER TABLE job ADD COLUMN message TEXT;
ALTER TABLE item ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
ALTER TABLE item ADD COLUMN steps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN step TEXT;
CREATE TABLE step (
    job INTEGER NOT NULL, seq INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, site TEXT,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, started TEXT, ended TEXT, message TEXT,
    PRIMARY KEY (job, seq, number)) WITHOUT ROWID;
CREATE INDEX item_state ON item (job, state, seq);
CREATE INDEX job_key ON job (key) WHERE key IS NOT NULL;
CREATE INDEX audit_job ON audit (job);
"""


class TooNew(Exception):  # noqa: N818
    """The ledger was written by a later moodlectl."""


def prepare(database: sqlite3.Connection) -> None:
    """Bring the tables to today's form, all at once or not at all. Raises TooNew, sqlite3.Error."""
    if _version(database) == VERSION:
        return
    database.execute("BEGIN IMMEDIATE")  # of several processes one does it
    try:
        found = _version(database)
        if found > VERSION:
            raise TooNew(f"it has the form {found}, and this moodlectl knows {VERSION}")
        if found < 1:
            _run(database, _TABLES)
        if found < 2 and "key" not in _columns(database, "job"):  # the first moodlectl wrote a 1 over every number
            _run(database, _BATCHES)
        database.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")}


def _run(database: sqlite3.Connection, script: str) -> None:
    """Run statements one by one: ``executescript`` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""
