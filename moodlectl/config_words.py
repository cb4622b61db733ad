"""The words of a site's settings, one reader each: addresses, hops, token sources, numbers.

The settings file and the command line share them, so that both refuse the same things in the same words. A
reader takes the value and where it stands (``sites.school.via[1]``), and its ConfigError names it first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import urlsplit

from moodlectl.errors import ConfigError
from moodlectl.findings import GUARD_MODES, GUARDS, GuardMode
from moodlectl.limits import Hours

SITE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
HOPS = ("ssh", "docker", "kubectl", "user")
TOKEN_FORMS = "keyring, env:NAME, file:PATH or command:WORDS"
W = TypeVar("W", bound=str)


def suggest(word: str, known: Sequence[str]) -> str:
    """``Did you mean 'url'? `` where a known word is near, else nothing."""
    near = get_close_matches(word, known, 1)
    return f"Did you mean '{near[0]}'? " if near else ""


def _wrong(where: str, wanted: str, value: Any) -> ConfigError:
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else f"a {_toml_word(value)}"
    return ConfigError(f"At '{where}': wanted {wanted}, found {shown}.")


def _toml_word(value: Any) -> str:
    return "table" if isinstance(value, dict) else "list" if isinstance(value, list) else type(value).__name__


def read_table(value: Any, where: str) -> dict[str, Any]:
    """A TOML table. Raises ConfigError."""
    if not isinstance(value, dict):
        raise _wrong(where, "a table", value)
    return value


def read_text(value: Any, where: str) -> str:
    """A line of text, without blanks around it. Raises ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, "a text that is not empty", value)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise _wrong(where, "a text without control characters", value)
    return value.strip()


def read_flag(value: Any, where: str) -> bool:
    """True or false. Raises ConfigError."""
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def read_seconds(value: Any, where: str) -> float:
    """Seconds up to a day. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86400:
        raise _wrong(where, "seconds, more than 0 and at most 86400", value)
    return float(value)


def read_count(value: Any, where: str) -> int:
    """A whole number of at least one. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1_000_000:
        raise _wrong(where, "a whole number, at least 1", value)
    return value


def read_number(value: Any, where: str) -> float:
    """A number above nought. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise _wrong(where, "a number above 0", value)
    return float(value)


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def read_bytes(value: Any, where: str) -> int:
    """Bytes: a whole number, or a text such as ``500 MB``. Raises ConfigError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?B)", value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise _wrong(where, 'bytes, such as 500000000 or "500 MB"', value)
    return int(float(found[1]) * _UNITS[found[2]])


def read_hours(value: Any, where: str) -> tuple[Hours, ...]:
    """One part of the day or several. Raises ConfigError."""
    found = list[Hours]()
    for part in value if isinstance(value, list) else [value]:
        try:
            found.append(Hours.parse(part))
        except (ValueError, AttributeError) as problem:
            raise _wrong(where, 'hours such as "22:00-06:00", or a list of them', part) from problem
    return tuple(found)


def one_of(*words: W) -> Callable[[Any, str], W]:
    """A reader that takes one of these words."""

    def read(value: Any, where: str) -> W:
        for word in words:
            if word == value:
                return word
        raise _wrong(where, " or ".join(f"'{word}'" for word in words), value)

    return read


_MODE: Callable[[Any, str], GuardMode] = one_of(*GUARD_MODES)


def read_guards(value: Any, where: str) -> dict[str, GuardMode]:
    """A table of guards, each ``"stop"``, ``"warn"`` or ``"ignore"``. Raises ConfigError."""
    table = read_table(value, where)
    for name in table:
        if name not in GUARDS:
            hint = f"{suggest(name, list(GUARDS))}There are: {', '.join(GUARDS)}."
            raise ConfigError(f"At '{where}.{name}': unknown guard.", hint)
    return {name: _MODE(mode, f"{where}.{name}") for name, mode in table.items()}


def read_hops(value: Any, where: str) -> list[str]:
    """Hops, outermost first. Raises ConfigError."""
    if not isinstance(value, list):
        raise _wrong(where, 'a list of hops, such as ["ssh:moodle.example.org", "user:www-data"]', value)
    return [read_hop(read_text(hop, f"{where}[{at}]"), at=f"{where}[{at}]") for at, hop in enumerate(value)]


def check_name(name: str, *, at: str | None = None) -> str:
    """The name, when a site may be called so. Raises ConfigError."""
    if not SITE_NAME.fullmatch(name):
        raise ConfigError(
            f"{_at(at)}a site cannot be called {name!r}.",
            "A name is made of letters A-Z, digits, '.', '_' and '-', and begins with a letter or digit.",
        )
    return name


def read_url(text: str, *, at: str | None = None) -> str:
    """A site's address as Moodle writes it (no slash at the end). Raises ConfigError where it is none."""
    parts = None
    with contextlib.suppress(ValueError):  # also from a port that is no number
        parts = urlsplit(text) if urlsplit(text).port != 0 else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or " " in text:
        raise ConfigError(f"{_at(at)}{text!r} is no web address.", "Write it as in https://moodle.example.org")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{_at(at)}an address must not carry a name or password.", "Leave out all between '//' and '@'."
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{_at(at)}{text!r} is the address of a page, not of the site.",
            f"Try {parts.scheme}://{parts.netloc}{parts.path.rsplit('/', 1)[0]}",
        )
    path = re.sub(r"/(login/)?index\.php$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc.lower()}{path}".rstrip("/")


def read_hop(text: str, *, at: str | None = None) -> str:
    """One hop such as ``ssh:moodle@host``. Raises ConfigError where it is none."""
    word, colon, rest = text.partition(":")
    if word not in HOPS:
        near = suggest(word, HOPS)
        raise ConfigError(
            f"{_at(at)}unknown hop {text!r}.",
            f"{near}Hops are ssh:[USER@]HOST, docker:CONTAINER, kubectl:[NAMESPACE/]POD[:CONTAINER] and user:NAME.",
        )
    if not colon or not rest.strip() or rest.startswith("-"):
        raise ConfigError(f"{_at(at)}the hop {text!r} does not say where to.", f"Write it as in {word}:NAME.")
    return text


def read_token_source(text: str, *, at: str | None = None) -> str:
    """Where a token comes from: ``keyring``, ``env:NAME``, ``file:PATH`` or ``command:WORDS``.

    Raises ConfigError, which never repeats the text: it may be a token put in the wrong place.
    """
    word, _, rest = text.partition(":")
    if text == "keyring" or (word in ("file", "command") and rest.strip()):
        return text
    if word == "env" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
        return text
    raise ConfigError(
        f"{_at(at)}this does not say where the token comes from.",
        f"It is one of {TOKEN_FORMS}. The token itself does not belong into the settings file.",
    )


def _at(where: str | None) -> str:
    return f"At '{where}': " if where else ""
