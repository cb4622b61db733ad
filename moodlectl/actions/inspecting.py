"""Look into backup files without restoring them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moodlectl.actions import files, naming
from moodlectl.errors import AccessError, Unreachable
from moodlectl.site.port import BackupFile, Inside, OnProgress, Progress, Site

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest, OriginalSite, UserRecord
    from moodlectl.site.port import SiteInfo

_log = logging.getLogger(__name__)
Way = Literal["here", "there", "downloaded"]


@dataclass(frozen=True)
class From:
    """The sites a backup is looked at from: how to open the one in use, and what is known without asking.

    ``asked`` is whether a person named a site: then it is also asked about a file that lies here. ``url`` is the
    address of the site in use as it is configured, None where none is.
    """

    open_site: Callable[[], Site]
    asked: bool = False
    url: str | None = None


@dataclass(frozen=True)
class Inspected:
    """What a backup holds, and how it was read: ``here``, ``there`` where it lies, or ``downloaded`` for it.

    ``remark`` says what could not be asked.
    """

    manifest: Manifest
    way: Way
    remark: str | None = None


@dataclass(frozen=True)
class _Open:
    """A backup ready to be read. ``file`` and ``site`` are set where it lies on a site."""

    where: Path | Inside
    way: Way
    file: BackupFile | None = None
    site: Site | None = None


def inspect(seen_from: From, word: str, on_progress: OnProgress) -> Inspected:
    """Read what a backup holds: a file here, or one on a site, where it lies if that can be, else brought here.

    Reads only. Raises NotFound, Refused (``not_a_backup``, ``truncated``, ``hostile_*``).
    """
    from moodlectl import mbz

    with _opened(seen_from.open_site, word, on_progress) as opened:
        info, remark = _seen_from(seen_from, opened.site)
        manifest = mbz.inspect(
            opened.where,
            site_hash=info.identifier_hash if info else None,
            site_url=info.url if info else seen_from.url,
            site_version=info.version if info else None,
            progress=_scanning(on_progress),
        )
    return Inspected(manifest, opened.way, remark)


@contextmanager
def people(
    open_site: Callable[[], Site], word: str, on_progress: OnProgress
) -> Iterator[tuple[OriginalSite, Iterator[UserRecord], Way]]:
    """Where a backup was made, who is in it one by one, and how it was read. Reads only. Raises NotFound, Refused."""
    from moodlectl import mbz

    with (
        _opened(open_site, word, on_progress) as opened,
        mbz.people_in(opened.where, _scanning(on_progress)) as (origin, found),
    ):
        yield origin, found, opened.way


@contextmanager
def _opened(open_site: Callable[[], Site], word: str, on_progress: OnProgress) -> Iterator[_Open]:
    parsed = naming.parse_backup(word)
    if isinstance(parsed, naming.LocalBackup):
        yield _Open(naming.existing(parsed.path), "here")
        return
    site = open_site()
    try:
        stored = naming.find_stored(site, parsed)
        inside = site.inside(stored, on_progress)
        if inside is not None:
            yield _Open(inside, "there", stored, site)
            return
        with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
            path = Path(folder) / files.safe_name(stored.filename)
            site.download(stored, path, on_progress)
            yield _Open(path, "downloaded", stored, site)
    finally:
        site.close()


def _seen_from(seen_from: From, site: Site | None) -> tuple[SiteInfo | None, str | None]:
    """The site the file is looked at from. One that was named and cannot be asked is no reason not to look."""
    if site is not None:
        return site.info(), None
    if not seen_from.asked:
        return None, None
    site = seen_from.open_site()
    try:
        return site.info(), None
    except (AccessError, Unreachable) as trouble:
        _log.debug("the site could not be asked: %s", trouble.message)
        return None, f"The site could not be asked about itself: {trouble.message}"
    finally:
        site.close()


def verify(path: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Is the file whole: the contract's record, ``ok`` and ``problems`` among it. Reads only.

    Raises NotFound, and Refused ``unreadable``.
    """
    from moodlectl import mbz

    return mbz.verify(naming.existing(path), progress=_scanning(on_progress)).as_dict()


def _scanning(on_progress: OnProgress) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        on_progress(Progress("scan", done, total, "bytes"))

    return step
