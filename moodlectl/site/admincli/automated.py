"""Running the automated backups with ``admin/cli/automated_backups.php``, and what became of each course.

The script says "completed correctly" whatever happens, and since 3.8 it only puts the backups into Moodle's queue, for
cron to make (``backup_cron_helper.class.php``). A course is ``ok`` only where a file of it is there, made since.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from moodlectl.errors import AccessError, Failed, MoodlectlError, OutcomeUnknown, Refused
from moodlectl.site.admincli import refusals, scripts
from moodlectl.site.admincli.looking import Means
from moodlectl.site.admincli.scripts import AUTOMATED, Automated, Looked, Said
from moodlectl.site.live import courses, storedfiles
from moodlectl.site.port import AutomatedRun, Course, OnProgress, Progress


def run(means: Means, on_progress: OnProgress) -> tuple[AutomatedRun, ...]:
    """Run them; tells of the courses that Moodle looked at. Writes to the site.

    ``queued`` waits for the site's cron, ``notyetrun`` is not due yet. Raises Refused where automated backups are off,
    being run already, or suspended, Failed, OutcomeUnknown.
    """
    refusals.check_acting(means.config, None)
    looked = 0

    def step(line: str) -> None:
        nonlocal looked
        if line.startswith(("Putting backup of ", "Skipping course", "Skipping ")):
            looked += 1
            on_progress(Progress("backup", looked, None, message=line))

    on_progress(Progress("backup", 0, None))
    said = means.host.script(AUTOMATED, [], deed=True, on_line=step)
    told = scripts.automated(said)
    if told.state != "ran" or said.status != 0:
        raise _trouble(said, told)
    known = {} if means.web is None else {each.id: each for each in courses.courses(means.web)}
    return tuple(_run(means, each, known, told.started) for each in told.looked)


def _run(means: Means, looked: Looked, known: Mapping[int, Course], started: datetime | None) -> AutomatedRun:
    course = _course(looked, known)
    id_ = course.id if course else looked.course_id or 0
    name = course.shortname if course else looked.fullname or ("front page" if id_ == courses.FRONT_PAGE else "")
    made = _made_since(means, course, started) if looked.fate == "queued" else None
    return AutomatedRun(id_, name, "ok" if made else looked.fate, started if made else None, made)


def _course(looked: Looked, known: Mapping[int, Course]) -> Course | None:
    if looked.course_id is not None:
        return known.get(looked.course_id)
    named = [each for each in known.values() if each.fullname == looked.fullname]
    return named[0] if len(named) == 1 else None


def _made_since(means: Means, course: Course | None, started: datetime | None) -> datetime | None:
    """When the automated backup was made that was not there when the script started; None without evidence."""
    if means.web is None or course is None or started is None:
        return None
    try:
        files = storedfiles.backups(means.web, course.id, ("automated",)).files
    except AccessError:
        return None
    return next((file.timecreated for file in files if file.timecreated >= started and file.size > 0), None)


def _trouble(said: Said, told: Automated) -> MoodlectlError:
    if told.state == "inactive":
        return Refused(
            "Automated backups are switched off on this site.",
            "Site administration > Courses > Backups > Automated backup setup: Enabled or Manual.",
            code="automated_disabled",
            details=said.evidence,
        )
    if told.state == "busy":
        return Refused(
            "The automated backups are being run already.",
            "Wait until the site's cron is done with them.",
            code="automated_running",
            details=said.evidence,
        )
    words = scripts.problem(said)
    if any("execution suspended" in line for line in said.output):
        return Refused(f"The site makes no backups now: {words}", code="suspended", details=said.evidence)
    if said.status != 0:
        return Failed(f"Moodle's script failed: {words}.", code="script_failed", details=said.evidence)
    return OutcomeUnknown(
        "Moodle's script ended, but what it said is not understood.",
        "Look at the report of backups: Site administration > Reports > Backups.",
        code="unclear",
        details=said.evidence,
    )
