"""What ``site check`` looks at besides, where only Moodle's scripts may be run. Reads only."""

from __future__ import annotations

from moodlectl.errors import MoodlectlError
from moodlectl.site.admincli import scripts
from moodlectl.site.admincli.looking import Means
from moodlectl.site.live import doctor
from moodlectl.site.live.findings import Finding, error, failed, ok, warning
from moodlectl.site.port import Check, Verdict

_NO_COURSE = 2147483647
_BOTH = "Make a folder there that both you and the web server's user may write to."


def check(means: Means) -> list[Check]:
    """Web services, hops and scripts as for every site, then what the scripts can do and the exchange folder."""
    lines = [_without_help(means, line) for line in doctor.check(means.config, means.web, None)]
    broken = [line for line in lines if line.verdict is Verdict.ERROR]
    if any(line.name.startswith("hop ") for line in broken):
        return lines
    return [*lines, _restoring(means), _tidying(means), *_exchange(means), *_acting(means)]


def _without_help(means: Means, line: Check) -> Check:
    """A sudo rule may allow the one script that needs no options without any, so not even ``--help``."""
    last = means.config.via[-1] if means.config.via else ""
    name = f"admin/cli/{scripts.AUTOMATED}"
    if line.name != name or line.verdict is not Verdict.ERROR or not last.startswith("user:"):
        return line
    asked = ["sudo", "-n", "-l", "-u", last.removeprefix("user:"), "--", means.config.php]
    for root in scripts.roots(means.config.moodle_dir or "."):
        try:
            if means.host.file(*asked, scripts.script_path(root, scripts.AUTOMATED)).status == 0:
                return ok(name, "may be run, without options")
        except MoodlectlError:
            continue
    return line


def _restoring(means: Means) -> Finding:
    try:
        known = means.host.options(scripts.RESTORE)
    except MoodlectlError as trouble:
        return failed("restores", trouble)
    if "courseid" in known:
        return ok("restores", "into new courses, and merged into those there are")
    return warning("restores", "into new courses only", "This release's restore_backup.php has no --courseid.")


def _tidying(means: Means) -> Finding:
    name = f"admin/cli/{scripts.DELETE}"
    try:
        means.host.options(scripts.DELETE)
    except MoodlectlError as trouble:
        message = f"may not be run ({trouble.message}): what a failed restore leaves behind stays"
        return warning(name, message, "Allow it, too; Moodle has it since 4.1.")
    return ok(name, "may be run")


def _exchange(means: Means) -> list[Finding]:
    """Who may do what in the exchange folder; what lies there is people's data."""
    folder = means.config.exchange_dir
    if folder is None:
        hint = "Restores need a folder on the host: give it with --exchange-dir DIR."
        return [warning("exchange_dir", "none: restores are not possible", hint)]
    try:
        stat = means.host.file("stat", "-L", "-c", "%F|%a|%U", "--", folder)
        lines = [judge(folder, stat.output.decode(errors="replace").strip())] if stat.status == 0 else []
        return [*lines, _web_user_writes(means, folder)]
    except MoodlectlError as trouble:
        return [failed("exchange_dir", trouble)]


def judge(folder: str, stat: str) -> Finding:
    """The line about an exchange folder, from ``stat``'s ``%F|%a|%U``. Pure."""
    kind, mode, owner = [*stat.split("|"), "", ""][:3]
    name = "exchange_dir's permissions"
    bits = int(mode, 8) if mode and not mode.strip("01234567") else 0
    if kind != "directory":
        return error(name, f"{folder} is no folder ({kind or 'unknown'})", _BOTH, status=3)
    if bits & 0o002 and not bits & 0o1000:
        hint = f"Everybody there could exchange backups for others: chmod o-w {folder}, and give both users one group."
        return warning(name, f"{folder} ({mode}, of {owner}) may be written to by everybody", hint)
    if bits & 0o001:
        hint = (
            "Backups hold people's data, and what Moodle writes there everybody may read: let only the web server's "
            f"user and your own in, by a group they share (chmod 2770 {folder})."
        )
        return warning(name, f"{folder} ({mode}, of {owner}) may be entered by everybody", hint)
    return ok(name, f"{folder} ({mode}, of {owner})")


def _web_user_writes(means: Means, folder: str) -> Finding:
    """``backup.php`` looks at its destination before it looks for the course; there is none of that id."""
    name = "exchange_dir for the web server"
    try:
        said = means.host.script(scripts.BACKUP, scripts.backup_options(_NO_COURSE, folder))
    except MoodlectlError as trouble:
        return failed(name, trouble)
    if scripts.destination_refused(said):
        return error(name, f"the web server's user may not write to {folder}", _BOTH, status=3)
    return ok(name, "can be written to")


def _acting(means: Means) -> list[Finding]:
    if means.config.acting is None:
        return []
    message = f"'{means.config.acting}' cannot act: Moodle's scripts always act as the site's first administrator"
    return [error("as", message, "Take the key 'as' out of the site's settings.", status=3)]
