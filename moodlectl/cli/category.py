"""``moodlectl category``."""

from __future__ import annotations

from contextlib import closing

import typer

from moodlectl.cli import output
from moodlectl.cli.words import state_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """All course categories, parents before children."""
    state = state_of(ctx)
    with closing(state.open_site()) as site:
        rows = [
            {
                "id": c.id,
                "path": " / ".join(c.path),
                "idnumber": c.idnumber,
                "visible": c.visible,
                "courses": c.courses,
                "name": c.name,
                "parent": c.parent,
            }
            for c in site.categories()
        ]
    output.emit(state, rows, ["id", "path", "idnumber", "visible", "courses"])
