"""Find in which backups of a course an item still lives, newest first, reading each where it lies."""

from __future__ import annotations

import shlex
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.actions import files, naming
from moodlectl.errors import AccessError, MoodlectlError, Refused, UsageError
from moodlectl.site.port import AREAS, Area, BackupFile, Course, OnProgress, Progress, Site, no_progress

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest


@dataclass(frozen=True)
class Hit:
    """One item in one backup: ``module`` is empty for a section, ``section`` the title of the one it stands in.

    ``userdata`` is whether people's work in it is in the backup; ``word`` is the ITEM that names it there.
    """

    file: BackupFile
    id: int
    module: str
    title: str
    section: str
    userdata: bool
    word: str


@dataclass(frozen=True)
class Unread:
    """A backup that could not be looked into, and why."""

    file: BackupFile
    why: str


@dataclass(frozen=True)
class Found:
    """What a search found, newest backups first. ``looked`` is how many were looked into."""

    course: Course
    text: str
    hits: tuple[Hit, ...]
    unread: tuple[Unread, ...]
    looked: int
    notes: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """What brings the item of the newest backup back, with people's work where that is in one of them."""
        best = next((one for one in self.hits if one.userdata), None) or next(iter(self.hits), None)
        return None if best is None else bring_back(self.course, best)


@dataclass(frozen=True)
class Query:
    """A part of a title, and where to look: the areas, whose private one, and whether to bring those backups down that
    cannot be read where they lie."""

    text: str
    areas: Sequence[Area] = AREAS
    owner: str | None = None
    download: bool = False


def run(site: Site, course: str, query: Query, on_progress: OnProgress = no_progress) -> Found:
    """Search the titles of all items in all backups of a course; upper and lower case are the same. Reads only.

    A backup that cannot be read does not end the search. Raises UsageError, NotFound, AccessError, Unreachable.
    """
    wanted = _plain(query.text)
    if not wanted:
        raise UsageError("An empty text is in every title.", "Give a part of the title that is looked for.")
    found = naming.find_course(site, course)
    listing = site.backups(found.id, query.areas, owner=query.owner)
    hits: list[Hit] = []
    unread: list[Unread] = []
    for done, file in enumerate(listing.files):
        on_progress(Progress("scan", done, len(listing.files), message=file.filename))
        try:
            hits.extend(_hits(file, _manifest(site, file, on_progress, download=query.download), wanted))
        except MoodlectlError as trouble:
            unread.append(Unread(file, trouble.message))
    on_progress(Progress("scan", len(listing.files), len(listing.files)))
    looked = len(listing.files) - len(unread)
    return Found(found, query.text, tuple(hits), tuple(unread), looked, listing.notes)


def _plain(text: str) -> str:
    """A text as titles are compared: composed, without regard to case, spaces as one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _manifest(site: Site, file: BackupFile, on_progress: OnProgress, *, download: bool) -> Manifest:
    """What a backup says it holds: told by its host, read in pieces, or brought down where that was asked for."""
    from moodlectl import mbz

    try:
        return mbz.parse_manifest(site.manifest_xml(file))
    except AccessError:
        pass  # no shell
    except Refused as refused:
        if refused.code != "engine_cannot":
            raise
    inside = site.inside(file)
    if inside is not None:
        return mbz.parse_manifest(_document(inside))
    if not download:
        raise AccessError(
            "it cannot be read where it lies without a shell, or a zip and a server that sends pieces",
            "Bring it down for that: --download",
            code="noshell",
        )
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / files.safe_name(file.filename)
        site.download(file, path, on_progress)
        return mbz.parse_manifest(_document(path))


def _document(where: object) -> bytes:
    from moodlectl.mbz.archive import MANIFEST, open_backup
    from moodlectl.mbz.limits import LIMITS

    with open_backup(where) as archive:  # type: ignore[arg-type]
        for member in archive.members():
            if member.name == MANIFEST:
                return member.read(LIMITS.manifest_bytes)
    raise Refused("it holds no moodle_backup.xml", code="not_a_backup")


def _hits(file: BackupFile, held: Manifest, wanted: str) -> Iterator[Hit]:
    users = bool(held.settings.get("users"))
    for section in held.all_sections():
        if section.included and wanted in _plain(section.title):
            word = f'section:"{section.title}"'
            yield Hit(file, section.id, "", section.title, "", users and section.userinfo, word)
        for one in section.activities:
            if one.included and wanted in _plain(one.title):
                word = _word(held, one.module, one.title, one.id)
                yield Hit(file, one.id, one.module, one.title, section.title, users and one.userinfo, word)


def _word(held: Manifest, module: str, title: str, cmid: int) -> str:
    """The ITEM that names an activity of a backup: by type and name where that fits one alone."""
    same = [
        one
        for one in held.all_activities()
        if one.module == module and one.title.strip().casefold() == title.strip().casefold()
    ]
    return f'{module}:"{title}"' if len(same) == 1 and title.strip() else f"cmid:{cmid}"


def bring_back(course: Course, hit: Hit) -> str:
    """The command that brings one item back into the course, quoted for a shell."""
    name = naming.course_word(course.id, course.shortname)
    words = ["moodlectl", "restore", f"{name}@{hit.file.area}/{hit.file.filename}", "--merge", name, "--only", hit.word]
    if hit.userdata:
        words += ["--userdata", hit.word]
    return shlex.join(words)
