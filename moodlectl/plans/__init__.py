"""Plan files: many courses from one CSV or TOML file, checked as a whole before anything is touched.

No site is asked here; what a plan means on one is found out by ``moodlectl.actions.planning``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.errors import NotFound, Refused, UsageError
from moodlectl.plans.rows import Kind, OldCourse, Plan, Problem, Row, Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Kind", "OldCourse", "Plan", "Problem", "Row", "Selection", "read_plan", "refuse"]


def read_plan(path: Path, kind: Kind) -> Plan:
    """The plan in that file, with every problem that can be seen without a site. Reads only.

    ``.toml`` is read as TOML, everything else as CSV (``,``, ``;`` or tab; UTF-8 with or without its mark, or
    Windows-1252, which is then noted). Raises NotFound, and UsageError where the file is neither.
    """
    from moodlectl.plans import reading, tables

    try:
        with path.open("rb") as file:
            raw = file.read(tables.MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotFound(f"The plan {path} cannot be read: {why}.", code="no_file") from error
    table = (tables.read_toml if path.suffix.lower() == ".toml" else tables.read_csv)(raw, path.name)
    rows, problems = reading.rows(table, kind, path.parent)
    if not table.rows and not problems:
        raise UsageError(f"{path.name} names no course.", "Each row of a plan is a course.", code="plan_unreadable")
    return Plan(path, hashlib.sha1(raw, usedforsecurity=False).hexdigest(), rows, problems, tuple(table.notes))


def refuse(name: str, problems: Sequence[Problem]) -> None:
    """Nothing where there are no problems. Raises Refused that names every one, with its line and column."""
    if not problems:
        return
    found = sorted(set(problems), key=lambda one: (one.line, one.column or "", one.message))
    raise Refused(
        f"{name} has {len(found)} problem{'s' if len(found) != 1 else ''}; nothing was touched.",
        "Mend them all and try again.",
        code="plan",
        details={
            "problems": [
                {"line": one.line, "column": one.column, "message": one.message, "hint": one.hint} for one in found
            ]
        },
    )
