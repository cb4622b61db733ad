"""Who the people of a backup are on the site it goes to: a CSV of old and new, and whom it means in a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from moodlectl.errors import NotFound, UsageError
from moodlectl.mbz.limits import MIB
from moodlectl.mbz.people import UserRecord
from moodlectl.mbz.text import is_printable, printable

NOBODY = "-"
_HEADS: Mapping[str, frozenset[str]] = {
    "old": frozenset({"old", "oldusername", "from", "source"}),
    "new": frozenset({"new", "newusername", "to", "target"}),
    "email": frozenset({"email", "newemail"}),
}
_QUOTED = re.compile(r"\A'(?=[=+\-@])")
_MOST_BYTES = 64 * MIB
_HINT = "Each line is OLD,NEW: a username, email or idnumber in the backup, and a username on the target, or -."


@dataclass(frozen=True)
class Account:
    """An account of the target site. ``firstaccess`` is seconds since 1970; None is what could not be seen."""

    username: str
    id: int | None = None
    email: str | None = None
    firstaccess: int | None = None


@dataclass(frozen=True)
class Entry:
    """One line: who in the backup (``old``) is whom (``new``), None to leave them out. ``line`` 0 is no file's."""

    old: str
    new: str | None
    email: str | None = None
    line: int = 0

    @property
    def place(self) -> str:
        """Where it was said, for messages."""
        return f"line {self.line}" if self.line else f"{self.old}={self.new or NOBODY}"


@dataclass(frozen=True)
class UserMap:
    """The whole map, with what is known of the target's accounts (by username), if that site was asked.

    ``for_many``: one map for many backups; who is in none of a backup's people is no mistake then.
    """

    entries: tuple[Entry, ...] = ()
    accounts: Mapping[str, Account] | None = None
    for_many: bool = False

    def usernames(self) -> list[str]:
        """Every username of the target that is named, once each."""
        return list(dict.fromkeys(entry.new for entry in self.entries if entry.new is not None))

    def with_accounts(self, accounts: Iterable[Account]) -> UserMap:
        """The map with the target's accounts. Raises UsageError naming every line whose account is not there."""
        found = {account.username.lower(): account for account in accounts}
        problems = [
            f"{entry.place}: the target has no account '{printable(entry.new)}'"
            for entry in self.entries
            if entry.new is not None and entry.new not in found
        ]
        _refuse(problems)
        return replace(self, accounts=found)

    def plus(self, entries: Iterable[Entry]) -> UserMap:
        """The map with more entries. Raises UsageError where one is said twice."""
        return replace(made([*self.entries, *entries]), for_many=self.for_many)


@dataclass(frozen=True)
class Mapped:
    """One person of a backup whom the map names: the account they become, None to be left out."""

    person: UserRecord
    account: Account | None


def read_user_map(path: Path) -> UserMap:
    """A user map from a CSV file: ``old``, ``new`` and, where wanted, ``email``; with or without a head line.

    Comma, semicolon or tab; UTF-8 or what older Excels write. Reads only. Raises NotFound, and UsageError with
    every problem in ``details["problems"]``, each with its line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise NotFound(
            f"The user map {printable(str(path))} cannot be read: {error.strerror}.", code="no_file"
        ) from error
    if len(raw) > _MOST_BYTES:
        raise UsageError(f"{printable(path.name)} is larger than {_MOST_BYTES} bytes: that is no user map.")
    return made(_entries(_text(raw, path)))


def parse_pair(words: str) -> Entry:
    """An entry written ``OLD=NEW``, as on a command line. Raises UsageError."""
    old, equals, new = (part.strip() for part in words.rpartition("="))
    if not (equals and old and new):
        raise UsageError(f"'{printable(words)}' is no OLD=NEW.", "For example: --map admin=admin, or --map jdoe=-")
    return made([Entry(old, _new(new))]).entries[0]


def made(entries: Iterable[Entry]) -> UserMap:
    """A map of those entries. Raises UsageError where they contradict one another, naming every problem."""
    all_ = tuple(entries)
    problems: list[str] = []
    old_seen: dict[str, Entry] = {}
    new_seen: dict[str, Entry] = {}
    for entry in all_:
        if not entry.old or entry.new == "":
            problems.append(f"{entry.place}: OLD or NEW is empty")
        elif not is_printable(entry.old + (entry.new or "") + (entry.email or "")):
            problems.append(f"{entry.place}: control characters: {printable(entry.old)}")
        elif first := old_seen.get(entry.old.lower()):
            problems.append(f"{entry.place}: {entry.old} stands in {first.place} already")
        elif entry.new is not None and (first := new_seen.get(entry.new)):
            problems.append(f"{entry.place}: {entry.old} and {first.old} ({first.place}) become the same {entry.new}")
        old_seen.setdefault(entry.old.lower(), entry)
        if entry.new is not None:
            new_seen.setdefault(entry.new, entry)
    _refuse(problems)
    return UserMap(all_)


def resolve(map_: UserMap, people: Iterable[UserRecord]) -> list[Mapped]:
    """Whom of a backup's people each entry means; only those. Reads ``people`` once.

    A username wins over an email, an email over an idnumber. Raises UsageError naming every entry that means
    nobody, more than one, or that would make two people one.
    """
    wanted = {entry.old.lower(): entry for entry in map_.entries}
    hits: dict[str, tuple[list[UserRecord], list[UserRecord], list[UserRecord]]] = {
        key: ([], [], []) for key in wanted
    }
    targets = {entry.new for entry in map_.entries if entry.new is not None}
    bearers: list[UserRecord] = []
    for person in people:
        for rank, key in enumerate((person.username, person.email, person.idnumber)):
            if key and (found := hits.get(key.lower())) and len(found[rank]) < 3:
                found[rank].append(person)
        if person.username in targets and not person.mnethosturl:
            bearers.append(person)
    problems: list[str] = []
    named: dict[int, tuple[Entry, UserRecord]] = {}
    for key, entry in wanted.items():
        best = next((rank for rank in hits[key] if rank), [])
        if not best and map_.for_many:
            continue
        if len(best) != 1:
            why = "is nobody in the backup" if not best else "is more than one: " + ", ".join(_shown(p) for p in best)
            problems.append(f"{entry.place}: {printable(entry.old)} {why}")
        elif best[0].id in named:
            problems.append(f"{entry.place}: {_shown(best[0])} is meant by {named[best[0].id][0].place} already")
        else:
            named[best[0].id] = entry, best[0]
    for bearer in bearers:
        problems += _taken(bearer, named)
    _refuse(problems)
    return [Mapped(person, _account(entry, map_)) for entry, person in named.values()]


def _taken(bearer: UserRecord, named: Mapping[int, tuple[Entry, UserRecord]]) -> Iterator[str]:
    """Somebody in the backup has a username others are mapped to, and is not mapped away from it."""
    if bearer.id in named:
        return
    for entry, person in named.values():
        if entry.new == bearer.username:
            yield (
                f"{entry.place}: {printable(person.username)} would become {printable(bearer.username)}, who is in the"
                " backup too; map that one as well, or leave them out"
            )


def _account(entry: Entry, map_: UserMap) -> Account | None:
    if entry.new is None:
        return None
    known = (map_.accounts or {}).get(entry.new) or Account(entry.new)
    return replace(known, email=entry.email) if entry.email and not known.email else known


def _new(word: str) -> str | None:
    # Moodle stores usernames in lower case.
    return None if word == NOBODY else word.lower()


def _text(raw: bytes, path: Path) -> str:
    try:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return raw.decode("utf-16")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UsageError(f"{printable(path.name)} is no text file.", "Save it as CSV, in UTF-8.") from error


def _entries(text: str) -> list[Entry]:
    rows = list(_rows(text))
    if not rows:
        raise UsageError("The user map is empty.", _HINT)
    columns = _columns(rows[0][1])
    if columns:
        rows = rows[1:]
    else:
        columns = {"old": 0, "new": 1, "email": 2}
    problems = [
        f"line {line}: {len(row)} column{'' if len(row) == 1 else 's'}; old and new are needed"
        for line, row in rows
        if len(row) <= max(columns["old"], columns["new"])
    ]
    _refuse(problems)
    mail = columns.get("email", len(columns))
    return [
        Entry(
            row[columns["old"]],
            _new(row[columns["new"]]),
            (row[mail] or None) if mail < len(row) else None,
            line,
        )
        for line, row in rows
    ]


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    separator = max("\t;,", key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            # Our own CSV has a ' before what a spreadsheet would take for a formula.
            cells = [_QUOTED.sub("", cell.strip()) for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num}: {error}.", _HINT) from error


def _columns(row: list[str]) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for place, cell in enumerate(row):
        word = "".join(c for c in cell.lower() if c.isalnum())
        for name, words in _HEADS.items():
            if word in words:
                found.setdefault(name, place)
    return found if {"old", "new"} <= found.keys() else None


def _shown(person: UserRecord) -> str:
    return printable(person.username)


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UsageError(
            f"The user map does not fit: {'; '.join(problems[:3])}{more}.",
            _HINT,
            code="user_map",
            details={"problems": problems},
        )
