"""What it means when PHP on the host does not answer: the last words of ssh, sudo, docker and php, understood.

Pure: from how a command ended to the error that says so, with the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moodlectl.errors import (
    AccessError,
    Failed,
    MoodlectlError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unreachable,
    UsageError,
)

_CLASSES: Mapping[str, type[MoodlectlError]] = {
    "usage": UsageError,
    "access": AccessError,
    "notfound": NotFound,
    "refused": Refused,
    "failed": Failed,
}


@dataclass(frozen=True)
class End:
    """How a session ended that owed an answer.

    ``lines`` are the last lines it wrote that were no answer; ``greeted`` whether Moodle had started; ``begun``
    whether a deed had said that it makes its first lasting change; ``what`` the sentence for the case that nothing
    better is known.
    """

    where: str
    php: str
    status: int | None
    lines: Sequence[str]
    greeted: bool = False
    begun: bool = False
    deed: bool = False
    what: str = ""


_UNKNOWN_KEY = (
    AccessError,
    "host_key",
    "ssh does not know the host's key",
    "Connect once by hand with ssh, compare the key with what the host's administrator names, and accept it.",
)
_RULE = "On the host, allow it in sudoers: YOURNAME ALL=(www-data) NOPASSWD: /usr/bin/php"

# The first pattern that is found in the last lines tells; the more particular ones come first.
_LINK: list[tuple[str, tuple[type[MoodlectlError], str, str, str]]] = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        (
            AccessError,
            "host_key",
            "the host's ssh key has changed",
            "Ask the host's administrator whether it was changed on purpose; if so: ssh-keygen -R HOST",
        ),
    ),
    (r"Host key verification failed|host key is known for", _UNKNOWN_KEY),
    (
        r"Permission denied \(|Too many authentication failures|No supported authentication methods",
        (
            AccessError,
            "ssh_denied",
            "the host does not let this user in by ssh",
            "Try it by hand: ssh -o BatchMode=yes HOST true. A key must be in an agent or in ~/.ssh/config.",
        ),
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        (Unreachable, "host_unknown", "there is no host of that name", "Look at the ssh: hop of the site."),
    ),
    (
        r"connect to host .*: Connection refused",
        (Unreachable, "connection_refused", "nothing listens for ssh on that host", "Look at host and port."),
    ),
    (
        r"timed out|No route to host|Network is unreachable|not responding|Connection reset|Broken pipe"
        r"|Connection (to .* )?closed|closed by remote host|Connection closed by",
        (Unreachable, "connection_lost", "the connection to the host was lost", "Look at the network."),
    ),
]
_START: list[tuple[str, tuple[type[MoodlectlError], str, str, str]]] = [
    (
        r"sudo: .*(password is required|terminal is required)|askpass",
        (AccessError, "sudo_password", "sudo asks for a password", _RULE),
    ),
    (
        r"sudo: unknown user|unable to find user|no matching entries in passwd|user .* does not exist",
        (AccessError, "user_unknown", "there is no such system user on the host", "Look at the user: hop."),
    ),
    (
        r"is not allowed to (execute|run)|is not in the sudoers|may not run sudo",
        (AccessError, "sudo_denied", "sudo does not allow it", _RULE),
    ),
    (
        r"No such container|Error from server \(NotFound\)",
        (NotFound, "container", "there is no such container or pod", "docker ps, or kubectl get pods."),
    ),
    (
        r"container .* is not running|cannot exec into a container in a completed pod|container is paused",
        (Unreachable, "container", "the container does not run", "Start it."),
    ),
    (
        r"permission denied while trying to connect to the [Dd]ocker|Error from server \(Forbidden\)|Unauthorized",
        (AccessError, "container", "this user may not enter containers there", "Ask who runs them."),
    ),
    (
        r"Cannot connect to the Docker daemon|Unable to connect to the server|was refused - did you specify",
        (Unreachable, "container", "the container service does not answer", "Look whether it runs."),
    ),
    (
        r"moodlectl: PHP \S+ is too old",
        (
            AccessError,
            "php_too_old",
            "the host's PHP command line is older than 7.2",
            "Give a newer one with --php PATH, the same that the web server uses.",
        ),
    ),
    (
        r"sudo: .*command not found",
        (
            NotFound,
            "php_missing",
            "there is no PHP command line on the host",
            "Install php-cli there, or give its path with --php PATH.",
        ),
    ),
    (
        r"(ssh|sudo|docker|kubectl): (command )?not found|(ssh|sudo|docker|kubectl)\": executable file not found",
        (
            AccessError,
            "program_missing",
            "a program of the hops is not installed",
            "Look at the site's hops.",
        ),
    ),
    (
        r"not found|No such file or directory|Unknown command",
        (
            NotFound,
            "php_missing",
            "there is no PHP command line on the host",
            "Install php-cli there, or give its path with --php PATH.",
        ),
    ),
    (
        r"(PHP )?Parse error",
        (AccessError, "php_parse", "the host's PHP cannot read the program", "It needs PHP 7.2 or newer."),
    ),
    (
        r"account is currently not available|restricted|only supports? (sftp|git)|This service allows sftp",
        (AccessError, "no_shell", "the account on the host has no shell to run PHP", "Use another account."),
    ),
]


def explain(end: End) -> MoodlectlError:
    """The error for a session that ended without its answer; the last lines go with it as evidence."""
    details = {"where": end.where, "exit_status": end.status, "last_lines": list(end.lines)}
    text = "\n".join(end.lines)
    found = _find(_LINK, text)
    if found is None and not end.greeted:
        found = _find(_START, text) if end.status != 127 else _find([*_START[:-2]], text)
    kind, code, message, hint = found or _plain(end)
    if end.begun:
        return OutcomeUnknown(
            f"{end.where}: {message}, after the site had begun to change",
            "moodlectl job resume looks at the site and finds out what it did.",
            code=code,
            details=details,
        )
    nothing = " (nothing was changed)" if end.deed else ""
    return kind(f"{end.where}: {message}{nothing}", hint, code=code, details=details)


def translate(event: Mapping[str, Any], details: Mapping[str, Any]) -> MoodlectlError:
    """The error that an ``error`` event of the host tells of, with its code, message and hint."""
    kind = _CLASSES.get(str(event.get("class")), Failed)
    message = str(event.get("message") or "the host reported an error without a message")
    code = str(event.get("code") or kind.default_code)
    return kind(message, str(event.get("hint") or "") or None, code=code, details=details)


def _find(
    table: list[tuple[str, tuple[type[MoodlectlError], str, str, str]]], text: str
) -> tuple[type[MoodlectlError], str, str, str] | None:
    return next((meaning for pattern, meaning in table if re.search(pattern, text)), None)


def _plain(end: End) -> tuple[type[MoodlectlError], str, str, str]:
    if end.what:
        return Unreachable, "unreachable", end.what, "Run it again with -v to see what the host says."
    if end.status in (126, 127) and not end.greeted:
        message = f"{end.php} cannot be run on the host"
        return NotFound, "php_missing", message, "Install php-cli there, or give its path with --php PATH."
    if end.status in (137, -9):
        hint = "The host may have run out of memory; its kernel log tells."
        return Unreachable, "killed", "PHP was killed on the host", hint
    if end.status == 255 and not end.greeted:
        return Unreachable, "connection_lost", "ssh or PHP ended without a word", "Try the hops by hand."
    message = f"PHP ended before it answered (exit status {end.status})"
    return Unreachable, "unreachable", message, "Run it again with -v to see what the host says."
