"""The last words of ssh, sudo, containers and PHP, as they are really said, and what they mean."""

from __future__ import annotations

import pytest

from moodlectl.errors import (
    AccessError,
    Failed,
    MoodlectlError,
    NotFound,
    OutcomeUnknown,
    Unreachable,
    UsageError,
)
from moodlectl.site.trouble import End, explain, translate

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/bob/.ssh/known_hosts:3
Host key for web1 has changed and you have requested strict checking.
Host key verification failed."""

# status, what was said, class, code
SAID: list[tuple[int, str, type[MoodlectlError], str]] = [
    (255, CHANGED, AccessError, "host_key_changed"),
    (255, "Host key verification failed.", AccessError, "host_key_unknown"),
    (
        255,
        "No ED25519 host key is known for web1 and you have requested strict checking.",
        AccessError,
        "host_key_unknown",
    ),
    (255, "bob@web1: Permission denied (publickey,password).", AccessError, "ssh_denied"),
    (255, "Received disconnect from ::1: 2: Too many authentication failures", AccessError, "ssh_denied"),
    (255, "ssh: Could not resolve hostname wb1: Name or service not known", Unreachable, "host_unknown"),
    (255, "ssh: connect to host web1 port 22: Connection refused", Unreachable, "connection_refused"),
    (255, "ssh: connect to host web1 port 22: Connection timed out", Unreachable, "connection_lost"),
    (255, "ssh: connect to host web1 port 22: No route to host", Unreachable, "connection_lost"),
    (255, "Timeout, server web1 not responding.", Unreachable, "connection_lost"),
    (255, "client_loop: send disconnect: Broken pipe", Unreachable, "connection_lost"),
    (255, "Connection to web1 closed by remote host.", Unreachable, "connection_lost"),
    (255, "kex_exchange_identification: Connection closed by remote host", Unreachable, "connection_lost"),
    (255, "/home/bob/.ssh/config: line 3: Bad configuration option: hots", AccessError, "ssh_config"),
    (1, "sudo: a password is required", AccessError, "sudo_password"),
    (1, "sudo: a terminal is required to read the password", AccessError, "sudo_password"),
    (1, "sudo: unknown user: www", AccessError, "system_user_unknown"),
    (1, "sudo: unknown user www", AccessError, "system_user_unknown"),
    (
        1,
        "Sorry, user bob is not allowed to execute '/usr/bin/php' as www-data on web1.",
        AccessError,
        "sudo_denied",
    ),
    (1, "bob is not in the sudoers file.", AccessError, "sudo_denied"),
    (1, "sudo: php: command not found", NotFound, "php_missing"),
    (127, "bash: line 1: php: command not found", NotFound, "php_missing"),
    (127, "sh: 1: php: not found", NotFound, "php_missing"),
    (127, "bash: line 1: /opt/php/bin/php: No such file or directory", NotFound, "php_missing"),
    (127, "bash: line 1: sudo: command not found", AccessError, "program_missing"),
    (127, "sh: 1: docker: not found", AccessError, "program_missing"),
    (126, "bash: line 1: /opt/php: Permission denied", NotFound, "php_missing"),
    (
        126,
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "php": '
        "executable file not found in $PATH: unknown",
        NotFound,
        "php_missing",
    ),
    (1, "Error response from daemon: No such container: moodle", NotFound, "container_unknown"),
    (1, "Error response from daemon: container 0f3e1a is not running", Unreachable, "container_stopped"),
    (
        1,
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        Unreachable,
        "container_service",
    ),
    (
        1,
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
        AccessError,
        "container_denied",
    ),
    (
        1,
        "unable to find user www-data: no matching entries in passwd file",
        AccessError,
        "system_user_unknown",
    ),
    (1, 'Error from server (NotFound): pods "web-0" not found', NotFound, "container_unknown"),
    (1, 'Error from server (Forbidden): pods "web-0" is forbidden', AccessError, "container_denied"),
    (1, "error: You must be logged in to the server (Unauthorized)", AccessError, "container_denied"),
    (
        1,
        "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout",
        Unreachable,
        "container_service",
    ),
    (78, "moodlectl: PHP 5.6.40 is too old", AccessError, "php_too_old"),
    (255, "PHP Parse error:  syntax error, unexpected '?' in Command line code", AccessError, "php_parse"),
    (1, "This account is currently not available.", AccessError, "no_shell"),
    (137, "", Unreachable, "killed"),
    (-9, "", Unreachable, "killed"),
    (255, "", Unreachable, "connection_lost"),
    (0, "", Unreachable, "unreachable"),
]


@pytest.mark.parametrize(("status", "said", "kind", "code"), SAID)
def test_what_was_said_is_understood_with_a_remedy_and_the_evidence(
    status: int, said: str, kind: type[MoodlectlError], code: str
) -> None:
    lines = ["Welcome to web1", *said.splitlines()]
    error = explain(End(where="ssh:web1", php="php", status=status, lines=lines))
    assert (type(error), error.code) == (kind, code)
    assert error.message.startswith("ssh:web1: ")
    assert error.hint
    assert error.details["last_lines"] == lines


def test_a_lost_connection_before_a_deed_began_says_that_nothing_was_changed() -> None:
    lines = ["Timeout, server web1 not responding."]
    error = explain(End("ssh:web1", "php", 255, lines, greeted=True, deed=True))
    assert type(error) is Unreachable
    assert "nothing was changed" in error.message


def test_a_lost_connection_after_a_deed_began_is_an_unknown_outcome() -> None:
    lines = ["Timeout, server web1 not responding."]
    error = explain(End("ssh:web1", "php", 255, lines, greeted=True, deed=True, begun=True))
    assert type(error) is OutcomeUnknown
    assert "connection to the host was lost" in error.message
    assert "job resume" in (error.hint or "")


def test_what_a_running_site_prints_is_not_taken_for_ssh_or_sudo() -> None:
    lines = [
        "Warning: fopen(): Permission denied",
        "curl: Connection timed out",
        "sudo: a password is required",
    ]
    error = explain(End("ssh:web1", "php", 1, lines, greeted=True))
    assert (type(error), error.code) == (Unreachable, "unreachable")


def test_an_error_event_keeps_its_words() -> None:
    error = translate({"class": "usage", "code": "c", "message": "m", "hint": ""}, {"a": 1})
    assert (type(error), error.code, error.message, error.hint) == (UsageError, "c", "m", None)
    assert error.details == {"a": 1}
    assert type(translate({}, {})) is Failed
