"""The guards on a course that something is merged into or replaced: is it the one meant, and who would miss what.

Each stops, warns or is ignored: as the command says, else as the site's settings say, else it warns; ``same-backup``
then stops where a merge would bring again what an earlier one brought and what is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moodlectl import ledger
from moodlectl.errors import UsageError
from moodlectl.findings import GUARD_MODES, GUARDS, Finding, GuardMode, Severity
from moodlectl.site.port import Activity, Course, RestoreRequest, Section, Site, Standing

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest

Modes = Mapping[str, GuardMode]


def parse(words: Sequence[str]) -> dict[str, GuardMode]:
    """The modes that a command line names, each ``NAME=stop|warn|ignore``. Raises UsageError."""
    found: dict[str, GuardMode] = {}
    for word in words:
        name, _, mode = word.partition("=")
        if name not in GUARDS:
            raise UsageError(f"'{name}' is no guard.", f"There are: {', '.join(GUARDS)}.")
        if mode not in GUARD_MODES:
            raise UsageError(f"--guard {word}: a guard can stop, warn or ignore.", f"Write it as {name}=stop.")
        found[name] = next(each for each in GUARD_MODES if each == mode)
    return found


@dataclass(frozen=True)
class Scene:
    """What the guards look at: the restore, the course, who is in it, the backup's own sha1 and what it holds."""

    site: Site
    request: RestoreRequest
    course: Course
    standing: Standing
    sha1: str | None
    held: Manifest | None = None


def findings(scene: Scene, modes: Modes) -> Iterator[Finding]:
    """What the guards find, as far as they are not ignored. Reads only."""
    for name, look in _LOOKS.items():
        mode = modes.get(name)
        if mode == "ignore":
            continue
        for found in look(scene):
            yield _weighed(found, mode)


def _weighed(found: Finding, mode: GuardMode | None) -> Finding:
    """A guard's finding with the weight it was given; by default what it says itself."""
    severity: Severity = found.severity
    if mode == "stop":
        severity = "danger"
    elif mode == "warn" and severity == "danger":
        severity = "warning"
    remedy = found.remedy
    if severity == "danger":
        remedy = f"{remedy} To go on: --allow {found.name}".strip()
    return Finding(found.name, severity, found.message, remedy, found.details)


# --- the looks ------------------------------------------------------------------------------------------------------


def _title(scene: Scene) -> Iterator[Finding]:
    course, verb = scene.course, "Replaces what is in" if scene.request.mode == "replace" else "Adds to"
    details = {"id": course.id, "fullname": course.fullname, "shortname": course.shortname, "url": course.url}
    told = f"{verb} {course.fullname} ({course.shortname}, id:{course.id})"
    yield Finding("title", "note", f"{told} in {course.category_name or 'its category'}.", "", details)


def _students(scene: Scene) -> Iterator[Finding]:
    count = scene.standing.students
    if count:
        replace = scene.request.mode == "replace"
        keep = " --keep-enrolments keeps them enrolled." if replace and not scene.request.keep_enrolments else ""
        people = "One student is" if count == 1 else f"{count:,} students are"
        yield Finding("students", "warning", f"{people} enrolled in {scene.course.shortname}.",
                      f"See that it is the course that is meant.{keep}", {"students": count})  # fmt: skip
    elif count is None:
        yield _unseen("students", "whether students are enrolled")


def _grades(scene: Scene) -> Iterator[Finding]:
    grades, work = scene.standing.grades, scene.standing.submissions
    held = [f"{grades:,} grades"] if grades else []
    held += [f"{work:,} submissions and attempts"] if work else []
    if held:
        gone = scene.request.mode == "replace"
        yield Finding(
            "grades",
            "warning",
            f"{scene.course.shortname} holds {' and '.join(held)}{'; they go with what it holds' if gone else ''}.",
            "See that it is the course that is meant.",
            {"grades": grades, "submissions": work},
        )
    elif grades is None:
        yield _unseen("grades", "whether the course holds grades")


def _visited(scene: Scene) -> Iterator[Finding]:
    visitors, last = scene.standing.visitors, scene.standing.last_visit
    if visitors and last is not None:
        people = "One person was" if visitors == 1 else f"{visitors:,} people were"
        yield Finding(
            "visited",
            "warning",
            f"{people} in {scene.course.shortname} in the last two weeks, the last of them {_ago(last)}.",
            "Tell them, or choose a quiet time.",
            {"visitors": visitors, "last_visit": last.isoformat()},
        )
    elif visitors is None:
        yield _unseen("visited", "who was in the course lately")


def _visible(scene: Scene) -> Iterator[Finding]:
    if scene.course.visible:
        yield Finding("visible", "warning", f"Students can see {scene.course.shortname} while it changes.",
                      "Hide it first, if that matters.", {"visible": True})  # fmt: skip


def _same_backup(scene: Scene) -> Iterator[Finding]:
    if scene.request.source.course is not None:
        return  # a course is no backup
    if scene.sha1 is None:
        yield _unseen("same-backup", "whether this backup was restored into the course before")
    doubled: dict[str, int] = {}
    earlier = list(_earlier(scene))
    for number, ended, brought in earlier:
        mine = _doubled(scene, brought)
        doubled.update(dict.fromkeys(mine.values(), number))
        if not mine:
            yield Finding(
                "same-backup",
                "warning",
                f"This backup was restored into {scene.course.shortname} before: job {number}, {_ago(ended)}.",
                f"Look what it did: moodlectl job show {number}",
                {"job": number, "ended": ended.isoformat()},
            )
    if doubled:
        titles = list(doubled)
        yield Finding(
            "same-backup",
            "danger",
            f"{scene.course.shortname} would hold these twice; job {max(doubled.values())} brought them from this same"
            f" backup: {', '.join(titles[:10])}{', …' if len(titles) > 10 else ''}.",
            "Leave them out (--skip ITEM), or take that restore back first (moodlectl restore --undo"
            f" {max(doubled.values())}).",
            {"jobs": sorted(set(doubled.values())), "items": titles},
        )
    else:
        yield from _of_the_same_name(scene)
    if not earlier:  # what this machine did is known better
        yield from _told_by_the_site(scene)


def _unseen(name: str, what: str) -> Finding:
    return Finding(name, "note", f"The site could not be asked {what}.", "", {"known": False})


_LOOKS: Mapping[str, Callable[[Scene], Iterable[Finding]]] = {
    "title": _title,
    "students": _students,
    "grades": _grades,
    "visited": _visited,
    "visible": _visible,
    "same-backup": _same_backup,
}


# --- this same backup before ----------------------------------------------------------------------------------------


def _earlier(scene: Scene) -> Iterator[tuple[int, datetime, Mapping[int, int]]]:
    """Restores of this file into this course that the ledger knows: job, when, old course module ids to new ones."""
    if scene.sha1 is None:
        return
    for job, item in ledger.restored_from(scene.sha1, scene.site.info().url, scene.course.id):
        brought = {int(old): int(new) for old, new in item.facts["activities"].items()}
        yield job.id, item.ended or job.created, brought


def _doubled(scene: Scene, brought: Mapping[int, int]) -> dict[int, str]:
    """Of what was brought then, what is still there and would be brought again: new course module id to title."""
    if scene.request.mode != "merge":
        return {}
    again = _chosen(scene)
    news = {new for old, new in brought.items() if again is None or old in again}
    return {one.id: _named(one.module, one.name) for one in _activities(scene.site.contents(scene.course.id))
            if one.id in news}  # fmt: skip


def _chosen(scene: Scene) -> set[int] | None:
    """The course module ids of the backup that the restore would bring; None for all there are."""
    from moodlectl.actions import manifest

    return manifest.chosen(scene.held, scene.request.items)[1] if scene.held is not None else None


def _of_the_same_name(scene: Scene) -> Iterator[Finding]:
    """Activities of the same type and title are no proof, but worth a look."""
    if scene.request.mode != "merge" or scene.held is None:
        return
    chosen = _chosen(scene)
    mine = {(one.module, one.name) for one in _activities(scene.site.contents(scene.course.id))}
    twice = [_named(one.module, one.title) for one in scene.held.all_activities()
             if one.included and (chosen is None or one.id in chosen) and (one.module, one.title) in mine]  # fmt: skip
    if twice:
        yield Finding(
            "same-backup",
            "warning",
            f"{scene.course.shortname} has activities of the same type and title already, and will have them twice:"
            f" {', '.join(twice[:10])}{', …' if len(twice) > 10 else ''}.",
            "Leave them out with --skip, or bring what is missing with --only.",
            {"items": twice},
        )


def _told_by_the_site(scene: Scene) -> Iterator[Finding]:
    """What the site's own log says of restores into the course from the course that the backup is of."""
    if scene.held is None or not scene.standing.restored or not scene.held.course.id:
        return
    info = scene.site.info()
    original = scene.held.original_site
    same = original.identifier_hash == info.identifier_hash if info.identifier_hash else original.url == info.url
    times = [at for at, origin in scene.standing.restored if origin == scene.held.course.id] if same else []
    if times:
        yield Finding(
            "same-backup",
            "warning",
            f"The site's log says that a backup of course {scene.held.course.id} was restored into"
            f" {scene.course.shortname} {len(times)} time{'s' if len(times) > 1 else ''}, last {_ago(times[0])}.",
            "See that nothing comes twice.",
            {"times": [at.isoformat() for at in times]},
        )


def _activities(sections: Sequence[Section]) -> Iterator[Activity]:
    return (one for section in sections for one in section.activities)


def _named(module: str, title: str) -> str:
    return f'{module} "{title}"'


def _ago(moment: datetime) -> str:
    """How long ago, for people: ``3 hours ago``, ``just now``."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
