"""``moodlectl store``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import Quietly, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moodlectl.actions.keeping import Pruning
    from moodlectl.store import Store
    from moodlectl.store.adding import Added
    from moodlectl.store.checking import Checked

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Where = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="PLACE", help="A folder, or an address such as s3://bucket/prefix, instead of the usual one."
    ),
]
ENTRY = "Its id, COURSE for the newest, or COURSE@YYYY-MM-DD."


def _open(state: State, where: str | None, *, create: bool = False) -> Store:
    return state.open_store(where, create=create)


@app.command("add")
def add(
    ctx: typer.Context,
    backups: Annotated[list[str], typer.Argument(metavar="BACKUP…", help="Files, or COURSE@AREA[/FILENAME].")],
    store: Where = None,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="DANGER", help="not-whole: keep what is left of a broken backup.")
    ] = [],
) -> None:
    """Keep backups in the store; of one that lies on a site only what lacks here is brought."""
    from moodlectl.actions import storing
    from moodlectl.cli.tried import Tried

    state = state_of(ctx)
    into = _open(state, store, create=True)
    done: list[Added] = []
    tried = Tried("backups")
    with output.progress(state) as on_progress:
        for word in backups:
            with tried.one(word, of=len(backups)):
                done.append(storing.add(into, word, state.open_site, allow, on_progress))
    _print_added(state, done)
    tried.tell()


def _print_added(state: State, done: Sequence[Added]) -> None:
    from moodlectl.store import entries

    if state.output is not Output.table:
        output.emit(state, [{**entries.record(one.entry), "new": one.new} for one in done])
        return
    for one in done:
        entry = one.entry
        sys.stdout.write(f"store:{entry.id[:10]}\n")
        came = f"{output.size(entry.came)} came new" if one.new else "was there already"
        output.remark(state, f"{entry.shortname}: {entry.filename}, {output.size(entry.size)}, {came}")
        if entry.holes and one.new:
            output.warn(f"{entry.filename} lacks the contents of some of its files ({len(entry.holes)})")


@app.command("list")
def list_(
    ctx: typer.Context,
    course: Annotated[
        str | None, typer.Argument(metavar="COURSE", help="Only of this course: short name or id:42.")
    ] = None,
    store: Where = None,
) -> None:
    """The backups in the store, newest first, what they would be as files, and what they really take."""
    from moodlectl.actions import keeping
    from moodlectl.store import entries, is_of

    state = state_of(ctx)
    of = _open(state, store)
    found, broken = of.look()
    shown = [one for one in found if course is None or is_of(one, course)]
    rows = [entries.record(one) for one in shown]
    if state.output is Output.table:
        rows = [{**row, "id": one.id[:10], "course": one.shortname} for row, one in zip(rows, shown, strict=True)]
        rows = [{**row, "size": row["size"], "came": output.size(row["came"])} for row in rows]
    output.emit(
        state, rows, ["id", "course", "date", "has_users", "size", "came", "filename"], spare=["has_users", "came"]
    )
    if state.output is Output.table:
        apparent = output.size(sum(one.size for one in shown))
        whole = f"{output.size(keeping.used(of))} in {of.address}"
        rest = whole if course is None else f"of {len(found)} in {of.address}"
        output.remark(state, f"{len(shown)} backups, {apparent} as files, {rest}")
    for failed in broken:
        output.warn(failed.message)


@app.command("show")
def show(
    ctx: typer.Context,
    entry: Annotated[str | None, typer.Argument(metavar="ENTRY", help=ENTRY)] = None,
    store: Where = None,
) -> None:
    """One backup: what it holds, what it needs, and what only it needs; without ENTRY the store as a whole."""
    from moodlectl.actions import keeping
    from moodlectl.cli import manifests
    from moodlectl.store import entries

    state = state_of(ctx)
    of = _open(state, store)
    if entry is None:
        output.emit_one(state, _whole_record(of))
        return
    shown = keeping.show(of, of.find(entry))
    record = entries.record(shown.entry)
    if state.output is Output.table:
        alone = "not known, another entry is damaged" if shown.alone is None else output.size(shown.alone)
        output.emit_one(state, {**_flat(record), "only_it_needs": alone})
        manifests.items(state, shown.manifest)
    else:
        output.emit_one(state, {**record, "alone": shown.alone, "manifest": shown.manifest.as_dict()})


def _whole_record(of: Store) -> dict[str, Any]:
    from moodlectl.actions import keeping

    found, broken = of.look()
    return {
        "store": of.address,
        "backups": len(found),
        "courses": len({(one.site_hash or one.site_url, one.course_id) for one in found}),
        "damaged": len(broken),
        "size": sum(one.size for one in found),
        "used": keeping.used(of),
        "oldest": min((one.when for one in found), default=None),
        "newest": max((one.when for one in found), default=None),
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A backup's record as lines for people."""
    course, site, contents = record["course"], record["site"], record["contents"]
    return {
        **record,
        "course": f"{course['fullname']} ({course['shortname']}, id:{course['id']})",
        "site": site["url"],
        "size": output.size(record["size"]),
        "came": output.size(record["came"]),
        "xml": output.size(record["xml"]),
        "contents": f"{contents['count']}, {output.size(contents['bytes'])}",
    }


@app.command("verify")
def verify(
    ctx: typer.Context,
    store: Where = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take damaged contents away, so that the next backup brings good ones; mend lists and entries.",
        ),
    ] = False,
) -> None:
    """Is every backup whole: every content re-hashed, every archive read, every hole named."""
    from moodlectl.errors import Failed
    from moodlectl.store import checking

    state = state_of(ctx)
    of = _open(state, store)
    with output.progress(state) as on_progress:
        found = checking.check(of, on_progress, repair=repair)
    _print_checked(state, of, found)
    if not found.ok:
        count = len(found.holes) + found.more_holes + len(found.problems)
        raise Failed(
            f"The store {of.address} is not whole: {count} things are wrong.",
            "Back those courses up again, or add a backup that still has those files: what is damaged is made good by "
            "the next backup that brings it, after 'moodlectl store verify --repair'.",
            code="not_whole",
            details={"holes": len(found.holes) + found.more_holes, "problems": len(found.problems)},
        )


def _print_checked(state: State, of: Store, found: Checked) -> None:
    if state.output is not Output.table:
        record = {
            "store": of.address,
            "ok": found.ok,
            "backups": found.backups,
            "contents_checked": found.contents,
            "bytes_checked": found.bytes,
            "holes": [one.as_dict() for one in found.holes],
            "more_holes": found.more_holes,
            "problems": found.problems,
            "repaired": found.repaired,
            "unclaimed": {"count": found.unclaimed, "bytes": found.unclaimed_bytes},
        }
        output.emit_one(state, record)
        return
    told = "ok" if found.ok else "NOT WHOLE"
    sys.stdout.write(
        f"{output.plain(of.address)}: {told}, {found.backups} backups, {found.contents} contents, "
        f"{output.size(found.bytes)}\n"
    )
    for line in [*map(str, found.holes), *found.problems, *found.repaired]:
        sys.stdout.write(f"  {output.plain(output.indented(line))}\n")
    if found.more_holes:
        sys.stdout.write(f"  … and {found.more_holes} more\n")
    if found.unclaimed:
        size = output.size(found.unclaimed_bytes)
        output.remark(state, f"{found.unclaimed} contents, {size}, belong to no backup; 'store prune' takes them away")


@app.command("export")
def export(
    ctx: typer.Context,
    entry: Annotated[list[str], typer.Argument(metavar="ENTRY…", help=ENTRY)],
    directory: Annotated[Path, typer.Option("-d", "--directory", metavar="DIR", help="Into this folder.")] = Path(),
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Into this file; for one backup.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    store: Where = None,
) -> None:
    """Give backups back as ordinary .mbz files, which any Moodle restores; each is verified to its last byte."""
    from moodlectl.actions import files, keeping
    from moodlectl.cli.tried import Tried
    from moodlectl.errors import UsageError
    from moodlectl.store import entries

    state = state_of(ctx)
    if file is not None and len(entry) > 1:
        raise UsageError("--file is for one backup.", "Name a folder for several: -d DIR")
    of = _open(state, store)
    chosen = [of.find(word) for word in entry]
    if file is None:
        files.prepare_folder(directory)
    tried = Tried("backups")
    with output.progress(state) as on_progress:
        for one in chosen:
            with tried.one(one.id[:10], of=len(chosen)) as told:
                done = keeping.export(of, one, file or directory, overwrite=overwrite, on_progress=on_progress)
                facts = {"path": str(done.path), "sha1": done.report.sha1, "size": done.path.stat().st_size}
                told({**entries.record(one), **facts, "verified": done.report.ok})
    if state.output is not Output.table:
        output.emit(state, tried.rows)
    else:
        _print_exported(state, tried.rows)
    tried.tell()


def _print_exported(state: State, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        sys.stdout.write(f"{output.plain(row['path'])}\n")
        output.remark(state, f"{output.size(row['size'])}, sha1 {row['sha1']}, verified")
        if row["holes"]:
            output.warn(f"it lacked the contents of some of its files when it came ({len(row['holes'])})")


@app.command("prune")
def prune(
    ctx: typer.Context,
    last: Annotated[
        int, typer.Option("--keep-last", metavar="N", min=0, help="Of each course the newest so many.")
    ] = 2,
    within: Annotated[
        str,
        typer.Option(
            "--keep-within", metavar="TIME", help="And all made within that time of its newest: 1y, 6m, 2w, 30d."
        ),
    ] = "1y",
    store: Where = None,
    dry_run: Quietly = False,
) -> None:
    """Take old backups away, and the contents that no other needs. Shows which, and asks first."""
    from moodlectl.actions import keeping
    from moodlectl.store.pruning import Keep, parse_span

    state = state_of(ctx)
    keep = Keep(last, parse_span(within))
    keep.check()
    of = _open(state, store)
    _take_away(state, of, keeping.plan_pruning(of, keep), dry_run=dry_run)


@app.command("remove")
def remove(
    ctx: typer.Context,
    entry: Annotated[list[str], typer.Argument(metavar="ENTRY…", help=ENTRY)],
    store: Where = None,
    dry_run: Quietly = False,
) -> None:
    """Take these backups away, whatever their age, and the contents that no other needs. Asks first."""
    from moodlectl.actions import keeping

    state = state_of(ctx)
    of = _open(state, store)
    _take_away(state, of, keeping.plan_removal(of, entry), dry_run=dry_run)


def _take_away(state: State, of: Store, plan: Pruning, *, dry_run: bool) -> None:
    from moodlectl.actions import keeping

    _print_plan(state, plan, dry_run=dry_run)
    if dry_run:
        output.remark(state, "Nothing was changed.")
        return
    if plan.going:
        output.confirm(state, f"Take {_in_words(plan)} out of {of.address}?", refusal="Nothing was taken away")
    with output.progress(state) as on_progress:
        freed = keeping.prune(of, plan, on_progress)
    if state.output is not Output.table:
        output.emit_one(state, {**_plan_record(plan), "removed": freed.backups, "freed": freed.bytes})
    else:
        output.remark(state, f"{freed.backups} backups taken away, {output.size(freed.bytes)} freed")


def _print_plan(state: State, plan: Pruning, *, dry_run: bool) -> None:
    if state.output is not Output.table:
        if dry_run:
            output.emit_one(state, {**_plan_record(plan), "removed": 0, "freed": 0})
        return
    rows = [
        {
            "id": one.entry.id[:10],
            "course": one.entry.shortname,
            "date": one.entry.when,
            "size": one.entry.size,
            "verdict": ", ".join(one.reasons) if one.reasons else "GOES",
        }
        for one in plan.judged
    ]
    output.emit(state, rows, ["verdict", "id", "course", "date", "size"])
    output.remark(state, f"{_in_words(plan)} would go; {len(plan.judged) - len(plan.going)} stay")


def _in_words(plan: Pruning) -> str:
    number = "1 backup" if len(plan.going) == 1 else f"{len(plan.going)} backups"
    return f"{number} ({output.size(plan.freed.bytes)} that nothing else needs)"


def _plan_record(plan: Pruning) -> dict[str, Any]:
    from moodlectl.store import entries

    return {
        "backups": [
            {**entries.record(one.entry), "keep": bool(one.reasons), "reasons": list(one.reasons)}
            for one in plan.judged
        ],
        "would_remove": len(plan.going),
        "would_free": plan.freed.bytes,
    }
