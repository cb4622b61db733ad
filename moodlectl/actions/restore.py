"""Restore a backup: plan what would happen, do it, and compare the site with what was asked of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Literal

from moodlectl.actions import manifest, naming, recovery, travelling
from moodlectl.actions.naming import ItemWords
from moodlectl.actions.verification import Verification, Verified
from moodlectl.errors import UsageError
from moodlectl.findings import DANGERS, GUARDS
from moodlectl.site.port import (
    Course,
    Enrolments,
    ItemChoice,
    Mode,
    OnProgress,
    Placement,
    Restored,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    Site,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest


@dataclass(frozen=True)
class Wanted:
    """What one command line asks. ``target`` is a CATEGORY for ``new``, else a COURSE."""

    backup: str
    mode: Mode
    target: str
    fullname: str | None = None
    shortname: str | None = None
    idnumber: str | None = None
    startdate: date | None = None
    visible: bool | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)
    enrolments: Enrolments | None = None
    keep_enrolments: bool = False
    keep_groups: bool = False
    overwrite_config: bool = False
    items: ItemWords = field(default_factory=ItemWords)
    users_conflict: Literal["stop", "without-users"] = "stop"
    allow: Sequence[str] = ()
    as_user: str | None = None
    drop_backups: bool = False
    into_section: str | None = None
    after_section: str | None = None


@dataclass(frozen=True)
class Done:
    """A restore that was done, and how the site compares with what was asked; None where nobody looked."""

    restored: Restored
    verified: Verified | None

    @property
    def differences(self) -> tuple[str, ...] | None:
        """Each thing that is missing or other, one sentence each; None where nobody looked."""
        return None if self.verified is None else self.verified.differences


def check_allowed(allow: Sequence[str]) -> None:
    """Refuse to accept a danger that there is not. Raises UsageError."""
    known = (*DANGERS, *GUARDS)
    unknown = [name for name in allow if name not in known]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is no danger that could be allowed.", f"There are: {', '.join(known)}.")


def check_words(wanted: Wanted) -> None:
    """Refuse words that cannot go together, before anything is opened. Raises UsageError."""
    if wanted.mode != "replace":
        for name, asked in (
            ("--keep-enrolments", wanted.keep_enrolments),
            ("--keep-groups", wanted.keep_groups),
            ("--drop-backups", wanted.drop_backups),
        ):
            if asked:
                raise UsageError(f"{name} only means something with --replace: nothing else deletes them.")
    if wanted.mode == "new" and wanted.overwrite_config:
        raise UsageError("--overwrite-config only means something with --merge and --replace.")
    places = [n for n, w in (("--into-section", wanted.into_section), ("--after-section", wanted.after_section)) if w]
    if places and wanted.mode != "merge":
        raise UsageError(f"{places[0]} only means something with --merge: elsewhere everything has its own place.")
    if len(places) > 1:
        raise UsageError("Where merged items land is said twice.", "Give --into-section or --after-section.")
    check_allowed(wanted.allow)
    for name, text in (("--fullname", wanted.fullname), ("--shortname", wanted.shortname)):
        if text is not None and not text.strip():
            raise UsageError(f"{name} is empty.")


@contextmanager
def fetched(
    site: Site,
    backup: str,
    from_site: Site | None = None,
    on_progress: OnProgress = no_progress,
    road: travelling.Road | None = None,
) -> Iterator[RestoreSource]:
    """Where the archive is: a local file, a stored backup of this site, or one brought here from another site.

    What is brought here lies in a private temporary folder until the end of the block. Writes to the site's file pool
    what it lacks of a backup from another site, unless ``road`` has it in one piece; else reads only.
    """
    parsed = naming.parse_backup(backup)
    if isinstance(parsed, naming.LocalBackup):
        if from_site is not None:
            raise UsageError(f"{backup} is a file on this machine; --from names a site that a backup lies on.")
        yield RestoreSource(path=naming.existing(parsed.path))
    elif from_site is None:
        yield RestoreSource(stored=naming.find_stored(site, parsed))
    else:
        stored = naming.find_stored(from_site, parsed)
        with travelling.travelled(from_site, site, stored, road or travelling.Road(whole=True), on_progress) as source:
            yield source


def request_for(
    site: Site, wanted: Wanted, source: RestoreSource, held: Manifest | None = None
) -> tuple[RestoreRequest, Course | None]:
    """The restore that was asked for, with every name looked up, and the course it goes into. Reads only.

    ``held`` is what ``look`` found, if it was asked already. Raises UsageError, NotFound, Refused for a file that is
    not a whole backup.
    """
    check_words(wanted)
    held = held or look(site, source, needed=bool(wanted.items))
    sections = manifest.sections(held) if held else ()
    items = naming.choose_items(wanted.items, sections) if wanted.items else ItemChoice()
    target = None if wanted.mode == "new" else naming.find_course(site, wanted.target)
    category = naming.find_category(site, wanted.target) if wanted.mode == "new" else None
    recovers = recovery.is_meant(wanted.mode, wanted.items.only, wanted.items.userdata)
    request = RestoreRequest(
        source=source,
        mode=wanted.mode,
        category_id=category.id if category else None,
        course_id=target.id if target else None,
        fullname=wanted.fullname,
        shortname=wanted.shortname,
        idnumber=wanted.idnumber,
        startdate=wanted.startdate,
        visible=wanted.visible,
        settings=dict(wanted.settings),
        enrolments=wanted.enrolments,
        keep_enrolments=wanted.keep_enrolments,
        keep_groups=wanted.keep_groups,
        overwrite_config=wanted.overwrite_config,
        items=items,
        users_conflict=wanted.users_conflict,
        allow=frozenset(wanted.allow),
        as_user=wanted.as_user,
        drop_backups=wanted.drop_backups,
        placement=_placement(site, wanted, target),
        items_only=recovers and wanted.enrolments is None and "role_assignments" not in wanted.settings,
        wishes=recovery.WISHES - set(wanted.settings) if recovers else frozenset(),
    )
    return request, target


def _placement(site: Site, wanted: Wanted, target: Course | None) -> Placement | None:
    """The section of the target that was named, by id. Reads only. Raises UsageError, NotFound."""
    word = wanted.into_section or wanted.after_section
    if word is None or target is None:
        return None
    section = naming.find_section(word, site.contents(target.id))
    return Placement("into" if wanted.into_section else "after", section.id)


def look(site: Site, source: RestoreSource, *, needed: bool) -> Manifest | None:
    """What lies in the archive; a stored one is only read where that is needed, where it lies if that can be.

    A local file is always opened: a broken one is told before it travels. Reads only.
    """
    from moodlectl import mbz

    if source.path is not None:
        return mbz.inspect(source.path)
    if not needed or source.stored is None:
        return None
    inside = site.inside(source.stored)
    return mbz.inspect(inside) if inside else mbz.parse_manifest(site.manifest_xml(source.stored))


def plan(site: Site, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
    """What that restore would do, with Moodle's own pre-check. Leaves nothing behind on the site."""
    return site.restore_plan(request, on_progress)


def run(site: Site, request: RestoreRequest, on_progress: OnProgress = no_progress, *, verify: bool = True) -> Done:
    """Restore, and compare the site with what was asked of the file. Writes to the site.

    Raises AccessError, Refused (nothing changed), Failed (taken back), OutcomeUnknown.
    """
    with Verification(site, request, wanted=verify) as verification:
        verification.look(on_progress)
        restored = site.restore(request, on_progress)
        return Done(restored, verification.verify(restored, on_progress))
