"""Restores out of the local store: the site is sent what it lacks of a backup, or a whole file is put together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.actions import contents as carrying
from moodlectl.actions import files, naming, travelling
from moodlectl.actions.contents import How
from moodlectl.actions.storing import scanning
from moodlectl.actions.travelling import Road
from moodlectl.errors import AccessError, Failed, Refused, UsageError
from moodlectl.site.port import Content, OnProgress, RestoreSource, Site, no_progress
from moodlectl.store import Store, adding, exporting
from moodlectl.store.entries import Entry
from moodlectl.store.locks import reading
from moodlectl.store.places import room, scratch

if TYPE_CHECKING:
    from moodlectl.mbz import PoolFile


@dataclass(frozen=True)
class AtHand:
    """A BACKUP as every command that reads one takes it; ``entry`` where it is one of the store."""

    word: str
    entry: Entry | None = None


@contextmanager
def at_hand(
    backup: str,
    place: str | None,
    open_store: Callable[[str | None], Store],
    on_progress: OnProgress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[AtHand]:
    """A BACKUP to be read: one of the store as a file of this machine until the end of the block, others as they are.

    Without the contents of its files, unless ``whole``. ``place`` is the store that was named, if one was. Reads only.
    Raises UsageError, NotFound, Failed.
    """
    word = word_of(backup, None, place)
    if word is None:
        yield AtHand(backup)
        return
    store = open_store(place)
    entry = store.find(word)
    with reading(store.place), scratch(store.place) as folder:
        path = folder / files.safe_name(entry.filename)
        if whole:
            exporting.write(store, entry, path, scanning(on_progress), allow_holes=True)
        else:
            with store.archive(entry) as lean, room(folder):
                shutil.copyfile(lean, path)
        yield AtHand(str(path), entry)


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
            exporting.write(store, entry, path, scanning(on_progress), allow_holes=True)
            yield path
            return
        path = folder / files.safe_name(entry.filename)
        with store.archive(entry) as lean, room(folder):
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
    needed = [Content(one.sha1, one.size) for one in found]
    sent = pool.lacking(needed)
    _has(store, sent, found)
    done = carrying.carry(store.pool, pool, sent, How(), on_progress)
    road.facts = {"contents": len(found), "contents_sent": done.count, "content_bytes_sent": done.bytes}
    road.notes.append(f"Of its {len(found)} files' contents {done.count} were sent ({done.bytes / 1e6:.1f} MB).")
    with travelling.ahead(site, travelling.Ahead(needed, sent)):
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
