"""The practice site itself: every question of the port, answered from the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl import findings
from moodlectl.errors import AccessError, Failed, NotFound, Refused, UsageError
from moodlectl.findings import Finding
from moodlectl.site.partfile import PartFile
from moodlectl.site.port import (
    ALL,
    AREAS,
    Activity,
    Area,
    Arrangement,
    AutomatedRun,
    BackupFile,
    BackupListing,
    BackupMade,
    BackupQueued,
    BackupRequest,
    Category,
    Check,
    Controller,
    Counts,
    Course,
    CourseFacts,
    CourseRef,
    CourseSource,
    Deed,
    Inside,
    Keepsake,
    OnIdentity,
    OnProgress,
    Part,
    Person,
    Pool,
    Pressure,
    Progress,
    Restored,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    Section,
    Setting,
    SiteInfo,
    Standing,
    UsersAgainst,
    UsersQuestion,
    Verdict,
    WebCopy,
    WebImport,
    Work,
    no_progress,
)
from moodlectl.site.practice import maker
from moodlectl.site.practice.package import Package, count
from moodlectl.site.practice.people import Actor, actor, identifier_hash
from moodlectl.site.practice.plugins import RELEASE, VERSION
from moodlectl.site.practice.settings import backup_sheet
from moodlectl.site.practice.store import CHUNK, SCHEMA_VERSION, Store

if TYPE_CHECKING:
    from moodlectl.mbz.usermap import Account
    from moodlectl.site.practice.reader import Read

_WEEK = 7 * 86400


class PracticeSite:
    """A small Moodle that is only a folder: the built-in site to learn, rehearse and test on.

    ``folder`` is made and filled on first use; ``as_user`` is who acts where nobody else is named. Writes
    to the folder. Raises ConfigError where the folder cannot be used.
    """

    def __init__(self, folder: Path, name: str = "practice", *, as_user: str = "admin") -> None:
        self.name = name
        self._as = as_user
        self.store = Store(folder)
        if self.store.version() != SCHEMA_VERSION:
            self._fill()

    def _fill(self) -> None:
        """Make what a fresh practice site holds, once, whoever comes first."""
        from moodlectl.site.practice.seed import START, seed

        with self.store.transaction():
            version = self.store.version()
            if version == SCHEMA_VERSION:
                return
            if version:
                raise Refused(
                    f"The practice site in {self.store.folder} was made by another version of moodlectl.",
                    "Remove the folder to begin with a fresh one.",
                    code="practice_version",
                )
            self.store.create_schema()
            seed(self.store)
        admin = actor(self.store, "admin")
        rich = self.course(CourseRef("shortname", "RICH101")).id
        for week, mode in ((1, "general"), (1, "automated"), (2, "automated")):
            maker.make(self.store, BackupRequest(rich), admin, START + week * _WEEK + 7200, no_progress, mode)
        empty = self.course(CourseRef("shortname", "GEO200")).id
        maker.make(self.store, BackupRequest(empty, {"users": False}), admin, START + _WEEK, no_progress)
        with self.store.transaction():
            self.store.run(
                "INSERT INTO automated VALUES (?, ?, ?, 'ok')",
                rich,
                START + 2 * _WEEK,
                START + 2 * _WEEK + 40,
            )

    def _actor(self, as_user: str | None = None) -> Actor:
        return actor(self.store, as_user or self._as)

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    # --- reading --------------------------------------------------------------------------------------------

    def info(self) -> SiteInfo:
        """The site's name, address and release. Reads only."""
        return SiteInfo("Practice site", maker.WWWROOT, RELEASE, VERSION, self._as, identifier_hash(self.store))

    def check(self) -> Sequence[Check]:
        """Everything is well, save one thing an administrator should look at. Reads only."""
        courses = self.store.rows("SELECT count(*) FROM courses")[0][0]
        size = sum(path.stat().st_size for path in self.store.pool.glob("??/*"))
        last = self.store.rows("SELECT max(ended) FROM automated")[0][0]
        shown = datetime.fromtimestamp(last, UTC).date() if last else "never"
        return (
            Check("folder", Verdict.OK, f"{self.store.folder} can be written to; its files take {size} bytes"),
            Check("release", Verdict.OK, f"behaves as Moodle {RELEASE}"),
            Check("user", Verdict.OK, f"acts as {self._as}"),
            Check("courses", Verdict.OK, f"{courses} courses"),
            Check(
                "automated backups",
                Verdict.WARNING,
                f"switched off; the last ones were made on {shown}",
                "Run them with: moodlectl --site practice backup automated, or switch them on in a real"
                " Moodle under Site administration > Courses > Automated backup setup.",
            ),
        )

    def categories(self) -> Sequence[Category]:
        """All categories, parents before children. Reads only."""
        rows = {row["id"]: row for row in self.store.rows("SELECT * FROM categories ORDER BY sortorder")}
        rows_of = self.store.rows("SELECT category, count(*) AS amount FROM courses GROUP BY category")
        counts = {row["category"]: row["amount"] for row in rows_of}

        def path(number: int) -> tuple[str, ...]:
            row = rows[number]
            return (*(path(row["parent"]) if row["parent"] else ()), row["name"])

        found = [
            Category(
                row["id"], row["name"], row["idnumber"], row["parent"], path(row["id"]), bool(row["visible"]),
                counts.get(row["id"], 0),
            )
            for row in rows.values()
        ]  # fmt: skip
        depth_first: list[Category] = []

        def add(parent: int) -> None:
            for category in found:
                if category.parent == parent:
                    depth_first.append(category)
                    add(category.id)

        add(0)
        return depth_first

    def courses(self, *, category_id: int | None = None, search: str | None = None) -> Sequence[Course]:
        """The courses of a category with those below it, or those a search finds, or all. Reads only."""
        wanted: set[int] | None = None
        if category_id is not None:
            self._require_category(category_id)
            wanted = {category_id}
            for category in self.categories():  # parents come before their children
                if category.parent in wanted:
                    wanted.add(category.id)
        words = (search or "").casefold().split()
        found = []
        for row in self._course_rows("1 = 1"):
            course = self._course(row)
            text = f"{course.shortname} {course.fullname} {course.idnumber}".casefold()
            if (wanted is None or course.category_id in wanted) and all(word in text for word in words):
                found.append(course)
        return [course for course in found if self._sees(course)]

    def course(self, ref: CourseRef) -> Course:
        """The one course so named. Raises NotFound. Reads only."""
        value: Any = ref.value
        if ref.field == "id":
            value = int(ref.value) if ref.value.isdigit() else -1
        within = {"cmid": "activities", "sectionid": "sections"}
        where = f"c.{ref.field} = ?"
        if ref.field in within:
            where = f"c.id = (SELECT course FROM {within[ref.field]} WHERE id = ?)"
        rows = self._course_rows(where, value) if str(value) else []
        found = [course for course in map(self._course, rows) if self._sees(course)]
        if len(found) != 1:
            raise NotFound(
                f"There is no course {ref} on this site." if not found else f"More than one course is {ref}.",
                "See which there are: moodlectl course list",
                code="course_not_found" if not found else "ambiguous",
                details={"field": ref.field, "value": ref.value},
            )
        return found[0]

    def _sees(self, course: Course) -> bool:
        return course.visible or self._actor().may("moodle/course:view", course.id)

    def _course_rows(self, where: str, *values: object) -> list[Any]:
        return self.store.rows(
            "SELECT c.*, k.name AS category_name FROM courses c JOIN categories k ON k.id = c.category"
            f" WHERE {where} ORDER BY k.sortorder, c.id",
            *values,
        )

    def _course(self, row: Any) -> Course:
        return Course(
            row["id"], row["shortname"], row["fullname"], row["idnumber"], row["category"],
            row["category_name"],
            _time(row["startdate"]), bool(row["visible"]), f"{maker.WWWROOT}/course/view.php?id={row['id']}",
            row["format"], _time(row["enddate"]),
        )  # fmt: skip

    def _require_course(self, course_id: int) -> Course:
        return self.course(CourseRef("id", str(course_id)))

    def _require_category(self, category_id: int) -> None:
        if not self.store.rows("SELECT 1 FROM categories WHERE id = ?", category_id):
            raise NotFound(
                f"There is no category with the id {category_id}.",
                "See which there are: moodlectl category list",
                code="category_not_found",
            )

    def contents(self, course_id: int) -> Sequence[Section]:
        """Sections in order with their activities; a subsection's section names its parent. Reads only."""
        self._require_course(course_id)
        package = self.store.load(course_id)
        below = {section.parent: section.id for section in package.sections if section.parent}
        return [
            Section(
                section.id,
                section.number,
                section.title if section.title != str(section.number) else _plain_title(section.number),
                section.docs["section.xml"].findtext("visible", "1") == "1",
                tuple(
                    Activity(activity.id, activity.module, activity.title, activity.visible, below.get(activity.id))
                    for activity in package.activities_of(section.id)
                ),
                section.parent,
            )
            for section in package.sections
        ]

    def counts(self, course_id: int) -> Counts:
        """What the course holds now, in numbers. Reads only."""
        self._require_course(course_id)
        return count(self.store.load(course_id))

    def keepsake(self, course_id: int, *, as_user: str | None = None) -> Keepsake:
        """Nothing: the practice site's backups carry all that its courses hold. Reads only."""
        self._require_course(course_id)
        return {}

    def work_since(self, course_id: int, since: datetime) -> Work:
        """Nobody works in practice courses but restores. Reads only."""
        self._require_course(course_id)
        return Work(known=True)

    def identities(
        self, course_id: int, receive: OnIdentity, part: Part = ALL, *, as_user: str | None = None
    ) -> None:
        """What the course holds, thing by thing. Reads only."""
        from moodlectl.site.practice.identities import identities

        self._require_course(course_id)
        for identity in identities(self.store, course_id, self._actor(as_user), part):
            receive(identity)

    # --- backups --------------------------------------------------------------------------------------------

    def backup_settings(self, course_id: int | None, *, as_user: str | None = None) -> Sequence[Setting]:
        """Every setting a backup offers here, with its default and lock. Reads only."""
        acting = self._actor(as_user)
        package = None
        if course_id is not None:
            course = self._require_course(course_id)
            acting.need("moodle/backup:backupcourse", course.id, f"back up the course {course.shortname}")
            package = self.store.load(course_id)
        return tuple(backup_sheet(package, maker.locks(self.store, acting, course_id)).settings.values())

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        """Make one backup and store it where Moodle stores such backups. Writes to the site."""
        course, acting = self._require_course(request.course_id), self._actor(request.as_user)
        acting.need("moodle/backup:backupcourse", course.id, f"back up the course {course.shortname}")
        return maker.make(self.store, request, acting, int(time.time()), on_progress)

    def queue_backup(self, request: BackupRequest) -> BackupQueued:
        """Leave one backup to cron, which is at work at once here. Writes to the site."""
        made = self.backup(request)
        return BackupQueued(request.course_id, made.file.area, made.file.filename, datetime.now(UTC))

    def backups(self, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None) -> BackupListing:
        """The backups of a course in those areas, newest first. Reads only."""
        course, acting = self._require_course(course_id), self._actor()
        found, notes = [], []
        for area in areas:
            if area not in AREAS:
                raise UsageError(
                    f"There is no area '{area}'.",
                    "There are course, private and automated.",
                    code="unknown_area",
                )
            whose = acting.user.id if area == "private" else 0
            if area == "private" and owner and owner != acting.user.username:
                if acting.user.role != "admin":
                    raise AccessError(
                        f"Only an administrator may look into the private backup area of another user ({owner}).",
                        "Act as an administrator, or as that user (--as USERNAME).",
                        code="not_administrator",
                    )
                whose = actor(self.store, owner).user.id
            needed = {
                "course": "moodle/backup:downloadfile",
                "automated": "moodle/restore:viewautomatedfilearea",
            }
            if area in needed and not acting.may(needed[area], course_id):
                notes.append(
                    f"The {area} area of {course.shortname} was not looked at: the user"
                    f" {acting.user.username} has not"
                    f" the capability {needed[area]} there."
                )
                continue
            found += self.store.rows(
                "SELECT * FROM backups WHERE course = ? AND area = ? AND owner = ?", course_id, area, whose
            )
        found.sort(key=lambda row: (-row["timecreated"], -row["id"]))
        return BackupListing(tuple(maker.stored(self.store, row) for row in found), tuple(notes))

    def _path(self, file: BackupFile) -> Path:
        """Where a stored backup's content lies. Raises NotFound where it is gone."""
        rows = self.store.rows(
            "SELECT * FROM backups WHERE id = ? AND filename = ?", file.locator.get("id", 0), file.filename
        )
        if not rows:
            raise NotFound(
                f"There is no backup {file.filename} there any more.",
                "See which there are: moodlectl backup list COURSE",
                code="backup_not_found",
            )
        path = self.store.content_path(rows[0]["contenthash"])
        if not path.is_file():
            raise Failed(f"The content of {file.filename} is missing in the site's file pool.", code="unreadable")
        return path

    def download(self, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress) -> BackupFile:
        """Bring a backup down, resuming ``destination.part``; checks size and sha1. Reads only."""
        path = self._path(file)
        size = path.stat().st_size
        with PartFile(destination) as part:
            if part.offset > size:
                part.restart()
            with path.open("rb") as content:
                content.seek(part.offset)
                while chunk := content.read(CHUNK):
                    part.write(chunk)
                    on_progress(Progress("download", part.offset, size, "bytes"))
            part.finish(size=size, sha1=path.name)
        return replace(file, sha1=path.name)

    def delete_backup(self, file: BackupFile) -> None:
        """Delete one stored backup. Writes to the site."""
        self._path(file)
        if file.area != "private":
            self._actor().need("moodle/restore:uploadfile", file.course_id, "delete backups of this course")
        with self.store.transaction():
            self.store.run("DELETE FROM backups WHERE id = ?", file.locator["id"])
        self.store.sweep()

    def manifest_xml(self, file: BackupFile) -> bytes:
        """The ``moodle_backup.xml`` of a stored backup, read where it lies. Reads only."""
        from moodlectl.mbz.archive import MANIFEST, open_backup
        from moodlectl.mbz.limits import LIMITS

        with open_backup(self._path(file)) as archive:
            for member in archive.members():
                if member.name == MANIFEST:
                    return member.read(LIMITS.manifest_bytes)
        raise Failed(
            "The file holds no moodle_backup.xml: it is damaged, or not a Moodle backup.",
            "A Common Cartridge (.imscc) has none; Moodle can restore it all the same.",
            code="no_manifest",
        )

    def inside(self, file: BackupFile, on_progress: OnProgress = no_progress) -> Inside:
        """A stored backup, read where it lies. Reads only."""
        from moodlectl.mbz import FileSource

        return FileSource(self._path(file), file.filename)

    def users_against(
        self, people: Sequence[Person], question: UsersQuestion, on_progress: OnProgress = no_progress
    ) -> UsersAgainst:
        """What restoring would make of each of those people here. Reads only."""
        from moodlectl.site.practice.against import users_against

        return users_against(self.store, self._actor(question.as_user), people, question, maker.WWWROOT)

    # --- restores -------------------------------------------------------------------------------------------

    def standing(self, course_id: int, *, as_user: str | None = None) -> Standing:
        """Who and what stands in the way of changing a course. Reads only."""
        from moodlectl.site.practice import checks

        self._require_course(course_id)
        return checks.standing(self.store.load(course_id))

    def restore_plan(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
        """What that restore would do, with the pre-check. Leaves nothing behind."""
        from moodlectl.site.practice import checks, restorer

        acting, target = self._target(request)
        found = list(checks.on_the_way(self.store, request, acting, target))
        with _telling(found):
            read = self._read(request, on_progress, keep_files=False)
            with self.store.transaction(keep=False):
                prepared = restorer.prepare(self.store, request, read, acting, self._loaded(target))
                fullname, shortname = names = restorer.final_names(self.store, prepared)
        found += checks.of_prepared(self.store, prepared, acting, names)
        return RestorePlan(
            request=request,
            precheck=prepared.precheck,
            users=prepared.matches.outcome,
            settings=tuple(prepared.sheet.settings.values()),
            expected=prepared.expected,
            target=target,
            target_counts=count(prepared.target) if prepared.target else None,
            fullname=fullname,
            shortname=shortname,
            backup_release=read.fact("moodle_release"),
            site_release=RELEASE,
            same_site=prepared.same_site,
            dangers=findings.of_names(found),
            findings=tuple(found),
        )

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        """Do it, wholly or not at all. Writes to the site."""
        from moodlectl.site.practice import checks, deeds, restorer

        started = time.monotonic()
        acting, target = self._target(request)
        found = list(checks.on_the_way(self.store, request, acting, target))
        _refuse(found, request)
        try:
            with self.store.transaction():
                read = self._read(request, on_progress, keep_files=True)
                prepared = restorer.prepare(self.store, request, read, acting, self._loaded(target))
                names = restorer.final_names(self.store, prepared)
                found += checks.of_prepared(self.store, prepared, acting, names)
                _refuse(found, request)
                expected, precheck = prepared.expected, prepared.precheck
                before = count(prepared.target) if prepared.target else Counts()
                on_progress(Progress("restore", 0, 2))
                done = restorer.carry_out(self.store, prepared, acting, int(time.time()))
                on_progress(Progress("restore", 1, 2))
                course = self._course(self._course_rows("c.id = ?", done.course_id)[0])
                after = count(self.store.load(done.course_id))
                seconds = round(time.monotonic() - started, 3)
                people, warnings = prepared.matches.outcome, tuple(prepared.warnings)
                restored = Restored(
                    course,
                    request.mode,
                    precheck,
                    people,
                    expected,
                    before,
                    after,
                    done.activities,
                    warnings,
                    seconds,
                    sections=done.sections,
                    settings={name: setting.value for name, setting in prepared.sheet.settings.items()},
                    findings=tuple(found),
                )
                deeds.keep(self.store, request.deed, restored)
        except BaseException:
            self.store.sweep()  # the files that came with it
            raise
        on_progress(Progress("restore", 2, 2))
        return restored

    def _target(self, request: RestoreRequest) -> tuple[Actor, Course | None]:
        """The acting user and the course restored into."""
        acting, target = self._actor(request.as_user), None
        if request.source.course is not None:
            self._source_course(request.source.course, acting, request.course_id)
        if request.mode == "new":
            self._require_category(request.category_id or 0)
        else:
            target = self._require_course(request.course_id or 0)
        return acting, target

    def _source_course(self, source: CourseSource, acting: Actor, target: int | None) -> None:
        """The course that is copied or imported from must be there, be another, and the acting user may take it."""
        course = self._require_course(source.course_id)
        if course.id == target:
            raise UsageError("A course cannot be imported into itself.", "Name two courses.", code="same_course")
        if source.rules == "import":
            acting.need("moodle/backup:backuptargetimport", course.id, f"import from the course {course.shortname}")
        else:
            acting.need("moodle/backup:backupcourse", course.id, f"back up the course {course.shortname}")

    def _loaded(self, target: Course | None) -> Package | None:
        return self.store.load(target.id) if target else None

    def _read(self, request: RestoreRequest, on_progress: OnProgress, *, keep_files: bool) -> Read:
        from moodlectl.site.practice.reader import read_backup, read_course

        source = request.source
        if source.course is not None:
            return read_course(self.store, source.course, self._actor(request.as_user), on_progress)
        path = source.path if source.path is not None else self._path(source.stored) if source.stored else None
        if path is None:
            raise UsageError("A restore needs a backup: a file, or one stored on the site.", code="no_source")
        return read_backup(path, self.store, on_progress, keep_files=keep_files)

    # --- a course's place -----------------------------------------------------------------------------------

    def course_facts(self, course_id: int) -> CourseFacts:
        """Who is enrolled and how, and what the course was made from. Reads only."""
        from moodlectl.site.practice import arranging

        course = self._require_course(course_id)
        self._actor().need("moodle/course:viewparticipants", course_id, "see who is enrolled in this course")
        return arranging.facts(self.store, course)

    def accounts(self, usernames: Sequence[str], *, as_user: str | None = None) -> Sequence[Account]:
        """Those usernames that are accounts here. Reads only."""
        from moodlectl.site.practice import arranging

        return arranging.accounts(self.store, usernames)

    def enrolment_methods(self) -> Mapping[str, bool]:
        """The enrolment plugins there are, and whether each is switched on. Reads only."""
        from moodlectl.site.practice import arranging

        return dict(arranging.METHODS)

    def modules(self) -> Mapping[str, bool]:
        """The activity modules there are, and whether each is switched on. Reads only."""
        from moodlectl.site.practice.plugins import MODULES

        return dict.fromkeys(sorted(MODULES), True)

    def arrange(self, course_id: int, arrangement: Arrangement) -> Course:
        """Name, place, show, enrol as asked; all or nothing. Writes to the site; may be repeated."""
        from moodlectl.site.practice import arranging

        course, acting = self._require_course(course_id), self._actor()
        if arrangement.category_id is not None:
            self._require_category(arrangement.category_id)
        with self.store.transaction():
            arranging.arrange(self.store, course, arrangement, acting, int(time.time()))
        return self._require_course(course_id)

    def make_category(self, path: Sequence[str], *, idnumber: str = "", visible: bool = True) -> Category:
        """The category, made where there is none. Writes to the site; may be repeated."""
        from moodlectl.site.practice import arranging

        with self.store.transaction():
            number = arranging.make_category(self.store, path, idnumber, visible=visible, actor=self._actor())
        return next(one for one in self.categories() if one.id == number)

    # --- automated ------------------------------------------------------------------------------------------

    def has_host(self) -> bool:
        """Yes: everything can be done here."""
        return True

    def web_copy(self, copy: WebCopy) -> int:
        """Copy a course as Moodle's web service does. Writes to the site."""
        if self.store.rows("SELECT 1 FROM courses WHERE shortname = ?", copy.shortname):
            raise Refused(
                f"Short name is already used for another course ({copy.shortname})",
                "Choose another short name.",
                code="shortnametaken",
            )
        source = RestoreSource(course=CourseSource(copy.course_id, "copy", copy.settings))
        request = RestoreRequest(
            source,
            "new",
            category_id=copy.category_id,
            fullname=copy.fullname,
            shortname=copy.shortname,
            visible=copy.visible,
            settings=copy.settings,
        )
        return self.restore(request).course.id

    def web_import(self, wanted: WebImport) -> None:
        """Import a course into another as Moodle's web service does. Writes to the site."""
        source = RestoreSource(course=CourseSource(wanted.course_id, "import", wanted.settings))
        self.restore(RestoreRequest(source, "merge", course_id=wanted.target_id, settings=wanted.settings))

    def delete_course(self, course_id: int) -> None:
        """Delete a course with its stored backups. Writes to the site."""
        self._require_course(course_id)
        with self.store.transaction():
            self.store.delete(course_id)
        self.store.sweep()

    def controllers(self, course_ids: Sequence[int], since: datetime) -> Sequence[Controller]:
        """None are ever left: each deed is done wholly or not at all. Reads only."""
        return ()

    def deed(self, number: str) -> Deed:
        """Whether the backup or restore begun under that number was done; if not, nothing has happened. Reads only."""
        from moodlectl.site.practice import deeds

        return deeds.look(self.store, number)

    def settle_deed(self, number: str) -> Deed:
        """Nothing is ever left lying about: each is done wholly or not at all."""
        return self.deed(number)

    def forget_deed(self, number: str) -> None:
        """Let go of what is known of it. Writes to the site."""
        from moodlectl.site.practice import deeds

        deeds.forget(self.store, number)

    def pool(self) -> Pool:
        """The site's file pool."""
        from moodlectl.site.practice import contents

        return contents.PracticePool(self.store, self._actor(None))

    def pressure(self) -> Pressure:
        """It has nothing to do, and as much room as this machine. Reads only."""
        import shutil

        return Pressure(load=0.0, tasks=0, free=shutil.disk_usage(self.store.folder).free)

    def run_automated(self, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
        """Back up every visible course now, keeping the newest two of each. Writes to the site."""
        admin, runs = actor(self.store, "admin"), []
        rows = self._course_rows("1 = 1")
        for done, row in enumerate(rows):
            on_progress(Progress("backup", done, len(rows), message=row["shortname"]))
            started = int(time.time())
            if not row["visible"]:
                runs.append(AutomatedRun(row["id"], row["shortname"], "skipped", None, None))
                continue
            maker.make(self.store, BackupRequest(row["id"]), admin, started, no_progress, "automated")
            ended = int(time.time())
            with self.store.transaction():
                self.store.run("INSERT OR REPLACE INTO automated VALUES (?, ?, ?, 'ok')", row["id"], started, ended)
                self.store.run(
                    "DELETE FROM backups WHERE area = 'automated' AND course = ?1 AND id NOT IN ("
                    " SELECT id FROM backups WHERE area = 'automated' AND course = ?1"
                    " ORDER BY timecreated DESC, id DESC LIMIT 2)",
                    row["id"],
                )
            self.store.sweep()
            runs.append(AutomatedRun(row["id"], row["shortname"], "ok", _time(started), _time(ended)))
        on_progress(Progress("backup", len(rows), len(rows)))
        return runs


def is_import(request: RestoreRequest) -> bool:
    """Whether Moodle's rules of an import hold."""
    return request.source.course is not None and request.source.course.rules == "import"


def _refuse(found: Sequence[Finding], request: RestoreRequest) -> None:
    """Raises what stands against the restore, if anything does."""
    refusal = findings.refusal(found, request.allow)
    if refusal is not None:
        raise refusal


@contextmanager
def _telling(found: Sequence[Finding]) -> Iterator[None]:
    """An error that ends the looking takes along what had been found until then."""
    try:
        yield
    except Refused as error:
        error.details.setdefault("findings", [one.as_dict() for one in found])
        raise


def _time(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _plain_title(number: int) -> str:
    """What the topics format calls a section without a name."""
    return "General" if number == 0 else "New section"
