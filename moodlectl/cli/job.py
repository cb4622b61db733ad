"""``moodlectl job``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output
from moodlectl.cli.words import state_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    ctx: typer.Context,
    number: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """What was done from this machine, newest first."""
    from moodlectl import ledger

    state = state_of(ctx)
    rows = []
    for listed in ledger.jobs(limit=number):
        job = ledger.job(listed.id)
        first = job.items[0] if job.items else None
        rows.append(
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "site": job.site,
                "course": first.course if first else "",
                "action": first.action if first else "",
                "created": job.created,
                "who": job.who,
                "message": first.message if first else None,
            }
        )
    output.emit(state, rows, ["id", "kind", "action", "state", "site", "course", "created", "message"])


@app.command("show")
def show(ctx: typer.Context, job: Annotated[int, typer.Argument(metavar="JOB")]) -> None:
    """One job: what was asked, what became of it, and what can be put back."""
    from moodlectl import ledger

    state = state_of(ctx)
    found = ledger.job(job)
    record: dict[str, Any] = {
        "id": found.id,
        "kind": found.kind,
        "state": found.state,
        "site": found.site,
        "url": found.url,
        "created": found.created,
        "ended": found.ended,
        "who": found.who,
        "options": {name: value for name, value in found.options.items() if value not in (None, [], {}, False)},
        "items": [
            {
                "course": item.course,
                "action": item.action,
                "state": item.state,
                "attempts": item.attempts,
                "source": item.source,
                "target": item.target,
                "started": item.started,
                "ended": item.ended,
                "message": item.message,
                "facts": dict(item.facts),
            }
            for item in found.items
        ],
        "totals": found.totals(),
    }
    if state.output is not Output.table:
        output.emit_one(state, record)
        return
    items = record.pop("items")
    output.emit_one(state, record)
    sys.stdout.write("\n")
    output.emit(state, items, ["course", "action", "state", "source", "target", "started", "ended", "message"])
    for item in items:
        if item["facts"].get("safety"):
            output.remark(state, f"safety backup: {item['facts']['safety']}")
            output.remark(state, f"put it back:   moodlectl restore --undo {found.id}")
