"""What it means when PHP on the host does not answer: the last words of ssh, sudo, docker and php,
understood.

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

    ``lines`` are the last lines it wrote that were no answer; ``greeted`` whether Moodle had started;
    ``begun`` whether a deed had said that it makes its first lasting change; ``what`` the sentence for the
    case that nothing better is known.
    """

    where: str
    php: str
    status: int | None
    lines: Sequence[str]
    greeted: bool = False
    begun: bool = False
    deed: bool = False
    what: str = ""


@dataclass(frozen=True)
class _Sign:
    """A pattern in the last lines, and what it tells."""

    pattern: str
    kind: type[MoodlectlError]
    code: str
    message: str
    hint: str


_RULE = "On the host, allow it in sudoers: YOURNAME ALL=(www-data) NOPASSWD: /usr/bin/php"
_NO_PHP = "there is no PHP command line on the host"
_GIVE_PHP = "Install php-cli there, or give its path with --php PATH."

# In both tables the first sign that is found tells; the more particular ones come first.

# What ssh says of its connection, which it then ends with status 255.
_LINK = (
    _Sign(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        AccessError,
        "host_key_changed",
        "the host's ssh key has changed",
        "Ask the host's administrator whether it was changed on purpose; if so: ssh-keygen -R HOST",
    ),
    _Sign(
        r"Host key verification failed|host key is known for",
        AccessError,
        "host_key_unknown",
        "ssh does not know the host's key",
        "Connect once by hand with ssh, compare the key with what the host's administrator names, accept it.",
    ),
    _Sign(
        r"Permission denied( \(|, please)|Too many authentication failures|No supported authentication methods",
        AccessError,
        "ssh_denied",
        "the host does not let this user in by ssh",
        "Try it by hand: ssh -o BatchMode=yes HOST true. The key must be in an agent or in ~/.ssh/config.",
    ),
    _Sign(
        r"Could not resolve hostname|Name or service not known",
        Unreachable,
        "host_unknown",
        "there is no host of that name",
        "Look at the ssh: hop of the site.",
    ),
    _Sign(
        r"Connection refused",
        Unreachable,
        "connection_refused",
        "nothing listens for ssh on that host and port",
        "Look at the ssh: hop of the site, and whether the host is up.",
    ),
    _Sign(
        r"Bad configuration option|Bad owner or permissions|command-line line \d+",
        AccessError,
        "ssh_config",
        "ssh does not accept its configuration",
        "Its own words are in the details; look at ~/.ssh/config.",
    ),
    _Sign(
        r"timed out|No route to host|Network is unreachable|not responding|Connection reset|Broken pipe"
        r"|Connection (to .* )?closed|closed by remote host",
        Unreachable,
        "connection_lost",
        "the connection to the host was lost",
        "Look at the network, and whether the host is up.",
    ),
)

# What the other hops and PHP itself say before Moodle has started.
_START = (
    _Sign(
        r"sudo: .*(password is required|terminal is required)",
        AccessError,
        "sudo_password",
        "sudo asks for a password",
        _RULE,
    ),
    _Sign(
        r"sudo: unknown user|unable to find user|no matching entries in passwd",
        AccessError,
        "system_user_unknown",
        "there is no such system user on the host",
        "Look at the user: hop of the site.",
    ),
    _Sign(
        r"is not allowed to (execute|run)|is not in the sudoers|may not run sudo",
        AccessError,
        "sudo_denied",
        "sudo does not allow it",
        _RULE,
    ),
    _Sign(
        r"No such container|Error from server \(NotFound\)",
        NotFound,
        "container_unknown",
        "there is no such container or pod",
        "Names are shown by docker ps, or kubectl get pods.",
    ),
    _Sign(
        r"container \S+ is (not running|paused)|cannot exec into a container in a completed pod",
        Unreachable,
        "container_stopped",
        "the container does not run",
        "Start it.",
    ),
    _Sign(
        r"permission denied while trying to connect to the docker|Error from server \(Forbidden\)"
        r"|must be logged in to the server",
        AccessError,
        "container_denied",
        "this user may not enter containers there",
        "Ask those who run them.",
    ),
    _Sign(
        r"Cannot connect to the Docker daemon|Unable to connect to the server"
        r"|was refused - did you specify the right host",
        Unreachable,
        "container_service",
        "the container service does not answer",
        "Look whether it runs.",
    ),
    _Sign(
        r"moodlectl: PHP \S+ is too old",
        AccessError,
        "php_too_old",
        "the host's PHP command line is older than 7.2",
        "Give a newer one with --php PATH, the same that the web server uses.",
    ),
    _Sign(
        r"(ssh|sudo|docker|kubectl)\"?: ((command )?not found|executable file not found)",
        AccessError,
        "program_missing",
        "a program that the hops need is not installed",
        "Its name is in the details; look at the hops of the site.",
    ),
    _Sign(
        r"sudo: .*command not found|executable file not found|exit code 127",
        NotFound,
        "php_missing",
        _NO_PHP,
        _GIVE_PHP,
    ),
    _Sign(
        r"Parse error",
        AccessError,
        "php_parse",
        "the host's PHP cannot read the program",
        "It needs PHP 7.2 or newer; its own words are in the details.",
    ),
    _Sign(
        r"account is (currently )?not available|restricted|allows sftp|only supports",
        AccessError,
        "no_shell",
        "the account on the host has no shell to run PHP with",
        "Use another account.",
    ),
)


def explain(end: End) -> MoodlectlError:
    """The error for a session that ended without its answer; the last lines go with it as evidence."""
    details = {"where": end.where, "exit_status": end.status, "last_lines": list(end.lines)}
    sign = _recognise(end)
    if end.begun:
        return OutcomeUnknown(
            f"{end.where}: {sign.message}, after the site had begun to change",
            "moodlectl job resume looks at the site and finds out what it did.",
            code=sign.code,
            details=details,
        )
    nothing = " (nothing was changed)" if end.deed else ""
    return sign.kind(f"{end.where}: {sign.message}{nothing}", sign.hint, code=sign.code, details=details)


def translate(event: Mapping[str, Any], details: Mapping[str, Any]) -> MoodlectlError:
    """The error that an ``error`` event of the host tells of, with its code, message and hint."""
    kind = _CLASSES.get(str(event.get("class")), Failed)
    message = str(event.get("message") or "the host reported an error without a message")
    code = str(event.get("code") or kind.default_code)
    return kind(message, str(event.get("hint") or "") or None, code=code, details=details)


def _recognise(end: End) -> _Sign:
    # Once Moodle has started, ssh has let us in: of its troubles only the loss of the connection is left.
    link = _LINK[-1:] if end.greeted else _LINK
    signs = (*(link if end.status == 255 else ()), *(() if end.greeted else _START))
    text = "\n".join(end.lines)
    found = next((sign for sign in signs if re.search(sign.pattern, text, re.IGNORECASE)), None)
    return found or _plain(end)


def _plain(end: End) -> _Sign:
    """What the exit status alone tells."""
    verbose = "Run it again with -v to see what the host says."
    if end.what:
        return _Sign("", Unreachable, "unreachable", end.what, verbose)
    if end.status in (126, 127) and not end.greeted:
        return _Sign("", NotFound, "php_missing", f"there is no {end.php} to run on the host", _GIVE_PHP)
    if end.status is not None and (end.status == 137 or end.status < 0):
        what = "PHP was killed on the host" if end.status > 0 else f"it was killed by signal {-end.status}"
        memory = "Where nobody did it on purpose, memory may have run out; the kernel's log tells."
        return _Sign("", Unreachable, "killed", what, memory)
    if end.status == 255 and end.where.startswith("ssh:"):
        lost = "the connection to the host was lost"
        return _Sign(
            "", Unreachable, "connection_lost", lost, "Look at the network, and whether the host is up."
        )
    message = f"PHP ended before it answered (exit status {end.status})"
    return _Sign("", Unreachable, "unreachable", message, verbose)
