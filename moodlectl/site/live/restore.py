"""Restores on the host: what is asked of ``php/restore.php``, and how its answers are read.

A plan and a deed are the same question, each in a PHP process of its own, since both unpack an archive there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from moodlectl import findings
from moodlectl.errors import Failed, MoodlectlError, NotFound, UsageError
from moodlectl.findings import Finding
from moodlectl.site.port import (
    Counts,
    Course,
    ItemChoice,
    LockedBy,
    OnProgress,
    Precheck,
    Progress,
    Restored,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    Setting,
    Standing,
    UsersOutcome,
    no_progress,
)
from moodlectl.site.runner import Runner

Record = Mapping[str, Any]

CHUNK: Final = 1 << 20


def restore_plan(
    runner: Runner, request: RestoreRequest, on_progress: OnProgress = no_progress
) -> RestorePlan:
    """What that restore would do, with Moodle's pre-check. Leaves nothing behind.

    Raises Refused where no plan can be made: no backup, a locked setting, a name that is taken, a full disk.
    """
    return read_plan(_restore(runner, request, on_progress, dry_run=True), request)


def restore(runner: Runner, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
    """Do it. Writes to the site; a new course that fails is removed again.

    Raises Refused before anything lasting, Failed where Moodle broke off, OutcomeUnknown where the site went
    away.
    """
    return read_restored(_restore(runner, request, on_progress, dry_run=False))


def _restore(runner: Runner, request: RestoreRequest, on_progress: OnProgress, *, dry_run: bool) -> Record:
    source = source_params(request.source, on_progress)
    params = restore_params(request, source, dry_run=dry_run)
    path = request.source.path
    chunks = None if path is None else read_chunks(path, int(source["size"]))
    try:
        reply: Record = runner.do("restore", params, acting=request.as_user, source=chunks, on_progress=on_progress)
        return reply
    except MoodlectlError as error:
        if "findings" in error.details:
            found = [findings.of_record(one) for one in error.details["findings"]]
            error.details["findings"] = [
                one.as_dict(request.allow) for one in findings.worst_first(found, request.allow)
            ]
        raise


# --- asking ---------------------------------------------------------------------------------------------------


def source_params(source: RestoreSource, on_progress: OnProgress = no_progress) -> dict[str, Any]:
    """Where the archive comes from: a local file with its size and sha1, a stored file's locator, or a course."""
    if source.course is not None:
        return {
            "kind": "course",
            "course_id": source.course.course_id,
            "rules": source.course.rules,
            "settings": dict(source.course.settings),
            "items": item_params(source.course.items),
        }
    if source.stored is not None:
        return {"kind": "stored", "locator": dict(source.stored.locator)}
    if source.path is None:
        raise UsageError("No backup was named to restore.")
    size, sha1 = digest(source.path, on_progress)
    return {"kind": "upload", "size": size, "sha1": sha1, "name": source.path.name}


def digest(path: Path, on_progress: OnProgress = no_progress) -> tuple[int, str]:
    """Size and sha1 of a local file, read once; the host compares both with what arrives."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    done = 0
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                sha1.update(piece)
                done += len(piece)
                on_progress(Progress("scan", done, total, "bytes"))
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", code="no_file") from error
    return done, sha1.hexdigest()


def read_chunks(path: Path, size: int) -> Iterator[bytes]:
    """A file's content in pieces of 1 MiB; raises Failed where it no longer has that size."""
    sent = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            sent += len(piece)
            yield piece
    if sent != size:
        raise Failed(f"{path} was changed while it was sent.", "Try again when nothing writes to it.",
                     code="file_changed")  # fmt: skip


def restore_params(request: RestoreRequest, source: Record, *, dry_run: bool) -> dict[str, Any]:
    """The parameters of ``moodlectl_call_restore``; texts that stay what Moodle makes of them are left out."""
    place = request.placement
    texts = {
        "fullname": request.fullname,
        "shortname": request.shortname,
        "idnumber": request.idnumber,
        "startdate": None if request.startdate is None else request.startdate.isoformat(),
        "visible": request.visible,
    }
    return {
        "mode": request.mode,
        "category_id": request.category_id,
        "course_id": request.course_id,
        "source": dict(source),
        "texts": {name: value for name, value in texts.items() if value is not None},
        "settings": dict(request.settings),
        "enrolments": request.enrolments,
        "keep_enrolments": request.keep_enrolments,
        "keep_groups": request.keep_groups,
        "overwrite_config": request.overwrite_config,
        "items": item_params(request.items),
        "users_conflict": request.users_conflict,
        "allow": sorted(request.allow),
        "drop_backups": request.drop_backups,
        "placement": None if place is None else {"how": place.how, "section_id": place.section_id},
        "items_only": request.items_only,
        "wishes": sorted(request.wishes),
        "keepsake": None if request.keepsake is None else dict(request.keepsake),
        "deed": None if dry_run else request.deed,
        "dry_run": dry_run,
    }


def item_params(items: ItemChoice) -> dict[str, list[int] | None]:
    """The chosen sections and activities by id, None for all."""

    def ids(chosen: frozenset[int] | None) -> list[int] | None:
        return None if chosen is None else sorted(chosen)

    return {
        "only_sections": ids(items.only_sections),
        "only_activities": ids(items.only_activities),
        "skip_sections": ids(items.skip_sections),
        "skip_activities": ids(items.skip_activities),
        "userdata_sections": ids(items.userdata_sections),
        "userdata_activities": ids(items.userdata_activities),
        "no_userdata_sections": ids(items.no_userdata_sections),
        "no_userdata_activities": ids(items.no_userdata_activities),
    }


# --- reading --------------------------------------------------------------------------------------------------


def read_plan(reply: Record, request: RestoreRequest) -> RestorePlan:
    """The plan that ``moodlectl_restore_plan`` answered with."""
    found = read_findings(reply)
    target = reply.get("target")
    counts = reply.get("target_counts")
    return RestorePlan(
        request=request,
        precheck=_precheck(reply["precheck"]),
        users=_users(reply["users"]),
        settings=tuple(_setting(each) for each in reply["settings"]),
        expected=read_counts(reply["expected"]),
        target=None if target is None else _course(target),
        target_counts=None if counts is None else read_counts(counts),
        fullname=str(reply["fullname"]),
        shortname=str(reply["shortname"]),
        backup_release=str(reply["backup_release"]),
        site_release=str(reply["site_release"]),
        same_site=bool(reply["same_site"]),
        dangers=findings.of_names(found),
        findings=found,
    )


def read_restored(reply: Record) -> Restored:
    """What ``moodlectl_restore_do`` answered with; a new course held nothing before, which counts as zeros."""
    before = reply.get("before")
    return Restored(
        course=_course(reply["course"]),
        mode=reply["mode"],
        precheck=_precheck(reply["precheck"]),
        users=_users(reply["users"]),
        expected=read_counts(reply["expected"]),
        before=NOTHING if before is None else read_counts(before),
        after=read_counts(reply["after"]),
        activities={int(old): int(new) for old, new in _pairs(reply["activities"])},
        warnings=_words(reply["warnings"]),
        seconds=float(reply["seconds"]),
        backups_kept=reply.get("backups_kept"),
        stayed={method: _words(people) for method, people in _pairs(reply.get("stayed"))},
        sections={int(old): int(new) for old, new in _pairs(reply.get("sections"))},
        settings=dict(_pairs(reply.get("settings"))),
        findings=read_findings(reply),
    )


def read_findings(reply: Record) -> tuple[Finding, ...]:
    """What ``moodlectl_restore_find`` wrote down; an account of an older moodlectl has none."""
    return tuple(findings.of_record(each) for each in reply.get("findings") or ())


def standing(runner: Runner, course_id: int, *, acting: str | None = None) -> Standing:
    """Who and what stands in the way of changing a course (``moodlectl_call_course_standing``). Reads only."""
    return read_standing(runner.ask("course_standing", {"course_id": course_id}, acting=acting))


def read_standing(reply: Record) -> Standing:
    """What ``moodlectl_call_course_standing`` answered with."""
    restored = reply["restored"]
    return Standing(
        students=int(reply["students"]),
        grades=int(reply["grades"]),
        submissions=int(reply["submissions"]),
        visitors=int(reply["visitors"]),
        last_visit=_moment(reply["last_visit"]),
        active=int(reply["active"]),
        running=_words(reply["running"]),
        restored=None
        if restored is None
        else tuple((datetime.fromtimestamp(int(at), UTC), origin) for at, origin in restored),
    )


NOTHING: Final = Counts(0, {}, 0, 0, 0, 0, 0, 0, 0)
"""What a course that was not there before held."""


def read_counts(record: Record) -> Counts:
    """Counts as ``moodlectl_count_course`` and ``moodlectl_restore_expected`` give them."""

    def number(name: str) -> int | None:
        value = record.get(name)
        return None if value is None else int(value)

    return Counts(
        sections=number("sections"),
        activities={module: int(amount) for module, amount in _pairs(record.get("activities"))},
        users=number("users"),
        groups=number("groups"),
        grade_items=number("grade_items"),
        grades=number("grades"),
        questions=number("questions"),
        files=number("files"),
        file_bytes=number("file_bytes"),
    )


def _pairs(record: Any) -> Sequence[tuple[str, Any]]:
    """The items of an object; PHP writes an empty one as a list now and then."""
    return tuple(record.items()) if isinstance(record, Mapping) else ()


def _words(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values or ())


def _precheck(record: Record) -> Precheck:
    return Precheck(
        _words(record.get("errors")), _words(record.get("warnings")), _words(record.get("missing_plugins"))
    )


def _users(record: Record) -> UsersOutcome:
    return UsersOutcome(int(record["matched"]), int(record["created"]), _words(record["conflicts"]))


def _setting(record: Record) -> Setting:
    choices = record.get("choices")
    item_id = record.get("item_id")
    return Setting(
        name=str(record["name"]),
        value=record["value"],
        level=str(record["level"]),
        label=str(record["label"]),
        visible=bool(record["visible"]),
        locked_by=cast("LockedBy | None", record["locked_by"]),
        depends_on=_words(record["depends_on"]),
        item_id=None if item_id is None else int(item_id),
        item=str(record["item"]),
        module=str(record["module"]),
        choices=None if choices is None else {key: str(label) for key, label in _pairs(choices)},
    )


def _course(record: Record) -> Course:
    return Course(
        id=int(record["id"]),
        shortname=str(record["shortname"]),
        fullname=str(record["fullname"]),
        idnumber=str(record["idnumber"]),
        category_id=int(record["category_id"]),
        category_name=str(record["category_name"]),
        startdate=_moment(record["startdate"]),
        visible=bool(record["visible"]),
        url=str(record["url"]),
        format=str(record.get("format") or ""),
        enddate=_moment(record.get("enddate")),
    )


def _moment(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None
