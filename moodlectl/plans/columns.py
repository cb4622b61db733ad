"""The columns of a plan: their names, and how each one's words are read.

Where Moodle's own "Upload courses" has a column (``admin/tool/uploadcourse/classes/course.php``, 3.9 to 5.1), its name
is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from moodlectl.plans import patterns

Reader = Callable[[Any], Any]
LONGEST: Final = 4096


def text(value: Any) -> str:
    """One line of text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"a text is wanted, not {_shown(value)}")
    words = str(value).strip()
    if not words:
        raise ValueError("it is empty")
    if len(words) > LONGEST:
        raise ValueError(f"it has {len(words)} characters; at most {LONGEST} make sense")
    return words


def pattern(value: Any) -> patterns.Pattern:
    """A text that may have pieces such as ``{source.shortname}``."""
    return patterns.parse(text(value))


def pattern_or_none(value: Any) -> patterns.Pattern:
    """As ``pattern``; ``-`` (or an empty text, which only TOML can say) takes the value away."""
    return patterns.Pattern("", ()) if value in ("", "-") else pattern(value)


_TRUE, _FALSE = ("1", "true", "yes", "y", "on"), ("0", "false", "no", "n", "off")


def flag(value: Any) -> bool:
    """Yes or no: 1, true, yes; 0, false, no."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _TRUE + _FALSE:
        return word in _TRUE
    raise ValueError(f"{_shown(value)} is neither yes nor no; write 1 or 0")


def day(value: Any) -> date:
    """A day as ``YYYY-MM-DD``."""
    if isinstance(value, datetime):
        raise ValueError(f"{value.isoformat()} is a moment; a day is wanted: YYYY-MM-DD")
    if isinstance(value, date):
        return value
    words = str(value).strip()
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", words):
        try:
            return date.fromisoformat(words)
        except ValueError:
            raise ValueError(f"'{words}' is no day of the calendar") from None
    if re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}", words):
        raise ValueError(f"'{words}' is written in a way that can be read as two days; write YYYY-MM-DD")
    raise ValueError(f"{_shown(value)} is no day; write YYYY-MM-DD, such as 2027-02-15")


def number(least: int, most: int) -> Reader:
    """A whole number between two others."""

    def read(value: Any) -> int:
        words = "" if isinstance(value, bool) else str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", words):
            raise ValueError(f"{_shown(value)} is no whole number")
        if not least <= int(words) <= most:
            raise ValueError(f"{words} is not between {least} and {most}")
        return int(words)

    return read


def choice(*known: str) -> Reader:
    """One of a few words."""

    def read(value: Any) -> str:
        word = str(value).strip().lower() if isinstance(value, str) else ""
        if word not in known:
            raise ValueError(f"{_shown(value)} is none of {', '.join(known)}{suggestion(word, known)}")
        return word

    return read


def words(value: Any) -> tuple[str, ...]:
    """Several words: a list, or a text with commas (in a file that is separated by commas, in quotes)."""
    if isinstance(value, list | tuple):
        if not all(isinstance(each, str) for each in value):
            raise ValueError("a list of texts is wanted")
        found = [str(each).strip() for each in value]
    else:
        found = [each.strip() for each in text(value).split(",")]
    if not all(found):
        raise ValueError("one of its words is empty")
    return tuple(found)


def some_words(value: Any) -> tuple[str, ...]:
    """As ``words``; ``-`` or an empty list says: none."""
    return () if value in ("", "-", []) else words(value)


def setting_names(value: Any) -> tuple[str, ...]:
    """Moodle's names of settings."""
    found = words(value)
    for name in found:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ValueError(f"'{name}' is no setting's name; they are Moodle's words, such as users,logs")
    return found


def pairs(value: Any) -> tuple[str, ...]:
    """Several ``OLD=NEW``."""
    found = words(value)
    for pair in found:
        if not all(part.strip() for part in pair.rpartition("=")):
            raise ValueError(f"'{pair}' is no OLD=NEW")
    return found


def guards(value: Any) -> dict[str, str]:
    """Which guard does what: ``students=stop,visible=ignore``, or a table of those."""
    if isinstance(value, dict):
        said = {str(name): str(what) for name, what in value.items()}
    else:
        said = {}
        for pair in words(value):
            name, equals, what = (part.strip() for part in pair.partition("="))
            if not equals:
                raise ValueError(f"'{pair}' is no NAME=stop, NAME=warn or NAME=ignore")
            said[name] = what
    for name, what in said.items():
        if what not in ("stop", "warn", "ignore"):
            raise ValueError(f"'{name}={what}': a guard does stop, warn or ignore")
    return said


def path(value: Any) -> Path:
    """A path of a file."""
    return Path(text(value))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[:60]}'" if value.strip() else "an empty text"
    return {dict: "a table", list: "a list", bool: str(value).lower()}.get(type(value), str(value)[:60])


def suggestion(word: str, known: tuple[str, ...]) -> str:
    """``; did you mean 'shortname'?`` where a known word is near, else nothing."""
    near = get_close_matches(word, known, 1, 0.7)
    return f"; did you mean '{near[0]}'?" if near else ""


COLUMNS: Final[Mapping[str, Reader]] = {
    "templatecourse": text,
    "source_backup": text,
    "mode": choice("new", "merge", "replace"),
    "shortname": pattern,
    "fullname": pattern,
    "idnumber": pattern_or_none,
    "category": pattern,
    "category_idnumber": pattern,
    "category_path": pattern,
    "create_categories": flag,
    "startdate": day,
    "enddate": day,
    "shift_days": number(-36525, 36525),
    "shift_weeks": number(-5200, 5200),
    "year": number(1970, 2999),
    "visible": flag,
    "hidden_until": day,
    "with": setting_names,
    "without": setting_names,
    "enrolments": choice("manual", "with-users", "always"),
    "keep_roles": some_words,
    "only": words,
    "skip": words,
    "no_userdata": words,
    "user_map": path,
    "map": pairs,
    "on_user_conflict": choice("stop", "without-users"),
    "on_changed_target": choice("stop", "replace"),
    "allow": words,
    "guards": guards,
    "keep_enrolments": flag,
    "keep_groups": flag,
    "overwrite_config": flag,
    "safety_backup": flag,
    "old_shortname": pattern,
    "old_fullname": pattern,
    "old_idnumber": pattern_or_none,
    "old_category": pattern,
    "old_category_idnumber": pattern,
    "old_category_path": pattern,
    "old_visible": flag,
    "old_enrolments": choice("keep", "manual", "suspended"),
}
"""Every column and how it is read; ``select`` (TOML only) stands apart."""

MAY_BE_EMPTY: Final = frozenset({"idnumber", "old_idnumber", "keep_roles"})
"""Columns where an empty text in TOML is said on purpose; an empty cell of a CSV says nothing anywhere."""

ONE_OF: Final[tuple[tuple[str, ...], ...]] = (
    ("startdate", "shift_days", "shift_weeks"),
    ("category", "category_idnumber", "category_path"),
    ("old_category", "old_category_idnumber", "old_category_path"),
    ("visible", "hidden_until"),
    ("templatecourse", "source_backup", "select"),
)
"""Columns that say the same thing in different ways: of each group a row may have one."""

UPLOAD_ONLY: Final = frozenset(
    {
        *("summary", "format", "theme", "lang", "newsitems", "showgrades", "showreports", "legacyfiles", "maxbytes"),
        *("groupmode", "groupmodeforce", "enablecompletion", "downloadcontent", "showactivitydates", "delete"),
        *("rename", "backupfile", "reset", "restorecontent", "showcompletionconditions", "pdfexportfont"),
    }
)
"""Columns of Moodle's own upload that a plan has not: a course brings those with it."""

SELECTION: Final[Mapping[str, Reader]] = {
    "category": text,
    "visible": flag,
    "search": text,
    "shortname": text,
    "except": words,
}
