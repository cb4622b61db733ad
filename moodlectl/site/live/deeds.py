"""What has become of a deed on the host: the account it keeps of itself, read and settled (``php/deeds.php``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moodlectl.errors import MoodlectlError
from moodlectl.site import trouble
from moodlectl.site.live.backup import read_made
from moodlectl.site.live.restore import read_restored
from moodlectl.site.port import Deed
from moodlectl.site.runner import Runner

Record = Mapping[str, Any]


def look(runner: Runner, number: str) -> Deed:
    """What the account of that deed says, and whether its process lives. Reads only."""
    return read_deed(number, runner.ask("deed", {"deed": number}))


def settle(runner: Runner, number: str) -> Deed:
    """Remove what a killed process has left, and say how it ended. Writes to the site; may be done again.

    Raises Refused while it still works, NotFound where there is no account.
    """
    return read_deed(number, runner.do("deed_settle", {"deed": number}))


def forget(runner: Runner, number: str) -> None:
    """Remove the account of a deed that has ended."""
    runner.ask("deed_forget", {"deed": number})


def read_deed(number: str, reply: Record) -> Deed:
    """What ``moodlectl_call_deed`` and ``moodlectl_call_deed_settle`` answered."""
    account = reply.get("account")
    if not reply["found"] or account is None:
        return Deed(number, found=False)
    phase, result = str(account.get("phase") or "prepared"), account.get("result")
    running, kind = bool(reply["running"]), account.get("kind")
    done = phase == "done" and result is not None
    progress = account.get("progress")
    return Deed(
        number,
        found=True,
        running=running,
        phase=phase,
        progress=None if progress is None else int(progress) / 1000,
        course_id=account.get("course"),
        changed=bool(account.get("changed")),
        unsettled=not running and (phase not in ("done", "failed") or _lies_about(account)),
        restored=read_restored(result) if done and kind == "restore" else None,
        made=read_made(result) if done and kind == "backup" else None,
        error=_error(account) if phase == "failed" else None,
    )


def _lies_about(account: Record) -> bool:
    """Whether something could not be cleared up, or stored backups are still set aside."""
    return bool(account.get("trouble") or account.get("aside"))


def _error(account: Record) -> MoodlectlError:
    """The error that it ended with, and what could not be cleared up or is left of the course."""
    event = account.get("error") or {}
    details = event.get("details")
    details = dict(details) if isinstance(details, Mapping) else {}
    for name in ("trouble", "left"):
        if account.get(name):
            details.setdefault(name, account[name])
    return trouble.translate(event, details)
