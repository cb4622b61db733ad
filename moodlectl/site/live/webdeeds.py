"""Copies and imports that Moodle does inside one web request, and what its own records say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from moodlectl.errors import Failed, NotFound
from moodlectl.site.live.courses import course
from moodlectl.site.port import Controller, CourseRef, WebCopy, WebImport
from moodlectl.site.runner import Runner
from moodlectl.site.webservice import WebService

PATIENCE: Final = (10.0, 900.0)
"""Seconds to connect, and to wait for the answer; Moodle says nothing until it is done."""


def copy(ws: WebService, wanted: WebCopy) -> int:
    """``core_course_duplicate_course`` (``course/externallib.php``, 3.9 to 5.1). Writes to the site.

    Every option is passed: without one, people are copied.
    """
    reply = ws.call("core_course_duplicate_course", copy_params(wanted), timeout=PATIENCE)
    return int(reply["id"])


def copy_params(wanted: WebCopy) -> dict[str, Any]:
    """The parameters of ``core_course_duplicate_course``."""
    return {
        "courseid": wanted.course_id,
        "fullname": wanted.fullname,
        "shortname": wanted.shortname,
        "categoryid": wanted.category_id,
        "visible": wanted.visible,
        "options": _options(wanted.settings),
    }


def import_(ws: WebService, wanted: WebImport) -> None:
    """``core_course_import_course`` (``course/externallib.php``, 3.9 to 5.1). Writes to the site.

    Never with ``deletecontent``: Moodle then empties the course before it knows whether the import can be done.
    """
    params = {
        "importfrom": wanted.course_id,
        "importto": wanted.target_id,
        "deletecontent": 0,
        "options": _options(wanted.settings),
    }
    ws.call("core_course_import_course", params, timeout=PATIENCE)


def _options(settings: Mapping[str, bool]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in settings.items()]


def delete(ws: WebService, course_id: int) -> None:
    """``core_course_delete_courses`` (``course/externallib.php``, 3.9 to 5.1), and see that it is gone.

    Writes to the site. Raises AccessError, NotFound, Failed.
    """
    reply = ws.call("core_course_delete_courses", {"courseids": [course_id]})
    words = [str(each.get("message") or "") for each in (reply or {}).get("warnings") or ()]
    try:
        course(ws, CourseRef("id", str(course_id)))
    except NotFound:
        if words:
            raise Failed(f"Moodle did not delete the course {course_id}: {' '.join(words)}") from None
        return
    raise Failed(f"Moodle did not delete the course {course_id}. {' '.join(words)}".strip())


def controllers(runner: Runner, course_ids: Sequence[int], since: datetime) -> tuple[Controller, ...]:
    """Moodle's records of backups and restores of those courses, asked on the host. Reads only."""
    params = {"course_ids": list(course_ids), "since": int(since.timestamp())}
    return tuple(_controller(each) for each in runner.ask("controllers", params))


def _controller(record: Mapping[str, Any]) -> Controller:
    return Controller(
        operation="restore" if record["operation"] == "restore" else "backup",
        course_id=int(record["course_id"]),
        state=_state(int(record["status"])),
        changed=datetime.fromtimestamp(int(record["changed"]), UTC),
    )


def _state(status: int) -> Literal["waiting", "executing", "finished", "failed"]:
    """``backup/backup.class.php``: 700 awaiting, 800 executing, 900 and 1000 ended, the former with an error."""
    return "waiting" if status < 800 else "executing" if status < 900 else "failed" if status < 1000 else "finished"
