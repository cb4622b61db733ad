"""``inspect``: one walk through a backup that says what it is and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from moodlectl.errors import Refused
from moodlectl.mbz.archive import MANIFEST, Archive, Member, ProgressBytes, open_backup
from moodlectl.mbz.foreign import Foreign, ForeignReader
from moodlectl.mbz.information import Information, moment, nest, number, read_information
from moodlectl.mbz.manifest import (
    MODES,
    ArchiveCounts,
    CourseFacts,
    Danger,
    Manifest,
    OriginalSite,
    SectionFacts,
)
from moodlectl.mbz.seen import Seen
from moodlectl.mbz.sources import Source
from moodlectl.mbz.tally import Tally
from moodlectl.mbz.text import printable

_DANGERS: Mapping[str, str] = {
    "without_files": "Made without files: restored on another site, everything uploaded is missing.",
    "anonymized": "Anonymised: its people are made up; restored as they are, they become new accounts.",
    "user_data": "Holds personal data of {users} people.",
    "newer_moodle": "Made by a newer Moodle ({release}) than the site runs; things may be lost.",
    "external_content": "Refers to files kept outside Moodle; they are not in the backup.",
    "needs_conversion": "No Moodle 2 backup ({kind}): Moodle converts it, and keeps only a part.",
    "incomplete": "{missing} things that its items need are not in the file.",
    "missing_contents": "{absent} files are named, but their contents are not all in the file.",
}


@dataclass(frozen=True)
class _Site:
    """The site a backup is looked at from, as far as it is known."""

    hash: str | None
    url: str | None
    version: str | None


def inspect(
    where: Path | Source,
    *,
    site_hash: str | None = None,
    site_url: str | None = None,
    site_version: str | None = None,
    progress: ProgressBytes | None = None,
) -> Manifest:
    """What a backup file is and holds, as Moodle's restore shows it under "Confirm", and what Moodle does
    not show.

    ``site_hash`` (md5 of the site identifier), ``site_url`` and ``site_version`` (such as ``2024100706.00``)
    describe the site it would go to. ``progress`` gets bytes done and bytes in all. Reads only, in one pass
    and constant memory. Raises NotFound, and Refused with the reason as its code.
    """
    manifest = _SEEN.ask(where, lambda: _read(where, progress), progress=progress)
    site = _Site(site_hash, site_url, site_version)
    return _with_dangers(replace(manifest, same_site=_same_site(manifest.original_site, site)), site)


_SEEN: Seen[Manifest] = Seen()


def _read(where: Path | Source, progress: ProgressBytes | None) -> Manifest:
    """The manifest as seen from nowhere in particular."""
    with open_backup(where, progress=progress) as archive:
        information, foreign, tally, stray = _walk(archive)
        if information is not None:
            return _manifest(archive, information, tally)
        if foreign is not None:
            return _foreign_manifest(archive, foreign)
    raise _no_manifest(archive.source.name, stray)


def parse_manifest(xml: bytes) -> Manifest:
    """What a ``moodle_backup.xml`` alone tells, as read on a site from a backup that stayed there.

    Nothing is counted: ``counts``, ``plugins`` and ``dependencies`` are empty, and sections have no number. Reads
    only. Raises Refused as ``inspect`` does.
    """
    member = Member(MANIFEST, len(xml), "file", lambda: iter((memoryview(xml),)))
    information = read_information(member)
    detail, fields = information.detail, information.fields
    return Manifest(
        type=detail.get("type", "course"),
        format=detail.get("format", "moodle2"),
        mode=_mode(detail.get("mode")),
        container="",
        size=0,
        course=_course(information, Tally()),
        backup_date=moment(fields.get("backup_date")),
        name=fields.get("name", ""),
        moodle_release=fields.get("moodle_release"),
        moodle_version=fields.get("moodle_version"),
        backup_release=fields.get("backup_release"),
        backup_version=fields.get("backup_version"),
        original_site=OriginalSite(fields.get("original_wwwroot"), fields.get("original_site_identifier_hash")),
        include_files=fields.get("include_files", "1") == "1",
        settings=information.root_settings(),
        sections=nest(information, {}),
    )


def _walk(archive: Archive) -> tuple[Information | None, Foreign | None, Tally, str | None]:
    """Reads every member once; the last value is where a misplaced manifest was seen."""
    information: Information | None = None
    tally, reader = Tally(archive.limits), ForeignReader()
    stray = None
    for member in archive.members():
        if member.name == MANIFEST and member.kind == "file":
            information = read_information(member, archive.limits)
        elif member.name.endswith(("/" + MANIFEST, ".mbz")):
            stray = stray or member.name
        elif not reader.see(member):
            tally.see(member)
    return information, reader.found, tally, stray


def _manifest(archive: Archive, information: Information, tally: Tally) -> Manifest:
    fields, detail = information.fields, information.detail
    sections = nest(information, tally.numbers)
    modules = Counter(item.get("modulename", "") for item in information.activities)
    origin = OriginalSite(fields.get("original_wwwroot"), fields.get("original_site_identifier_hash"))
    course = _course(information, tally)
    settings = information.root_settings()
    return Manifest(
        type=detail.get("type", "course"),
        format=detail.get("format", "moodle2"),
        mode=_mode(detail.get("mode")),
        container=archive.container,
        size=archive.size,
        course=course,
        backup_date=moment(fields.get("backup_date")),
        name=fields.get("name", ""),
        moodle_release=fields.get("moodle_release"),
        moodle_version=fields.get("moodle_version"),
        backup_release=fields.get("backup_release"),
        backup_version=fields.get("backup_version"),
        original_site=origin,
        # Backups before Moodle 2.6 do not say; they always held their files.
        include_files=fields.get("include_files", "1") == "1",
        external_content=fields.get("include_file_references_to_external_content") == "1",
        mnet_users=fields.get("mnet_remoteusers") == "1",
        settings=settings,
        sections=sections,
        counts=tally.counts(len(information.sections), modules),
        plugins=tally.plugins(set(modules) - {""}, course.format),
        dependencies=tally.needs.resolve({number(item.get("moduleid")) for item in information.activities}),
    )


def _course(information: Information, tally: Tally) -> CourseFacts:
    fields = information.fields
    id_ = fields.get("original_course_id")
    return CourseFacts(
        id=number(id_) if id_ else None,
        fullname=fields.get("original_course_fullname", ""),
        shortname=fields.get("original_course_shortname", ""),
        format=fields.get("original_course_format") or tally.course.get("format"),
        startdate=moment(fields.get("original_course_startdate")),
        enddate=moment(fields.get("original_course_enddate")),
        idnumber=tally.course.get("idnumber"),
        category=tally.course.get("category"),
    )


def _foreign_manifest(archive: Archive, foreign: Foreign) -> Manifest:
    """Moodle 1.9 and Common Cartridge, as far as they say anything."""
    origin = OriginalSite(foreign.url, None)
    sections = tuple(
        SectionFacts(index, title, included=True, userinfo=False, directory="", number=index)
        for index, title in enumerate(foreign.sections)
    )
    return Manifest(
        type="course",
        format=foreign.format,
        mode="general",
        container=archive.container,
        size=archive.size,
        course=CourseFacts(foreign.course_id, foreign.fullname, foreign.shortname, foreign.course_format),
        backup_date=moment(foreign.date),
        name=foreign.name,
        moodle_release=foreign.release,
        moodle_version=foreign.version,
        original_site=origin,
        sections=sections,
        counts=ArchiveCounts(
            sections=len(sections),
            activities=foreign.activities,
            users=foreign.users,
            questions=foreign.questions,
        ),
    )


def _with_dangers(manifest: Manifest, site: _Site) -> Manifest:
    missing = len(manifest.missing())
    counts = manifest.counts
    met = {
        "without_files": not manifest.include_files,
        "anonymized": manifest.settings.get("anonymize") is True,
        "user_data": counts.users > 0,
        "newer_moodle": _is_newer(manifest.moodle_version, site.version),
        "external_content": manifest.external_content,
        "needs_conversion": manifest.format != "moodle2",
        "incomplete": missing > 0,
        "missing_contents": manifest.include_files and counts.files.bytes > 0 and counts.pool.count == 0,
    }
    words = {
        "users": counts.users,
        "release": printable(manifest.moodle_release or manifest.moodle_version or "unknown"),
        "kind": manifest.kind,
        "missing": missing,
        "absent": counts.files.count,
    }
    dangers = tuple(Danger(code, _DANGERS[code].format(**words)) for code, is_met in met.items() if is_met)
    return replace(manifest, dangers=dangers)


def _mode(text: str | None) -> str:
    """Moodle's number of a mode (``backup/backup.class.php``) as a word; unknown ones as they stand."""
    if text and text.isdecimal() and len(text) < 6:
        return MODES.get(int(text), text)
    return text or "general"


def _same_site(origin: OriginalSite, site: _Site) -> bool | None:
    """Whether it was made on the site it is looked at from: by identifier, else by address, or unknown."""
    if site.hash and origin.identifier_hash:
        return site.hash.lower() == origin.identifier_hash.lower()
    if site.url and origin.url:
        return site.url.rstrip("/") == origin.url.rstrip("/")
    return None


def _is_newer(backup: str | None, site: str | None) -> bool:
    """Moodle's own comparison (``restore_prechecks_helper``, 3.9 to 5.1): version numbers, decimals
    included."""
    try:
        return bool(backup and site) and Decimal(str(backup)) > Decimal(str(site))
    except InvalidOperation:
        return False


def _no_manifest(filename: str, stray: str | None) -> Refused:
    name = printable(filename)
    if stray and stray.endswith(".mbz"):
        hint = f"It holds a backup file itself ({printable(stray)}): unpack it first."
    elif stray:
        hint = f"{printable(stray)} lies too deep: pack the content of that folder, not the folder."
    else:
        hint = "Name a backup file that Moodle wrote."
    return Refused(
        f"{name} is an archive, but no Moodle backup: it has no {MANIFEST}.", hint, code="not_a_backup"
    )
