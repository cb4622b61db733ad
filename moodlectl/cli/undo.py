"""``moodlectl restore --undo JOB``, and how a safety backup is told."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moodlectl.cli import output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import counts_record, course_record, verified_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moodlectl.actions import protected, safety


@dataclass(frozen=True)
class Undoing:
    """What was said beside ``--undo``."""

    job: str
    dry_run: bool
    safe: bool


def put_back(state: State, asked: Undoing, *, given: list[str | None]) -> None:
    """``restore --undo JOB``: show what would be lost and what comes back, ask, put it back, compare."""
    from moodlectl.actions import lifting, resuming, safety
    from moodlectl.errors import UsageError

    if any(word is not None for word in given):
        raise UsageError("--undo takes a job's number and nothing else: backup and course are known from the job.")
    found = lifting.undoable(asked.job, write=not asked.dry_run)
    with closing(state.open_site(state.site_name or found.site)) as site:
        with output.progress(state) as on_progress:
            found = resuming.settled(site, found, on_progress) if not asked.dry_run else found
        plan = safety.plan_undo(site, found)
        safe = asked.safe and (not plan.broken or bool(plan.work.changes))
        held = counts_record(site.counts(plan.course.id))
        _say_undo(state, plan, held, safe=safe)
        if asked.dry_run:
            if state.output is not Output.table:
                output.emit_one(state, {**_undo_record(plan, plan.job), "holds": held})
            return
        output.confirm(state, f"Put {plan.course.shortname} back?", refusal="Nothing was changed")
        with output.progress(state) as on_progress:
            undone = resuming.undo(site, found, plan, on_progress, safe=safe)
    _print_undone(state, plan, undone)


def _say_undo(state: State, plan: safety.Undo, held: Mapping[str, Any], *, safe: bool) -> None:
    """Before the question: what comes back, what goes, and who has worked in the course since."""
    numbers = {name: value for name, value in held.items() if name != "activities"}
    activities = sum(held.get("activities", {}).values())
    what = "the half of a restore that broke off" if plan.broken else "what it holds now"
    output.remark(
        state,
        f"puts {plan.course.shortname} (id:{plan.course.id}) back to what it was before job {plan.job}, "
        f"from {plan.path}; {what} goes: {activities} activities, {in_numbers(numbers)}. "
        + ("That is brought here first, so that it can be put back." if safe else "No copy of that is kept."),
    )
    if plan.lacks:
        output.warn(f"What cannot be put back, since the safety backup lacks it: {', '.join(plan.lacks)}.")
    work = plan.work
    if work.changes and work.last is not None:
        people = ", ".join(work.people[:10]) + (f" and {len(work.people) - 10} more" if len(work.people) > 10 else "")
        output.warn(
            f"Since then people have worked in it: {work.changes} changes by {people}, the last on "
            f"{work.last.astimezone():%Y-%m-%d %H:%M}. All of that goes."
        )
    elif not work.known:
        output.warn("Whether somebody has worked in it since cannot be told: the site keeps no log of it.")


def _undo_record(plan: safety.Undo, job: int) -> dict[str, Any]:
    work = plan.work
    return {
        "course": course_record(plan.course),
        "undoes": job,
        "restores": str(plan.path),
        "work_since": {"known": work.known, "changes": work.changes, "people": list(work.people), "last": work.last},
    }


def _print_undone(state: State, plan: safety.Undo, undone: protected.Undone) -> None:
    from moodlectl.actions import safety
    from moodlectl.errors import Failed

    restored, saved = undone.restored, undone.safety
    if state.output is Output.table:
        sys.stdout.write(f"{output.plain(restored.course.url)}\n")
        output.remark(state, f"put back {restored.course.shortname} (job {undone.job}): {restored.seconds:.1f} s")
        for line in safety.told(undone.job, saved.facts()) if saved is not None else ():
            output.remark(state, line)
        for warning in restored.warnings:
            output.warn(warning)
    else:
        record = {
            **_undo_record(plan, plan.job),
            "course": course_record(restored.course),
            "job": undone.job,
            **safety_record(saved, undone.job),
            "verified": verified_record(undone.verified),
            "warnings": list(restored.warnings),
        }
        output.emit_one(state, record)
    if not undone.verified.ok:
        raise Failed(
            f"{restored.course.shortname} is not what it was before job {plan.job}.",
            f"The safety backup is kept: {plan.path}",
            code="not_verified",
            details={"differences": list(undone.differences)},
        )


def safety_record(saved: safety.SafetyBackup | None, job: int) -> dict[str, Any]:
    """The keys that tell of a safety backup: where it is, what it lacks, and the command that puts it back."""
    from moodlectl.actions import safety

    return {
        "safety_backup": str(saved.path) if saved else None,
        "safety_lacks": list(saved.lacks) if saved else [],
        "put_back": safety.says_put_back(job) if saved else None,
    }


def in_numbers(held: Mapping[str, Any]) -> str:
    """What a course holds, in a line."""
    return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in held.items() if name != "file_bytes")
