"""``moodlectl backup``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import backup_search, backup_users, output, rewrite
from moodlectl.cli.state import Output, State
from moodlectl.cli.tried import Tried
from moodlectl.cli.words import (
    BACKUP,
    As,
    InStore,
    NoUserdata,
    Only,
    Quietly,
    Skip,
    Where,
    With,
    Without,
    areas_of,
    file_record,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moodlectl.actions import backup as action
    from moodlectl.site.port import Setting, Site

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
rewrite.register(app)
backup_users.register(app)
backup_search.register(app)


FILE_COLUMNS = ["area", "filename", "size", "timecreated", "has_users", "sha1"]
FILE_SPARE = ["sha1", "has_users", "timecreated", "size"]


@app.command("create")
def create(
    ctx: typer.Context,
    courses: Annotated[list[str], typer.Argument(metavar="COURSE…", help="Id, short name, idnumber:X or address.")],
    with_: With = [],
    without: Without = [],
    anonymize: Annotated[bool, typer.Option("--anonymize", help="Make the people in it nobody.")] = False,
    only: Only = [],
    skip: Skip = [],
    no_userdata: NoUserdata = [],
    download: Annotated[
        str | None,
        typer.Option(
            "--download",
            metavar="DIR",
            help="Bring the backup down into this folder, or into a store: 'store:' is yours, 'store:PLACE' another.",
        ),
    ] = None,
    remove_remote: Annotated[
        bool, typer.Option("--remove-remote", help="Leave nothing on the site once it is down and checked.")
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave it to the site's cron; 'job resume' waits for it.")
    ] = False,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="DANGER", help="not-whole: into a store what is left of lost files.")
    ] = [],
    as_user: As = None,
    dry_run: Quietly = False,
) -> None:
    """Back courses up, as Moodle's "jump to final step" does, or with the settings and items you name."""
    from moodlectl.actions import backup as action
    from moodlectl.actions import naming, storing

    state = state_of(ctx)
    store = storing.place_meant(download, state.store) if download is not None else None
    settings = naming.settings_from(with_, without)
    if anonymize:
        settings = {"users": True, **settings, "anonymize": True}
    wanted = action.Wanted(
        settings=settings,
        items=naming.ItemWords(only=only, skip=skip, no_userdata=no_userdata),
        download=Path(download) if download is not None and store is None else None,
        remove_remote=remove_remote,
        as_user=as_user,
        store=store,
        allow=allow,
    )
    with closing(state.open_site()) as site:
        if dry_run:
            plans = [action.plan(site, course, wanted) for course in courses]
            _print_plans(state, [(planned, action.preview(site, planned)) for planned in plans])
            return
        if queue:
            _queue(state, site, courses, wanted)
            return
        with output.progress(state) as on_progress:
            results = list(action.run_all(site, courses, wanted, lambda _: on_progress))
    _print_made(state, results)


def _queue(state: State, site: Site, courses: Sequence[str], wanted: action.Wanted) -> None:
    """Leave the backups to the site's cron, and say by which jobs they are found again."""
    from moodlectl.actions import backup as action

    tried = Tried("backups")
    plans = [action.plan(site, course, wanted) for course in courses]
    for planned in plans:
        with tried.one(planned.course.shortname, of=len(plans)) as done:
            queued = action.queue(site, planned)
            course = {"id": queued.course.id, "shortname": queued.course.shortname}
            left = {"area": queued.left.area, "filename": queued.left.filename, "cron": queued.left.cron}
            done({"course": course, **left, "queued": True, "job": queued.job, "word": queued.word})
    if state.output is not Output.table:
        output.emit(state, tried.rows)
    for row in tried.rows:
        if state.output is Output.table:
            sys.stdout.write(f"{output.plain(row['word'])}\n")
        output.remark(state, f"left to the site's cron; wait for it with: moodlectl job resume {row['job']}")
    if tried.rows and tried.rows[0]["cron"] is None:
        output.warn("The site's cron has never run; nothing comes of it until it does.")
    tried.tell()


def _print_plans(state: State, plans: Sequence[tuple[action.Planned, Sequence[Setting]]]) -> None:
    """One document for all courses, where it is read by programs; for people one table after another."""
    columns = ["name", "value", "locked_by", "item"]
    if state.output is not Output.table and len(plans) > 1:
        rows = [
            {"course": planned.course.shortname, **_setting_row(setting)}
            for planned, settings in plans
            for setting in settings
        ]
        output.emit(state, rows, ["course", *columns])
        return
    for planned, settings in plans:
        output.remark(state, f"would back up {planned.course.shortname} (id:{planned.course.id}) with:")
        output.emit(state, [_setting_row(s) for s in settings], columns)


def _print_made(state: State, results: Sequence[action.Done | action.NotDone]) -> None:
    from moodlectl.actions import backup as action
    from moodlectl.actions import naming

    done = [r for r in results if isinstance(r, action.Done)]
    failed = [r for r in results if isinstance(r, action.NotDone)]
    rows = [_made_record(result) for result in done]
    if state.output is Output.table:
        for result, row in zip(done, rows, strict=True):
            where = row.get("path") or _in_store(result) or naming.stored_word(result.made.file)
            size = output.size(result.made.file.size)
            if result.stored is not None:
                size = f"{output.size(result.stored.size)}, {output.size(result.stored.came)} of it new,"
            sys.stdout.write(f"{output.plain(where)}\n")
            kept = "removed from the site" if result.removed else naming.stored_word(result.made.file)
            output.remark(
                state, f"{result.course.shortname}: {size} in {result.made.seconds:.1f} s, sha1 {row['sha1']}, {kept}"
            )
    else:
        output.emit(state, rows)
    for result in done:
        if result.note:
            output.remark(state, f"note: its files were packed into it: {result.note}")
        for warning in result.made.warnings:
            output.warn(f"{result.course.shortname}: {warning}")
        if result.stored is not None and result.stored.holes:
            output.warn(f"{result.course.shortname} lacks the contents of some files ({len(result.stored.holes)})")
    Tried(
        "backups", [r.course.shortname for r in done], [(r.course, r.error) for r in failed]
    ).tell()


def _in_store(result: action.Done) -> str | None:
    return f"store:{result.stored.id[:10]}" if result.stored is not None else None


def _made_record(result: action.Done) -> dict[str, Any]:
    from moodlectl.store import entries

    return {
        **({"entry": entries.record(result.stored)} if result.stored is not None else {}),
        **file_record(result.made.file, result.path),
        "removed": result.removed,
        "job": result.job,
        "settings": dict(result.made.settings),
        "seconds": round(result.made.seconds, 3),
        "warnings": list(result.made.warnings),
    }


@app.command("settings")
def settings(
    ctx: typer.Context,
    course: Annotated[str | None, typer.Argument(metavar="COURSE", help="Also its sections and activities.")] = None,
    as_user: As = None,
) -> None:
    """Every setting with its default here, and whether it is locked."""
    from moodlectl.actions import naming

    state = state_of(ctx)
    with closing(state.open_site()) as site:
        course_id = naming.find_course(site, course).id if course is not None else None
        offered = site.backup_settings(course_id, as_user=as_user)
    columns = ["name", "value", "locked_by", "depends_on"] + (["item"] if course else [])
    output.emit(state, [_setting_row(s) for s in offered], columns)


def _setting_row(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "value": setting.value,
        "locked_by": setting.locked_by,
        "depends_on": list(setting.depends_on),
        "item": f"{setting.module}: {setting.item}" if setting.module else setting.item,
        "level": setting.level,
        "label": setting.label,
        "item_id": setting.item_id,
        "visible": setting.visible,
    }


@app.command("list")
def list_(
    ctx: typer.Context,
    course: Annotated[str, typer.Argument(metavar="COURSE")],
    area: Annotated[Where, typer.Option("--area", help="Where to look.")] = Where.all,
    as_user: Annotated[
        str | None, typer.Option("--as", metavar="USERNAME", help="Whose private area to look into.")
    ] = None,
) -> None:
    """The backups of a course, newest first."""
    from moodlectl.actions import naming

    state = state_of(ctx)
    with closing(state.open_site()) as site:
        found = naming.find_course(site, course)
        listing = site.backups(found.id, areas_of(area), owner=as_user)
    output.emit(state, [file_record(f) for f in listing.files], FILE_COLUMNS, spare=FILE_SPARE)
    if not listing.files and not listing.notes and state.output is Output.table:
        output.remark(state, f"No backup of {found.shortname} lies there.")
    for note in listing.notes:
        output.remark(state, f"note: {note}")


@app.command("download")
def download(
    ctx: typer.Context,
    backups: Annotated[list[str], typer.Argument(metavar="BACKUP…", help="COURSE@AREA or COURSE@AREA/FILENAME.")],
    folder: Annotated[Path, typer.Option("-d", "--dir", metavar="DIR", help="Where to put them.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of the same name.")] = False,
    as_user: Annotated[
        str | None, typer.Option("--as", metavar="USERNAME", help="Whose private area to look into.")
    ] = None,
) -> None:
    """Bring backups down, resuming what was begun; size and sha1 are checked before the file gets its name."""
    from moodlectl.actions import files

    state = state_of(ctx)
    tried = Tried("downloads")
    with closing(state.open_site()) as site:
        stored = {word: _stored(site, word, as_user) for word in backups}
        with output.progress(state) as on_progress:
            for word, file in stored.items():
                with tried.one(word, of=len(stored)) as done:
                    got, path = files.download_recorded(
                        site, file, folder, overwrite=overwrite, on_progress=on_progress
                    )
                    done(file_record(got, path))
    if state.output is Output.table:
        for row in tried.rows:
            sys.stdout.write(output.plain(row["path"]) + "\n")
            output.remark(state, f"{output.size(row['size'])}, sha1 {row['sha1']}")
    else:
        output.emit(state, tried.rows)
    tried.tell()


def _stored(site: Any, word: str, owner: str | None) -> Any:
    from moodlectl.actions import naming
    from moodlectl.errors import UsageError

    backup = naming.parse_backup(word)
    if isinstance(backup, naming.LocalBackup):
        raise UsageError(
            f"'{word}' is not a backup on a site.", "Write COURSE@AREA or COURSE@AREA/FILENAME; see 'backup list'."
        )
    return naming.find_stored(site, backup, owner=owner)


@app.command("inspect")
def inspect(
    ctx: typer.Context,
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help=BACKUP)],
    store: InStore = None,
) -> None:
    """What Moodle's restore shows under "Confirm", and what it does not show.

    A backup on a site is read where it lies, if that can be. For a file here no site is asked, unless --site names
    one: it then says whether the file was made there, and whether it is too new for it.
    """
    from moodlectl.actions import fromstore, inspecting, keeping
    from moodlectl.cli import manifests

    state = state_of(ctx)
    seen_from = inspecting.From(state.open_site, state.site_name is not None, _configured_url(state))
    with (
        output.progress(state) as on_progress,
        fromstore.at_hand(backup, store, state.open_store, on_progress) as at_hand,
    ):
        found = inspecting.inspect(seen_from, at_hand.word, on_progress)
    manifests.show(state, keeping.as_kept(at_hand.entry, found.manifest) if at_hand.entry else found.manifest)
    if found.way == "downloaded":
        output.remark(state, "It was brought down: to read it there takes a shell, or a zip and a server of ranges.")
    if found.remark:
        output.remark(state, f"note: {found.remark}")


def _configured_url(state: State) -> str | None:
    """The address of the site in use as it stands in the settings; None where there is none."""
    from moodlectl.errors import MoodlectlError

    try:
        return state.site_config().url or None
    except MoodlectlError:
        return None


@app.command("verify")
def verify(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="FILE…", help="Files, or store:ENTRY.")],
) -> None:
    """Is the file whole: every content re-hashed, every XML read, everything the manifest names there."""
    from moodlectl.actions import fromstore, inspecting
    from moodlectl.errors import Failed

    state = state_of(ctx)
    tried = Tried("files")
    for word in paths:
        with (
            tried.one(word, of=len(paths)) as done,
            output.progress(state) as on_progress,
            fromstore.at_hand(word, None, state.open_store, on_progress, whole=True) as at_hand,
        ):
            found = inspecting.verify(Path(at_hand.word), on_progress)
            done({**found, "path": word} if at_hand.entry else found)
    rows = tried.rows
    if state.output is Output.table:
        for row in rows:
            told = "ok" if row["ok"] else "NOT WHOLE"
            sys.stdout.write(
                f"{output.plain(row['path'])}: {told}, {row['files_checked']} files, "
                f"{output.size(row['bytes_checked'])}, sha1 {row['sha1']}\n"
            )
            for problem in row["problems"]:
                sys.stdout.write(f"  {output.plain(output.indented(problem['message']))}\n")
    else:
        output.emit(state, rows)
    tried.tell()
    broken = [row["path"] for row in rows if not row["ok"]]
    if broken:
        raise Failed(
            f"{len(broken)} of {len(rows)} files are not whole.",
            "Download or make those backups again.",
            code="not_whole",
            details={"files": broken},
        )


@app.command("delete")
def delete(
    ctx: typer.Context,
    backups: Annotated[list[str], typer.Argument(metavar="BACKUP…", help="COURSE@AREA/FILENAME.")],
    as_user: Annotated[
        str | None, typer.Option("--as", metavar="USERNAME", help="Whose private area to look into.")
    ] = None,
) -> None:
    """Delete backups from the site. Asks first."""
    from moodlectl.actions import files
    from moodlectl.actions.naming import stored_word

    state = state_of(ctx)
    tried = Tried("deletions")
    with closing(state.open_site()) as site:
        stored = {word: _stored(site, word, as_user) for word in backups}
        for file in stored.values():
            output.remark(
                state,
                f"{stored_word(file)}  {output.size(file.size)}  "
                f"{file.timecreated.astimezone():%Y-%m-%d %H:%M}",
            )
        number = "this backup" if len(stored) == 1 else f"these {len(stored)} backups"
        output.confirm(state, f"Delete {number} from {site.info().url}?", refusal="Nothing was deleted")
        for word, file in stored.items():
            with tried.one(word, of=len(stored)) as done:
                files.delete_recorded(site, file)
                done({**file_record(file), "deleted": True})
    if state.output is not Output.table:
        output.emit(state, tried.rows)
    else:
        output.remark(state, f"deleted {len(tried.rows)}")
    tried.tell()


@app.command("automated")
def automated(ctx: typer.Context) -> None:
    """Run the site's automated backups now, for every course that is due."""
    from moodlectl.actions import backup as action

    state = state_of(ctx)
    with closing(state.open_site()) as site, output.progress(state) as on_progress:
        ran = action.automated(site, on_progress)
    rows = [
        {
            "course": {"id": r.course_id, "shortname": r.shortname},
            "shortname": r.shortname,
            "status": r.status,
            "started": r.started,
            "ended": r.ended,
        }
        for r in ran
    ]
    output.emit(state, rows, ["shortname", "status", "started", "ended"])
    failed = [r.shortname for r in ran if r.status in ("error", "unfinished")]
    if failed:
        from moodlectl.errors import SomeFailed

        raise SomeFailed(
            f"{len(failed)} of {len(ran)} automated backups failed.",
            "Moodle's own log of them is under Reports › Backups.",
            details={"failed": failed},
        )
