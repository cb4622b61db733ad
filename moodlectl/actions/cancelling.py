"""Give a job up: what has not begun is not begun, what was begun is finished or looked up, never left half done."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlectl import ledger, ledger_batch
from moodlectl.errors import Refused
from moodlectl.ledger import Job


@dataclass(frozen=True)
class Cancelled:
    """What cancelling a job has done: its state now, how many items were given up, how many still have to be ended."""

    job: int
    state: str
    message: str
    given_up: int = 0
    left: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For printing."""
        told = {"id": self.job, "state": self.state, "message": self.message}
        return {**told, "cancelled": self.given_up, "left": self.left}


def cancel(number: int, path: Path | None = None) -> Cancelled:
    """Give a job up. Writes the ledger; a process at work hears of it and ends by itself.

    Of a batch all that has not begun is skipped. Of a single deed the process is asked to stop, as by Ctrl-C. Raises
    NotFound, and Refused where there is nothing left to give up or the process is on another machine.
    """
    job = ledger.job_head(number, path)
    if not job.batch:
        return _single(job)
    if job.state in ledger_batch.FINISHED:
        raise _ended(job)
    job, given_up, left = ledger_batch.cancel(number, path)
    if job.running:
        message = f"process {job.process.split()[-1]} was asked; it finishes the courses it has begun"
        message += ledger.take_over_hint(job)
    elif left:
        message = (
            f"{given_up} courses given up; {left} were begun and are left to be finished: moodlectl job resume {number}"
        )
    else:
        message = f"{given_up} courses given up"
    return Cancelled(number, job.state, message, given_up, left)


def _ended(job: Job) -> Refused:
    return Refused(f"Job {job.id} has ended already: it is {job.state}.", code="job_ended")


def _single(job: Job) -> Cancelled:
    if not job.running:
        if job.state != "unknown":
            raise _ended(job)
        raise Refused(
            f"Job {job.id} is not at work any more, and nobody knows yet what became of it.",
            f"Find out, and clear up after it: moodlectl job resume {job.id}",
            code="job_unknown_outcome",
        )
    host, _, process = job.process.partition(" ")
    if host != socket.gethostname():
        raise Refused(f"Job {job.id} is at work on {host}: stop it there.", code="job_elsewhere")
    try:
        os.kill(int(process), signal.SIGINT)
    except PermissionError as error:
        message = f"Process {process} of job {job.id} belongs to somebody else ({job.who})."
        raise Refused(message, code="job_elsewhere") from error
    return Cancelled(job.id, job.state, f"process {process} was asked to stop, as by Ctrl-C")
