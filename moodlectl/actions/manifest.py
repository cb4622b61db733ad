"""What a backup file says it holds, as the site port writes sections and activities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moodlectl.site.port import Activity, ItemChoice, Section

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest


def sections(manifest: Manifest) -> Sequence[Section]:
    """The sections and activities that are in the backup, with the backup's own ids; subsections name their parent."""
    parents = {s.id: a.id for a in manifest.all_activities() if (s := a.subsection) is not None}
    found = []
    for place, section in enumerate(manifest.all_sections()):
        if not section.included:
            continue
        number = section.number
        if number is None:  # only section.xml tells; Moodle titles a section without a name by its number
            number = int(section.title) if section.title.isdigit() else place
        activities = tuple(
            Activity(a.id, a.module, a.title, subsection_id=a.subsection.id if a.subsection else None)
            for a in section.activities
            if a.included
        )
        parent = section.parent_cmid if section.parent_cmid is not None else parents.get(section.id)
        found.append(Section(section.id, number, section.title, True, activities, parent))
    return found


def broken(manifest: Manifest, items: ItemChoice) -> Sequence[str]:
    """What the chosen items need and would not get, a sentence each; nothing where everything is chosen."""
    from moodlectl.mbz import dependencies

    if items == ItemChoice():
        return ()
    return tuple(dependencies.broken(manifest, *chosen(manifest, items)))


def chosen(manifest: Manifest, items: ItemChoice) -> tuple[set[int], set[int]]:
    """The ids of the sections and the course modules in the file that a choice names."""
    there = [one for one in manifest.all_sections() if one.included]
    sections = {one.id for one in there} - items.skip_sections
    if items.only_sections is not None:
        sections &= items.only_sections
    cmids = set()
    for section in there:
        whole = items.only_sections is None or section.id in items.only_sections
        if section.id not in items.skip_sections:
            inside = {one.id for one in section.activities if one.included}
            cmids |= inside & items.only_activities if items.only_activities is not None else inside if whole else set()
    return sections, cmids - items.skip_activities
