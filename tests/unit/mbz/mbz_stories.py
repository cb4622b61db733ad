"""Backup files that tell two stories: one to whoever looks into them, another to the Moodle that restores them.

And what else a stranger may try that ``mbz_corpus`` does not: each with the command that must refuse it, and why.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import mbz_corpus as corpus
from mbz_corpus import MANIFEST, Maker, Piece, pieces, replaced, write_tgz, write_zip

END = bytes(1024)
# A manifest of another course, which a restore would take if it could be smuggled past a look.
OTHER = next(piece.data for piece in replaced(MANIFEST, "<moduleid>7<", "<moduleid>7<") if piece.name == MANIFEST)
OTHER = OTHER.replace(b"<original_course_fullname>", b"<original_course_fullname>Another ")


def header(name: bytes, size: int | bytes, kind: bytes = b"0", **fields: tuple[int, bytes]) -> bytes:
    """One tar header with a right checksum; ``fields`` are places and bytes to lay over it."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    block[0:100] = name.ljust(100, b"\0")
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157] = kind
    for at, data in fields.values():
        block[at : at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(head: bytes, data: bytes) -> bytes:
    """A header and its content, padded."""
    return head + data + bytes(-len(data) % 512)


def body(source: Iterable[Piece] | None = None) -> bytes:
    """The tar of a whole real backup, without its end mark."""
    tar = corpus.tar_bytes(pieces() if source is None else source)
    at = len(tar)
    while tar[at - 512 : at] == bytes(512):
        at -= 512
    return tar[:at]


def tar(*parts: bytes, end: bytes = END) -> Maker:
    """A tgz of those parts behind a whole backup."""
    return lambda path: path.write_bytes(gzip.compress(body() + b"".join(parts) + end, 1))


def xml(name: str, data: bytes) -> Maker:
    """A real backup with one document replaced."""

    def make(path: Path) -> None:
        source = [Piece(piece.name, data if piece.name == name else piece.data, piece.kind) for piece in pieces()]
        write_tgz(path, source)

    return make


def pax(key: str, value: str) -> bytes:
    """An extended header of one record."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 2 if len(rest) + 2 < 100 else len(rest) + 3
    record = str(length).encode() + rest
    return member(header(b"./PaxHeaders/x", len(record), b"x"), record)


def long_name(name: bytes) -> bytes:
    """GNU's header of a long name."""
    return member(header(b"././@LongLink", len(name) + 1, b"L"), name + b"\0")


def zipped(change: Callable[[bytearray], bytes | None], method: int = zipfile.ZIP_DEFLATED) -> Maker:
    """A whole backup as a zip, changed byte by byte."""

    def make(path: Path) -> None:
        data = bytearray(write_zip(path, pieces(), method).read_bytes())
        path.write_bytes(change(data) or data)

    return make


def _line(data: bytearray, name: bytes = MANIFEST.encode()) -> tuple[int, int]:
    """Where a member's line of the directory and its own header stand."""
    at = data.rfind(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name:
        at = data.rfind(b"PK\x01\x02", 0, at)
    return at, int(struct.unpack_from("<L", data, at + 42)[0])


def _local(place: int, change: int) -> Callable[[bytearray], None]:
    def lie(data: bytearray) -> None:
        _, local = _line(data)
        struct.pack_into("<L", data, local + place, struct.unpack_from("<L", data, local + place)[0] + change)

    return lie


def _local_flag(data: bytearray) -> None:
    data[_line(data)[1] + 6] |= 1


def _method(number: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        at, local = _line(data)
        struct.pack_into("<H", data, at + 10, number)
        struct.pack_into("<H", data, local + 8, number)

    return change


def _two_ends(data: bytearray) -> bytes:
    """Behind the end record, as its comment, another directory and its end."""
    at = data.rfind(b"PK\x05\x06")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x", "y")
    data[at + 20 : at + 22] = struct.pack("<H", len(other.getvalue()))
    return bytes(data) + other.getvalue()


def _shared_bytes(data: bytearray) -> bytes:
    """Two lines for one member, in a zip with room to spare between its members and its directory."""
    at = data.rfind(b"PK\x05\x06")
    start, length = struct.unpack_from("<L", data, at + 16)[0], struct.unpack_from("<L", data, at + 12)[0]
    line, _ = _line(data, b"users.xml")
    copy = bytes(data[line : line + 46]) + b"outcomes_.xml"[:9]
    directory = bytes(data[start : start + length]) + copy
    end = bytearray(data[at:])
    struct.pack_into(
        "<2H2L", end, 8, *[struct.unpack_from("<H", data, at + 8)[0] + 1] * 2, len(directory), start + 9000
    )
    return bytes(data[:start]) + bytes(9000) + directory + bytes(end)


def _hidden_behind_content(data: bytearray) -> bytes:
    """A member whose packed bytes go on behind the end of its content."""
    line, local = _line(data)
    begin = local + 30 + len(MANIFEST)
    packed = struct.unpack_from("<L", data, line + 20)[0]
    hidden = b"hidden" * 20
    for place in (line + 20, local + 18):
        struct.pack_into("<L", data, place, packed + len(hidden))
    at = data.rfind(b"PK\x05\x06")
    start = struct.unpack_from("<L", data, at + 16)[0]
    struct.pack_into("<L", data, at + 16, start + len(hidden))
    where = start
    while data[where : where + 4] == b"PK\x01\x02":
        offset = struct.unpack_from("<L", data, where + 42)[0]
        if offset > local:
            struct.pack_into("<L", data, where + 42, offset + len(hidden))
        where += 46 + sum(struct.unpack_from("<3H", data, where + 28))
    return bytes(data[: begin + packed]) + hidden + bytes(data[begin + packed :])


def _extra(kind: int, data: bytes) -> Maker:
    """A zip whose second member brings an extra field."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for piece in pieces():
                info = zipfile.ZipInfo(piece.name + ("/" if piece.kind == tarfile.DIRTYPE else ""))
                if piece.name == "users.xml":
                    info.extra = struct.pack("<2H", kind, len(data)) + data
                archive.writestr(info, piece.data)

    return make


def _zip64_claim(data: bytearray) -> None:
    at, _ = _line(data)
    struct.pack_into("<L", data, at + 24, 0xFFFFFFFF)


def _disks(data: bytearray) -> None:
    struct.pack_into("<H", data, data.rfind(b"PK\x05\x06") + 4, 3)


def _zip_name(old: bytes, new: bytes) -> Callable[[bytearray], bytes]:
    return lambda data: bytes(data).replace(old, new)


def _twice(path: Path) -> None:
    """A manifest that says everything twice, the second time something else."""
    inner = OTHER.partition(b"<information>")[2].partition(b"</information>")[0]
    said = next(piece.data for piece in pieces() if piece.name == MANIFEST)
    xml(MANIFEST, said.replace(b"</information>", b"</information><information>" + inner + b"</information>"))(path)


def _people(text: bytes) -> Maker:
    return xml("users.xml", b'<?xml version="1.0" encoding="UTF-8"?>\n<users>' + text + b"</users>")


def _person(field: bytes) -> bytes:
    return b'<user id="3" contextid="9"><username>x</username>' + field + b"</user>"


def _manifest_of(old: str, new: str) -> Maker:
    return lambda path: write_tgz(path, replaced(MANIFEST, old, new))


def _many_names(count: int) -> bytes:
    return b"".join(b"<n%d/>" % number for number in range(count))


MANY = b"".join(b"<a%d></a%d>" % (number, number) for number in range(300_000))
DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE users [%s]><users></users>'
HOSTILE: dict[str, tuple[Maker, str, str]] = {
    # A tar that Moodle reads otherwise.
    "a second backup behind the end": (
        lambda p: p.write_bytes(
            gzip.compress(body() + END + member(header(b"moodle_backup.xml", len(OTHER)), OTHER) + END)
        ),
        *("hostile_tar", "inspect"),
    ),
    "a second backup behind one empty block": (
        lambda p: p.write_bytes(gzip.compress(body() + bytes(512) + header(b"moodle_backup.xml", 0) + END)),
        *("hostile_tar", "inspect"),
    ),
    "pax names the manifest otherwise": (
        tar(pax("path", "harmless.txt"), member(header(b"moodle_backup.xml", len(OTHER)), OTHER)),
        *("hostile_tar", "inspect"),
    ),
    "pax makes something the manifest": (
        lambda p: p.write_bytes(
            gzip.compress(pax("path", MANIFEST) + member(header(b"x", len(OTHER)), OTHER) + body() + END)
        ),
        *("hostile_tar", "inspect"),
    ),
    "a long name makes something users.xml": (
        tar(long_name(b"course/users2.xml"), member(header(b"x", 3), b"<a>")),
        *("hostile_tar", "inspect"),
    ),
    "pax size hides a member": (
        tar(
            pax("size", "1536"),
            member(header(b"files/aa/" + b"a" * 40, 0), header(b"moodle_backup.xml", 0) + bytes(1024)),
        ),
        *("hostile_size", "inspect"),
    ),
    "binary size hides a member": (
        tar(member(header(b"x", b"\x80" + bytes(9) + b"\x04\x00"), header(b"moodle_backup.xml", 0) + bytes(512))),
        *("hostile_size", "inspect"),
    ),
    "a size of twelve digits": (tar(member(header(b"x", b"000000000010"), b"12345678")), "hostile_size", "inspect"),
    "a size with a sign": (tar(header(b"x", b"+0000000000\0")), "hostile_size", "inspect"),
    "a size with an underscore": (tar(header(b"x", b"0000000_000\0")), "hostile_size", "inspect"),
    "a size with a prefix": (tar(header(b"x", b"0o000000000\0")), "hostile_size", "inspect"),
    "a name that goes on behind its end": (
        tar(member(header(b"x\0moodle_backup.xml", 3), b"<a>")),
        *("hostile_name", "inspect"),
    ),
    "a prefix that only Moodle reads": (
        tar(member(header(b"users2.xml", 3, magic=(257, b"ustar  \0"), prefix=(345, b"course")), b"<a>")),
        *("hostile_tar", "inspect"),
    ),
    "a contiguous file": (tar(member(header(b"x", 3, b"7"), b"<a>")), "hostile_link", "inspect"),
    "an old sparse file": (tar(member(header(b"x", 3, b"S"), b"<a>")), "hostile_link", "inspect"),
    "a sparse file of pax": (
        tar(pax("GNU.sparse.realsize", "9000000000"), member(header(b"x", 3), b"<a>")),
        *("hostile_tar", "inspect"),
    ),
    "a volume": (tar(header(b"x", 0, b"V")), "hostile_link", "inspect"),
    "a continued file": (tar(header(b"x", 0, b"M")), "hostile_link", "inspect"),
    "a long link": (tar(member(header(b"././@LongLink", 4, b"K"), b"/etc")), "hostile_link", "inspect"),
    "a link, and a file through it": (
        tar(header(b"course/l", 0, b"2", to=(157, b"/tmp")), member(header(b"course/l/x", 3), b"<a>")),
        *("hostile_link", "inspect"),
    ),
    "a hard link to the manifest": (
        tar(header(b"roles2.xml", 0, b"1", to=(157, b"moodle_backup.xml"))),
        *("hostile_link", "inspect"),
    ),
    "a name Moodle makes the manifest's": (
        lambda p: write_tgz(p, [*pieces(), Piece("moodle_<backup.xml", OTHER)]),
        *("hostile_name", "inspect"),
    ),
    "a name Moodle makes the people's": (
        lambda p: write_tgz(p, [*pieces(), Piece("users.x..ml", b"<users></users>")]),
        *("hostile_name", "inspect"),
    ),
    "the manifest in capitals, too": (
        lambda p: write_tgz(p, [*pieces(), Piece("Moodle_Backup.XML", OTHER)]),
        *("hostile_duplicate", "inspect"),
    ),
    "the manifest with a Kelvin sign, before": (
        lambda p: write_tgz(p, [Piece("moodle_bac\N{KELVIN SIGN}up.xml", OTHER), *pieces()]),
        *("hostile_duplicate", "inspect"),
    ),
    "an overlong dot in a name": (tar(member(header(b"\xc0\xae\xc0\xae/x", 3), b"<a>")), "hostile_encoding", "inspect"),
    "half a surrogate pair in a name": (tar(member(header(b"\xed\xa0\x80", 3), b"<a>")), "hostile_encoding", "inspect"),
    "an end of text in a name of pax": (
        tar(pax("path", "x\0y"), member(header(b"x", 3), b"<a>")),
        *("hostile_name", "inspect"),
    ),
    "a hyperlink of terminals in a name": (
        lambda p: write_tgz(p, [*pieces(), Piece("x\x1b]8;;http://x\x1b\\", b"")]),
        *("hostile_name", "inspect"),
    ),
    "a climb with backslashes": (
        lambda p: write_tgz(p, [*pieces(), Piece("course\\..\\..\\x", b"")]),
        "hostile_path",
        "inspect",
    ),
    "a backup in a backup": (
        lambda p: write_tgz(p, [Piece("inner.mbz", gzip.compress(corpus.tar_bytes(pieces())))]),
        *("not_a_backup", "inspect"),
    ),
    "a gzip in a gzip": (
        lambda p: p.write_bytes(gzip.compress(gzip.compress(corpus.tar_bytes(pieces())))),
        *("not_a_backup", "inspect"),
    ),
    "a gzip of unknown flags": (
        lambda p: p.write_bytes(b"\x1f\x8b\x08\xe0" + gzip.compress(corpus.tar_bytes(pieces()))[4:]),
        *("damaged", "inspect"),
    ),
    "a gzip whose own name has no end": (
        lambda p: p.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 20_000_000),
        *("truncated", "inspect"),
    ),
    "a bomb in the second gzip": (
        lambda p: p.write_bytes(
            gzip.compress(body()) + gzip.compress(header(b"files/aa/" + b"a" * 40, 700_000_000) + bytes(700_000_000), 9)
        ),
        *("bomb", "inspect"),
    ),
    # A zip that others read otherwise.
    "zip: another size in the member's header": (zipped(_local(22, 5)), "hostile_zip", "inspect"),
    "zip: another packed size there": (zipped(_local(18, 5)), "hostile_zip", "inspect"),
    "zip: another checksum there": (zipped(_local(14, 5)), "hostile_zip", "inspect"),
    "zip: encrypted only there": (zipped(_local_flag), "hostile_zip", "inspect"),
    "zip: packed with bzip2": (zipped(_method(12)), "hostile_zip", "inspect"),
    "zip: packed with lzma": (zipped(_method(14)), "hostile_zip", "inspect"),
    "zip: encrypted by a newer way": (zipped(_method(99)), "hostile_zip", "inspect"),
    "zip: two ends": (zipped(_two_ends), "hostile_zip", "inspect"),
    "zip: members share bytes": (zipped(_shared_bytes), "bomb", "inspect"),
    "zip: hidden behind a content": (zipped(_hidden_behind_content), "hostile_size", "inspect"),
    "zip: another name in an extra field": (
        _extra(0x7075, b"\x01" + struct.pack("<L", 0) + MANIFEST.encode()),
        *("hostile_zip", "inspect"),
    ),
    "zip: a size without its extra field": (zipped(_zip64_claim), "hostile_zip", "inspect"),
    "zip: a part of several": (zipped(_disks), "truncated", "inspect"),
    "zip: an end of text in a name": (zipped(_zip_name(b"users.xml", b"users\0xml")), "hostile_name", "inspect"),
    "zip: a climb with backslashes": (zipped(_zip_name(b"users.xml", b"..\\..\\xml")), "hostile_path", "inspect"),
    "zip: the people in capitals, too": (
        lambda p: write_zip(p, [*pieces(), Piece("USERS.xml", b"<users></users>")]),
        *("hostile_duplicate", "inspect"),
    ),
    "zip: trailing bytes": (zipped(lambda data: bytes(data) + b"hidden"), "container", "verify"),
    # XML.
    "an internal subset": (xml("users.xml", DOCTYPE % b"<!ELEMENT users ANY>"), "hostile_entity", "users"),
    "parameter entities": (
        xml("users.xml", DOCTYPE % b"<!ENTITY % a \"<!ENTITY b 'c'>\"> %a;"),
        *("hostile_entity", "users"),
    ),
    "a parameter entity from elsewhere": (
        xml("users.xml", DOCTYPE % b'<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;'),
        *("hostile_entity", "inspect"),
    ),
    "a notation": (xml("users.xml", DOCTYPE % b'<!NOTATION n SYSTEM "x">'), "hostile_entity", "users"),
    "an attribute list of defaults": (
        xml("groups.xml", b"<!DOCTYPE groups [<!ATTLIST groups a CDATA 'x'>]><groups></groups>"),
        *("hostile_entity", "inspect"),
    ),
    "UTF-7": (
        xml(MANIFEST, b'<?xml version="1.0" encoding="UTF-7"?>+ADw-moodle_backup+AD4-'),
        "hostile_encoding",
        "inspect",
    ),
    "UTF-16 without a mark": (
        xml(MANIFEST, "<moodle_backup></moodle_backup>".encode("utf-16-le")),
        "hostile_encoding",
        "inspect",
    ),
    "UTF-32": (xml(MANIFEST, "<moodle_backup></moodle_backup>".encode("utf-32")), "hostile_encoding", "inspect"),
    "EBCDIC by its own word": (_manifest_of('encoding="UTF-8"', 'encoding="IBM037"'), "hostile_encoding", "inspect"),
    "overlong UTF-8": (_people(_person(b"<email>\xc0\xbcx</email>")), "bad_xml", "users"),
    "a surrogate by number": (_people(_person(b"<email>&#xD800;</email>")), "bad_xml", "users"),
    "an escape by number": (_people(_person(b"<email>&#27;[2J</email>")), "bad_xml", "users"),
    "an unknown entity": (_people(_person(b"<email>&copy;</email>")), "bad_xml", "users"),
    "more names than memory, among people": (_people(_many_names(300_000)), "hostile_xml", "users"),
    "more names than memory, within one person": (_people(_person(MANY)), "hostile_xml", "users"),
    "more names than memory, in a document nobody counts": (
        xml("roles.xml", b"<roles>" + _many_names(300_000) + b"</roles>"),
        *("hostile_xml", "verify"),
    ),
    "more names of attributes than memory": (
        xml("groups.xml", b"<groups>" + b"".join(b'<a b%d=""/>' % n for n in range(300_000)) + b"</groups>"),
        *("hostile_xml", "inspect"),
    ),
    "names as long as books": (
        xml("groups.xml", b"<groups>" + b"".join(b"<" + b"n%d" % n * 20_000 + b"/>" for n in range(30)) + b"</groups>"),
        *("hostile_xml", "inspect"),
    ),
    "a person whose name has no end": (
        _people(_person(b"<firstname>" + b"x" * 5_000_000 + b"</firstname>")),
        "hostile_xml",
        "users",
    ),
    "a person numbered below nothing": (_people(b'<user id="-1"></user>'), "hostile_xml", "users"),
    "a person numbered in other digits": (_people('<user id="１２"></user>'.encode()), "hostile_xml", "users"),
    "a first access before time": (_people(_person(b"<firstaccess>-5</firstaccess>")), "hostile_xml", "users"),
    "persons nested without end": (_people(b'<user id="1">' * 5000 + b"</user>" * 5000), "hostile_xml", "users"),
    "a manifest that says all twice": (_twice, "hostile_manifest", "inspect"),
    "a folder with a line end": (
        _manifest_of("<directory>activities/page_7<", "<directory>activities/page_7\n<"),
        *("hostile_manifest", "inspect"),
    ),
    "an absolute folder": (
        _manifest_of("<directory>activities/page_7<", "<directory>/activities/page_7<"),
        *("hostile_manifest", "inspect"),
    ),
    "a folder with an escape": (
        _manifest_of("<directory>activities/page_7<", "<directory>activities/\N{CONTROL SEQUENCE INTRODUCER}page_7<"),
        *("hostile_manifest", "inspect"),
    ),
    "a content that climbs": (
        lambda p: write_tgz(
            p, replaced("files.xml", "<contenthash>", "<contenthash>../../", pieces(corpus.WITH_FILES))
        ),
        *("files_xml", "verify"),
    ),
    "a folder in the place of the manifest": (
        lambda p: write_tgz(
            p, [Piece(MANIFEST, b"", tarfile.DIRTYPE), *(piece for piece in pieces() if piece.name != MANIFEST)]
        ),
        *("not_a_backup", "inspect"),
    ),
}
