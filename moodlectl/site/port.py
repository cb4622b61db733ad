"""The one port between what a person wants done and a Moodle that can do it.

``Site`` is the Protocol; the frozen records below are all that passes through it. ``site.live`` answers it from a
real Moodle, ``site.practice`` from a small built-in one, and one contract suite holds both to the same words.

Conventions: ids are Moodle's own; times are aware ``datetime`` in UTC (``None`` where Moodle stores 0); sizes are
bytes; text is as Moodle stores it, not escaped for a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from moodlectl.errors import MoodlectlError
from moodlectl.findings import DANGERS as DANGERS
from moodlectl.findings import Finding

Area = Literal["course", "private", "automated"]
AREAS: tuple[Area, ...] = ("course", "private", "automated")
Mode = Literal["new", "merge", "replace"]
Enrolments = Literal["manual", "with-users", "always"]


# --- progress ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """One step forward of something long: ``done`` of ``total`` units, ``total`` None where unknown.

    ``phase`` is one of the few words a person sees: ``backup``, ``download``, ``upload``, ``unpack``, ``check``,
    ``restore``, ``verify``, ``scan``. ``unit`` is ``bytes`` or ``steps``. Once a deed, before its first lasting change,
    the phase is ``BEGUN`` and ``done`` the id of the course it changes, 0 where that is still to be made; a site
    whose deeds happen wholly or not at all has no need to say so.
    """

    phase: str
    done: float
    total: float | None = None
    unit: Literal["bytes", "steps"] = "steps"
    message: str = ""


BEGUN = "begun"

OnProgress = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """The progress callback of whoever does not care."""


# --- what a site is ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteInfo:
    """Who answers: ``release`` such as ``4.5.6 (Build: 20250811)``, ``version`` such as ``2024100706.00``.

    ``identifier_hash`` is the md5 of Moodle's site identifier as backups carry it, None without a shell.
    ``username`` is the user the site acts as.
    """

    name: str
    url: str
    release: str
    version: str
    username: str
    identifier_hash: str | None = None


class Verdict(enum.StrEnum):
    """How one line of a site check went."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One line of ``site check``: what was looked at, how it went, and what to do about it."""

    name: str
    verdict: Verdict
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Pressure:
    """How hard a site has it now: ``load`` of the last minute for each of its processors, ``tasks`` that wait for
    cron, ``free`` bytes where it unpacks backups and keeps files. None where that is not known."""

    load: float | None = None
    tasks: int | None = None
    free: int | None = None
    maintenance: bool = False


@dataclass(frozen=True)
class Category:
    """A course category; ``path`` is its names from the top, outermost first."""

    id: int
    name: str
    idnumber: str
    parent: int
    path: tuple[str, ...]
    visible: bool
    courses: int


@dataclass(frozen=True)
class Course:
    """A course as lists show it. ``idnumber`` is empty where there is none or it may not be seen."""

    id: int
    shortname: str
    fullname: str
    idnumber: str
    category_id: int
    category_name: str
    startdate: datetime | None
    visible: bool
    url: str
    format: str = ""
    enddate: datetime | None = None


@dataclass(frozen=True)
class CourseRef:
    """How a person named a course, already taken apart: ``id``, ``shortname`` or ``idnumber`` and its value.

    ``cmid`` and ``sectionid`` are an activity or section of it, as pasted addresses have them.
    """

    field: Literal["id", "shortname", "idnumber", "cmid", "sectionid"]
    value: str

    def __str__(self) -> str:
        return self.value if self.field == "shortname" else f"{self.field}:{self.value}"


@dataclass(frozen=True)
class CategoryRef:
    """How a person named a category: by ``id``, ``idnumber``, or a ``path`` of names ``Science / Biology``."""

    field: Literal["id", "idnumber", "path"]
    value: str


@dataclass(frozen=True)
class Activity:
    """One activity: ``id`` is the course module id; ``subsection`` the section it unfolds into, if it is one."""

    id: int
    module: str
    name: str
    visible: bool = True
    subsection_id: int | None = None


@dataclass(frozen=True)
class Section:
    """One section with its activities in order; ``parent_activity`` is the cmid of the subsection it belongs to."""

    id: int
    number: int
    name: str
    visible: bool = True
    activities: tuple[Activity, ...] = ()
    parent_activity: int | None = None


@dataclass(frozen=True)
class Counts:
    """What a course, or a backup of one, holds, in numbers that can be compared.

    ``activities`` counts by module name. ``users`` are people enrolled (site) or included (backup). ``grades`` are
    grades that have a value, without totals that nobody has overridden (Moodle computes them when it likes),
    ``questions`` question bank entries, ``files`` files of the course without its backups, and ``file_bytes`` their
    sizes added up. None means not counted there.
    """

    sections: int | None = None
    activities: Mapping[str, int] = field(default_factory=dict)
    users: int | None = None
    groups: int | None = None
    grade_items: int | None = None
    grades: int | None = None
    questions: int | None = None
    files: int | None = None
    file_bytes: int | None = None


# --- backups ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BackupFile:
    """A stored backup. ``locator`` is the site's own handle to it, opaque to everybody else.

    ``area`` is where it lies; ``owner`` the username for the private area; ``directory`` is set where it lies in
    the external folder of automated backups. ``sha1`` is None where the site was not asked for it (REST alone).
    """

    course_id: int
    course_shortname: str
    area: Area
    filename: str
    size: int
    timecreated: datetime
    sha1: str | None
    has_users: bool | None
    url: str | None
    owner: str | None = None
    directory: str | None = None
    locator: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class BackupListing:
    """The backups found, newest first, and what could not be looked at and why (one sentence each)."""

    files: tuple[BackupFile, ...]
    notes: tuple[str, ...] = ()


LockedBy = Literal["config", "hierarchy", "permission"]


@dataclass(frozen=True)
class Setting:
    """One setting of a backup or restore plan, by Moodle's own name.

    ``level`` is ``root``, ``course``, ``section``, ``activity``, ``subsection`` or ``subactivity``; for items
    ``item_id`` is the section id or course module id and ``item`` its title. ``choices`` is set for a list.
    ``locked_by``: the admin's configuration, a setting it depends on (named in ``depends_on``), or a missing
    capability of the acting user.
    """

    name: str
    value: str | int | bool | None
    level: str
    label: str = ""
    visible: bool = True
    locked_by: LockedBy | None = None
    depends_on: tuple[str, ...] = ()
    item_id: int | None = None
    item: str = ""
    module: str = ""
    choices: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ItemChoice:
    """Which sections and activities take part, by id: section ids and course module ids.

    For a backup the ids are the course's own; for a restore they are the ids *in the backup*. ``only_*`` None means
    all. Where ``only_activities`` is given exactly those take part, with the sections and subsections they stand in
    and what lies in a subsection of which nothing is chosen singly; ``only_sections`` alone brings all that is in them.
    ``userdata_*``/``no_userdata_*`` name the items whose user data is explicitly wanted or not.
    """

    only_sections: frozenset[int] | None = None
    only_activities: frozenset[int] | None = None
    skip_sections: frozenset[int] = frozenset()
    skip_activities: frozenset[int] = frozenset()
    userdata_sections: frozenset[int] = frozenset()
    userdata_activities: frozenset[int] = frozenset()
    no_userdata_sections: frozenset[int] = frozenset()
    no_userdata_activities: frozenset[int] = frozenset()


@dataclass(frozen=True)
class BackupRequest:
    """One backup to make. ``settings`` are root settings by Moodle's name with the wanted value.

    ``deed``, 32 hexadecimal digits, is what to ask for afterwards where no answer came (``Site.deed``).
    """

    course_id: int
    settings: Mapping[str, bool] = field(default_factory=dict)
    items: ItemChoice = field(default_factory=ItemChoice)
    as_user: str | None = None
    deed: str | None = None


@dataclass(frozen=True)
class BackupQueued:
    """A backup that the site's cron will make: where it will lie, under what name, and when cron was last at work."""

    course_id: int
    area: Area
    filename: str
    cron: datetime | None


@dataclass(frozen=True)
class BackupMade:
    """What a backup ended with: the stored file, the root settings it was made with, Moodle's warnings."""

    file: BackupFile
    settings: Mapping[str, str | int | bool | None]
    warnings: tuple[str, ...]
    seconds: float


# --- restores ---------------------------------------------------------------------------------------------------


Rules = Literal["copy", "import"]


@dataclass(frozen=True)
class CourseSource:
    """A course of the very site, backed up for one restore alone: nothing of that backup is kept.

    ``settings`` and ``items`` are those of the backup. ``rules``: ``copy`` is an ordinary backup and restore,
    ``import`` Moodle's import into a course, which has capabilities of its own and never brings people.
    """

    course_id: int
    rules: Rules
    settings: Mapping[str, bool] = field(default_factory=dict)
    items: ItemChoice = field(default_factory=ItemChoice)


@dataclass(frozen=True)
class RestoreSource:
    """Where the archive is: a local file, a stored backup of the very site that restores, or a course of it."""

    path: Path | None = None
    stored: BackupFile | None = None
    course: CourseSource | None = None


Keepsake = Mapping[str, Any]
"""What a course holds that no backup carries, such as who was given its badges and notes about people. The site's own
record, opaque to everybody else, good for that course of that site alone."""


@dataclass(frozen=True)
class Work:
    """What people have done in a course since some moment: ``changes`` by ``people`` (usernames), the ``last`` when.

    ``known`` is False where the site keeps no log of it.
    """

    known: bool
    changes: int = 0
    people: tuple[str, ...] = ()
    last: datetime | None = None


@dataclass(frozen=True)
class Placement:
    """Where what is merged into a course lands: ``into`` a section of it, or as sections of its own ``after`` one."""

    how: Literal["into", "after"]
    section_id: int


@dataclass(frozen=True)
class RestoreRequest:
    """One restore to do. Exactly one of ``category_id`` (mode new) and ``course_id`` (merge, replace) is set.

    ``settings`` are root and course settings by Moodle's name. Texts left None stay what Moodle makes of them.
    ``users_conflict`` ``without-users`` restores without people where they conflict, instead of refusing.
    ``allow`` names the dangers a person has accepted; each of ``DANGERS`` is refused otherwise. The backups stored in a
    course that is replaced stay, unless ``drop_backups``. To mode merge belong ``placement``, where what is merged
    lands, and ``items_only``: of what belongs to the backup's course itself, such as enrolments, roles, blocks and
    comments, nothing comes. ``wishes`` are settings to switch on where that may be done. ``deed`` is as in
    ``BackupRequest``. ``keepsake`` is given back to a course that is replaced.
    """

    source: RestoreSource
    mode: Mode
    category_id: int | None = None
    course_id: int | None = None
    fullname: str | None = None
    shortname: str | None = None
    idnumber: str | None = None
    startdate: date | None = None
    visible: bool | None = None
    settings: Mapping[str, bool | int | str] = field(default_factory=dict)
    enrolments: Enrolments | None = None
    keep_enrolments: bool = False
    keep_groups: bool = False
    overwrite_config: bool = False
    items: ItemChoice = field(default_factory=ItemChoice)
    users_conflict: Literal["stop", "without-users"] = "stop"
    allow: frozenset[str] = frozenset()
    as_user: str | None = None
    drop_backups: bool = False
    placement: Placement | None = None
    items_only: bool = False
    wishes: frozenset[str] = frozenset()
    deed: str | None = None
    keepsake: Keepsake | None = None


@dataclass(frozen=True)
class Precheck:
    """Moodle's own pre-check, word for word, and what the site lacks that the backup needs.

    ``missing_plugins`` are frankenstyle names such as ``mod_hotpot``; Moodle itself drops those without a word.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing_plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class UsersOutcome:
    """What restoring does to people: matched with accounts there are, created, in conflict (usernames)."""

    matched: int = 0
    created: int = 0
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do, found out without changing anything but temporary files, which are gone again.

    ``findings`` is everything the site itself has to say before it, also what would have it refuse; ``dangers`` are
    the names among them that may be accepted.
    """

    request: RestoreRequest
    precheck: Precheck
    users: UsersOutcome
    settings: tuple[Setting, ...]
    expected: Counts
    target: Course | None
    target_counts: Counts | None
    fullname: str
    shortname: str
    backup_release: str
    site_release: str
    same_site: bool
    dangers: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Who and what stands in the way of changing a course. None is what the site could not be asked.

    ``students`` are people enrolled in a role that is graded, ``grades`` those given that are no totals,
    ``submissions`` work and attempts handed in. ``visitors`` were there in the last two weeks, the last of them at
    ``last_visit``; ``active`` in the last five minutes; the acting user is not counted. ``running`` are backups,
    restores and copies under way or queued, a sentence each. ``restored`` is when something was restored into it,
    newest first, each with the id of the course it came from where that was one of this site.
    """

    students: int | None = None
    grades: int | None = None
    submissions: int | None = None
    visitors: int | None = None
    last_visit: datetime | None = None
    active: int | None = None
    running: tuple[str, ...] | None = None
    restored: tuple[tuple[datetime, int | None], ...] | None = None


@dataclass(frozen=True)
class Restored:
    """What a restore ended with.

    ``expected`` is what the chosen part of the backup holds, ``before`` and ``after`` what the target held; in a new
    course ``before`` is empty. ``activities`` maps course module ids of the backup to the new ones, ``sections`` its
    section ids. ``backups_kept`` is how many backups stored in a replaced course were carried over; None where there
    were none or nobody looked. ``settings`` are those it was carried out with, by Moodle's names, those of items too;
    empty where nobody knows. ``findings`` is what the site had found before it, as in a plan. ``stayed`` are methods of
    enrolment that emptying a replaced course leaves in place, such as cohorts, with the usernames of their people.
    """

    course: Course
    mode: Mode
    precheck: Precheck
    users: UsersOutcome
    expected: Counts
    before: Counts
    after: Counts
    activities: Mapping[int, int]
    warnings: tuple[str, ...]
    seconds: float
    backups_kept: int | None = None
    sections: Mapping[int, int] = field(default_factory=dict)
    settings: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    stayed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Deed:
    """What a site knows of a backup or restore that was begun under a number of ours.

    ``found`` is whether it has heard of it at all; ``running`` whether its process lives. ``phase`` is ``prepared``,
    ``queued``, ``begun``, ``deleting``, ``executing``, ``done`` or ``failed``, ``progress`` from 0 to 1. ``running`` is
    also what waits for cron. ``changed`` is whether a course that was there before has been changed, ``unsettled``
    whether something of it lies about on the host. ``restored``, ``made`` and ``error`` are what its answer would have
    been.
    """

    id: str
    found: bool
    running: bool = False
    phase: str = ""
    progress: float | None = None
    course_id: int | None = None
    changed: bool = False
    unsettled: bool = False
    restored: Restored | None = None
    made: BackupMade | None = None
    error: MoodlectlError | None = None

    @property
    def ended(self) -> bool:
        """Whether it is known how it ended."""
        return not self.running and (self.phase in ("done", "failed") or not self.found)


@dataclass(frozen=True)
class AutomatedRun:
    """What running the automated backups did to one course; ``status`` is Moodle's own word for it."""

    course_id: int
    shortname: str
    status: Literal["ok", "error", "unfinished", "skipped", "warning", "notyetrun", "queued"]
    started: datetime | None
    ended: datetime | None


# --- deeds inside one web request ------------------------------------------------------------------------------------

WEB_COPY: Mapping[str, bool] = {
    "activities": True,
    "blocks": True,
    "filters": True,
    "users": False,
    "role_assignments": False,
    "comments": False,
    "userscompletion": False,
    "logs": False,
    "grade_histories": False,
}
"""The settings that a copy by web service has, and what they are unless said otherwise: without people."""

WEB_IMPORT: Mapping[str, bool] = {"activities": True, "blocks": True, "filters": True}
"""The settings that an import by web service has."""


@dataclass(frozen=True)
class WebCopy:
    """One course to copy inside one web request; ``settings`` are all of ``WEB_COPY``."""

    course_id: int
    category_id: int
    fullname: str
    shortname: str
    visible: bool
    settings: Mapping[str, bool]


@dataclass(frozen=True)
class WebImport:
    """What one course holds to be added to another inside one web request; ``settings`` are all of ``WEB_IMPORT``."""

    course_id: int
    target_id: int
    settings: Mapping[str, bool]


@dataclass(frozen=True)
class Controller:
    """One of Moodle's own records of a backup or restore of a course: what state it is in, when that last changed."""

    operation: Literal["backup", "restore"]
    course_id: int
    state: Literal["waiting", "executing", "finished", "failed"]
    changed: datetime


# --- what a course holds, thing by thing -----------------------------------------------------------------------

Identity = tuple[str, tuple[str, ...], Mapping[str, str]]
"""One thing: its kind, the words by which it is found again, and what it is like. No ids, no texts of people.

The same things, in the same words, are read from backup files by ``moodlectl.mbz.identities``; the first is always
``about``: site, release, start date, and as ``setting_NAME`` what was left out.
"""
OnIdentity = Callable[[Identity], None]


@dataclass(frozen=True)
class Part:
    """Which part of a course is meant: with its people and what they did or not, and of its activities (course
    module ids) only some, or all but some. What belongs to no activity is always meant."""

    with_users: bool = True
    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()


ALL = Part()


# --- a course's place on its site, beyond what lists show ---------------------------------------------------------

EnrolmentsBecome = Literal["manual", "suspended"]


@dataclass(frozen=True)
class Enrolled:
    """Somebody enrolled in a course, as ``Person``: with the short names of the roles in the course itself, and the
    methods that enrol them. ``active`` is whether one of these enrolments is not suspended."""

    id: int
    username: str
    email: str = ""
    firstname: str = ""
    lastname: str = ""
    firstaccess: int = 0
    deleted: bool = False
    mnethosturl: str | None = None
    roles: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True)
class EnrolMethod:
    """One enrolment method in a course: the plugin's name, whether it is switched on there, how many it enrols."""

    method: str
    active: bool
    people: int


@dataclass(frozen=True)
class CourseFacts:
    """What is known of a course beyond the lists. Days are the acting user's, None where Moodle stores 0.

    ``original_course_id`` is the course of this very site whose backup it was made from, None where Moodle does not
    say: made otherwise, or by a Moodle before 3.10.
    """

    course: Course
    original_course_id: int | None
    startday: date | None
    endday: date | None
    people: tuple[Enrolled, ...]
    methods: tuple[EnrolMethod, ...]


@dataclass(frozen=True)
class Arrangement:
    """How a course is to be; what is None stays. The dates of a course alone move, not those inside it.

    ``people`` are enrolled by hand with those roles (usernames, short names of roles), in addition to who is there.
    ``enrolments`` ``manual``: everybody gets a manual enrolment that is as the one they had, and all other methods are
    switched off; ``suspended``: every enrolment is suspended, and all methods but the manual one are switched off.
    """

    fullname: str | None = None
    shortname: str | None = None
    idnumber: str | None = None
    category_id: int | None = None
    startdate: date | None = None
    enddate: date | None = None
    visible: bool | None = None
    people: tuple[tuple[str, tuple[str, ...]], ...] = ()
    enrolments: EnrolmentsBecome | None = None


# --- people of a backup, looked at from a site ------------------------------------------------------------------


class Person(Protocol):
    """What a site must know of somebody in a backup to tell what a restore would make of them.

    ``firstaccess`` is seconds since 1970, 0 never; ``mnethosturl`` None for people of the original site itself.
    """

    @property
    def id(self) -> int: ...
    @property
    def username(self) -> str: ...
    @property
    def email(self) -> str: ...
    @property
    def firstname(self) -> str: ...
    @property
    def lastname(self) -> str: ...
    @property
    def firstaccess(self) -> int: ...
    @property
    def deleted(self) -> bool: ...
    @property
    def mnethosturl(self) -> str | None: ...


@dataclass(frozen=True)
class UsersQuestion:
    """Where a backup was made, into which category or course it would go (None: not said), and who would do it."""

    url: str | None = None
    identifier_hash: str | None = None
    category_id: int | None = None
    course_id: int | None = None
    as_user: str | None = None


Fate = Literal["match", "create", "conflict", "cannot_create", "unknown"]
FATES: tuple[Fate, ...] = ("match", "create", "conflict", "cannot_create", "unknown")


@dataclass(frozen=True)
class UserFate:
    """What a restore makes of one person: an account there is (``match``), a new one, or trouble.

    ``rule`` is Moodle's own number of the rule that decides (``restore_dbops::precheck_user``): 1A to 1F where the
    backup was made on the same site, 2A1 to 2E elsewhere. ``unknown`` only where the site hides what decides.
    """

    outcome: Fate
    rule: str | None
    account_id: int | None = None
    account_username: str | None = None


@dataclass(frozen=True)
class UsersAgainst:
    """The fate of each person in the order asked. ``source`` is who answered: the site's own rules, or ours by web
    service; ``notes`` say what the latter cannot see."""

    same_site: bool
    source: Literal["site", "web service"]
    fates: tuple[UserFate, ...]
    notes: tuple[str, ...] = ()


# --- a stored backup, read where it lies ------------------------------------------------------------------------


class Inside(Protocol):
    """The bytes of a stored backup; ``moodlectl.mbz`` reads them as it reads a file (``mbz.sources.Source``).

    ``hollow`` where the contents of its file pool are left out on the way.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def hollow(self) -> bool: ...

    def head(self) -> bytes:
        """Its first bytes."""

    def open(self) -> BinaryIO:
        """Its bytes from the start."""


# --- the contents of files ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """One content of Moodle's file pool: Moodle keeps each once, under its sha1, however many files have it."""

    sha1: str
    size: int


@dataclass(frozen=True)
class HeldContent:
    """A content that was put into a pool ahead of the courses; ``claimed`` when some file has it by now."""

    sha1: str
    size: int
    since: datetime
    claimed: bool


@dataclass(frozen=True)
class ContentsTaken:
    """What a pool took of a stream: how many and their bytes; which the sender had not got; which were not theirs."""

    count: int = 0
    bytes: int = 0
    missing: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class Pool(Protocol):
    """A site's file pool, content by content. Its methods raise AccessError where the acting user is no administrator.

    A stream of contents, as one pool sends it and another takes it, is described in ``moodlectl.site.contents``.
    """

    def of_course(self, course_id: int, *, users: bool = False) -> Sequence[Content]:
        """The contents of a course's files, with ``users`` of its people's pictures, too, once each; of no backup.

        Reads only. Raises NotFound.
        """

    def lacking(self, contents: Sequence[Content]) -> Sequence[Content]:
        """Those that the pool has not got, or not whole. Reads only."""

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        """Those contents as one stream, packed where that helps and ``pack`` says so. Reads only."""

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken:
        """Put the contents of a stream into the pool, each checked by its sha1; what is in stays, should it break off.

        ``coming`` is what is in it, ``more`` the bytes that are to come in other streams: room is needed for both.
        Writes to the site, nothing that a course sees. Raises Refused for want of space.
        """

    def backup_without_files(self, file: BackupFile, receive: Callable[[bytes], None]) -> bool:
        """A stored backup as a gzipped tar without its file pool; False where it is of another kind. Reads only."""

    def held(self) -> Sequence[HeldContent]:
        """What was put there ahead and not released since, oldest first. Reads only."""

    def release(self, sha1s: Sequence[str], *, unclaimed: bool = False) -> int:
        """Let go of those that files have claimed, with ``unclaimed`` of all; how many went. Writes to the site."""


# --- the port ---------------------------------------------------------------------------------------------------


@runtime_checkable
class Site(Protocol):
    """The few things an action may ask of a Moodle.

    Every method may raise ``AccessError`` (token, permission), ``Unreachable`` (nothing happened) and ``NotFound``.
    Those that write may also raise ``Refused`` (before anything changed), ``Failed`` (tried and taken back) and
    ``OutcomeUnknown`` (the site went away while it worked).
    """

    name: str

    def info(self) -> SiteInfo:
        """The site's name, address and release. Reads only."""

    def check(self) -> Sequence[Check]:
        """Look at everything a backup or restore will need, and say what is wrong. Reads only."""

    def categories(self) -> Sequence[Category]:
        """All course categories that may be seen, parents before children. Reads only."""

    def courses(self, *, category_id: int | None = None, search: str | None = None) -> Sequence[Course]:
        """The courses of a category (with those below it), or those a search finds, or all. Reads only."""

    def course(self, ref: CourseRef) -> Course:
        """The one course so named. Raises NotFound. Reads only."""

    def contents(self, course_id: int) -> Sequence[Section]:
        """Sections in order with their activities; a subsection's section names its parent. Reads only."""

    def counts(self, course_id: int) -> Counts:
        """What the course holds now, in numbers. Needs a shell. Reads only."""

    def identities(self, course_id: int, receive: OnIdentity, part: Part = ALL, *, as_user: str | None = None) -> None:
        """Hand over what the course holds, one thing after the other. Needs a shell. Reads only."""

    def keepsake(self, course_id: int, *, as_user: str | None = None) -> Keepsake:
        """What the course holds that no backup carries, to be given back by ``RestoreRequest.keepsake``. Reads only."""

    def work_since(self, course_id: int, since: datetime) -> Work:
        """What people have done in the course since then; restores and scripts do not count. Reads only."""

    def backup_settings(self, course_id: int | None, *, as_user: str | None = None) -> Sequence[Setting]:
        """Every setting a backup (of that course, or of any) offers here, with its default and lock. Reads only."""

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        """Make one backup and store it where Moodle stores such backups. Writes to the site."""

    def queue_backup(self, request: BackupRequest) -> BackupQueued:
        """Leave one backup to the site's cron; ``deed`` tells what becomes of it. Needs a shell. Writes to the site."""

    def backups(
        self, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
    ) -> BackupListing:
        """The backups of a course in those areas, newest first; ``owner`` is whose private area. Reads only."""

    def download(self, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress) -> BackupFile:
        """Bring a backup down to ``destination``, resuming ``destination.part``; checks size and sha1.

        Returns the file with its sha1. Reads only. Raises Failed where what arrived is not what was sent.
        """

    def delete_backup(self, file: BackupFile) -> None:
        """Delete one stored backup, and check that it is gone. Writes to the site."""

    def manifest_xml(self, file: BackupFile) -> bytes:
        """The ``moodle_backup.xml`` of a stored backup, read where it lies. Needs a shell. Reads only."""

    def inside(self, file: BackupFile, on_progress: OnProgress = no_progress) -> Inside | None:
        """A stored backup to be read where it lies, or None where it must be brought down for that. Reads only."""

    def users_against(
        self, people: Sequence[Person], question: UsersQuestion, on_progress: OnProgress = no_progress
    ) -> UsersAgainst:
        """What restoring would make of each of those people here, told by the site's own rules where it can be
        asked. Reads only."""

    def standing(self, course_id: int, *, as_user: str | None = None) -> Standing:
        """Who and what stands in the way of changing a course. Reads only."""

    def restore_plan(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
        """What that restore would do, with Moodle's pre-check. Leaves nothing behind."""

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        """Do it. On failure the world is as it was: a new course is removed again. Writes to the site."""

    def deed(self, number: str) -> Deed:
        """What has become of the backup or restore begun under that number. Reads only."""

    def settle_deed(self, number: str) -> Deed:
        """Clear up after one whose process was killed, and say how it ended. Writes to the site; may be repeated."""

    def forget_deed(self, number: str) -> None:
        """Let the site forget one that has ended, when that has been written down elsewhere."""

    def has_host(self) -> bool:
        """Whether its host can be told to do things, not only its web services. Asks nobody."""

    def web_copy(self, copy: WebCopy) -> int:
        """Have Moodle copy a course inside one web request; returns the new course's id. Writes to the site.

        Moodle takes back nothing of one that fails. OutcomeUnknown where no answer came: it may go on all the same.
        """

    def web_import(self, wanted: WebImport) -> None:
        """Have Moodle import a course into another inside one web request. Writes to the site. As ``web_copy``."""

    def delete_course(self, course_id: int) -> None:
        """Delete a course that was begun and not finished. Writes to the site. Raises NotFound."""

    def controllers(self, course_ids: Sequence[int], since: datetime) -> Sequence[Controller] | None:
        """Moodle's records of backups and restores of those courses begun since then; None without a shell.

        Reads only.
        """

    def course_facts(self, course_id: int) -> CourseFacts:
        """Who is enrolled and how, and what the course was made from. Needs a shell. Reads only."""

    def enrolment_methods(self) -> Mapping[str, bool]:
        """The enrolment plugins the site has, and whether each is switched on. Needs a shell. Reads only."""

    def modules(self) -> Mapping[str, bool]:
        """The activity modules the site has, and whether each is switched on. Needs a shell. Reads only."""

    def arrange(self, course_id: int, arrangement: Arrangement) -> Course:
        """Name, place, show, enrol as asked; what is so already is left. Writes to the site; may be repeated.

        All or nothing. Raises Refused where a name is taken or a role or person is not there, AccessError.
        """

    def make_category(self, path: Sequence[str], *, idnumber: str = "", visible: bool = True) -> Category:
        """The category of that path, or with that idnumber, made where there is none, with those above it.

        ``visible`` is for those that are made. Writes to the site; may be repeated. Raises Refused where the path and
        the idnumber belong to two categories, AccessError.
        """

    def pool(self) -> Pool:
        """The site's file pool. Raises AccessError without a shell, Refused where scripts are all there is."""

    def pressure(self) -> Pressure:
        """How hard the site has it at the moment; unknown without a shell. Reads only."""

    def run_automated(self, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
        """Run the site's automated backups now, for every course that is due. Writes to the site."""

    def close(self) -> None:
        """End what was started: PHP sessions, shared ssh connections."""
