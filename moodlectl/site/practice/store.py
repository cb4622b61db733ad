"""Where the practice site keeps everything: one SQLite database and a pool of files named by their sha1."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element

from moodlectl.errors import ConfigError, Failed
from moodlectl.site.practice.package import ActivityDocs, Package, SectionDocs, enrolled
from moodlectl.site.practice.xmltree import ident, number, parse, put, serialise, text

SCHEMA_VERSION = 1
BUSY_SECONDS = 60
LEFTOVER_SECONDS = 86400
CHUNK = 1 << 20
_SCHEMA = """
CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sequence (kind TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE categories (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, idnumber TEXT NOT NULL, parent INTEGER NOT NULL,
    visible INTEGER NOT NULL, sortorder INTEGER NOT NULL);
CREATE TABLE users (
    id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, siterole TEXT NOT NULL, xml BLOB NOT NULL);
CREATE TABLE courses (
    id INTEGER PRIMARY KEY, contextid INTEGER NOT NULL, category INTEGER NOT NULL,
    shortname TEXT NOT NULL UNIQUE,
    fullname TEXT NOT NULL, idnumber TEXT NOT NULL, startdate INTEGER NOT NULL, enddate INTEGER NOT NULL,
    visible INTEGER NOT NULL, format TEXT NOT NULL);
CREATE TABLE sections (
    id INTEGER PRIMARY KEY, course INTEGER NOT NULL, number INTEGER NOT NULL, title TEXT NOT NULL,
    parent INTEGER);
CREATE TABLE activities (
    id INTEGER PRIMARY KEY, course INTEGER NOT NULL, section INTEGER NOT NULL, position INTEGER NOT NULL,
    module TEXT NOT NULL, title TEXT NOT NULL, contextid INTEGER NOT NULL);
CREATE TABLE docs (
    course INTEGER NOT NULL, owner TEXT NOT NULL, path TEXT NOT NULL, xml BLOB NOT NULL,
    PRIMARY KEY (course, owner, path));
CREATE TABLE files (
    id INTEGER PRIMARY KEY, course INTEGER NOT NULL, contenthash TEXT NOT NULL, filesize INTEGER NOT NULL,
    xml BLOB NOT NULL);
CREATE INDEX files_course ON files (course);
CREATE TABLE members (course INTEGER NOT NULL, user INTEGER NOT NULL, PRIMARY KEY (course, user));
CREATE TABLE backups (
    id INTEGER PRIMARY KEY, course INTEGER NOT NULL, shortname TEXT NOT NULL, area TEXT NOT NULL,
    owner INTEGER NOT NULL, filename TEXT NOT NULL, contenthash TEXT NOT NULL, filesize INTEGER NOT NULL,
    timecreated INTEGER NOT NULL, has_users INTEGER,
    UNIQUE (area, course, owner, filename));
CREATE TABLE automated (
    course INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER NOT NULL, status TEXT NOT NULL);
"""


@dataclass(frozen=True)
class User:
    """A person with an account; ``role`` is ``admin``, ``manager`` or ``user``, on the whole site."""

    id: int
    username: str
    role: str
    element: Element


class Store:
    """The data of one practice site, below ``folder``. Several processes may have it open at once."""

    def __init__(self, folder: Path) -> None:
        """Open what lies in the folder, making it where there is nothing yet. Writes to the folder."""
        self.folder = folder
        self.pool = folder / "filedir"
        try:
            self.pool.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                folder / "practice.sqlite",
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as problem:
            raise ConfigError(
                f"The practice site's folder {folder} cannot be used: {problem}.",
                "Choose a folder that you may write to.",
                code="practice_folder",
            ) from problem
        self._db.row_factory = sqlite3.Row
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as problem:
            self._db.close()
            raise ConfigError(
                f"{folder / 'practice.sqlite'} is no practice site: {problem}.",
                "Remove the folder to begin with a fresh one.",
                code="practice_folder",
            ) from problem
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # --- transactions and numbers ---------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[None]:
        """All or nothing; ``keep=False`` takes everything back at the end, come what may."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT" if keep else "ROLLBACK")

    def version(self) -> int:
        """Which schema the database has, 0 where it is still empty. Reads only."""
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def create_schema(self) -> None:
        """Make the tables, inside a transaction of the caller's."""
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        return self._db.execute(query, values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        """Run one statement; returns how many rows it changed."""
        return self._db.execute(statement, values).rowcount

    def allocate(self, kind: str, least: int = 0) -> int:
        """The next free id of a kind of thing, above ``least``."""
        row = self._db.execute(
            "INSERT INTO sequence VALUES (?1, ?2 + 1)"
            " ON CONFLICT (kind) DO UPDATE SET last = max(last, ?2) + 1 RETURNING last",
            (kind, least),
        ).fetchone()
        return int(row[0])

    def config(self, name: str, default: str = "") -> str:
        """A configuration value of the site."""
        found = self.rows("SELECT value FROM config WHERE name = ?", name)
        return str(found[0][0]) if found else default

    def set_config(self, name: str, value: str) -> None:
        """Set a configuration value of the site."""
        self.run("INSERT OR REPLACE INTO config VALUES (?, ?)", name, value)

    # --- people ---------------------------------------------------------------------------------------------

    def user(self, username: str) -> User | None:
        """The person with that username."""
        return next(iter(self._users("username = ?", username)), None)

    def user_by_id(self, user_id: int) -> User | None:
        """The person with that id."""
        return next(iter(self._users("id = ?", user_id)), None)

    def add_user(self, element: Element, role: str = "user") -> None:
        """Add the person described by a ``user`` element, which bears its final id."""
        self.run(
            "INSERT INTO users VALUES (?, ?, ?, ?)",
            ident(element),
            text(element, "username"),
            role,
            serialise(element),
        )

    def _users(self, where: str, value: str | int) -> list[User]:
        found = self.rows(f"SELECT * FROM users WHERE {where}", value)
        return [User(row["id"], row["username"], row["siterole"], parse(row["xml"], "user")) for row in found]

    # --- courses --------------------------------------------------------------------------------------------

    def load(self, course_id: int) -> Package:
        """Everything of a course, with the people its documents speak of but not their accounts."""
        course = self.rows("SELECT * FROM courses WHERE id = ?", course_id)[0]
        package = Package(course_id, course["contextid"])
        owners: dict[str, dict[str, Element]] = {"": package.docs}
        for row in self.rows("SELECT * FROM sections WHERE course = ? ORDER BY number", course_id):
            section = SectionDocs(row["id"], row["number"], row["title"], row["parent"])
            package.sections.append(section)
            owners[f"section_{section.id}"] = section.docs
        order = {section.id: place for place, section in enumerate(package.sections)}
        rows = self.rows("SELECT * FROM activities WHERE course = ? ORDER BY position", course_id)
        for row in sorted(rows, key=lambda row: (order[row["section"]], row["position"])):
            activity = ActivityDocs(row["id"], row["module"], row["section"], row["title"], row["contextid"])
            package.activities.append(activity)
            owners[f"activity_{activity.id}"] = activity.docs
        for row in self.rows("SELECT * FROM docs WHERE course = ? ORDER BY path", course_id):
            owners[row["owner"]][row["path"]] = parse(row["xml"], row["path"])
        package.files = [
            parse(row["xml"], "files.xml")
            for row in self.rows("SELECT xml FROM files WHERE course = ? ORDER BY id", course_id)
        ]
        return package

    def save(self, package: Package, category: int) -> None:
        """Write a course with all it holds, in place of what it was."""
        course_id = package.course_id
        for table in ("sections", "activities", "docs", "files", "members"):
            self.run(f"DELETE FROM {table} WHERE course = ?", course_id)
        self.save_course(package.course, package.contextid, category)
        self._save_docs(course_id, "", package.docs)
        for section in package.sections:
            self.run(
                "INSERT INTO sections VALUES (?, ?, ?, ?, ?)",
                section.id, course_id, section.number, section.title, section.parent,
            )  # fmt: skip
            put(
                section.docs["section.xml"],
                "sequence",
                ",".join(str(activity.id) for activity in package.activities_of(section.id)),
            )
            self._save_docs(course_id, f"section_{section.id}", section.docs)
        for place, activity in enumerate(package.activities):
            self.run(
                "INSERT INTO activities VALUES (?, ?, ?, ?, ?, ?, ?)",
                activity.id, course_id, activity.section, place, activity.module, activity.title,
                activity.contextid,
            )  # fmt: skip
            self._save_docs(course_id, f"activity_{activity.id}", activity.docs)
        for file in package.files:
            self.run(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
                ident(file), course_id, text(file, "contenthash"), number(file, "filesize"), serialise(file),
            )  # fmt: skip
        for user in enrolled(package):
            self.run("INSERT INTO members VALUES (?, ?)", course_id, user)

    def delete(self, course_id: int) -> None:
        """Take a course away with all it holds and the backups stored in it, inside a transaction of the caller's."""
        for table in ("sections", "activities", "docs", "files", "members"):
            self.run(f"DELETE FROM {table} WHERE course = ?", course_id)
        self.run("DELETE FROM backups WHERE course = ? AND area <> 'private'", course_id)
        self.run("DELETE FROM courses WHERE id = ?", course_id)

    def save_course(self, course: Element, contextid: int, category: int) -> None:
        """Write the row by which a course is found, from its document."""
        self.run(
            "INSERT OR REPLACE INTO courses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ident(course), contextid, category, text(course, "shortname"), text(course, "fullname"),
            text(course, "idnumber"), number(course, "startdate"), number(course, "enddate"),
            number(course, "visible", 1), text(course, "format", "topics"),
        )  # fmt: skip

    def _save_docs(self, course_id: int, owner: str, docs: dict[str, Element]) -> None:
        for path, doc in docs.items():
            self.run("INSERT INTO docs VALUES (?, ?, ?, ?)", course_id, owner, path, serialise(doc))

    # --- the pool -------------------------------------------------------------------------------------------

    def content_path(self, contenthash: str) -> Path:
        """Where the content with that sha1 lies, if it is there."""
        return self.pool / contenthash[:2] / contenthash

    def has_content(self, contenthash: str, size: int) -> bool:
        """Whether the pool holds that content whole. Reads only."""
        path = self.content_path(contenthash)
        return path.is_file() and path.stat().st_size == size

    def add_content(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Put content into the pool; returns its sha1 and size in bytes. Writes to the folder."""
        with self.incoming() as file:
            size = 0
            digest = hashlib.sha1(usedforsecurity=False)
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            file.flush()
            self.adopt(Path(file.name), digest.hexdigest())
        return digest.hexdigest(), size

    @contextmanager
    def incoming(self) -> Iterator[BinaryIO]:
        """A temporary file beside the pool, gone at the end unless it was adopted."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="incoming-", delete=False) as file:
            path = Path(file.name)
            try:
                yield file  # type: ignore[misc]  # the wrapper behaves as the file
            finally:
                path.unlink(missing_ok=True)

    def adopt(self, path: Path, contenthash: str) -> None:
        """Make a complete temporary file the pool's copy of that content."""
        target = self.content_path(contenthash)
        try:
            target.parent.mkdir(exist_ok=True)
            os.link(path, target)
        except FileExistsError:
            pass
        except OSError as problem:
            raise Failed(f"The practice site cannot keep a file: {problem}.", code="cannot_write") from problem

    def sweep(self) -> None:
        """Remove content from the pool that nothing speaks of any more, in a transaction of its own.

        Never in one that still may be taken back: a row without its content would be left.
        """
        with self.transaction():
            self._sweep()

    def _sweep(self) -> None:
        kept = ["files", "backups"]
        kept += ["held"] if self.rows("SELECT 1 FROM sqlite_master WHERE name = 'held'") else []
        everything = " UNION ".join(f"SELECT contenthash FROM {table}" for table in kept)
        used = {str(row[0]) for row in self.rows(everything)}
        for path in self.pool.glob("??/*"):
            if path.name not in used:
                path.unlink(missing_ok=True)
        for path in self.folder.glob("incoming-*"):  # of a process that was killed
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink(missing_ok=True)
