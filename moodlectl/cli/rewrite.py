"""``moodlectl backup rewrite``."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import InStore, state_of

if TYPE_CHECKING:
    from moodlectl.mbz.rewrite import RewriteReport

UserMap = Annotated[
    Path | None,
    typer.Option(
        "--user-map", metavar="FILE.csv", help="Who they are on the target: old,new[,email]; new - leaves out."
    ),
]
Map = Annotated[
    list[str], typer.Option("--map", metavar="OLD=NEW", help="One line of a user map (repeatable): admin=admin.")
]


def register(app: typer.Typer) -> None:
    """Adds ``rewrite`` to the commands of ``backup``."""
    app.command("rewrite")(rewrite)


def rewrite(
    ctx: typer.Context,
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="A file, or store:ENTRY.")],
    output_file: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the changed copy goes.")],
    user_map: UserMap = None,
    pairs: Map = [],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="SITE", help="The site it goes to: its accounts are looked up."),
    ] = None,
    anonymize: Annotated[bool, typer.Option("--anonymize", help="Name no person.")] = False,
    forget_site: Annotated[bool, typer.Option("--forget-site", help="Name no site.")] = False,
    without_users: Annotated[bool, typer.Option("--without-users", help="Leave all people's data out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    store: InStore = None,
) -> None:
    """Write a changed copy of a backup: people mapped to other accounts, left out, or made nobody."""
    from moodlectl.actions import fromstore, rewriting

    state = state_of(ctx)
    asked = rewriting.Asked(
        output=output_file,
        user_map=user_map,
        pairs=pairs,
        anonymize=anonymize,
        forget_site=forget_site,
        without_users=without_users,
        overwrite=overwrite,
    )
    with ExitStack() as stack:
        site = stack.enter_context(closing(state.open_site(against))) if against else None
        on_progress = stack.enter_context(output.progress(state))
        at_hand = stack.enter_context(
            fromstore.at_hand(backup, store, state.open_store, on_progress, whole=True)
        )
        report = rewriting.rewrite(at_hand.word, asked, site, on_progress)
    show(state, report)


def show(state: State, report: RewriteReport) -> None:
    """The path to standard output, what was changed and what could not be known to standard error; or the record."""
    if state.output is not Output.table:
        output.emit_one(state, report.as_dict())
        return
    sys.stdout.write(f"{output.plain(report.output)}\n")
    output.remark(state, f"{output.size(report.size)}, sha1 {report.sha1}, checked whole")
    for old, new in report.mapped:
        output.remark(state, f"{old} becomes {new}")
    for name in report.left_out:
        kept = ", what they wrote for others stays, under an account of nobody" if name in report.stand_ins else ""
        output.remark(state, f"{name} is left out{kept}")
    for kind, count in report.changed.items():
        output.remark(state, f"{kind}: {count} changed or removed")
    for note in report.notes:
        output.remark(state, f"note: {note}")
    if report.leftovers:
        output.warn("what could not be known to be harmless; look at it before you pass the file on:")
        for leftover in report.leftovers:
            sys.stderr.write(f"  {output.plain(leftover.where)}: {output.plain(leftover.what)} ({leftover.count})\n")
