"""After a restore: is on the site what the chosen part of the backup holds?"""

from __future__ import annotations

from collections.abc import Iterator

from moodlectl.site.port import Counts, Restored

_LABELS = {
    "users": "people enrolled",
    "groups": "groups",
    "grade_items": "grade items",
    "grades": "grades",
    "questions": "question bank entries",
    "files": "files",
    "file_bytes": "bytes of files",
}


def differences(restored: Restored) -> tuple[str, ...]:
    """Each way in which the site differs from what was asked of the file, one sentence each; none when it is whole.

    A new or replaced course must hold exactly what the backup holds. What is merged into a course meets people,
    groups, questions and sections that may be there already: then as many as there were is the least, and as many
    as both together the most. Activities are always added, never merged, so they are counted exactly.
    """
    merged = restored.mode == "merge"
    return (
        *_activities(restored),
        *_sections(restored, merged=merged),
        *_numbers(restored, merged=merged),
    )


def _activities(restored: Restored) -> Iterator[str]:
    expected, before, after = restored.expected, restored.before, restored.after
    base = before.activities if restored.mode == "merge" else {}
    for module in sorted({*expected.activities, *after.activities, *base}):
        wanted = expected.activities.get(module, 0) + base.get(module, 0)
        found = after.activities.get(module, 0)
        if found != wanted:
            yield f"activities of type {module}: {wanted} expected, {found} found"


def _sections(restored: Restored, *, merged: bool) -> Iterator[str]:
    wanted, found = restored.expected.sections, restored.after.sections
    if wanted is None or found is None:
        return
    least = max(wanted, restored.before.sections or 0) if merged else wanted
    if found < least or (not merged and found != wanted):
        yield f"sections: {'at least ' if merged else ''}{least} expected, {found} found"


def _numbers(restored: Restored, *, merged: bool) -> Iterator[str]:
    for name, label in _LABELS.items():
        wanted: int | None = getattr(restored.expected, name)
        found: int | None = getattr(restored.after, name)
        if wanted is None or found is None:
            continue
        held = _held(restored.before, name) if merged else 0
        least, most = max(wanted, held), wanted + held
        if not merged:
            least = most = wanted
        if name == "grade_items" and 0 in ((wanted, held) if merged else (wanted,)):
            most += 1  # the course total, which Moodle makes when it is first needed
        if not least <= found <= most:
            range_ = str(least) if least == most else f"{least} to {most}"
            yield f"{label}: {range_} expected, {found} found"


def _held(counts: Counts, name: str) -> int:
    value = getattr(counts, name)
    return int(value) if value is not None else 0
