"""What a merge would add to a course, and what came of it, shown to people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moodlectl.cli import output
from moodlectl.cli.state import State

if TYPE_CHECKING:
    from moodlectl.actions.recovery import Added, Additions
    from moodlectl.mbz import Manifest
    from moodlectl.site.port import Restored

MOST = 20


def record(found: Additions | None) -> dict[str, Any] | None:
    """What would be added and what is met, kind by kind; None where that could not be found out."""
    if found is None:
        return None
    return {"adds": [_one(one) for one in found.added], "meets": [_one(one) for one in found.met]}


def _one(one: Added) -> dict[str, Any]:
    return {"kind": one.kind, "number": one.number, "names": list(one.names)}


def show(state: State, found: Additions | None) -> None:
    """A line for each kind: by name where they are few, else by number."""
    if found is None:
        return
    rows = [{"would": "add", **_row(one)} for one in found.added]
    rows += [{"would": "meet", **_row(one)} for one in found.met]
    output.emit(state, rows, ["would", "number", "what", "names"])


def _row(one: Added) -> dict[str, Any]:
    """The number, the kind, and the names without what all of them say: the kind, and the activity they stand in."""
    from moodlectl.actions.likenesses import kind_of

    kind = kind_of(one.kind).name
    names = [name.removeprefix(kind) for name in one.names]
    where = {name.partition(" in ")[2] for name in names}
    if one.kind != "activity" and len(where) == 1 and (place := where.pop()):
        names = [name.removesuffix(f" in {place}") or place for name in names]
    names = [name.strip().removeprefix("of " if one.kind == "grade" else "") for name in names]
    return {"number": one.number, "what": kind, "names": "; ".join(names)}


def show_new(state: State, restored: Restored, held: Manifest | None) -> None:
    """The new course module ids of what was merged, with their names where the backup was looked into."""
    titles = {one.id: f'{one.module} "{one.title}"' for one in held.all_activities()} if held else {}
    new = sorted(restored.activities.items(), key=lambda pair: pair[1])
    for old, cmid in new[:MOST]:
        output.remark(state, f"new: cmid:{cmid}  {titles.get(old, f'cmid:{old} of the backup')}")
    if len(new) > MOST:
        output.remark(state, f"new: {len(new) - MOST} more activities (-o json names all ids)")
