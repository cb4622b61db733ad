"""What a site whose host runs scripts only shows over web services, as evidence before and after. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.site import releases
from moodlectl.site.live import against, courses
from moodlectl.site.port import Counts, SiteInfo, UsersOutcome, UsersQuestion, no_progress

if TYPE_CHECKING:
    from moodlectl.config import SiteConfig
    from moodlectl.mbz import Manifest, UserRecord
    from moodlectl.site.admincli.host import Host
    from moodlectl.site.webservice import WebService

# Question banks are activities since 5.0, but none that core_course_get_contents shows.
_UNSEEN = "qbank"
_ENROLLED = "core_enrol_get_enrolled_users"
_AT_ONCE = 500


@dataclass(frozen=True)
class Means:
    """What there is to work with: the settings, the token's web services if there is a token, and the host."""

    config: SiteConfig
    web: WebService | None
    host: Host


def offers(ws: WebService, function: str) -> bool:
    """Whether the token's service has a function."""
    return any(each.get("name") == function for each in ws.site_info().get("functions") or ())


# --- counting --------------------------------------------------------------------------------------------------------


def counts(ws: WebService, course_id: int) -> Counts:
    """Sections, activities by module and, where the service tells, people enrolled; the rest is not counted.

    Question banks are not among the activities: web services do not show them.
    """
    sections = courses.contents(ws, course_id)
    found = Counter(activity.module for section in sections for activity in section.activities)
    del found[_UNSEEN]
    return Counts(
        sections=sum(1 for section in sections if section.number >= 0),
        activities=dict(found),
        users=_enrolled(ws, course_id) if offers(ws, _ENROLLED) else None,
    )


def _enrolled(ws: WebService, course_id: int) -> int:
    """``core_enrol_get_enrolled_users`` (``enrol/externallib.php``, 3.9 to 5.1), ids only."""
    options = [{"name": "userfields", "value": "id"}]
    return len(ws.call(_ENROLLED, {"courseid": course_id, "options": options}))


def expected(manifest: Manifest) -> Counts:
    """What a whole restore of that file brings, as far as ``counts`` can see it.

    A course has every section from 0 to its highest; the sections of subsections come on top.
    """
    included = [section for section in manifest.all_sections() if section.included]
    plain = [section.number for section in included if section.parent_cmid is None]
    numbered = [number for number in plain if number is not None]
    sections = max(numbered) + 1 if numbered and len(numbered) == len(plain) else len(plain)
    modules = Counter(activity.module for activity in manifest.all_activities() if activity.included)
    del modules[_UNSEEN]
    whole = manifest.type == "course"
    return Counts(sections + len(included) - len(plain) if whole else None, dict(modules))


# --- the dangers that can be known -----------------------------------------------------------------------------------


def dangers(manifest: Manifest, info: SiteInfo) -> dict[str, str]:
    """Which of ``port.DANGERS`` there are, each with what makes it one; missing plugins cannot be known.

    As the runner judges it: the first eight digits of a version are its branch's.
    """
    found: dict[str, str] = {}
    if _branch(manifest.moodle_version) > _branch(info.version) > 0:
        found["newer-backup"] = f"it was made by Moodle {manifest.moodle_release}, this site has {info.release}"
    if not manifest.include_files and manifest.counts.files.bytes and not manifest.same_site:
        found["without-files"] = "it carries no files, and whether this site has got them cannot be seen"
    return found


def _branch(version: str | None) -> int:
    digits = (version or "")[:8]
    return int(digits) if digits.isdigit() else 0


# modules of the releases from 3.9 to 5.1; chat and survey left in 5.0, assignment in 4.5.
_STANDARD = frozenset(
    {
        *("assign", "assignment", "bigbluebuttonbn", "book", "chat", "choice", "data", "feedback", "folder", "forum"),
        *("glossary", "h5pactivity", "imscp", "label", "lesson", "lti", "page", "qbank", "quiz", "resource", "scorm"),
        *("subsection", "survey", "url", "wiki", "workshop"),
    }
)
_GONE = {"assignment": (4, 5), "chat": (5, 0), "survey": (5, 0)}


def doubtful_modules(manifest: Manifest, info: SiteInfo) -> tuple[str, ...]:
    """Modules that the backup needs and that a site of that release need not have."""
    try:
        release = releases.release_of(info.release)
    except ValueError:
        release = releases.OLDEST
    return tuple(
        f"mod_{name}"
        for name in manifest.plugins.mod
        if name not in _STANDARD or (name in _GONE and release >= _GONE[name])
    )


# --- people ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Foreseen:
    """What a restore would do to people, as web services show it; ``notes`` are what they do not show."""

    outcome: UsersOutcome
    notes: tuple[str, ...]


def foresee_people(ws: WebService, path: Path, manifest: Manifest) -> Foreseen | None:
    """What restoring does to the people of a file, by Moodle's rules; None where the service has no look-up for it."""
    from moodlectl import mbz

    if not offers(ws, against.FUNCTION):
        return None
    site = manifest.original_site
    question = UsersQuestion(site.url, site.identifier_hash)
    fates: Counter[str] = Counter()
    conflicts: list[str] = []
    notes: tuple[str, ...] = ()
    for people in _in_pieces(mbz.read_users(path)):
        told = against.by_web(ws, people, question, no_progress)
        notes = told.notes
        fates.update(fate.outcome for fate in told.fates)
        conflicts += [one.username for one, fate in zip(people, told.fates, strict=True) if fate.outcome == "conflict"]
    if fates["unknown"]:
        notes = (*notes, f"Of {fates['unknown']} people the site hides what would become of them.")
    return Foreseen(UsersOutcome(fates["match"], fates["create"], tuple(conflicts)), notes)


def _in_pieces(people: Iterable[UserRecord]) -> Iterable[list[UserRecord]]:
    piece: list[UserRecord] = []
    for person in people:
        piece.append(person)
        if len(piece) == _AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


# --- courses of a category -------------------------------------------------------------------------------------------


def in_category(ws: WebService, category_id: int) -> dict[int, Mapping[str, Any]]:
    """The courses right in a category as the site records them, by id; hidden ones where the token may see them."""
    reply = ws.call("core_course_get_courses_by_field", {"field": "category", "value": str(category_id)})
    return {int(each["id"]): each for each in reply["courses"]}
