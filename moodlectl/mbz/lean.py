"""A backup without the contents of its files, and whole again: only the file pool goes, and the manifest says so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from moodlectl.errors import Refused
from moodlectl.mbz.archive import INDEX, MANIFEST, Member, ProgressBytes, open_backup
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.poolfiles import PoolFile, pool_files
from moodlectl.mbz.sources import Source
from moodlectl.mbz.tally import POOL
from moodlectl.mbz.writer import Item, TgzWriter

_WITH, _WITHOUT = b"<include_files>1</include_files>", b"<include_files>0</include_files>"
# The setting of that name, in a backup that was made without files so that they could travel by themselves.
_SETTING = re.compile(rb"(<level>root</level>\s*<name>files</name>\s*<value>)0(</value>)")
_POOL_FOLDER = "files"
_FILES = "files.xml"
Content = tuple[str, int]
OnContent = Callable[[str, Iterator[memoryview]], None]


@dataclass(frozen=True)
class Carried:
    """What a backup carries: its contents, sha1 to size, and whether it says that it carries its files."""

    contents: Mapping[str, int]
    include_files: bool


OnFound = Callable[[Carried], None]


def write_lean(
    where: Path | Source,
    out: BinaryIO,
    on_content: OnContent | None = None,
    *,
    progress: ProgressBytes | None = None,
    limits: Limits = LIMITS,
    on_found: OnFound | None = None,
) -> tuple[Content, ...]:
    """Write a backup to ``out`` as a tgz that carries no files; returns sha1 and size of each content it carried.

    ``on_found`` is told before the first content what there is; ``on_content`` is handed each with its bytes, where
    the backup has them at hand; they are checked against their names. The source is walked through twice, in constant
    memory. Raises Refused for what is no whole backup.
    """
    items, found = _listed(where, limits)
    if on_found is not None:
        on_found(found)
    with open_backup(where, progress=progress, limits=limits) as archive:
        writer = TgzWriter(out, items, small=True)  # it travels, and is kept
        for member in archive.members():
            if content := POOL.fullmatch(member.name):
                if on_content is not None:
                    _hand_over(member, content[2], on_content)
            elif member.name != INDEX and not _of_pool(member.name):
                writer.add(Item(member.name, member.size, member.kind), _bytes(member, _lean, limits))
        writer.close()
    return tuple(sorted(found.contents.items()))


def write_hollowed(where: Path | Source, out: BinaryIO, *, limits: Limits = LIMITS) -> None:
    """Write a backup to ``out`` as a tgz that lacks its file pool and is as it was else: it still says that it has one.

    So sites send a stored backup whose contents travel by themselves. Raises Refused for what is no whole backup.
    """
    items, _ = _listed(where, limits)
    with open_backup(where, limits=limits) as archive:
        writer = TgzWriter(out, items, small=True)
        for member in archive.members():
            if member.name != INDEX and not _of_pool(member.name):
                writer.add(Item(member.name, member.size, member.kind), member.chunks())
        writer.close()


def _listed(where: Path | Source, limits: Limits) -> tuple[list[Item], Carried]:
    """The members that a backup keeps without its files, and the contents that it carries."""
    items: list[Item] = []
    carried: dict[str, int] = {}
    manifest = None
    with open_backup(where, limits=limits) as archive:
        for member in archive.members():
            if content := POOL.fullmatch(member.name):
                carried[content[2]] = member.size
            elif member.name != INDEX and not _of_pool(member.name):
                items.append(Item(member.name, member.size, member.kind))
                if member.name == MANIFEST and member.kind == "file":
                    manifest = member.read(limits.manifest_bytes)
    if manifest is None:
        raise Refused(
            f"This is an archive, but no Moodle backup: it has no {MANIFEST}.",
            "Name a backup that Moodle wrote.",
            code="not_a_backup",
        )
    return items, Carried(carried, _WITHOUT not in manifest)


def write_whole(
    lean: Path,
    out: BinaryIO,
    contents: Callable[[PoolFile], Iterable[bytes]],
    *,
    progress: ProgressBytes | None = None,
    limits: Limits = LIMITS,
    without: frozenset[str] = frozenset(),
) -> tuple[PoolFile, ...]:
    """Write a backup without files to ``out`` as an ordinary one, each content asked of ``contents``; returns those.

    ``without`` are contents, by their sha1, that nobody has any more. Any Moodle restores the result. Raises Refused
    for what is no whole backup, Failed where a content has another size.
    """
    pool = tuple(one for one in pool_files(lean, limits=limits) if one.sha1 not in without)
    items: list[Item] = []
    with open_backup(lean, limits=limits) as archive:
        for member in archive.members():
            if member.name == _FILES:
                items += _pool_items(pool)
            if member.name != INDEX and not _of_pool(member.name):
                items.append(Item(member.name, member.size, member.kind))
    with open_backup(lean, progress=progress, limits=limits) as archive:
        writer = TgzWriter(out, items)
        for member in archive.members():
            if member.name == _FILES:
                _add_pool(writer, pool, contents)
            if member.name != INDEX and not _of_pool(member.name):
                writer.add(Item(member.name, member.size, member.kind), _bytes(member, _whole, limits))
        writer.close()
    return pool


def _of_pool(name: str) -> bool:
    return name == _POOL_FOLDER or name.startswith(f"{_POOL_FOLDER}/")


def _hand_over(member: Member, sha1: str, on_content: OnContent) -> None:
    digest = hashlib.sha1(usedforsecurity=False)

    def checked() -> Iterator[memoryview]:
        for chunk in member.chunks():
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != sha1:
            raise Refused(
                f"The backup is damaged: the content {sha1} is another one.",
                "'moodlectl backup verify' shows what else is wrong with it.",
                code="content_damaged",
                details={"content": sha1},
            )

    on_content(sha1, checked())


def _bytes(member: Member, change: Callable[[bytes], bytes], limits: Limits) -> Iterable[bytes | memoryview]:
    """A member's bytes; the manifest says anew whether there are files."""
    if member.name != MANIFEST:
        return member.chunks()
    return (change(member.read(limits.manifest_bytes)),)  # as long as it was: the archive's index stays true


def _lean(manifest: bytes) -> bytes:
    return manifest.replace(_WITH, _WITHOUT, 1)


def _whole(manifest: bytes) -> bytes:
    return _SETTING.sub(rb"\g<1>1\g<2>", manifest.replace(_WITHOUT, _WITH, 1), count=1)


def _pool_items(pool: tuple[PoolFile, ...]) -> Iterator[Item]:
    yield Item(_POOL_FOLDER, 0, "dir")
    last = ""
    for one in pool:
        if one.sha1[:2] != last:
            last = one.sha1[:2]
            yield Item(f"{_POOL_FOLDER}/{last}", 0, "dir")
        yield Item(_place(one), one.size, "file")


def _add_pool(
    writer: TgzWriter, pool: tuple[PoolFile, ...], contents: Callable[[PoolFile], Iterable[bytes]]
) -> None:
    held = {_place(one): one for one in pool}
    for item in _pool_items(pool):
        writer.add(item, contents(held[item.name]) if item.kind == "file" else ())


def _place(one: PoolFile) -> str:
    return f"{_POOL_FOLDER}/{one.sha1[:2]}/{one.sha1}"
