"""A zip read through its central directory: what Moodle writes where ``$CFG->usezipbackups`` is set.

Only what a backup needs, so that every claim of the file can be checked before memory is spent on it: stored
and deflated members, zip64, no encryption, no parts.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from moodlectl.errors import Refused
from moodlectl.mbz.inflate import RAW_DEFLATE, BadStream, Inflater
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.names import decode_name, refuse
from moodlectl.mbz.tarstream import truncated
from moodlectl.mbz.text import printable

_EOCD = struct.Struct("<4s4H2LH")
_EOCD64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN = 64 * 1024
_OUT = 256 * 1024
_FULL32 = 0xFFFFFFFF
_UNIX_KIND = {0o120000: "a symbolic link", 0o060000: "a device", 0o020000: "a device", 0o010000: "a pipe"}
_DAMAGED_HINT = "Take another copy of the file; this one cannot be trusted."


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One line of the central directory. Sizes and ``offset`` are bytes; ``raw`` is the name as stored."""

    name: str
    raw: bytes
    kind: str
    method: int
    flags: int
    time: int
    crc: int
    packed: int
    size: int
    offset: int


class ZipFile:
    """A zip file's members in the order of its central directory, each with its content on demand.

    ``shift`` is how many bytes come before the zip, ``trailing`` how many after it.

    Raises Refused: ``truncated``, ``damaged``, ``bomb``, ``too_many_members``, ``hostile_size``,
    ``hostile_link``, ``encrypted``.
    """

    def __init__(self, file: BinaryIO, size: int, limits: Limits = LIMITS) -> None:
        self._file, self._size, self._limits = file, size, limits
        self.trailing = 0
        self.count, self._start, self.length, self.shift = self._find_directory()

    def __iter__(self) -> Iterator[ZipEntry]:
        """Each file and folder. A reader between two steps may read any content."""
        at, end = self._start, self._start + self.length
        count = packed = unpacked = 0
        begins, ends = array("Q"), array("Q")
        while at < end:
            entry, step = self._central(at, end)
            at += step
            count += 1
            packed += entry.packed + _LOCAL.size + len(entry.raw)
            unpacked += entry.size
            if count > self.count:
                raise refuse("hostile_size", f"The zip says it has {self.count} members, and has more.")
            if packed > self._size:
                raise refuse("bomb", "Members of the zip overlap: they claim more than the file holds.")
            self._check_ratio(unpacked)
            begins.append(entry.offset)
            ends.append(entry.offset + entry.packed + _LOCAL.size + len(entry.raw))
            yield entry
        _check_overlap(begins, ends)
        if count != self.count:
            raise refuse("hostile_size", f"The zip says it has {self.count} members, and has {count}.")

    def content(self, entry: ZipEntry) -> Iterator[memoryview]:
        """The member's bytes, checked against its size and checksum at their end. Raises Refused."""
        self._seek_content(entry)
        crc = size = 0
        for data in self._inflated(entry) if entry.method else self._stored(entry):
            size += len(data)
            if size > entry.size:
                raise refuse("hostile_size", f"{entry.name} is larger than the zip says.", member=entry.name)
            crc = zlib.crc32(data, crc)
            yield memoryview(data)
        if size != entry.size:
            raise refuse("hostile_size", f"{entry.name} is smaller than the zip says.", member=entry.name)
        if crc != entry.crc:
            raise self._damaged(f"the checksum of {entry.name} is wrong", entry.name)

    def _stored(self, entry: ZipEntry) -> Iterator[bytes]:
        left = entry.packed
        position = self._file.tell()
        while left:
            self._file.seek(position)
            data = self._file.read(min(_OUT, left))
            if not data:
                raise truncated(f"The backup is cut short inside {entry.name}.", member=entry.name)
            position += len(data)
            left -= len(data)
            yield data

    def _inflated(self, entry: ZipEntry) -> Iterator[bytes]:
        inflater = Inflater(RAW_DEFLATE)
        left, data, position = entry.packed, b"", self._file.tell()
        while not inflater.ended:
            if not data:
                self._file.seek(position)
                data = self._file.read(min(_IN, left))
                position += len(data)
                left -= len(data)
                if not data:
                    raise self._damaged(f"the content of {entry.name} has no end", entry.name)
            try:
                out = inflater.feed(data, _OUT)
            except BadStream as error:
                raise self._damaged(f"{entry.name} cannot be unpacked: {error}", entry.name) from error
            data = inflater.rest
            if out:
                yield out
        if left or data:
            raise refuse("hostile_size", f"{entry.name} holds more than its content.", member=entry.name)

    def _seek_content(self, entry: ZipEntry) -> None:
        fixed = self._read_at(entry.offset + self.shift, _LOCAL.size)
        signature, _, flags, method, time, date, *sums, name_length, extra_length = _LOCAL.unpack(fixed)
        if signature != b"PK\x03\x04":
            raise self._damaged(f"{entry.name} is not where the zip says", entry.name)
        name = self._read_at(entry.offset + self.shift + _LOCAL.size, name_length)
        # Where bit 3 is set the sums follow the content; sizes of 4 GiB stand in an extra field.
        told = [one for one in zip(sums, (entry.crc, entry.packed, entry.size), strict=True) if one[0] != _FULL32]
        agree = flags & 0x8 or all(here == there for here, there in told)
        said = name, method, flags & 0x9, time | date << 16
        if said != (entry.raw, entry.method, entry.flags & 0x9, entry.time) or not agree:
            raise refuse("hostile_zip", f"The zip tells two stories about {entry.name}.", member=entry.name)
        self._file.seek(entry.offset + self.shift + _LOCAL.size + name_length + extra_length)

    def _central(self, at: int, end: int) -> tuple[ZipEntry, int]:
        fields = _CENTRAL.unpack(self._read_at(at, _CENTRAL.size))
        flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
        name_length, extra_length, comment_length, attributes, offset = (
            *fields[10:13],
            fields[15],
            fields[16],
        )
        step = _CENTRAL.size + name_length + extra_length + comment_length
        if fields[0] != b"PK\x01\x02" or at + step > end:
            raise self._damaged("the zip's directory is malformed")
        rest = self._read_at(at + _CENTRAL.size, name_length + extra_length)
        raw, extra = rest[:name_length], rest[name_length:]
        name = decode_name(raw, "utf-8" if flags & 0x800 or raw.isascii() else "cp437")
        if _FULL32 in (packed, size, offset):
            size, packed, offset = _zip64(extra, size, packed, offset, name)
        if (other := _unicode_path(extra)) is not None and other != name.encode("utf-8"):
            raise refuse("hostile_zip", f"The zip tells two stories about {name}.", member=name)
        if flags & 0x1:
            raise Refused("The zip is encrypted.", "Moodle cannot restore it.", code="encrypted")
        if method not in (0, 8):
            raise refuse(
                "hostile_zip", f"{name} is packed in a way Moodle does not use ({method}).", member=name
            )
        unix = (attributes >> 16) & 0o170000 if fields[1] >> 8 == 3 else 0
        if unix in _UNIX_KIND:
            raise refuse("hostile_link", f"A member of the backup is {_UNIX_KIND[unix]}: {name}", name=name)
        kind = "dir" if name.endswith("/") else "file"
        if (kind == "dir" and size) or (method == 0 and size != packed):
            raise refuse("hostile_size", f"The zip lies about the size of {name}.", member=name)
        return ZipEntry(name, raw, kind, method, flags, fields[5] | fields[6] << 16, crc, packed, size, offset), step

    def _find_directory(self) -> tuple[int, int, int, int]:
        """How many members, where their directory begins, its length, and what lies before the zip."""
        tail_size = min(self._size, _EOCD.size + 0xFFFF)
        tail = self._read_at(self._size - tail_size, tail_size)
        found = _end_record(tail)
        if found < 0:
            raise truncated("The backup is cut short: the zip has no directory at its end.", size=self._size)
        _, disk, other, here, count, length, start, comment = _EOCD.unpack_from(tail, found)
        self.trailing = len(tail) - found - _EOCD.size - comment
        if (other, here) not in ((disk, count), (0xFFFF, count)) or self.trailing < 0:
            raise truncated("The backup is cut short, or a part of a zip in several pieces.", size=self._size)
        eocd = end = self._size - tail_size + found
        if _FULL32 in (length, start) or count == 0xFFFF:
            end, disk, count, length, start = self._zip64_directory(eocd, disk, count, length, start)
        base = end - length - start
        if disk or base < 0 or length > end:
            raise truncated("The backup is cut short, or a part of a zip in several pieces.", size=self._size)
        if count > self._limits.members:
            raise self._too_many(count)
        return count, start + base, length, base

    def _zip64_directory(
        self, eocd: int, disk: int, count: int, length: int, start: int
    ) -> tuple[int, int, int, int, int]:
        locator = self._read_at(eocd - 20, 20) if eocd >= 20 else b""
        if locator[:4] != b"PK\x06\x07":
            return eocd, disk, count, length, start
        at = int.from_bytes(locator[8:16], "little")
        # What comes before the zip shifts everything; the record stands right before its locator.
        for where in (at, eocd - 20 - _EOCD64.size):
            if 0 <= where <= eocd - 20 - _EOCD64.size:
                fields = _EOCD64.unpack(self._read_at(where, _EOCD64.size))
                if fields[0] == b"PK\x06\x06":
                    return where, fields[4], fields[7], fields[8], fields[9]
        raise self._damaged("the zip's directory is malformed")

    def _read_at(self, at: int, size: int) -> bytes:
        if at < 0 or at + size > self._size:
            raise truncated(
                "The backup is cut short, or the zip's directory points outside it.", size=self._size
            )
        self._file.seek(at)
        data = self._file.read(size)
        if len(data) < size:
            raise truncated("The backup became shorter while it was read.", size=self._size)
        return data

    def _check_ratio(self, unpacked: int) -> None:
        if unpacked > self._limits.ratio_floor and unpacked > self._size * self._limits.ratio:
            raise refuse(
                "bomb",
                f"The backup unpacks to more than {self._limits.ratio} times its size; no course does.",
                size=self._size,
                unpacked=unpacked,
            )

    def _too_many(self, count: int) -> Refused:
        return refuse(
            "too_many_members", f"The backup has more than {self._limits.members} members.", members=count
        )

    def _damaged(self, why: str, member: str | None = None) -> Refused:
        details = {"member": printable(member)} if member else {}
        return Refused(
            f"The backup is damaged: {printable(why)}.", _DAMAGED_HINT, code="damaged", details=details
        )


def _end_record(tail: bytes) -> int:
    """Where the end record stands in the last bytes of a zip: the one whose comment reaches the end of the file."""
    last = at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _EOCD.size + 4)
    whole = []
    while at >= 0:
        if at + _EOCD.size + _EOCD.unpack_from(tail, at)[7] == len(tail):
            whole.append(at)
        at = tail.rfind(b"PK\x05\x06", 0, at + 3)
    if whole and whole != [last]:  # another zip, in the comment of this one
        raise refuse("hostile_zip", "The zip has two ends.")
    return last


def _check_overlap(begins: array[int], ends: array[int]) -> None:
    """Refuses members that share bytes: no packer writes so, and little would unpack to much."""
    order: Iterator[int] | range = range(len(begins))
    if any(begins[at] < begins[at - 1] for at in range(1, len(begins))):
        order = iter(sorted(order, key=begins.__getitem__))
    reached = 0
    for at in order:
        if begins[at] < reached:
            raise refuse("bomb", "Members of the zip overlap: they share the same bytes.")
        reached = ends[at]


def _unicode_path(extra: bytes) -> bytes | None:
    """The name in an Info-ZIP extra field, which libzip, and so PHP, may take for the member's name."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 0x7075 and length > 5:
            return extra[9 : 4 + length]
        extra = extra[4 + length :]
    return None


def _zip64(extra: bytes, size: int, packed: int, offset: int, name: str) -> tuple[int, int, int]:
    """The true size, packed size and offset out of a zip64 extra field. Raises Refused ``hostile_zip``."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 1:
            values = [size, packed, offset]
            for index, stored in enumerate(values):
                if stored == _FULL32 and len(body) >= 8:
                    values[index], body = int.from_bytes(body[:8], "little"), body[8:]
            return values[0], values[1], values[2]
    raise refuse("hostile_zip", f"The zip does not say how large {name} is.", member=name)
