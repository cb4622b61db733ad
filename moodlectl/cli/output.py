"""Data to standard output, everything else to standard error; nothing a stranger wrote reaches the terminal raw."""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import typer

from moodlectl.cli.state import Output, State
from moodlectl.errors import Refused

if TYPE_CHECKING:
    from moodlectl.site.port import OnProgress, Progress

Row = Mapping[str, Any]


# C0 and C1 controls but tab and line end, what turns the direction of text round or hides in it, half characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain(text: object) -> str:
    """Text as a terminal may see it: control characters, escapes and bidirectional overrides made visible."""
    text = str(text)
    return text if text.isprintable() else _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def indented(text: str, width: int = 2) -> str:
    """Text whose further lines stand below its first, so that none can be taken for a line of ours."""
    return text.replace("\n", "\n" + " " * width)


def emit(
    state: State, rows: Sequence[Row], columns: Sequence[str] | None = None, *, spare: Sequence[str] = ()
) -> None:
    """Print a list of records: a table of ``columns`` (else all keys), or all keys as JSON or CSV.

    ``spare`` columns are left out of a table, first ones first, where the terminal is too narrow for all.
    """
    if state.output is Output.json:
        print_json(rows)
    elif state.output is Output.csv:
        _print_csv(rows, _all_keys(rows) or list(columns or ()))
    else:
        _print_table(state, rows, list(columns or _all_keys(rows)), spare)


def emit_one(state: State, record: Row) -> None:
    """Print one record: names and values below each other, or as one JSON object, or one CSV line."""
    if state.output is Output.json:
        print_json(record)
    elif state.output is Output.csv:
        _print_csv([record], list(record))
    else:
        width = max((len(name) for name in record), default=0)
        for name, value in record.items():
            shown = indented(plain(cell(value)), width + 2)
            sys.stdout.write(f"{name.replace('_', ' '):<{width}}  {shown}\n")


def print_json(value: Any) -> None:
    """Print one JSON document; times are ISO 8601 with offset, sizes are bytes."""
    sys.stdout.write(as_json(value, indent=2) + "\n")


def as_json(value: Any, indent: int | None = None) -> str:
    """A JSON text that is harmless on a terminal, too: what ``plain`` would make visible is written ``\\uXXXX``."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")  # what the locale lacks is still JSON
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, default=_as_json)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _as_json(value: object) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def _all_keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _print_csv(rows: Sequence[Row], columns: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row.get(column)) for column in columns])


# What a spreadsheet takes for a formula, which may call programs and addresses; numbers are numbers.
_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠](?!\Z)(?![0-9]+(?:[.,][0-9]+)?\Z)")  # noqa: RUF001


def csv_cell(value: Any) -> str:
    """A value as a cell: harmless on a terminal, and in a spreadsheet, by a ``'`` before what would be a formula."""
    if isinstance(value, Mapping | list | tuple):
        return as_json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    text = "" if value is None else plain(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text


def _print_table(state: State, rows: Sequence[Row], columns: list[str], spare: Sequence[str]) -> None:
    """A table that loses nothing: long cells fold, and where nobody looks (a pipe) no width binds it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=sys.stdout,
        no_color=not state.color,
        width=None if sys.stdout.isatty() else 10_000,
        highlight=False,
        soft_wrap=False,
    )
    columns = _fitting(rows, columns, spare, console.width)
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    numbers = {c for c in columns if rows and all(_is_number(row.get(c)) for row in rows)}
    for column in columns:
        table.add_column(
            column.replace("_", " ").upper(),
            overflow="fold",
            justify="right" if column in numbers or column == "size" else "left",
            header_style="bold",
        )
    for row in rows:
        table.add_row(*(Text(plain(cell(row.get(c), c))) for c in columns))
    console.print(table)


def _fitting(rows: Sequence[Row], columns: list[str], spare: Sequence[str], room: int) -> list[str]:
    """The columns that fit side by side, giving up spare ones; a name folded in two cannot be copied."""
    from rich.cells import cell_len

    def width(column: str) -> int:
        return max([len(column), *(cell_len(plain(cell(row.get(column), column))) for row in rows)]) + 2

    kept = list(columns)
    for column in spare:
        if sum(width(one) for one in kept) - 2 <= room:
            break
        kept = [one for one in kept if one != column]
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: Any, column: str = "") -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if column in ("size", "bytes", "file_bytes") and isinstance(value, int):
        return size(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={cell(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(v) for v in value) or "-"
    return str(value)


def size(count: float) -> str:
    """Bytes for people: ``9.1 MB``."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000 or unit == "TB":
            return f"{count:.1f} {unit}"
    raise AssertionError


def tell(text: str) -> None:
    """Write to standard error. That nobody reads it (any more) must not end what is going on on a site."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def remark(state: State, text: str) -> None:
    """One line for the person on standard error, unless ``--quiet``."""
    if not state.quiet:
        tell(plain(text) + "\n")


def warn(text: str) -> None:
    """One warning on standard error; ``--quiet`` does not silence it, a warning unseen is a warning lost."""
    tell(f"warning: {indented(plain(text))}\n")


def warn_all(texts: Sequence[str], most: int = 25) -> None:
    """Several warnings of one kind; from many the first, and how many more there are."""
    for text in texts[:most]:
        warn(text)
    if len(texts) > most:
        warn(f"… and {len(texts) - most} more like these; -o json has them all")


def confirm(state: State, question: str, *, refusal: str) -> None:
    """Ask before something is destroyed. Without a terminal only ``--yes`` answers. Raises Refused."""
    if state.yes:
        return
    if not sys.stdin.isatty():
        raise Refused(
            f"{refusal}: nobody is there to ask.", "Add --yes to do it without a question.", code="not_confirmed"
        )
    try:
        agreed = typer.confirm(plain(question), err=True)
    except typer.Abort:
        tell("\n")  # the question stands there still
        raise
    if not agreed:
        raise Refused(f"{refusal}: you said no.", code="not_confirmed")


@contextmanager
def progress(state: State) -> Iterator[OnProgress]:
    """A progress callback for one command: a bar in a terminal, a line now and then elsewhere, or nothing."""
    if state.quiet:
        yield _nothing
    elif sys.stderr.isatty():
        with _bars(state) as callback:
            yield callback
    else:
        yield _Lines()


def _nothing(_: Progress) -> None:
    return None


@contextmanager
def _bars(state: State) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, no_color=not state.color, highlight=False)
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=None if console.width < 60 else 30),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def step(progress: Progress) -> None:
            if progress.phase == "begun":  # for the ledger: no part of the work that could be measured
                return
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total, amount="")
            bars.update(
                tasks[progress.phase], completed=progress.done, total=progress.total, amount=_amount(progress)
            )

        yield step


def _amount(progress: Progress) -> str:
    if progress.unit == "bytes":
        return size(progress.done) if progress.total is None else f"{size(progress.done)} of {size(progress.total)}"
    if re.fullmatch(r"[a-z]+(_[a-z]+)+", progress.message):
        return ""  # one of Moodle's steps by its name in the program
    return plain(progress.message)[:40]


class _Lines:
    """Where there is no terminal (cron, a log): a line for what takes longer than 5 seconds, then every 30."""

    def __init__(self) -> None:
        self._phase = ""
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase == "begun":
            return
        if progress.phase != self._phase:
            self._phase, self._next = progress.phase, now + 5
        if now < self._next:
            return
        self._next = now + 30
        share = f" {100 * progress.done / progress.total:.0f}%" if progress.total else ""
        tell(f"{progress.phase}{share}\n")
