"""What no backup carries, and what people did in a course since, asked on the host (``php/keepsakes.php``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from moodlectl.site.port import Keepsake, Work
from moodlectl.site.runner import Runner


def keepsake(runner: Runner, course_id: int, *, acting: str | None = None) -> Keepsake:
    """What the course holds that no backup carries. Raises AccessError where it may not be backed up. Reads only."""
    reply: Keepsake = runner.ask("keepsake", {"course_id": course_id}, acting=acting)
    return reply


def work_since(runner: Runner, course_id: int, since: datetime) -> Work:
    """What people have done in the course since then, told by Moodle's standard log. Reads only."""
    return read_work(runner.ask("work_since", {"course_id": course_id, "since": int(since.timestamp())}))


def read_work(reply: Mapping[str, Any]) -> Work:
    """What ``moodlectl_call_work_since`` answered."""
    last = reply.get("last")
    return Work(
        known=bool(reply["known"]),
        changes=int(reply["changes"]),
        people=tuple(str(name) for name in reply["people"] or ()),
        last=None if last is None else datetime.fromtimestamp(int(last), UTC),
    )
