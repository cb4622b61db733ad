"""A restore nobody regrets: recorded, with a safety backup before it and the way back after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodlectl.actions import deeds, requests, restore, safety
from moodlectl.actions.files import sha1_of
from moodlectl.actions.recording import Entry, recorded
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown, Refused
from moodlectl.ledger import Item, Job
from moodlectl.site.port import (
    DANGERS,
    Course,
    OnProgress,
    Restored,
    RestorePlan,
    RestoreRequest,
    Site,
    no_progress,
)

STAGE = "restore"


@dataclass(frozen=True)
class Protection:
    """What is done so that nothing is lost or unseen: a safety backup first, putting it back when the restore fails,
    comparing afterwards."""

    safety: bool = True
    auto_undo: bool = False
    verify: bool = True


@dataclass(frozen=True)
class Protected:
    """A restore that was done: its job's number, and the safety backup where one was taken."""

    done: restore.Done
    job: int
    safety: safety.SafetyBackup | None


def run(
    site: Site,
    request: RestoreRequest,
    target: Course | None,
    asked: Mapping[str, Any],
    protection: Protection,
    on_progress: OnProgress = no_progress,
) -> Protected:
    """Restore as asked; before a course is replaced or merged into, bring all that it holds here.

    ``asked`` is the command line's options for the record. Writes to the site and the ledger. Raises what ``restore``
    raises; the error then names the safety backup and the command that puts it back.
    """
    item = Item(
        1,
        target.shortname if target else request.shortname or "",
        request.mode,
        "planned",
        source=str(asked.get("backup") or ""),
        target=f"course {target.id}" if target else f"category {request.category_id}",
        facts={**_source_facts(request), "auto_undo": protection.auto_undo, "verify": protection.verify},
    )
    with recorded(site, kind_of(request), item, asked) as entry:
        done, saved = within(site, request, target, protection, entry, on_progress)
        record(entry, done)
        return Protected(done, entry.job, saved)


def within(
    site: Site,
    request: RestoreRequest,
    target: Course | None,
    protection: Protection,
    entry: Entry,
    on_progress: OnProgress = no_progress,
) -> tuple[restore.Done, safety.SafetyBackup | None]:
    """The same for a record that is open already; how it ended is left to the caller to write (``record``)."""
    entry.note(request=requests.written(request))
    begun = deeds.number_of(entry.facts, STAGE) is not None  # by a process that was killed
    saved = None
    if target is not None and protection.safety and not entry.facts.get("safety"):
        whole = safety.ready(site, target)
        refuse_beforehand(site.restore_plan(request, on_progress))
        saved = safety.take(site, target, whole, entry, on_progress)
        entry.note(**saved.facts())
    with Verification(site, request, wanted=protection.verify, keeps=not begun) as verification:
        verification.look(on_progress)
        try:
            restored = deeds.restored_or_found(site, request, entry, STAGE, on_progress)
        except Failed as error:
            raise failed(site, entry, error, on_progress) from error
        except OutcomeUnknown as error:
            safety.explain(error, entry.job, entry.facts)
            raise
        return restore.Done(restored, verification.verify(restored, on_progress)), saved


def refuse_beforehand(plan: RestorePlan) -> None:
    """Refuse what the site would refuse, before a safety backup is made for nothing. Raises Refused."""
    request, precheck = plan.request, plan.precheck
    dangers = [danger for danger in plan.dangers if danger not in request.allow]
    if dangers:
        missing = f" ({', '.join(precheck.missing_plugins)})" if precheck.missing_plugins else ""
        raise Refused(
            f"Refused: {DANGERS.get(dangers[0], dangers[0])}{missing if dangers[0] == 'missing-plugins' else ''}.",
            f"Accept it with --allow {dangers[0]}.",
            code=dangers[0],
            details={"dangers": dangers, "missing_plugins": list(precheck.missing_plugins)},
        )
    if request.users_conflict == "without-users":
        return
    conflicts = plan.users.conflicts
    if conflicts:
        raise Refused(
            f"The site has other people under the same usernames: {', '.join(conflicts[:50])}.",
            f"If they are the same people, say so: --map {conflicts[0]}={conflicts[0]} (OLD=NEW, repeatable; - leaves "
            "them out), or --user-map FILE.csv for many. Or restore without people: --on-user-conflict without-users.",
            code="user_conflict",
            details={"precheck": list(precheck.errors), "conflicts": list(conflicts[:50])},
        )
    if precheck.errors:
        raise Refused(
            f"Moodle's pre-check found: {' '.join(precheck.errors)}",
            "Nothing was changed. Remove the cause, or leave out the part of the backup it belongs to.",
            code="precheck",
            details={"precheck": list(precheck.errors)},
        )


def kind_of(request: RestoreRequest) -> str:
    """What its job is called: ``restore``, ``copy`` or ``import``."""
    return request.source.course.rules if request.source.course is not None else "restore"


def _source_facts(request: RestoreRequest) -> dict[str, Any]:
    if request.source.course is not None:
        return {"source_course": request.source.course.course_id}
    if request.source.path is not None:
        return {"sha1": sha1_of(request.source.path)}
    return {"sha1": request.source.stored.sha1} if request.source.stored is not None else {}


def record(entry: Entry, done: restore.Done) -> None:
    """Write down how a restore ended that ran to its end."""
    facts: dict[str, Any] = {
        "course": done.restored.course.id,
        "activities": {str(old): new for old, new in done.restored.activities.items()},
        "sections": {str(old): new for old, new in done.restored.sections.items()},
        "differences": list(done.differences or ()),
    }
    if done.differences:
        entry.end("failed", "the course is not what the backup holds", **facts)
    else:
        entry.end("done", **facts)


def failed(site: Site, entry: Entry, error: Failed, on_progress: OnProgress = no_progress) -> MoodlectlError:
    """What to raise for a restore that broke off: with the way back, or after having gone it. Writes to the site."""
    changed = bool(error.details.pop("course_changed", False)) or "left" in error.details
    if not changed:
        return error
    entry.note(course_changed=True)
    if not entry.facts.get("safety"):
        error.hint = "There is no safety backup of it. Look at the course on the site."
        return error
    safety.explain(error, entry.job, entry.facts)
    if entry.facts.get("auto_undo"):
        return _taken_back(site, entry, error, on_progress)
    error.hint = f"Put back what the course held before: {safety.says_put_back(entry.job)}"
    return error


def _taken_back(site: Site, entry: Entry, error: Failed, on_progress: OnProgress) -> MoodlectlError:
    """Put the safety backup back after a restore that broke off; returns the error that says so."""
    try:
        undo = safety.undo_of(site, entry.job, entry.facts)
        _, verified = safety.run_undo(site, undo, entry, on_progress)
        missing = verified.differences
    except OutcomeUnknown as second:
        second.details.update({"restore": error.message, **error.details})
        return second
    except MoodlectlError as second:
        error.details["auto_undo"] = f"failed: {second.message}"
        error.hint = (
            f"Remove the cause, then: {safety.says_put_back(entry.job)}. "
            f"Until then all that the course held is in {entry.facts['safety']}"
        )
        return error
    if missing:
        error.details["auto_undo"] = "put back, but not all of it"
        error.details["differences"] = list(missing)
        return error
    entry.note(undone=True)
    error.details.pop("put_back", None)
    return Failed(
        f"{error.message} What the course held before was put back, and is as it was.",
        code=error.code,
        details={**error.details, "auto_undo": "done"},
    )


def undo(
    site: Site, job: Job, plan: safety.Undo, on_progress: OnProgress = no_progress
) -> tuple[Restored, Verified, int]:
    """Put back what a restore replaced. Writes to the site and the ledger.

    Returns the restore, how the course compares with what it held before, and the undo's own job number.
    """
    item = Item(
        1,
        plan.course.shortname,
        "undo",
        "planned",
        source=str(plan.path),
        target=f"course {plan.course.id}",
        facts={"undoes": job.id},
    )
    with recorded(site, "undo", item, {"job": job.id}) as entry:
        try:
            restored, verified = safety.run_undo(site, plan, entry, on_progress)
        except Failed as error:
            if error.details.pop("course_changed", False):
                error.hint = f"Remove the cause, then try again: {safety.says_put_back(job.id)}"
                error.details["safety_backup"] = str(plan.path)
            raise
        record_undo(entry, verified.differences)
        return restored, verified, entry.job


def record_undo(entry: Entry, missing: tuple[str, ...]) -> None:
    """Write down how putting back ended."""
    if missing:
        entry.end("failed", "the course is not what it was", differences=list(missing))
    else:
        entry.end("done")
