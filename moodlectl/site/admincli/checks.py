"""What can be known before a restore where only scripts may run: from the file, web services and ``df``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.errors import MoodlectlError
from moodlectl.findings import Finding
from moodlectl.site.admincli import looking
from moodlectl.site.admincli.looking import Means
from moodlectl.site.port import Course, SiteInfo, Standing, UsersOutcome

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest
    from moodlectl.site.webservice import WebService

_GRADES = "gradereport_user_get_grade_items"
_ENROLLED = "core_enrol_get_enrolled_users"
_STUDENT = "student"

UNKNOWN = (
    "The engine admin-cli cannot look at this before it restores: Moodle's own pre-check, the site's plugins and "
    "roles, the room in Moodle's data directory, and whether a backup or restore is at work."
)


def findings(
    means: Means, path: Path, manifest: Manifest, info: SiteInfo, target: Course | None
) -> Iterator[Finding]:
    """What is found before a restore, people apart. Runs nothing but ``df``. Reads only."""
    for name, what in looking.dangers(manifest, info).items():
        yield Finding(name, "danger", f"{what[0].upper()}{what[1:]}.", f"To do it all the same: --allow {name}")
    yield from _room(means, path)
    doubtful = looking.doubtful_modules(manifest, info)
    if doubtful:
        yield Finding(
            "plugins_unseen",
            "warning",
            f"Whether the site has {', '.join(doubtful)} cannot be seen; Moodle leaves out what it has not got.",
            "Ask an administrator of the site.",
            {"plugins": list(doubtful)},
        )
    if target is None and means.web is not None and _taken(means.web, manifest.course.shortname):
        yield Finding(
            "names",
            "warning",
            f"The short name {manifest.course.shortname} is taken here; the new course will have a number at its end.",
            "The engine runner can choose another name.",
        )
    yield Finding("not_known", "note", UNKNOWN, "The engine runner can.")


def _taken(ws: WebService, shortname: str) -> bool:
    """Whether a course that the token's user may see has that short name."""
    reply = ws.call("core_course_get_courses_by_field", {"field": "shortname", "value": shortname})
    return bool(reply["courses"])


def _room(means: Means, path: Path) -> Iterator[Finding]:
    """The exchange folder is the one place on the way that has a limit which can be asked for."""
    folder, size = means.config.exchange_dir or "", path.stat().st_size
    free = free_in(means, folder)
    if free is not None and free < size:
        yield Finding(
            "nospace",
            "forbidden",
            f"There is no room for {path.name} in {folder} on the host: {size:,} bytes are needed, {free:,} are free.",
            "Make room there, or name another folder with --exchange-dir.",
            {"directory": folder, "needed": size, "free": free},
        )


def free_in(means: Means, folder: str) -> int | None:
    """Bytes free in a folder on the host, None where that cannot be told."""
    try:
        done = means.host.file("df", "-Pk", "--", folder)
    except MoodlectlError:
        return None
    lines = done.output.decode(errors="replace").splitlines()
    words = shlex.split(lines[-1]) if done.status == 0 and len(lines) > 1 else []
    return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else None


def people(users: UsersOutcome, unseen: Sequence[str]) -> Iterator[Finding]:
    """People in conflict, as web services show them, and what those do not show."""
    from moodlectl.site.admincli.restore import PEOPLE

    conflicts = users.conflicts
    if conflicts:
        yield Finding(
            "user_conflict",
            "forbidden",
            f"The site has other people under the same usernames: {', '.join(conflicts[:50])}.",
            PEOPLE,
            {"conflicts": list(conflicts[:50]), "count": len(conflicts)},
        )
    elif users.matched or users.created:
        yield Finding(
            "people",
            "note",
            f"People of the backup: {users.matched} have an account here, {users.created} accounts will be made.",
            "",
            {"matched": users.matched, "created": users.created},
        )
    for what in unseen:
        yield Finding("people_unseen", "note", what, "The engine runner asks the site itself.")


def standing(ws: WebService, course_id: int) -> Standing:
    """Who is in a course and when they were there last, and its grades, as far as the service tells. Reads only."""
    entries = _asked(ws, _ENROLLED, {
        "courseid": course_id, "options": [{"name": "userfields", "value": "id,roles,lastcourseaccess"}],
    })  # fmt: skip
    grades = _asked(ws, _GRADES, {"courseid": course_id})
    me, now = ws.site_info().get("userid"), datetime.now(UTC)
    students = visits = None
    if entries is not None:
        students = sum(1 for one in entries if any(r.get("shortname") == _STUDENT for r in one.get("roles") or ()))
        visits = [
            datetime.fromtimestamp(int(one["lastcourseaccess"]), UTC)
            for one in entries
            if one.get("lastcourseaccess") and one.get("id") != me
        ]
    return Standing(
        students=students,
        grades=None if grades is None else sum(map(_graded, grades.get("usergrades") or ())),
        visitors=None if visits is None else sum(1 for at in visits if now - at < timedelta(days=14)),
        last_visit=max(visits, default=None) if visits is not None else None,
        active=None if visits is None else sum(1 for at in visits if now - at < timedelta(minutes=5)),
    )


def _graded(one: Any) -> int:
    items = one.get("gradeitems") or ()
    return sum(1 for i in items if i.get("graderaw") is not None and i.get("itemtype") not in ("course", "category"))


def _asked(ws: WebService, function: str, params: dict[str, Any]) -> Any:
    """The answer of a function; None where the service has it not, or does not let this user."""
    if not looking.offers(ws, function):
        return None
    try:
        return ws.call(function, params)
    except MoodlectlError:
        return None
