"""A restore nobody regrets: recorded, with a safety backup before it and the way back after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moodlectl.actions import checks, deeds, requests, restore, safety
from moodlectl.actions.recording import Entry, recorded
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown
from moodlectl.findings import Finding, GuardMode, worst_first
from moodlectl.ledger import Item, Job
from moodlectl.site.port import (
    Course,
    OnProgress,
    Restored,
    RestoreRequest,
    Site,
    no_progress,
)

STAGE = "restore"


@dataclass(frozen=True)
class Protection:
    """What is done so that nothing is lost or unseen: a safety backup first, putting it back when the restore fails,
    comparing afterwards; ``guards`` are the modes of the guards on the course (``actions.guards``). ``checked`` is what
    ``checks.before`` has found, where that was asked already."""

    safety: bool = True
    auto_undo: bool = False
    verify: bool = True
    guards: Mapping[str, GuardMode] = field(default_factory=dict)
    checked: checks.Report | None = None


@dataclass(frozen=True)
class Protected:
    """A restore that was done: its job's number, the safety backup where one was taken, and what was found before."""

    done: restore.Done
    job: int
    safety: safety.SafetyBackup | None
    findings: tuple[Finding, ...] = ()
    allow: frozenset[str] = frozenset()


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
        facts={"auto_undo": protection.auto_undo, "verify": protection.verify},
    )
    told = checks.telling(protection.checked, request.allow)
    with told, recorded(site, kind_of(request), item, asked) as entry:
        checked = protection.checked or look(site, request, target, protection, on_progress)
        protection = replace(protection, checked=checked)
        done, saved = within(site, request, target, protection, entry, on_progress)
        record(entry, done)
        found = {(one.name, one.message): one for one in (*checked.findings, *done.restored.findings)}
        return Protected(done, entry.job, saved, worst_first(found.values(), request.allow), request.allow)


def look(
    site: Site,
    request: RestoreRequest,
    target: Course | None,
    protection: Protection,
    on_progress: OnProgress = no_progress,
) -> checks.Report:
    """What is to be seen before that restore. Leaves nothing behind on the site."""
    saved = saves(target, protection)
    return checks.before(
        site, request, target, checks.Look(protection.guards, plan=saved, safety=saved), on_progress
    )


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
    wanted = target is not None and protection.safety and not entry.facts.get("safety")
    whole = safety.ready(site, target) if wanted and target is not None else None
    if not begun:  # else it is looked up, not begun anew
        checked = protection.checked or look(site, request, target, protection, on_progress)
        entry.note(**_source_facts(request, checked))
        checks.refuse(checked, request.allow)
    if whole is not None and target is not None:
        saved = safety.take(site, target, whole, entry, on_progress)
        entry.note(**saved.facts(), safety_site=site.name, safety_url=site.info().url)
    with Verification(site, request, wanted=protection.verify, keeps=not begun) as verification:
        verification.look(on_progress)
        try:
            restored = deeds.restored_or_found(site, request, entry, STAGE, on_progress)
        except Failed as error:
            raise failed(site, entry, error, on_progress) from error
        except OutcomeUnknown as error:
            safety.explain(error, entry.name, entry.facts)
            raise
        return restore.Done(restored, verification.verify(restored, on_progress)), saved


def saves(target: Course | None, protection: Protection) -> bool:
    """Whether a safety backup is made; the site then makes its plan first, so that none is made for nothing."""
    return target is not None and protection.safety


def kind_of(request: RestoreRequest) -> str:
    """What its job is called: ``restore``, ``copy`` or ``import``."""
    return request.source.course.rules if request.source.course is not None else "restore"


def _source_facts(request: RestoreRequest, report: checks.Report) -> dict[str, Any]:
    """The course it comes from, or the sha1 of the file that travels, and of the backup named where that is another."""
    if request.source.course is not None:
        return {"source_course": request.source.course.course_id}
    facts = {"sha1": report.file_sha1} if report.file_sha1 is not None else {}
    if report.sha1 is not None and report.sha1 != report.file_sha1:
        facts["origin_sha1"] = report.sha1
    return facts


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
    safety.explain(error, entry.name, entry.facts)
    if entry.facts.get("auto_undo"):
        return _taken_back(site, entry, error, on_progress)
    error.hint = f"Put back what the course held before: {safety.says_put_back(entry.name)}"
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
            f"Remove the cause, then: {safety.says_put_back(entry.name)}. "
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


@dataclass(frozen=True)
class Undone:
    """What was put back: the restore, how the course compares with what it held before, the undo's own job number,
    and the safety backup of what the course held until then, where one was taken."""

    restored: Restored
    verified: Verified
    job: int
    safety: safety.SafetyBackup | None

    @property
    def differences(self) -> tuple[str, ...]:
        """What is not as it was, one sentence each."""
        return self.verified.differences


def undo(
    site: Site, job: Job, plan: safety.Undo, on_progress: OnProgress = no_progress, *, safe: bool = False
) -> Undone:
    """Put back what a restore replaced. Writes to the site and the ledger.

    ``safe`` takes a safety backup of what the course holds now first, so that the undo can be undone.
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
        saved = None
        if safe:
            saved = safety.take(site, plan.course, safety.ready(site, plan.course), entry, on_progress)
        try:
            restored, verified = safety.run_undo(site, plan, entry, on_progress)
        except Failed as error:
            if error.details.pop("course_changed", False):
                entry.note(course_changed=True)
                error.hint = f"Remove the cause, then try again: {safety.says_put_back(job.id)}"
                error.details["safety_backup"] = str(plan.path)
            raise
        record_undo(entry, verified.differences)
        return Undone(restored, verified, entry.job, saved)


def record_undo(entry: Entry, missing: tuple[str, ...]) -> None:
    """Write down how putting back ended."""
    if missing:
        entry.end("failed", "the course is not what it was", differences=list(missing))
    else:
        entry.end("done")
