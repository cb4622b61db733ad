"""A stored backup on its way to another site: its course without files, and of these only what lacks there."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from moodlectl import mbz
from moodlectl.actions import contents as carrying
from moodlectl.actions import files
from moodlectl.errors import Failed, OutcomeUnknown, Refused
from moodlectl.mbz.lean import write_lean
from moodlectl.site.port import BackupFile, Content, OnProgress, RestoreSource, Site, no_progress


@dataclass
class Road:
    """How a backup comes from another site. ``whole``: in one piece, as it lies there; ``notes`` say what was done."""

    whole: bool = False
    notes: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)


@contextmanager
def travelled(
    source: Site, target: Site, stored: BackupFile, road: Road, on_progress: OnProgress = no_progress
) -> Iterator[RestoreSource]:
    """The backup here, in a private folder until the end of the block; its files' contents are in the target's pool.

    In one piece where one of the sites cannot do that, or has lost a content, or ``road`` wants it so. Writes to the
    target's pool, which no course sees; taken out again where nothing was restored. Raises what downloading raises.
    """
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / files.safe_name(stored.filename)
        with _room_told(Path(folder)):
            sent = None if road.whole else _sent(source, target, stored, path, road, on_progress)
        if sent is None:
            path.unlink(missing_ok=True)
            source.download(stored, path, on_progress)
        with ahead(target, sent or Ahead()):
            yield RestoreSource(path=path)


@dataclass(frozen=True)
class Ahead:
    """The contents a backup needs, and those of them that were sent to a site for its restore."""

    needed: Sequence[Content] = ()
    sent: Sequence[Content] = ()


@contextmanager
def ahead(target: Site, contents: Ahead) -> Iterator[None]:
    """Let go, at the end of the block, of contents that were sent to a site for a restore. Writes to the site's pool.

    Those that files have by now stay theirs, and those too that an earlier attempt, which was cut off, has sent; of a
    restore that was refused or taken back nothing stays.
    """
    restored = False
    try:
        yield
        restored = True
    except (OutcomeUnknown, KeyboardInterrupt):
        contents = Ahead()  # The site may be at it still and need them; site contents --unclaimed lists what is left.
        raise
    finally:
        names = [one.sha1 for one in (contents.needed if restored else contents.sent)]
        if names:
            target.pool().release(names, unclaimed=not restored)


@contextmanager
def _room_told(folder: Path) -> Iterator[None]:
    """A disk that is full is refused in words: nothing was changed by then. Raises Refused."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refused(
            f"There is no room in {folder.parent} for the backup on its way.",
            "Free some space there, or name another folder as TMPDIR.",
            code="nospace",
            details={"path": str(folder.parent)},
        ) from problem


def _sent(
    source: Site, target: Site, stored: BackupFile, path: Path, road: Road, on_progress: OnProgress
) -> Ahead | None:
    """Bring the backup without its files to ``path`` and send what the target lacks; None where that cannot be."""
    why = carrying.why_not(source, target, makes=False)
    if why is not None:
        road.notes.append(f"The backup travels in one piece. {why}")
        return None
    raw = path.with_name(f"{path.name}.raw")
    with raw.open("wb") as out:
        if not source.pool().backup_without_files(stored, writer(out)):
            road.notes.append("The backup travels in one piece: it is a zip.")
            return None
    with path.open("wb") as out:
        write_lean(raw, out)
    raw.unlink()
    wanted = [Content(one.sha1, one.size) for one in mbz.pool_files(path)]
    lacking = list(target.pool().lacking(wanted))
    try:
        done = carrying.carry(source.pool(), target.pool(), lacking, on_progress=on_progress)
    except Failed as failed:
        if failed.code not in ("content_missing", "content_damaged"):
            raise
        target.pool().release([one.sha1 for one in lacking], unclaimed=True)
        has = "no longer has all" if failed.code == "content_missing" else "has a damaged one"
        road.notes.append(f"The backup travels in one piece: {source.name} itself {has} of its files.")
        return None
    road.facts = {"contents": len(wanted), "contents_sent": done.count, "content_bytes_sent": done.bytes}
    there = sum(one.size for one in wanted) - done.bytes
    road.notes.append(
        f"Of its {len(wanted)} files' contents {done.count} were sent ({done.bytes / 1e6:.1f} MB); "
        f"{there / 1e6:.1f} MB were there already."
    )
    return Ahead(wanted, lacking)


def writer(out: BinaryIO) -> Callable[[bytes], None]:
    """What takes pieces and writes them to ``out``."""

    def take(piece: bytes) -> None:
        out.write(piece)

    return take
