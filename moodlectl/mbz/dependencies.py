"""What depends on what, in words a person can act on."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from moodlectl.mbz.manifest import Dependency, Manifest
from moodlectl.mbz.text import printable

_VERBS = {
    "restriction": "is restricted by",
    "completion": "is completed by",
    "grade": "is graded with",
    "grouping": "is meant for",
    "question": "takes questions from",
    "link": "links to",
}
_THINGS = {
    "cmid": "an activity",
    "grade_item": "a grade",
    "group": "a group",
    "grouping": "a grouping",
    "grade_category": "a grade category",
    "question_bank_entry": "a question",
    "question_category": "a question category",
    "profile_field": "a profile field of the original site's own",
}
_MOST = 160


class Wording:
    """Words for the dependencies of one backup. Texts are printable."""

    def __init__(self, manifest: Manifest) -> None:
        self._activities = {
            one.id: f"{one.module} '{_short(one.title)}' (cmid:{one.id})" for one in manifest.all_activities()
        }
        self._sections = {one.id: f"section '{_short(one.title)}'" for one in manifest.all_sections()}

    def describe(self, dependency: Dependency, chosen: Collection[int] | None = None) -> str:
        """One sentence: what needs what, and why it will not find it. ``chosen`` are the activities taken along."""
        verb = _VERBS.get(dependency.kind, "needs")
        words = f"{self._item(dependency.item)} {verb} {self._other(dependency)}"
        if dependency.missing:
            return f"{words}, which is not in the backup"
        if chosen is not None and dependency.cmid is not None and dependency.cmid not in chosen:
            return f"{words}, which is not among the items chosen"
        return words

    def _item(self, item: str) -> str:
        kind, _, number = item.partition(":")
        if kind == "cmid":
            return self._activities.get(int(number), f"the activity {item}")
        if kind == "section":
            return self._sections.get(int(number), f"the section with the id {number}")
        return "the course"

    def _other(self, dependency: Dependency) -> str:
        kind, _, number = dependency.needs.partition(":")
        thing = _THINGS.get(kind, kind)
        brings = None if dependency.cmid is None else self._activities.get(dependency.cmid)
        if kind == "cmid":
            return brings or f"{thing} ({dependency.needs})"
        if kind == "profile_field":
            return f"{thing} ({number})"
        if dependency.kind == "link":
            return f"an activity ({kind} {number})"
        return f"{thing} of {brings}" if brings else f"{thing} (id {number})"


def missing(manifest: Manifest) -> Iterator[str]:
    """What items of the backup need and it does not hold, a sentence each."""
    wording = Wording(manifest)
    return (wording.describe(one) for one in manifest.missing())


def broken(manifest: Manifest, sections: set[int], cmids: set[int]) -> Iterator[str]:
    """What the chosen items (ids of sections and course modules) need and would not get, a sentence each."""
    wording = Wording(manifest)
    return (wording.describe(one, cmids) for one in manifest.broken_by(sections, cmids))


def _short(text: str) -> str:
    shown = " ".join(printable(text).split())
    return shown if len(shown) <= _MOST else shown[: _MOST - 1] + "…"
