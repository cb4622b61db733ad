"""``moodlectl site contents``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output
from moodlectl.cli.words import Quietly, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moodlectl.site.port import HeldContent


def register(app: typer.Typer) -> None:
    """Hang the command on ``site``."""
    app.command("contents")(contents)


def contents(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The site, else the one in use.")] = None,
    unclaimed: Annotated[bool, typer.Option("--unclaimed", help="Only those that no file has claimed.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --unclaimed: take them out of the site's file pool. Asks first.")
    ] = False,
    dry_run: Quietly = False,
) -> None:
    """Contents of files that were sent to the site ahead of their courses, and whether a course has claimed them."""
    from moodlectl.actions import contents as action
    from moodlectl.errors import UsageError

    state = state_of(ctx)
    if remove and not unclaimed:
        raise UsageError("--remove goes with --unclaimed: what courses have claimed stays.")
    with closing(state.open_site(name)) as site:
        found = action.held(site, unclaimed=unclaimed)
        rows = [
            {"sha1": one.sha1, "size": one.size, "since": one.since, "claimed": one.claimed} for one in found
        ]
        output.emit(state, rows, ["sha1", "size", "since", "claimed"])
        if state.output is Output.table:
            output.remark(state, _summary(found))
        if not (remove and found) or dry_run:
            return
        output.confirm(state, f"Remove {_summary(found)} from {site.name}?", refusal="Nothing was removed")
        gone = action.remove(site, found)
    output.remark(state, f"removed {gone} of {len(found)}; Moodle keeps them in its trash until cron empties it")


def _summary(found: Sequence[HeldContent]) -> str:
    size = sum(one.size for one in found)
    return f"{len(found)} contents, {output.size(size)}"
