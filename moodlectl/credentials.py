"""Where tokens come from: the keyring of this machine, the environment, a private file, or a command.

A token is bound to the address it was made for: the keyring's entry carries the site's name *and* address, so
that a site whose address changed does not get the token of the old one.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.errors import AccessError, ConfigError
from moodlectl.secret import Secret

if TYPE_CHECKING:
    from moodlectl.config import SiteConfig

SERVICE = "moodlectl"
COMMAND_SECONDS = 120  # long enough to type a passphrase into pinentry
ELSEWHERE = (
    "Where there is no keyring (servers, cron, CI) a token comes from env:NAME, file:PATH (chmod 600) "
    "or command:WORDS, such as command:pass show moodle; give it with --token-from, "
    "or as 'token' in the settings file."
)


def token_for(site: SiteConfig) -> Secret | None:
    """The token for the site, from where its settings say; None where they name no token. Reads only.

    Raises AccessError where it is not there or may not be trusted, and ConfigError for an unknown source.
    """
    if site.token is None:
        return None
    return read_from(site.token, site)


def read_from(source: str, site: SiteConfig) -> Secret:
    """The token from one source: ``keyring``, ``env:NAME``, ``file:PATH``, ``command:WORDS``. Reads only.

    Raises AccessError, ConfigError.
    """
    word, _, rest = source.partition(":")
    if source == "keyring":
        return _from_keyring(site)
    if word == "env":
        return _from_environment(rest)
    if word == "file":
        return _from_file(Path(rest).expanduser())
    if word == "command":
        return _from_command(rest)
    raise ConfigError(f"At 'sites.{site.name}.token': this is no place a token can come from.", ELSEWHERE)


def checked(text: str, where: str) -> Secret:
    """The token in a text, when it looks like one; never repeats it. Raises AccessError."""
    token = text.strip()
    if not token:
        raise AccessError(f"There is no token in {where}.", "Put the site's token there.", code="notoken")
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,512}", token):
        raise AccessError(
            f"What is in {where} is not a Moodle token.",
            "A token is 32 letters and digits; copy it from the site's page 'Manage tokens'.",
            code="badtoken",
        )
    return Secret(token)


# --- the keyring --------------------------------------------------------------------------------------------


def store(site: SiteConfig, token: Secret) -> None:
    """Keep the token in this machine's keyring. Raises AccessError where there is none, or it is locked."""
    keyring = _keyring()
    try:
        keyring.set_password(SERVICE, _entry(site), token.reveal())
        kept = Secret(keyring.get_password(SERVICE, _entry(site)) or "")
    except Exception as problem:
        raise _no_keyring(problem) from None  # the backend's frames hold the token
    if kept != token:  # the null keyring takes everything and keeps nothing
        raise _no_keyring(None)


def forget(site: SiteConfig) -> bool:
    """Take the site's token out of the keyring; False where there was none. Raises AccessError."""
    keyring = _keyring()
    try:
        if keyring.get_password(SERVICE, _entry(site)) is None:
            return False
        keyring.delete_password(SERVICE, _entry(site))
    except Exception as problem:
        raise _no_keyring(problem) from problem
    return True


def _from_keyring(site: SiteConfig) -> Secret:
    try:
        found = _keyring().get_password(SERVICE, _entry(site))
    except AccessError:
        raise
    except Exception as problem:
        raise _no_keyring(problem) from problem
    if found is None:
        raise AccessError(
            f"The keyring holds no token for '{site.name}' at {site.url}.",
            f"Put one there: moodlectl site add {site.name} --replace --url {site.url} --token-stdin. "
            f"{ELSEWHERE}",
            code="notoken",
        )
    return checked(found, "the keyring")


def _entry(site: SiteConfig) -> str:
    return f"{site.name} {site.url}"


def _keyring() -> Any:
    """The keyring package; slow to import, so nobody does it before he must."""
    try:
        import keyring
    except ImportError as problem:
        raise _no_keyring(problem) from problem
    return keyring


def _no_keyring(problem: Exception | None) -> AccessError:
    """Whatever a backend threw (its own errors, D-Bus errors, a missing library) with the remedy."""
    if isinstance(problem, ImportError):
        return AccessError("The Python package keyring is not installed.", ELSEWHERE, code="nokeyring")
    from keyring.errors import KeyringLocked, NoKeyringError

    if problem is None or isinstance(problem, NoKeyringError):
        message, code = "This machine has no keyring to keep a token in.", "nokeyring"
    elif isinstance(problem, KeyringLocked):
        message, code = "The keyring of this machine is locked.", "keyringlocked"
    else:
        kind = type(problem).__name__
        message, code = f"The keyring of this machine does not work ({kind}).", "keyringbroken"
    # The backend's own words may quote what was to be stored, so only their kind is told.
    return AccessError(message, ELSEWHERE, code=code)


# --- elsewhere ----------------------------------------------------------------------------------------------


def _from_environment(name: str) -> Secret:
    text = os.environ.get(name)
    if text is None:
        raise AccessError(
            f"The environment has no variable {name}, where the token should be.",
            f"Set it: export {name}=… (in cron: in the crontab or a file that only its user can read).",
            code="notoken",
        )
    return checked(text, f"the environment variable {name}")


def _from_file(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())  # of what was opened, not of what the name may mean by now
            _private(path, about)
            head = file.read(4096)
    except OSError as problem:
        raise AccessError(
            f"The token file {path} cannot be read: {problem.strerror}.",
            "Write the token into it, and let only its owner read it (chmod 600).",
            code="notoken",
        ) from problem
    return checked(head.decode("utf-8", "replace").lstrip("\ufeff").partition("\n")[0], f"the file {path}")


def _private(path: Path, about: os.stat_result) -> None:
    """Nothing, when nobody but us can read or change the file. Raises AccessError."""
    if about.st_uid != os.geteuid():
        raise AccessError(
            f"The token file {path} belongs to another user (uid {about.st_uid}).",
            "Make it your own: a file somebody else owns, he can read and change.",
            code="tokenfile",
        )
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise AccessError(
            f"Others can read or change the token file {path} (mode {stat.S_IMODE(about.st_mode):04o}).",
            f"Run: chmod 600 {shlex.quote(str(path))} (and think of the token as known: make a new one).",
            code="tokenfile",
        )


def _from_command(words: str) -> Secret:
    """The first line the command prints; its words are split as a shell would, but no shell sees them."""
    try:
        argv = shlex.split(words)
    except ValueError as problem:
        raise ConfigError(f"The token command cannot be split into words: {problem}.") from problem
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS)
    except OSError as problem:
        raise AccessError(
            f"The token command '{argv[0]}' cannot be run: {problem.strerror}.",
            "Check that it is installed and on PATH.",
            code="tokencommand",
        ) from problem
    except subprocess.TimeoutExpired:
        # Not chained: the exception carries what the command had printed.
        raise AccessError(
            f"The token command '{argv[0]}' gave no answer in {COMMAND_SECONDS} seconds.",
            "Run it by hand: perhaps it waits for a passphrase.",
            code="tokencommand",
        ) from None
    text = done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
    said = done.stderr.decode("utf-8", "replace").strip()
    said = said.replace(text, "***") if text else said
    if done.returncode:
        raise AccessError(
            f"The token command '{argv[0]}' failed with status {done.returncode}.",
            "Run it by hand and mend it; its first line of output must be the token.",
            code="tokencommand",
            details={"last_lines": said.splitlines()[-5:]},
        )
    return checked(text, f"the first line of '{argv[0]}'")
