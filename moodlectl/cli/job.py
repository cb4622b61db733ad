"""``moodlectl job``."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import course_record, state_of

if TYPE_CHECKING:
    from moodlectl.actions import resuming
    from moodlectl.site.port import Restored

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


@app.command("resume")
def resume(
    ctx: typer.Context,
    job: Annotated[int, typer.Argument(metavar="JOB")],
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what a course held, should the job have left it half done.")
    ] = False,
) -> None:
    """Find out what became of a job that was interrupted: wait for it, clear up after it, and put back if asked."""
    from moodlectl import ledger
    from moodlectl.actions import resuming
    from moodlectl.errors import Failed

    state = state_of(ctx)
    known = ledger.job(job)
    with closing(state.open_site(state.site_name or known.site)) as site:
        with output.progress(state) as on_progress:
            found = resuming.resume(site, known, on_progress)
        put_back = None
        if found.undo and (undo or _wants_undo(state, found)):
            with output.progress(state) as on_progress:
                put_back = resuming.put_back(site, found, on_progress)
    record = {
        "id": job,
        "state": found.state,
        "message": found.message,
        "course": course_record(found.restored.course) if found.restored is not None else None,
        "backup": found.file,
        "undone_by": put_back[2] if put_back is not None else None,
    }
    if put_back is not None:
        record["verified"] = {"ok": not put_back[1], "differences": list(put_back[1])}
    if found.state == "done":
        if state.output is Output.table:
            output.remark(state, f"job {job}: done. {found.message}")
        else:
            output.emit_one(state, record)
        return
    way_back = f"Put back what the course held before: moodlectl restore --undo {job}"
    raise Failed(
        f"Job {job} has failed: {found.message}" + _put_back_words(put_back),
        way_back if found.undo and put_back is None else None,
        code="job_failed",
        details={name: value for name, value in record.items() if name in ("undone_by", "verified") and value},
    )


def _wants_undo(state: State, found: resuming.Found) -> bool:
    """Whether to put back: asked where somebody is there; ``--yes`` says yes to every question."""
    if not state.yes and not sys.stdin.isatty():
        return False
    output.remark(state, f"job {found.job}: {found.message}")
    return state.yes or typer.confirm("Put back what the course held before?", err=True)


def _put_back_words(put_back: tuple[Restored, tuple[str, ...], int] | None) -> str:
    if put_back is None:
        return ""
    whole = "is as it was" if not put_back[1] else "is not all of it"
    return f" What the course held before was put back (job {put_back[2]}), and {whole}."
