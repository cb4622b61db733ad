"""``moodlectl backup users``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import output, streams
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import BACKUP, As, InStore, state_of

if TYPE_CHECKING:
    from moodlectl.actions.people import People, Shown

_COLUMNS = ["id", "username", "name", "email"]
_WORDS = {
    "match": "match an account of the site",
    "create": "would be created",
    "conflict": "conflict with somebody else's account",
    "cannot_create": "cannot be created by the acting user",
    "unknown": "cannot be told, the site hides what decides",
}


def register(app: typer.Typer) -> None:
    """Hang the command on ``moodlectl backup``."""
    app.command("users")(users)


def users(
    ctx: typer.Context,
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help=BACKUP)],
    against: Annotated[
        str | None, typer.Option("--against", metavar="NAME", help="The site they would be restored on.")
    ] = None,
    new: Annotated[
        str | None, typer.Option("--new", metavar="CATEGORY", help="With --against: into a new course there.")
    ] = None,
    merge: Annotated[
        str | None, typer.Option("--merge", metavar="COURSE", help="With --against: into this course.")
    ] = None,
    as_user: As = None,
    store: InStore = None,
) -> None:
    """Who is in a backup, and what restoring them on a site would do: match, create, conflict, cannot create."""
    from moodlectl.actions import fromstore, people
    from moodlectl.errors import UsageError

    state = state_of(ctx)
    if against is None and (new or merge or as_user):
        raise UsageError("--new, --merge and --as say something about a site: name it with --against NAME.")
    target = None if against is None else people.Against(lambda: state.open_site(against), new, merge, as_user)
    with (
        output.progress(state) as on_progress,
        fromstore.at_hand(backup, store, state.open_store, on_progress) as at_hand,
    ):
        found = people.users(state.open_site, at_hand.word, target, on_progress)
    with closing(found):
        _print(state, found)


def _print(state: State, found: People) -> None:
    if state.output is Output.json:
        rest = {
            "totals": dict(found.totals),
            "source": found.source,
            "same_site": found.same_site,
            "notes": list(found.notes),
        }
        streams.print_json("users", map(_record, found), rest)
        return
    if state.output is Output.csv:
        columns = ["id", "username", "email", "firstname", "lastname"]
        streams.print_csv(map(_record, found), [*columns, "outcome", "rule", "account"] if found.source else columns)
    else:
        columns = [*_COLUMNS, "outcome", "rule", "account"] if found.source else _COLUMNS
        streams.print_table(state, lambda: _rows(found), columns)
    _remarks(state, found)


def _record(one: Shown) -> dict[str, Any]:
    """One person as JSON and CSV have them."""
    row: dict[str, Any] = {
        "id": one.id,
        "username": one.username,
        "email": one.email,
        "firstname": one.firstname,
        "lastname": one.lastname,
    }
    if (fate := one.fate) is not None:
        there = fate.account_id is not None or fate.account_username is not None
        row["outcome"], row["rule"] = fate.outcome, fate.rule
        row["account"] = {"id": fate.account_id, "username": fate.account_username} if there else None
    return row


def _rows(found: People) -> Iterator[tuple[Any, ...]]:
    """Everybody as the table has them."""
    for one in found:
        row = (one.id, one.username, f"{one.firstname} {one.lastname}".strip(), one.email)
        if one.fate is None:
            yield row
        else:
            yield (*row, one.fate.outcome, one.fate.rule, _account(one.fate.account_id, one.fate.account_username))


def _account(id_: int | None, username: str | None) -> str | None:
    return username if id_ is None else f"{username} ({id_})"


def _remarks(state: State, found: People) -> None:
    totals = dict(found.totals)
    people = totals.pop("users")
    output.remark(state, f"{people} people are in it" if people else "Nobody is in it: it was made without users.")
    if found.source:
        whose = "the same site" if found.same_site else "another site"
        by = "the site itself" if found.source == "site" else "looking accounts up by web service"
        output.remark(state, f"made on {whose}; told by {by}")
        for fate, count in totals.items():
            if count:
                output.remark(state, f"  {count} {_WORDS[fate]}")
        if totals["conflict"]:
            output.warn(
                "restoring would be refused: map the accounts (restore --map OLD=NEW, --user-map FILE.csv), or leave "
                "people out (--on-user-conflict without-users)"
            )
    for note in found.notes:
        output.remark(state, f"note: {note}")
