"""Making one backup over the shell, and the settings it offers (see ``php/backup.php``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from moodlectl.site.live.backups import read_file
from moodlectl.site.port import (
    Area,
    BackupMade,
    BackupQueued,
    BackupRequest,
    ItemChoice,
    LockedBy,
    OnProgress,
    Setting,
    no_progress,
)
from moodlectl.site.runner import Runner

Record = Mapping[str, Any]


def settings(runner: Runner, course_id: int | None, *, acting: str | None = None) -> tuple[Setting, ...]:
    """Every setting a backup of that course offers; without a course only the root settings. Reads only."""
    return read_settings(runner.ask("backup_settings", {"course_id": course_id}, acting=acting))


def read_settings(reply: Sequence[Record]) -> tuple[Setting, ...]:
    """What ``moodlectl_call_backup_settings`` answered."""
    return tuple(_setting(each) for each in reply)


def _setting(record: Record) -> Setting:
    choices = record["choices"]
    return Setting(
        name=str(record["name"]),
        value=record["value"],
        level=str(record["level"]),
        label=str(record["label"]),
        visible=bool(record["visible"]),
        locked_by=cast("LockedBy | None", record["locked_by"]),
        depends_on=tuple(str(name) for name in record["depends_on"]),
        item_id=record["item_id"],
        item=str(record["item"]),
        module=str(record["module"]),
        choices=None if choices is None else {str(key): str(label) for key, label in choices.items()},
    )


def make(
    runner: Runner,
    request: BackupRequest,
    *,
    acting: str | None = None,
    on_progress: OnProgress = no_progress,
) -> BackupMade:
    """Make one backup in a PHP process of its own, and see that it is stored whole. Writes to the site.

    Raises Refused for what is locked and where there is no room, UsageError for a setting there is not,
    NotFound, AccessError, and Failed with the end of Moodle's log; what was begun is then taken back.
    """
    return read_made(runner.do("backup", params(request), acting=acting, on_progress=on_progress))


def queue(runner: Runner, request: BackupRequest, *, acting: str | None = None) -> BackupQueued:
    """Leave one backup to the site's cron (``php/backup_queue.php``). Writes to the site. Raises as ``make``."""
    reply = runner.do("backup_queue", params(request), acting=acting)
    cron = reply["cron"]
    return BackupQueued(
        course_id=request.course_id,
        area=cast("Area", reply["area"]),
        filename=str(reply["filename"]),
        cron=None if cron is None else datetime.fromtimestamp(int(cron), UTC),
    )


def params(request: BackupRequest) -> dict[str, Any]:
    """What ``moodlectl_call_backup`` is sent."""
    return {
        "course_id": request.course_id,
        "settings": {name: bool(value) for name, value in request.settings.items()},
        "items": items(request.items),
        "deed": request.deed,
    }


def items(choice: ItemChoice) -> dict[str, list[int] | None]:
    """An item choice as lists of ids; None where all are meant."""
    chosen: dict[str, frozenset[int] | None] = {
        "only_sections": choice.only_sections,
        "only_activities": choice.only_activities,
        "skip_sections": choice.skip_sections,
        "skip_activities": choice.skip_activities,
        "userdata_sections": choice.userdata_sections,
        "userdata_activities": choice.userdata_activities,
        "no_userdata_sections": choice.no_userdata_sections,
        "no_userdata_activities": choice.no_userdata_activities,
    }
    return {word: None if ids is None else sorted(ids) for word, ids in chosen.items()}


def read_made(reply: Record) -> BackupMade:
    """What ``moodlectl_call_backup`` answered."""
    return BackupMade(
        file=read_file(reply["file"]),
        settings=dict(reply["settings"]),
        warnings=tuple(str(warning) for warning in reply["warnings"]),
        seconds=float(reply["seconds"]),
    )
