"""What a plan says: one row a course, or one for all courses that a selection finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from moodlectl.plans.patterns import Pattern

Kind = Literal["rollover", "migrate"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a plan, where it stands, and what to do about it. ``line`` 0: the whole file."""

    line: int
    column: str | None
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else "the plan"
        return f"{place}{f', {self.column}' if self.column else ''}: {self.message}"


@dataclass(frozen=True)
class Selection:
    """Which courses one row stands for; what is None does not matter.

    ``category`` is a path of names in which ``*`` stands for any name at that level (courses below count, too), or
    ``id:3`` or ``idnumber:SCI``; ``shortname`` and ``leave_out`` are patterns with ``*`` and ``?``.
    """

    category: str | None = None
    visible: bool | None = None
    search: str | None = None
    shortname: str | None = None
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class OldCourse:
    """What becomes of the course that was rolled over; what is None stays. ``enrolments``: ``manual`` makes everybody's
    a manual one, ``suspended`` suspends everybody's."""

    shortname: Pattern | None = None
    fullname: Pattern | None = None
    idnumber: Pattern | None = None
    category: Pattern | None = None
    category_idnumber: Pattern | None = None
    category_path: Pattern | None = None
    visible: bool | None = None
    enrolments: Literal["manual", "suspended"] | None = None


@dataclass(frozen=True)
class Row:
    """One row of a plan. ``places`` is the line each column stands on, ``line`` where the row begins; ``inherited`` are
    the lines of what the row has from the defaults.

    Dates inside the course move by ``shift_days``, or as far as ``startdate`` is from the old start. ``settings`` are
    Moodle's own, by name. ``keep_roles`` None means that nobody was asked about people. ``unread`` are columns that say
    what cannot be read, and are left out of the row: all the others can still be looked at.
    """

    line: int
    places: Mapping[str, int] = field(default_factory=dict)
    inherited: Mapping[str, int] = field(default_factory=dict)
    select: Selection | None = None
    templatecourse: str | None = None
    source_backup: str | None = None
    mode: Literal["new", "merge", "replace"] = "new"
    shortname: Pattern | None = None
    fullname: Pattern | None = None
    idnumber: Pattern | None = None
    category: Pattern | None = None
    category_idnumber: Pattern | None = None
    category_path: Pattern | None = None
    create_categories: bool = False
    startdate: date | None = None
    enddate: date | None = None
    shift_days: int | None = None
    year: int | None = None
    visible: bool | None = None
    hidden_until: date | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)
    enrolments: Literal["manual", "with-users", "always"] | None = None
    keep_roles: tuple[str, ...] | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    no_userdata: tuple[str, ...] = ()
    user_map: Path | None = None
    map: tuple[str, ...] = ()
    on_user_conflict: Literal["stop", "without-users"] = "stop"
    on_changed_target: Literal["stop", "replace"] = "stop"
    allow: tuple[str, ...] = ()
    guards: Mapping[str, str] = field(default_factory=dict)
    keep_enrolments: bool = False
    keep_groups: bool = False
    overwrite_config: bool = False
    safety_backup: bool = True
    old: OldCourse = field(default_factory=OldCourse)
    unread: frozenset[str] = frozenset()

    def at(self, column: str) -> int:
        """The line a column stands on; where it came from the defaults or from nowhere, that of the row."""
        return self.places.get(column, self.line)

    def written(self, column: str) -> int:
        """The line where the words of a column are written, be it among the defaults."""
        return self.places.get(column) or self.inherited.get(column) or self.line


@dataclass(frozen=True)
class Plan:
    """A whole plan: its rows, every problem that was found in it, and what is worth saying of the file itself."""

    path: Path
    sha1: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
