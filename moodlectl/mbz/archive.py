"""A backup file, opened: its members in stream order, each checked before anybody sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from moodlectl.errors import Refused
from moodlectl.mbz.kept import KEPT, PACKED, UNPACKED, KeptMember, Walk, cost, key_of
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.names import check_name, folded, is_moodles, refuse
from moodlectl.mbz.sniff import Container, sniff
from moodlectl.mbz.sources import FileSource, Source, source_of
from moodlectl.mbz.tarstream import GzipStream, TarStream
from moodlectl.mbz.xmlstream import SMALL, XmlReader, lacks, read_xml
from moodlectl.mbz.zipfiles import ZipFile

ProgressBytes = Callable[[int, int], None]
Kind = Literal["file", "dir"]
_POOL = re.compile(rb"files/[0-9a-f]{2}/[0-9a-f]{40}")
INDEX = ".ARCHIVE_INDEX"
MANIFEST = "moodle_backup.xml"


class Member:
    """One member: ``name`` (checked, without ``./`` and trailing ``/``), ``size`` in bytes, ``kind`` file or
    dir.

    Its bytes can be read once, before the next member is asked for.
    """

    __slots__ = ("_content", "kind", "name", "size")

    def __init__(self, name: str, size: int, kind: Kind, content: Callable[[], Iterator[memoryview]]) -> None:
        self.name, self.size, self.kind = name, size, kind
        self._content = content

    def chunks(self) -> Iterator[memoryview]:
        """The member's bytes in pieces of some hundred kilobytes.

        Raises Refused where the archive is broken.
        """
        return self._content()

    def read(self, most: int) -> bytes:
        """The member's bytes at once. Raises Refused ``hostile_size`` where there are more than ``most``."""
        if self.size > most:
            raise refuse(
                "hostile_size", f"{self.name} is larger than {most} bytes.", member=self.name, size=self.size
            )
        return b"".join(self._content())

    def lacks(self, *names: str) -> bool:
        """Whether this is a small and sound document without such elements: who looks for no others need not parse it.

        It can still be read where the answer is no.
        """
        if self.size > SMALL:
            return False
        document = b"".join(self._content())
        self._content = partial(iter, iter((memoryview(document),)))
        return lacks(document, frozenset(names))

    def parse(self, reader: XmlReader) -> None:
        """Feeds the member to an XML reader, whole. Raises what the reader raises."""
        read_xml(self._content(), reader)

    def __repr__(self) -> str:
        return f"Member({self.name!r}, {self.size}, {self.kind!r})"


class Archive:
    """An open backup. ``container`` is ``tgz`` or ``zip``, told from its content; ``size`` is in bytes.

    ``tap`` sees the raw bytes of a tgz as they are read; ``progress`` is called with bytes done and bytes in
    all.
    """

    def __init__(
        self,
        where: Path | Source,
        *,
        progress: ProgressBytes | None = None,
        tap: Callable[[bytes], None] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.source = source = source_of(where)
        self.limits = limits
        self._progress, self._tap = progress, tap
        self._file: BinaryIO | None = None
        self.container: Container = sniff(source)
        self.size = source.size
        self.remarks: list[str] = []
        self._done = 0
        self._seen_names: set[int] = set()
        self._folders: set[int] = set()

    def __enter__(self) -> Self:
        self._file = self.source.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def members(self) -> Iterator[Member]:
        """Every member in stream order; may be walked again from the start. Reads only, in constant memory.

        Raises Refused, with the reason as its code, at the first member that is not what Moodle writes.
        After the last one ``remarks`` says what else is odd about the container: bytes that belong to nothing, a
        missing end mark. The next walk through the same bytes need not unpack and check them again where they are few
        (``kept``).
        """
        if self._file is None:
            raise ValueError("the archive is not open: use it in a with block")
        if self._file.seekable():
            self._file.seek(0)
        self.remarks = []
        self._done = 0
        self._seen_names, self._folders = set[int](), set[int]()
        raw = self._small(self._file)
        if raw is None:
            return self._walk(self._file)
        key = key_of(raw)
        kept = KEPT.get(key)
        return self._noted(self._walk(BytesIO(raw)), key) if kept is None else self._again(kept, raw)

    def _small(self, file: BinaryIO) -> bytes | None:
        """The whole file, where it is one whose walk is worth keeping."""
        here = isinstance(self.source, FileSource) and not self.source.hollow and self.limits is LIMITS
        if not here or self.container != "tgz" or self.size > PACKED:
            return None
        raw = file.read(PACKED + 1)
        if len(raw) <= PACKED:
            return raw
        file.seek(0)
        return None

    def _noted(self, members: Iterator[Member], key: bytes) -> Iterator[Member]:
        """The members of a walk, which is kept where it comes to its end and is not too large."""
        found: list[KeptMember] = []
        held = 0
        for member in members:
            held += cost(member.name, member.size)
            if held > UNPACKED:
                found.clear()
                yield member
                yield from members
                return
            pieces: list[bytes] = []
            if not member.size:
                yield member
            else:
                content = _noting(member, pieces)
                yield Member(member.name, member.size, member.kind, partial(iter, content))
                for _ in content:  # what nobody has asked for
                    pass
            found.append(KeptMember(member.name, member.kind, b"".join(pieces)))
        KEPT.put(key, Walk(tuple(found), tuple(self.remarks), held))

    def _again(self, walk: Walk, raw: bytes) -> Iterator[Member]:
        """The same members as in the walk before through the same bytes."""
        self._seen(raw)
        seen, folders = self._seen_names, self._folders
        for one in walk.members:
            key = hash(one.name)
            seen.add(key)
            if one.kind == "dir":
                folders.add(key)
            yield Member(one.name, len(one.content), one.kind, partial(iter, one.pieces()))
        self.remarks = list(walk.remarks)
        self._tell(self.size)

    def _walk(self, file: BinaryIO) -> Iterator[Member]:
        seen, folders = self._seen_names, self._folders
        twins = set[int]()
        source = self._tar(file) if self.container == "tgz" else self._zip(file)
        for member in source:
            if not member.name:
                continue
            # Hashes, not names: half a million names would be the largest thing in memory.
            key = hash(member.name)
            if key in seen:
                raise refuse(
                    "hostile_duplicate", f"{member.name} is in the backup twice.", member=member.name
                )
            seen.add(key)
            if member.kind == "dir":
                folders.add(key)
            # On a server that knows no upper and lower case, the later of two takes the place of the other.
            if (plain := folded(member.name)) != member.name or twins:
                twin = hash(plain)
                if (twin in twins or (twin != key and twin in seen)) and is_moodles(plain):
                    raise refuse("hostile_duplicate", f"{member.name} is in the backup in two spellings.")
                if twin != key:
                    twins.add(twin)
            if len(seen) > self.limits.members:
                raise refuse("too_many_members", f"The backup has more than {self.limits.members} members.")
            yield member

    def has(self, name: str) -> bool:
        """Whether a file of this name has gone by in the last walk through ``members``."""
        key = hash(name)
        return key in self._seen_names and key not in self._folders

    def _tar(self, file: BinaryIO) -> Iterator[Member]:
        stream = GzipStream(file, self._seen, self.limits)
        tar = TarStream(stream, self.limits, _is_left_out if self.source.hollow else None)
        count = 0
        for entry in tar:
            kind: Kind = "dir" if entry.kind == "dir" else "file"
            yield Member(check_name(entry.name, self.limits), entry.size, kind, tar.content)
            count += 1
        if not count:
            raise _empty_archive()
        if not tar.end_mark:
            self.remarks.append("The tar has no end mark.")
        if tar.after_end:
            # Moodle reads on behind the mark (tgz_extractor, 3.9 to 5.1): what lies there is restored, unseen by us.
            raise refuse("hostile_tar", "The tar holds data after its end mark.")
        if stream.trailing:
            self.remarks.append(f"{stream.trailing} bytes that belong to nothing follow the gzip stream.")
        if not self.source.hollow:
            self._tell(self.size)

    def _zip(self, file: BinaryIO) -> Iterator[Member]:
        archive = ZipFile(file, self.size, self.limits)
        if not archive.length:
            raise _empty_archive()
        if archive.shift:
            self.remarks.append(f"{archive.shift} bytes that belong to nothing come before the zip.")
        if archive.trailing:
            self.remarks.append(f"{archive.trailing} bytes that belong to nothing follow the zip.")
        done = 0
        for entry in archive:
            name = check_name(entry.name, self.limits)
            kind: Kind = "dir" if entry.kind == "dir" else "file"
            yield Member(name, entry.size, kind, partial(archive.content, entry))
            done += entry.packed
            self._tell(min(done, self.size))
        self._tell(self.size)

    def _seen(self, data: bytes) -> None:
        self._done += len(data)
        if not self.source.hollow:  # whoever hollows it knows how far it is
            self._tell(self._done)
        if self._tap:
            self._tap(data)

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress(done, self.size)


def open_backup(
    where: Path | Source,
    *,
    progress: ProgressBytes | None = None,
    tap: Callable[[bytes], None] | None = None,
    limits: Limits = LIMITS,
) -> Archive:
    """Opens a backup by its content, whatever it is called; to be used in a ``with`` block. Reads only.

    Raises NotFound, and Refused ``empty``, ``unreadable`` or ``not_a_backup`` with what the file is instead.
    """
    return Archive(where, progress=progress, tap=tap, limits=limits)


def _noting(member: Member, pieces: list[bytes]) -> Iterator[memoryview]:
    """A member's bytes, noted as they go by."""
    for piece in member.chunks():
        pieces.append(bytes(piece))
        yield memoryview(pieces[-1])


def _is_left_out(name: bytes) -> bool:
    """Whether a host that hollows a backup leaves this member's content out: that of the file pool."""
    return _POOL.fullmatch(name) is not None


def _empty_archive() -> Refused:
    return Refused(
        "The archive is empty: there is nothing in it.",
        "Name a backup that Moodle wrote.",
        code="not_a_backup",
    )
