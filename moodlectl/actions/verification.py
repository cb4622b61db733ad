"""After a restore: is every thing that was asked of the backup in the course, and all that was there before?"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from moodlectl.actions import chosen as choosing
from moodlectl.actions import placing, verify
from moodlectl.actions.compare import Add, Comparison, Difference, compare, from_file, from_site
from moodlectl.actions.holdings import Holdings, Side
from moodlectl.actions.likenesses import branch
from moodlectl.errors import MoodlectlError, Refused
from moodlectl.site.port import (
    Counts,
    Identity,
    OnProgress,
    Part,
    Progress,
    Restored,
    RestoreRequest,
    Section,
    Site,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.mbz.identities import Chosen
    from moodlectl.mbz.sources import Source

_log = logging.getLogger(__name__)
BACKUP, COURSE, BEFORE = "the backup", "the course", "the course before"


@dataclass(frozen=True)
class Verified:
    """How the course compares with what was asked of the backup.

    ``differences`` name each thing that is missing or other, one sentence each; ``known`` those that Moodle itself
    makes or that were asked for. ``compared`` is how many things of the backup were looked for, None where only the
    numbers were compared; ``note`` then says why.
    """

    differences: tuple[str, ...]
    known: tuple[str, ...] = ()
    compared: int | None = None
    note: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.differences


class Verification:
    """What a restore will be compared with; to be opened before it, in a ``with`` block.

    A stored backup may be gone afterwards, and what a course held before certainly is: both are read now. Where that
    cannot be, the numbers that the site tells are compared alone. Reads only; never stands in a restore's way.
    """

    def __init__(self, site: Site, request: RestoreRequest, *, wanted: bool = True, keeps: bool = True) -> None:
        """``keeps``: look at what the course holds before; False where the restore has happened already."""
        self._site, self._request, self._wanted = site, request, wanted
        self._look_before = keeps and (request.mode == "merge" or request.keep_enrolments or request.keep_groups)
        self._before: Holdings | None = None
        self._contents: tuple[Section, ...] = ()
        self._cmids: frozenset[int] = frozenset()
        self._source: Path | Source | None = None
        self._folder: Path | None = None
        self._note: str | None = None

    @property
    def source(self) -> Path | Source | None:
        """The archive as it was made ready to be read; None before ``look`` and where that could not be."""
        return self._source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self._before.__exit__(kind, error, trace)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def look(self, on_progress: OnProgress = no_progress) -> None:
        """Read what will not be there afterwards. Reads only."""
        if not self._wanted:
            return
        with self._numbers_else():
            if self._request.source.course is None:  # a course is read where it is, afterwards
                self._source = self._readable(on_progress)
            if self._look_before:
                self._snapshot(on_progress)

    def _readable(self, on_progress: OnProgress) -> Path | Source:
        """The archive in a form that will still be there after the restore."""
        if self._request.source.path is not None:
            return self._request.source.path
        stored = self._request.source.stored
        assert stored is not None
        self._folder = Path(tempfile.mkdtemp(prefix="moodlectl-"))
        path = self._folder / "backup.mbz"
        inside = self._site.inside(stored, on_progress)
        if inside is None or not inside.hollow:  # a zip's contents would be read piece by piece, twice
            self._site.download(stored, path, on_progress)
            return path
        with inside.open() as coming, path.open("wb") as kept:
            shutil.copyfileobj(coming, kept, 1 << 20)
        from moodlectl.mbz.sources import Spooled

        return Spooled(path, inside.name)

    def _snapshot(self, on_progress: OnProgress) -> None:
        course = self._request.course_id
        assert course is not None
        self._contents = tuple(self._site.contents(course))
        self._cmids = _cmids(self._contents)
        self._before = Holdings().__enter__()
        from_site(partial(self._before.add, "a"), self._site, course, on_progress, as_user=self._request.as_user)

    @contextmanager
    def _numbers_else(self) -> Iterator[None]:
        """What stands in the way of comparing things leaves the numbers to be compared, and is told."""
        try:
            yield
        except MoodlectlError as trouble:
            _log.debug("only numbers are compared: %s", trouble.message)
            self._note = f"Only numbers were compared, not thing by thing: {trouble.message}"

    def verify(self, restored: Restored, on_progress: OnProgress = no_progress) -> Verified | None:
        """Compare thing by thing, else by the numbers that came with the restore; None where nobody wants it."""
        if not self._wanted:
            return None
        on_progress(Progress("verify", 0, None))
        if self._note is None and self._source is None and self._request.source.course is None:
            self._note = "Only numbers were compared, not thing by thing: the backup is not at hand any more."
        if self._note is None and not restored.settings:
            self._note = "Only numbers were compared, not thing by thing: the site does not tell what it restored with."
        if self._note is None:
            with self._numbers_else():
                return self._by_things(restored, on_progress)
        return Verified(verify.differences(restored), note=self._note)

    def verify_undo(
        self, restored: Restored, counts: Mapping[str, Any], on_progress: OnProgress = no_progress
    ) -> Verified:
        """As ``verify``, of a course that must be what it was, in the numbers, too, that were told of it then."""
        before = Counts(**{**counts, "activities": dict(counts.get("activities") or {})})
        found = self.verify(replace(restored, expected=before), on_progress)
        assert found is not None
        return found

    def _by_things(self, restored: Restored, on_progress: OnProgress) -> Verified:
        request, settings = self._request, restored.settings
        new: frozenset[int] | None = None
        if request.mode == "merge":
            now = _cmids(self._site.contents(restored.course.id))
            new = now - self._cmids if self._before is not None else frozenset(restored.activities.values())
        with Holdings() as holdings:
            by_hand = _by_hand(settings)
            taken = self._asked(_adding(holdings, "a", by_hand=by_hand), settings, on_progress)
            users = bool(settings.get("users"))
            part = Part(with_users=users or request.mode == "merge", only=new)
            add = _adding(holdings, "b", by_hand=by_hand)
            from_site(add, self._site, restored.course.id, on_progress, part, as_user=request.as_user)
            for name in _off(request, settings):
                holdings.about["b"][f"setting_{name}"] = "0"
            found = _brought(compare(holdings, BACKUP, COURSE), holdings, request, taken)
            self._look_again(restored, new or frozenset(), on_progress)
            told = (
                _filled(_stayed(self._accepted(self._stayed(self._idnumber(one))), restored))
                for one in found.differences
            )
            found = replace(found, differences=tuple(one for one in told if not self._is_met(one)))
            kept = self._kept(holdings)
            compared = sum(holdings.counts["a"].values())
        # People and activities are compared above one by one: those who stayed by cohort are no more than that, and a
        # question bank that is there takes in what the numbers expect a new one for.
        counted = [text for text in verify.differences(restored) if not text.startswith(("people", "activities"))]
        missing = restored.precheck.missing_plugins
        numbers = tuple(f"{text} (counted)" for text in counted) if found.equal and not missing else ()
        misplaced = placing.misplaced(request, restored, self._site) if request.placement else ()
        real = (*(one.text for one in found.real), *kept, *misplaced)
        lacking = tuple(f"{name} is missing on the site: what it made was left out, as accepted" for name in missing)
        return Verified(real or numbers, (*lacking, *(_known(one) for one in found.known)), compared)

    def _asked(self, add: Add, settings: Mapping[str, Any], on_progress: OnProgress) -> Chosen:
        """Tell all that was asked for: of the archive, or of the course it was made of for this restore alone."""
        from moodlectl import mbz

        course = self._request.source.course
        if course is None:
            assert self._source is not None
            taken = choosing.chosen_by(mbz.inspect(self._source), settings)
            from_file(add, self._source, on_progress, taken)
            return taken
        held = self._site.contents(course.course_id)
        taken = choosing.chosen_of_course(held, settings)
        wanted = _cmids(held) - taken.without_activities
        users = bool(settings.get("users"))
        if users and taken.without_userdata & wanted:
            raise Refused("people's data of some items was left out, and a course cannot be read like that.")
        part = Part(with_users=users, only=wanted)
        add, acting = _of_part(add, held, taken), self._request.as_user
        from_site(add, self._site, course.course_id, on_progress, part, as_user=acting)
        return taken

    def _idnumber(self, one: Difference) -> Difference:
        """Two items of a course cannot have one ID number: what is merged goes without."""
        place = "" if self._request.placement is None else "section"
        if self._before is None or set(one.facts) - {place} != {"idnumber"} or "then empty" not in one.text:
            return one
        wanted = one.text.partition("idnumber is '")[2].partition("', then empty")[0]
        if wanted not in self._before.values("a", "idnumber"):
            return one
        return replace(one, known=True, reason="another item of the course has that ID number")

    def _accepted(self, one: Difference) -> Difference:
        """Contents that were nowhere are missing, as was accepted."""
        file = one.kind in ("file", "user_file") and one.text.endswith(f"only in {BACKUP}")
        if file and "without-files" in self._request.allow:
            return replace(one, known=True, reason="its content is nowhere, as was accepted")
        return one

    def _is_met(self, one: Difference) -> bool:
        """Whether a question that a merge did not bring is one that the course had already."""
        if self._request.mode != "merge" or one.kind != "question" or one.facts:
            return False
        if one.text.endswith(f"only in {COURSE}"):
            return True
        return self._before is not None and self._before.has("b", "question", one.key)

    def _stayed(self, one: Difference) -> Difference:
        """Emptying a course leaves enrolments that nobody may take back by hand, such as those by cohort."""
        methods = {"manual", "self", "guest"}
        stays = one.kind in ("person", "enrolment", "role", "group_member") and one.text.endswith(f"only in {COURSE}")
        if self._request.mode != "replace" or not stays:
            return one
        if one.kind == "person" and one.key[-1] in methods:
            return one
        if one.kind == "enrolment" and one.key[0] in methods:
            return one
        if one.kind in ("role", "group_member") and one.where:
            return one
        return replace(one, known=True, reason="emptying a course leaves enrolments by cohort and the like")

    def _look_again(self, restored: Restored, new: frozenset[int], on_progress: OnProgress) -> None:
        """Read what there is now beside what came."""
        if self._before is None:
            return
        request, part = self._request, Part(without=new)
        self._before.forget("b")
        add = placing.as_before(request, self._contents, self._site.contents(restored.course.id))(
            partial(self._before.add, "b")
        )
        from_site(add, self._site, restored.course.id, on_progress, part, as_user=request.as_user)

    def _kept(self, brought: Holdings) -> tuple[str, ...]:
        """What the course held before and has no longer, or has twice now."""
        if self._before is None:
            return ()
        request = self._request
        found = compare(self._before, BEFORE, COURSE)
        if request.mode != "merge":
            kinds = _KEPT_PEOPLE * request.keep_enrolments + _KEPT_GROUPS * request.keep_groups
            return tuple(one.text for one in found.real if one.kind in kinds and one.text.endswith(f"only in {BEFORE}"))
        lost = tuple(one.text for one in found.real if _is_lost(one, request))
        return lost + _doubled(self._before, brought)


def _stayed(one: Difference, restored: Restored) -> Difference:
    """What emptying a course leaves in it: people of cohorts and the like, and its own custom fields."""
    if restored.mode != "replace" or one.known or not one.text.endswith(f"only in {COURSE}"):
        return one
    people = {name for each in restored.stayed.values() for name in each}
    stays = {
        "custom_field": True,
        "enrolment": one.key[0] in restored.stayed,
        "person": one.key[-1] in restored.stayed and one.key[0] in people,
        "role": len(one.key) > 2 and one.key[2] in people,
    }
    if not stays.get(one.kind):
        return one
    return replace(one, known=True, reason="emptying a course leaves it there")


def _filled(one: Difference) -> Difference:
    """Moodle makes those between the backup's sections, empty (course_create_sections_if_missing, 3.9 to 5.1).

    What stood in one that is there too much would be a difference of its own.
    """
    if one.kind != "section" or not one.text.endswith(f"only in {COURSE}"):
        return one
    return replace(one, known=True, reason="Moodle fills the gaps between numbered sections")


def _cmids(sections: Sequence[Section]) -> frozenset[int]:
    return frozenset(one.id for section in sections for one in section.activities)


def _known(one: Difference) -> str:
    return one.text if one.kind == "setting" else f"{one.text} ({one.reason})"


# --- what is compared ---------------------------------------------------------------------------------------------


def _by_hand(settings: Mapping[str, object]) -> bool:
    """Whether everybody was enrolled by hand, whatever the backup says."""
    return bool(settings.get("users")) and str(settings.get("enrolments")) in ("0", "False")


def _of_part(add: Add, held: Sequence[Section], taken: Chosen) -> Add:
    """Leaves out the sections of a course that were not backed up, and of a part all questions: which of them belong
    to it only a backup tells."""
    left_out = {
        f"subsection {one.name}" if one.parent_activity else str(one.number)
        for one in held
        if one.id in taken.without_sections
    }

    def add_taken(identity: Identity) -> None:
        kind, key, _ = identity
        if kind == "section" and key[0] in left_out:
            return
        if kind == "question" and taken.without_activities:
            return
        add(identity)

    return add_taken


def _adding(holdings: Holdings, side: Side, *, by_hand: bool) -> Add:
    """Puts things on a side; people once, as enrolled by hand, where that is what was asked for."""
    seen: set[str] = set()

    def by_hand_only(identity: Identity) -> None:
        kind, key, _ = identity
        if kind == "enrolment" or (kind == "person" and key[0] in seen):
            return
        if kind == "person":
            seen.add(key[0])
            identity = kind, (key[0], "manual"), {}
        holdings.add(side, identity)

    return by_hand_only if by_hand else partial(holdings.add, side)


def _off(request: RestoreRequest, settings: Mapping[str, object]) -> set[str]:
    """The settings whose things were not restored."""
    off = {name for name, value in settings.items() if not value and not _ITEM.search(name) and name != "enrolments"}
    always = str(settings.get("enrolments")) == "2"
    if request.keep_enrolments or (not settings.get("users") and not always):
        off.add("enrolments")
    if request.keep_enrolments:
        off.add("role_assignments")
    return off | {"groups"} if request.keep_groups else off


_ITEM = re.compile(r"_[0-9]+_(?:included|userinfo)$")


def _brought(found: Comparison, holdings: Holdings, request: RestoreRequest, taken: Chosen) -> Comparison:
    """The differences that count: of activities all, of the course's own things those that a restore brings."""
    part = bool(taken.without_activities or taken.without_sections)
    merged = request.mode == "merge"
    found = replace(found, differences=tuple(one for one in found.differences if not _is_asked(one, request)))
    if not part and not merged:
        return found
    kinds = _OF_ITEMS if request.items_only else _OF_COURSE
    if request.placement:
        kinds -= {"section"}  # they have other numbers there
    kinds = kinds - (_OF_WHOLE if part else frozenset()) - (_OF_OVERWRITTEN if merged else frozenset())
    enrolled = {key[0] for key in holdings.keys("b", "person")}

    def counts(one: Difference) -> bool:
        if one.where or one.kind == "setting":
            return True
        if one.kind not in kinds or not one.text.endswith(f"only in {BACKUP}"):
            return False
        # What is merged keeps the methods of enrolment that are there.
        return not (merged and one.kind == "person" and one.key[0] in enrolled)

    return replace(found, differences=tuple(one for one in found.differences if counts(one)))


_OF_COURSE = frozenset(
    {
        *("section", "person", "role", "group", "group_member", "grouping", "grouping_group", "question", "badge"),
        *("criterion", "course_completion", "grade_item", "grade_category", "block", "event", "comment", "content"),
        *("competency", "filter", "override", "file", "tag", "custom_field", "enrolment", "badge_award", "grade"),
    }
)
"""Of what belongs to no activity: what a restore brings."""
_OF_ITEMS = frozenset({"section", "group", "grouping", "grouping_group", "question"})
"""Of that: what comes even where only items are wanted."""
_OF_WHOLE = frozenset(
    {"badge", "badge_award", "criterion", "course_completion", "grade_item", "grade_category", "grade", "file"}
)
"""Of that: what it brings only together with everything."""
_OF_OVERWRITTEN = frozenset(
    {
        *("tag", "custom_field", "enrolment", "file", "block", "filter", "grade_item", "grade_category", "criterion"),
        *("course_completion", "event", "override", "grade"),
    }
)
"""Of that: what a course which is there already has in its own way."""


def _is_asked(one: Difference, request: RestoreRequest) -> bool:
    """Whether a difference is what was asked for: the course's own settings, its visibility, the place of items."""
    if request.placement and one.kind == "activity" and set(one.facts) == {"section"}:
        return True
    keeps = request.mode != "new" and not (request.overwrite_config or request.settings.get("overwrite_conf"))
    if one.where or not (keeps or one.kind == "course"):
        return False
    if keeps:
        own = one.kind == "file" and one.key[2] in ("course/summary", "course/overviewfiles")
        return own or one.kind in ("course", "custom_field", "tag")
    return request.visible is not None and set(one.facts) <= {"visible", *_NAMES, "startdate", "enddate"}


_NAMES = ("shortname", "fullname", "idnumber")


# --- what was there before ----------------------------------------------------------------------------------------

_KEPT_PEOPLE = ("person", "role")
_KEPT_GROUPS = ("group", "group_member", "grouping", "grouping_group")
_ONCE = ("group", "grouping", "grouping_group", "group_member", "person", "role", "question")


def _is_lost(one: Difference, request: RestoreRequest) -> bool:
    """Whether a merge may not have done that to what was there."""
    if one.kind in ("logs", "event", "setting", "view"):
        return False
    if one.kind in ("grade", "grade_item") and one.key[:2] == ("course", ""):
        return False  # totals are computed anew
    if one.kind == "grade_history":
        return False
    overwritten = request.overwrite_config or request.settings.get("overwrite_conf")
    renamed = overwritten or any((request.fullname, request.shortname, request.idnumber, request.startdate))
    if one.kind == "course" and (renamed or request.visible is not None):
        return False
    if one.kind == "section" and one.facts and set(one.facts) <= {"name", "summary"}:
        return False  # what is empty is filled in
    # From 5.0 on questions that have no place get a question bank of their own; what is doubled is told as such.
    if one.text.endswith(f"only in {COURSE}") and (one.kind == "question" or one.key[:1] == ("qbank",)):
        return False
    if one.where or one.text.endswith(f"only in {BEFORE}"):
        return True
    return one.kind in ("course",) and not overwritten


def _doubled(before: Holdings, brought: Holdings) -> tuple[str, ...]:
    """Things of the course itself that are there more often than in the course before and than in the backup."""
    found: list[str] = []
    # What was a course's own question bank before 5.0 becomes a new one with every restore into 5.0 and later.
    anew = branch(brought.about["a"]) < 500 <= branch(before.about["b"])
    for kind in _ONCE:
        if kind == "question" and anew:
            continue
        now, was = Counter(before.keys("b", kind)), Counter(before.keys("a", kind))
        brings = Counter(brought.keys("a", kind))
        for key, number in now.items():
            most = max(was[key], brings[key], 1)
            if number > most:
                named = f"{kind.replace('_', ' ')} {', '.join(key)}"
                found.append(f"{named}: {number} times in the course, {most} expected")
    return tuple(found)


def quick(restored: Restored) -> Verified:
    """The numbers alone, as they came with the restore."""
    return Verified(verify.differences(restored), note="Only numbers were compared, not thing by thing.")

