"""Names of members: checked before anything is done with them."""

from __future__ import annotations

import re
import unicodedata

from moodlectl.errors import Refused
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.text import is_printable, printable

_HINT = "Moodle never writes such a name. Do not restore this file; ask where it came from."
_DRIVE = re.compile(r"^[A-Za-z]:")
# Where Moodle keeps what it reads of a backup.
_MOODLES = re.compile(r"\.ARCHIVE_INDEX|[a-z_]+\.(?:xml|log)|(?:course|activities|sections|files)/.+")
# What nothing below has anything against: short words, a few deep.
_ORDINARY = re.compile(r"(?:[A-Za-z0-9_]{1,64}/){0,7}[A-Za-z0-9_]{1,64}(?:\.[a-z]{1,8})?")
# What Moodle takes out of a name before it writes the member (PARAM_PATH of clean_param, 3.9 to 5.1).
_MANGLED = re.compile(r"[&<>\"`|':]|\.\.+")


def refuse(code: str, message: str, hint: str = _HINT, **details: object) -> Refused:
    """A refusal of a hostile file, its texts made safe to show."""
    safe = {key: printable(value) if isinstance(value, str) else value for key, value in details.items()}
    return Refused(printable(message), hint, code=code, details=safe)


def decode_name(raw: bytes, encoding: str = "utf-8") -> str:
    """A member's name as text. Raises Refused ``hostile_encoding`` where it is not valid in its encoding."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        shown = raw[:80].decode(encoding, "replace")
        raise refuse(
            "hostile_encoding", f"A member's name is not valid {encoding}: {shown}", name=shown
        ) from error


def check_name(name: str, limits: Limits = LIMITS) -> str:
    """The name without a leading ``./`` and a trailing ``/``; ``""`` for the root itself. Reads only.

    Raises Refused ``hostile_path`` for an absolute name, ``..``, a backslash, a drive letter, an empty part
    or an endless name, and ``hostile_name`` for control characters and terminal escapes.
    """
    return name if limits is LIMITS and _ORDINARY.fullmatch(name) else _check(name, limits)


def _check(name: str, limits: Limits) -> str:
    shown = name if len(name) <= 120 else name[:117] + "..."
    if not is_printable(name):
        raise refuse("hostile_name", f"A member's name holds control characters: {shown}", name=shown)
    if len(name.encode("utf-8", "replace")) > limits.name_bytes:
        raise refuse("hostile_path", f"A member's name is longer than {limits.name_bytes} bytes: {shown}")
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        raise refuse("hostile_path", f"A member's name is absolute or not a Moodle path: {shown}", name=shown)
    plain = name.removesuffix("/")
    # Somebody's own `tar c .` writes ./ before every name; Moodle takes that too.
    while plain.startswith("./"):
        plain = plain[2:]
    if plain in ("", "."):
        return ""
    parts = plain.split("/")
    if len(parts) > limits.name_parts:
        raise refuse("hostile_path", f"A member lies more than {limits.name_parts} folders deep: {shown}")
    if any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise refuse(
            "hostile_path", f"A member's name leads out of the backup or is malformed: {shown}", name=shown
        )
    read = _MANGLED.sub("", plain)
    if read != plain and is_moodles(read):
        raise refuse("hostile_name", f"Moodle would read {shown} as {read}.", name=shown)
    return plain


def is_moodles(name: str) -> bool:
    """Whether a member of that name is one that Moodle itself writes into a backup and reads. Reads only."""
    return _MOODLES.fullmatch(name) is not None


def folded(name: str) -> str:
    """The name as file systems take it that know no upper and lower case, or one way to write an accent only.

    Reads only.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
