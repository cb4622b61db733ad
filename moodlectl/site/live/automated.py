"""Running the site's automated backups over the shell (``php/automated.php``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moodlectl.site.live.shell_courses import moment
from moodlectl.site.port import AutomatedRun, OnProgress, no_progress
from moodlectl.site.runner import Runner


def run(runner: Runner, *, on_progress: OnProgress = no_progress) -> tuple[AutomatedRun, ...]:
    """Run the automated backups that are due, and tell what became of each course. Writes to the site.

    Moodle decides what is due: a course it has never looked at is ``notyetrun`` and only given its next time.
    Raises Refused where automated backups are off or being run already, AccessError for all but
    administrators.
    """
    return read_runs(runner.do("automated_run", {}, on_progress=on_progress))


def read_runs(reply: Sequence[Mapping[str, Any]]) -> tuple[AutomatedRun, ...]:
    """What ``moodlectl_call_automated_run`` answered."""
    return tuple(
        AutomatedRun(
            course_id=int(each["course_id"]),
            shortname=str(each["shortname"]),
            status=each["status"],
            started=moment(each["started"]),
            ended=moment(each["ended"]),
        )
        for each in reply
    )
