"""From what stands in a plan file to rows: every column read, every problem named with its line and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moodlectl.plans.columns import COLUMNS, MAY_BE_EMPTY, ONE_OF, SELECTION, UPLOAD_ONLY, suggestion
from moodlectl.plans.patterns import Pattern
from moodlectl.plans.rows import Kind, OldCourse, Problem, Row, Selection
from moodlectl.plans.tables import Raw, Table

# As mbz.text: what ends a line, moves the cursor, or turns the direction of text round.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_NOT_IN = {
    "migrate": tuple(name for name in COLUMNS if name.startswith("old_")),
    "rollover": ("on_changed_target",),
}


def rows(table: Table, kind: Kind, folder: Path) -> tuple[tuple[Row, ...], tuple[Problem, ...]]:
    """The rows of a table and every problem with it. Paths are taken as seen from ``folder``."""
    problems = list(table.problems)
    defaults = _values(table.defaults, kind, problems, None)
    unread_everywhere = _unread(problems, kind)
    found: list[Row] = []
    for raw in table.rows:
        before = len(problems)
        said = _values(raw, kind, problems, table.head)
        problems += _both_said(raw, said)
        row = _row(raw, _with_defaults(defaults, said), folder, table.defaults.places)
        row = replace(row, unread=_unread(problems[before:], kind) | (unread_everywhere - said.keys()))
        problems += (one for one in _missing(row, kind) if not follows(row, one))
        found.append(row)
    problems += _twice(found)
    return tuple(found), tuple(_once(problems))


def _unread(problems: Iterable[Problem], kind: Kind) -> frozenset[str]:
    """The columns that were meant to say something, and could not be read. A column that is unknown says nothing."""
    known = {*COLUMNS, "select"} - {*_NOT_IN[kind]}
    return frozenset(one.column for one in problems if one.column in known)


def follows(row: Row, problem: Problem) -> bool:
    """Whether a problem may be there only because other columns of its row could not be read: it is not told then."""
    if not row.unread:
        return False
    column = problem.column or ""
    if "mode" in row.unread or column in row.unread:
        return True
    if any(column in group and row.unread & {*group} for group in ONE_OF):
        return True
    pattern = getattr(row.old if column.startswith("old_") else row, column.removeprefix("old_"), None)
    pieces = pattern.names if isinstance(pattern, Pattern) else ()
    if row.unread & _OF_THE_YEAR and {"year", "yy"} & {*pieces}:
        return True
    return column in ("shortname", "idnumber") and any(name.startswith("old_") for name in row.unread)


_OF_THE_YEAR = frozenset({"startdate", "shift_days", "shift_weeks", "year"})


def _once(problems: list[Problem]) -> Iterator[Problem]:
    """A column that is unknown is told once, where it is first met."""
    seen: set[tuple[str | None, str]] = set()
    for one in problems:
        key = (one.column, one.message)
        if one.column is None or one.column in COLUMNS or key not in seen:
            yield one
        seen.add(key)


def _values(raw: Raw, kind: Kind, problems: list[Problem], head: int | None) -> dict[str, Any]:
    """Every column read; what cannot be is a problem. ``head`` is the line that names the columns, if one does."""
    said: dict[str, Any] = {}
    for column, value in raw.values.items():
        line = raw.places[column]
        if column == "select":
            said["select"] = _selection(value, line, problems)
            continue
        unknown = _unknown(column, kind)
        if unknown is not None:
            problems.append(Problem(head or line, _shown(column), *unknown))
            continue
        if unprintable := _unprintable(value):
            problems.append(Problem(line, column, f"it has a control character ({unprintable})"))
            continue
        if value == "" and column not in MAY_BE_EMPTY:
            problems.append(Problem(line, column, "it is empty; leave the key out"))
            continue
        _read(said, column, COLUMNS[column], value, (line, problems))
    return said


def _read(
    said: dict[str, Any], column: str, reader: Callable[[Any], Any], value: Any, where: tuple[int, list[Problem]]
) -> None:
    try:
        said[column] = reader(value)
    except ValueError as error:
        where[1].append(Problem(where[0], column, str(error)))


def _shown(column: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", column)[:60]


def _unknown(column: str, kind: Kind) -> tuple[str, str | None] | None:
    """Why there is no such column, and what to do; None where there is."""
    if column in _NOT_IN[kind]:
        return f"a {kind} plan has no such column", None
    if column in COLUMNS:
        return None
    if column in UPLOAD_ONLY or re.fullmatch(r"(enrolment|role)_\w+|customfield_\w+", column):
        return (
            "Moodle's upload of courses has this column, a plan has not: a course brings that along",
            "Leave the column out.",
        )
    if column == "old":
        return "it is no table", "Write old = { visible = false } in TOML; a CSV has columns such as old_visible."
    near = suggestion(column, tuple(COLUMNS))
    return f"there is no such column{near}", None if near else f"Columns: {', '.join(COLUMNS)}."


def _unprintable(value: Any) -> str | None:
    if isinstance(value, str):
        found = _UNPRINTABLE.search(value)
        return f"U+{ord(found[0]):04X}" if found else None
    if isinstance(value, list):
        return next((why for each in value if (why := _unprintable(each))), None)
    if isinstance(value, dict):
        return _unprintable([*map(str, value), *value.values()])
    return None


def _selection(value: Any, line: int, problems: list[Problem]) -> Selection | None:
    if not isinstance(value, dict):
        hint = 'Write select = {category = "2026 / *", visible = true}; in a CSV each row is one course.'
        problems.append(Problem(line, "select", "it is no table", hint))
        return None
    said: dict[str, Any] = {}
    before = len(problems)
    for name, what in value.items():
        if name not in SELECTION:
            known = tuple(SELECTION)
            told = f"'{_shown(name)}' selects nothing{suggestion(name, known)}"
            problems.append(Problem(line, "select", told, f"There are: {', '.join(known)}."))
        elif unprintable := _unprintable(what):
            problems.append(Problem(line, "select", f"{name} has a control character ({unprintable})"))
        else:
            inner: list[Problem] = []
            _read(said, "select", SELECTION[name], what, (line, inner))
            problems += [Problem(line, "select", f"{name}: {one.message}") for one in inner]
            if not inner:
                said[name] = said.pop("select")
    if not said and len(problems) == before:
        problems.append(Problem(line, "select", "it selects nothing in particular", "Name at least a category."))
    return Selection(
        said.get("category"), said.get("visible"), said.get("search"), said.get("shortname"), said.get("except", ())
    )


def _both_said(raw: Raw, said: Mapping[str, Any]) -> Iterator[Problem]:
    for name in sorted({*said.get("with", ())} & {*said.get("without", ())}):
        yield Problem(raw.places["without"], "without", f"'{name}' is asked for both with and without")
    for group in ONE_OF:
        found = [column for column in group if column in raw.values]
        if len(found) > 1:
            told = f"{found[0]} is said as well; a row can have only one of them"
            yield Problem(raw.places[found[1]], found[1], told)


def _with_defaults(defaults: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says laid over the defaults; of columns that exclude each other the row's own wins."""
    outdone = {column for group in ONE_OF if any(name in said for name in group) for column in group}
    return {**{name: value for name, value in defaults.items() if name not in outdone}, **said}


def _row(raw: Raw, said: Mapping[str, Any], folder: Path, defaults: Mapping[str, int]) -> Row:
    weeks = said.get("shift_weeks")
    user_map = said.get("user_map")
    fields = {
        name: said[name]
        for name in said
        if name in Row.__dataclass_fields__ and name not in ("user_map", "old", "settings")
    }
    return Row(
        **{
            **fields,
            "line": raw.line,
            "places": dict(raw.places),
            "inherited": {name: line for name, line in defaults.items() if name in said and name not in raw.places},
            "shift_days": weeks * 7 if weeks is not None else said.get("shift_days"),
            "user_map": None if user_map is None else folder / user_map.expanduser(),
            "settings": {
                **dict.fromkeys(said.get("with", ()), True),
                **dict.fromkeys(said.get("without", ()), False),
            },
            "old": _old(said),
        }
    )


def _old(said: Mapping[str, Any]) -> OldCourse:
    enrolments = said.get("old_enrolments")
    names = ("shortname", "fullname", "idnumber", "category", "category_idnumber", "category_path", "visible")
    given = {name: said[f"old_{name}"] for name in names if f"old_{name}" in said}
    return OldCourse(**given, enrolments=None if enrolments == "keep" else enrolments)


def _missing(row: Row, kind: Kind) -> Iterator[Problem]:
    """What a row needs and has not, and what does not go together."""
    line = row.line
    if not (row.templatecourse or row.source_backup or row.select):
        yield Problem(line, "templatecourse", "the course to begin with is not named",
                      "Name it in templatecourse, or a backup in source_backup, or select courses.")  # fmt: skip
    if row.shortname is None and (row.mode != "new" or kind == "rollover"):
        which = "the course it goes into" if row.mode != "new" else "the new course"
        yield Problem(line, "shortname", f"{which} needs a short name")
    if row.shortname is not None and row.select is not None and not row.shortname.names:
        yield Problem(row.at("shortname"), "shortname", f"all courses selected would be called '{row.shortname.text}'",
                      'Use a piece of the old name, such as "{source.shortname}-2027".')  # fmt: skip
    if row.mode == "new" and row.overwrite_config:
        told = "it only means something with merge and replace"
        yield Problem(row.written("overwrite_config"), "overwrite_config", told)
    if row.mode != "new":
        for name in ("category", "category_idnumber", "category_path"):
            if getattr(row, name) is not None and name in row.places:
                yield Problem(row.at(name), name, f"with mode {row.mode} the course stays where it is")
    if row.mode != "replace":
        for name in ("keep_enrolments", "keep_groups"):
            if getattr(row, name):
                told = "it only means something with mode replace: nothing else deletes them"
                yield Problem(row.written(name), name, told)
    if row.startdate and row.enddate and row.enddate <= row.startdate:
        yield Problem(row.written("enddate"), "enddate", f"{row.enddate} is not after the start, {row.startdate}")
    if row.user_map is not None and not row.user_map.is_file():
        yield Problem(row.written("user_map"), "user_map", f"the file {row.user_map} is not there")
    if kind == "rollover" and row.source_backup and row.old != OldCourse():
        yield Problem(line, "source_backup", "a backup has no old course to change; name the course in templatecourse")
    if row.keep_roles and row.settings.get("users"):
        told = "with the setting users everybody comes, so nobody is kept"
        yield Problem(row.written("keep_roles"), "keep_roles", told)


def _twice(found: list[Row]) -> Iterator[Problem]:
    """Two rows that make, or go into, the same course."""
    seen: dict[str, Row] = {}
    for row in found:
        name = _plain(row.shortname)
        if name is None:
            continue
        first = seen.setdefault(name.casefold(), row)
        if first is not row and not (row.mode == "merge" and first.mode in ("merge", "replace")):
            yield Problem(row.at("shortname"), "shortname", f"'{name}' stands on line {first.line} already")
    numbers: dict[str, Row] = {}
    for row in found:
        number = _plain(row.idnumber)
        if number:
            first = numbers.setdefault(number, row)
            if first is not row:
                yield Problem(row.at("idnumber"), "idnumber", f"'{number}' stands on line {first.line} already")


def _plain(pattern: Pattern | None) -> str | None:
    """A name that is the same for whatever course, None where it has pieces."""
    return pattern.expand({}) if pattern is not None and not pattern.names else None
