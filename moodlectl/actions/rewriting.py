"""Write a changed copy of a backup: its people mapped to a site's accounts, left out or made nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from moodlectl.actions import files, naming
from moodlectl.site.port import OnProgress, Progress, RestoreSource, Site, no_progress

if TYPE_CHECKING:
    from moodlectl.mbz.rewrite import RewriteReport, Wanted
    from moodlectl.mbz.usermap import Account, UserMap


@runtime_checkable
class KnowsAccounts(Protocol):
    """A site that can be asked for accounts by username."""

    def accounts(self, usernames: Sequence[str], *, as_user: str | None = None) -> Sequence[Account]:
        """Those usernames that are accounts there. Reads only."""


@dataclass(frozen=True)
class Asked:
    """What one command line asks. ``pairs`` are entries of a user map written ``OLD=NEW``; ``for_many`` as in a map."""

    output: Path
    user_map: Path | None = None
    pairs: Sequence[str] = ()
    anonymize: bool = False
    forget_site: bool = False
    without_users: bool = False
    overwrite: bool = False
    for_many: bool = False
    as_user: str | None = None


def rewrite(
    backup: str, asked: Asked, against: Site | None = None, on_progress: OnProgress = no_progress
) -> RewriteReport:
    """Write the changed copy of a local backup; ``against`` is the site it goes to, asked for the mapped accounts.

    Writes one file here, nothing to a site. Raises UsageError, NotFound, Refused.
    """
    from moodlectl.mbz import rewrite as mbz

    path = naming.local_path(backup)
    return mbz.rewrite(
        path,
        asked.output,
        wanted(asked, against),
        overwrite=asked.overwrite,
        progress=lambda done, total: on_progress(Progress("rewrite", done, total)),
    )


def concerns(backup: str, asked: Asked, against: Site | None = None) -> bool:
    """Whether rewriting would change anything: whether the map means anybody in the backup. Reads only.

    Raises UsageError, NotFound, Refused.
    """
    from moodlectl.mbz import rewrite as mbz

    return mbz.concerns(naming.local_path(backup), wanted(asked, against))


def wanted(asked: Asked, against: Site | None) -> Wanted:
    """What is to be done to the file, the map's accounts looked up on the target. Reads only.

    Raises UsageError with every problem of the map at once.
    """
    from moodlectl.mbz.rewrite import Target, Wanted

    map_ = user_map(asked, against, asked.as_user)
    target = None
    if against is not None and map_ is not None:
        info = against.info()
        target = Target(info.url, info.identifier_hash)
    return Wanted(
        user_map=map_,
        target=target,
        anonymize=asked.anonymize,
        forget_site=asked.forget_site,
        without_users=asked.without_users,
    )


def user_map(asked: Asked, against: Site | None, as_user: str | None = None) -> UserMap | None:
    """The map of the file and the pairs together; None where there is neither. Raises UsageError, NotFound."""
    from moodlectl.mbz import usermap

    entries = [usermap.parse_pair(pair) for pair in asked.pairs]
    if asked.user_map is None and not entries:
        return None
    map_ = usermap.read_user_map(asked.user_map) if asked.user_map else usermap.UserMap()
    map_ = replace(map_.plus(entries), for_many=asked.for_many)
    if isinstance(against, KnowsAccounts) and map_.usernames():
        map_ = map_.with_accounts(against.accounts(map_.usernames(), as_user=as_user))
    return map_


@contextmanager
def mapped(
    site: Site,
    source: RestoreSource,
    file: Path | None,
    pairs: Sequence[str],
    as_user: str | None = None,
    on_progress: OnProgress = no_progress,
) -> Iterator[RestoreSource]:
    """A backup with its people mapped to accounts of the site it goes to, in a private temporary folder.

    A stored backup is brought here first. Reads only. Raises UsageError with every problem of the map at once.
    """
    from moodlectl.mbz import rewrite as mbz

    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = source.path
        if path is None:
            assert source.stored is not None
            path = Path(folder) / files.safe_name(source.stored.filename)
            site.download(source.stored, path, on_progress)
        output = Path(folder) / f"mapped-{path.name}"
        asked = Asked(output=output, user_map=file, pairs=pairs, as_user=as_user)


        def step(done: int, total: int) -> None:
            on_progress(Progress("rewrite", done, total, "bytes"))

        mbz.rewrite(path, output, wanted(asked, site), progress=step)
        yield RestoreSource(path=output)
