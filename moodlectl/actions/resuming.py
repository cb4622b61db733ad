"""Take up a job of which nobody knows how it ended: ask the site, wait, clear up, compare, write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlectl import ledger
from moodlectl.actions import deeds, gateway, naming, protected, requests, safety
from moodlectl.actions import restore as restoring
from moodlectl.actions.recording import Entry, resumed
from moodlectl.actions.verification import Verification, Verified, quick
from moodlectl.errors import Failed, NotFound, OutcomeUnknown, Refused, Unreachable
from moodlectl.ledger import Job
from moodlectl.site.port import Course, Deed, OnProgress, Restored, Site, no_progress

KINDS = ("restore", "undo", "backup", "copy", "import", "download")
"""The kinds of job whose deeds the site keeps an account of."""


@dataclass(frozen=True)
class Found:
    """What became of a job: its state now, in a sentence, and whether there is something to put back."""

    job: int
    state: str
    message: str
    undo: bool = False
    restored: Restored | None = None
    file: str | None = None
    course: Course | None = None


def resume(site: Site, job: Job, on_progress: OnProgress = no_progress) -> Found:
    """Find out how a job ended, and leave nothing half done. Writes to the site and the ledger.

    A restore that still works is waited for. One that was killed: a new course is removed again, a replaced one is
    left to ``restore --undo`` (``undo`` of the result), unless the job itself said to put it back. Raises
    OutcomeUnknown while the site cannot be asked, Refused where the job is at work, or on another site.
    """
    if job.site != site.name or job.url != site.info().url:
        raise Refused(
            f"Job {job.id} was on the site '{job.site}' ({job.url}), not on '{site.name}'.",
            f"Add --site {job.site}.",
            code="other_site",
        )
    if job.state != "unknown":
        return _known(job)
    with resumed(site, job.id) as entry:
        return _find_out(site, job, entry, on_progress)


def _known(job: Job) -> Found:
    if job.running:
        hint = f"See: moodlectl job show {job.id}{ledger.take_over_hint(job)}"
        raise Refused(f"Job {job.id} is still at work.", hint, code="job_running")
    item = job.items[0] if job.items else None
    facts = item.facts if item is not None else {}
    open_ = bool(facts.get("course_changed") and facts.get("safety") and not facts.get("undone"))
    return Found(job.id, job.state, (item.message if item is not None else "") or "", undo=open_)


def _find_out(site: Site, job: Job, entry: Entry, on_progress: OnProgress) -> Found:
    stage = entry.facts.get("stage")
    if job.kind == "delete":
        return _after_delete(site, job, entry)
    if stage == gateway.STAGE:
        return _after_web(site, entry, on_progress)
    if stage is None:
        if job.kind not in KINDS:
            raise OutcomeUnknown(
                f"What became of job {job.id} ({job.kind}) cannot be found out: the site keeps no account of that.",
                "Look at the site.",
                code="no_account",
            )
        entry.end("failed", "ended before anything was begun on the site")
        return Found(job.id, "failed", "It ended before anything was begun on the site.")
    try:
        deed = deeds.ended(
            site,
            deeds.number_of(entry.facts, stage) or "",
            begun=entry.has_begun(stage),
            on_progress=on_progress,
            patience=PATIENCE,
        )
    except Unreachable as silence:
        raise OutcomeUnknown(
            f"What became of job {job.id} is not known yet: {silence.message}",
            code=silence.code,
            details=silence.details,
        ) from silence
    after = {"safety": _after_safety, "restore": _after_restore, "undo": _after_undo, "backup": _after_backup}
    return after[stage](site, entry, deed, on_progress)


PATIENCE = 10.0
"""How long, in seconds, a silent site is asked again by ``resume``."""


def _nothing(entry: Entry, why: str) -> Found:
    entry.end("failed", why)
    return Found(entry.job, "failed", why)


def _after_safety(site: Site, entry: Entry, deed: Deed, _: OnProgress) -> Found:
    """It ended while the safety backup was made or brought down: the course is as it was."""
    if deed.made is not None:
        _delete_if_there(site, deed)
    if entry.facts.get("safety"):
        return _nothing(entry, "ended before the restore was begun; nothing was changed")
    for part in safety.folder().glob(f"job-{entry.job}-*"):
        part.unlink()
    return _nothing(entry, "ended while the safety backup was made; nothing was changed")


def _delete_if_there(site: Site, deed: Deed) -> None:
    assert deed.made is not None
    file = deed.made.file
    listed = site.backups(file.course_id, [file.area]).files
    for one in listed:
        if one.filename == file.filename and one.sha1 == file.sha1:
            site.delete_backup(one)


def _after_restore(site: Site, entry: Entry, deed: Deed, on_progress: OnProgress) -> Found:
    if deed.restored is not None:
        done = restoring.Done(deed.restored, _verified(site, entry.facts, deed.restored, on_progress))
        protected.record(entry, done)
        name = deed.restored.course.shortname
        if done.differences:
            raise Failed(
                f"The restore into {name} ended, but the course is not what the backup holds.",
                "Look at the differences before anybody works in the course.",
                code="not_verified",
                details={"differences": list(done.differences)},
            )
        return Found(entry.job, "done", f"The site finished the restore into {name}.", restored=deed.restored)
    error = deed.error
    if error is None:
        return _nothing(entry, "The site never began with the restore; nothing was changed.")
    if not deed.changed or not isinstance(error, Failed):
        return _nothing(entry, error.message)
    error.details["course_changed"] = True
    told = protected.failed(site, entry, error, on_progress)
    if isinstance(told, OutcomeUnknown):
        raise told
    entry.end("failed", told.message)
    undo = bool(entry.facts.get("safety")) and not entry.facts.get("undone")
    return Found(entry.job, "failed", told.message, undo=undo)


def _verified(
    site: Site, facts: Mapping[str, Any], restored: Restored, on_progress: OnProgress
) -> Verified | None:
    """Compare what a restore made whose process is gone; what the course held before is not known any more."""
    if not facts.get("verify", True):
        return None
    request = requests.read(facts)
    if request is None:
        return quick(restored)
    with Verification(site, request, keeps=False) as verification:
        verification.look(on_progress)
        return verification.verify(restored, on_progress)


def _after_undo(site: Site, entry: Entry, deed: Deed, on_progress: OnProgress) -> Found:
    """It ended while a safety backup was put back, for ``--undo`` or ``--auto-undo``."""
    origin, facts = _origin(entry)
    if deed.restored is not None:
        with Verification(site, safety.undo_of(site, origin, facts).request) as verification:
            verification.look(on_progress)
            missing = verification.verify_undo(deed.restored, facts["target_counts"], on_progress).differences
        if not missing and entry.facts.get("undoes"):
            entry.end("done")
            return Found(entry.job, "done", f"What job {origin} had changed was put back.", restored=deed.restored)
        if not missing:
            entry.note(undone=True)
            return _nothing(entry, "The restore failed; what the course held before was put back, and is as it was.")
        return _nothing(entry, f"put back, but not all of it: {'; '.join(missing)}")
    message = deed.error.message if deed.error is not None else "The site never began to put it back."
    entry.end("failed", message)
    return Found(entry.job, "failed", message, undo=True)


def _origin(entry: Entry) -> tuple[int, Mapping[str, Any]]:
    """The job whose safety backup is put back, and its facts."""
    number = int(entry.facts.get("undoes") or entry.job)
    return number, entry.facts if number == entry.job else ledger.job(number).items[0].facts


def _after_backup(site: Site, entry: Entry, deed: Deed, _: OnProgress) -> Found:
    if deed.made is None:
        why = deed.error.message if deed.error is not None else "The site never began with the backup; there is none."
        return _nothing(entry, why)
    if entry.facts.get("into_store"):
        return _after_storing(site, entry, deed)
    file = deed.made.file
    word = naming.stored_word(file)
    entry.end("done", file=word, sha1=file.sha1, size=file.size)
    return Found(entry.job, "done", f"The backup was made and lies on the site: {word}", file=word)


def _after_storing(site: Site, entry: Entry, deed: Deed) -> Found:
    """It ended on its way into a store: what is on the site is a backup without files, and nobody's to keep."""
    from moodlectl.actions import storing

    assert deed.made is not None
    store = storing.opened(str(entry.facts["store"]))
    kept = store.entry(deed.made.file.sha1 or "")
    _delete_if_there(site, deed)
    if kept is None:
        return _nothing(entry, "ended on its way into the store; what has arrived there need not come again")
    word = f"store:{kept.id[:10]}"
    entry.end("done", store=store.address, entry=kept.id)
    return Found(entry.job, "done", f"The backup was made and is in the store: {word}", file=word)


def _after_web(site: Site, entry: Entry, on_progress: OnProgress) -> Found:
    """A copy or import inside one web request, whose answer nobody heard."""
    course, missing = gateway.found_out(site, entry, on_progress)
    if missing:
        raise Failed(
            f"Moodle finished {course.shortname}, but not all of it is there.",
            "Look at the differences before anybody works in the course.",
            code="not_verified",
            details={"differences": list(missing)},
        )
    return Found(entry.job, "done", f"Moodle finished {course.shortname} ({course.url}).", course=course)


def _after_delete(site: Site, job: Job, entry: Entry) -> Found:
    word = job.items[0].source or ""
    try:
        parsed = naming.parse_backup(word)
        assert not isinstance(parsed, naming.LocalBackup)
        naming.find_stored(site, parsed)
    except NotFound:
        entry.end("done")
        return Found(job.id, "done", f"The backup {word} is gone.")
    return _nothing(entry, f"The backup {word} is still there; nothing was deleted.")


def undo_number(job: Job) -> int:
    """The job whose safety backup puts back what this one left: its own, or the one an undo was for."""
    return int(job.items[0].facts.get("undoes") or job.id) if job.items else job.id


def put_back(site: Site, found: Found, on_progress: OnProgress = no_progress) -> protected.Undone:
    """Put back what an unfinished restore has left of a course. As ``protected.undo``, and notes it at the job."""
    job = ledger.job(undo_number(ledger.job(found.job)))
    return undo(site, job, safety.plan_undo(site, job), on_progress)


def undo(
    site: Site, job: Job, plan: safety.Undo, on_progress: OnProgress = no_progress, *, safe: bool = False
) -> protected.Undone:
    """``protected.undo``, noted at the job it undoes."""
    undone = protected.undo(site, job, plan, on_progress, safe=safe)
    if undone.verified.ok:
        note_undone(job, undone.job)
    return undone


def settled(site: Site, job: Job, on_progress: OnProgress = no_progress) -> Job:
    """That job, when it is known how it ended: before it is undone, a restore that may still work is waited for.

    Writes to the site and the ledger as ``resume`` does. Raises OutcomeUnknown while the site cannot be asked.
    """
    if job.state != "unknown" or job.running:
        return job
    try:
        resume(site, job, on_progress)
    except Failed:
        pass  # finished, and not what was asked for: all the more to be undone
    except OutcomeUnknown as unknown:
        if unknown.code != "no_account":  # nothing of it is at work any more
            raise
    return ledger.job(job.id)


def note_undone(job: Job, by: int, path: Path | None = None) -> None:
    """Write down at a job that what it changed was put back; what an undo had undone is then in force again."""
    book = ledger.Ledger(path)
    try:
        book.note(job.id, 1, undone=True, undone_by=by)
        undoes = job.items[0].facts.get("undoes")
        if undoes:
            book.note(int(undoes), 1, undone=False, undone_by=None)
    finally:
        book.close()
