"""``moodlectl copy`` and ``moodlectl import``."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from moodlectl.cli import output, report
from moodlectl.cli.restore import Asked, Enrolments, confirm_replace, print_done, print_plan
from moodlectl.cli.state import Output
from moodlectl.cli.words import (
    As,
    NoUserdata,
    Only,
    Quietly,
    Skip,
    With,
    Without,
    course_record,
    parse_day,
    state_of,
)

if TYPE_CHECKING:
    from moodlectl.actions import copying, gateway, protected
    from moodlectl.cli.state import State
    from moodlectl.site.port import Site


Allow = Annotated[
    list[str], typer.Option("--allow", metavar="DANGER", help="Accept this danger by name (repeatable).")
]
ByWeb = Annotated[
    bool, typer.Option("--by-web", help="Inside one web request of Moodle's, though there is a shell.")
]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=1, help="After a gateway gave up: how long nothing may move.")
]


def register(app: typer.Typer) -> None:
    """Hang the commands on the program."""
    app.command("copy")(copy)
    app.command("import")(import_)


def copy(
    ctx: typer.Context,
    course: Annotated[str, typer.Argument(metavar="COURSE", help="The course to copy.")],
    new: Annotated[str, typer.Option("--new", metavar="CATEGORY", help="Where the copy goes.")],
    shortname: Annotated[str, typer.Option(metavar="TEXT", help="The copy's short name.")],
    fullname: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The copy's full name.  [default: the course's]")
    ] = None,
    idnumber: Annotated[str | None, typer.Option(metavar="TEXT", help="The copy's ID number.")] = None,
    startdate: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The new start; dates in the course move along.")
    ] = None,
    visible: Annotated[
        bool | None, typer.Option("--visible/--hidden", help="Visibility afterwards.  [default: the course's]")
    ] = None,
    with_: With = [],
    without: Without = [],
    enrolments: Annotated[Enrolments | None, typer.Option(help="How people are enrolled.")] = None,
    only: Only = [],
    skip: Skip = [],
    no_userdata: NoUserdata = [],
    allow: Allow = [],
    as_user: As = None,
    dry_run: Quietly = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare afterwards.")] = False,
    by_web: ByWeb = False,
    wait: Wait = 3600,
) -> None:
    """Copy a course within the site. People stay behind unless you say --with users."""
    from moodlectl.actions import copying, naming, protected

    state = state_of(ctx)
    wanted = copying.WantedCopy(
        course=course,
        category=new,
        shortname=shortname,
        fullname=fullname,
        idnumber=idnumber,
        startdate=parse_day(startdate),
        visible=visible,
        settings=naming.settings_from(with_, without),
        enrolments=enrolments.value if enrolments else None,
        items=naming.ItemWords(only=only, skip=skip, no_userdata=no_userdata),
        as_user=as_user,
        allow=allow,
    )
    copying.check_copy(wanted)
    protection = protected.Protection(safety=False, verify=not no_verify)
    with closing(state.open_site()) as site:
        planned = copying.plan_copy(site, wanted)
        if by_web or not site.has_host():
            _by_web(state, site, planned, wanted, (protection.verify, wait), dry_run=dry_run)
            return
        _carry_out(state, site, planned, wanted, protection, dry_run=dry_run)


def import_(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The course to take from.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The course to add to.")],
    delete_contents: Annotated[
        bool, typer.Option("--delete-contents", help="Delete what TARGET holds first; its people stay.")
    ] = False,
    with_: With = [],
    without: Without = [],
    only: Only = [],
    skip: Skip = [],
    drop_backups: Annotated[
        bool, typer.Option("--drop-backups", help="With --delete-contents: its stored backups go, too.")
    ] = False,
    allow: Allow = [],
    guard: Annotated[
        list[str],
        typer.Option("--guard", metavar="NAME=MODE", help="A guard on TARGET: stop, warn, ignore (repeatable)."),
    ] = [],
    as_user: As = None,
    dry_run: Quietly = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare afterwards.")] = False,
    no_safety_backup: Annotated[
        bool, typer.Option("--no-safety-backup", help="Do not bring all that TARGET holds here first.")
    ] = False,
    auto_undo: Annotated[
        bool, typer.Option("--auto-undo", help="Should the import fail, put the safety backup back at once.")
    ] = False,
    by_web: ByWeb = False,
    wait: Wait = 3600,
) -> None:
    """Import what one course holds into another, by the rules of Moodle's own import: never people."""
    from moodlectl.actions import copying, guards, naming, protected

    state = state_of(ctx)
    wanted = copying.WantedImport(
        source=source,
        target=target,
        delete_contents=delete_contents,
        settings=naming.settings_from(with_, without),
        items=naming.ItemWords(only=only, skip=skip),
        drop_backups=drop_backups,
        as_user=as_user,
        allow=allow,
    )
    copying.check_import(wanted)
    modes = guards.parse(guard)
    protection = protected.Protection(not no_safety_backup, auto_undo, not no_verify, modes)
    with closing(state.open_site()) as site:
        planned = copying.plan_import(site, wanted)
        if by_web or not site.has_host():
            _by_web(state, site, planned, wanted, (protection.verify, wait), dry_run=dry_run)
            return
        _carry_out(state, site, planned, wanted, protection, dry_run=dry_run)


def _carry_out(
    state: State,
    site: Site,
    planned: copying.Planned,
    wanted: copying.WantedCopy | copying.WantedImport,
    protection: protected.Protection,
    *,
    dry_run: bool,
) -> None:
    from moodlectl.actions import checks, copying, protected

    name, request, target = planned.source.shortname, planned.request, planned.target
    modes = {**state.site_config().guards, **protection.guards}
    look = checks.Look(modes, all=dry_run, safety=protection.safety)
    with output.progress(state) as on_progress:
        found = checks.before(site, request, target, look, on_progress)
    if dry_run:
        print_plan(state, checks.Looked(found), name, Asked(request.mode, request.allow))
        checks.refuse(found, request.allow)
        return
    checks.refuse(found, request.allow)
    report.tell(state, found.findings, request.allow)
    if target is not None and request.mode == "replace":
        drop = request.drop_backups
        confirm_replace(state, site, target, safe=protection.safety, drop=drop, word="--delete-contents")
    protection = dataclasses.replace(protection, guards=modes, checked=found)
    with output.progress(state) as on_progress:
        done = protected.run(site, request, target, copying.asked(wanted), protection, on_progress)
    print_done(state, done, name, checks.Looked(found))


def _by_web(
    state: State,
    site: Site,
    planned: copying.Planned,
    wanted: copying.WantedCopy | copying.WantedImport,
    how: tuple[bool, float],
    *,
    dry_run: bool,
) -> None:
    """Inside one web request; ``how`` is whether to verify, and how long to wait for something to move."""
    from moodlectl.actions import copying, gateway

    verify, wait = how
    if dry_run:
        plan = gateway.plan(site, planned)
        shown = plan if state.output is Output.json else {**plan, "settings": _settings(plan["settings"])}
        output.emit_one(state, shown)
        output.remark(state, "Nothing was changed. Without a shell Moodle's own pre-check cannot be asked beforehand.")
        return
    with output.progress(state) as on_progress:
        done = gateway.run(site, planned, copying.asked(wanted), on_progress, verify=verify, wait=wait)
    _print_web(state, done, planned)


def _settings(settings: dict[str, bool]) -> str:
    return ", ".join(name for name, on in settings.items() if on)


def _print_web(state: State, done: gateway.WebDone, planned: copying.Planned) -> None:
    from moodlectl.actions import gateway
    from moodlectl.errors import Failed

    record = {
        "course": course_record(done.course),
        "mode": planned.request.mode,
        "backup": planned.source.shortname,
        "job": done.job,
        "safety_backup": None,
        "verified": None
        if done.differences is None
        else {"ok": not done.differences, "differences": list(done.differences), "by": "web service"},
        "gave_up": done.gave_up,
        "seconds": round(done.seconds, 3),
    }
    if state.output is Output.table:
        sys.stdout.write(f"{output.plain(done.course.url)}\n")
        if done.gave_up is not None:
            output.remark(state, gateway.finished(done.gave_up))
        checked = "not verified" if done.differences is None else "DIFFERENT" if done.differences else "verified"
        what = "copied into" if planned.target is None else "imported into"
        name = f"{done.course.shortname} (id:{done.course.id})"
        output.remark(state, f"{what} {name} by web service: {done.seconds:.1f} s, sections and activities {checked}")
    else:
        output.emit_one(state, record)
    if done.differences:
        raise Failed(
            f"{done.course.shortname} was finished, but not all of {planned.source.shortname} is in it.",
            "Look at the differences before anybody works in the course.",
            code="not_verified",
            details={"differences": list(done.differences)},
        )
