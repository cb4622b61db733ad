"""What the host tells of its Moodle, judged line by line. Pure: from the answer of ``site_state``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moodlectl.config import SiteConfig
from moodlectl.site.live.findings import Finding, ago, count, error, ok, size, skipped, warning

State = Mapping[str, Any]

GIGABYTE = 1_000_000_000
_BACKUP_STATUSES = {"0": "failed", "2": "unfinished", "4": "with warnings"}
_ENVIRONMENT = {"php_extension": "PHP extensions", "database": "database", "php": "PHP version"}
_NEEDED = ("moodle/backup:backupcourse", "moodle/restore:restorecourse")


def judge(config: SiteConfig, state: State) -> list[Finding]:
    """The lines about the site's state. A part the host could not find out is a skipped line."""
    parts: list[tuple[str, str, Callable[[Any, State], list[Finding]]]] = [
        ("environment", "PHP extensions", _environment),
        ("upgrade", "upgrade running", _upgrade),
        ("space", "free space", _space),
        ("cron", "cron", _cron),
        ("tasks", "tasks", _tasks),
        ("automated", "automated backups", _automated),
        ("settings", "settings", _settings),
        ("capabilities", "permissions", _capabilities),
    ]
    lines: list[Finding] = []
    for key, name, look in parts:
        value = state.get(key)
        problem = value.get("problem") if isinstance(value, Mapping) else None
        if value is None or problem:
            lines.append(skipped(name, str(problem or "the host did not say")))
        else:
            lines += look(value, state)
    return lines


def _environment(wrong: Any, _: State) -> list[Finding]:
    lines = []
    for each in wrong:
        what = each.get("info") or each.get("part")
        versions = f" (is {each['current']}, wanted {each['needed']})" if each.get("needed") else ""
        name = _ENVIRONMENT.get(each.get("part"), "PHP settings")
        say = error if each.get("level") == "required" else warning
        word = "missing or too old" if name == "PHP extensions" else "not as Moodle wants it"
        lines.append(say(name, f"{what}: {word}{versions}", "Mend it for the PHP of the command line too."))
    return lines or [ok("PHP extensions", "all that Moodle wants, and the database is recent enough")]


def _upgrade(value: Any, _: State) -> list[Finding]:
    if value.get("running"):
        return [error("upgrade running", "an upgrade runs right now", "Wait until it is done.", status=6)]
    return []


def _space(value: Any, _: State) -> list[Finding]:
    places, largest = value["places"], int(value.get("largest_backup") or 0)
    lines = [
        _room("space to unpack", places["temp"], largest, "where backups are unpacked"),
        _room("space to store", places["data"], largest, "where files are stored"),
    ]
    if value.get("filesystem"):
        elsewhere = f"files are kept by {value['filesystem']}, whose room is not known here"
        lines.append(ok("file storage", elsewhere))
    return lines


def _room(name: str, place: Mapping[str, Any], largest: int, what: str) -> Finding:
    directory, free = place["dir"], place.get("free")
    if not place.get("writable"):
        return error(
            name,
            f"PHP may not write to {directory}, {what}",
            "Run PHP as the web server's user (--via user:www-data), or put the permissions right.",
            status=3,
        )
    if free is None:
        return warning(name, f"the host does not say how much is free in {directory}")
    # The archive and what is unpacked from it lie there at the same time.
    wanted = max(3 * largest, GIGABYTE)
    room = f"{size(free)} free in {directory}, {what}"
    if free < max(2 * largest, GIGABYTE // 10):
        biggest = f"; the largest backup has {size(largest)}" if largest else ""
        return error(name, f"only {room}{biggest}", "Free some space before backing up or restoring.")
    if free < wanted:
        return warning(name, f"only {room}", "Large courses may not fit.")
    return ok(name, room)


def _cron(value: Any, state: State) -> list[Finding]:
    hint = "Have admin/cli/cron.php run every minute; queued and automated backups depend on it."
    if not value.get("enabled", True):
        return [warning("cron", "cron is switched off on the site", hint)]
    last = value.get("last")
    if not last:
        return [warning("cron", "cron has never run", hint)]
    since = int(state["now"]) - int(last)
    if since > 900:
        return [warning("cron", f"cron last ran {ago(since)} ago", hint)]
    return [ok("cron", f"ran {ago(since)} ago")]


def _tasks(value: Any, state: State) -> list[Finding]:
    lines = []
    failing, ours = int(value["failing"]), int(value["backups_failing"])
    due, oldest = int(value["due"]), value.get("oldest")
    late = int(state["now"]) - int(oldest) if oldest else 0
    where = "Look at Site administration > Server > Tasks > Ad hoc tasks."
    if ours:
        thing = count(ours, "queued backup, restore or copy", "queued backups, restores or copies")
        lines.append(warning("tasks", f"failing again and again: {thing}", where))
    if failing > ours:
        thing = count(failing - ours, "other queued task")
        lines.append(warning("tasks", f"failing again and again: {thing}", where))
    if due and late > 3600:
        lines.append(warning("tasks", f"{count(due, 'queued task')} due, the oldest for {ago(late)}", where))
    scheduled = [str(name) for name in value["scheduled_failing"]]
    if scheduled:
        names = ", ".join(name.rsplit("\\", 1)[-1] for name in scheduled[:5])
        more = f" and {len(scheduled) - 5} more" if len(scheduled) > 5 else ""
        place = "Look at Site administration > Server > Tasks > Scheduled tasks."
        lines.append(warning("scheduled tasks", f"failing: {names}{more}", place))
    waiting = int(value["backups_waiting"])
    queue = f"{count(waiting, 'backup, restore or copy', 'backups, restores or copies')} queued, "
    return lines or [ok("tasks", f"{queue if waiting else ''}{count(due, 'task')} due, none failing")]


def _automated(value: Any, _: State) -> list[Finding]:
    name, folder = "automated backups", "automated backups' folder"
    page = "Site administration > Courses > Backups > Automated backup setup"
    active, storage = int(value["active"]), int(value["storage"])
    lines = []
    # backup_cron_helper::remove_excess_backups: with 0 it removes all but min_kept, the new one too.
    if int(value["max_kept"]) == 0 and int(value["delete_days"]) > 0 and active:
        lines.append(
            error(
                "automated backups kept",
                f"'Maximum kept' is unlimited (0) and 'Delete backups older than' is {value['delete_days']} "
                "days: Moodle then deletes every automated backup of a course down to "
                f"{value['min_kept']}, new ones too",
                f"Set 'Maximum kept' to a number, or 'Delete backups older than' to never: {page}.",
            )
        )
    if storage in (1, 2) and active:
        directory = value["destination"]
        if not value["destination_there"]:
            lines.append(error(folder, f"{directory or 'no folder'} is not there", f"Name one: {page}."))
        elif not value["destination_writable"]:
            hint = "Let the web server's user write there."
            lines.append(error(folder, f"PHP may not write to {directory}", hint))
        else:
            lines.append(ok(folder, f"{directory} can be written to"))
    when = {0: "switched off", 1: "on", 2: "made on request only (manual)"}.get(active, str(active))
    where = {0: "in the course", 1: "in a folder", 2: "in the course and in a folder"}.get(storage, "?")
    if active == 1 and "1" not in str(value["weekdays"]):
        lines.append(warning(name, "on, but on no day of the week", f"Choose days: {page}."))
    elif active == 1 and value.get("task_disabled"):
        hint = "Switch on 'Automated backups' among the scheduled tasks."
        lines.append(warning(name, "on, but their scheduled task is switched off", hint))
    else:
        lines.append(ok(name, f"{when}, kept {where}" if active else when))
    bad = {word: int(value["statuses"].get(code, 0)) for code, word in _BACKUP_STATUSES.items()}
    if active and any(bad.values()):
        said = ", ".join(f"{number} {word}" for word, number in bad.items() if number)
        lines.append(warning("automated backups' results", f"courses: {said}", "Look at Reports > Backups."))
    return lines


def _settings(value: Any, _: State) -> list[Finding]:
    lines = []
    if value.get("duplicate_admin"):
        lines.append(
            warning(
                "user conflicts",
                "'import_general_duplicate_admin_allowed' is on: restores make a second account, silently, "
                "for everybody whose name is taken",
                "Switch it off unless you need it: Site administration > Courses > Backups > General import "
                "defaults.",
            )
        )
    if value.get("keep_temp"):
        kept = "$CFG->keeptempdirectoriesonbackup is on: every backup and restore leaves its unpacked copy"
        lines.append(warning("temporary folders", kept, "Take it out of config.php."))
    return lines


def _capabilities(value: Any, _: State) -> list[Finding]:
    user, where = value["username"], value["where"]
    lines = []
    none = [name for name, place in where.items() if place == "none"]
    some = [name for name, place in where.items() if place == "some"]
    hint = "Act as another user (--as USERNAME, or 'as' of the site), or give that one a role that has them."
    vital = [name for name in none if name in _NEEDED]
    if vital:
        lines.append(error("permissions", f"{user} has nowhere {', '.join(vital)}", hint, status=3))
    rest = [name for name in none if name not in _NEEDED]
    if rest:
        lines.append(warning("permissions", f"{user} has nowhere {', '.join(rest)}", hint))
    if some:
        lines.append(ok("permissions", f"{user} has in some courses only: {', '.join(some)}"))
    return lines or [ok("permissions", f"{user} may back up and restore every course")]
