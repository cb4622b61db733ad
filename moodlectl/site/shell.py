"""Argv through hops, bytes in and out: how a command gets to the machine where a site's PHP runs.
 A hop is a function from argv to argv; a shell is a list of hops, outermost first; this machine is the empty
list. Only the ssh hop quotes, once, because only ssh hands its words to a shell. The person's own OpenSSH
client is used, so ``~/.ssh/config``, jump hosts, agents, known hosts and hardware keys work as they do by
hand.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from moodlectl.errors import AccessError, ConfigError, MoodlectlError, NotFound

log = logging.getLogger(__name__)

Hop = Callable[[Sequence[str]], list[str]]

# The shortest limit of a unix socket's path is macOS's 104 bytes; ssh adds a 40 digit name and, while it
# connects, a dot and 16 letters.
_LONGEST_DIRECTORY = 104 - len("/") - 40 - len(".") - 16 - 1

HOPS = "ssh:[USER@]HOST[:PORT], docker:CONTAINER, kubectl:[NAMESPACE/]POD[:CONTAINER] or user:NAME"


def ssh(host: str, port: int | None = None, options: Sequence[str] = ()) -> Hop:
    """The hop to another machine. ssh gives its words to a shell there, so they are quoted here, once."""
    where = ["-p", str(port)] if port else []

    def hop(argv: Sequence[str]) -> list[str]:
        return ["ssh", *_SSH_OPTIONS, *options, *where, "--", host, shlex.join(argv)]

    return hop


# No questions, no terminal, nothing of ~/.ssh/config that would run or forward something else, and a dead
# link is noticed within a minute.
_SSH_OPTIONS = [
    *["-T", "-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes"],
    *["-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"],
]


def docker(container: str, user: str | None = None) -> Hop:
    """The hop into a running container, as one of its users or as the one it was started with."""
    who = ["-u", user] if user else []
    return lambda argv: ["docker", "exec", "-i", *who, container, *argv]


def kubectl(pod: str, namespace: str | None = None, container: str | None = None) -> Hop:
    """The hop into a running pod, into that container of it or the one kubectl takes for its first."""
    where = [*(["-n", namespace] if namespace else []), *(["-c", container] if container else [])]
    return lambda argv: ["kubectl", "exec", "-i", *where, pod, "--", *argv]


def sudo(user: str) -> Hop:
    """The hop to another user of the same machine; needs a sudo rule without a password."""
    return lambda argv: ["sudo", "-n", "-u", user, "--", *argv]


class Shell:
    """A way to the machine where a site's PHP runs, made from words such as ``ssh:web1``, ``user:www-data``.

    Raises ConfigError for a hop that is not known or not possible. ``close`` ends the
    ssh connection it shares.
    """

    def __init__(self, hops: Sequence[str] = (), ssh_config: str | os.PathLike[str] | None = None) -> None:
        self.words = tuple(hops)
        self._ssh_config = os.fspath(ssh_config) if ssh_config is not None else None
        self._sharing: _Sharing | None = None
        self._lock = threading.Lock()
        self._hops = self._parse()

    def __str__(self) -> str:
        return " → ".join(self.words) or "this machine"

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command as this machine has to run it."""
        argv = list(command)
        for hop in reversed(self._hops):
            argv = hop(argv)
        return argv

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command at the end of the hops, with pipes to it, in a session of its own.

        A terminal's Ctrl-C therefore reaches moodlectl alone, which decides what becomes of the command.
        Raises AccessError where a program of the hops is not installed on this machine, NotFound where PHP
        is not.
        """
        argv = self.argv(command)
        log.debug("starting %s: %s", self, command[0])
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise self._missing(argv[0], error.strerror or str(error)) from error

    def close(self) -> None:
        """End the shared connection and remove the directory of its socket; a shell may be used again."""
        sharing, self._sharing = self._sharing, None
        if sharing is not None:
            sharing.end()

    def _missing(self, program: str, why: str) -> MoodlectlError:
        message = f"{program} cannot be started on this machine: {why}"
        if self._hops:
            return AccessError(message, "Install it.", code="program_missing", details={"program": program})
        hint = "Install php-cli, or give its path with --php PATH."
        return NotFound(message, hint, code="php_missing", details={"program": program})

    # --- words to hops --------------------------------------------------------------------------------------

    def _parse(self) -> list[Hop]:
        hops: list[Hop] = []
        words = list(self.words)
        while words:
            word = words.pop(0)
            kind, _, value = word.partition(":")
            if kind not in ("ssh", "docker", "kubectl", "user") or not value:
                raise ConfigError(f"{word!r} is no way to a host: expected {HOPS}")
            if kind == "ssh":
                hops.append(self._ssh(word, value, first=not hops))
            elif kind == "docker":
                # A container has its users itself, and mostly no sudo.
                user = words.pop(0) if words and words[0].startswith("user:") else None
                who = _name(user, user.removeprefix("user:")) if user else None
                hops.append(docker(_name(word, value), who))
            elif kind == "kubectl":
                namespace, _, rest = value.rpartition("/")
                pod, colon, container = rest.partition(":")
                where = _name(word, namespace) if namespace else None
                hops.append(kubectl(_name(word, pod), where, _name(word, container) if colon else None))
            elif hops or value != _me():
                hops.append(sudo(_name(word, value)))
        return hops

    def _ssh(self, word: str, value: str, *, first: bool) -> Hop:
        host, port = _address(word, value)
        if not first:
            return ssh(host, port)
        options = ["-F", self._ssh_config] if self._ssh_config else []

        def hop(argv: Sequence[str]) -> list[str]:
            return ssh(host, port, [*self._share(host, port, options), *options])(argv)

        return hop

    def _share(self, host: str, port: int | None, options: Sequence[str]) -> Sequence[str]:
        """The options that share the connection, if there is a directory for its socket."""
        with self._lock:
            if self._sharing is None:
                directory = _private_directory()
                if directory is None:
                    log.info("no short enough directory for ssh's control socket: connections are not shared")
                    return []
                where = ["-p", str(port)] if port else []
                path = f"ControlPath={directory}/%C"
                end = ["ssh", *options, "-o", path, *where, "-O", "exit", "--", host]
                self._sharing = _Sharing(directory, end)
            return self._sharing.options


class _Sharing:
    """A shared ssh connection: the private directory of its socket, and the command that ends it.

    It ends with ``end``, or at the latest with this program.
    """

    def __init__(self, directory: Path, end: Sequence[str]) -> None:
        path = f"ControlPath={directory}/%C"
        self.options = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", path]
        self.end = weakref.finalize(self, _end_sharing, directory, end)


def _end_sharing(directory: Path, end: Sequence[str]) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if any(directory.iterdir()):
            subprocess.run(end, capture_output=True, check=False, timeout=10, stdin=subprocess.DEVNULL)
    shutil.rmtree(directory, ignore_errors=True)


def _private_directory() -> Path | None:
    """A new directory that only this user can enter, with a path short enough for a unix socket below it."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if base and len(os.fsencode(base)) + len("/mctl-12345678") <= _LONGEST_DIRECTORY and "%" not in base:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="mctl-", dir=base))  # mkdtemp makes it 0700
    return None


def _address(word: str, value: str) -> tuple[str, int | None]:
    """``[USER@]HOST[:PORT]`` taken apart; a bare IPv6 address has no port, one in brackets may have."""
    user, at, rest = value.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?", rest)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif rest.count(":") == 1:
        host, port = rest.split(":")
        if not port.isdigit():
            raise ConfigError(f"{word!r}: the port is not a number")
    else:
        host, port = rest, None
    if port is not None and not 0 < int(port) < 65536:
        raise ConfigError(f"{word!r}: {port} is no port")
    _name(word, host)
    return _name(word, user + at + host), int(port) if port else None


def _name(word: str, name: str) -> str:
    """A name that a program cannot take for an option, nor a shell for more than one word."""
    if not name or name.startswith("-") or re.search(r"[\s\x00-\x1f]", name):
        raise ConfigError(f"{word!r}: {name!r} is no name of a host, container or user")
    return name


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
