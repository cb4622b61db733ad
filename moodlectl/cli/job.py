"""``moodlectl job``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import batch, output, plan
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import course_record, state_of, verified_record

if TYPE_CHECKING:
    from moodlectl.actions import protected, resuming
    from moodlectl.ledger import Item, Job
    from moodlectl.ledger_batch import Reader

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="JOB", min=1)]

LISTED = 50
"""So many items are in the table of one job unless ``--limit`` says otherwise."""


@app.command("list")
def list_(
    ctx: typer.Context,
    number: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many, the newest.")] = 50,
    on_site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Only on this site.")] = None,
    course: Annotated[
        str | None, typer.Option("--course", metavar="COURSE", help="Only of this course: short name, id or address.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only of this kind, such as restore, copy or delete.")
    ] = None,
    in_state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only in this state, such as failed or unknown.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only since YYYY-MM-DD, or so long ago: 12h, 7d, 4w.")
    ] = None,
) -> None:
    """What was done from this machine, by whom and how it ended, newest first."""
    from moodlectl import ledger
    from moodlectl.cli import job_words
    from moodlectl.cli.board import in_words
    from moodlectl.ledger_batch import Reader

    state = state_of(ctx)
    rows = []
    which = job_words.which(on_site, course, kind, in_state, since)
    for job in ledger.jobs(limit=number, which=which):
        reader = Reader(job.id)
        first, totals = next(reader.items(limit=1), None), reader.totals() if job.batch else None
        reader.close()
        rows.append(
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "site": job.site,
                "course": f"{sum(totals.values())} courses" if totals else first.course if first else "",
                "action": job.kind if totals else first.action if first else "",
                "created": job.created,
                "who": job.who,
                "message": (job.message or in_words(totals)) if totals else first.message if first else None,
            }
        )
        if totals is not None:
            rows[-1]["totals"] = totals
    columns = ["id", "kind", "action", "state", "site", "course", "created", "who", "message"]
    output.emit(state, rows, columns, spare=["action", "who", "created"])


@app.command("show")
def show(
    ctx: typer.Context,
    job: Number,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look on until the job has ended.")] = False,
    only: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only items in that state, such as failed or pending."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many items.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Every entry of the audit log, as it was written.")] = False,
) -> None:
    """One job: what was asked, what became of it, and what can be put back."""
    from moodlectl.cli import job_words, watching
    from moodlectl.errors import UsageError
    from moodlectl.ledger_batch import Reader

    state = state_of(ctx)
    if only is not None and only not in job_words.STATES:
        raise UsageError(f"'{only}' is no state of an item.", f"States are: {', '.join(job_words.STATES)}.")
    if log:
        job_words.print_log(state, job)
        return
    with closing(Reader(job)) as reader:
        if watch:
            watching.watch(state, reader)
        if state.output is not Output.table:
            job_words.print_record(state, reader, only, limit)
        else:
            _show_table(state, reader, only, limit or LISTED)


def _show_table(state: State, reader: Reader, only: str | None, limit: int) -> None:
    from moodlectl.cli import job_words

    totals = reader.totals()
    output.emit_one(state, {**job_words.head(reader), "totals": totals})
    sys.stdout.write("\n")
    if not job_words.print_table(state, reader, [only], limit):
        output.remark(state, f"no item is {only}" if only else "no item")
    group = "pending" if only in ("planned", "started") else only
    there = totals.get(group, 0) if group else sum(totals.values())
    if limit < there:
        output.remark(state, f"… and {there - limit} more; --limit shows more, --state failed those that failed")
    for item in reader.items(only, limit=limit):
        if item.facts.get("safety"):
            _tell_of_safety(state, reader.job, item)


def _tell_of_safety(state: State, job: Job, item: Item) -> None:
    from moodlectl.actions import safety

    for line in safety.told(f"{job.id}/{item.seq}" if job.batch else job.id, item.facts):
        output.remark(state, line)


@app.command("resume")
def resume(
    ctx: typer.Context,
    job: Number,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what a course held, should the job have left it half done.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry-failed", help="Try what has failed once more, from its start.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="The other machine, or container, that began it is gone for good.")
    ] = False,
    jobs: batch.Jobs = batch.Run.jobs,
    fail_fast: batch.FailFast = False,
    events: batch.Events = False,
) -> None:
    """Go on with a job that was interrupted: find out what became of it, clear up, do the rest, put back if asked."""
    from moodlectl import ledger

    state = state_of(ctx)
    known = ledger.job_head(job)
    if take_over and known.running:
        _disown(job)
        known = ledger.job_head(job)
    if known.batch:
        _resume_batch(state, known, batch.Run(jobs, fail_fast, events), retry=retry)
    else:
        _resume_single(state, ledger.job(job), undo=undo)


def _disown(job: int) -> None:
    from moodlectl.ledger import Ledger

    with closing(Ledger()) as book:
        book.disown(job)


def _resume_batch(state: State, known: Job, run: batch.Run, *, retry: bool) -> None:
    from moodlectl import ledger_batch
    from moodlectl.actions.recipes import recipe

    batch.check(state, run)
    made = recipe(known.kind, known.options)
    if not known.running and known.state in ledger_batch.FINISHED and not (retry and known.state == "failed"):
        batch.show_ended(state, known.id, run)
        return
    ledger_batch.adopt(known.id, retry=retry)
    try:
        batch.go(state, known.id, made, run)
    finally:
        if known.kind == "migrate":
            plan.account_for(state, known.id, known.options)


def _resume_single(state: State, known: Job, *, undo: bool) -> None:
    from moodlectl.actions import keeping, resuming
    from moodlectl.errors import Failed, Refused

    job = known.id
    if known.kind in keeping.KINDS:
        raise Refused(
            f"Job {job} ({known.kind}) was done in the store {known.url} alone; there is nothing to go on with.",
            "Do it once more. Whatever is left over goes with the next 'moodlectl store prune'.",
            code="no_resume",
        )
    with closing(state.open_site(state.site_name or known.site)) as site:
        with output.progress(state) as on_progress:
            found = resuming.resume(site, known, on_progress)
        put_back = None
        if found.undo and (undo or _wants_undo(state, found)):
            with output.progress(state) as on_progress:
                put_back = resuming.put_back(site, found, on_progress)
    course = found.restored.course if found.restored is not None else found.course
    record = {
        "id": job,
        "state": found.state,
        "message": found.message,
        "course": course_record(course) if course is not None else None,
        "backup": found.file,
        "undone_by": put_back.job if put_back is not None else None,
    }
    if put_back is not None:
        record["verified"] = verified_record(put_back.verified)
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


@app.command("cancel")
def cancel(ctx: typer.Context, job: Number) -> None:
    """Give a job up: begin nothing more of it, finish what was begun. A single deed at work is asked to stop."""
    from moodlectl.actions import cancelling

    state = state_of(ctx)
    told = cancelling.cancel(job)
    if state.output is not Output.table:
        output.emit_one(state, told.as_dict())
    output.remark(state, f"job {job}: {told.message}")


@app.command("report")
def report(
    ctx: typer.Context,
    job: Number,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page for people to read, in one file.")
    ] = None,
) -> None:
    """What became of a job, to be handed on: a summary here, or one self-contained page in a file."""
    from moodlectl.actions import reporting, reportpage
    from moodlectl.ledger_batch import Reader

    state = state_of(ctx)
    with closing(Reader(job)) as reader:
        summary = reporting.summary(reader)
        if html is not None:
            reportpage.write(reader, summary, html)
            output.remark(state, f"written: {html}")
            return
    _show_summary(state, summary.as_dict())


def _show_summary(state: State, told: dict[str, Any]) -> None:
    if state.output is not Output.table:
        output.emit_one(state, told)
        return
    lists = {name: told.pop(name) for name in ("slowest", "troubles", "differences")}
    told["bytes"] = output.size(told["bytes"])
    output.emit_one(state, told)
    differences = [
        {"course": course, "difference": one} for course, found in lists["differences"].items() for one in found
    ]
    for title, rows in (("troubles", lists["troubles"]), ("differences", differences), ("slowest", lists["slowest"])):
        if rows:
            sys.stdout.write(f"\n{title}\n")
            output.emit(state, rows[: batch.LISTED], spare=["code"])
        if len(rows) > batch.LISTED:
            output.remark(state, f"… and {len(rows) - batch.LISTED} more {title}; -o json has all of them")


def _wants_undo(state: State, found: resuming.Found) -> bool:
    """Whether to put back: asked where somebody is there; ``--yes`` says yes to every question."""
    if not state.yes and not sys.stdin.isatty():
        return False
    output.remark(state, f"job {found.job}: {found.message}")
    return state.yes or typer.confirm("Put back what the course held before?", err=True)


def _put_back_words(put_back: protected.Undone | None) -> str:
    if put_back is None:
        return ""
    whole = "is as it was" if not put_back.differences else "is not all of it"
    return f" What the course held before was put back (job {put_back.job}), and {whole}."
