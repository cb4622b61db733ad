"""``moodlectl course compare``."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import InStore, state_of

if TYPE_CHECKING:
    from moodlectl.actions.compare import Comparison, Difference

MOST = 50
KNOWN = 15


def register(app: typer.Typer) -> None:
    """Hang the command on ``moodlectl course``."""
    app.command("compare")(compare)


def compare(
    ctx: typer.Context,
    course: Annotated[str, typer.Argument(metavar="COURSE")],
    other: Annotated[
        str, typer.Argument(metavar="BACKUP|COURSE", help="A file, COURSE@AREA[/FILENAME], store:ENTRY, or a course.")
    ],
    site_b: Annotated[
        str | None, typer.Option("--site-b", metavar="NAME", help="The site the other one lies on.")
    ] = None,
    store: InStore = None,
) -> None:
    """Everything two courses hold, or a course and a backup, compared thing by thing.

    Exit status 0 where they are equal but for what Moodle itself does not carry, 1 where something differs.
    """
    from moodlectl.actions import compare as action
    from moodlectl.actions import fromstore

    state = state_of(ctx)
    with ExitStack() as stack:
        site = stack.enter_context(closing(state.open_site()))
        there = stack.enter_context(closing(state.open_site(site_b))) if site_b else None
        with (
            output.progress(state) as on_progress,
            fromstore.at_hand(other, store, state.open_store, on_progress) as at_hand,
        ):
            found = action.run(site, course, at_hand.word, there, on_progress)
    _print(state, found)
    if not found.equal:
        raise typer.Exit(1)


def _print(state: State, found: Comparison) -> None:
    if state.output is Output.json:
        output.print_json(
            {
                "equal": found.equal,
                "a": found.a,
                "b": found.b,
                "differences": [_record(one) for one in found.differences],
                "counts": {side: dict(counts) for side, counts in found.counts.items()},
            }
        )
        return
    if state.output is Output.csv:
        output.emit(state, [_record(one) for one in found.differences], ["kind", "what", "text", "known", "reason"])
        return
    for one in found.real[:MOST]:
        sys.stdout.write(output.plain(one.text) + "\n")
    if len(found.real) > MOST:
        rest = Counter(one.kind for one in found.real[MOST:])
        more = ", ".join(f"{number} {kind}" for kind, number in rest.most_common())
        sys.stdout.write(f"… and {len(found.real) - MOST} more ({output.plain(more)}); -o json names all of them\n")
    _remarks(state, found)
    held, others = (sum(found.counts.get(side, {}).values()) for side in ("a", "b"))
    if found.equal:
        verdict = f"{found.a} and {found.b} hold the same ({held} things compared)."
    else:
        verdict = f"{len(found.real)} differences: {found.a} holds {held} things, {found.b} {others}."
    sys.stdout.write(output.plain(verdict) + "\n")


def _remarks(state: State, found: Comparison) -> None:
    """What Moodle itself does not carry, a line for each reason."""
    reasons: dict[str, list[Difference]] = {}
    for one in found.known:
        reasons.setdefault(one.reason or "", []).append(one)
    for reason, each in list(reasons.items())[:KNOWN]:
        if len(each) == 1:
            text = each[0].text if each[0].kind == "setting" else f"{each[0].text} ({reason})"
        else:
            text = f"{len(each)} differences such as {each[0].text} ({reason})"
        output.remark(state, f"note: {text}")


def _record(one: Difference) -> dict[str, Any]:
    return {"kind": one.kind, "what": one.what, "text": one.text, "known": one.known, "reason": one.reason}
