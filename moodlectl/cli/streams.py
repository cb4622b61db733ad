"""Lists too long to be held in memory, printed row by row in each of the forms."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from moodlectl.cli.output import as_json, cell, csv_cell, plain
from moodlectl.cli.state import State

Row = Mapping[str, Any]
_GAP = "  "
_NARROWEST = 8
# Letters as wide as one place: most names, looked at no further.
_ONE_EACH = re.compile("[ -~\u00ae-\u02ff\u1e00-\u1eff]*")


def print_json(name: str, rows: Iterable[Row], rest: Row) -> None:
    """One JSON object whose first key is the list, a row to a line, and then the rest."""
    print_record({}, name, rows, rest)


def print_record(head: Row, name: str, rows: Iterable[Row], rest: Row) -> None:
    """One JSON object: what is known of it, then the list, a row to a line, and then what is only known behind it."""
    write = sys.stdout.write
    write("{")
    for key, value in head.items():
        write(f"\n  {as_json(key)}: {as_json(value)},")
    write(f"\n  {as_json(name)}: ")
    _write_list(rows, "  ")
    for key, value in rest.items():
        write(f",\n  {as_json(key)}: {as_json(value)}")
    write("\n}\n")


def print_list(rows: Iterable[Row]) -> None:
    """One JSON list, a row to a line."""
    _write_list(rows, "")
    sys.stdout.write("\n")


def _write_list(rows: Iterable[Row], margin: str) -> None:
    write, separator = sys.stdout.write, "["
    for row in rows:
        write(f"{separator}\n{margin}  {as_json(row)}")
        separator = ","
    write("[]" if separator == "[" else f"\n{margin}]")


def print_csv(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """A line for each row, below the names of the columns."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row.get(column)) for column in columns])


def print_table(state: State, rows: Callable[[], Iterable[Sequence[Any]]], columns: Sequence[str]) -> None:
    """A table as ``output.emit`` prints it, ``rows`` being gone through twice: once to see how wide they are."""
    widths = [len(column) for column in columns]
    numbers = [True] * len(columns)
    for row in rows():
        for place, value in enumerate(row):
            if (width := _width(_cell(value))) > widths[place]:
                widths[place] = width
            if numbers[place] and not isinstance(value, int):
                numbers[place] = False
    terminal = sys.stdout.isatty()
    if terminal:
        from rich.console import Console

        widths = _narrowed(widths, Console(file=sys.stdout).width)
    head = _line([column.upper() for column in columns], widths, numbers)
    sys.stdout.write(f"\x1b[1m{head}\x1b[0m\n" if terminal and state.color else f"{head}\n")
    for row in rows():
        for line in _lines([_cell(value) for value in row], widths, numbers):
            sys.stdout.write(line)


def _line(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    return next(_lines(cells, widths, numbers))[:-1]


def _lines(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> Iterator[str]:
    """A row as the lines it takes; what is too wide goes on below."""
    rooms = [width - _width(cell) for cell, width in zip(cells, widths, strict=True)]
    if min(rooms) < 0:
        from rich.cells import chop_cells

        parts = [chop_cells(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
        for line in range(max(map(len, parts))):
            yield from _lines([part[line] if line < len(part) else "" for part in parts], widths, numbers)
        return
    padded = [
        " " * room + cell if is_number else cell + " " * room
        for cell, room, is_number in zip(cells, rooms, numbers, strict=True)
    ]
    yield _GAP.join(padded).rstrip() + "\n"


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit side by side, taken from the widest column first."""
    narrowed = list(widths)
    while sum(narrowed) + len(_GAP) * (len(narrowed) - 1) > room and max(narrowed) > _NARROWEST:
        narrowed[narrowed.index(max(narrowed))] -= 1
    return narrowed


def _cell(value: object) -> str:
    text = plain(cell(value))
    return text if text.isprintable() else text.replace("\n", "\\n").replace("\t", "\\t")


def _width(text: str) -> int:
    if _ONE_EACH.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
