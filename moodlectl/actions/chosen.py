"""Which items of a backup a restore brings, by the settings it is carried out with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from moodlectl.site.port import Section

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest
    from moodlectl.mbz.identities import Chosen

Settings = Mapping[str, str | int | bool | None]


def chosen_by(manifest: Manifest, settings: Settings) -> Chosen:
    """What those settings, ``quiz_7_included`` and the like, leave out of a backup, by the backup's ids.

    What no setting speaks of is left out: Moodle makes none for activities whose plugin it lacks.
    """
    activities = {one.id: one.module for one in manifest.all_activities()}
    return _chosen(activities, [one.id for one in manifest.all_sections()], settings)


def chosen_of_course(sections: Sequence[Section], settings: Settings) -> Chosen:
    """The same of a course that was backed up for one restore alone: what no setting speaks of was not backed up."""
    activities = {one.id: one.module for section in sections for one in section.activities}
    found = _chosen(activities, [one.id for one in sections], settings)
    unsaid = frozenset(one.id for one in sections if f"section_{one.id}_included" not in settings)
    return replace(found, without_sections=found.without_sections | unsaid)


def _chosen(activities: Mapping[int, str], sections: Sequence[int], settings: Settings) -> Chosen:
    from moodlectl.mbz.identities import Chosen

    def off(name: str) -> bool:
        return not int(settings.get(name) or 0)

    return Chosen(
        frozenset(cmid for cmid, module in activities.items() if off(f"{module}_{cmid}_included")),
        frozenset(one for one in sections if f"section_{one}_included" in settings and off(f"section_{one}_included")),
        frozenset(cmid for cmid, module in activities.items() if off(f"{module}_{cmid}_userinfo")),
    )
