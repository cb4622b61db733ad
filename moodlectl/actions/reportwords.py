"""Words of the report page: texts that cannot become markup, times and sizes for people."""

from __future__ import annotations

import html
import re
from datetime import datetime
from typing import Any, Final

_DIRECTIONS: Final = frozenset([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def text(value: Any) -> str:
    """A stranger's text as a page may hold it: escaped, control characters and direction marks made visible."""
    plain = "".join(one if one in "\n\t" or _harmless(ord(one)) else f"\\x{ord(one):02x}" for one in str(value))
    return html.escape(plain, quote=True)


def _harmless(point: int) -> bool:
    if point < 0x20 or 0x7F <= point < 0xA0 or 0xD800 <= point <= 0xDFFF:
        return False
    return point not in _DIRECTIONS


def lines(value: str) -> str:
    """The same with its lines kept."""
    return text(value).replace("\n", "<br>")


def address(url: str) -> str:
    """A course's address in few letters: its number on its site."""
    found = re.fullmatch(r"https?://.+/course/view\.php\?id=(\d+)", url)
    return f"course {found[1]}" if found else url.partition("://")[2]


def when(moment: datetime, *, day: bool = True) -> str:
    """A time in this machine's zone, with its day or without."""
    return f"{moment.astimezone():{'%Y-%m-%d %H:%M' if day else '%H:%M:%S'}}"


def duration(seconds: float) -> str:
    """``4 s``, ``3 min 07 s``, ``24 min``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 1 or not seconds else "under 1 s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes for people."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"
