"""The practice site: a small Moodle of its own to try every command on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from moodlectl import config
from moodlectl.errors import Refused

NAME = "practice"


def folder() -> Path:
    """Where the practice site is kept: ``MOODLECTL_PRACTICE``, else the platform's folder for a program's data."""
    told = os.environ.get("MOODLECTL_PRACTICE")
    if told:
        return Path(told)
    import platformdirs

    return Path(platformdirs.user_data_dir("moodlectl")) / NAME


def prepare(settings: Path | None, *, fresh: bool) -> str:
    """Make sure that a practice site is configured, begun anew if asked, and return its name.

    Writes the settings file and the practice site's folder, nothing else. Raises Refused where somebody gave the
    name to a site of theirs.
    """
    path = settings or config.default_path()
    known = config.load(path, may_be_absent=True)
    site = known.sites.get(NAME)
    if site is not None and site.kind != "practice":
        raise Refused(
            f"A site of yours is called '{NAME}'; the demo will not touch it.",
            "Rename it in the settings file, or name another file with --config.",
        )
    place = site.folder if site is not None and site.folder is not None else folder()
    if fresh and place.exists():
        if not (place / "practice.sqlite").exists() and any(place.iterdir()):
            raise Refused(f"{place} holds something that is not a practice site; it is left alone.")
        shutil.rmtree(place)
    if site is None:
        config.save_site(path, config.SiteConfig(name=NAME, kind="practice", folder=place))
    return NAME
