"""What a site whose host runs scripts only shows over web services, as evidence before and after. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.site import releases
from moodlectl.site.live import accounts, courses
from moodlectl.site.port import Counts, SiteInfo, UsersOutcome

if TYPE_CHECKING:
    from moodlectl.config import SiteConfig
    from moodlectl.mbz import Manifest, UserRecord
    from moodlectl.mbz.usermap import Account
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


def foresee_people(ws: WebService, path: Path, *, same_site: bool) -> UsersOutcome | None:
    """What restoring does to people, by Moodle's rules; None where the service does not let that be looked up.

    ``restore_dbops::precheck_user`` (3.9 to 5.1): on the same site id and username belong together, on another the
    username and one of e-mail address and first access. Accounts that hide both are not judged.
    """
    from moodlectl import mbz

    if not offers(ws, accounts.FUNCTION):
        return None
    matched = created = 0
    conflicts: list[str] = []
    for people in _in_pieces(person for person in mbz.read_users(path) if not person.deleted):
        known = {each.username: each for each in accounts.by_web(ws, [person.username for person in people])}
        for person in people:
            account = known.get(person.username)
            if account is None:
                created += 1
            elif _is_same(person, account, same_site=same_site):
                matched += 1
            else:
                conflicts.append(person.username)
    return UsersOutcome(matched, created, tuple(conflicts))


def _is_same(person: UserRecord, account: Account, *, same_site: bool) -> bool:
    if same_site:
        return account.id == person.id
    if account.email is None and account.firstaccess is None:
        return True
    if account.email is not None and account.email.casefold() == person.email.casefold():
        return True
    return bool(person.firstaccess) and account.firstaccess == person.firstaccess


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
