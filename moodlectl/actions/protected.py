"""A restore nobody regrets: recorded, with a safety backup before it and the way back after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodlectl.actions import restore, safety
from moodlectl.actions.files import sha1_of
from moodlectl.actions.recording import Entry, recorded
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown
from moodlectl.ledger import Item, Job
from moodlectl.site.port import Course, OnProgress, Restored, RestoreRequest, Site, no_progress


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
        facts=_source_facts(request),
    )
    with recorded(site, "restore", item, asked) as entry:
        saved = None
        if target is not None and protection.safety:
            saved = safety.take(site, target, entry.job, on_progress)
            entry.note(**saved.facts())
        try:
            done = restore.run(site, request, on_progress, verify=protection.verify)
        except Failed as error:
            safety.explain(error, entry.job, saved)
            if saved is not None and protection.auto_undo and "left" in error.details:
                raise _taken_back(site, entry, saved, error, on_progress) from error
            raise
        except MoodlectlError as error:
            if isinstance(error, OutcomeUnknown):
                safety.explain(error, entry.job, saved)
            raise
        _record(entry, done)
        return Protected(done, entry.job, saved)


def _source_facts(request: RestoreRequest) -> dict[str, Any]:
    if request.source.path is not None:
        return {"sha1": sha1_of(request.source.path)}
    return {"sha1": request.source.stored.sha1} if request.source.stored is not None else {}


def _record(entry: Entry, done: restore.Done) -> None:
    facts: dict[str, Any] = {
        "course": done.restored.course.id,
        "activities": {str(old): new for old, new in done.restored.activities.items()},
        "differences": list(done.differences or ()),
    }
    if done.differences:
        entry.end("failed", "the course is not what the backup holds", **facts)
    else:
        entry.end("done", **facts)


def _taken_back(
    site: Site, entry: Entry, saved: safety.SafetyBackup, error: Failed, on_progress: OnProgress
) -> MoodlectlError:
    """Put the safety backup back after a restore that broke off; returns the error that says so."""
    undo = safety.undo_of(site, entry.job, saved.facts())
    try:
        _, differences = safety.run_undo(site, undo, on_progress)
    except MoodlectlError as second:
        error.details["auto_undo"] = f"failed: {second.message}"
        return error
    if differences:
        error.details["auto_undo"] = "put back, but not all of it"
        error.details["differences"] = list(differences)
        return error
    entry.note(undone=True)
    return Failed(
        f"{error.message} Its former content was put back and is as it was.",
        error.hint if error.code not in ("php_fatal",) else None,
        code=error.code,
        details={**error.details, "auto_undo": "done"},
    )


def undo(
    site: Site, job: Job, plan: safety.Undo, on_progress: OnProgress = no_progress
) -> tuple[Restored, tuple[str, ...], int]:
    """Put back what a restore replaced. Writes to the site and the ledger.

    Returns the restore, each difference to what the course held before, and the undo's own job number.
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
        restored, differences = safety.run_undo(site, plan, on_progress)
        if differences:
            entry.end("failed", "the course is not what it was", differences=list(differences))
        return restored, differences, entry.job
