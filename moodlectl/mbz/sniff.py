"""What a file really is, told from its first bytes, whatever its name says."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Literal

from moodlectl.errors import Refused
from moodlectl.mbz.sources import Source, source_of
from moodlectl.mbz.text import printable

Container = Literal["tgz", "zip"]
_DOWNLOAD_HINT = "The download went wrong. Download the backup again, and check the site's token."
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_MESSAGE = re.compile(rb"<message>([^<]{1,300})", re.IGNORECASE)
_OTHERS = (
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "a SQLite database"),
)


def sniff(where: Path | Source) -> Container:
    """The container of a backup file: ``tgz`` or ``zip``. Reads only.

    Raises NotFound where there is no such file, and Refused ``empty``, ``not_a_backup`` (with what it is
    instead) or ``unreadable``.
    """
    source = source_of(where)
    return container(source.name, source.head())


def container(name: str, head: bytes) -> Container:
    """The container of a backup that begins with those bytes. Raises Refused ``empty``, ``not_a_backup``."""
    if head[:2] == b"\x1f\x8b":
        return "tgz"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    raise _not_a_backup(printable(name), head)


def _not_a_backup(name: str, head: bytes) -> Refused:
    if not head:
        return Refused(f"{name} is empty.", _DOWNLOAD_HINT, code="empty", details={"size": 0})
    what, hint = _what(head)
    return Refused(
        f"{name} is not a Moodle backup: it is {what}.", hint, code="not_a_backup", details={"is": what}
    )


def _what(head: bytes) -> tuple[str, str]:
    """What the file is instead, in words, and what to do."""
    if head[257:262] == b"ustar":
        return "a plain tar archive, not compressed", "Moodle cannot restore it so. Compress it: gzip FILE."
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words, "Name a backup file that Moodle wrote."
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return _json_words(text), _DOWNLOAD_HINT
    lower = text[:2000].lower()
    if lower.startswith((b"<!doctype html", b"<html")) or b"<html" in lower:
        title = _TITLE.search(head)
        words = _clean(title[1]) if title else ""
        return f"a web page ({words})" if words else "a web page", _DOWNLOAD_HINT
    if lower.startswith(b"<?xml") or lower.startswith(b"<exception"):
        if b"<moodle_backup" in lower:
            return "a bare moodle_backup.xml", "Name the whole .mbz file, not a part of it."
        message = _MESSAGE.search(head)
        words = _clean(message[1]) if message else ""
        return (f"an XML error reply ({words})" if words else "an XML file"), _DOWNLOAD_HINT
    if b"\x00" not in head and _is_text(head):
        return "a text file", _DOWNLOAD_HINT
    return "of no kind known here", "Name a backup file that Moodle wrote."


def _json_words(text: bytes) -> str:
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        return "JSON text"
    if isinstance(reply, dict):
        said = reply.get("error") or reply.get("message") or reply.get("exception")
        if isinstance(said, str):
            code = reply.get("errorcode")
            extra = f" ({printable(code[:100])})" if isinstance(code, str) else ""
            return f"an error reply of a site, saying: {printable(said[:300])}{extra}"
    return "a JSON reply"


def _clean(raw: bytes) -> str:
    return printable(" ".join(html.unescape(raw.decode("utf-8", "replace")).split()))


def _is_text(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
