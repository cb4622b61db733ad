"""Deeds on the practice site: each is one transaction, so that an account of one means it is done."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from moodlectl.site.port import BackupFile, BackupMade, Counts, Course, Deed, Precheck, Restored, UsersOutcome
from moodlectl.site.practice.store import Store

_TABLE = "CREATE TABLE IF NOT EXISTS deeds (id TEXT PRIMARY KEY, account TEXT NOT NULL)"


def keep(store: Store, number: str | None, result: Restored | BackupMade) -> None:
    """Write down that it is done, inside the caller's transaction."""
    if number is not None:
        store.run(_TABLE)
        store.run("INSERT INTO deeds VALUES (?, ?)", number, json.dumps(asdict(result), default=_plain))


def look(store: Store, number: str) -> Deed:
    """What is known of it: done, or never heard of, and then nothing has happened. Reads only."""
    known = store.rows("SELECT 1 FROM sqlite_master WHERE name = 'deeds'")
    rows = store.rows("SELECT account FROM deeds WHERE id = ?", number) if known else []
    if not rows:
        return Deed(number, found=False)
    account = json.loads(rows[0]["account"])
    if "file" in account:
        return Deed(number, found=True, phase="done", made=_made(account))
    restored = _restored(account)
    changed = restored.mode != "new"
    return Deed(
        number, found=True, phase="done", course_id=restored.course.id, changed=changed, restored=restored
    )


def forget(store: Store, number: str) -> None:
    """Nobody will ask for it again."""
    with store.transaction():
        store.run(_TABLE)
        store.run("DELETE FROM deeds WHERE id = ?", number)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, set | frozenset | tuple) else dict(value)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _restored(account: dict[str, Any]) -> Restored:
    course = dict(account["course"])
    for name in ("startdate", "enddate"):
        course[name] = _moment(course[name])
    precheck = {name: tuple(value) for name, value in account["precheck"].items()}
    users = {**account["users"], "conflicts": tuple(account["users"]["conflicts"])}
    return Restored(
        **{
            **account,
            "course": Course(**course),
            "precheck": Precheck(**precheck),
            "users": UsersOutcome(**users),
            "expected": Counts(**account["expected"]),
            "before": Counts(**account["before"]),
            "after": Counts(**account["after"]),
            "activities": {int(old): new for old, new in account["activities"].items()},
            "sections": {int(old): new for old, new in account["sections"].items()},
            "warnings": tuple(account["warnings"]),
        }
    )


def _made(account: dict[str, Any]) -> BackupMade:
    file = {**account["file"], "timecreated": _moment(account["file"]["timecreated"])}
    return BackupMade(
        BackupFile(**file), account["settings"], tuple(account["warnings"]), account["seconds"]
    )
