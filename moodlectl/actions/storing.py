"""The local store, as users meet it: backups put in from here or from a site, given back, taken away by rule."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moodlectl.actions import contents as carrying
from moodlectl.actions import files, naming, travelling
from moodlectl.actions.contents import How
from moodlectl.actions.travelling import Road
from moodlectl.errors import AccessError, Failed, NotFound, Refused, UsageError
from moodlectl.site.port import (
    BackupFile,
    Content,
    Course,
    OnProgress,
    Progress,
    RestoreSource,
    Site,
    no_progress,
)
from moodlectl.store import Store, adding, exporting, is_store, open_store, pruning
from moodlectl.store.adding import Added, Intake, Origin
from moodlectl.store.entries import BACKUPS, Entry
from moodlectl.store.locks import reading
from moodlectl.store.places import scratch
from moodlectl.store.pruning import Freed, Judged, Keep

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest, PoolFile, VerifyReport

ENVIRONMENT: Final = "MOODLECTL_STORE"
PREFIX: Final = "store:"
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
    if word.startswith(PREFIX):
        return word.removeprefix(PREFIX) or default()
    if "://" in word or is_store(Path(word).expanduser()):
        return word
    return None


# --- in ---------------------------------------------------------------------------------------------------------------


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
    unknown = [name for name in allow if name != "not-whole"]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is nothing that could be allowed here.", "There is: not-whole.")
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
    return adding.add_file(store, path, origin, allow=allow, progress=_scanning(on_progress))


def _add_stored(store: Store, site: Site, file: BackupFile, allow: Sequence[str], on_progress: OnProgress) -> Added:
    """A backup that lies on a site: its XML, and of its contents what lacks; the whole of it where that cannot be."""
    there = store.entry(file.sha1) if file.sha1 is not None else None
    if there is not None:
        return Added(there, new=False)
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
        with path.open("wb") as out:
            if file.sha1 is None or not pool.backup_without_files(file, travelling.writer(out)):
                return None
        carried = coming.take_apart(path)
        if carried.include_files:
            _bring(coming, pool, How(), on_progress)
        origin = Origin(file.sha1, files.safe_name(file.filename), file.size)
        return adding.finish(coming, origin, carries=carried.include_files)


def _bring(coming: Intake, pool: carrying.Giver, how: How, on_progress: OnProgress) -> None:
    """Have the contents that a backup on its way in needs, and that lack, sent by a pool. Raises Failed where one lacks
    there, too, with the names of the files."""
    found = adding.needed_by(coming.lean)
    try:
        done = carrying.carry(
            pool, coming.store.pool, [Content(one.sha1, one.size) for one in found], how, on_progress
        )
    except Failed as failed:
        lost = set(failed.details.get("contents", ()))
        names = [one.filename for one in found if one.sha1 in lost]
        if names:
            failed.details["files"] = names
            failed.message = f"{failed.message} They are the contents of {', '.join(names[:3])}."
        raise
    coming.came += done.bytes


# --- from a site, without packing its files ---------------------------------------------------------------------------


def can_travel(site: Site, settings: dict[str, bool]) -> str | None:
    """Why the contents of a course cannot come without being packed into a backup, None where they can. Reads only."""
    if not settings.get("files", True):
        return "the backup is to be without files"
    return carrying.why_not_from(site)


def lean_settings(settings: dict[str, bool]) -> dict[str, bool]:
    """The settings to back up with where the contents travel by themselves."""
    return {**settings, "files": False}


def bring_down(
    store: Store, site: Site, file: BackupFile, course: Course, *, lean: bool, on_progress: OnProgress = no_progress
) -> Entry:
    """Bring a backup that was just made into the store; ``lean`` where its contents travel by themselves.

    Writes to the store. Raises Failed ``content_missing`` where the site's pool has lost one, with the files' names.
    """
    with adding.intake(store) as coming:
        path = coming.folder / "came.mbz"
        site.download(file, path, on_progress)
        files.check_is_of(path, course, site.info().url)
        carried = coming.take_apart(path)
        if lean and not carried.include_files:
            _bring(coming, site.pool(), How(), on_progress)
            name = _WITHOUT_FILES.sub("", files.safe_name(file.filename))
            return adding.finish(coming, Origin(files.sha1_of(path), name), carries=True).entry
        origin = Origin(files.sha1_of(path), files.safe_name(file.filename), file.size)
        return adding.finish(coming, origin, carries=carried.include_files).entry


# --- out --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A backup that was given back as an ordinary file: where, and how it was read to its last byte."""

    entry: Entry
    path: Path
    report: VerifyReport


def export(
    store: Store, entry: Entry, target: Path, *, overwrite: bool = False, on_progress: OnProgress = no_progress
) -> Exported:
    """Write a backup of the store as an ordinary ``.mbz``, verified; into a folder under its own name. Writes a file.

    Raises Refused ``file_exists``, Failed where something of it is lost or damaged.
    """
    path = target / files.safe_name(entry.filename) if target.is_dir() else target
    if path.exists() and not overwrite:
        raise Refused(
            f"{path} is there already.", "Name another with -d or --file, or replace it with --overwrite.",
            code="file_exists",
        )  # fmt: skip
    files.prepare_folder(path.parent)
    with reading(store.place):
        report = exporting.write(store, entry, path, _scanning(on_progress), allow_holes=True)
    return Exported(entry, path, replace(report, path=path))


def word_of(backup: str, from_site: str | None, store: str | None) -> str | None:
    """What names the backup within the store, None for one that lies elsewhere. Raises UsageError."""
    word = naming.kept_word(backup)
    if word is not None and from_site is not None:
        raise UsageError(f"{backup} lies in the store; --from names a site that a backup lies on.")
    if word is None and store is not None:
        raise UsageError("--store only means something with a backup of the store: store:ENTRY.")
    return word


class Kept:
    """A backup of a store that a person named, looked up once. Raises NotFound."""

    def __init__(self, store: Store, word: str) -> None:
        self.store = store
        self.entry = store.find(word)


@contextmanager
def fetched(
    kept: Kept, site: Site, road: Road, on_progress: OnProgress = no_progress
) -> Iterator[RestoreSource]:
    """As ``restore.fetched``, for a backup of the store; a ``whole`` road sends nothing ahead, as before a dry run."""
    with restorable(kept.store, kept.entry, site, road, on_progress) as path:
        yield RestoreSource(path=path)


@contextmanager
def restorable(
    store: Store, entry: Entry, site: Site, road: Road, on_progress: OnProgress = no_progress
) -> Iterator[Path]:
    """A backup of the store as a file that the site can restore, until the end of the block.

    Where the site's pool takes contents, it is sent those that it lacks, and the file is the archive without them;
    else, and where ``road`` wants it so, an ordinary backup is put together. Writes to the site's pool, nothing that a
    course sees; what was sent for nothing is taken out again. Raises Failed where the store lacks something.
    """
    with reading(store.place), scratch(store.place) as folder:
        if road.whole or not entry.carries or entry.holes or not _takes(site):
            path = folder / files.safe_name(entry.filename)
            exporting.write(store, entry, path, _scanning(on_progress), allow_holes=True)
            yield path
            return
        path = folder / files.safe_name(entry.filename)
        with store.archive(entry) as lean:
            shutil.copyfile(lean, path)
        with _sent(store, path, site, road, on_progress):
            yield path


def _takes(site: Site) -> bool:
    """Whether contents can be put into the site's pool."""
    try:
        site.pool().lacking(())
    except (AccessError, Refused):
        return False
    return True


@contextmanager
def _sent(store: Store, lean: Path, site: Site, road: Road, on_progress: OnProgress) -> Iterator[None]:
    """Send the site what it lacks of a backup; afterwards let go of it."""
    pool, found = site.pool(), adding.needed_by(lean)
    sent = pool.lacking([Content(one.sha1, one.size) for one in found])
    _has(store, sent, found)
    done = carrying.carry(store.pool, pool, sent, How(), on_progress)
    road.facts = {"contents": len(found), "contents_sent": done.count, "content_bytes_sent": done.bytes}
    road.notes.append(f"Of its {len(found)} files' contents {done.count} were sent ({done.bytes / 1e6:.1f} MB).")
    with travelling.ahead(site, sent):
        yield


def _has(store: Store, contents: Sequence[Content], found: Sequence[PoolFile]) -> None:
    """Raise Failed, before anything is sent, where the store has lost what the site lacks, too."""
    lost = {one.sha1 for one in store.pool.lacking(contents)}
    if lost:
        names = [one.filename for one in found if one.sha1 in lost]
        raise Failed(
            f"The store {store.address} has lost the contents of {len(names)} files: {', '.join(names[:3])}.",
            "'moodlectl store verify' names all that is missing; another backup of that course may be whole.",
            code="store_lost",
            details={"contents": sorted(lost), "files": names},
        )


@dataclass(frozen=True)
class Shown:
    """One backup of a store: what it holds, and the bytes that no other backup needs."""

    entry: Entry
    manifest: Manifest
    alone: int


def show(store: Store, entry: Entry) -> Shown:
    """What a backup of the store holds, and what taking it away would free. Reads only. Raises Failed."""
    from moodlectl import mbz

    with store.archive(entry) as lean:
        held = mbz.inspect(lean)
    if entry.carries:  # its files are in the store
        dangers = tuple(one for one in held.dangers if one.code != "without_files")
        held = replace(held, include_files=True, dangers=dangers)
    others = [one for one in store.entries() if one.id != entry.id]
    return Shown(entry, held, pruning.would_free(store, [entry], others).bytes)


# --- away -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruning:
    """What a rule says of every backup of a store, and what would be freed."""

    judged: tuple[Judged, ...]
    freed: Freed

    @property
    def going(self) -> tuple[Entry, ...]:
        """The backups that may go."""
        return tuple(one.entry for one in self.judged if not one.reasons)


def plan_pruning(store: Store, keep: Keep) -> Pruning:
    """What a rule would take away. Reads only. Raises Failed ``store_damaged`` where what is needed cannot be known."""
    with reading(store.place):
        judged = tuple(pruning.judge(store.entries(), keep))
        going = [one.entry for one in judged if not one.reasons]
        staying = [one.entry for one in judged if one.reasons]
        return Pruning(judged, pruning.would_free(store, going, staying))


def plan_removal(store: Store, words: Sequence[str]) -> Pruning:
    """What taking those backups away would free. Reads only. Raises NotFound."""
    with reading(store.place):
        going = {store.find(word).id for word in words}
        found = store.entries()
        judged = tuple(Judged(one, () if one.id in going else ("not named",)) for one in found)
        away = [one for one in found if one.id in going]
        return Pruning(judged, pruning.would_free(store, away, [one for one in found if one.id not in going]))


def prune(store: Store, plan: Pruning, on_progress: OnProgress = no_progress) -> Freed:
    """Take away what was planned, never more, and what no backup needs any more. Writes to the store and the ledger.

    Raises Refused ``store_busy``.
    """
    from moodlectl.ledger import Item, Ledger

    told = [{"id": one.id, "course": one.shortname, "date": one.when.isoformat()} for one in plan.going]
    ledger = Ledger()
    try:
        job = ledger.begin("prune", "", store.address, {"backups": len(told)})
        ledger.start(job, Item(1, "", "prune", "planned", target=store.address, facts={"backups": told}))
        try:
            freed = pruning.take_away(store, plan.going, on_progress)
        except BaseException as error:
            ledger.end(job, 1, "failed", str(error) or type(error).__name__)
            ledger.close_job(job)
            raise
        ledger.end(job, 1, "done", removed=freed.backups, freed=freed.bytes)
        ledger.close_job(job)
    finally:
        ledger.close()
    return freed


def used(store: Store) -> int:
    """The bytes that everything in a store takes. Reads only."""
    folders = (*store.pool.folders(), BACKUPS)
    return sum(one.size for folder in folders for one in store.place.found(folder))


def _scanning(on_progress: OnProgress) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(Progress("scan", done, total, "bytes"))


def opened(address: str, *, create: bool = False) -> Store:
    """The store at an address. Raises NotFound ``no_store``, ConfigError."""
    return open_store(address, create=create)
