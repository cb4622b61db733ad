"""The safety backup: all that a course holds, brought here before something may destroy it, and the way back."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from moodlectl.actions import deeds, files
from moodlectl.actions.recording import Entry
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import AccessError, Failed, MoodlectlError, NotFound, OutcomeUnknown, Refused
from moodlectl.findings import DANGERS
from moodlectl.ledger import Job, default_path
from moodlectl.site.port import (
    BackupFile,
    BackupRequest,
    Counts,
    Course,
    CourseRef,
    Keepsake,
    OnProgress,
    Restored,
    RestoreRequest,
    RestoreSource,
    Site,
    Work,
    no_progress,
)

ESSENTIAL = ("users", "activities", "files", "role_assignments", "groups", "questionbank", "blocks")
_OUT = ("anonymize", "imscc11")

STAGE = "safety"

SPARE = 16 << 20
"""Bytes that must be free here besides what the course's files need."""


@dataclass(frozen=True)
class SafetyBackup:
    """A whole backup of a course on this machine, checked; ``lacks`` are settings the site would not give.

    ``keepsake`` is the file beside it with what no backup carries.
    """

    course: Course
    path: Path
    sha1: str
    counts: Counts
    lacks: tuple[str, ...]
    keepsake: Path

    def facts(self) -> dict[str, Any]:
        """What the ledger keeps of it, enough for ``undo``."""
        course = self.course
        return {
            "safety": str(self.path),
            "safety_sha1": self.sha1,
            "safety_lacks": list(self.lacks),
            "keepsake": str(self.keepsake),
            "target": {
                "id": course.id,
                "category": course.category_id,
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

    Raises Refused (``no_safety``, ``engine_cannot``) where the site would not let all that matters be backed up, and
    (``no_space``) where there is no room for it on this machine; AccessError where nothing can be written here.
    """
    _room(site, course)
    try:
        return Whole(*_everything(site, course))
    except Refused as refused:
        if refused.code == "engine_cannot":
            refused.hint = f"{refused.hint or ''} To go without a safety backup: --no-safety-backup.".strip()
        raise


def _room(site: Site, course: Course) -> None:
    """See that a file can be written where safety backups are kept, and that there is room for this one."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise AccessError(
            f"No safety backup can be kept in {place}: {error.strerror or error}.",
            f"Nothing was begun. {_ELSEWHERE}",
            code="safety_folder",
        ) from error
    need = (site.counts(course.id).file_bytes or 0) + SPARE
    if free < need:
        raise Refused(
            f"There is no room for the safety backup of {course.shortname} in {place}: {need:,} bytes may be needed, "
            f"{free:,} are free.",
            f"Nothing was begun. Free some space. {_ELSEWHERE}",
            code="no_space",
            details={"path": str(place), "free": free, "needed": need},
        )


_ELSEWHERE = "MOODLECTL_STATE names another folder for them; --no-safety-backup goes without."


def take(
    site: Site, course: Course, whole: Whole, entry: Entry, on_progress: OnProgress = no_progress
) -> SafetyBackup:
    """Back the whole course up, bring it here, check every byte, and leave no copy on the site.

    Writes to the site only what it removes again. Raises Failed where the copy is not whole; the course is then
    untouched.
    """
    counts, kept = site.counts(course.id), site.keepsake(course.id)
    try:
        made = deeds.made_or_found(site, BackupRequest(course.id, whole.settings), entry, STAGE, on_progress)
    except OutcomeUnknown as lost:
        lost.message += ". That was the safety backup: nothing was restored"
        raise
    path = folder() / files.safe_name(f"job-{entry.job}-{made.file.filename}")
    try:
        got = _fetched(site, made.file, path, on_progress)
        path.chmod(0o600)
        _check(path, course)
        keepsake = _keep(kept, path.with_suffix(".keepsake.json"))
        for each in (path, keepsake):
            files.make_lasting(each)
        saved = SafetyBackup(course, path, got.sha1 or "", counts, whole.lacks, keepsake)
        entry.note(**saved.facts())  # before the copy there goes: whoever takes this up has one
    except BaseException:
        for left in (path, path.with_name(f"{path.name}.part"), path.with_suffix(".keepsake.json")):
            left.unlink(missing_ok=True)
        raise
    finally:
        site.delete_backup(made.file)
    return saved


def _fetched(site: Site, file: BackupFile, path: Path, on_progress: OnProgress) -> BackupFile:
    """Bring it here; a disk that is too small after all is told with what can be done about it here."""
    try:
        return site.download(file, path, on_progress)
    except Refused as refused:
        refused.message = f"The safety backup cannot be brought here, and nothing was restored. {refused.message}"
        refused.hint = f"Free some space. {_ELSEWHERE}"
        raise


def _keep(kept: Keepsake, path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(dict(kept), ensure_ascii=False), encoding="utf-8")
    return path


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
            "Try again: it may have been hurt on its way. What is wrong with it each time is missing on the site, too.",
            code="safety_not_whole",
            details={"problems": [str(problem) for problem in report.problems[:10]]},
        )


# --- the way back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undo:
    """What putting back would do: replace all that ``course`` holds now with ``path``.

    ``lacks`` are settings that ``path`` was made without. ``broken`` is whether a restore has left the course half
    done, ``work`` what people have done in it since.
    """

    job: int
    course: Course
    path: Path
    request: RestoreRequest
    counts: Mapping[str, Any]
    lacks: tuple[str, ...] = ()
    broken: bool = False
    work: Work = Work(known=False)


def plan_undo(site: Site, job: Job) -> Undo:
    """What ``restore --undo JOB`` would put back, and what would go. Reads only. Raises Refused, NotFound."""
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
    if job.running:
        raise Refused(
            f"Job {job.id} is still at work.",
            f"Wait until it has ended: moodlectl job show {job.id}",
            code="job_running",
        )
    undo = undo_of(site, job.id, facts)
    broken = bool(facts.get("course_changed") and not facts.get("undone"))
    return replace(undo, broken=broken, work=site.work_since(undo.course.id, _since(job)))


def _since(job: Job) -> datetime:
    """When the course was last left to its people: at the end of that job, or of the one that undid it."""
    from moodlectl import ledger

    ended = [job.ended or job.created]
    for item in job.items:
        if item.facts.get("undone_by"):
            ended += [ledger.job(int(item.facts["undone_by"])).ended or ended[0]]
    return max(ended)


def undo_of(site: Site, job: int, facts: Mapping[str, Any]) -> Undo:
    """The way back from what ``SafetyBackup.facts`` wrote down. Reads only. Raises Refused, NotFound."""
    path = Path(facts["safety"])
    if not path.is_file():
        raise Refused(f"The safety backup of job {job} is gone: {path}.", code="no_safety")
    if files.sha1_of(path) != facts["safety_sha1"]:
        raise Refused(f"The safety backup of job {job} was changed since: {path}.", code="no_safety")
    target = facts["target"]
    course = _target(site, target, path)
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
        keepsake=_kept(facts.get("keepsake")),
    )
    lacks = [*(facts.get("safety_lacks") or ())]
    if facts.get("keepsake") and not Path(facts["keepsake"]).is_file():
        lacks.append(f"what Moodle's backups do not carry ({facts['keepsake']} is gone)")
    return Undo(job, course, path, request, facts["target_counts"], tuple(lacks))


def _target(site: Site, target: Mapping[str, Any], path: Path) -> Course:
    """The course as it is now. Raises NotFound with the way to have it again where it was deleted since."""
    try:
        return site.course(CourseRef("id", str(target["id"])))
    except NotFound as gone:
        category = target.get("category")
        where = f"id:{category}" if category else "CATEGORY"
        raise NotFound(
            f"The course {target['shortname']} (id:{target['id']}) has been deleted since.",
            f"What it held can be restored as a new course: moodlectl restore '{path}' --new {where}. "
            "(Moodle's recycle bin of the category may still hold it as it was deleted.)",
            code=gone.code,
            details={"safety_backup": str(path)},
        ) from gone


def _kept(path: str | None) -> Keepsake | None:
    """What was kept beside the safety backup; None where there is no such file, or no longer."""
    if path is None or not Path(path).is_file():
        return None
    kept: Keepsake = json.loads(Path(path).read_text(encoding="utf-8"))
    return kept or None


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


def says_put_back(job: int | str) -> str:
    """The command that puts everything back."""
    return f"moodlectl restore --undo {job}"


def told(job: int | str, facts: Mapping[str, Any]) -> list[str]:
    """What a person should know of a job's safety backup, one line each: where it is, what it lacks, the way back."""
    if not facts.get("safety"):
        return []
    lines = [f"safety backup: {facts['safety']}"]
    lines += [says_lacks(facts["safety_lacks"])] if facts.get("safety_lacks") else []
    if facts.get("undone"):
        by = f" by job {facts['undone_by']}" if facts.get("undone_by") else ""
        return [*lines, f"it was put back{by}"]
    return [*lines, f"put it back:   {says_put_back(job)}"]


def says_lacks(lacks: Sequence[str]) -> str:
    """What an undo cannot bring back, since the site would not have it backed up."""
    return f"it lacks:      {', '.join(lacks)} (the site would not back that up; it cannot be put back)"


def explain(error: MoodlectlError, job: int | str, facts: Mapping[str, Any]) -> None:
    """Tell, with an error, where the safety backup is and how to put it back."""
    if facts.get("safety"):
        error.details.setdefault("safety_backup", facts["safety"])
        error.details.setdefault("put_back", says_put_back(job))
        if facts.get("safety_lacks"):
            error.details.setdefault("safety_lacks", list(facts["safety_lacks"]))
