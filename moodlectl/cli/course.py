"""``moodlectl course``."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from moodlectl.cli import compare, output
from moodlectl.cli.state import Output
from moodlectl.cli.words import course_record, course_row, state_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
compare.register(app)


@app.command("list")
def list_(
    ctx: typer.Context,
    category: Annotated[
        str | None, typer.Option("--category", metavar="CATEGORY", help="Only in this category and below it.")
    ] = None,
    search: Annotated[str | None, typer.Option("--search", metavar="TEXT", help="Only where this is found.")] = None,
) -> None:
    """The site's courses."""
    from moodlectl.actions import naming

    state = state_of(ctx)
    with closing(state.open_site()) as site:
        category_id = naming.find_category(site, category).id if category is not None else None
        courses = site.courses(category_id=category_id, search=search)
    if state.output is Output.json:
        output.print_json([course_record(c) for c in courses])
        return
    columns = ["id", "shortname", "fullname", "idnumber", "category", "startdate", "visible"]
    spare = ["startdate", "visible", "idnumber", "category"]
    output.emit(state, [course_row(c) for c in courses], columns, spare=spare)


@app.command("show")
def show(ctx: typer.Context, course: Annotated[str, typer.Argument(metavar="COURSE")]) -> None:
    """Sections, activities, and how many backups lie in each area."""
    from moodlectl.actions import courses

    state = state_of(ctx)
    with closing(state.open_site()) as site:
        shown = courses.show(site, course)
    if state.output is Output.json:
        sections = [
            {
                "id": s.id,
                "number": s.number,
                "name": s.name,
                "visible": s.visible,
                "parent_activity": s.parent_activity,
                "activities": [
                    {"id": a.id, "module": a.module, "name": a.name, "visible": a.visible} for a in s.activities
                ],
            }
            for s in shown.sections
        ]
        output.print_json(
            {
                **course_record(shown.course),
                "sections": sections,
                "backups": dict(shown.backups),
                "notes": list(shown.notes),
            }
        )
        return
    rows = [
        {"section": s.number, "section_name": s.name, "cmid": a.id if a else None,
         "type": a.module if a else None, "activity": a.name if a else None, "visible": a.visible if a else s.visible}
        for s in shown.sections
        for a in (s.activities or (None,))
    ]
    if state.output is Output.table:
        output.emit_one(
            state,
            {**course_row(shown.course), "backups": ", ".join(f"{n} {area}" for area, n in shown.backups.items())},
        )
        sys.stdout.write("\n")
    output.emit(state, rows, spare=["visible", "section_name"])
    for note in shown.notes:
        output.remark(state, f"note: {note}")
