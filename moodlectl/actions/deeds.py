"""What became of a deed nobody heard the answer of: asked of the site, waited for, and cleared up after."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from moodlectl.actions.recording import NOTHING_CHANGED, Entry
from moodlectl.errors import MoodlectlError, OutcomeUnknown, Unreachable
from moodlectl.site.port import (
    BackupMade,
    BackupQueued,
    BackupRequest,
    Deed,
    OnProgress,
    Progress,
    Restored,
    RestoreRequest,
    Site,
    no_progress,
)

T = TypeVar("T")

SILENCE: Final = 60.0
"""How long a site may be silent, in seconds, before what became of a deed is called unknown."""

_PAUSE: Final = 0.5


def restored(
    site: Site, request: RestoreRequest, entry: Entry, stage: str, on_progress: OnProgress = no_progress
) -> Restored:
    """Restore, and know how it ended though the answer be lost. Writes to the site and the ledger.

    Raises what ``Site.restore`` raises; ``details`` of the error have ``course_changed`` where a course that was there
    before has been changed. OutcomeUnknown only where the site stays out of reach.
    """
    number = _begin(entry, stage)
    told = entry.watching(stage, on_progress)
    try:
        return site.restore(replace(request, deed=number), told)
    except MoodlectlError as error:
        return _truth(site, entry, stage, error, lambda deed: deed.restored, on_progress)
    except KeyboardInterrupt as stop:
        _look_after_stop(site, entry, stage, stop)
        raise


def made(
    site: Site, request: BackupRequest, entry: Entry, stage: str, on_progress: OnProgress = no_progress
) -> BackupMade:
    """Back up, and know how it ended though the answer be lost. Writes to the site and the ledger.

    Raises what ``Site.backup`` raises; OutcomeUnknown only where the site stays out of reach.
    """
    number = _begin(entry, stage)
    told = entry.watching(stage, on_progress)
    try:
        return site.backup(replace(request, deed=number), told)
    except MoodlectlError as error:
        return _truth(site, entry, stage, error, lambda deed: deed.made, on_progress)
    except KeyboardInterrupt as stop:
        _look_after_stop(site, entry, stage, stop)
        raise


def _begin(entry: Entry, stage: str) -> str:
    """Write the number down before the deed: with it the site can be asked, whatever happens to us."""
    number = uuid.uuid4().hex
    entry.note(stage=stage, **{f"deed_{stage}": number})
    return number


def queued(site: Site, request: BackupRequest, entry: Entry) -> BackupQueued:
    """Leave a backup to the site's cron, under a number it is found again by. Writes to the site and the ledger."""
    number = _begin(entry, "backup")
    left = site.queue_backup(replace(request, deed=number))
    entry.note(begun_backup=request.course_id)
    return left


def number_of(facts: Mapping[str, Any], stage: str) -> str | None:
    """The number a stage of a job was begun under, None where it never was."""
    number = facts.get(f"deed_{stage}")
    return str(number) if number else None


def numbers_of(facts: Mapping[str, Any], stage: str) -> list[str]:
    """All numbers a stage was ever begun under: one that the site had not heard of when it was asked (its PHP was still
    starting when its client was killed) may leave an account all the same."""
    last = number_of(facts, stage)
    return [*(str(number) for number in facts.get(f"past_{stage}", ())), *([last] if last else [])]


def _truth(
    site: Site,
    entry: Entry,
    stage: str,
    error: MoodlectlError,
    result: Callable[[Deed], T | None],
    on_progress: OnProgress,
) -> T:
    """What really became of a deed that ended in an error. Raises the true one."""
    begun = isinstance(error, OutcomeUnknown) or entry.has_begun(stage)
    if not begun and not isinstance(error, Unreachable):
        raise error  # the site itself said so before it changed anything
    number = number_of(entry.facts, stage) or ""
    patience = SILENCE if begun else 0.0
    try:
        deed = ended(site, number, begun=begun, on_progress=on_progress, patience=patience)
    except (Unreachable, OutcomeUnknown) as silence:
        error.details.setdefault("asked_again", silence.message)
        raise error from silence
    except MoodlectlError as trouble:
        error.details.setdefault("clearing_up", trouble.message)
        raise error from trouble
    found = result(deed)
    if found is not None:
        return found
    if deed.changed:
        error.details["course_changed"] = True
    if deed.error is None or not isinstance(error, OutcomeUnknown):
        raise error
    deed.error.details.update({**error.details, **deed.error.details})
    if deed.error.code == "client_gone" and not deed.changed:
        # The connection was cut, and the site has taken back what it had begun for us.
        deed.error.details["retry"] = True
        deed.error.hint = deed.error.hint or "The connection was cut, and nothing was changed by this: try again."
    raise deed.error from error


def _look_after_stop(site: Site, entry: Entry, stage: str, stop: KeyboardInterrupt) -> None:
    """After Ctrl-C: one look at what became of it, so that the record is true where that is known already."""
    number = number_of(entry.facts, stage)
    if number is None:
        return
    with suppress(MoodlectlError):
        deed = site.deed(number)
        if deed.unsettled:
            deed = site.settle_deed(number)
        if not deed.ended:
            notes = [f"The site still works on it: moodlectl job resume {entry.job}"]
        elif deed.restored is not None or deed.made is not None:
            notes = [f"The site has finished it all the same: moodlectl job resume {entry.job}"]
        else:
            message = deed.error.message if deed.error is not None else NOTHING_CHANGED
            entry.end("failed", f"interrupted: {message}", **({"course_changed": True} if deed.changed else {}))
            notes = [message]
        stop.__notes__ = notes  # what is known now, in place of what the connection alone could tell


def ended(
    site: Site,
    number: str,
    *,
    begun: bool,
    on_progress: OnProgress = no_progress,
    patience: float,
) -> Deed:
    """Wait until that deed has ended, clear up where its process was killed, and say how it ended.

    A deed the site has never heard of has not happened, unless it is known to have ``begun``: then OutcomeUnknown.
    Raises Unreachable after ``patience`` seconds of silence. Writes to the site only to clear up.
    """
    heard = time.monotonic()
    while True:
        try:
            deed = site.deed(number)
            if deed.unsettled:
                deed = site.settle_deed(number)
            heard = time.monotonic()
        except Unreachable:
            if time.monotonic() - heard >= patience:
                raise
            time.sleep(_PAUSE)
            continue
        if not deed.found and begun:
            raise OutcomeUnknown(
                "The site had begun with it, but has no account of it any more.",
                "Look at the course on the site.",
                code="no_account",
                details={"deed": number},
            )
        if deed.ended:
            return deed
        if deed.progress is not None:
            on_progress(Progress("waiting", round(deed.progress * 1000), 1000, message=deed.phase))
        time.sleep(_PAUSE)



# --- taken up again -----------------------------------------------------------------------------------------------


def made_or_found(
    site: Site, request: BackupRequest, entry: Entry, stage: str, on_progress: OnProgress = no_progress
) -> BackupMade:
    """As ``made``; where that stage was begun before, the backup it made, and a new one only where it made none."""
    earlier = _earlier(site, entry, stage, on_progress)
    if earlier is not None and earlier.made is not None:
        return earlier.made
    return made(site, request, entry, stage, on_progress)


def restored_or_found(
    site: Site, request: RestoreRequest, entry: Entry, stage: str, on_progress: OnProgress = no_progress
) -> Restored:
    """As ``restored``; where that stage was begun before, the restore it was, and a new one only where that has left
    nothing. Raises the error of one that has changed a course that was there before."""
    earlier = _earlier(site, entry, stage, on_progress)
    if earlier is not None:
        if earlier.restored is not None:
            return earlier.restored
        if earlier.changed and earlier.error is not None:
            earlier.error.details["course_changed"] = True
            raise earlier.error
    return restored(site, request, entry, stage, on_progress)


def _earlier(site: Site, entry: Entry, stage: str, on_progress: OnProgress) -> Deed | None:
    """What became of that stage when it was begun before; None where it never was, or nothing is left of it.

    Raises OutcomeUnknown, and Unreachable as OutcomeUnknown: what is not known is never repeated.
    """
    number = number_of(entry.facts, stage)
    if number is None:
        return None
    try:
        deed = ended(site, number, begun=entry.has_begun(stage), on_progress=on_progress, patience=SILENCE)
    except Unreachable as silence:
        raise OutcomeUnknown(
            f"What became of the {stage} is not known yet: {silence.message}",
            code=silence.code,
            details=silence.details,
        ) from silence
    if deed.made is None and deed.restored is None:
        with suppress(MoodlectlError):
            site.forget_deed(number)
        past = [*entry.facts.get(f"past_{stage}", ()), number]
        entry.note(**{f"deed_{stage}": None, f"begun_{stage}": None, f"past_{stage}": past})
    return deed if deed.found else None
