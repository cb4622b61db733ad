"""What Moodle's scripts say, read; and what they cannot do, named."""

from __future__ import annotations

import re

from moodlectl.errors import Failed, MoodlectlError, Refused
from moodlectl.site.admincli.host import Ended
from moodlectl.site.port import BackupRequest, ItemChoice, RestoreRequest

# lang/en/backup.php of 3.9 to 5.1: restoringcourse, restoringcourseshortname; a number follows when it is taken.
_PLACEHOLDER = re.compile(r"restoring(_\d+)?")


def cannot(what: str, script: str | None = None) -> Refused:
    """The refusal of what the scripts have no option for; nothing was run."""
    why = f"admin/cli/{script} has no option for it" if script else "Moodle has no script for it"
    return Refused(
        f"The engine 'admin-cli' cannot {what}: {why}.",
        "The engine 'runner' can, where sudo lets PHP run as the web server's user.",
        code="engine_cannot",
    )


def check_backup(request: BackupRequest) -> None:
    """Refuse by name what ``backup.php`` cannot do, before it runs."""
    if request.settings:
        raise cannot(f"choose the settings of a backup ({', '.join(sorted(request.settings))})", "backup.php")
    if request.items != ItemChoice():
        raise cannot("choose sections and activities", "backup.php")
    if request.as_user is not None:
        raise cannot("act as another user; the scripts act as the first administrator", "backup.php")


def check_restore(request: RestoreRequest) -> None:
    """Refuse by name what ``restore_backup.php`` cannot do, before it runs."""
    if request.mode == "replace":
        raise cannot("replace what a course holds", "restore_backup.php")
    asked = {
        "choose the full name": request.fullname,
        "choose the short name": request.shortname,
        "choose the ID number": request.idnumber,
        "choose the start date": request.startdate,
        "choose the visibility": request.visible,
        f"choose settings ({', '.join(sorted(request.settings))})": request.settings or None,
        "choose how people are enrolled": request.enrolments,
        "overwrite the course's configuration": request.overwrite_config or None,
        "choose sections and activities": None if request.items == ItemChoice() else request.items,
        "restore without people where they conflict": None if request.users_conflict == "stop" else True,
        "act as another user; the scripts act as the first administrator": request.as_user,
    }
    for what, value in asked.items():
        if value is not None:
            raise cannot(what, "restore_backup.php")


def restored_id(ended: Ended) -> int | None:
    """The id in the script's last heading (``== Restored course ID: 42 ==``), whatever the site's language."""
    for line in reversed(ended.output.splitlines()):
        if line.strip():
            found = re.fullmatch(r"=+\s*\D*?(\d+)\s*=*", line.strip())
            return int(found.group(1)) if found else None
    return None


def is_placeholder(shortname: str, visible: bool) -> bool:
    """Whether a course is the empty one that the script makes first and leaves behind when it fails."""
    return not visible and _PLACEHOLDER.fullmatch(shortname) is not None


def failure(ended: Ended) -> MoodlectlError:
    """What went wrong, from what the script printed."""
    text = " ".join(ended.lines)
    details = {"exit_status": ended.status, "last_lines": ended.lines[-10:]}
    conflict = re.search(r"Trying to restore user '([^']*)' from backup file will cause conflict", text)
    if conflict or "restore_not_executable_awaiting_required" in text:
        who = f": the account '{conflict.group(1)}'" if conflict else ""
        return Refused(
            f"Moodle's pre-check stopped the restore, most often because accounts conflict{who}; the script does not "
            "say which.",
            "'moodlectl backup users FILE --against SITE' shows who conflicts; 'moodlectl backup rewrite' with "
            "--map OLD=NEW or --without-users writes a copy that restores.",
            code="precheck",
            details=details,
        )
    last = ended.lines[-1] if ended.lines else "nothing"
    said = next((line for line in reversed(ended.lines) if line.startswith("!!!")), last)
    return Failed(f"Moodle's script failed: {said.strip('! ')}", code="script_failed", details=details)
