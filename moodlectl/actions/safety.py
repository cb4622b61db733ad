"""The safety backup: all that a course holds, brought here before something may destroy it, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlectl.actions import deeds, files
from moodlectl.actions.recording import Entry
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown, Refused
from moodlectl.findings import DANGERS
from moodlectl.ledger import Job, default_path
from moodlectl.site.port import (
    BackupRequest,
    Counts,
    Course,
    CourseRef,
    OnProgress,
    Restored,
    RestoreRequest,
    RestoreSource,
    Site,
    no_progress,
)

ESSENTIAL = ("users", "activities", "files", "role_assignments", "groups", "questionbank", "blocks")
_OUT = ("anonymize", "imscc11")

STAGE = "safety"


@dataclass(frozen=True)
class SafetyBackup:
    """A whole backup of a course on this machine, checked; ``lacks`` are settings the site would not give."""

    course: Course
    path: Path
    sha1: str
    counts: Counts
    lacks: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What the ledger keeps of it, enough for ``undo``."""
        course = self.course
        return {
            "safety": str(self.path),
            "safety_sha1": self.sha1,
            "safety_lacks": list(self.lacks),
            "target": {
                "id": course.id,
                "fullname": course.fullname,
                "shortname": course.shortname,
                "idnumber": course.idnumber,
                "visible": course.visible,
            },
            "target_counts": _counts(self.counts),
        }


def _counts(counts: Counts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in counts.__dataclass_fields__ if getattr(counts, name) is not None}


def folder() -> Path:
    """Where safety backups are kept: beside the ledger. Nothing deletes them but their owner."""
    return default_path().parent / "safety"


@dataclass(frozen=True)
class Whole:
    """How a whole backup of a course is made here: the settings to ask for, and those the site will not give."""

    settings: Mapping[str, bool]
    lacks: tuple[str, ...]


def ready(site: Site, course: Course) -> Whole:
    """How a safety backup of that course would be made. Reads only.

    Raises Refused (``no_safety``, ``engine_cannot``) where the site would not let all that matters be backed up.
    """
    try:
        return Whole(*_everything(site, course))
    except Refused as refused:
        if refused.code == "engine_cannot":
            refused.hint = f"{refused.hint or ''} To go without a safety backup: --no-safety-backup.".strip()
        raise


def take(
    site: Site, course: Course, whole: Whole, entry: Entry, on_progress: OnProgress = no_progress
) -> SafetyBackup:
    """Back the whole course up, bring it here, check every byte, and leave no copy on the site.

    Writes to the site only what it removes again. Raises Failed where the copy is not whole; the course is then
    untouched.
    """
    place = folder()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    counts = site.counts(course.id)
    try:
        made = deeds.made_or_found(site, BackupRequest(course.id, whole.settings), entry, STAGE, on_progress)
    except OutcomeUnknown as lost:
        lost.message += ". That was the safety backup: nothing was restored"
        raise
    path = place / files.safe_name(f"job-{entry.job}-{made.file.filename}")
    try:
        got = site.download(made.file, path, on_progress)
        path.chmod(0o600)
        _check(path, course)
        saved = SafetyBackup(course, path, got.sha1 or "", counts, whole.lacks)
        entry.note(**saved.facts())  # before the copy there goes: whoever takes this up has one
    finally:
        site.delete_backup(made.file)
    return saved


def _everything(site: Site, course: Course) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Every root setting switched on, and those that are locked off."""
    wanted: dict[str, bool] = {}
    lacks: list[str] = []
    for setting in site.backup_settings(course.id):
        if setting.level != "root" or setting.name in _OUT or not isinstance(setting.value, bool | int):
            continue
        if setting.locked_by in ("config", "permission"):
            if not setting.value and setting.visible:
                lacks.append(setting.name)
        else:
            wanted[setting.name] = True
    lost = [name for name in lacks if name in ESSENTIAL]
    if lost:
        raise Refused(
            f"No whole safety backup of {course.shortname} can be made: {', '.join(lost)} is locked off on the site.",
            "Act as somebody who may back that up (--as), have it unlocked, or go without: --no-safety-backup.",
            code="no_safety",
            details={"locked_off": lost},
        )
    return wanted, tuple(lacks)


def _check(path: Path, course: Course) -> None:
    from moodlectl import mbz

    report = mbz.verify(path)
    if not report.ok:
        raise Failed(
            f"The safety backup of {course.shortname} is not whole; the course was not touched.",
            "Try again; 'moodlectl backup verify' shows what is wrong with it.",
            code="safety_not_whole",
            details={"path": str(path), "problems": [str(problem) for problem in report.problems[:10]]},
        )


# --- the way back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undo:
    """What putting back would do: replace all that ``course`` holds now with ``path``."""

    job: int
    course: Course
    path: Path
    request: RestoreRequest
    counts: Mapping[str, Any]


def plan_undo(site: Site, job: Job) -> Undo:
    """What ``restore --undo JOB`` would put back. Reads only. Raises Refused, NotFound."""
    facts = next((item.facts for item in job.items if item.facts.get("safety")), None)
    if facts is None:
        raise Refused(
            f"Job {job.id} has no safety backup to put back.",
            "Only a restore that replaced or merged into a course has one, unless --no-safety-backup was said.",
            code="no_safety",
        )
    if job.site != site.name or job.url != site.info().url:
        raise Refused(
            f"Job {job.id} was on the site '{job.site}' ({job.url}), not on '{site.name}'.",
            f"Add --site {job.site}.",
            code="other_site",
        )
    return undo_of(site, job.id, facts)


def undo_of(site: Site, job: int, facts: Mapping[str, Any]) -> Undo:
    """The way back from what ``SafetyBackup.facts`` wrote down. Reads only. Raises Refused, NotFound."""
    path = Path(facts["safety"])
    if not path.is_file():
        raise Refused(f"The safety backup of job {job} is gone: {path}.", code="no_safety")
    if files.sha1_of(path) != facts["safety_sha1"]:
        raise Refused(f"The safety backup of job {job} was changed since: {path}.", code="no_safety")
    target = facts["target"]
    course = site.course(CourseRef("id", str(target["id"])))
    request = RestoreRequest(
        source=RestoreSource(path=path),
        mode="replace",
        course_id=int(target["id"]),
        fullname=target["fullname"],
        shortname=target["shortname"],
        # Not everybody who may restore may change this one: only where it is another now.
        idnumber=target["idnumber"] if target["idnumber"] != course.idnumber else None,
        visible=bool(target["visible"]),
        enrolments="with-users",
        overwrite_config=True,
        settings=_restorable(path),
        allow=frozenset(DANGERS),  # what the course held comes back, whatever is the matter
    )
    return Undo(job, course, path, request, facts["target_counts"])


def _restorable(path: Path) -> dict[str, bool]:
    """The settings the safety backup was made with, whatever the site's defaults for a restore are."""
    from moodlectl import mbz

    manifest = mbz.inspect(path)
    return {name: True for name in _RESTORED if manifest.settings.get(name) is True}


# Root settings that backups and restores share (restore_root_task, 3.9 to 5.1).
_RESTORED = (
    *("users", "role_assignments", "activities", "blocks", "filters", "comments", "badges", "calendarevents"),
    *("userscompletion", "logs", "grade_histories", "groups", "competencies", "customfield", "contentbankcontent"),
    *("xapistate", "legacyfiles", "permissions"),
)


def run_undo(
    site: Site, undo: Undo, entry: Entry, on_progress: OnProgress = no_progress
) -> tuple[Restored, Verified]:
    """Put it back, and compare the course with the safety backup, thing by thing. Writes to the site."""
    with Verification(site, undo.request) as verification:
        verification.look(on_progress)
        restored = deeds.restored(site, undo.request, entry, "undo", on_progress)
        return restored, verification.verify_undo(restored, undo.counts, on_progress)


def says_put_back(job: int) -> str:
    """The command that puts everything back."""
    return f"moodlectl restore --undo {job}"


def explain(error: MoodlectlError, job: int, facts: Mapping[str, Any]) -> None:
    """Tell, with an error, where the safety backup is and how to put it back."""
    if facts.get("safety"):
        error.details.setdefault("safety_backup", facts["safety"])
        error.details.setdefault("put_back", says_put_back(job))
