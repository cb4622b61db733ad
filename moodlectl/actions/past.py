"""What earlier runs of plans did, so that nothing is done twice: told by the ledger, and by the site itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from moodlectl import ledger
from moodlectl.actions import fingerprints, moves, specs
from moodlectl.errors import MoodlectlError
from moodlectl.ledger import Item
from moodlectl.plans import Problem

if TYPE_CHECKING:
    from moodlectl.actions.catalogue import Catalogue
    from moodlectl.actions.planning import Resolved
    from moodlectl.actions.specs import Spec
    from moodlectl.site.port import Course

Key = tuple[str, str, str, str]


class Past:
    """The items of all earlier jobs of a kind, looked up by what they were made from and what was made. Reads only."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    @cached_property
    def _items(self) -> list[tuple[Item, Spec]]:
        return [(item, specs.read(item.spec)) for item in ledger.history(self._kind) if item.spec]

    @cached_property
    def _by_key(self) -> dict[Key, list[tuple[Item, Spec]]]:
        found: dict[Key, list[tuple[Item, Spec]]] = {}
        for item, spec in self._items:
            found.setdefault(_key(spec), []).append((item, spec))
        return found

    @cached_property
    def _words(self) -> dict[tuple[str, str], int]:
        """The source course each word of a plan meant when it was last carried out."""
        return {
            (str(spec.course["at"]), str(spec.course["word"])): int(spec.course["id"])
            for item, spec in self._items
            if spec.course is not None and spec.course.get("word") and item.state == "done"
        }

    def of_word(self, at: str, word: str) -> int | None:
        """The id of the course that a word of a plan meant when it was carried out."""
        return self._words.get((at, word))

    def items(self, spec: Spec) -> list[tuple[Item, Spec]]:
        """What was tried before with the same source and the same new name, the oldest first."""
        return self._by_key.get(_key(spec), [])

    def shown(self, at: str, course_id: int) -> bool:
        """Whether a course that was hidden until a day has been shown then."""
        return (at, course_id) in self._shown

    @cached_property
    def _shown(self) -> set[tuple[str, int | None]]:
        return {
            (spec.to, spec.target)
            for item, spec in self._items
            if item.state == "done" and spec.steps == (moves.FINISH,)
        }

    def renamed(self, at: str, course: Course) -> Mapping[str, Any] | None:
        """What a course was called before an earlier run gave it the name it has now; None where none did."""
        runs = reversed(self._renamings.get((at, course.id), ()))
        return next((said for said, old in runs if old.shortname == course.shortname), None)

    @cached_property
    def _renamings(self) -> dict[tuple[str, int], list[tuple[Mapping[str, Any], specs.Looks]]]:
        """What each course was before, and was made by a run that is done; the oldest first."""
        found: dict[tuple[str, int], list[tuple[Mapping[str, Any], specs.Looks]]] = {}
        for item, spec in self._items:
            if item.state == "done" and spec.course is not None and spec.old is not None:
                key = (str(spec.course["at"]), int(spec.course["id"]))
                found.setdefault(key, []).append((spec.course, spec.old))
        return found

    def sources(self, at: str) -> dict[int, Mapping[str, Any]]:
        """What is known of courses of a site that were rolled over and changed by that: as they were before, by id."""
        return {
            int(spec.course["id"]): spec.course
            for item, spec in self._items
            if item.state == "done" and spec.old is not None and spec.course is not None
            and spec.course["at"] == at and "category" in spec.course
        }  # fmt: skip

    def made(self, at: str, course_id: int) -> tuple[Item, Spec] | None:
        """What made or filled a course of a site last."""
        return self._made.get((at, course_id))

    @cached_property
    def _made(self) -> dict[tuple[str, int], tuple[Item, Spec]]:
        return {
            (spec.to, int(item.facts["course"])): (item, spec)
            for item, spec in self._items
            if item.state == "done" and item.facts.get("course")
        }


def _key(spec: Spec) -> Key:
    course = spec.course
    what = f"course {course['at']} {course['id']}" if course is not None else f"file {spec.backup}"
    stored = str(spec.stored["filename"]) if spec.stored is not None else ""
    return what, stored, spec.to, spec.looks.shortname or ""


def recognise(
    one: Resolved, past: Past, source: Catalogue, target: Catalogue, today: date
) -> Resolved | Problem:
    """The same course, said to be there already where it is; a Problem where its name belongs to another.

    Told by the ledger, or by the site itself, which knows from which of its own courses a course was made. Reads only.
    """
    done = [(item, spec) for item, spec in past.items(one.spec) if item.state == "done" and moves.RESTORE in spec.steps]
    if done:
        item, spec = done[-1]
        there = target.courses.get(int(item.facts.get("course") or 0))
        if there is not None:
            return _again(one, item, there, past, source, today)
    if one.row.mode != "new":
        return _arrived(one, past, target)
    there = target.named(one.shortname)
    if there is None:
        return _number_free(one, source, target)
    own = one.source.course if source is target else None
    if own is not None and there.id == own.id:
        return _same_name(one, past, source)
    ours = any(item.facts.get("course") == there.id for item, _ in past.items(one.spec))
    if ours or (own is not None and target.facts(there.id).original_course_id == own.id):
        return _unfinished(one, there, past)
    hint = "Choose another, or say what is to become of that course with mode merge or replace."
    return Problem(one.row.at("shortname"), "shortname", _taken(one, there, "short name"), hint)


def _taken(one: Resolved, there: Course, what: str) -> str:
    name = there.shortname if what == "short name" else there.idnumber
    return f"the {what} '{name}' belongs to another course already: {there.fullname} (id:{there.id})"


def _number_free(one: Resolved, source: Catalogue, target: Catalogue) -> Resolved | Problem:
    """An idnumber that another course has is a problem, unless the old course gives it up."""
    number = one.spec.looks.idnumber
    there = target.numbered(number) if number else None
    if there is None:
        return one
    own = one.source.course
    if source is target and own is not None and there.id == own.id:
        old = one.spec.old
        if old is not None and old.idnumber is not None and old.idnumber != number:
            return replace(one, spec=replace(one.spec, provisional=True))
        hint = 'Have the old course give it up: old.idnumber = "".'
        return Problem(one.row.at("idnumber"), "idnumber", f"the old course has the idnumber '{number}'", hint)
    hint = 'Choose another, or bring the course without one: idnumber = "-".'
    return Problem(one.row.at("idnumber"), "idnumber", _taken(one, there, "idnumber"), hint)


def _same_name(one: Resolved, past: Past, source: Catalogue) -> Resolved | Problem:
    """The new course is to have the name the old one has now: or is this the new one already?"""
    course, old = one.source.course, one.spec.old
    assert course is not None
    if old is None or old.shortname is None or old.shortname == one.shortname:
        hint = 'Give the old one another: old.shortname = "{source.shortname}-{source.year}".'
        told = f"'{one.shortname}' is the short name of the old course itself"
        return Problem(one.row.at("shortname"), "shortname", told, hint)
    made = past.made(source.info[1], course.id)
    if made is not None and made[1].looks.shortname == one.shortname:
        return _there(one, course, f"rolled over already (id:{course.id})")
    before = source.named(old.shortname)
    if before is not None and source.facts(course.id).original_course_id == before.id:
        return _there(one, course, f"rolled over already (id:{course.id}), from {before.shortname}")
    return _number_free(replace(one, spec=replace(one.spec, provisional=True)), source, source)


def _arrived(one: Resolved, past: Past, target: Catalogue) -> Resolved:
    """What an earlier run put into a course before it failed: nothing is merged twice, unless it was put back since."""
    tried = [item for item, _ in past.items(one.spec) if _touched(item) and not _put_back(item)]
    there = target.courses.get(one.spec.target or 0)
    if not tried or there is None:
        return one
    whole = "activities" in tried[-1].facts and not tried[-1].facts.get("differences")
    if one.row.mode == "replace" and not whole:
        return one
    if one.row.mode == "merge" and "activities" not in tried[-1].facts:
        told = f"changed by an earlier run that failed: {tried[-1].message}"
        return replace(_there(one, there, told), wanting=True)
    return _unfinished(one, there, past)


def _touched(item: Item) -> bool:
    """Whether a course was changed by what was tried, and is still as that has left it."""
    return bool("activities" in item.facts or item.facts.get("course_changed")) and not item.facts.get("undone")


def _put_back(item: Item) -> bool:
    """Whether ``restore --undo JOB/N`` has given the course back what it held; that is written in a job of its own."""
    lifted = int(item.facts.get("undo_job") or 0)
    return bool(lifted) and any(one.facts.get("undone") for one in ledger.job(lifted).items)


def _unfinished(one: Resolved, there: Course, past: Past) -> Resolved:
    """The site says that it was made from the source: done, or was its end not reached?"""
    tried = [item for item, _ in past.items(one.spec) if item.facts.get("course") == there.id]
    if tried and tried[-1].state in ("failed", "unknown") and not tried[-1].facts.get("differences"):
        steps = tuple(name for name in one.spec.steps if name in (moves.FINISH, moves.OLD))
        return replace(
            one, spec=replace(one.spec, steps=steps, target=there.id), action="finish", there=there.id,
            message="made by an earlier run that did not end",
        )  # fmt: skip
    if tried and tried[-1].facts.get("differences"):
        told = f"there already (id:{there.id}), but not all of it came: {tried[-1].message}"
        return replace(_there(one, there, told), wanting=True)
    return _there(one, there, f"there already (id:{there.id}), made from {one.source.shortname}")


def _there(one: Resolved, course: Course, why: str) -> Resolved:
    return replace(one, state="there", message=why, there=course.id)


def _again(
    one: Resolved, item: Item, there: Course, past: Past, source: Catalogue, today: date
) -> Resolved | Problem:
    """It was done before. A course that moved to another site is looked at: has it changed since?"""
    when = f"{item.ended:%Y-%m-%d}" if item.ended else "earlier"
    told = f"there already (id:{there.id}), since {when}"
    until = one.row.hidden_until
    if until is not None and today >= until and not there.visible and not past.shown(one.spec.to, there.id):
        spec = replace(
            one.spec, steps=(moves.FINISH,), target=there.id, looks=specs.Looks(visible=True), keep_roles=None,
            old=None, fingerprint=False,
        )  # fmt: skip
        return replace(one, spec=spec, action="show", message=f"was hidden until {until}", there=there.id)
    if not one.spec.fingerprint or not item.facts.get("fingerprint"):
        return _there(one, there, told)
    assert one.source.course is not None
    users = one.spec.settings.get("users", True)
    try:
        now = fingerprints.fingerprint(source.site, one.source.course.id, with_users=users)
    except MoodlectlError as error:
        return Problem(one.row.line, None, f"whether {one.source} has changed cannot be told: {error.message}")
    if now == item.facts["fingerprint"]:
        return _there(one, there, f"{told}, and unchanged")
    if one.row.mode == "merge":
        return _there(one, there, f"{told}, and changed since; a merge is not repeated: it would double what is there")
    strict = one.row.on_changed_target == "stop"
    spec = replace(
        one.spec,
        mode="replace",
        target=there.id,
        overwrite_config=True,
        unchanged_since=item.facts.get("target_fingerprint") if strict else None,
    )
    return replace(one, spec=spec, action="refresh", message=f"changed since {when}", there=there.id)
