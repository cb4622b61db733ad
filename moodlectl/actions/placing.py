"""Whether what was merged into a course stands where it was wanted, and the course's own sections seen as before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moodlectl.site.port import Identity, Restored, RestoreRequest, Section, Site

Add = Callable[[Identity], None]


def misplaced(request: RestoreRequest, restored: Restored, site: Site) -> tuple[str, ...]:
    """What stands somewhere else than it was wanted, one sentence each. Reads only."""
    place = request.placement
    assert place is not None
    sections = site.contents(restored.course.id)
    new = set(restored.activities.values())
    wanted = {place.section_id} if place.how == "into" else set(restored.sections.values())
    found = [
        f'{activity.module} "{activity.name}": in section {section.number}, not where it was wanted'
        for section in sections
        for activity in section.activities
        if activity.id in new
        and section.id not in wanted
        and section.parent_activity not in new
        and activity.module != "qbank"
    ]
    if place.how == "after":
        page = [one.id for one in sections if one.parent_activity is None]
        came = [one for one in page if one in wanted]
        at = page.index(place.section_id) + 1 if place.section_id in page else 0
        if page[at : at + len(came)] != came:
            found.append("the new sections do not stand behind the section that was named")
    return tuple(found)


def as_before(
    request: RestoreRequest, before: Sequence[Section], now: Sequence[Section]
) -> Callable[[Add], Add]:
    """Lets the sections behind the new ones have the numbers they had before, so that they can be compared."""
    place = request.placement
    count = _on_page(now) - _on_page(before)
    at = next((one.number for one in before if place and one.id == place.section_id), None)
    if place is None or place.how != "after" or at is None or not count:
        return lambda add: add

    def number(word: str) -> str | None:
        """The number a section had; None for a new one."""
        if not word.isdigit() or int(word) <= at:
            return word
        return None if int(word) <= at + count else str(int(word) - count)

    def wrap(add: Add) -> Add:
        def told(identity: Identity) -> None:
            kind, key, facts = identity
            if kind == "section":
                word = number(key[0])
                if word is not None:
                    add((kind, (word,), facts))
            elif kind == "activity" and "section" in facts:
                add((kind, key, {**facts, "section": number(facts["section"]) or ""}))
            else:
                add(identity)

        return told

    return wrap


def _on_page(sections: Sequence[Section]) -> int:
    return sum(1 for one in sections if one.parent_activity is None)
