"""Copy a course, or import one into another, on the same site: as a restore whose source is a course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from moodlectl.actions import naming, restore
from moodlectl.actions.naming import ItemWords
from moodlectl.errors import UsageError
from moodlectl.site.port import (
    Course,
    CourseSource,
    Enrolments,
    ItemChoice,
    RestoreRequest,
    RestoreSource,
    Rules,
    Site,
)


@dataclass(frozen=True)
class WantedCopy:
    """What one ``copy`` asks. People stay behind unless ``settings`` has ``users``; ``category`` is a CATEGORY."""

    course: str
    category: str
    shortname: str
    fullname: str | None = None
    idnumber: str | None = None
    startdate: date | None = None
    visible: bool | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)
    enrolments: Enrolments | None = None
    items: ItemWords = field(default_factory=ItemWords)
    as_user: str | None = None
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class WantedImport:
    """What one ``import`` asks: ``source`` and ``target`` are COURSEs."""

    source: str
    target: str
    delete_contents: bool = False
    settings: Mapping[str, bool] = field(default_factory=dict)
    items: ItemWords = field(default_factory=ItemWords)
    drop_backups: bool = False
    as_user: str | None = None
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class Planned:
    """A copy or import with every name looked up: the restore it is, the course it comes from and, for an import,
    the one it goes into."""

    request: RestoreRequest
    source: Course
    target: Course | None


_NEVER = {
    "files": "on the same site files are never carried along, and never left out",
    "imscc11": "it is a format to export in",
    "anonymize": "the people of a copy are those of the site",
}


def check_settings(settings: Mapping[str, bool], rules: Rules) -> None:
    """Refuse settings that mean nothing within one site, before anything is opened. Raises UsageError."""
    for name, why in _NEVER.items():
        if name in settings:
            raise UsageError(f"'{name}' means nothing here: {why}.")
    if rules == "import" and settings.get("users"):
        raise UsageError(
            "An import never brings people.",
            "To bring them: moodlectl backup create SOURCE, then moodlectl restore BACKUP --merge TARGET.",
        )


def check_copy(wanted: WantedCopy) -> None:
    """Refuse words that cannot go together, before anything is opened. Raises UsageError."""
    restore.check_allowed(wanted.allow)
    check_settings(wanted.settings, "copy")
    for name, text in (("--fullname", wanted.fullname), ("--shortname", wanted.shortname)):
        if text is not None and not text.strip():
            raise UsageError(f"{name} is empty.")


def check_import(wanted: WantedImport) -> None:
    """Refuse words that cannot go together, before anything is opened. Raises UsageError."""
    restore.check_allowed(wanted.allow)
    check_settings(wanted.settings, "import")
    if wanted.drop_backups and not wanted.delete_contents:
        raise UsageError("--drop-backups only means something with --delete-contents: nothing else deletes them.")


def plan_copy(site: Site, wanted: WantedCopy) -> Planned:
    """The copy that was asked for, with every name looked up. Reads only. Raises UsageError, NotFound."""
    check_copy(wanted)
    source = naming.find_course(site, wanted.course)
    category = naming.find_category(site, wanted.category)
    settings = {"users": False, **wanted.settings}
    request = RestoreRequest(
        source=_source(site, source, "copy", settings, wanted.items),
        mode="new",
        category_id=category.id,
        fullname=wanted.fullname or source.fullname,
        shortname=wanted.shortname,
        idnumber=wanted.idnumber,
        startdate=wanted.startdate,
        visible=wanted.visible,
        settings=settings,
        enrolments=wanted.enrolments,
        as_user=wanted.as_user,
        allow=frozenset(wanted.allow),
    )
    return Planned(request, source, None)


def plan_import(site: Site, wanted: WantedImport) -> Planned:
    """The import that was asked for, with every name looked up. Reads only. Raises UsageError, NotFound.

    Where the contents of the target go, its people stay with their roles and groups: an import brings none.
    """
    check_import(wanted)
    source = naming.find_course(site, wanted.source)
    target = naming.find_course(site, wanted.target)
    if source.id == target.id:
        raise UsageError(
            f"{source.shortname} cannot be imported into itself.",
            "Name two courses. To have it twice: moodlectl copy COURSE --new CATEGORY --shortname T",
            code="same_course",
        )
    request = RestoreRequest(
        source=_source(site, source, "import", wanted.settings, wanted.items),
        mode="replace" if wanted.delete_contents else "merge",
        course_id=target.id,
        settings=dict(wanted.settings),
        keep_enrolments=wanted.delete_contents,
        keep_groups=wanted.delete_contents,
        as_user=wanted.as_user,
        drop_backups=wanted.drop_backups,
        allow=frozenset(wanted.allow),
    )
    return Planned(request, source, target)


def _source(
    site: Site, course: Course, rules: Rules, settings: Mapping[str, bool], words: ItemWords
) -> RestoreSource:
    items = naming.choose_items(words, site.contents(course.id)) if words else ItemChoice()
    # What an import may not bring is settled by its rules, and locked there.
    asked = {name: value for name, value in settings.items() if rules == "copy" or name != "users"}
    return RestoreSource(course=CourseSource(course.id, rules, asked, items))


def asked(wanted: WantedCopy | WantedImport) -> dict[str, Any]:
    """The command line for the record: what was said, in its own words."""
    from dataclasses import asdict

    said = {name: value for name, value in asdict(wanted).items() if value not in (None, False, [], {}, ())}
    source = wanted.course if isinstance(wanted, WantedCopy) else wanted.source
    items = {name: value for name, value in asdict(wanted.items).items() if value}
    return {**said, "items": items, "backup": source}
