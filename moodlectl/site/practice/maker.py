"""Makes one backup of a practice course and stores it where Moodle stores such backups."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from moodlectl.site.port import Area, BackupFile, BackupMade, BackupRequest, OnProgress, Progress, no_progress
from moodlectl.site.practice import deeds
from moodlectl.site.practice.cut import anonymised, cut
from moodlectl.site.practice.package import Package
from moodlectl.site.practice.people import Actor, identifier_hash
from moodlectl.site.practice.settings import (
    BACKUP_ROOT,
    Chosen,
    Locks,
    Sheet,
    Value,
    backup_sheet,
    chosen,
    item_wishes,
    require_known,
)
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import text

WWWROOT = "https://practice.invalid"
MODES = {"general": 10, "import": 20, "automated": 50}
_CAPABILITIES = {"userinfo": "moodle/backup:userinfo", "anonymise": "moodle/backup:anonymise"}


def locks(store: Store, actor: Actor, course_id: int | None) -> Locks:
    """What the acting user may not change, and what the administrator has locked."""
    missing = {word for word, name in _CAPABILITIES.items() if not actor.may(name, course_id)}
    config: dict[str, Value] = {}
    for name, default, _ in BACKUP_ROOT:
        key = f"backup_general_{'histories' if name == 'grade_histories' else name}"
        if store.config(f"{key}_locked") == "1":
            config[name] = store.config(key, str(int(default))) == "1"
    return Locks(actor.user.username, frozenset(missing), config)


def with_people(store: Store, package: Package) -> Package:
    """The course together with the accounts of everybody its documents speak of."""
    rows = store.rows("SELECT id FROM users")
    package.users = {row["id"]: user.element for row in rows if (user := store.user_by_id(row["id"]))}
    return package


def part_of(store: Store, request: BackupRequest, actor: Actor) -> tuple[Package, Chosen, Sheet]:
    """What of a course a backup takes, with what was chosen for it. Reads only. Raises UsageError, Refused."""
    package = with_people(store, store.load(request.course_id))
    sheet = backup_sheet(package, locks(store, actor, request.course_id))
    require_known(request.settings, [name for name, *_ in BACKUP_ROOT], "backups")
    sheet.apply({**item_wishes(package, request.items), **request.settings})
    taken = chosen(sheet, package)
    part = cut(package, taken)
    if taken["anonymize"]:
        anonymised(part)
    return part, taken, sheet


def write_unstored(store: Store, request: BackupRequest, actor: Actor, target: IO[bytes], mode: str) -> None:
    """Write a backup for one restore alone; the site's pool has all its files. Writes nothing to the site."""
    from moodlectl.site.practice.writer import Labels, write_mbz

    part, taken, _ = part_of(store, request, actor)
    labels = Labels("backup.mbz", uuid.uuid4().hex, MODES[mode], int(time.time()), WWWROOT, identifier_hash(store))
    lean = replace(taken, root={**taken.root, "files": False})
    write_mbz(part, lean, labels, store, target, no_progress)
    target.flush()


def make(
    store: Store,
    request: BackupRequest,
    actor: Actor,
    when: int,
    on_progress: OnProgress,
    mode: str = "general",
) -> BackupMade:
    """Make it and store it. Writes to the site.

    Raises UsageError, Refused and NotFound before anything is written.
    """
    from moodlectl.site.practice.writer import Labels, file_name, write_cartridge, write_mbz

    part, taken, sheet = part_of(store, request, actor)
    area: Area = "automated" if mode == "automated" else "course"
    if not taken["users"] or taken["anonymize"] or taken["imscc11"]:
        area = "private"
    shortname = text(part.course, "shortname")
    wanted = file_name(request.course_id, shortname, when, taken)
    warnings: list[str] = []
    started = datetime.now(UTC)
    on_progress(Progress("backup", 0, None))
    with store.incoming() as target:
        if taken["imscc11"]:
            write_cartridge(part, store, target)
        else:
            labels = Labels(wanted, uuid.uuid4().hex, MODES[mode], when, WWWROOT, identifier_hash(store))
            warnings = write_mbz(part, taken, labels, store, target, on_progress)
        target.flush()
        size = target.tell()
        with Path(target.name).open("rb") as content:
            contenthash = hashlib.file_digest(content, "sha1").hexdigest()
        with store.transaction():
            store.adopt(Path(target.name), contenthash)
            owner = actor.user.id if area == "private" else 0
            facts = (contenthash, size, when, int(taken["users"]))
            file = _record(store, (request.course_id, shortname, area, owner), wanted, facts)
            used = {name: bool(sheet.value(name)) for name, *_ in BACKUP_ROOT}
            seconds = (datetime.now(UTC) - started).total_seconds()
            made = BackupMade(file, used, tuple(warnings), seconds)
            deeds.keep(store, request.deed, made)
    return made


def _record(
    store: Store, place: tuple[int, str, Area, int], wanted: str, facts: tuple[str, int, int, int]
) -> BackupFile:
    """Enter a backup: where it lies (course, short name, area, owner), and sha1, size, time, with users."""
    course_id, shortname, area, owner = place
    stem, dot, extension = wanted.rpartition(".")
    name, turn = wanted, 1
    # Moodle would overwrite a backup of the same minute without a word; this keeps both.
    while store.rows(
        "SELECT 1 FROM backups WHERE area = ? AND owner = ? AND filename = ? AND (course = ? OR owner <> 0)",
        area, owner, name, course_id,
    ):  # fmt: skip
        turn += 1
        name = f"{stem}-{turn}{dot}{extension}"
    backup_id = store.allocate("backup")
    store.run(
        "INSERT INTO backups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        backup_id, course_id, shortname, area, owner, name, *facts,
    )  # fmt: skip
    return stored(store, store.rows("SELECT * FROM backups WHERE id = ?", backup_id)[0])


def stored(store: Store, row: Any) -> BackupFile:
    """A stored backup as the port shows it."""
    owner = store.user_by_id(row["owner"]) if row["owner"] else None
    place = f"user/backup/{row['owner']}" if owner else f"course/{row['course']}/backup/{row['area']}"
    return BackupFile(
        course_id=row["course"],
        course_shortname=row["shortname"],
        area=row["area"],
        filename=row["filename"],
        size=row["filesize"],
        timecreated=datetime.fromtimestamp(row["timecreated"], UTC),
        sha1=row["contenthash"],
        has_users=None if row["has_users"] is None else bool(row["has_users"]),
        url=f"{WWWROOT}/pluginfile.php/{place}/{row['filename']}",
        owner=owner.username if owner else None,
        locator={
            "id": row["id"],
            "course_id": row["course"],
            "filename": row["filename"],
        },
    )
