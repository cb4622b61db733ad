"""Names made from other names: ``{source.shortname}-{year+1}``, ``{source.shortname|s/-2026$/-2027/}``.

A piece is a name in braces. Years can be counted with (``{year+1}``, ``{yy-1}``), and any piece changed by what follows
a bar: ``s/REGEX/REPLACEMENT/`` as in sed (any sign may stand for the stroke; ``g`` for every place, ``i`` for upper and
lower case alike; ``\\1`` for a group), ``lower``, ``upper``, ``trim``. ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

YEARS = ("year", "yy", "source.year", "source.yy")
TEXTS = (
    *("source.shortname", "source.fullname", "source.idnumber", "source.id"),
    *("source.category", "source.category_path", "source.category_idnumber"),
)
NAMES = (*TEXTS, *YEARS)
"""Every piece there is. ``yy`` is the year's last two digits."""

Change = Callable[[str], str]


@dataclass(frozen=True)
class Piece:
    """One name in braces, what is added to it, and the changes made to it one after the other."""

    name: str
    plus: int = 0
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Pattern:
    """A pattern taken apart: words as they are, and pieces. ``text`` is how it was written."""

    text: str
    parts: tuple[str | Piece, ...]

    @property
    def names(self) -> frozenset[str]:
        """The pieces it needs."""
        return frozenset(part.name for part in self.parts if isinstance(part, Piece))

    def expand(self, values: Mapping[str, str | int]) -> str:
        """The name it makes. Raises ValueError naming a piece that has no value here (a course without a start)."""
        return "".join(part if isinstance(part, str) else _expanded(part, values) for part in self.parts).strip()


def _expanded(piece: Piece, values: Mapping[str, str | int]) -> str:
    value = values.get(piece.name)
    if value is None:
        raise ValueError(f"{{{piece.name}}} has no value here")
    text = str(value)
    if piece.name in YEARS:
        number = int(value) + piece.plus
        text = f"{number % 100:02d}" if piece.name.endswith("yy") else str(number)
    for change in piece.changes:
        text = change(text)
    return text


def parse(text: str) -> Pattern:
    """A pattern taken apart. Raises ValueError that says what is wrong with it."""
    parts: list[str | Piece] = []
    place, plain = 0, ""
    while place < len(text):
        sign = text[place]
        if text[place : place + 2] in ("{{", "}}"):
            plain, place = plain + sign, place + 2
        elif sign == "{":
            piece, place = _piece(text, place + 1)
            parts += [plain, piece] if plain else [piece]
            plain = ""
        elif sign == "}":
            raise ValueError("a '}' that nothing opens; write '}}' for the sign itself")
        else:
            plain, place = plain + sign, place + 1
    return Pattern(text, tuple([*parts, plain] if plain else parts))


def _piece(text: str, start: int) -> tuple[Piece, int]:
    """The piece that begins at ``start``, and the place behind its brace."""
    found = re.compile(r"\s*([a-z_.]+)\s*([+-]\s*\d{1,4})?\s*").match(text, start)
    if not found:
        raise ValueError(f"'{text[start - 1 : start + 20]}' is no piece; pieces are {', '.join(NAMES)}")
    name, plus = found[1], int(re.sub(r"\s", "", found[2])) if found[2] else 0
    if name not in NAMES:
        near = get_close_matches(name, NAMES, 1)
        raise ValueError(f"there is no piece {{{name}}}" + (f"; did you mean {{{near[0]}}}?" if near else ""))
    if found[2] and name not in YEARS:
        raise ValueError(f"{{{name}}} is no number; only {', '.join(YEARS)} can be counted with")
    changes: list[Change] = []
    place = found.end()
    while text[place : place + 1] == "|":
        change, place = _change(text, place + 1)
        changes.append(change)
    if text[place : place + 1] != "}":
        raise ValueError(f"'{{{name}' is not closed by '}}'")
    return Piece(name, plus, tuple(changes)), place + 1


_WORDS: Mapping[str, Change] = {"lower": str.lower, "upper": str.upper, "trim": str.strip}


def _change(text: str, start: int) -> tuple[Change, int]:
    word = re.compile(r"(lower|upper|trim)(?=[|}])").match(text, start)
    if word:
        return _WORDS[word[1]], word.end()
    if not re.match(r"s[^\w\s\\{}]", text[start:]):
        raise ValueError(f"'{text[start : start + 12]}' is no change; there are s/REGEX/NEW/, lower, upper, trim")
    stroke, place = text[start + 1], start + 2
    expression, place = _until(text, place, stroke)
    replacement, place = _until(text, place, stroke)
    flags = re.compile("[gi]*").match(text, place)
    assert flags is not None
    return _substitution(expression, replacement, flags[0]), flags.end()


def _until(text: str, start: int, stroke: str) -> tuple[str, int]:
    """What stands before the next stroke that no backslash takes away, and the place behind it."""
    place, found = start, ""
    while place < len(text):
        if text[place] == "\\" and place + 1 < len(text):
            escaped = text[place + 1]
            found += escaped if escaped == stroke else f"\\{escaped}"
            place += 2
        elif text[place] == stroke:
            return found, place + 1
        else:
            found, place = found + text[place], place + 1
    raise ValueError(f"a change that is not ended by '{stroke}'")


def _substitution(expression: str, replacement: str, flags: str) -> Change:
    try:
        compiled = re.compile(expression, re.IGNORECASE if "i" in flags else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"'{expression}' is no regular expression: {error}") from error
    pieces = re.split(r"\\(.)", replacement)
    for escaped in pieces[1::2]:
        if escaped.isdigit() and int(escaped) > compiled.groups:
            raise ValueError(f"'\\{escaped}' in '{replacement}': '{expression}' has {compiled.groups} groups")

    def new(match: re.Match[str]) -> str:
        made = pieces[0]
        for escaped, plain in zip(pieces[1::2], pieces[2::2], strict=True):
            made += ((match[int(escaped)] or "") if escaped.isdigit() else escaped) + plain
        return made

    return lambda text: compiled.sub(new, text, count=0 if "g" in flags else 1)
