"""Backing up with ``admin/cli/backup.php``, and bringing down what it made.

Its exit status is 0 after most errors (3.9 to 5.1): a backup is made when there is a new file, seen in the site's own
lists over web services or, without a token, lying in ``exchange_dir``.
"""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from moodlectl.errors import AccessError, Failed, MoodlectlError, OutcomeUnknown, Unreachable
from moodlectl.site.admincli import refusals, scripts
from moodlectl.site.admincli.looking import Means
from moodlectl.site.admincli.scripts import BACKUP, Said
from moodlectl.site.live import storedfiles
from moodlectl.site.partfile import PartFile
from moodlectl.site.port import BEGUN, BackupFile, BackupMade, BackupRequest, OnProgress, Progress
from moodlectl.site.room import check_room, only_one, room_told

log = logging.getLogger(__name__)

_ARCHIVES = (b"\x1f\x8b", b"PK")
_Key = tuple[str, str, int, datetime]


def make(means: Means, request: BackupRequest, on_progress: OnProgress) -> BackupMade:
    """Make one backup with the site's default settings. Writes to the site.

    With a token it lies where Moodle keeps such backups; without one, or where the token may not list them, in
    ``exchange_dir``. Raises Refused for what the script has no option for, Failed, OutcomeUnknown.
    """
    refusals.check_backup(request, means.config)
    started = time.monotonic()
    try:
        before = _listed(means, request.course_id)
    except AccessError:
        if means.config.exchange_dir is None:
            raise
        before = None
    on_progress(Progress(BEGUN, 0))
    on_progress(Progress("backup", 0, None))
    file = _into_exchange(means, request) if before is None else _into_area(means, request, before)
    seconds = round(time.monotonic() - started, 3)
    return BackupMade(file, _settings(file), (), seconds)


def _settings(file: BackupFile) -> Mapping[str, bool]:
    """The settings that a file name of Moodle's tells; the script names none."""
    return {"users": False} if file.has_users is False else {}


# --- where Moodle keeps backups --------------------------------------------------------------------------------------


def _listed(means: Means, course_id: int) -> dict[_Key, BackupFile]:
    """The course's backups, and those in the private area of the token's user, where some may come to lie."""
    if means.web is None:
        raise refusals.no_token(means.config.name, "whether a backup was made")
    files = storedfiles.backups(means.web, course_id, ("course", "private")).files
    return {(file.area, file.filename, file.size, file.timecreated): file for file in files}


def _into_area(means: Means, request: BackupRequest, before: Mapping[_Key, BackupFile]) -> BackupFile:
    said = means.host.script(BACKUP, scripts.backup_options(request.course_id), deed=True)
    try:
        after = _listed(means, request.course_id)
    except (AccessError, Unreachable) as trouble:
        if said.status != 0 or not scripts.stored(said):
            raise _not_made(said) from trouble
        raise OutcomeUnknown(
            f"Moodle's script says that the backup is made, but it cannot be looked for: {trouble.message}",
            "Look with: moodlectl backup list COURSE",
            code="backup_not_seen",
            details=said.evidence,
        ) from trouble
    new = [file for key, file in after.items() if key not in before and file.size > 0]
    if new:
        return max(new, key=lambda file: file.timecreated)
    if said.status != 0 or not scripts.stored(said):
        raise _not_made(said)
    raise OutcomeUnknown(
        "Moodle's script says that the backup is made, but no new one is to be seen with this token.",
        "Where the site leaves people out by default, Moodle puts it into the private area of the site's first "
        "administrator: use that account's token.",
        code="backup_not_seen",
        details=said.evidence,
    )


def _not_made(said: Said) -> MoodlectlError:
    return Failed(
        f"Moodle's script made no backup: {scripts.problem(said)}.",
        "Its last words are in the details.",
        code="script_failed",
        details=said.evidence,
    )


# --- the exchange folder ---------------------------------------------------------------------------------------------


def _into_exchange(means: Means, request: BackupRequest) -> BackupFile:
    folder = (means.config.exchange_dir or "").rstrip("/")
    said = means.host.script(BACKUP, scripts.backup_options(request.course_id, folder), deed=True)
    if scripts.destination_refused(said) and scripts.written(said) is None:
        raise AccessError(
            f"The web server's user may not write to exchange_dir {folder}.",
            "Name a folder there that both you and the web server's user may use.",
            code="exchange_dir",
            details=said.evidence,
        )
    path = scripts.written(said)
    if said.status != 0 or path is None or posixpath.dirname(path) != folder:
        raise _not_made(said)
    return _lying_there(means, request.course_id, path, said)


def _lying_there(means: Means, course_id: int, path: str, said: Said) -> BackupFile:
    """The file that was written, looked at: its size, its time, its first bytes and its sha1."""
    stat = means.host.file("stat", "-c", "%s %Y", "--", path)
    words = stat.output.decode(errors="replace").split()
    head = means.host.file("head", "-c", "2", "--", path).output
    if stat.status != 0 or len(words) != 2 or int(words[0]) == 0 or head not in _ARCHIVES:
        raise Failed(
            f"Moodle's script says that it wrote {path}, but no whole backup is to be seen there.",
            "Look whether the disk is full, and whether you may read what the web server's user writes there.",
            code="backup_not_seen",
            details={**said.evidence, "said": stat.errors.strip()},
        )
    sha1 = means.host.file("sha1sum", "--", path).output.decode(errors="replace").lstrip("\\")[:40]
    filename = posixpath.basename(path)
    return BackupFile(
        course_id=course_id,
        course_shortname="",
        area="course",
        filename=filename,
        size=int(words[0]),
        timecreated=datetime.fromtimestamp(int(words[1]), UTC),
        sha1=sha1 if len(sha1) == 40 else None,
        has_users=storedfiles.has_users(filename),
        url=None,
        directory=posixpath.dirname(path),
        locator={"path": path},
    )


# --- bringing down ---------------------------------------------------------------------------------------------------


def download(means: Means, file: BackupFile, destination: Path, on_progress: OnProgress) -> BackupFile:
    """Bring a backup down, over HTTP or from the exchange folder, resuming; checks size and sha1. Reads only."""
    if "path" in file.locator:
        return _download_there(means, file, destination, on_progress)
    if means.web is None:
        raise refusals.no_token(means.config.name, "a stored backup")
    got = means.web.download(
        storedfiles.address_of(means.web, file),
        destination,
        size=file.size,
        sha1=file.sha1,
        overwrite=True,
        on_progress=on_progress,
    )
    return replace(file, size=got.size, sha1=got.sha1)


def _download_there(means: Means, file: BackupFile, destination: Path, on_progress: OnProgress) -> BackupFile:
    with only_one(destination), room_told(destination), PartFile(destination) as part:
        check_room(destination, file.size)
        if part.offset > file.size:
            part.restart()

        def take(piece: bytes) -> None:
            part.write(piece)
            on_progress(Progress("download", part.offset, file.size, "bytes"))

        if part.offset < file.size:
            means.host.fetch(str(file.locator["path"]), part.offset, take)
        sha1 = part.finish(size=file.size, sha1=file.sha1)
    return replace(file, sha1=sha1)


def delete(means: Means, file: BackupFile) -> None:
    """Delete a backup that lies in the exchange folder; no script deletes another. Writes to the host."""
    path = file.locator.get("path")
    if path is None:
        raise refusals.no_script("delete a stored backup")
    done = means.host.file("rm", "-f", "--", str(path))
    if done.status != 0 or means.host.file("test", "-e", str(path)).status == 0:
        raise AccessError(
            f"{path} could not be deleted on the host.",
            "It belongs to the web server's user; in a folder with the sticky bit only that user may delete it.",
            code="exchange_dir",
            details={"said": done.errors.strip()},
        )
