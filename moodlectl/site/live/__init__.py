"""A real Moodle, asked by web service where it can answer, by PHP on its host where it must.

Courses and stored files are looked up by web service when there is a token; what only the host knows, and every deed,
goes through the runner. Where both could answer and the web service may not (a function is missing from the service,
downloads are off), the host is asked instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from moodlectl.errors import AccessError, MoodlectlError, NotFound, Unreachable
from moodlectl.site.port import (
    ALL,
    AREAS,
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
    Deed,
    Inside,
    Keepsake,
    OnIdentity,
    OnProgress,
    Part,
    Person,
    Pool,
    Pressure,
    Restored,
    RestorePlan,
    RestoreRequest,
    Section,
    Setting,
    SiteInfo,
    Standing,
    UsersAgainst,
    UsersQuestion,
    WebCopy,
    WebImport,
    Work,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.config import SiteConfig
    from moodlectl.mbz.usermap import Account
    from moodlectl.site.runner import Runner
    from moodlectl.site.webservice import WebService

_log = logging.getLogger(__name__)
T = TypeVar("T")


class LiveSite:
    """One configured Moodle; answers the ``Site`` port. At least one of web service and runner is there."""

    def __init__(self, config: SiteConfig, webservice: WebService | None, runner: Runner | None) -> None:
        self.name = config.name
        self._config = config
        self._webservice = webservice
        self._runner = runner
        self._info: SiteInfo | None = None  # stays the same as long as a site is open

    # --- who answers ------------------------------------------------------------------------------------------------

    def _either(self, web: Callable[[WebService], T], host: Callable[[Runner], T]) -> T:
        """By web service, or on the host where there is no token or the service does not allow the question."""
        if self._webservice is None:
            return host(self._host("this"))
        try:
            return web(self._webservice)
        except AccessError as refused:
            if self._runner is None:
                raise
            _log.debug("asked on the host instead: %s", refused.message)
            return host(self._runner)

    def _host(self, what: str) -> Runner:
        if self._runner is None:
            raise AccessError(
                f"The site '{self.name}' has no shell, and {what} cannot be done by web service.",
                f"Say how its host is reached: moodlectl site add {self.name} --replace --url {self._config.url} "
                "--via ssh:HOST --via user:www-data --moodle-dir DIR",
                code="noshell",
            )
        return self._runner

    def _web(self, what: str) -> WebService:
        if self._webservice is None:
            raise AccessError(
                f"The site '{self.name}' has no token, and {what} needs one.",
                f"Give it one: moodlectl site add {self.name} --replace … --token-stdin",
                code="notoken",
            )
        return self._webservice

    def _acting(self, as_user: str | None) -> str | None:
        return as_user or self._config.acting

    # --- looking ----------------------------------------------------------------------------------------------------

    def info(self) -> SiteInfo:
        """The site's name, address, release and, with a shell, its identifier hash. Reads only."""
        from moodlectl.site.live import courses, shell_courses

        if self._info is None:
            if self._runner is not None:
                self._info = shell_courses.info(self._runner)
            else:
                assert self._webservice is not None
                self._info = courses.info(self._webservice)
        return self._info

    def check(self) -> Sequence[Check]:
        """Everything a backup or restore will need, looked at and judged. Reads only."""
        from moodlectl.site.live import doctor

        return doctor.check(self._config, self._webservice, self._runner)

    def categories(self) -> Sequence[Category]:
        """All categories that may be seen. Reads only."""
        from moodlectl.site.live import courses, shell_courses

        return self._either(courses.categories, shell_courses.categories)

    def courses(self, *, category_id: int | None = None, search: str | None = None) -> Sequence[Course]:
        """The courses of a category and below it, those a search finds, or all. Reads only."""
        from moodlectl.site.live import courses, shell_courses

        return self._either(
            lambda ws: courses.courses(ws, category_id=category_id, search=search),
            lambda host: shell_courses.courses(host, category_id=category_id, search=search),
        )

    def course(self, ref: CourseRef) -> Course:
        """The one course so named. Raises NotFound. Reads only."""
        from moodlectl.site.live import courses, shell_courses

        return self._either(lambda ws: courses.course(ws, ref), lambda host: shell_courses.course(host, ref))

    def contents(self, course_id: int) -> Sequence[Section]:
        """Sections and activities, asked on the host where there is one: it names also what is hidden. Reads only."""
        from moodlectl.site.live import courses, shell_courses

        if self._runner is not None:
            return shell_courses.contents(self._runner, course_id)
        return self._either(
            lambda ws: courses.contents(ws, course_id), lambda host: shell_courses.contents(host, course_id)
        )

    def counts(self, course_id: int) -> Counts:
        """What the course holds now. Needs a shell. Reads only."""
        from moodlectl.site.live import shell_courses

        return shell_courses.counts(self._host("counting what a course holds"), course_id)

    def identities(
        self, course_id: int, receive: OnIdentity, part: Part = ALL, *, as_user: str | None = None
    ) -> None:
        """What the course holds, thing by thing. Needs a shell. Reads only."""
        from moodlectl.site.live import identities

        host = self._host("looking at everything a course holds")
        identities.identities(host, course_id, receive, part, acting=self._acting(as_user))

    def keepsake(self, course_id: int, *, as_user: str | None = None) -> Keepsake:
        """What the course holds that no backup carries. Needs a shell. Reads only."""
        from moodlectl.site.live import keepsakes

        host = self._host("looking at what no backup carries")
        return keepsakes.keepsake(host, course_id, acting=self._acting(as_user))

    def work_since(self, course_id: int, since: datetime) -> Work:
        """What people have done in the course since then. Needs a shell. Reads only."""
        from moodlectl.site.live import keepsakes

        return keepsakes.work_since(self._host("looking at a course's log"), course_id, since)

    # --- backups ----------------------------------------------------------------------------------------------------

    def accounts(self, usernames: Sequence[str], *, as_user: str | None = None) -> Sequence[Account]:
        """Those usernames that are accounts here, asked on the host where there is one: it sees more. Reads only."""
        from moodlectl.site.live import accounts

        if self._runner is not None:
            return accounts.on_host(self._runner, usernames, acting=self._acting(as_user))
        return self._either(
            lambda ws: accounts.by_web(ws, usernames), lambda host: accounts.on_host(host, usernames)
        )

    def backup_settings(self, course_id: int | None, *, as_user: str | None = None) -> Sequence[Setting]:
        """Every setting a backup offers here. Needs a shell. Reads only."""
        from moodlectl.site.live import backup

        host = self._host("asking for the settings of a backup")
        return backup.settings(host, course_id, acting=self._acting(as_user))

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        """Make one backup, in a PHP process of its own. Needs a shell. Writes to the site."""
        from moodlectl.site.live import backup

        host = self._host("making a backup")
        return backup.make(host, request, acting=self._acting(request.as_user), on_progress=on_progress)

    def queue_backup(self, request: BackupRequest) -> BackupQueued:
        """Leave one backup to the site's cron. Needs a shell. Writes to the site."""
        from moodlectl.site.live import backup

        return backup.queue(self._host("queueing a backup"), request, acting=self._acting(request.as_user))

    def backups(
        self, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
    ) -> BackupListing:
        """The backups in those areas; over the shell also the external folder and other people's areas. Reads only."""
        from moodlectl.site.live import backups, storedfiles

        if self._runner is not None:
            return backups.listing(self._runner, course_id, areas, owner=owner)
        assert self._webservice is not None
        return storedfiles.backups(self._webservice, course_id, areas, owner=owner)

    def download(
        self, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress
    ) -> BackupFile:
        """Bring a backup down over HTTP where that is allowed, else over the shell. Reads only."""
        from moodlectl.site.live import backups, storedfiles

        if self._webservice is not None and (file.url or file.locator.get("url")):
            try:
                got = self._webservice.download(
                    storedfiles.address_of(self._webservice, file),
                    destination,
                    size=file.size,
                    sha1=file.sha1,
                    overwrite=True,  # whether it may be is settled by whoever chose the destination
                    on_progress=on_progress,
                )
                return replace(file, size=got.size, sha1=got.sha1)
            except (AccessError, NotFound, Unreachable) as trouble:
                # Who may not read a file is told that it is not there.
                if self._runner is None:
                    raise
                _log.debug("fetched over the shell instead: %s", trouble.message)
        return backups.download(self._host("bringing this backup down"), file, destination, on_progress)

    def delete_backup(self, file: BackupFile) -> None:
        """Delete one stored backup and see that it is gone. Needs a shell. Writes to the site."""
        from moodlectl.site.live import backups

        backups.delete(self._host("deleting a backup"), file)

    def manifest_xml(self, file: BackupFile) -> bytes:
        """The backup's ``moodle_backup.xml``, read where it lies. Needs a shell. Reads only."""
        from moodlectl.site.live import backups

        return backups.manifest_xml(self._host("reading a backup where it lies"), file)

    def inside(self, file: BackupFile, on_progress: OnProgress = no_progress) -> Inside | None:
        """A stored backup to be read where it lies: over HTTP ranges or on the host. Reads only."""
        from moodlectl.site.live import inside

        return inside.inside(file, self._webservice, self._runner, on_progress)

    def users_against(
        self, people: Sequence[Person], question: UsersQuestion, on_progress: OnProgress = no_progress
    ) -> UsersAgainst:
        """What restoring would make of those people: asked of the site, or without a shell computed. Reads only."""
        from moodlectl.site.live import against

        acting = self._acting(question.as_user)
        if self._runner is not None:
            return against.on_host(self._runner, people, question, acting, on_progress)
        assert self._webservice is not None
        return against.by_web(self._webservice, people, question, on_progress)

    # --- restores ---------------------------------------------------------------------------------------------------

    def standing(self, course_id: int, *, as_user: str | None = None) -> Standing:
        """Who and what stands in the way of changing a course. Needs a shell. Reads only."""
        from moodlectl.site.live import restore

        host = self._host("looking at who is in a course")
        return restore.standing(host, course_id, acting=self._acting(as_user))

    def restore_plan(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
        """What that restore would do. Needs a shell. Leaves nothing behind."""
        from moodlectl.site.live import restore

        return restore.restore_plan(self._host("planning a restore"), request, on_progress)

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        """Restore, in a PHP process of its own. Needs a shell. Writes to the site."""
        from moodlectl.site.live import restore

        return restore.restore(self._host("restoring"), request, on_progress)

    def has_host(self) -> bool:
        """Whether there is a shell."""
        return self._runner is not None

    def web_copy(self, copy: WebCopy) -> int:
        """Have Moodle copy a course inside one web request. Needs a token. Writes to the site."""
        from moodlectl.site.live import webdeeds

        return webdeeds.copy(self._web("copying a course inside one web request"), copy)

    def web_import(self, wanted: WebImport) -> None:
        """Have Moodle import a course into another inside one web request. Needs a token. Writes to the site."""
        from moodlectl.site.live import webdeeds

        webdeeds.import_(self._web("importing a course inside one web request"), wanted)

    def delete_course(self, course_id: int) -> None:
        """Delete an unfinished course. Needs a token. Writes to the site."""
        from moodlectl.site.live import webdeeds

        webdeeds.delete(self._web("deleting a course"), course_id)

    def controllers(self, course_ids: Sequence[int], since: datetime) -> Sequence[Controller] | None:
        """Moodle's records of backups and restores of those courses; None without a shell. Reads only."""
        from moodlectl.site.live import webdeeds

        return None if self._runner is None else webdeeds.controllers(self._runner, course_ids, since)

    def deed(self, number: str) -> Deed:
        """What has become of a backup or restore begun under that number. Needs a shell. Reads only."""
        from moodlectl.site.live import deeds

        return deeds.look(self._host("finding out what became of it"), number)

    def settle_deed(self, number: str) -> Deed:
        """Clear up after one whose process was killed. Needs a shell. Writes to the site."""
        from moodlectl.site.live import deeds

        return deeds.settle(self._host("clearing up"), number)

    def forget_deed(self, number: str) -> None:
        """Let the host forget one that has ended. Needs a shell."""
        from moodlectl.site.live import deeds

        deeds.forget(self._host("clearing up"), number)

    # --- a course's place -------------------------------------------------------------------------------------------

    def course_facts(self, course_id: int) -> CourseFacts:
        """Who is enrolled and how, and what the course was made from. Needs a shell. Reads only."""
        from moodlectl.site.live import arranging

        return arranging.course_facts(self._host("telling who is enrolled and how"), course_id)

    def enrolment_methods(self) -> Mapping[str, bool]:
        """The enrolment plugins there are, and whether each is switched on. Needs a shell. Reads only."""
        from moodlectl.site.live import arranging

        return arranging.enrolment_methods(self._host("telling the enrolment methods of the site"))

    def modules(self) -> Mapping[str, bool]:
        """The activity modules there are, and whether each is switched on. Needs a shell. Reads only."""
        from moodlectl.site.live import arranging

        return arranging.modules(self._host("telling the activity modules of the site"))

    def arrange(self, course_id: int, arrangement: Arrangement) -> Course:
        """Name, place, show, enrol as asked. Needs a shell. Writes to the site; may be repeated."""
        from moodlectl.site.live import arranging

        return arranging.arrange(self._host("arranging a course"), course_id, arrangement)

    def make_category(self, path: Sequence[str], *, idnumber: str = "", visible: bool = True) -> Category:
        """The category, made where there is none. Needs a shell. Writes to the site; may be repeated."""
        from moodlectl.site.live import arranging

        host = self._host("making a category")
        return arranging.make_category(host, path, idnumber=idnumber, visible=visible)

    def pool(self) -> Pool:
        """The site's file pool. Needs a shell."""
        from moodlectl.site.live import contents

        return contents.LivePool(self._host("moving the contents of files"), self._config.acting)

    def pressure(self) -> Pressure:
        """Load, waiting tasks and free space, asked on the host; unknown without a shell. Reads only."""
        from moodlectl.site.live import pressure

        return pressure.pressure(self._runner) if self._runner is not None else Pressure()

    def run_automated(self, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
        """Run the automated backups that are due. Needs a shell. Writes to the site."""
        from moodlectl.site.live import automated

        return automated.run(self._host("running the automated backups"), on_progress=on_progress)

    def close(self) -> None:
        """End PHP sessions and shared connections; what fails at that is nobody's trouble any more."""
        for one in (self._runner, self._webservice):
            if one is not None:
                try:
                    one.close()
                except MoodlectlError as error:
                    _log.debug("closing: %s", error.message)
