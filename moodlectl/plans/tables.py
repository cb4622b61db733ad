"""The two forms of a plan file, read into raw rows: what is said in which column, and on which line."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from moodlectl.errors import UsageError
from moodlectl.plans.columns import COLUMNS
from moodlectl.plans.rows import Problem

MOST_BYTES: Final = 32 << 20
MOST_ROWS: Final = 100_000
SEPARATORS: Final = ",;\t"


@dataclass
class Raw:
    """One row as it stands in the file: column → value, column → line."""

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def put(self, column: str, value: Any, line: int) -> None:
        """Note what a column says."""
        self.values[column] = value
        self.places[column] = line


@dataclass
class Table:
    """All rows of a file with the defaults before them, what is wrong with its form, and what is worth saying."""

    rows: list[Raw] = field(default_factory=list)
    defaults: Raw = field(default_factory=lambda: Raw(0))
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: int | None = None
    """The line that names the columns, where one does for all rows."""


def decoded(raw: bytes, name: str, *, only_utf8: bool = False) -> tuple[str, str | None]:
    """The text of a file, and its encoding where that is not UTF-8. Raises UsageError naming what it is instead."""
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{name} has more than {MOST_BYTES >> 20} MB: that is no plan.", code="plan_unreadable")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(raw) > 3 and 0 in raw[:4] and raw[:200].count(0) > 20):
        raise UsageError(
            f"{name} is UTF-16 (what some programs call Unicode text).",
            "Save it as UTF-8: in Excel 'CSV UTF-8 (comma delimited)'.",
            code="plan_encoding",
        )
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = ""
        if text and not only_utf8:
            return text, "Windows-1252"
        guess = "it is Windows-1252" if text else "it is no text, or in an encoding of its own"
        raise UsageError(
            f"{name}, line {line}: this is not UTF-8; {guess}.", "Save it as UTF-8.", code="plan_encoding"
        ) from error


# --- CSV ----------------------------------------------------------------------------------------------------------


def read_csv(raw: bytes, name: str) -> Table:
    """A CSV file with a head line. Raises UsageError where it cannot be read as one at all."""
    text, encoding = decoded(raw, name)
    table = Table()
    if encoding:
        example = next((word for word in re.findall(r"\w+", text) if not word.isascii()), "")
        table.notes.append(
            f"{name} is {encoding}, not UTF-8, and was read as such"
            + (f" (it has words like '{example[:40]}'). " if example else ". ") +
            "If those look wrong, save it as UTF-8."
        )
    lines = _records(text, name)
    head = next(lines, None)
    if head is None:
        raise UsageError(f"{name} is empty.", "Its first line has the names of the columns.", code="plan_unreadable")
    table.head, columns = head[0], [cell.strip().lower() for cell in head[1]]
    if not {*columns} & {*COLUMNS}:
        raise UsageError(
            f"{name}, line {head[0]}: no column of a plan is named here; is the head line missing?",
            f"The first line has the names of the columns: {', '.join(COLUMNS)}.",
            code="plan_unreadable",
        )
    for column in sorted({column for column in columns if column and columns.count(column) > 1}):
        table.problems.append(Problem(head[0], column, "this column is there more than once"))
    for line, cells in lines:
        if len(table.rows) >= MOST_ROWS:
            raise UsageError(f"{name} has more than {MOST_ROWS} rows.", "Cut it in pieces.", code="plan_unreadable")
        table.rows.append(_csv_row(line, columns, cells, table.problems))
    return table


def _csv_row(line: int, columns: list[str], cells: list[str], problems: list[Problem]) -> Raw:
    row = Raw(line)
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        problems.append(
            Problem(line, None, f"{len(cells)} cells, but the head line names {len(columns)} columns",
                    "A text with the separator in it needs quotes around it.")
        )  # fmt: skip
    for column, cell in zip(columns, cells, strict=False):
        if not cell.strip():
            continue
        if column:
            row.put(column, cell.strip(), line)
        else:
            problems.append(Problem(line, None, f"'{cell.strip()[:40]}' stands under no column name"))
    return row


def _records(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The line each record begins on, and its cells; empty ones are left out."""
    said = re.match(r"\s*sep=([,;\t])\s*?\r?\n", text)  # what Excel writes, or is told by, before the head line
    before = text.count("\n", 0, said.end()) if said else 0
    text = text[said.end() :] if said else text
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = said[1] if said else max(SEPARATORS, key=lambda sign: _outside_quotes(first, sign))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    above = before
    try:
        for cells in reader:
            line, before = before + 1, above + reader.line_num
            if any(cell.strip() for cell in cells):
                yield line, cells
    except csv.Error as error:
        raise UsageError(
            f"{name}, line {before + 1}: {error}.",
            "Look for a quotation mark that is opened there and not closed.",
            code="plan_unreadable",
        ) from error


def _outside_quotes(line: str, sign: str) -> int:
    return sum(part.count(sign) for part in line.split('"')[::2])


# --- TOML ---------------------------------------------------------------------------------------------------------


def read_toml(raw: bytes, name: str) -> Table:
    """A TOML file: ``[defaults]`` and ``[[course]]``. Raises UsageError where it is no TOML."""
    text, _ = decoded(raw, name, only_utf8=True)
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no TOML: {error}.", code="plan_unreadable") from error
    places, table = _Places(text), Table()
    for key in data:
        if key not in ("defaults", "course"):
            hint = "A plan has one table [defaults], and [[course]] once for each row."
            table.problems.append(Problem(places.line((key,)), key, "there is no such key in a plan", hint))
    defaults, courses = data.get("defaults", {}), data.get("course", [])
    if isinstance(defaults, dict):
        table.defaults = _toml_row(defaults, ("defaults",), places)
    else:
        table.problems.append(Problem(places.line(("defaults",)), "defaults", "this must be a table: [defaults]"))
    if not isinstance(courses, list) or not all(isinstance(each, dict) for each in courses):
        table.problems.append(Problem(places.line(("course",)), "course", "each row is written [[course]]"))
        courses = []
    table.rows = [_toml_row(each, (f"course#{place}",), places) for place, each in enumerate(courses[:MOST_ROWS])]
    return table


def _toml_row(said: Mapping[str, Any], where: tuple[str, ...], places: _Places) -> Raw:
    row = Raw(places.line(where))
    for key, value in said.items():
        line = places.line((*where, key), row.line)
        if key == "old" and isinstance(value, dict):
            for inner, what in value.items():
                row.put(f"old_{inner}", what, places.line((*where, key, inner), line))
        else:
            row.put(key, value, line)
    return row


class _Places:
    """Where the keys of a TOML text stand. The text is known to be TOML; only as much is read as lines need."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        self._count = -1
        self._table: tuple[str, ...] = ()
        for line, statement in _statements(text):
            if statement.startswith("["):
                self._header(statement, line)
            else:
                key = (*self._table, *_keys(statement))
                for length in range(1, len(key) + 1):
                    self._lines.setdefault(key[:length], line)

    def _header(self, statement: str, line: int) -> None:
        names = _keys(statement.lstrip("["))
        if names and names[0] == "course":
            self._count += statement.startswith("[[") and len(names) == 1
            names = (f"course#{max(self._count, 0)}", *names[1:])
        self._table = names
        for length in range(1, len(names) + 1):
            self._lines.setdefault(names[:length], line)

    def line(self, key: tuple[str, ...], default: int = 1) -> int:
        """The line of a key or table; that of the nearest one around it where it stands in an inline table."""
        for length in range(len(key), 0, -1):
            if key[:length] in self._lines:
                return self._lines[key[:length]]
        return self._lines.get(("course",), default) if key[0].startswith("course#") else default


def _keys(statement: str) -> tuple[str, ...]:
    """The dotted key a statement begins with."""
    names, place = [], 0
    while place < len(statement):
        sign = statement[place]
        if sign in "\"'":
            end = statement.find(sign, place + 1)
            names.append(statement[place + 1 : end])
            place = end + 1 if end > 0 else len(statement)
        elif sign.isalnum() or sign in "-_":
            begin = place
            while place < len(statement) and (statement[place].isalnum() or statement[place] in "-_"):
                place += 1
            names.append(statement[begin:place])
        elif sign in " \t.":
            place += 1
        else:
            break
    return tuple(names)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement's line and text, without those lines that only go on with a value begun before."""
    quote, depth = "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not quote and depth == 0 and line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()
        quote, depth = _after(line, quote, depth)


def _after(line: str, quote: str, depth: int) -> tuple[str, int]:
    """Inside which quotation marks and how many brackets the next line begins."""
    place = 0
    while place < len(line):
        sign = line[place]
        if quote:
            if sign == "\\" and quote == '"""':
                place += 1
            elif line.startswith(quote, place):
                place += len(quote) - 1
                while line[place + 1 : place + 2] == quote[0]:  # as many as five may end it
                    place += 1
                quote = ""
        elif sign in "\"'":
            if line.startswith(sign * 3, place):
                quote, place = sign * 3, place + 2
            else:
                place = _end_of_string(line, place)
        elif sign == "#":
            break
        else:
            depth += (sign in "[{") - (sign in "]}")
        place += 1
    return quote, max(depth, 0)


def _end_of_string(line: str, start: int) -> int:
    sign, place = line[start], start + 1
    while place < len(line) and line[place] != sign:
        place += 2 if line[place] == "\\" and sign == '"' else 1
    return place
