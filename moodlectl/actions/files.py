"""Backup files on this machine: where they go, and whether what arrived is what was meant."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from moodlectl.errors import AccessError, Failed, MoodlectlError, Refused, UsageError
from moodlectl.site.port import BackupFile, Course, OnProgress, Site, no_progress


def prepare_folder(folder: Path) -> None:
    """Make sure that files can be written there, before a site works for nothing. Raises UsageError, AccessError."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is needed to put backups in.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AccessError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AccessError(f"The folder {folder} cannot be written to.")


def safe_name(name: str) -> str:
    """A file name that a site gave, made harmless: one part, no control characters, never hidden, never empty.

    Of one too long for a file system the middle is left out: a backup's date stands at the end.
    """
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join("_" if ord(c) < 32 or ord(c) == 127 or c in ':*?"<>|' else c for c in last).strip()
    clean = clean.lstrip(".")
    while len(clean.encode()) > 240:
        stem, dot, ending = clean.rpartition(".")
        head, tail = stem[:-30], stem[-30:]
        clean = f"{head[:-1]}{tail}{dot}{ending}" if dot and len(head) > 1 else clean[:-1]
    return clean or "backup.mbz"


def free_name(folder: Path, name: str) -> Path:
    """A path in ``folder`` that nothing has: ``name``, else with ``-2``, ``-3`` before its ending."""
    clean = safe_name(name)
    path, number = folder / clean, 1
    while path.exists():
        number += 1
        path = folder / f"{Path(clean).stem}-{number}{Path(clean).suffix}"
    return path


def make_lasting(path: Path) -> None:
    """Wait until a file and its name are on the disk: another copy of it is about to go. Raises Failed."""
    try:
        for each, flags in ((path, os.O_RDWR), (path.parent, os.O_RDONLY)):
            handle = os.open(each, flags)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        if path.is_file() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EISDIR, errno.EACCES):
            return  # a system that cannot sync folders
        raise Failed(
            f"{path} cannot be written to the disk: {error.strerror or error}.",
            "The copy on the site is kept. Look at the disk.",
            code="cannot_write",
            details={"path": str(path)},
        ) from error


def check_is_of(path: Path, course: Course, site_url: str) -> None:
    """Open a backup that came down and see that it is that course's. Raises Failed.

    A Common Cartridge does not say which course it was made of.
    """
    from moodlectl import mbz

    try:
        manifest = mbz.inspect(path, site_url=site_url)
    except MoodlectlError as error:
        raise Failed(
            f"The backup came down whole, but it does not open: {error.message}",
            "The copy on the site is kept. 'moodlectl backup verify' says more.",
            code=error.code,
            details={"path": str(path)},
        ) from error
    told = manifest.course.id if manifest.course is not None else None
    if told is not None and told != course.id:
        raise Failed(
            f"The file that came down is a backup of course {told}, not of {course.id}.",
            "The copy on the site is kept.",
            details={"path": str(path)},
        )


def download(
    site: Site, file: BackupFile, folder: Path, *, overwrite: bool = False, on_progress: OnProgress = no_progress
) -> tuple[BackupFile, Path]:
    """Bring one stored backup into ``folder`` under its own name. Reads only.

    A file of that name with the same content is left and counts as done. Raises Refused where another file has the
    name, unless ``overwrite``.
    """
    prepare_folder(folder)
    path = folder / safe_name(file.filename)
    if path.exists() and not overwrite:
        sha1 = _same_content(path, file)
        if sha1 is not None:
            return file, path
        raise Refused(
            f"{path} is there already and is not this backup (or that cannot be told).",
            "Name another folder with -d, or replace it with --overwrite.",
            code="file_exists",
        )
    return site.download(file, path, on_progress), path


def download_recorded(
    site: Site, file: BackupFile, folder: Path, *, overwrite: bool = False, on_progress: OnProgress = no_progress
) -> tuple[BackupFile, Path]:
    """As ``download``, and write down who brought which file where: people's data may be in it. Writes the ledger."""
    from moodlectl.actions.naming import stored_word
    from moodlectl.actions.recording import NOTHING_CHANGED, recorded
    from moodlectl.ledger import Item

    word = stored_word(file)
    facts = {"sha1": file.sha1, "size": file.size, "has_users": file.has_users}
    item = Item(1, file.course_shortname, "download", "planned", source=word, target=str(folder), facts=facts)
    with recorded(site, "download", item, {}) as entry:
        try:
            got, path = download(site, file, folder, overwrite=overwrite, on_progress=on_progress)
        except KeyboardInterrupt as stop:
            stop.__notes__ = [f"{NOTHING_CHANGED} The same command goes on from what has come so far."]
            raise
        entry.end("done", sha1=got.sha1, path=str(path))
    return got, path


def _same_content(path: Path, file: BackupFile) -> str | None:
    if file.sha1 is None or path.stat().st_size != file.size:
        return None
    sha1 = sha1_of(path)
    return sha1 if sha1 == file.sha1 else None


def sha1_of(path: Path) -> str:
    """The sha1 of a file's content, in hex. Reads only."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


def delete_recorded(site: Site, file: BackupFile) -> None:
    """Delete a stored backup, checked to be gone. Writes to the site and the ledger."""
    from moodlectl.actions.naming import stored_word
    from moodlectl.actions.recording import recorded
    from moodlectl.ledger import Item

    facts = {"sha1": file.sha1, "size": file.size}
    item = Item(1, file.course_shortname, "delete", "planned", source=stored_word(file), facts=facts)
    with recorded(site, "delete", item, {}):
        site.delete_backup(file)
