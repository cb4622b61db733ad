"""The backups of a course by web service: where each area lies, and what an empty answer may hide. Reads
only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moodlectl.errors import AccessError
from moodlectl.site.fileurl import browser_url
from moodlectl.site.live.courses import course, moment
from moodlectl.site.port import AREAS, Area, BackupFile, BackupListing, Course, CourseRef
from moodlectl.site.webservice import WebService

_CAPABILITY: Mapping[Area, str] = {
    "course": "`moodle/backup:backupcourse` or `moodle/restore:restorecourse`",
    "automated": "`moodle/restore:viewautomatedfilearea`",
}


def backups(
    ws: WebService, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
) -> BackupListing:
    """The backups of a course in those areas, newest first, with a note where an area could not be looked at.

    The private area is the token's user's own. Raises NotFound for a course that is not there, and
    AccessError
    where no area at all could be looked at.
    """
    of = course(ws, CourseRef("id", str(course_id)))
    files: list[BackupFile] = []
    notes: list[str] = []
    troubles: list[AccessError] = []
    for area in areas:
        try:
            listing = _private(ws, of, owner) if area == "private" else _of_course(ws, of, area)
        except AccessError as trouble:
            troubles.append(trouble)
            notes.append(f"The {area} area could not be looked at: {trouble.message}")
            continue
        files += listing.files
        notes += listing.notes
    if troubles and len(troubles) == len(areas):
        raise troubles[0]
    newest_first = sorted(files, key=lambda file: (file.timecreated, file.filename), reverse=True)
    return BackupListing(tuple(newest_first), tuple(notes))


def _of_course(ws: WebService, of: Course, area: Area) -> BackupListing:
    reply = ws.call("core_files_get_files", area_params(area, of.id))
    files = read_files(reply, of, area)
    if files:
        return BackupListing(files)
    return BackupListing(
        (),
        (
            f"The {area} area is empty, or the token's user may not see it: Moodle says the same for both. "
            f"Seeing it needs {_CAPABILITY[area]}.",
        ),
    )


def _private(ws: WebService, of: Course, owner: str | None) -> BackupListing:
    """The own private area; which course a file there is of, only its name tells."""
    own = ws.site_info()
    if owner is not None and owner != own.get("username"):
        return BackupListing(
            (), (f"The private area of {owner} cannot be looked at by web service: that needs a shell.",)
        )
    everything = read_files(
        ws.call("core_files_get_files", area_params("private", int(own["userid"]))),
        of,
        "private",
        owner=str(own.get("username") or ""),
    )
    nameless = sum(1 for file in everything if course_id_in(file.filename) is None)
    notes = (
        (
            f"{nameless} file(s) in the private area do not tell by their names which course they are of; "
            f"they are "
            "not listed.",
        )
        if nameless
        else ()
    )
    return BackupListing(tuple(f for f in everything if course_id_in(f.filename) == of.id), notes)


def area_params(area: Area, instance_id: int) -> dict[str, Any]:
    """``core_files_get_files`` (``files/externallib.php``, 3.9 to 5.1) for a course's area or a user's own.

    ``instance_id`` is the course id, for the private area the user id.
    """
    private = area == "private"
    return {
        "contextid": -1,
        "contextlevel": "user" if private else "course",
        "instanceid": instance_id,
        "component": "user" if private else "backup",
        "filearea": "backup" if private else area,
        "itemid": 0,
        "filepath": "/",
        "filename": "",
    }


def read_files(
    reply: Mapping[str, Any], of: Course, area: Area, owner: str | None = None
) -> tuple[BackupFile, ...]:
    """The files of one area. Their sha1 is not in the reply; a download tells it."""
    return tuple(_file(each, of, area, owner) for each in reply.get("files") or () if not each.get("isdir"))


def _file(each: Mapping[str, Any], of: Course, area: Area, owner: str | None) -> BackupFile:
    names = ("contextid", "component", "filearea", "itemid", "filepath", "filename")
    locator: dict[str, str | int] = {name: each[name] for name in names if each.get(name) is not None}
    url = str(each.get("url") or "") or None
    if url:
        locator["url"] = url
    made = moment(each.get("timecreated") or each.get("timemodified"))
    return BackupFile(
        course_id=of.id,
        course_shortname=of.shortname,
        area=area,
        filename=str(each["filename"]),
        size=int(each.get("filesize") or 0),
        timecreated=made or datetime.fromtimestamp(0, UTC),
        sha1=None,
        has_users=has_users(str(each["filename"])),
        url=browser_url(url) if url else None,
        owner=owner,
        locator=locator,
    )


def course_id_in(filename: str) -> int | None:
    """The course id in a name that Moodle gave (``backup_plan_dbops::get_default_backup_filename``), or
    None."""
    found = re.search(r"-moodle2-course-(\d+)(?=[-.])", filename)
    return int(found.group(1)) if found else None


def has_users(filename: str) -> bool | None:
    """False where the name that Moodle gave says ``-nu`` (no users), None where it does not tell."""
    return False if re.search(r"-\d{8}-\d{4}-nu(-nf)?(-\d+)?\.mbz$", filename) else None


def address_of(ws: WebService, file: BackupFile) -> str:
    """The listed address of a file for a download. Raises AccessError where the list gave none."""
    url = file.locator.get("url") or file.url
    if not url:
        raise AccessError(
            f"The token's user may list {file.filename} on {ws.url} but not download it.",
            "That needs `moodle/backup:downloadfile`, for automated backups also `moodle/restore:userinfo`; "
            "a shell needs neither.",
            code="nourl",
            details={"area": file.area, "filename": file.filename},
        )
    return str(url)
