"""Words from a file made elsewhere, safe to show."""

from __future__ import annotations

import re

# C0 and C1 controls (terminal escapes start there), what turns the direction of text round or hides it or hides in
# it, line and paragraph separators, and halves of surrogate pairs, which cannot be written out at all.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
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
