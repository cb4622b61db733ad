"""The contents of a whole plan, sent ahead: on the day itself only what courses say of them travels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from moodlectl.actions import contents as carrying
from moodlectl.actions.contents import How, Traffic
from moodlectl.actions.planning import Resolution
from moodlectl.actions.steps import Planned, Skipped, Step, Work
from moodlectl.errors import Failed

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
        lacking, lost = target.lacking(found), dict[str, Failed]()
        while True:
            wanted = [one for one in lacking if one.sha1 not in lost]
            try:
                done = carrying.carry(source, target, wanted, self._how, work.progress)
                break
            except Failed as failed:
                # The night is some days away: all the others go ahead, and what has to be mended is known by then.
                gone = set(failed.details.get("contents", ())) - lost.keys()
                if not gone:
                    raise
                lost |= dict.fromkeys(gone, failed)
        facts = {"contents": len(found), "contents_sent": done.count, "content_bytes_sent": done.bytes}
        work.note(bytes=done.wire_bytes, **facts)
        if lost and "without-files" not in work.spec.get("allow", ()):
            raise _without(lost)
        if not wanted:
            raise Skipped("all its contents are there already")


def _without(lost: Mapping[str, Failed]) -> Failed:
    """The first trouble, of all contents that could not be sent."""
    first = next(iter(lost.values()))
    return Failed(
        f"All was sent but {len(lost)} contents: {first.message}", first.hint, code=first.code,
        details={"contents": sorted(lost)},
    )  # fmt: skip


def planned(found: Resolution) -> list[Planned]:
    """The courses of a plan whose contents will travel by themselves, each once; others bring theirs in a backup."""
    lean = [(one.source.course.id, one) for one in found.todo if one.source.course is not None and one.spec.lean]
    people = {number for number, one in lean if one.spec.settings.get("users", True)}
    return [
        Planned(
            one.shortname, KIND, str(one.source), one.where,
            {"course": number, "users": number in people, "allow": list(one.spec.allow)},
        )
        for number, one in sorted(dict(lean).items())
    ]  # fmt: skip
