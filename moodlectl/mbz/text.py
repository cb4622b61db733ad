"""Words from a file made elsewhere, safe to show."""

from __future__ import annotations

import re

# C0 and C1 controls (terminal escapes start there), what turns the direction of text round or hides it, line
# and paragraph separators, and halves of surrogate pairs, which cannot be written out at all.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text with every control character, terminal escape and direction mark replaced by U+FFFD.

    Reads only.
    """
    return _UNPRINTABLE.sub(REPLACEMENT, text)


def is_printable(text: str) -> bool:
    """Whether ``printable`` would leave the text as it is. Reads only."""
    return _UNPRINTABLE.search(text) is None
