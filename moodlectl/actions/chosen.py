"""Which items of a backup a restore brings, by the settings it is carried out with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest
    from moodlectl.mbz.identities import Chosen


def chosen_by(manifest: Manifest, settings: Mapping[str, str | int | bool | None]) -> Chosen:
    """What those settings, ``quiz_7_included`` and the like, leave out of a backup, by the backup's ids.

    What no setting speaks of is left out: Moodle makes none for activities whose plugin it lacks.
    """
    from moodlectl.mbz.identities import Chosen

    def off(name: str) -> bool:
        return not int(settings.get(name) or 0)

    activities = {one.id: one.module for one in manifest.all_activities()}
    sections = (one.id for one in manifest.all_sections())
    return Chosen(
        frozenset(cmid for cmid, module in activities.items() if off(f"{module}_{cmid}_included")),
        frozenset(one for one in sections if f"section_{one}_included" in settings and off(f"section_{one}_included")),
        frozenset(cmid for cmid, module in activities.items() if off(f"{module}_{cmid}_userinfo")),
    )
