"""What Moodle's scripts cannot do, refused by name before anything runs. Pure."""

from __future__ import annotations

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, OutcomeUnknown, Refused
from moodlectl.site.admincli.scripts import BACKUP, RESTORE
from moodlectl.site.port import BackupRequest, ItemChoice, RestoreRequest

_HINT = (
    "The engine 'runner' can, where sudo lets PHP run as the web server's user: take the line engine = \"admin-cli\" "
    "out of the site's settings."
)


def cannot(what: str, why: str) -> Refused:
    """The refusal: ``what`` is asked, ``why`` names the script and what it lacks."""
    return Refused(f"The engine admin-cli cannot {what}: {why}.", _HINT, code="engine_cannot")


def no_option(what: str, script: str) -> Refused:
    """The refusal of what a script has no option for."""
    return cannot(what, f"admin/cli/{script} has no option for it")


def no_script(what: str) -> Refused:
    """The refusal of what no script does."""
    return cannot(what, "Moodle has no script for it")


def no_account() -> OutcomeUnknown:
    """The answer to what became of a deed: nobody on the host keeps an account of what a script did."""
    return OutcomeUnknown(
        "The engine admin-cli cannot find out what became of it: Moodle's scripts keep no account of what they did.",
        "Look at the course, and at the lists of courses and backups, on the site.",
        code="no_account",
    )


def no_token(name: str, what: str) -> AccessError:
    """The error for what is looked up over REST, where there is no token."""
    return AccessError(
        f"The site '{name}' has no token, and with the engine admin-cli {what} is asked over web services.",
        f"Give it one: moodlectl site add {name} --replace … --token-stdin",
        code="notoken",
    )


def no_exchange(config: SiteConfig, what: str) -> AccessError:
    """The error for what needs a folder on the host, where none is named."""
    return AccessError(
        f"The site '{config.name}' names no exchange_dir, a folder on its host, and {what} needs one.",
        "Make a folder there that both you and the web server's user may use, and give it with --exchange-dir DIR.",
        code="noexchange",
    )


def check_acting(config: SiteConfig, as_user: str | None) -> None:
    """The scripts act as the site's first administrator, whoever is asked for. Raises Refused."""
    acting = as_user or config.acting
    if acting is not None:
        raise cannot(f"act as {acting}", "the scripts always act as the site's first administrator")


def check_backup(request: BackupRequest, config: SiteConfig) -> None:
    """Refuse what ``backup.php`` has no option for. Raises Refused."""
    check_acting(config, request.as_user)
    if request.settings:
        raise no_option(f"choose the settings of a backup ({', '.join(sorted(request.settings))})", BACKUP)
    if request.items != ItemChoice():
        raise no_option("choose sections and activities", BACKUP)


def check_restore(request: RestoreRequest, config: SiteConfig) -> None:
    """Refuse what ``restore_backup.php`` has no option for. Raises Refused."""
    check_acting(config, request.as_user)
    if request.source.course is not None:
        raise no_script("copy a course, or import one with what was there brought to safety first")
    if request.mode == "replace":
        raise no_option("replace what a course holds", RESTORE)
    asked = {
        "choose the full name": request.fullname is not None,
        "choose the short name": request.shortname is not None,
        "choose the ID number": request.idnumber is not None,
        "choose the start date": request.startdate is not None,
        "choose the visibility": request.visible is not None,
        f"choose settings ({', '.join(sorted(request.settings))})": bool(request.settings),
        "choose how people are enrolled": request.enrolments is not None,
        "keep the enrolments": request.keep_enrolments,
        "keep the groups": request.keep_groups,
        "overwrite the course's configuration": request.overwrite_config,
        "choose sections and activities": request.items != ItemChoice(),
        "restore without people where they conflict": request.users_conflict != "stop",
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise no_option(what, RESTORE)
