"""A restore's request as the ledger keeps it, so that what came of it can be looked at when its process is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from moodlectl.actions.files import sha1_of
from moodlectl.site.port import BackupFile, CourseSource, Placement, RestoreRequest, RestoreSource

_PLAIN = (
    *("mode", "category_id", "course_id", "fullname", "shortname", "idnumber", "visible", "enrolments"),
    *("keep_enrolments", "keep_groups", "overwrite_config", "users_conflict", "as_user", "items_only"),
)


def written(request: RestoreRequest) -> dict[str, Any]:
    """What of a request matters afterwards, as plain values: where the archive is, and what was asked."""
    facts: dict[str, Any] = {name: getattr(request, name) for name in _PLAIN if getattr(request, name) is not None}
    facts["settings"] = dict(request.settings)
    if request.startdate is not None:
        facts["startdate"] = request.startdate.isoformat()
    if request.placement is not None:
        facts["placement"] = [request.placement.how, request.placement.section_id]
    if request.source.path is not None:
        facts["path"] = str(request.source.path.resolve())
    elif request.source.course is not None:
        course = request.source.course
        facts["course"] = {"course_id": course.course_id, "rules": course.rules, "settings": dict(course.settings)}
    elif request.source.stored is not None:
        stored = request.source.stored
        names = [name for name in stored.__dataclass_fields__ if name != "timecreated"]
        facts["stored"] = {
            **{name: getattr(stored, name) for name in names},
            "locator": dict(stored.locator),
            "timecreated": stored.timecreated.isoformat(),
        }
    return facts


def read(facts: Mapping[str, Any]) -> RestoreRequest | None:
    """The request of a job, from its item's facts; None where nothing was kept or the file is not as it was."""
    kept = facts.get("request")
    if not isinstance(kept, Mapping):
        return None
    source = _source(kept, facts.get("sha1"))
    if source is None:
        return None
    request = RestoreRequest(source, **{name: kept[name] for name in _PLAIN if name in kept})
    placement = kept.get("placement")
    return replace(
        request,
        settings=dict(kept.get("settings") or {}),
        startdate=date.fromisoformat(kept["startdate"]) if kept.get("startdate") else None,
        placement=Placement(placement[0], int(placement[1])) if placement else None,
    )


def _source(kept: Mapping[str, Any], sha1: str | None) -> RestoreSource | None:
    if "path" in kept:
        path = Path(kept["path"])
        whole = path.is_file() and (sha1 is None or sha1_of(path) == sha1)
        return RestoreSource(path=path) if whole else None
    if "course" in kept:
        return RestoreSource(course=CourseSource(**kept["course"]))
    if "stored" in kept:
        from datetime import datetime

        stored = dict(kept["stored"])
        stored["timecreated"] = datetime.fromisoformat(stored["timecreated"])
        return RestoreSource(stored=BackupFile(**stored))
    return None
