"""Which Moodle has what: the one table of differences between releases.

Nobody else compares version numbers. Where a site can be asked (its web-service functions, a plan's
settings), it is
asked; this table is for what has to be known before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Release = tuple[int, int]

OLDEST: Release = (3, 9)
"""The oldest release that is known to work."""

NEWEST: Release = (5, 1)
"""The newest release that was tried."""

FIRST: Mapping[str, Release] = {
    "app-site-check": (3, 10),  # login/token.php answers appsitecheck
    "legacyfiles-setting": (3, 10),  # backup and restore setting legacyfiles
    "permissions-setting": (3, 11),  # backup and restore setting permissions
    "xapistate-setting": (4, 2),  # backup setting xapistate
    "files-default": (4, 5),  # the admin's default for files is applied to backups
    "customfield-setting": (4, 5),  # restore calls it customfield, before that customfields
    "subsections": (4, 5),  # sections within sections, mod_subsection
    "question-bank-activities": (5, 0),  # question banks are activities; the setting questionbank is gone
    "public-directory": (5, 1),  # the code lies under public/
}
"""Feature → the first release that has it (evidence: the trees of 3.9, 3.10, 4.1, 4.5 and 5.1)."""


def release_of(text: str) -> Release:
    """The release in what a site says, ``5.1+ (Build: 20251017)`` → ``(5, 1)``. Raises ValueError for
    none."""
    found = re.match(r"\s*(\d+)\.(\d+)", text)
    if not found:
        raise ValueError(f"{text!r} is no Moodle release")
    return int(found.group(1)), int(found.group(2))


def has(text: str, feature: str) -> bool:
    """Whether a site of that release has a feature of ``FIRST``."""
    return release_of(text) >= FIRST[feature]


def is_known(text: str) -> bool:
    """Whether that release lies between the oldest and the newest that were tried."""
    return OLDEST <= release_of(text) <= NEWEST
