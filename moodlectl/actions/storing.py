"""Backups put into the local store: files that lie here, backups that lie on a site, and those that were just made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moodlectl.actions import contents as carrying
from moodlectl.actions import files, naming, travelling
from moodlectl.actions.contents import How
from moodlectl.actions.recording import recorded
from moodlectl.errors import AccessError, ConfigError, Failed, NotFound, Refused, UsageError
from moodlectl.ledger import Item
from moodlectl.site.port import BackupFile, Content, Course, OnProgress, Progress, Site, no_progress
from moodlectl.store import SCHEME, Store, adding, is_store, open_store
from moodlectl.store.adding import Added, Intake, Origin
from moodlectl.store.entries import Entry
from moodlectl.store.places import is_address, room

ENVIRONMENT: Final = "MOODLECTL_STORE"
NOT_WHOLE: Final = "not-whole"
_WITHOUT_FILES = re.compile(r"-nf(?=\.mbz$)")


def default_address(configured: str | None) -> str:
    """The store that is meant when nobody says: MOODLECTL_STORE, the settings', else one among this user's data."""
    told = os.environ.get(ENVIRONMENT) or configured
    if told:
        return told
    import platformdirs

    return str(Path(platformdirs.user_data_dir("moodlectl")) / "store")


def place_meant(word: str, default: Callable[[], str]) -> str | None:
    """The address of the store that a place to download to names; None where it is an ordinary folder.

    ``store:`` is the default one, ``store:PLACE`` one elsewhere; an address such as ``s3://`` is always a store's, and
    so is a folder that is one already.
    """
    if word.startswith(SCHEME):
        return word.removeprefix(SCHEME) or default()
    if is_address(word) or is_store(Path(word).expanduser()):
        return word
    return None


def opened(address: str, *, create: bool = False) -> Store:
    """The store at an address. Raises NotFound ``no_store``, ConfigError."""
    if address.lower().startswith("memory:"):
        raise ConfigError(
            "A store in memory would be gone with this command, and all that is in it.",
            "Name a folder, or an address such as s3://bucket/prefix.",
        )
    return open_store(address, create=create)


# --- in ---------------------------------------------------------------------------------------------------------------


def check_allowed(allow: Sequence[str]) -> None:
    """Raise UsageError for anything but ``not-whole``: to take what is left of a backup that lacks contents."""
    unknown = [name for name in allow if name != NOT_WHOLE]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is nothing that could be allowed here.", f"There is: {NOT_WHOLE}.")


def add(
    store: Store,
    word: str,
    open_site: Callable[[], Site],
    allow: Sequence[str] = (),
    on_progress: OnProgress = no_progress,
) -> Added:
    """Take a BACKUP in: a file here, or one on a site, of which only what lacks here is brought. Writes to the store.

    Raises NotFound, and Refused for a file that is not whole; ``not-whole`` in ``allow`` takes what is left of it.
    """
    check_allowed(allow)
    parsed = naming.parse_backup(word)
    if isinstance(parsed, naming.LocalBackup):
        return _add_file(store, naming.existing(parsed.path), parsed.path.name, allow, on_progress)
    site = open_site()
    try:
        return _add_stored(store, site, naming.find_stored(site, parsed), allow, on_progress)
    finally:
        site.close()


def _add_file(store: Store, path: Path, name: str, allow: Sequence[str], on_progress: OnProgress) -> Added:
    origin = Origin(files.sha1_of(path), files.safe_name(name), path.stat().st_size)
    return adding.add_file(store, path, origin, allow=allow, progress=scanning(on_progress))


def _add_stored(store: Store, site: Site, file: BackupFile, allow: Sequence[str], on_progress: OnProgress) -> Added:
    """A backup that lies on a site: its XML, and of its contents what lacks; the whole of it where that cannot be."""
    there = store.entry(file.sha1) if file.sha1 is not None else None
    if there is not None:
        return Added(there, new=False)
    facts = {"sha1": file.sha1, "size": file.size, "has_users": file.has_users}
    word = naming.stored_word(file)
    item = Item(1, file.course_shortname, "download", "planned", source=word, target=store.address, facts=facts)
    with recorded(site, "download", item, {}) as entry:
        added = _brought(store, site, file, allow, on_progress)
        entry.end("done", entry=added.entry.id)
    return added


def _brought(store: Store, site: Site, file: BackupFile, allow: Sequence[str], on_progress: OnProgress) -> Added:
    with suppress(AccessError, Refused, Failed, NotFound):  # then the whole of it comes, and says what is wrong
        added = _add_lean(store, site, file, on_progress)
        if added is not None:
            return added
    with store.place.incoming() as folder:
        path = folder / "whole.mbz"
        site.download(file, path, on_progress)
        return _add_file(store, path, file.filename, allow, on_progress)


def _add_lean(store: Store, site: Site, file: BackupFile, on_progress: OnProgress) -> Added | None:
    """Of its contents only those that lack, out of the site's pool; None where that cannot be."""
    pool = site.pool()
    with adding.intake(store) as coming:
        path = coming.folder / "without-files.mbz"
        with room(coming.folder), path.open("wb") as out:
            if file.sha1 is None or not pool.backup_without_files(file, travelling.writer(out)):
                return None
        carried = coming.take_apart(path)
        if carried.include_files:
            _bring(coming, pool, How(), on_progress)
        origin = Origin(file.sha1, files.safe_name(file.filename), file.size)
        return adding.finish(coming, origin, carries=carried.include_files)


def _bring(
    coming: Intake, pool: carrying.Giver, how: How, on_progress: OnProgress, allow: Sequence[str] = ()
) -> None:
    """Have the contents that a backup on its way in needs, and that lack, sent by a pool.

    Raises Failed where one lacks there, too, or is damaged, with the names of the files; unless that is allowed.
    """
    found, lost = adding.needed_by(coming.lean), set[str]()
    lacking = coming.store.pool.lacking([Content(one.sha1, one.size) for one in found])
    while True:
        wanted = [one for one in lacking if one.sha1 not in lost]
        try:
            carrying.carry(pool, coming.store.pool, wanted, how, on_progress)
            coming.came += sum(one.size for one in wanted)
            return
        except Failed as failed:
            gone = set(failed.details.get("contents", ())) - lost
            names = [one.filename for one in found if one.sha1 in gone]
            if not names:
                raise
            if NOT_WHOLE not in allow:
                failed.details["files"] = names
                failed.message = f"{failed.message} They are the contents of {', '.join(names[:3])}."
                failed.hint = (
                    "The site's file pool is damaged: bring those files back, or delete them there. To keep what is "
                    f"left of the course: --allow {NOT_WHOLE}"
                )
                raise
            lost |= gone


def scanning(on_progress: OnProgress) -> Callable[[int, int], None]:
    """Progress through a file, as reading one tells it."""
    return lambda done, total: on_progress(Progress("scan", done, total, "bytes"))


# --- from a site, without packing its files ---------------------------------------------------------------------------


def can_travel(site: Site, settings: dict[str, bool]) -> str | None:
    """Why the contents of a course cannot come without being packed into a backup, None where they can. Reads only."""
    if not settings.get("files", True):
        return "the backup is to be without files"
    return carrying.why_not_from(site)


def lean_settings(settings: dict[str, bool]) -> dict[str, bool]:
    """The settings to back up with where the contents travel by themselves."""
    return {**settings, "files": False}


@dataclass(frozen=True)
class Made:
    """A backup that was just made: ``lean`` where its contents travel by themselves; ``allow`` what it may lack."""

    file: BackupFile
    course: Course
    lean: bool
    allow: Sequence[str] = ()


def bring_down(store: Store, site: Site, made: Made, on_progress: OnProgress = no_progress) -> Entry:
    """Bring a backup that was just made into the store.

    Writes to the store. Raises Failed ``content_missing`` where the site's pool has lost one, with the files' names;
    ``not-whole`` in ``allow`` takes what is left.
    """
    file, allow = made.file, made.allow
    with adding.intake(store) as coming:
        path = coming.folder / "came.mbz"
        site.download(file, path, on_progress)
        files.check_is_of(path, made.course, site.info().url)
        carried = coming.take_apart(path)
        if made.lean and not carried.include_files:
            _bring(coming, site.pool(), How(), on_progress, allow)
            name = _WITHOUT_FILES.sub("", files.safe_name(file.filename))
            return adding.finish(coming, Origin(files.sha1_of(path), name), carries=True, allow=allow).entry
        origin = Origin(files.sha1_of(path), files.safe_name(file.filename), file.size)
        return adding.finish(coming, origin, carries=carried.include_files, allow=allow).entry
