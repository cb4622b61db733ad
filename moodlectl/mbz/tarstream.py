"""A gzipped tar read as one stream: what Moodle writes since 2.x unless told to zip.

Moodle's packer (``lib/filestorage/tgz_packer.php``, 3.9 to 5.1) writes plain ustar; files packed again by
hand come from GNU tar or bsdtar, so their long names are understood too. Links, devices and sparse files are
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO
from zlib import adler32

from moodlectl.errors import Refused
from moodlectl.mbz.inflate import GZIP, BadStream, Inflater
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.names import decode_name, is_moodles, refuse
from moodlectl.mbz.text import printable

BLOCK = 512
_IN = 64 * 1024
_OUT = 256 * 1024
_ZEROS = bytes(BLOCK)
_OCTAL = b"01234567"
_GZIP_HEAD = 10
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_TRUNCATED_HINT = "The file is cut short: download or copy it again."


def truncated(message: str, **details: object) -> Refused:
    """The refusal of a file that ends before it should."""
    safe = {key: printable(value) if isinstance(value, str) else value for key, value in details.items()}
    return Refused(printable(message), _TRUNCATED_HINT, code="truncated", details=safe)


def damaged(why: str, read: int) -> Refused:
    """The refusal of a gzip stream that cannot be unpacked."""
    hint = "Take another copy of the file; this one cannot be trusted."
    return Refused(f"The backup is damaged: {why}.", hint, code="damaged", details={"read": read})


class GzipStream:
    """The decompressed bytes of a gzip file, in order, in constant memory, never more than a bomb's worth.

    ``tap`` sees each piece of the file as it is read. ``done`` counts bytes read, ``out`` bytes given out.
    """

    def __init__(
        self, file: BinaryIO, tap: Callable[[bytes], None] | None = None, limits: Limits = LIMITS
    ) -> None:
        self._file, self._tap, self._limits = file, tap, limits
        self._inflater = Inflater(GZIP)
        self._input = b""
        self._block = memoryview(b"")
        self._fresh = True
        self.done = 0
        self.out = 0
        self.trailing = 0
        self.ended = False

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end of the stream."""
        if size <= len(self._block):
            piece, self._block = self._block[:size], self._block[size:]
            return bytes(piece)
        parts = []
        for piece in self.pieces(size):
            parts.append(bytes(piece))
        return b"".join(parts)

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes in pieces; stops early only at the end of the stream."""
        while size > 0:
            if not self._block and not self._fill():
                return
            piece = self._block[:size]
            self._block = self._block[len(piece) :]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> int:
        """Passes over ``size`` bytes; returns how many were missing at the end."""
        while size > 0:
            if not self._block and not self._fill():
                break
            step = min(size, len(self._block))
            self._block = self._block[step:]
            size -= step
        return size

    def _fill(self) -> bool:
        """The next block of output, unless the stream is over.

        Raises Refused ``truncated``, ``damaged``, ``bomb``.
        """
        while not self.ended:
            if not self._input:
                self._input = self._read()
                if not self._input:
                    raise truncated("The backup is cut short: its gzip stream has no end.", read=self.done)
            if self._fresh:
                self._check_flags()
            try:
                data = self._inflater.feed(self._input, _OUT)
            except BadStream as error:
                raise damaged(str(error), self.done) from error
            self._input = self._inflater.rest
            if self._inflater.ended:
                self._next_gzip_member()
            if data:
                self.out += len(data)
                self._check_ratio()
                self._block = memoryview(data)
                return True
        return False

    def _check_flags(self) -> None:
        """igzip reads over flags that no program knows; zlib, and so Moodle, does not."""
        while len(self._input) < _GZIP_HEAD and (more := self._read()):
            self._input += more
        self._fresh = False
        if len(self._input) >= _GZIP_HEAD and (self._input[2] != 8 or self._input[3] & 0xE0):
            raise damaged("its gzip header is of no known kind", self.done)

    def _next_gzip_member(self) -> None:
        """A gzip file may hold several members; zeros may pad it; anything else after the end is counted."""
        while True:
            self._input = self._input.lstrip(b"\x00")
            if len(self._input) >= _GZIP_HEAD:
                break
            more = self._read()
            if not more:
                break
            self._input += more
        if self._input[:2] == b"\x1f\x8b":
            self._inflater, self._fresh = Inflater(GZIP), True
            return
        self.ended = True
        self.trailing = len(self._input)
        while more := self._read():
            self.trailing += len(more)
        self._input = b""

    def _read(self) -> bytes:
        data = self._file.read(_IN)
        self.done += len(data)
        if data and self._tap:
            self._tap(data)
        return data

    def _check_ratio(self) -> None:
        if self.out > self._limits.ratio_floor and self.out > self.done * self._limits.ratio:
            raise refuse(
                "bomb",
                f"The backup unpacks to more than {self._limits.ratio} times its size; no course does.",
                read=self.done,
                unpacked=self.out,
            )


class TarEntry:
    """One member of a tar stream: its raw name, size in bytes, and kind (``file`` or ``dir``)."""

    __slots__ = ("kind", "name", "size")

    def __init__(self, name: str, size: int, kind: str) -> None:
        self.name, self.size, self.kind = name, size, kind


class TarStream:
    """The members of a tar, one after the other; the content of the current one is in ``content``.

    ``left_out`` tells by their raw names the files whose header is there and whose content is not.
    """

    def __init__(
        self,
        stream: GzipStream,
        limits: Limits = LIMITS,
        left_out: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._stream, self._limits, self._left_out = stream, limits, left_out
        self._left = 0
        self._padding = 0
        self._current = ""
        self.end_mark = False
        self.after_end = 0

    def content(self) -> Iterator[memoryview]:
        """The bytes of the current member that were not read yet. Raises Refused ``truncated``."""
        for piece in self._stream.pieces(self._left):
            self._left -= len(piece)
            yield piece
        if self._left:
            raise truncated(f"The backup is cut short inside {self._current}.", member=self._current)

    def __iter__(self) -> Iterator[TarEntry]:
        """Each file and folder in stream order.

        Raises Refused for whatever is neither, and for a broken header.
        """
        long_name: str | None = None
        pax: dict[str, str] = {}
        extras = 0
        while (header := self._header()) is not None:
            kind, size = header[156:157], _number(header[124:136])
            if kind in (b"L", b"x", b"g"):
                extras += 1
                if extras > 4:
                    raise refuse("hostile_tar", "Extended headers follow one another without a member.")
                body = self._body(size)
                if kind == b"L":
                    long_name = decode_name(body.rstrip(b"\x00"))
                elif kind == b"x":
                    pax = _pax(body)
                continue
            entry = _entry(header, size, long_name or pax.get("path"), pax)
            self._left, self._padding, self._current = entry.size, -entry.size % BLOCK, entry.name
            plain = not extras and kind != b"5" and not header[345]
            if self._left_out and plain and self._left_out(_plain(header)):
                self._left = self._padding = 0
            extras = 0
            yield entry
            long_name, pax = None, {}
            self._pass_rest()
        self._drain()

    def _header(self) -> bytes | None:
        """The next header block, or None at the end of the archive."""
        block = self._stream.take(BLOCK)
        if not block:
            return None
        if block == _ZEROS:
            second = self._stream.take(BLOCK)
            self.end_mark = second == _ZEROS
            self.after_end = len(second) - second.count(0)
            return None
        if len(block) < BLOCK and self._current:
            raise truncated("The backup is cut short between two members.")
        if not _is_header(block):
            raise Refused(
                "The backup is no tar archive inside, or its headers are damaged.",
                "Take another copy of the file, or check that Moodle wrote it.",
                code="damaged" if self._current else "not_a_backup",
            )
        return block

    def _body(self, size: int) -> bytes:
        if size > self._limits.pax_bytes:
            raise refuse("hostile_tar", f"An extended header of {size} bytes.")
        self._left, self._padding = size, -size % BLOCK
        body = b"".join(self.content())
        self._pass_rest()
        return body

    def _pass_rest(self) -> None:
        missing = self._stream.skip(self._left + self._padding)
        # Some packers leave the padding of the very last member away; its content must be there.
        if missing > self._padding:
            raise truncated(f"The backup is cut short inside {self._current}.", member=self._current)
        self._left = self._padding = 0

    def _drain(self) -> None:
        """Reads on to the end, so that the gzip checksum is checked, counting what is not padding."""
        while block := self._stream.take(64 * BLOCK):
            self.after_end += len(block) - block.count(0)


def _is_header(block: bytes) -> bool:
    return block[257:262] == b"ustar" and _number(block[148:156]) == _checksum(block)


def _entry(header: bytes, size: int, name: str | None, pax: dict[str, str]) -> TarEntry:
    kind, given = header[156:157], name
    name = given or _ustar_name(header)
    if kind not in (b"0", b"\x00", b"5"):
        what = _KINDS.get(kind, "of a kind Moodle never writes")
        raise refuse("hostile_link", f"A member of the backup is {what}: {name}", name=name)
    if any(key.startswith("GNU.sparse") for key in pax):
        raise refuse("hostile_tar", f"A member of the backup is a sparse file: {name}", name=name)
    if "size" in pax:
        if not pax["size"].isdecimal() or len(pax["size"]) > 18:
            raise refuse("hostile_size", f"A member's size is no size: {name}", name=name)
        size = int(pax["size"])
    _check_stories(header, name, size, given)
    is_dir = kind == b"5" or name.endswith("/")
    if is_dir and size:
        raise refuse("hostile_size", f"A folder with content: {name}", name=name)
    return TarEntry(name, size, "dir" if is_dir else "file")


def _checksum(header: bytes) -> int:
    """The sum of a header's bytes, its own checksum counted as blanks."""
    # Adler's first sum is this one and 1, modulo 65521: more than all ASCII of a block comes to.
    whole = (adler32(header) & 0xFFFF) - 1 if header.isascii() else sum(header)
    return whole - sum(header[148:156]) + 256


def _check_stories(header: bytes, name: str, size: int, given: str | None) -> None:
    """Refuses a member that Moodle would read otherwise than it is read here.

    Moodle goes by the first eleven digits of a size, and by the plain name with its prefix; extended headers are
    members to it (``tgz_extractor::process_header``, 3.9 to 5.1). So a second backup could hide behind the first.
    """
    digits = header[124:135]
    if digits.strip(_OCTAL):
        digits = bytes(digit for digit in digits if digit in _OCTAL)
    if size != int(digits or b"0", 8):
        raise refuse("hostile_size", f"Moodle would read another size of {name}.", name=name, size=size)
    if header[0:100].partition(b"\x00")[2].strip(b"\x00") or header[345:500].partition(b"\x00")[2].strip(b"\x00"):
        raise refuse("hostile_name", f"A member's name goes on behind its end: {name}", name=name)
    theirs = _join(header[345:500], header[0:100]).decode("utf-8", "replace")
    if theirs == name:
        return
    ours = name.removeprefix("./").rstrip("/")
    if theirs.removeprefix("./").rstrip("/") != ours and (is_moodles(ours) or is_moodles(theirs) or not given):
        raise refuse("hostile_tar", f"The tar tells two stories about {name}.", name=name)


def _join(prefix: bytes, name: bytes) -> bytes:
    before = prefix.split(b"\x00", 1)[0]
    plain = name.split(b"\x00", 1)[0]
    return before + b"/" + plain if before else plain


def _plain(header: bytes) -> bytes:
    return header[0:100].split(b"\x00", 1)[0]


def _ustar_name(header: bytes) -> str:
    name = _plain(header)
    prefix = header[345:500].split(b"\x00", 1)[0]
    # GNU's own format keeps other things where ustar has the prefix.
    if prefix and header[257:263] == b"ustar\x00":
        name = prefix + b"/" + name
    return decode_name(name)


def _number(field: bytes) -> int:
    """A tar number: octal digits, or GNU's base 256. Raises Refused ``hostile_size``."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    else:
        digits = field.strip(b" \x00")
        # Not what int() takes for a number as well: signs, underscores, 0o.
        number = int(digits or b"0", 8) if not digits.strip(_OCTAL) else -1
    if not 0 <= number < 1 << 50:
        raise refuse("hostile_size", "A member's header holds an impossible number.")
    return number


def _pax(body: bytes) -> dict[str, str]:
    """The records of a PAX header that matter here. Raises Refused ``hostile_tar``."""
    found: dict[str, str] = {}
    while body:
        length, space, _ = body.partition(b" ")
        if (
            not space
            or not length.isdigit()
            or len(length) > 6
            or not len(length) + 3 <= int(length) <= len(body)
        ):
            raise refuse("hostile_tar", "A malformed extended header.")
        record, body = body[len(length) + 1 : int(length) - 1], body[int(length) :]
        key, _, text = record.partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            found[decode_name(key)] = decode_name(text)
    return found
