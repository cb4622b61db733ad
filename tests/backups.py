"""Small backups made to order: a real course's XML around the files a test asks for."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from moodlectl.mbz import open_backup

REAL = Path(__file__).parent / "data" / "mbz" / "course-5.1-tgz-subsections.mbz"
DAY = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def xml_of(
    files: Iterable[tuple[str, str, int]], *, shortname: str = "BIO101", course: int = 42, date: datetime = DAY
) -> dict[str, bytes]:
    """The XML of a backup of that course, whose files are (name, sha1, size)."""
    with open_backup(REAL) as archive:
        xml = {m.name: m.read(1 << 26) for m in archive.members() if m.kind == "file" and "ARCHIVE_INDEX" not in m.name}
        xml = {name: data for name, data in xml.items() if not name.startswith("files/")}
    records = "".join(record(number, *one) for number, one in enumerate(files))
    xml["files.xml"] = f'<?xml version="1.0" encoding="UTF-8"?>\n<files>\n{records}</files>'.encode()
    told = {
        "original_course_shortname": shortname,
        "original_course_id": str(course),
        "backup_date": str(int(date.timestamp())),
    }
    manifest = xml["moodle_backup.xml"].decode()
    for name, value in told.items():
        manifest = re.sub(f"<{name}>.*?</{name}>", f"<{name}>{value}</{name}>", manifest)
    xml["moodle_backup.xml"] = manifest.encode()
    return xml


def make_backup(
    path: Path,
    files: Mapping[str, bytes],
    *,
    shortname: str = "BIO101",
    course: int = 42,
    date: datetime = DAY,
    change: Callable[[dict[str, bytes]], None] | None = None,
) -> Path:
    """Write such a backup, as a zip where the path says so; ``change`` may change its members before."""
    listed = [(name, sha1(data), len(data)) for name, data in files.items()]
    members = xml_of(listed, shortname=shortname, course=course, date=date)
    members |= {f"files/{sha1(data)[:2]}/{sha1(data)}": data for data in files.values()}
    if change is not None:
        change(members)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in members.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.USTAR_FORMAT) as out:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), 1_700_000_000
                out.addfile(member, io.BytesIO(data))
    return path


def record(number: int, name: str, content: str, size: int) -> str:
    """One record of files.xml."""
    return (
        f'  <file id="{9_000_000 + number}">\n    <contenthash>{content}</contenthash>\n    <contextid>1</contextid>\n'
        f"    <component>course</component>\n    <filearea>legacy</filearea>\n    <itemid>0</itemid>\n"
        f"    <filepath>/</filepath>\n    <filename>{name}</filename>\n    <userid>$@NULL@$</userid>\n"
        f"    <filesize>{size}</filesize>\n    <repositoryid>$@NULL@$</repositoryid>\n"
        f"    <reference>$@NULL@$</reference>\n  </file>\n"
    )
