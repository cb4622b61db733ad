"""Reads a backup file, of this site or of any Moodle, into a package; its files go to the pool as they stream by."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from moodlectl.errors import Refused
from moodlectl.mbz.archive import Member, open_backup
from moodlectl.site.port import BackupRequest, CourseSource, OnProgress, Progress
from moodlectl.site.practice.package import ActivityDocs, Package, SectionDocs
from moodlectl.site.practice.people import Actor
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import ident, number, parse, text

MOST_XML = 256 * 1024 * 1024
_POOL = re.compile(r"files/([0-9a-f]{2})/(\1[0-9a-f]{38})")
# Not needed here: written anew whenever a backup is made.
_SKIPPED = re.compile(r"(.*/)?inforef\.xml|\.ARCHIVE_INDEX|moodle_backup\.log")


@dataclass
class Read:
    """A backup as it was read: its manifest's texts, the course in it, which contents came with it."""

    information: Element
    package: Package
    contents: set[str] = field(default_factory=set)

    def fact(self, name: str) -> str:
        """A text of the manifest's information."""
        return text(self.information, name)

    @property
    def root_settings(self) -> dict[str, str]:
        """The root settings the backup was made with."""
        return {
            text(each, "name"): text(each, "value")
            for each in self.information.iterfind("settings/setting")
            if text(each, "level") == "root"
        }

    def ticked(self, name: str) -> bool:
        """Whether an item's setting was on."""
        return any(
            text(each, "name") == name and text(each, "value") == "1"
            for each in self.information.iterfind("settings/setting")
        )


def read_backup(path: Path, store: Store, on_progress: OnProgress, *, keep_files: bool) -> Read:
    """Read a backup file; with ``keep_files`` its contents are put into the pool.

    Raises Refused: ``truncated``, ``not_a_backup``, and whatever ``moodlectl.mbz`` refuses in a hostile file.
    """
    docs: dict[str, Element] = {}
    contents: set[str] = set()

    def tell(done: int, total: int) -> None:
        on_progress(Progress("unpack", done, total, "bytes"))

    with open_backup(path, progress=tell) as archive:
        for member in archive.members():
            if member.kind != "file" or _SKIPPED.fullmatch(member.name):
                continue
            if found := _POOL.fullmatch(member.name):
                contents.add(_take_content(member, found[2], store if keep_files else None))
            elif member.name.endswith(".xml"):
                docs[member.name] = parse(member.read(MOST_XML), member.name)
    manifest = docs.pop("moodle_backup.xml", None)
    information = manifest.find("information") if manifest is not None else None
    if information is None:
        raise Refused(
            "The file is no Moodle backup: it has no moodle_backup.xml.",
            "Check the file: moodlectl backup verify FILE",
            code="not_a_backup",
        )
    _require_course(information)
    return Read(information, _package(information, docs), contents)


def _require_course(information: Element) -> None:
    kind = information.findtext("details/detail/type", "")
    if kind != "course":
        raise Refused(f"The backup holds a single {kind}, not a course.", code="not_a_course", details={"type": kind})
    if text(information, "original_course_format") == "site":
        raise Refused(
            "This is a backup of a front page; Moodle does not restore it into a course.",
            code="front_page_backup",
        )


def read_course(store: Store, source: CourseSource, acting: Actor, on_progress: OnProgress) -> Read:
    """Back a course up for one restore alone, and read that. Reads only. Raises UsageError and Refused."""
    from moodlectl.site.practice.maker import write_unstored

    imported = source.rules == "import"
    settings = {**source.settings, **({"users": False} if imported else {})}
    request = BackupRequest(source.course_id, settings, source.items)
    with tempfile.NamedTemporaryFile(prefix="moodlectl-", suffix=".mbz") as file:
        write_unstored(store, request, acting, file, "import" if imported else "general")
        return read_backup(Path(file.name), store, on_progress, keep_files=False)


def _take_content(member: Member, contenthash: str, store: Store | None) -> str:
    """Check one file of the pool as it streams by, and keep it; returns its sha1."""
    digest = hashlib.sha1(usedforsecurity=False)
    if store is None:
        for chunk in member.chunks():
            digest.update(chunk)
    else:
        with store.incoming() as file:
            for chunk in member.chunks():
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            if digest.hexdigest() == contenthash:
                store.adopt(Path(file.name), contenthash)
    if digest.hexdigest() != contenthash:
        raise Refused(
            f"{member.name} in the backup is not what its name says.",
            "The file is damaged. Take another copy of the backup.",
            code="not_a_backup",
            details={"member": member.name, "sha1": digest.hexdigest()},
        )
    return contenthash


def _package(information: Element, docs: dict[str, Element]) -> Package:
    course = docs.get("course/course.xml")
    if course is None:
        raise Refused("The backup holds no course: course/course.xml is missing.", code="not_a_backup")
    package = Package(number(information, "original_course_id"), number(information, "original_course_contextid"))
    users, files = docs.pop("users.xml", None), docs.pop("files.xml", None)
    if users is not None:
        package.users = {ident(user): user for user in users.iterfind("user")}
    if files is not None:
        package.files = list(files.iterfind("file"))
    for entry in information.iterfind("contents/sections/section"):
        folder = _below(docs, text(entry, "directory"))
        if "section.xml" in folder:
            _add_section(package, entry, folder)
    known = {section.id for section in package.sections}
    for entry in information.iterfind("contents/activities/activity"):
        folder, module = _below(docs, text(entry, "directory")), text(entry, "modulename")
        own = folder.get(f"{module}.xml")
        if "module.xml" in folder and own is not None and len(own) and number(entry, "sectionid") in known:
            package.activities.append(
                ActivityDocs(
                    number(entry, "moduleid"), module, number(entry, "sectionid"), text(entry, "title"),
                    int(own.get("contextid", "0")), folder,
                )
            )  # fmt: skip
    with suppress(KeyError):
        for stray in [path for path in docs if path.startswith(("activities/", "sections/"))]:
            del docs[stray]
    package.docs = docs
    return package


def _add_section(package: Package, entry: Element, folder: dict[str, Element]) -> None:
    section = folder["section.xml"]
    name = text(section, "name") or text(entry, "title")
    package.sections.append(
        SectionDocs(
            number(entry, "sectionid"),
            number(section, "number"),
            name,
            number(entry, "parentcmid") or None,
            folder,
        )
    )


def _below(docs: dict[str, Element], directory: str) -> dict[str, Element]:
    """The documents of one folder by their path in it, taken out of the rest."""
    prefix = directory + "/"
    taken: Callable[[str], bool] = lambda path: path.startswith(prefix)  # noqa: E731
    return {path.removeprefix(prefix): docs.pop(path) for path in [each for each in docs if taken(each)]}
