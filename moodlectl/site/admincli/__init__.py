"""A Moodle whose host lets us run ``admin/cli`` scripts only: driven by those, looked at over web services.

The scripts' exit statuses are not believed (3.9 to 5.1: errors end with 0): what was done is seen in the site's own
lists, before and after. What they have no option for is refused by name before anything runs.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.errors import AccessError, Failed, MoodlectlError, Refused
from moodlectl.site.admincli import words
from moodlectl.site.admincli.host import Ended, Host
from moodlectl.site.live import courses, storedfiles
from moodlectl.site.port import (
    AREAS,
    DANGERS,
    Area,
    AutomatedRun,
    BackupFile,
    BackupListing,
    BackupMade,
    BackupRequest,
    Category,
    Check,
    Counts,
    Course,
    CourseRef,
    OnProgress,
    Precheck,
    Progress,
    Restored,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    Section,
    Setting,
    SiteInfo,
    UsersOutcome,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.config import SiteConfig
    from moodlectl.mbz import Manifest
    from moodlectl.site.webservice import WebService

_UNSEEN = "Users cannot be counted beforehand by this engine."


class AdminCliSite:
    """Answers the ``Site`` port with Moodle's own scripts; the web service's token is needed to look at the site."""

    def __init__(self, config: SiteConfig, webservice: WebService | None) -> None:
        self.name = config.name
        self._config = config
        self._webservice = webservice
        self._host = Host(config)

    @property
    def _web(self) -> WebService:
        if self._webservice is None:
            raise AccessError(
                f"The site '{self.name}' has engine 'admin-cli' and no token: its courses cannot be looked up.",
                "Give it a token: moodlectl site add NAME --replace --token-stdin",
                code="notoken",
            )
        return self._webservice

    # --- looking ----------------------------------------------------------------------------------------------------

    def info(self) -> SiteInfo:
        """The site's name, address and release, over REST. Reads only."""
        return courses.info(self._web)

    def check(self) -> Sequence[Check]:
        """Web services, hops, the scripts and the exchange folder. Reads only."""
        from moodlectl.site.live import doctor

        return doctor.check(self._config, self._webservice, None)

    def categories(self) -> Sequence[Category]:
        """All categories that may be seen. Reads only."""
        return courses.categories(self._web)

    def courses(self, *, category_id: int | None = None, search: str | None = None) -> Sequence[Course]:
        """The courses of a category and below it, those a search finds, or all. Reads only."""
        return courses.courses(self._web, category_id=category_id, search=search)

    def course(self, ref: CourseRef) -> Course:
        """The one course so named. Raises NotFound. Reads only."""
        return courses.course(self._web, ref)

    def contents(self, course_id: int) -> Sequence[Section]:
        """Sections and activities, over REST. Reads only."""
        return courses.contents(self._web, course_id)

    def counts(self, course_id: int) -> Counts:
        """Sections and activities; the rest is not counted by this engine. Reads only."""
        sections = self.contents(course_id)
        found = Counter(a.module for s in sections for a in s.activities if a.module != "qbank")
        return Counts(sections=len(sections), activities=dict(found))

    # --- backups ----------------------------------------------------------------------------------------------------

    def backup_settings(self, course_id: int | None, *, as_user: str | None = None) -> Sequence[Setting]:
        """Refused: no script tells."""
        raise words.cannot("show or choose the settings of a backup", "backup.php")

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        """Run ``admin/cli/backup.php``, and find the file that it made. Writes to the site."""
        words.check_backup(request)
        started = time.monotonic()
        before = self._stored(request.course_id)
        on_progress(Progress("backup", 0, None))
        ended = self._host.script("backup.php", f"--courseid={request.course_id}", writes=True)
        new = [f for f in self.backups(request.course_id, ["course", "private"]).files if _key(f) not in before]
        if not new:
            raise self._no_backup(ended)
        return BackupMade(new[0], {}, (), round(time.monotonic() - started, 3))

    def _stored(self, course_id: int) -> set[tuple[str, str, int, object]]:
        return {_key(f) for f in self.backups(course_id, ["course", "private"]).files}

    def _no_backup(self, ended: Ended) -> MoodlectlError:
        if ended.status != 0 or any(line.startswith("!!!") for line in ended.lines):
            return words.failure(ended)
        return Failed(
            "Moodle's script ended, but no new backup is to be seen with this token.",
            "Where users are left out by default it lies in the private area of the site's first administrator; "
            "use that account's token.",
            code="backup_not_seen",
            details={"last_lines": ended.lines[-10:]},
        )

    def backups(
        self, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
    ) -> BackupListing:
        """The backups in those areas, over REST. Reads only."""
        return storedfiles.backups(self._web, course_id, areas, owner=owner)

    def download(
        self, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress
    ) -> BackupFile:
        """Bring a backup down over HTTP. Reads only."""
        address = storedfiles.address_of(self._web, file)
        got = self._web.download(
            address, destination, size=file.size, sha1=file.sha1, overwrite=True, on_progress=on_progress
        )
        return replace(file, size=got.size, sha1=got.sha1)

    def delete_backup(self, file: BackupFile) -> None:
        """Refused: neither a script nor a web service deletes a stored backup."""
        raise words.cannot("delete a stored backup")

    def manifest_xml(self, file: BackupFile) -> bytes:
        """Refused: no script reads a backup where it lies."""
        raise words.cannot("read a backup where it lies")

    # --- restores ---------------------------------------------------------------------------------------------------

    def restore_plan(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
        """What can be known from the file and the site's lists; no script pre-checks. Reads only."""
        words.check_restore(request)
        with self._local(request.source, on_progress) as path:
            manifest = _inspect(path)
        info = self.info()
        target = self._target(request)
        return RestorePlan(
            request=request,
            precheck=Precheck(warnings=(f"Moodle's pre-check cannot be run by this engine. {_UNSEEN}",)),
            users=UsersOutcome(),
            settings=(),
            expected=_expected(manifest),
            target=target,
            target_counts=self.counts(target.id) if target else None,
            fullname=target.fullname if target else manifest.course.fullname,
            shortname=target.shortname if target else manifest.course.shortname,
            backup_release=manifest.moodle_release or "",
            site_release=info.release,
            same_site=manifest.original_site.url == info.url,
            dangers=self._dangers(manifest, info),
        )

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        """Run ``admin/cli/restore_backup.php``, remove what it leaves when it fails. Writes to the site."""
        words.check_restore(request)
        started = time.monotonic()
        with self._local(request.source, on_progress) as path:
            manifest, info = _inspect(path), self.info()
            refused = [d for d in self._dangers(manifest, info) if d not in request.allow]
            if refused:
                raise Refused(
                    f"Refused: {DANGERS[refused[0]]}.",
                    f"To do it nevertheless: --allow {refused[0]}",
                    code=refused[0],
                    details={"dangers": refused},
                )
            option = self._where(request)
            target = self._target(request)
            before = self.counts(target.id) if target else Counts()
            known = {c.id for c in self.courses()}
            with self._host.carried(path, on_progress) as there:
                on_progress(Progress("restore", 0, None))
                ended = self._host.script("restore_backup.php", f"--file={there}", option, writes=True)
        course = self._restored(request, ended, known)
        return Restored(
            course=course,
            mode=request.mode,
            precheck=Precheck(),
            users=UsersOutcome(),
            expected=_expected(manifest),
            before=before,
            after=self.counts(course.id),
            activities={},
            warnings=("Only sections and activities could be compared: this engine counts nothing else.",),
            seconds=round(time.monotonic() - started, 3),
        )

    def _where(self, request: RestoreRequest) -> str:
        if request.mode == "new":
            return f"--categoryid={request.category_id}"
        if not self._host.has_option("restore_backup.php", "courseid"):
            raise words.cannot("restore into an existing course in this release", "restore_backup.php")
        return f"--courseid={request.course_id}"

    def _target(self, request: RestoreRequest) -> Course | None:
        return self.course(CourseRef("id", str(request.course_id))) if request.course_id is not None else None

    def _restored(self, request: RestoreRequest, ended: Ended, known: set[int]) -> Course:
        """The course restored into, by evidence; else what was left is removed and the failure raised."""
        told = words.restored_id(ended)
        if ended.status == 0 and told is not None and (request.mode == "merge" or told not in known):
            return self.course(CourseRef("id", str(told)))
        trouble = words.failure(ended)
        if request.mode == "new":
            self._remove_left(known, trouble)
        raise trouble

    def _remove_left(self, known: set[int], trouble: MoodlectlError) -> None:
        """Delete the empty course the script leaves behind (``delete_course.php``, 4.1 and later)."""
        left = [c for c in self.courses() if c.id not in known and words.is_placeholder(c.shortname, c.visible)]
        if len(left) != 1 or any(s.activities for s in self.contents(left[0].id)):
            if left:
                trouble.details["left_behind"] = [f"id:{c.id} {c.shortname}" for c in left]
                trouble.hint = f"{trouble.hint or ''} Delete the unfinished course by hand.".strip()
            return
        for way in (self._delete_by_script, self._delete_by_web_service):
            try:
                way(left[0].id)
            except MoodlectlError as error:
                trouble.details["not_removed"] = error.message
            if all(c.id != left[0].id for c in self.courses()):
                trouble.details.pop("not_removed", None)
                trouble.details["course_removed"] = left[0].id
                return
        trouble.details["left_behind"] = f"id:{left[0].id} {left[0].shortname}"
        trouble.hint = f"{trouble.hint or ''} Delete the unfinished course by hand.".strip()

    def _delete_by_script(self, course_id: int) -> None:
        self._host.script(
            "delete_course.php", f"--courseid={course_id}", "--disablerecyclebin", "--non-interactive", writes=True
        )

    def _delete_by_web_service(self, course_id: int) -> None:
        """Where the script breaks off (4.5.6 and 5.1: "undefined function course_get_format") and the service allows."""
        self._web.call("core_course_delete_courses", {"courseids": [course_id]})

    def _dangers(self, manifest: Manifest, info: SiteInfo) -> tuple[str, ...]:
        found = []
        if _major(manifest.moodle_version) > _major(info.version):
            found.append("newer-backup")
        if not manifest.include_files and manifest.original_site.url != info.url:
            found.append("without-files")
        return tuple(found)

    @contextmanager
    def _local(self, source: RestoreSource, on_progress: OnProgress) -> Iterator[Path]:
        """The archive on this machine; a stored one is brought here for the length of the block."""
        if source.path is not None:
            yield source.path
            return
        assert source.stored is not None
        with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
            path = Path(folder) / "backup.mbz"
            self.download(source.stored, path, on_progress)
            yield path

    # --- automated --------------------------------------------------------------------------------------------------

    def run_automated(self, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
        """Run ``automated_backups.php``, which says "completed correctly" whatever happens, and compare the areas.

        A course with a new file is ``ok``, one without ``skipped``: no more can be seen from outside.
        """
        everything = self.courses()
        before = {c.id: {_key(f) for f in self.backups(c.id, ["automated"]).files} for c in everything}
        on_progress(Progress("backup", 0, None))
        ended = self._host.script("automated_backups.php", writes=True)
        if ended.status != 0:
            raise words.failure(ended)
        runs = []
        for course in everything:
            new = [f for f in self.backups(course.id, ["automated"]).files if _key(f) not in before[course.id]]
            made = new[0].timecreated if new else None
            runs.append(AutomatedRun(course.id, course.shortname, "ok" if new else "skipped", None, made))
        return runs

    def close(self) -> None:
        """End shared connections."""
        self._host.close()
        if self._webservice is not None:
            self._webservice.close()


def _key(file: BackupFile) -> tuple[str, str, int, object]:
    return file.area, file.filename, file.size, file.timecreated


def _inspect(path: Path) -> Manifest:
    from moodlectl import mbz

    return mbz.inspect(path)


def _expected(manifest: Manifest) -> Counts:
    included = [a.module for a in manifest.all_activities() if a.included and a.module != "qbank"]
    sections = sum(1 for s in manifest.all_sections() if s.included)
    return Counts(sections=sections, activities=dict(Counter(included)))


def _major(version: str | None) -> int:
    """The release of a version number: ``2024100706.00`` is 20241007; point releases count from its end."""
    return int(version[:8]) if version and version[:8].isdigit() else 0
