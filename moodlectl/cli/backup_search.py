"""``moodlectl backup search``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output
from moodlectl.cli.words import Where, areas_of, course_record, file_record, state_of

if TYPE_CHECKING:
    from moodlectl.actions.searching import Found, Hit

COLUMNS = ["timecreated", "area", "item", "section", "people", "filename"]
SPARE = ["section", "area"]


def register(app: typer.Typer) -> None:
    """Hang the command on ``moodlectl backup``."""
    app.command("search")(search)


def search(
    ctx: typer.Context,
    course: Annotated[str, typer.Argument(metavar="COURSE")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of the title of an activity or section.")],
    area: Annotated[Where, typer.Option("--area", help="Where to look.")] = Where.all,
    as_user: Annotated[
        str | None, typer.Option("--as", metavar="USERNAME", help="Whose private area to look into.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Bring those down that cannot be read where they lie.")
    ] = False,
) -> None:
    """In which backups of a course an item still lives, newest first, and the command that brings it back."""
    from moodlectl.actions import searching
    from moodlectl.actions.naming import stored_word
    from moodlectl.errors import NotFound

    state = state_of(ctx)
    with closing(state.open_site()) as site, output.progress(state) as on_progress:
        query = searching.Query(text, areas_of(area), as_user, download)
        found = searching.run(site, course, query, on_progress)
    unread = [f"{stored_word(one.file)}: {one.why}" for one in found.unread]
    if not found.hits:
        raise NotFound(
            f"'{text}' is in no title in the {found.looked} backups of {found.course.shortname} that were looked into.",
            f"{len(unread)} could not be read: {'; '.join(unread[:5])}"
            if unread
            else "A part of a title is enough; 'moodlectl backup list' shows the backups.",
            code="item_not_found",
            details={"looked": found.looked, "unread": unread, "notes": list(found.notes)},
        )
    if state.output is Output.json:
        output.print_json(_record(found))
    else:
        output.emit(state, [_row(one) for one in found.hits], COLUMNS, spare=SPARE)
    for line in unread:
        output.warn(f"not looked into: {line}")
    for note in found.notes:
        output.remark(state, f"note: {note}")
    output.remark(state, f"bring it back: {found.command}")


def _row(hit: Hit) -> dict[str, Any]:
    return {
        "timecreated": hit.file.timecreated,
        "area": hit.file.area,
        "item": hit.word,
        "section": hit.section,
        "people": hit.userdata,
        "filename": hit.file.filename,
    }


def _record(found: Found) -> dict[str, Any]:
    from moodlectl.actions.searching import bring_back

    return {
        "course": course_record(found.course),
        "text": found.text,
        "looked": found.looked,
        "found": [
            {
                "backup": file_record(one.file),
                "item": one.word,
                "module": one.module or None,
                "id": one.id,
                "title": one.title,
                "section": one.section or None,
                "userdata": one.userdata,
                "command": bring_back(found.course, one),
            }
            for one in found.hits
        ],
        "unread": [{"backup": file_record(one.file), "why": one.why} for one in found.unread],
        "notes": list(found.notes),
        "command": found.command,
    }
