"""A backup file, written: tgz or zip, as Moodle's own packers write them."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, Literal, Protocol, cast

from moodlectl.errors import Failed, Refused
from moodlectl.mbz.archive import INDEX
from moodlectl.mbz.text import printable

BLOCK = 512
_AT_ONCE = 64 * 1024
_NAME, _MOST = 100, 8**11
MTIME = 1356998400
"""The time of every member: what Moodle's packer gives its index (``lib/filestorage/tgz_packer.php``)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One member to be written: its name, its size in bytes, and kind."""

    name: str
    size: int
    kind: Literal["file", "dir"]


class BackupWriter(Protocol):
    """What takes members in order, and is closed at the end."""

    def add(self, item: Item, chunks: Iterable[bytes | memoryview]) -> None: ...

    def close(self) -> None: ...


class _Compressor(Protocol):
    def compress(self, data: Any, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _gzip(*, small: bool) -> _Compressor:
    """A running gzip compression: igzip where it is installed, zlib where it is not, or where size matters more."""
    if small:
        return zlib.compressobj(6, zlib.DEFLATED, 31)
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(6, zlib.DEFLATED, 31)
    return cast("_Compressor", isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31))


def index_text(items: Iterable[Item], count: int) -> Iterator[bytes]:
    """The lines of ``.ARCHIVE_INDEX`` for those members."""
    yield f"Moodle archive file index. Count: {count}\n".encode("ascii")
    for item in items:
        if item.kind == "dir":
            yield f"{item.name}/\td\t0\t?\n".encode()
        else:
            yield f"{item.name}\tf\t{item.size}\t{MTIME}\n".encode()


class TgzWriter:
    """A gzipped ustar whose first member is the index of all others, which must be known beforehand.

    ``small`` packs better and takes longer.
    """

    def __init__(self, file: BinaryIO, items: list[Item], *, small: bool = False) -> None:
        self._file = file
        self._gzip = _gzip(small=small)
        # Thousands of small pieces take longer to hand over than to compress.
        self._waiting = bytearray()
        index = b"".join(index_text(items, len(items)))
        self.add(Item(INDEX, len(index), "file"), [index])

    def add(self, item: Item, chunks: Iterable[bytes | memoryview]) -> None:
        """The next member, with its bytes. Raises Refused where ustar cannot hold it."""
        self._write(_header(item))
        size = 0
        for chunk in chunks:
            size += len(chunk)
            self._write(chunk)
        _check_size(item, size)
        self._write(bytes(-size % BLOCK))

    def close(self) -> None:
        """The end mark, and the end of the gzip stream. The file stays open."""
        self._write(bytes(2 * BLOCK))
        self._file.write(self._gzip.compress(self._waiting) + self._gzip.flush())

    def _write(self, data: bytes | memoryview) -> None:
        self._waiting += data
        if len(self._waiting) >= _AT_ONCE:
            self._file.write(self._gzip.compress(self._waiting))
            self._waiting.clear()


class ZipWriter:
    """A zip, as Moodle writes where ``$CFG->usezipbackups`` is set."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)

    def add(self, item: Item, chunks: Iterable[bytes | memoryview]) -> None:
        """The next member, with its bytes."""
        folder = item.kind == "dir"
        info = zipfile.ZipInfo(item.name + ("/" if folder else ""), (2013, 1, 1, 0, 0, 0))
        info.file_size = item.size
        info.compress_type = zipfile.ZIP_STORED if folder else zipfile.ZIP_DEFLATED
        info.external_attr = (0o40755 << 16 | 0x10) if folder else 0o100644 << 16
        size = 0
        with self._zip.open(info, "w") as out:
            for chunk in chunks:
                size += len(chunk)
                out.write(chunk)
        _check_size(item, size)

    def close(self) -> None:
        """The central directory. The file stays open."""
        self._zip.close()


def _header(item: Item) -> bytes:
    """A member's ustar header; those of most members differ in name and size alone."""
    slash = "/" if item.kind == "dir" and not item.name.endswith("/") else ""
    name = (item.name + slash).encode("utf-8", "surrogateescape")
    if not name.isascii() or len(name) > _NAME or item.size >= _MOST:
        return _any_header(item)
    blank = _any_header_of(item.kind)
    head = name.ljust(_NAME, b"\x00") + blank[_NAME:124] + b"%011o\x00" % item.size + blank[136:148]
    return head + b"%06o\x00 " % (sum(head) + 8 * ord(" ") + sum(blank[156:])) + blank[156:]


@cache
def _any_header_of(kind: Literal["file", "dir"]) -> bytes:
    return _any_header(Item("any", 0, kind))


def _any_header(item: Item) -> bytes:
    info = tarfile.TarInfo(item.name)
    info.size, info.mtime, info.mode = item.size, MTIME, 0o644
    if item.kind == "dir":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    try:
        return info.tobuf(tarfile.USTAR_FORMAT)
    except ValueError as error:
        raise Refused(
            f"{printable(item.name)} cannot be written: {error}.",
            "Moodle's own packer has the same bounds: names of 255 bytes, members of 8 GiB.",
            code="not_writable",
            details={"member": printable(item.name), "size": item.size},
        ) from error


def _check_size(item: Item, size: int) -> None:
    if size != item.size:
        raise Failed(
            f"{printable(item.name)} changed its size while it was written.",
            "Was the backup replaced meanwhile? Try again.",
            code="file_changed",
            details={"member": printable(item.name), "expected": item.size, "written": size},
        )
