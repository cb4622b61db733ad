"""``moodlectl restore``."""

from __future__ import annotations

import dataclasses
import enum
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import additions, output, report
from moodlectl.cli.rewrite import Map, UserMap
from moodlectl.cli.state import Output, State
from moodlectl.cli.undo import Undoing, in_numbers, put_back, safety_record
from moodlectl.cli.words import (
    BACKUP,
    As,
    InStore,
    NoUserdata,
    Only,
    Quietly,
    Skip,
    With,
    Without,
    counts_record,
    course_record,
    parse_day,
    state_of,
    verified_record,
)

if TYPE_CHECKING:

    from moodlectl.actions import checks, protected
    from moodlectl.actions import restore as action
    from moodlectl.actions.recovery import Additions
    from moodlectl.actions.verification import Verified
    from moodlectl.site.port import Course, OnProgress, Precheck, RestorePlan, Site, UsersOutcome


class Enrolments(enum.StrEnum):
    """Moodle's three choices: turn all enrolments into manual ones; with users; always."""

    manual = "manual"
    with_users = "with-users"
    always = "always"


class OnConflict(enum.StrEnum):
    """What to do when an account of the backup conflicts with one of the site."""

    stop = "stop"
    without_users = "without-users"


def register(app: typer.Typer) -> None:
    """Hang the command on the program."""
    app.command("restore")(restore)


def restore(
    ctx: typer.Context,
    backup: Annotated[
        str | None, typer.Argument(metavar="BACKUP", help=BACKUP)
    ] = None,
    new: Annotated[str | None, typer.Option("--new", metavar="CATEGORY", help="Into a new course there.")] = None,
    merge: Annotated[str | None, typer.Option("--merge", metavar="COURSE", help="Add to this course.")] = None,
    replace: Annotated[
        str | None, typer.Option("--replace", metavar="COURSE", help="Delete what this course holds, then restore.")
    ] = None,
    from_site: Annotated[
        str | None, typer.Option("--from", metavar="SITE", help="The site BACKUP lies on, if it is another one.")
    ] = None,
    whole_backup: Annotated[
        bool, typer.Option("--whole-backup", help="With --from: in one piece, also what the target has already.")
    ] = False,
    fullname: Annotated[str | None, typer.Option(metavar="TEXT", help="The course's full name.")] = None,
    shortname: Annotated[str | None, typer.Option(metavar="TEXT", help="The course's short name.")] = None,
    idnumber: Annotated[str | None, typer.Option(metavar="TEXT", help="The course's ID number.")] = None,
    startdate: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The new start; dates in the course move along.")
    ] = None,
    visible: Annotated[
        bool | None, typer.Option("--visible/--hidden", help="Visibility afterwards.  [default: the backup's]")
    ] = None,
    with_: With = [],
    without: Without = [],
    enrolments: Annotated[Enrolments | None, typer.Option(help="How people are enrolled.")] = None,
    keep_enrolments: Annotated[
        bool, typer.Option("--keep-enrolments", help="With --replace: keep roles and enrolments.")
    ] = False,
    keep_groups: Annotated[
        bool, typer.Option("--keep-groups", help="With --replace: keep groups and groupings.")
    ] = False,
    overwrite_config: Annotated[
        bool, typer.Option("--overwrite-config", help="Take the course's settings from the backup, too.")
    ] = False,
    only: Only = [],
    skip: Skip = [],
    userdata: Annotated[
        list[str], typer.Option("--userdata", metavar="ITEM", help="This item with people's data (repeatable).")
    ] = [],
    no_userdata: NoUserdata = [],
    user_map: UserMap = None,
    pairs: Map = [],
    on_user_conflict: Annotated[OnConflict, typer.Option(help="When accounts conflict.")] = OnConflict.stop,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="DANGER", help="Accept this danger by name (repeatable).")
    ] = [],
    guard: Annotated[
        list[str],
        typer.Option("--guard", metavar="NAME=MODE", help="A guard on the course: stop, warn, ignore (repeatable)."),
    ] = [],
    as_user: As = None,
    dry_run: Quietly = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare afterwards.")] = False,
    no_safety_backup: Annotated[
        bool, typer.Option("--no-safety-backup", help="Do not bring all that the course holds here first.")
    ] = False,
    auto_undo: Annotated[
        bool, typer.Option("--auto-undo", help="Should the restore fail, put the safety backup back at once.")
    ] = False,
    drop_backups: Annotated[
        bool, typer.Option("--drop-backups", help="With --replace: let the backups stored in the course go, too.")
    ] = False,
    into_section: Annotated[
        str | None, typer.Option("--into-section", metavar="ITEM", help="With --merge: all into this section.")
    ] = None,
    after_section: Annotated[
        str | None,
        typer.Option("--after-section", metavar="ITEM", help="With --merge: as sections of their own after this one."),
    ] = None,
    store: InStore = None,
    undo: Annotated[
        str | None,
        typer.Option(
            "--undo", metavar="JOB", help="Put back what that job replaced or merged into; JOB/N for one of a batch."
        ),
    ] = None,
) -> None:
    """Restore a backup into a new course, add it to one, or replace what one holds."""
    from moodlectl.actions import checks, fromstore, guards, naming, protected, rewriting, travelling
    from moodlectl.actions import restore as action
    from moodlectl.errors import UsageError

    state = state_of(ctx)
    if undo is not None:
        undoing = Undoing(undo, dry_run, safe=not no_safety_backup)
        put_back(state, undoing, given=[backup, new, merge, replace])
        return
    if backup is None:
        raise UsageError("No backup is named.", "Give a file, COURSE@AREA or COURSE@AREA/FILENAME.")
    if whole_backup and from_site is None:
        raise UsageError("--whole-backup only means something with --from.")
    targets = [(m, t) for m, t in (("new", new), ("merge", merge), ("replace", replace)) if t is not None]
    if len(targets) != 1:
        raise UsageError(
            "Where to restore is not said, or said twice.",
            "Give exactly one of --new CATEGORY, --merge COURSE, --replace COURSE.",
        )
    mode, target = targets[0]
    day = parse_day(startdate)
    wanted = action.Wanted(
        backup=backup,
        mode=mode,  # type: ignore[arg-type]
        target=target,
        fullname=fullname,
        shortname=shortname,
        idnumber=idnumber,
        startdate=day,
        visible=visible,
        settings=naming.settings_from(with_, without),
        enrolments=enrolments.value if enrolments else None,
        keep_enrolments=keep_enrolments,
        keep_groups=keep_groups,
        overwrite_config=overwrite_config,
        items=naming.ItemWords(only=only, skip=skip, userdata=userdata, no_userdata=no_userdata),
        users_conflict=on_user_conflict.value,
        allow=allow,
        as_user=as_user,
        drop_backups=drop_backups,
        into_section=into_section,
        after_section=after_section,
    )
    action.check_words(wanted)
    modes = {**guards.parse(guard)}
    with ExitStack() as stack:
        site = stack.enter_context(closing(state.open_site()))
        modes = {**state.site_config().guards, **modes}
        other = stack.enter_context(closing(state.open_site(from_site))) if from_site else None
        # A dry run writes nothing, to the site's file pool neither.
        road = travelling.Road(whole=whole_backup or dry_run)
        with output.progress(state) as on_progress:
            if (word := fromstore.word_of(backup, from_site, store)) is not None:
                kept = fromstore.Kept(state.open_store(store), word)
                source = stack.enter_context(fromstore.fetched(kept, site, road, on_progress))
                origin: str | None = kept.entry.id
            else:
                source = stack.enter_context(action.fetched(site, backup, other, on_progress, road))
                origin = checks.origin(source)
            if user_map is not None or pairs:
                mapped = rewriting.mapped(site, source, user_map, pairs, as_user, on_progress)
                source = stack.enter_context(mapped)
            look = checks.Look(modes, origin=origin, all=dry_run, safety=not no_safety_backup)
            looked = checks.looked(site, wanted, source, look, on_progress)
            plan = looked.report.plan if dry_run else None
            added = _added(site, plan, on_progress) if plan is not None else None
        output.warn_all([*looked.broken, *looked.lacks])
        for note in road.notes:
            output.remark(state, note)
        if dry_run:
            print_plan(state, looked, backup, Asked(mode, frozenset(allow)), added)
        typed = {"title"} if looked.target is not None and not dry_run and _names_it(state, look) else set[str]()
        checks.refuse(looked.report, frozenset(allow) | typed)
        if dry_run or looked.request is None:
            output.remark(state, "Nothing was changed.")
            return
        report.tell(state, looked.report.findings, looked.request.allow)
        if looked.target is not None:
            confirm_target(state, site, looked.target, wanted, look)
        protection = protected.Protection(not no_safety_backup, auto_undo, not no_verify, modes, looked.report)
        with output.progress(state) as on_progress:
            asked = {**_asked(wanted, from_site), **road.facts}
            request = dataclasses.replace(looked.request, allow=looked.request.allow | typed)
            done = protected.run(site, request, looked.target, asked, protection, on_progress)
    print_done(state, done, backup, looked)


def _added(site: Site, plan: RestorePlan, on_progress: OnProgress) -> Additions | None:
    """What merging would add to the course; None where nothing is merged, or it cannot be found out."""
    from moodlectl.actions import recovery
    from moodlectl.actions.verification import Verification

    if plan.request.mode != "merge":
        return None
    with Verification(site, plan.request, keeps=False) as looking:
        looking.look(on_progress)
        return recovery.additions(site, plan, looking.source, on_progress) if looking.source is not None else None


def _asked(wanted: action.Wanted, from_site: str | None) -> dict[str, Any]:
    """The command line for the record: what was said, in its own words."""
    from dataclasses import asdict

    said = {name: value for name, value in asdict(wanted).items() if value not in (None, False, [], {}, ())}
    return {**said, "items": {k: v for k, v in asdict(wanted.items).items() if v}, "from": from_site}


def confirm_target(state: State, site: Site, course: Course, wanted: action.Wanted, look: checks.Look) -> None:
    """Show what would be deleted, and ask whether it is the course that is meant. Raises Refused."""
    named = _names_it(state, look)
    if wanted.mode == "replace":
        confirm_replace(state, site, course, safe=look.safety, drop=wanted.drop_backups, named=named)
    elif named:
        report.type_back(state, course, "Add to")


def confirm_replace(
    state: State, site: Site, course: Course, *, safe: bool, drop: bool, word: str = "--replace", named: bool = False
) -> None:
    """Show what would be deleted, and ask; ``named``: its title has to be typed. Raises Refused."""
    held = counts_record(site.counts(course.id))
    kept = len(site.backups(course.id, ["course", "automated"]).files)
    activities = sum(held.pop("activities", {}).values())
    stored = f"Backups stored in it stay ({kept}). " if kept and not drop else ""
    output.remark(
        state,
        f"{word} deletes all that {course.fullname} ({course.shortname}, id:{course.id}) holds: "
        f"{activities} activities, {in_numbers(held)}"
        f"{f', and {kept} stored backups' if kept and drop else ''}. {stored}"
        + ("What it holds is brought here first." if safe else "Moodle keeps no copy, and neither do we."),
    )
    if named:
        report.type_back(state, course, "Replace all that is in")
    else:
        output.confirm(state, f"Replace {course.fullname} ({course.shortname})?", refusal="Nothing was changed")


def _names_it(state: State, look: checks.Look) -> bool:
    """Whether the person has to type the course's title: then it is the course that is meant."""
    return look.guards.get("title") != "ignore" and not state.yes and sys.stdin.isatty()


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a plan is told with: the mode, and the dangers that are accepted."""

    mode: str
    allow: frozenset[str]


def print_plan(
    state: State, looked: checks.Looked, backup: str, wanted: Asked, added: Additions | None = None
) -> None:
    """The report, and what the restore would do where the site could tell."""
    found, plan, allow = looked.report.findings, looked.report.plan, wanted.allow
    if state.output is not Output.table:
        record = _plan_record(plan, backup) if plan else {"backup": backup, "mode": wanted.mode}
        more = {"findings": [one.as_dict(allow) for one in found], "broken": [*looked.broken, *looked.lacks]}
        output.emit_one(state, {**record, **more, "additions": additions.record(added)})
        return
    report.print_findings(state, found, allow)
    if plan is None:
        return
    where = f"{plan.target.fullname} ({plan.target.shortname})" if plan.target else "a new course"
    facts: dict[str, Any] = {
        "backup": backup,
        "mode": plan.request.mode,
        "into": where,
        "fullname": plan.fullname,
        "shortname": plan.shortname,
        "made_by": plan.backup_release,
        "site_has": plan.site_release,
        "same_site": plan.same_site,
        "users": f"{plan.users.matched} matched, {plan.users.created} created, "
        f"{len(plan.users.conflicts)} in conflict",
        "brings": counts_record(plan.expected),
    }
    if plan.target_counts is not None:
        facts["target_holds"] = counts_record(plan.target_counts)
    sys.stdout.write("\n")
    output.emit_one(state, facts)
    additions.show(state, added)
    sys.stdout.write("\n")
    rows = [{"setting": s.name, "value": s.value, "locked_by": s.locked_by} for s in plan.settings if not s.item_id]
    output.emit(state, rows, ["setting", "value", "locked_by"])


def _plan_record(plan: RestorePlan, backup: str) -> dict[str, Any]:
    return {
        "backup": backup,
        "mode": plan.request.mode,
        "target": course_record(plan.target) if plan.target else None,
        "fullname": plan.fullname,
        "shortname": plan.shortname,
        "backup_release": plan.backup_release,
        "site_release": plan.site_release,
        "same_site": plan.same_site,
        "precheck": _precheck_record(plan.precheck),
        "dangers": list(plan.dangers),
        "users": _users_record(plan.users),
        "settings": {s.name: s.value for s in plan.settings},
        "locked": {s.name: s.locked_by for s in plan.settings if s.locked_by},
        "expected": counts_record(plan.expected),
        "target_counts": counts_record(plan.target_counts) if plan.target_counts else None,
    }


def _precheck_record(precheck: Precheck) -> dict[str, Any]:
    return {
        "errors": list(precheck.errors),
        "warnings": list(precheck.warnings),
        "missing_plugins": list(precheck.missing_plugins),
    }


def _users_record(users: UsersOutcome) -> dict[str, Any]:
    return {"matched": users.matched, "created": users.created, "conflicts": list(users.conflicts)}


def print_done(
    state: State, ended: protected.Protected, backup: str, looked: checks.Looked | None = None
) -> None:
    from moodlectl.actions import safety

    """What was done; what ``looked`` found was told before."""
    done, saved, allow = ended.done, ended.safety, ended.allow
    told = looked.report.findings if looked else ()
    held, lacks = (looked.held, looked.lacks) if looked else (None, ())
    restored = done.restored
    # What the site found on its way; the rest was told before it began.
    report.tell(state, [one for one in ended.findings if one not in told], allow)
    record = {
        "course": course_record(restored.course),
        "mode": restored.mode,
        "backup": backup,
        "job": ended.job,
        **safety_record(saved, ended.job),
        "precheck": _precheck_record(restored.precheck),
        "users": _users_record(restored.users),
        "findings": [one.as_dict(allow) for one in ended.findings],
        "verified": verified_record(done.verified),
        "expected": counts_record(restored.expected),
        "before": counts_record(restored.before),
        "after": counts_record(restored.after),
        "activities": {str(old): new for old, new in restored.activities.items()},
        "sections": {str(old): new for old, new in restored.sections.items()},
        "lacks": list(lacks),
        "backups_kept": restored.backups_kept,
        "warnings": list(restored.warnings),
        "seconds": round(restored.seconds, 3),
    }
    if state.output is Output.table:
        sys.stdout.write(f"{output.plain(restored.course.url)}\n")
        output.remark(state, _summary(done))
        if restored.mode == "merge":
            additions.show_new(state, restored, held)
        for line in safety.told(ended.job, saved.facts()) if saved is not None else ():
            output.remark(state, line)
        known = {one.message for one in ended.findings}
        output.warn_all([warning for warning in restored.warnings if warning not in known])
        _remark_verified(state, done.verified)
    else:
        output.emit_one(state, record)
    if done.differences:
        from moodlectl.errors import Failed

        raise Failed(
            f"The restore into {restored.course.shortname} ended, but the course is not what the backup holds.",
            "Look at the differences before anybody works in the course.",
            code="not_verified",
            details={"differences": list(done.differences)},
        )


def _summary(done: action.Done) -> str:
    restored = done.restored
    activities = sum(restored.after.activities.values()) - sum(restored.before.activities.values())
    if restored.mode == "replace":
        activities = sum(restored.after.activities.values())
    words = {"new": "restored into the new course", "merge": "merged into", "replace": "replaced"}
    return (
        f"{words[restored.mode]} {restored.course.shortname} (id:{restored.course.id}): {activities} activities, "
        f"users {restored.users.matched} matched {restored.users.created} created, "
        f"{restored.seconds:.1f} s, {_checked(done.verified)}"
    )


def _checked(verified: Verified | None) -> str:
    if verified is None:
        return "not verified"
    if not verified.ok:
        return "DIFFERENT"
    return "verified by numbers" if verified.compared is None else f"verified ({verified.compared} things)"


def _remark_verified(state: State, verified: Verified | None) -> None:
    """What Moodle itself does not carry, and why only numbers were compared, where that is so."""
    from moodlectl.actions.likenesses import OWN_NAMES

    if verified is None:
        return
    if verified.note:
        output.remark(state, f"note: {verified.note}")
    told = [text for text in verified.known if OWN_NAMES not in text]  # what was asked for is no news
    if told:
        more = f", and {len(told) - 1} more (-o json names them)" if len(told) > 1 else ""
        output.remark(state, f"note: Not everything is carried by Moodle or can be compared: {told[0]}{more}")
