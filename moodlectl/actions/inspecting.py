"""Look into backup files without restoring them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.actions import files, naming
from moodlectl.site.port import OnProgress, Progress, Site

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest


def inspect(open_site: Callable[[], Site], word: str, on_progress: OnProgress) -> Manifest:
    """Read what a backup holds: a file here, or one on a site, which is brought to a temporary folder first.

    Reads only. Raises NotFound, Refused (``not_a_backup``, ``truncated``, ``hostile_*``).
    """
    from moodlectl import mbz

    parsed = naming.parse_backup(word)
    if isinstance(parsed, naming.LocalBackup):
        return mbz.inspect(naming.existing(parsed.path), progress=_scanning(on_progress))
    with closing(open_site()) as site, tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        stored = naming.find_stored(site, parsed)
        path = Path(folder) / files.safe_name(stored.filename)
        site.download(stored, path, on_progress)
        info = site.info()
        return mbz.inspect(
            path, site_hash=info.identifier_hash, site_url=info.url, progress=_scanning(on_progress)
        )


def verify(path: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Is the file whole: the contract's record, ``ok`` and ``problems`` among it. Reads only. Raises NotFound."""
    from moodlectl import mbz
    from moodlectl.errors import Refused

    naming.existing(path)
    try:
        report = mbz.verify(path, progress=_scanning(on_progress))
    except Refused as error:
        return {
            "path": str(path),
            "ok": False,
            "problems": [error.message],
            "files_checked": 0,
            "bytes_checked": 0,
            "sha1": files.sha1_of(path),
        }
    return {
        "path": str(report.path),
        "ok": report.ok,
        "problems": list(report.problems),
        "files_checked": report.files_checked,
        "bytes_checked": report.bytes_checked,
        "sha1": report.sha1,
    }


def _scanning(on_progress: OnProgress) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        on_progress(Progress("scan", done, total, "bytes"))

    return step
