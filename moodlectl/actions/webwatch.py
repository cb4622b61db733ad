"""What a web request that nobody heard the end of has come to: looked at until it is known.

Moodle's ``duplicate_course`` (``course/externallib.php``, 3.9 to 5.1) makes an empty hidden course with the names asked
for; gives it the names Moodle makes of the source's (``…_1``, ``… copy 1``) while it is being restored; and sets the
names and the visibility asked for when all is done. So the names tell how far it is. An import has no such mark: its
activities arrive one by one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from moodlectl.errors import AccessError, Failed, NotFound, Unreachable
from moodlectl.site.port import Controller, Course, CourseRef, OnProgress, Progress, Section, Site

Things = Counter[tuple[str, str]]
"""Activities by type and name, and sections by their names, counted."""

WAIT: Final = 3600.0
"""How long, in seconds, nothing may move on the site before it counts as broken off: as long as Moodle grants itself
for one course (``backup_controller`` and ``restore_controller`` execute_plan, 3.9 to 5.1)."""

AWAY: Final = 300.0
"""How long, in seconds, a site may be out of reach before it is no longer asked."""

SETTLE: Final = 10.0
"""How long, in seconds, nothing may move in a course that has got all its activities before it counts as done."""

_CLOCKS: Final = timedelta(minutes=10)
"""How far the clocks of a site and of this machine may be apart."""


@dataclass(frozen=True)
class Task:
    """What was asked of the site, and what was there before: enough to recognise what became of it.

    ``course_id`` is the source; for a copy ``category_id``, the names, the visibility and the ids of the courses that
    were there; for an import ``target_id`` and the ids of the activities that were in it. ``things`` are what the
    source holds, ``mine`` the id of the new course once it has been seen under the short name asked for.
    """

    kind: Literal["copy", "import"]
    course_id: int
    begun: datetime
    things: Things
    before: frozenset[int]
    category_id: int = 0
    fullname: str = ""
    shortname: str = ""
    visible: bool = True
    target_id: int = 0
    mine: int | None = None

    def facts(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        told["begun"] = self.begun.isoformat()
        told["things"] = [[*thing, number] for thing, number in self.things.items()]
        told["before"] = sorted(self.before)
        return told

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Task:
        """From what the ledger kept."""
        things: Things = Counter({(str(kind), str(name)): int(number) for kind, name, number in facts["things"]})
        begun = datetime.fromisoformat(facts["begun"])
        return cls(**{**facts, "things": things, "begun": begun, "before": frozenset(facts["before"])})


@dataclass(frozen=True)
class Seen:
    """One look. ``course`` is the course in question where it is there, ``arrived`` what it holds that is new.

    ``ended`` is whether Moodle has set its last mark, ``blind`` whether the contents may not be looked at;
    ``controllers`` None where nobody could be asked for them.
    """

    course: Course | None = None
    arrived: Things = field(default_factory=Counter)
    ended: bool = False
    blind: bool = False
    controllers: tuple[Controller, ...] | None = None

    def fingerprint(self) -> tuple[Any, ...]:
        """What moves while Moodle works."""
        course = self.course
        named = (course.id, course.shortname, course.fullname, course.visible, course.startdate) if course else ()
        return named, frozenset(self.arrived.items()), self.controllers

    @property
    def at_work(self) -> bool | None:
        """Whether Moodle's own records have something unfinished; None where they cannot be looked at."""
        if self.controllers is None:
            return None
        return any(one.state in ("waiting", "executing") for one in self.controllers)


@dataclass(frozen=True)
class Verdict:
    """What became of it: ``done``, ``broken`` (something is there and nothing moves), ``nothing`` (nothing is there and
    the site itself says that nothing was begun or is under way) or ``unknown``; ``silence`` in seconds."""

    outcome: Literal["done", "broken", "nothing", "unknown"]
    seen: Seen
    silence: float
    why: str = ""


def things_in(sections: Sequence[Section]) -> Things:
    """What a course holds, to be compared by name."""
    found: Things = Counter()
    for section in sections:
        found[("section", section.name)] += 1
        found.update((one.module, one.name) for one in section.activities)
    return found


def look(site: Site, task: Task) -> Seen:
    """Look once. Reads only. Raises Unreachable."""
    return _look_copy(site, task) if task.kind == "copy" else _look_import(site, task)


def _look_copy(site: Site, task: Task) -> Seen:
    course = _copy_of(site, task)
    asked = [task.course_id, *([course.id] if course else [])]
    controllers = _controllers(site, asked, task)
    if course is None:
        return Seen(controllers=controllers)
    sections = _contents(site, course.id)
    arrived = things_in(sections or ())
    named = (course.shortname, course.fullname) == (task.shortname, task.fullname)
    # An empty course that was just made is hidden, and has no start.
    marked = course.visible if task.visible else course.startdate is not None or arrived == task.things
    return Seen(course, arrived, named and marked and course.visible == task.visible, sections is None, controllers)


def _copy_of(site: Site, task: Task) -> Course | None:
    """The new course: by its short name, by its number once that is known, or as the only new one in the category that
    bears a name Moodle makes of the source's."""
    if task.mine is not None:
        return _course(site, CourseRef("id", str(task.mine)))
    found = _course(site, CourseRef("shortname", task.shortname))
    if found is not None:
        return found if found.id not in task.before else None
    source = _course(site, CourseRef("id", str(task.course_id)))
    if source is None:
        return None
    new = [one for one in site.courses(category_id=task.category_id) if one.id not in task.before]
    new = [one for one in new if one.shortname.startswith(f"{source.shortname}_")]
    return new[0] if len(new) == 1 else None


def _look_import(site: Site, task: Task) -> Seen:
    course = _course(site, CourseRef("id", str(task.target_id)))
    controllers = _controllers(site, [task.course_id, task.target_id], task)
    if course is None:
        return Seen(controllers=controllers)
    new = Counter(
        (one.module, one.name)
        for section in site.contents(course.id)
        for one in section.activities
        if one.id not in task.before
    )
    restores = [one for one in controllers or () if one.operation == "restore"]
    ended = bool(restores) and all(one.state == "finished" for one in restores)
    return Seen(course, new, ended, controllers=controllers)


def lacking(task: Task, seen: Seen) -> Things:
    """What the source holds and the course has not got."""
    wanted = task.things
    if task.kind == "import":  # sections there may be already, under names of their own
        wanted = Counter({thing: number for thing, number in wanted.items() if thing[0] != "section"})
    return wanted - seen.arrived


def _course(site: Site, ref: CourseRef) -> Course | None:
    try:
        return site.course(ref)
    except NotFound:
        return None


def _contents(site: Site, course_id: int) -> Sequence[Section] | None:
    """What the new course holds; None where the token's user may not enter it."""
    try:
        return site.contents(course_id)
    except AccessError:
        return None
    except (Failed, NotFound):
        return ()  # a course that is still being made may not be whole enough to be shown


def _controllers(site: Site, course_ids: Sequence[int], task: Task) -> tuple[Controller, ...] | None:
    found = site.controllers(course_ids, task.begun - _CLOCKS)
    return None if found is None else tuple(one for one in found if one.changed >= task.begun - _CLOCKS)


@dataclass
class Watch:
    """Looks until it is known. ``note`` is told the number of a new course as soon as that is certain."""

    site: Site
    task: Task
    note: Callable[[int], None]
    on_progress: OnProgress
    wait: float = WAIT
    pause: float = 1.0

    def verdict(self) -> Verdict:
        """What became of it, as soon as that is known, or nothing has moved for too long. Reads only.

        Raises Unreachable when the site has not answered for five minutes, or that long.
        """
        moved = heard = time.monotonic()
        last: tuple[Any, ...] | None = None
        pause = self.pause
        while True:
            try:
                seen = look(self.site, self.task)
            except Unreachable:
                if time.monotonic() - heard >= min(self.wait, AWAY):
                    raise
                time.sleep(pause)
                continue
            heard = time.monotonic()
            self._remember(seen)
            if seen.fingerprint() != last:
                last, moved, pause = seen.fingerprint(), heard, self.pause
            silence = heard - moved
            known = self._known(seen, silence)
            if known is not None:
                return known
            self._tell(seen)
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)

    def _remember(self, seen: Seen) -> None:
        from dataclasses import replace

        course = seen.course
        if self.task.kind == "copy" and self.task.mine is None and course and course.shortname == self.task.shortname:
            self.task = replace(self.task, mine=course.id)
            self.note(course.id)

    def _known(self, seen: Seen, silence: float) -> Verdict | None:
        whole = not lacking(self.task, seen)
        if seen.ended and self.task.kind == "copy":
            return Verdict("done", seen, silence)
        if self.task.kind == "import" and whole and (seen.ended or silence >= min(SETTLE, self.wait)):
            return Verdict("done", seen, silence)
        if silence < self.wait:
            return None
        there = bool(seen.course) if self.task.kind == "copy" else bool(seen.arrived)
        if there:
            return Verdict("broken", seen, silence)
        if seen.controllers == ():
            return Verdict("nothing", seen, silence, "Moodle has no record of having begun with it")
        return Verdict("unknown", seen, silence)

    def _tell(self, seen: Seen) -> None:
        total = sum(self.task.things.values()) or None
        done = sum(seen.arrived.values())
        words = "waiting for Moodle" if seen.course is None else f"{seen.course.shortname}: {done} of {total} things"
        self.on_progress(Progress("waiting", min(done, total or done), total, message=words))


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
