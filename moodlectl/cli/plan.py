"""``moodlectl rollover`` and ``moodlectl migrate``: many courses from one plan."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import batch, output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import Quietly, parse_rate, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moodlectl.actions import previews
    from moodlectl.actions.planning import Resolution, Resolved
    from moodlectl.actions.steps import Recipe
    from moodlectl.plans import Kind, Plan, Problem
    from moodlectl.site.port import Site

Whole = Annotated[
    bool, typer.Option("--whole-backups", help="Pack every course's files into its backup, as Moodle does.")
]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A .toml or .csv file.")]


def register(app: typer.Typer) -> None:
    """Hang the commands on the program."""
    app.command("rollover")(rollover)
    app.command("migrate")(migrate)


def rollover(
    ctx: typer.Context,
    plan: PlanFile,
    dry_run: Quietly = False,
    whole: Whole = False,
    jobs: batch.Jobs = 4,
    fail_fast: batch.FailFast = False,
    events: batch.Events = False,
) -> None:
    """Make this year's courses from last year's, as a plan says. Run again, it does only what is not done yet."""
    from moodlectl.actions import rollover as action

    state = state_of(ctx)
    run = batch.Run(jobs, fail_fast, events)
    batch.check(state, run)
    name = state.site_config().name
    read = _read(state, plan, "rollover")
    options: dict[str, Any] = {"plan": str(plan.absolute()), "plan_sha1": read.sha1, "site": name}
    options["guards"] = dict(state.site_config().guards)
    recipe = action.Rollover(options)
    if not dry_run and batch.goes_on(state, recipe, options, key=_key(recipe, options), run=run):
        return
    with closing(state.open_site(name)) as site:
        with output.progress(state) as on_progress:
            found = action.plan(read, site, date.today(), on_progress, lean=not whole)
        if dry_run:
            _preview(state, read, found, (site, site), run, _unfinished(recipe, options))
            return
        _run(state, recipe, found, options, replace(run, sites={name: site}))


def migrate(
    ctx: typer.Context,
    plan: PlanFile,
    from_site: Annotated[str, typer.Option("--from", metavar="SITE", help="The site the courses are on.")],
    to_site: Annotated[str, typer.Option("--to", metavar="SITE", help="The site they go to.")],
    dry_run: Quietly = False,
    addresses: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write old addresses and new ones, for redirects.")
    ] = None,
    seed_only: Annotated[
        bool, typer.Option("--seed-only", help="Only send the contents of the courses' files ahead.")
    ] = False,
    limit_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes a second for contents of files, such as 500K or 2M.")
    ] = None,
    whole: Whole = False,
    jobs: batch.Jobs = 4,
    fail_fast: batch.FailFast = False,
    events: batch.Events = False,
) -> None:
    """Move courses from one site to another, as a plan says. Run again, it takes only what has changed since."""
    from moodlectl.actions import migrate as action
    from moodlectl.actions import seeding
    from moodlectl.errors import UsageError

    state = state_of(ctx)
    run = batch.Run(jobs, fail_fast, events)
    batch.check(state, run)
    source_name, target_name = state.site_config(from_site).name, state.site_config(to_site).name
    if whole and (seed_only or limit_rate is not None):
        raise UsageError("With --whole-backups no contents travel alone: leave out --seed-only and --limit-rate.")
    if addresses is not None:
        action.check_writable(addresses)
    read = _read(state, plan, "migrate")
    options: dict[str, Any] = {"plan": str(plan.absolute()), "plan_sha1": read.sha1}
    options |= {"from": source_name, "to": target_name}
    options["guards"] = dict(state.site_config(to_site).guards)
    if limit_rate is not None:
        options["limit_rate"] = parse_rate(limit_rate)
    if addresses is not None:
        options["addresses"] = str(addresses.absolute())
    recipe: Recipe = seeding.Seed(options) if seed_only else action.Migrate(options)
    with closing(state.open_site(source_name)) as source, closing(state.open_site(target_name)) as target:
        run = replace(run, sites={source_name: source, target_name: target})
        at, to = (info.identifier_hash or info.url for info in (source.info(), target.info()))
        moved = True
        try:
            if not dry_run and batch.goes_on(state, recipe, options, key=_key(recipe, options), run=run):
                return
            with output.progress(state) as on_progress:
                found = action.plan(read, source, target, date.today(), on_progress, lean=not whole)
            if dry_run:
                _preview(state, read, found, (source, target), run, _unfinished(recipe, options))
                return
            if seed_only:
                _seed(state, recipe, found, options, run)
                return
            moved = _run(state, recipe, found, options, run)
        finally:
            if not (dry_run or seed_only):
                _account(state, (at, to), addresses, moved=moved)


def account_for(state: State, job: int, options: Mapping[str, Any]) -> None:
    """What a migration tells at its end, for one that was gone on with from its record."""
    from moodlectl.actions import migrate as action

    sides = action.sides(job)
    if sides is not None:
        said = options.get("addresses")
        _account(state, sides, Path(said) if said else None, moved=True)


def _read(state: State, path: Path, kind: Kind) -> Plan:
    from moodlectl import plans

    read = plans.read_plan(path, kind)
    for note in read.notes:
        output.warn(note)
    return replace(read, notes=())


def _key(recipe: Recipe, options: Mapping[str, Any]) -> str:
    """What must not run twice at once: this plan, on these sites."""
    return " ".join([recipe.kind, str(options["plan"]), *recipe.sites])


def _unfinished(recipe: Recipe, options: Mapping[str, Any]) -> int | None:
    from moodlectl import ledger_batch

    left = ledger_batch.unfinished(_key(recipe, options))
    return left.id if left is not None else None


def _refuse(state: State, name: str, problems: Sequence[Problem]) -> None:
    """Print every problem with its line and column, and refuse."""
    from moodlectl import plans
    from moodlectl.errors import Refused

    try:
        plans.refuse(name, problems)
    except Refused as refused:
        if state.output is not Output.json:
            hints = set[str]()
            for one in refused.details.pop("problems"):
                place = f"line {one['line']}" if one["line"] else name
                column = f", {one['column']}" if one["column"] else ""
                hint = f" {one['hint']}" if one["hint"] and one["hint"] not in hints else ""
                hints |= {hint.strip()}
                stop = "" if one["message"].endswith("?") else "."
                output.tell(output.plain(f"{place}{column}: {one['message']}{stop}{hint}") + "\n")
        raise


def _run(
    state: State, recipe: Recipe, found: Resolution, options: Mapping[str, Any], run: batch.Run
) -> bool:
    """Refuse a plan with problems; say where nothing is to be done; else carry it out. Whether there was anything."""
    _refuse(state, Path(options["plan"]).name, found.problems)
    for note in found.notes:
        output.warn(note)
    output.warn_all([f"{one.shortname}: {one.message}" for one in found.courses if one.wanting])
    if not found.todo:
        _nothing_to_do(state, recipe.kind, found, run)
        return False
    planned = [one.planned() for one in found.courses]
    batch.drive(state, recipe, planned, options, key=_key(recipe, options), run=run)
    return True


def _seed(
    state: State, recipe: Recipe, found: Resolution, options: Mapping[str, Any], run: batch.Run
) -> None:
    """Send the contents of a plan's courses ahead. Raises Refused where contents cannot travel by themselves."""
    from moodlectl.actions import seeding
    from moodlectl.errors import Refused

    _refuse(state, Path(options["plan"]).name, found.problems)
    if found.todo and not any(one.spec.lean for one in found.todo):
        why = " ".join(found.notes) or "The courses of the plan say themselves what becomes of their files."
        raise Refused("Nothing can be sent ahead.", why, code="cannot_seed")
    planned = seeding.planned(found)
    if not planned:
        _nothing_to_do(state, recipe.kind, found, run)
        return
    batch.drive(state, recipe, planned, options, key=_key(recipe, options), run=run)


def _nothing_to_do(state: State, kind: str, found: Resolution, run: batch.Run) -> None:
    rows = [_row(one) for one in found.courses]
    totals = {"done": 0, "failed": 0, "skipped": len(rows), "unknown": 0, "pending": 0}
    if run.events:
        from moodlectl.actions.events import Event
        from moodlectl.cli import listening

        for row in rows:
            listening.stream(Event("item", "skipped", course=row["course"], message=row["message"] or ""))
        listening.stream(Event("job", "done", message="nothing is to be done", totals=totals))
    elif state.output is Output.json:
        items = [{**row, "state": "skipped"} for row in rows]
        output.print_json({"id": None, "kind": kind, "state": "done", "items": items, "totals": totals})
    elif rows:
        output.emit(state, rows, ["course", "source", "target", "message"], spare=["source", "target"])
    output.remark(state, f"Nothing is to be done: all {len(rows)} courses are there. Nothing was changed.")


def _row(one: Resolved) -> dict[str, Any]:
    return {
        "course": one.shortname,
        "action": one.action if one.state == "todo" else "none",
        "source": str(one.source),
        "target": one.where,
        "message": one.message,
        "line": one.row.line,
    }


def _preview(
    state: State, plan: Plan, found: Resolution, sides: tuple[Site, Site], run: batch.Run, left: int | None
) -> None:
    """What would be done, course by course, then every problem."""
    from moodlectl.actions import previews

    guards = state.site_config(sides[1].name).guards
    with output.progress(state) as on_progress:
        told = previews.forecast(found, sides, run.jobs, guards, on_progress)
    rows = [_preview_row(preview) for preview in told.previews]
    totals = {
        "courses": len(found.courses),
        "todo": len(found.todo),
        "bytes": told.bytes,
        "seconds": round(told.seconds),
        "seconds_are": "measured in earlier runs" if told.measured else "a rough guess",
        "free_here": told.free_here,
        "free_there": told.free_there,
        "needs_there": told.needs_there,
        "bytes_missing": told.missing,
    }
    if state.output is Output.json:
        output.print_json({"courses": rows, "totals": totals, "notes": list(found.notes)})
    else:
        columns = ["course", "action", "source", "target", "start", "people", "size", "message", "findings"]
        if state.output is Output.csv or rows:
            rows = [{**row, "findings": _shown(row["findings"])} for row in rows]
            output.emit(state, rows, columns, spare=["people", "start", "source", "message"])
        if state.output is Output.table and rows:
            sys.stdout.write("\n" + _summary(totals))
    for note in found.notes:
        output.warn(note)
    _tell_of_refusals(told)
    if left is not None:
        output.warn(f"job {left} of this plan was not finished: it comes first, as it was asked for")
    if told.free_there is not None and told.needs_there > told.free_there:
        output.warn(f"{sides[1].name} has not room enough for all of it; the job would rest when it is full.")
    _refuse(state, plan.path.name, found.problems)
    output.remark(state, "Nothing was changed.")


def _tell_of_refusals(told: previews.Forecast) -> None:
    """Say how many courses would be refused as it is: a plan can be right, and its courses not fit the site."""
    refused = [
        preview.one.shortname
        for preview in told.previews
        if any(found.stops(preview.one.spec.allow) for found in preview.findings)
    ]
    if refused:
        count = "one course" if len(refused) == 1 else f"{len(refused)} courses"
        more = " …" if len(refused) > 5 else ""
        output.warn(f"{count} would be refused as it is: {', '.join(refused[:5])}{more}")


def _preview_row(preview: previews.Preview) -> dict[str, Any]:
    one = preview.one
    looks = one.spec.looks
    made = looks.place is not None and looks.place.id is None
    row = {**_row(one), "target": f"{one.where} (to be made)" if made and one.state == "todo" else one.where}
    return {
        **row,
        "fullname": looks.fullname,
        "idnumber": looks.idnumber,
        "start": looks.startdate,
        "end": looks.enddate,
        "visible": looks.visible,
        "people": preview.people,
        "activities": preview.activities,
        "size": preview.bytes,
        "bytes_missing": preview.missing,
        "seconds": preview.seconds,
        "steps": list(one.spec.steps) if one.state == "todo" else [],
        "old": _old(one),
        "findings": [found.as_dict(one.spec.allow) for found in preview.findings],
        "looked_at": preview.looked_at or None,
    }


def _shown(findings: list[dict[str, Any]]) -> list[str]:
    """A finding as a cell of the table, with its remedy where it stands against the restore."""
    told = []
    for one in findings:
        severity = f"{one['severity']}, allowed" if one["accepted"] else one["severity"]
        stops = one["severity"] in ("forbidden", "danger") and not one["accepted"]
        if one["severity"] != "note":
            told.append(f"{severity}: {one['message']}" + (f" {one['remedy']}" if stops and one["remedy"] else ""))
    return told


def _old(one: Resolved) -> dict[str, Any] | None:
    if one.spec.old is None or one.state != "todo":
        return None
    names = ("fullname", "shortname", "idnumber", "visible", "enrolments")
    said = {name: getattr(one.spec.old, name) for name in names}
    place = one.spec.old.place
    return {**{k: v for k, v in said.items() if v is not None}, **({"category": str(place)} if place else {})}


def _summary(totals: Mapping[str, Any]) -> str:
    seconds = totals["seconds"]
    minutes, hours = f"{seconds / 60:.0f} min", f"{seconds / 3600:.1f} h"
    time = f"{seconds} s" if seconds < 120 else minutes if seconds < 7200 else hours
    free = f", {output.size(totals['free_here'])} free on this machine" if totals["free_here"] is not None else ""
    if totals["free_there"] is not None:
        needs = output.size(totals["needs_there"])
        free += f", {output.size(totals['free_there'])} free on the site (about {needs} needed)"
    missing = totals["bytes_missing"]
    lacks = f" ({output.size(missing)} of them missing on the target)" if missing is not None else ""
    return (
        f"{totals['todo']} of {totals['courses']} courses, {output.size(totals['bytes'])} of files{lacks}, "
        f"about {time} ({totals['seconds_are']}){free}\n"
    )


def _account(state: State, sides: tuple[str, str], addresses: Path | None, *, moved: bool) -> None:
    """Links that lead to the old site, methods the new one has not (told when they are news), the file of addresses."""
    from moodlectl.actions import migrate as action

    told = action.account(*sides)
    if not told.addresses:
        return
    if moved and told.links:
        total = sum(told.links.values())
        worst = sorted(told.links.items(), key=lambda one: -one[1])[:5]
        shown = ", ".join(f"{name} {count}" for name, count in worst)
        links = "1 link leads" if total == 1 else f"{total} links in {len(told.links)} courses lead"
        output.warn(f"{links} to the old site: {shown}")
    for name, count in told.methods.items() if moved else ():
        have = "One course has" if count == 1 else f"{count} courses have"
        output.warn(f"{have} an enrolment method that the new site has not: {name}")
    if addresses is not None:
        action.write_addresses(addresses, told.addresses)
        output.remark(state, f"{len(told.addresses)} old addresses with their new ones: {addresses}")
