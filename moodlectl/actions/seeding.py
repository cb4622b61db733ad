"""The contents of a whole plan, sent ahead: on the day itself only what courses say of them travels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from moodlectl.actions import contents as carrying
from moodlectl.actions.contents import How, Traffic
from moodlectl.actions.planning import Resolution
from moodlectl.actions.steps import Planned, Skipped, Step, Work

KIND: Final = "seed"


class Seed:
    """How contents are sent ahead.

    The options' ``from`` and ``to`` are the names of the sites, ``limit_rate`` the bytes a second that all courses
    together may take.
    """

    kind = KIND

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._source, self._target = str(options["from"]), str(options["to"])
        self._how = How(Traffic(options.get("limit_rate")))

    @property
    def sites(self) -> Sequence[str]:
        """The names of both sites."""
        return (self._source, self._target)

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        """One step: what the target lacks of a course's files, from pool to pool."""
        return (Step("contents", self._target, "transfer", self._carry),)

    def _carry(self, work: Work) -> None:
        """Writes to the target's file pool, nothing that a course sees; may be called again."""
        source, target = work.site(self._source).pool(), work.site(self._target).pool()
        found = source.of_course(int(work.spec["course"]), users=bool(work.spec.get("users")))
        done = carrying.carry(source, target, found, self._how, work.progress)
        facts = {"contents": len(found), "contents_sent": done.count, "content_bytes_sent": done.bytes}
        work.note(bytes=done.wire_bytes, **facts)
        if not done.wanted:
            raise Skipped("all its contents are there already")


def planned(found: Resolution) -> list[Planned]:
    """The courses of a plan whose contents will travel by themselves, each once; others bring theirs in a backup."""
    lean = [(one.source.course.id, one) for one in found.todo if one.source.course is not None and one.spec.lean]
    people = {number for number, one in lean if one.spec.settings.get("users", True)}
    return [
        Planned(one.shortname, KIND, str(one.source), one.where, {"course": number, "users": number in people})
        for number, one in sorted(dict(lean).items())
    ]
