"""Backup files looked into and changed by tests, with nothing but the standard library."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

DATA = Path(__file__).parents[1] / "data" / "mbz"


def names(path: Path) -> list[str]:
    """The members of a backup in order."""
    with tarfile.open(path) as archive:
        return archive.getnames()


def member(path: Path, name: str) -> bytes:
    """One member's bytes."""
    with tarfile.open(path) as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read()


def xml(path: Path, name: str) -> ElementTree.Element:
    """One member as a tree; the file is one the test has just had made."""
    return ElementTree.fromstring(member(path, name))  # noqa: S314


def manifest(path: Path) -> ElementTree.Element:
    """The information of moodle_backup.xml."""
    found = xml(path, "moodle_backup.xml").find("information")
    assert found is not None
    return found


def activities(path: Path) -> list[tuple[int, str]]:
    """The activities of a backup: course module id and module."""
    return [
        (int(one.findtext("moduleid", "")), one.findtext("modulename", ""))
        for one in manifest(path).iterfind("contents/activities/activity")
    ]


def settings(path: Path) -> dict[str, str]:
    """Every setting a backup was made with."""
    return {one.findtext("name", ""): one.findtext("value", "") for one in manifest(path).iterfind("settings/setting")}


def changed(path: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    """A copy of a backup with every member's name and bytes passed through ``change``; without Moodle's index."""
    with tarfile.open(path) as old, tarfile.open(target, "w:gz", format=tarfile.USTAR_FORMAT) as new:
        for entry in old:
            if entry.name == ".ARCHIVE_INDEX":
                continue
            content = old.extractfile(entry)
            name, data = change(entry.name, content.read() if content else b"")
            entry.name, entry.size = name, len(data)
            new.addfile(entry, io.BytesIO(data) if content else None)
    return target


def newer(path: Path, target: Path) -> Path:
    """A backup that says it was made by a Moodle of the year 2099."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if name == "moodle_backup.xml":
            data = re.sub(rb"<moodle_version>[^<]*", b"<moodle_version>2099010100.00", data)
            data = re.sub(rb"<moodle_release>[^<]*", b"<moodle_release>9.9 (Build: 20990101)", data)
        return name, data

    return changed(path, target, change)


def with_unknown_module(path: Path, target: Path, module: str = "choice") -> Path:
    """A backup in which the activities of one module belong to a plugin that nobody has: ``mod_hotpot``."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        inside = re.match(rf"activities/{module}_(\d+)", name)
        if inside:
            data = data.replace(b'modulename="%s"' % module.encode(), b'modulename="hotpot"')
            data = data.replace(b"<modulename>%s<" % module.encode(), b"<modulename>hotpot<")
            data = re.sub(rb"(</?)%s\b(?=[ >])" % module.encode(), rb"\1hotpot", data)
            name = name.replace(f"activities/{module}_", "activities/hotpot_").replace(f"/{module}.xml", "/hotpot.xml")
        if name == "moodle_backup.xml":
            data = data.replace(b"<modulename>%s<" % module.encode(), b"<modulename>hotpot<")
            data = re.sub(rb"\b%s_(?=\d)" % module.encode(), b"hotpot_", data)
        return name, data

    return changed(path, target, change)
