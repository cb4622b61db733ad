"""Makes backup files for tests: whole ones out of real ones, and hostile ones with the reason to refuse each.

Run as a script it writes the hostile corpus into a folder: ``python mbz_corpus.py FOLDER``.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data" / "mbz"
SMALL = DATA / "course-5.1-tgz-subsections.mbz"
WITH_FILES = DATA / "course-4.5-tgz-users.mbz"
MANIFEST = "moodle_backup.xml"


@dataclass
class Piece:
    """One member to write: ``kind`` is a tar type, ``link`` where a link points."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    link: str = ""


def pieces(path: Path = SMALL) -> list[Piece]:
    """The members of a real backup, without its index."""
    with tarfile.open(path) as tar:
        found = []
        for member in tar:
            if member.name != ".ARCHIVE_INDEX":
                body = tar.extractfile(member)
                found.append(Piece(member.name, body.read() if body else b"", member.type))
    return found


def replaced(name: str, old: str, new: str, source: Iterable[Piece] | None = None) -> list[Piece]:
    """A real backup with one text changed in one member."""
    changed = []
    for piece in source if source is not None else pieces():
        data = piece.data
        if piece.name == name:
            assert old.encode() in data, old
            data = data.replace(old.encode(), new.encode(), 1)
        changed.append(Piece(piece.name, data, piece.kind, piece.link))
    return changed


def index(source: list[Piece]) -> Piece:
    """The .ARCHIVE_INDEX that Moodle would write."""
    lines = [f"Moodle archive file index. Count: {len(source)}"]
    for piece in source:
        folder = piece.kind == tarfile.DIRTYPE
        lines.append(f"{piece.name}{'/' if folder else ''}\t{'d' if folder else 'f'}\t{len(piece.data)}\t1")
    return Piece(".ARCHIVE_INDEX", "\n".join(lines).encode() + b"\n")


def tar_bytes(source: Iterable[Piece], style: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of the pieces, in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as tar:
        for piece in source:
            info = tarfile.TarInfo(piece.name)
            info.type, info.linkname, info.size = piece.kind, piece.link, len(piece.data)
            tar.addfile(info, io.BytesIO(piece.data))
    return out.getvalue()


def write_tgz(path: Path, source: Iterable[Piece], style: int = tarfile.USTAR_FORMAT) -> Path:
    """A gzipped tar of the pieces."""
    path.write_bytes(gzip.compress(tar_bytes(source, style), 1))
    return path


def write_zip(path: Path, source: Iterable[Piece], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of the pieces."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for piece in source:
            folder = piece.kind == tarfile.DIRTYPE
            archive.writestr(piece.name + ("/" if folder else ""), piece.data)
    return path


Maker = Callable[[Path], object]


def _named(name: str) -> Maker:
    return lambda path: write_tgz(path, [*pieces(), Piece(name, b"x")])


def _zip_named(name: str) -> Maker:
    return lambda path: write_zip(path, [*pieces(), Piece(name, b"x")])


def _typed(kind: bytes) -> Maker:
    return lambda path: write_tgz(path, [*pieces(), Piece("course/odd.xml", b"", kind, "/etc/passwd")])


def _manifest(data: bytes) -> Maker:
    return lambda path: write_tgz(path, [Piece("users.xml", b"<users></users>"), Piece(MANIFEST, data)])


def _changed(old: str, new: str) -> Maker:
    return lambda path: write_tgz(path, replaced(MANIFEST, old, new))


def _raw_tar(change: Callable[[bytearray], None]) -> Maker:
    """A tar whose first header is changed by hand, with a right checksum."""

    def make(path: Path) -> None:
        tar = bytearray(tar_bytes(pieces()))
        change(tar)
        tar[148:156] = b" " * 8
        tar[148:156] = b"%06o\x00 " % sum(tar[:512])
        path.write_bytes(gzip.compress(bytes(tar), 1))

    return make


def _set(at: int, data: bytes) -> Callable[[bytearray], None]:
    def change(tar: bytearray) -> None:
        tar[at : at + len(data)] = data

    return change


def zeros_10_gb(path: Path) -> None:
    """Ten gigabytes of zeros in ten megabytes: two members of a tar, in a hundred members of a gzip."""
    fifty = gzip.compress(bytes(100 * 1000**2), 9) * 50
    out = b""
    for letter in "ab":
        info = tarfile.TarInfo("files/aa/" + letter * 40)
        info.size = 5 * 1000**3
        out += gzip.compress(info.tobuf(tarfile.USTAR_FORMAT)) + fifty
    path.write_bytes(out)


def million_in_tgz(path: Path, count: int = 1_000_000) -> None:
    """A million empty files."""
    template = bytearray(tarfile.TarInfo("f" + "0" * 7).tobuf(tarfile.USTAR_FORMAT))
    template[148:156] = b" " * 8
    base = sum(template) - 7 * ord("0")
    with gzip.open(path, "wb", compresslevel=1) as out:
        for begin in range(0, count, 1000):
            block = bytearray()
            for number in range(begin, begin + 1000):
                digits = b"%07d" % number
                template[1:8] = digits
                template[148:156] = b"%06o\x00 " % (base + sum(digits))
                block += template
            out.write(block)


def million_in_zip(path: Path, says: int = 0) -> None:
    """A directory of a million lines, and nothing else; ``says`` is how many the zip64 record claims."""
    line = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    body = b"".join(line + b"%07d" % number for number in range(1_000_000))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(body), 4, 0)
    if says:
        at = 4 + len(body)
        end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, says, says, len(body), 4)
        end += struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        end += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(b"PK\x03\x04" + body + end)


def _zip_with(change: Callable[[bytearray], bytes | None]) -> Maker:
    """A zip of one stored member, changed byte by byte."""

    def make(path: Path) -> None:
        data = bytearray(
            write_zip(path, [Piece("users.xml", b"<users>aaaaaaaa</users>")], zipfile.ZIP_STORED).read_bytes()
        )
        path.write_bytes(change(data) or data)

    return make


def _central(data: bytearray) -> int:
    return data.rfind(b"PK\x01\x02")


def _zip_smaller(data: bytearray) -> None:
    struct.pack_into("<L", data, _central(data) + 24, 5)
    struct.pack_into("<L", data, 22, 5)


def _zip_flag(data: bytearray) -> None:
    at = _central(data)
    data[at + 8] |= 1


def _zip_two_names(data: bytearray) -> None:
    data[30] = ord("M")


def _zip_crc(data: bytearray) -> None:
    data[50] ^= 1


def _zip_symlink(data: bytearray) -> None:
    at = _central(data)
    data[at + 5] = 3
    struct.pack_into("<L", data, at + 38, 0o120777 << 16)


def _zip_count(data: bytearray) -> None:
    struct.pack_into("<2H", data, data.rfind(b"PK\x05\x06") + 8, 7, 7)


def _zip_inflated_lie(path: Path) -> None:
    """A deflated member that says 10 bytes and unpacks to 50 million."""
    write_zip(path, [Piece(MANIFEST, bytes(50_000_000))])
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, _central(data) + 24, 10)
    struct.pack_into("<L", data, 22, 10)
    path.write_bytes(data)


def _zip_overlap(path: Path) -> None:
    """Five hundred lines of a directory that all point at one member."""
    one = bytearray(write_zip(path, [Piece("a" * 8, b"y" * 100_000)], zipfile.ZIP_STORED).read_bytes())
    at = _central(one)
    line = one[at : at + 46 + 8]
    lines = bytearray()
    for number in range(500):
        line[46:54] = b"%08d" % number
        lines += line
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 500, 500, len(lines), at, 0)
    path.write_bytes(bytes(one[:at]) + bytes(lines) + end)


def _zip_bomb(path: Path) -> None:
    """Three hundred megabytes of zeros in three hundred kilobytes."""
    write_zip(path, [Piece("files/aa/" + "a" * 40, bytes(300_000_000)), *pieces()])


def _circle(path: Path) -> None:
    """Two sections, each the subsection of an activity that lies in the other."""
    items = "".join(
        f"<activity><moduleid>{cmid}</moduleid><sectionid>{section}</sectionid><modulename>subsection</modulename>"
        f"<title>x</title><directory>activities/subsection_{cmid}</directory></activity>"
        for cmid, section in ((1, 11), (2, 12))
    )
    sections = "".join(
        f"<section><sectionid>{id_}</sectionid><title>x</title><directory>sections/section_{id_}</directory>"
        f"<parentcmid>{parent}</parentcmid></section>"
        for id_, parent in ((11, 2), (12, 1))
    )
    text = (
        f"<moodle_backup><information><name>x</name><contents><activities>{items}</activities>"
        f"<sections>{sections}</sections></contents></information></moodle_backup>"
    )
    _manifest(text.encode())(path)


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE moodle_backup [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
]><moodle_backup><information><name>&e;</name></information></moodle_backup>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE moodle_backup [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<moodle_backup><information><name>&x;</name></information></moodle_backup>"""
DTD = b'<!DOCTYPE moodle_backup SYSTEM "http://127.0.0.1:1/x.dtd"><moodle_backup></moodle_backup>'

HOSTILE: dict[str, tuple[Maker, str]] = {
    "absolute name": (_named("/etc/passwd"), "hostile_path"),
    "name that climbs": (_named("course/../../../etc/passwd"), "hostile_path"),
    "name that climbs at once": (_named("../x"), "hostile_path"),
    "name of another system": (_named("course\\..\\x"), "hostile_path"),
    "name with a drive": (_named("C:/x"), "hostile_path"),
    "name with an empty part": (_named("course//x"), "hostile_path"),
    "name with a dot": (_named("course/./x"), "hostile_path"),
    "endless name": (
        lambda p: write_tgz(p, [Piece("a/" * 600 + "b", b"x"), *pieces()], tarfile.GNU_FORMAT),
        "hostile_path",
    ),
    "deep name": (_named("a/" * 40 + "b"), "hostile_path"),
    "terminal escape in a name": (_named("course/\x1b[2J.xml"), "hostile_name"),
    "new line in a name": (_named("course/a\nb.xml"), "hostile_name"),
    "right-to-left mark in a name": (_named("course/\u202egnp.xml"), "hostile_name"),
    "zip: absolute name": (_zip_named("/etc/passwd"), "hostile_path"),
    "zip: name that climbs": (_zip_named("a/../../x"), "hostile_path"),
    "zip: terminal escape": (_zip_named("\x1b]0;x\x07"), "hostile_name"),
    "name that is not UTF-8": (_raw_tar(_set(0, b"course/\xff\xfe")), "hostile_encoding"),
    "symbolic link": (_typed(tarfile.SYMTYPE), "hostile_link"),
    "hard link": (_typed(tarfile.LNKTYPE), "hostile_link"),
    "character device": (_typed(tarfile.CHRTYPE), "hostile_link"),
    "block device": (_typed(tarfile.BLKTYPE), "hostile_link"),
    "pipe": (_typed(tarfile.FIFOTYPE), "hostile_link"),
    "unknown kind": (_typed(b"Z"), "hostile_link"),
    "zip: symbolic link": (_zip_with(_zip_symlink), "hostile_link"),
    "duplicate": (_named(MANIFEST), "hostile_duplicate"),
    "duplicate under another spelling": (_named("./" + MANIFEST), "hostile_duplicate"),
    "folder with content": (_raw_tar(_set(124, b"00000001000\x00")), "hostile_size"),
    "impossible size": (_raw_tar(_set(124, b"\x80" + b"\x7f" * 11)), "hostile_size"),
    "negative size": (_raw_tar(_set(124, b"\xff" * 12)), "hostile_size"),
    "size that is no number": (_raw_tar(_set(124, b"99999999999\x00")), "hostile_size"),
    "gigantic extended header": (
        lambda p: write_tgz(p, [Piece("./@LongLink", b"a" * 200_000, tarfile.GNUTYPE_LONGNAME), *pieces()]),
        "hostile_tar",
    ),
    "extended headers without end": (
        lambda p: write_tgz(p, [Piece("x", b"11 path=ab\n", tarfile.XHDTYPE)] * 50),
        "hostile_tar",
    ),
    "malformed extended header": (
        lambda p: write_tgz(p, [Piece("x", b"999 path=ab\n", tarfile.XHDTYPE), *pieces()]),
        "hostile_tar",
    ),
    "billion laughs": (_manifest(LAUGHS), "hostile_entity"),
    "external entity": (_manifest(EXTERNAL), "hostile_entity"),
    "external document type": (_manifest(DTD), "hostile_entity"),
    "gigantic attribute": (_manifest(b'<moodle_backup a="' + b"x" * 5_000_000 + b'">'), "hostile_xml"),
    "gigantic comment": (_manifest(b"<moodle_backup><!--" + b"x" * 5_000_000), "hostile_xml"),
    "endless nesting": (_manifest(b"<moodle_backup>" + b"<a>" * 100_000), "hostile_xml"),
    "gigantic title": (_changed("<title>", "<title>" + "x" * 3_000_000), "hostile_xml"),
    "UTF-16": (_manifest("<moodle_backup></moodle_backup>".encode("utf-16")), "hostile_encoding"),
    "Latin 1 by its own word": (_changed('encoding="UTF-8"', 'encoding="ISO-8859-1"'), "hostile_encoding"),
    "UTF-8 that is none": (_manifest(b"<moodle_backup><information><name>\xff</name>"), "bad_xml"),
    "manifest that names a folder outside": (
        _changed("<directory>activities/page_7<", "<directory>../../etc<"),
        "hostile_manifest",
    ),
    "manifest with an id that is none": (_changed("<moduleid>7<", "<moduleid>7; rm<"), "hostile_manifest"),
    "manifest that names an activity twice": (_changed("<moduleid>7<", "<moduleid>8<"), "hostile_manifest"),
    "sections in a circle": (_circle, "hostile_manifest"),
    "gigantic manifest": (_manifest(b"<moodle_backup>" + b" " * 65 * 1024 * 1024), "hostile_size"),
    "zip: less than it says": (_zip_with(_zip_smaller), "hostile_size"),
    "zip: more than it says": (_zip_inflated_lie, "hostile_size"),
    "zip: wrong count": (_zip_with(_zip_count), "hostile_size"),
    "zip: encrypted": (_zip_with(_zip_flag), "encrypted"),
    "zip: two names": (_zip_with(_zip_two_names), "hostile_zip"),
    "zip: wrong checksum": (_zip_with(_zip_crc), "damaged"),
    "zip: members overlap": (_zip_overlap, "bomb"),
    "zip: zeros": (_zip_bomb, "bomb"),
    "zip: a million members, and says none": (million_in_zip, "hostile_size"),
    "zip: a million members, and says so": (lambda p: million_in_zip(p, 0xFFFE * 10), "too_many_members"),
    "ten gigabytes of zeros": (zeros_10_gb, "bomb"),
    "a million members": (million_in_tgz, "too_many_members"),
}


def main(folder: Path) -> None:
    """Writes every hostile file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, code) in HOSTILE.items():
        path = folder / (name.replace(" ", "-").replace(":", "") + ".mbz")
        make(path)
        print(f"{path.name}: {code}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
