"""What carrying out a plan would do, course by course, with sizes, time, room and every finding. Reads only."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from moodlectl import ledger
from moodlectl.actions import checks, moves
from moodlectl.actions.planning import Resolution, Resolved
from moodlectl.errors import MoodlectlError
from moodlectl.findings import Finding, GuardMode, worst_first
from moodlectl.site.port import (
    BackupFile,
    CourseRef,
    OnProgress,
    Progress,
    RestoreRequest,
    RestoreSource,
    Site,
    SiteInfo,
    UsersQuestion,
    no_progress,
)

# Measured on real sites of middling size; where earlier runs are known, they tell better.
_SECONDS_A_COURSE = 12.0
_BYTES_A_SECOND = 8e6


@dataclass(frozen=True)
class Preview:
    """One course: how much it holds, and what was found. ``looked_at`` says what the findings rest on."""

    one: Resolved
    bytes: int | None = None
    activities: int | None = None
    people: int | None = None
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    looked_at: str = ""
    missing: int | None = None


@dataclass(frozen=True)
class Forecast:
    """A whole plan: all courses, the bytes of files they have, how long that may take, and the room there is.

    ``free_here`` is on this machine, where courses pass through it, ``free_there`` on the site they go to;
    ``needs_there`` of it. ``missing`` are the bytes of files that the target lacks, each content once; None where they
    travel in backups.
    """

    previews: tuple[Preview, ...]
    bytes: int
    seconds: float
    measured: bool
    free_here: int | None
    free_there: int | None
    needs_there: int
    missing: int | None = None


@dataclass(frozen=True)
class Pace:
    """How fast courses have gone: seconds each, and bytes a second; ``measured`` by earlier runs, or guessed."""

    seconds: float
    rate: float
    measured: bool


def forecast(
    resolution: Resolution,
    sides: tuple[Site, Site],
    jobs: int,
    guards: Mapping[str, GuardMode],
    on_progress: OnProgress = no_progress,
) -> Forecast:
    """Look at every course of a plan that something is to be done for. Leaves nothing behind. Raises Unreachable."""
    pace = _pace(resolution.todo[0].spec.to if resolution.todo else "")
    previews, missing, lacks = list[Preview](), _Missing(sides), _Lacks(sides)
    for place, one in enumerate(resolution.courses):
        on_progress(Progress("look", place, len(resolution.courses), message=one.shortname))
        preview = _preview(one, sides, pace, guards, lacks) if one.state == "todo" else Preview(one)
        previews.append(replace(preview, missing=missing.of(one)) if one.state == "todo" else preview)
    total = sum(preview.bytes or 0 for preview in previews)
    seconds = sum(preview.seconds for preview in previews)
    longest = max((preview.seconds for preview in previews), default=0.0)
    abroad = sides[0] is not sides[1]
    free = shutil.disk_usage(_existing(ledger.default_path().parent)).free if abroad else None
    # What is in them stays; archive and unpacked course of each restore under way go again. Contents that travel by
    # themselves, or are there already, need no more than is missing.
    packed = sorted((preview.bytes or 0 for preview in previews if not preview.one.spec.lean), reverse=True)
    absent = missing.total()
    needs = sum(packed) + 2 * sum(packed[:jobs]) + (absent or 0)
    there = sides[1].pressure().free
    longest = max(longest, seconds / max(jobs, 1))
    return Forecast(tuple(previews), total, longest, pace.measured, free, there, needs, absent)


class _Lacks:
    """What the target has not, or is too old for, told of courses of which there is no backup yet."""

    def __init__(self, sides: tuple[Site, Site]) -> None:
        self._source, self._target = sides

    @cached_property
    def _infos(self) -> tuple[SiteInfo, SiteInfo]:
        return self._source.info(), self._target.info()

    @cached_property
    def _modules(self) -> Mapping[str, bool]:
        return self._target.modules()

    @cached_property
    def _methods(self) -> Mapping[str, bool]:
        return self._target.enrolment_methods()

    def of(self, one: Resolved) -> Iterator[Finding]:
        """What would be missing of that course. The words of a plan accept it."""
        assert one.source.course is not None
        course, name = one.source.course.id, self._target.name
        ours, theirs = self._infos
        if ours.version[:8] > theirs.version[:8]:  # the branch's date, as Moodle writes it
            told = f"{self._source.name} has Moodle {ours.release}, {name} the older {theirs.release}."
            remedy = 'Update the target first. To try it all the same: allow = ["newer-backup"]'
            yield Finding("newer-backup", "danger", f"{told} Moodle restores that without a promise.", remedy)
        activities = self._source.counts(course).activities
        if missing := {module: count for module, count in activities.items() if module not in self._modules}:
            told = ", ".join(f"mod_{module} ({count})" for module, count in sorted(missing.items()))
            remedy = 'Have an administrator install them. To go without: allow = ["missing-plugins"]'
            yield Finding("missing-plugins", "danger", f"{name} lacks {told}; those activities are lost.", remedy)
        methods = Counter[str]()
        for each in self._source.course_facts(course).methods:
            methods[each.method] += each.people
        if lacked := moves.missing_methods(self._methods, methods):
            told = f"{name} has not these enrolment methods: {', '.join(lacked)}."
            yield Finding("enrolment-methods", "warning", told, "Have an administrator install or switch them on.")


class _Missing:
    """What the target lacks of the courses' files, each content counted with the first course that has it."""

    def __init__(self, sides: tuple[Site, Site]) -> None:
        self._sides, self._seen = sides, set[str]()
        self._bytes: int | None = None

    def of(self, one: Resolved) -> int | None:
        """The bytes that would be sent for that course; None where its files are in its backup."""
        source, target = self._sides
        if not one.spec.lean or one.source.course is None or source is target:
            return None
        users = one.spec.settings.get("users", True)
        found = source.pool().of_course(one.source.course.id, users=users)
        contents = [each for each in found if each.sha1 not in self._seen]
        self._seen |= {each.sha1 for each in contents}
        lacks = sum(each.size for each in target.pool().lacking(contents))
        self._bytes = (self._bytes or 0) + lacks
        return lacks

    def total(self) -> int | None:
        """The bytes of all courses together."""
        return self._bytes


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _pace(to: str) -> Pace:
    """How fast earlier runs onto that site were; a guess where there are fewer than three."""
    told = []
    for kind in ("rollover", "migrate"):
        for item in ledger.history(kind):
            size, ended, started = item.facts.get("bytes"), item.ended, item.started
            if item.state == "done" and item.spec.get("to") == to and size and ended and started:
                told.append((int(size), (ended - started).total_seconds()))
    if len(told) < 3:
        return Pace(_SECONDS_A_COURSE, _BYTES_A_SECOND, False)
    recent = sorted(told[-200:], key=lambda one: one[1])
    middle = recent[len(recent) // 2]
    return Pace(middle[1], max(_BYTES_A_SECOND, middle[0] / max(middle[1], 0.1)), True)


def _preview(
    one: Resolved, sides: tuple[Site, Site], pace: Pace, guards: Mapping[str, GuardMode], lacks: _Lacks
) -> Preview:
    source, target = sides
    if moves.RESTORE not in one.spec.steps:
        return Preview(one, seconds=1.0, looked_at="only the course itself is arranged")
    size, activities, people = _amounts(one, source)
    seconds = pace.seconds + (size or 0) / pace.rate
    try:
        findings, looked_at = _findings(one, source, target, {**guards, **moves.modes(one.spec)})
        if _travels_unseen(one, source, target):
            findings += lacks.of(one)
    except MoodlectlError as error:
        told = Finding(error.code, "forbidden", error.message, error.hint or "", error.details)
        findings, looked_at = [told], "what the site answered"
    findings = [replace(found, remedy=moves.in_words_of_a_plan(found.remedy)) for found in findings]
    ordered = worst_first(findings, one.spec.allow)
    return Preview(one, size, activities, people, round(seconds, 1), ordered, looked_at)


def _travels_unseen(one: Resolved, source: Site, target: Site) -> bool:
    """Whether a course goes to another site, and nothing but the course itself can be looked at before."""
    return source is not target and one.source.path is None and one.source.course is not None


def _amounts(one: Resolved, source: Site) -> tuple[int | None, int | None, int | None]:
    """How many bytes would travel, how many activities and people are in it."""
    if one.source.path is not None:
        return Path(one.source.path).stat().st_size, None, None
    assert one.source.course is not None
    counts = source.counts(one.source.course.id)
    size = one.source.stored.size if one.source.stored is not None else counts.file_bytes
    people = counts.users if one.spec.settings.get("users", True) else 0
    return size, sum(counts.activities.values()), people


def _findings(
    one: Resolved, source: Site, target: Site, guards: Mapping[str, GuardMode]
) -> tuple[list[Finding], str]:
    """All that a restore is checked for, of the backup, or of the newest there is of the course; where there is none,
    of the course it goes into and of the people who are in it."""
    archive, looked_at = _archive(one, source, target)
    goal = target.course(CourseRef("id", str(one.spec.target))) if one.spec.target is not None else None
    look = checks.Look(guards, plan=archive is not None, all=True)
    request = _request(one, target, archive or RestoreSource())
    found = list(checks.before(target, request, goal, look).findings)
    if _travels_unseen(one, source, target):
        looked_at = "the course itself; each backup is looked at before it is restored"
        if one.spec.settings.get("users", True):
            found += _people(one, source, target)
    return found, looked_at or "no backup: there is none yet; each restore is checked before it begins"


def _archive(one: Resolved, source: Site, target: Site) -> tuple[RestoreSource | None, str]:
    if one.source.path is not None:
        return RestoreSource(path=Path(one.source.path)), "the file"
    if source is not target or one.source.course is None:
        return None, ""
    newest = one.source.stored or _newest(source, one.source.course.id)
    if newest is None:
        return None, ""
    return RestoreSource(stored=newest), f"the backup of {newest.timecreated:%Y-%m-%d %H:%M}"


def _newest(site: Site, course_id: int) -> BackupFile | None:
    return next(iter(site.backups(course_id, ["course", "automated"]).files), None)


def _request(one: Resolved, target: Site, archive: RestoreSource) -> RestoreRequest:
    """The restore as it would be asked, into a category there is: one that is to be made cannot be looked at."""
    spec = one.spec
    looks = spec.looks
    category = None
    if spec.mode == "new":
        place = looks.place
        category = place.id if place is not None else None
        if category is None:
            category = _nearest(target, place.path if place is not None else ())
    return RestoreRequest(
        source=archive,
        mode=spec.mode,  # type: ignore[arg-type]
        category_id=category,
        course_id=spec.target,
        fullname=looks.fullname if spec.mode == "new" else None,
        shortname=looks.shortname if spec.mode == "new" and not spec.provisional else None,
        startdate=looks.arrangement().startdate,
        settings={"users": False} if spec.settings.get("users") is False else {},
        enrolments=spec.enrolments,  # type: ignore[arg-type]
        keep_enrolments=spec.keep_enrolments,
        keep_groups=spec.keep_groups,
        overwrite_config=spec.overwrite_config,
        users_conflict=spec.users_conflict,  # type: ignore[arg-type]
        allow=frozenset(spec.allow),
    )


def _nearest(site: Site, path: Sequence[str]) -> int | None:
    """The lowest category on that path that is there, else the first of the site."""
    there = {one.path: one.id for one in site.categories()}
    for length in range(len(path), 0, -1):
        if tuple(path[:length]) in there:
            return there[tuple(path[:length])]
    return next(iter(there.values()), None)


def _people(one: Resolved, source: Site, target: Site) -> list[Finding]:
    """People of the course who conflict with others on the target, or may not be made there, as the map leaves it."""
    assert one.source.course is not None
    enrolled, mapped = source.course_facts(one.source.course.id).people, _mapped(one)
    people = [person for person in enrolled if person.username not in mapped]
    info = source.info()
    told = target.users_against(people, UsersQuestion(info.url, info.identifier_hash))
    found = []
    for outcome, words in (("conflict", "conflict with other accounts"), ("cannot_create", "cannot be created")):
        names = [person.username for person, fate in zip(people, told.fates, strict=True) if fate.outcome == outcome]
        if names:
            shown = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            remedy = 'If they are the same people, say so: map = ["OLD=NEW"] or user_map = "FILE.csv".'
            found.append(Finding(outcome, "forbidden", f"{len(names)} people {words}: {shown}", remedy))
    return found


def _mapped(one: Resolved) -> set[str]:
    """The usernames of the source that the plan maps to accounts of the target."""
    from moodlectl.mbz import usermap

    entries = [usermap.parse_pair(pair) for pair in one.spec.map]
    if one.spec.user_map is not None:
        entries += usermap.read_user_map(Path(one.spec.user_map)).entries
    return {entry.old for entry in entries}
