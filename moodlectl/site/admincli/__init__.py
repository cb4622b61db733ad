"""A Moodle whose host lets us run ``admin/cli`` scripts only: driven by those, looked at over web services.

The scripts' exit statuses are not believed: what was done is seen in the site's own lists, before and after. What
they have no option for is refused by name (``engine_cannot``) before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.site.admincli import refusals
from moodlectl.site.admincli.host import Host
from moodlectl.site.admincli.looking import Means
from moodlectl.site.live import courses
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
    from moodlectl.site.webservice import WebService


class AdminCliSite:
    """Answers the ``Site`` port with Moodle's own scripts; most of it needs a token to look at the site with."""

    def __init__(self, config: SiteConfig, webservice: WebService | None) -> None:
        self.name = config.name
        self._config = config
        self._means = Means(config, webservice, Host(config))

    def _web(self, what: str) -> WebService:
        if self._means.web is None:
            raise refusals.no_token(self.name, what)
        return self._means.web

    # --- looking ----------------------------------------------------------------------------------------------------

    def info(self) -> SiteInfo:
        """The site's name, address and release; without a token only its address is known. Reads only."""
        if self._means.web is None:
            return SiteInfo(self.name, self._config.url, release="", version="", username="")
        return courses.info(self._means.web)

    def check(self) -> Sequence[Check]:
        """Web services, hops, the scripts and the exchange folder. Reads only."""
        from moodlectl.site.admincli import doctor

        return doctor.check(self._means)

    def categories(self) -> Sequence[Category]:
        """All categories that may be seen, over REST. Reads only."""
        return courses.categories(self._web("which categories there are"))

    def courses(self, *, category_id: int | None = None, search: str | None = None) -> Sequence[Course]:
        """The courses of a category and below it, those a search finds, or all, over REST. Reads only."""
        return courses.courses(self._web("which courses there are"), category_id=category_id, search=search)

    def course(self, ref: CourseRef) -> Course:
        """The one course so named, over REST; without a token one named by id is taken at its word. Reads only."""
        if self._means.web is None and ref.field == "id" and int(ref.value) != courses.FRONT_PAGE:
            url = f"{self._config.url}/course/view.php?id={int(ref.value)}"
            return Course(int(ref.value), f"id:{int(ref.value)}", "", "", 0, "", None, visible=True, url=url)
        return courses.course(self._web("which course is meant, unless named by its id,"), ref)

    def contents(self, course_id: int) -> Sequence[Section]:
        """Sections and activities, over REST. Reads only."""
        return courses.contents(self._web("what a course holds"), course_id)

    def counts(self, course_id: int) -> Counts:
        """Sections, activities without question banks and, where the service tells, people. Reads only."""
        from moodlectl.site.admincli import looking

        return looking.counts(self._web("what a course holds"), course_id)

    def keepsake(self, course_id: int, *, as_user: str | None = None) -> Keepsake:
        """Refused: no script tells."""
        raise refusals.no_script("look at what no backup carries")

    def work_since(self, course_id: int, since: datetime) -> Work:
        """Not known: no script reads the log."""
        return Work(known=False)

    def identities(
        self, course_id: int, receive: OnIdentity, part: Part = ALL, *, as_user: str | None = None
    ) -> None:
        """Refused: no script tells."""
        raise refusals.no_script("look at everything a course holds")

    def accounts(self, usernames: Sequence[str], *, as_user: str | None = None) -> Sequence[Account]:
        """Those usernames that are accounts here, over REST. Reads only."""
        from moodlectl.site.live import accounts

        return accounts.by_web(self._web("who has an account"), usernames)

    # --- backups ----------------------------------------------------------------------------------------------------

    def backup_settings(self, course_id: int | None, *, as_user: str | None = None) -> Sequence[Setting]:
        """Refused: no script tells."""
        raise refusals.no_script("tell the settings of a backup")

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        """Run ``admin/cli/backup.php``, and find the file that it made. Writes to the site."""
        from moodlectl.site.admincli import backup

        return backup.make(self._means, request, on_progress)

    def queue_backup(self, request: BackupRequest) -> BackupQueued:
        """Refused: no script does it."""
        raise refusals.no_script("leave a backup to cron")

    def backups(
        self, course_id: int, areas: Sequence[Area] = AREAS, *, owner: str | None = None
    ) -> BackupListing:
        """The backups in those areas, over REST. Reads only."""
        from moodlectl.site.live import storedfiles

        return storedfiles.backups(self._web("which backups there are"), course_id, areas, owner=owner)

    def download(
        self, file: BackupFile, destination: Path, on_progress: OnProgress = no_progress
    ) -> BackupFile:
        """Bring a backup down over HTTP, or from the exchange folder where it was made there. Reads only."""
        from moodlectl.site.admincli import backup

        return backup.download(self._means, file, destination, on_progress)

    def delete_backup(self, file: BackupFile) -> None:
        """Delete a backup made in the exchange folder; refused for all others. Writes to the host."""
        from moodlectl.site.admincli import backup

        backup.delete(self._means, file)

    def manifest_xml(self, file: BackupFile) -> bytes:
        """Refused: no script reads a backup where it lies."""
        raise refusals.no_script("read a backup where it lies")

    def inside(self, file: BackupFile, on_progress: OnProgress = no_progress) -> Inside | None:
        """A stored backup to be read where it lies, over HTTP where the server sends pieces. Reads only."""
        from moodlectl.site.live import inside

        return inside.inside(file, self._means.web, None, on_progress)

    def users_against(
        self, people: Sequence[Person], question: UsersQuestion, on_progress: OnProgress = no_progress
    ) -> UsersAgainst:
        """What restoring would make of those people, as far as web services show it. Reads only."""
        from moodlectl.site.live import against

        return against.by_web(self._web("who has an account"), people, question, on_progress)

    # --- restores ---------------------------------------------------------------------------------------------------

    def standing(self, course_id: int, *, as_user: str | None = None) -> Standing:
        """Who is in a course, and its grades, over REST; what is at work in it no script tells. Reads only."""
        from moodlectl.site.admincli import checks

        return checks.standing(self._web("who is in a course"), course_id)

    def restore_plan(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> RestorePlan:
        """What can be known from the file and the site's lists; no script runs the pre-check. Reads only."""
        from moodlectl.site.admincli import restore

        return restore.plan(self._means, request, on_progress)

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        """Run ``admin/cli/restore_backup.php``, and remove what it leaves when it fails. Writes to the site."""
        from moodlectl.site.admincli import restore

        return restore.restore(self._means, request, on_progress)

    def has_host(self) -> bool:
        """No: no script copies a course, and none imports one safely, so both go over web services."""
        return False

    def web_copy(self, copy: WebCopy) -> int:
        """Have Moodle copy a course inside one web request. Writes to the site."""
        from moodlectl.site.live import webdeeds

        return webdeeds.copy(self._web("copying a course"), copy)

    def web_import(self, wanted: WebImport) -> None:
        """Have Moodle import a course into another inside one web request. Writes to the site."""
        from moodlectl.site.live import webdeeds

        webdeeds.import_(self._web("importing a course"), wanted)

    def delete_course(self, course_id: int) -> None:
        """Delete an unfinished course, over REST. Writes to the site."""
        from moodlectl.site.live import webdeeds

        webdeeds.delete(self._web("deleting a course"), course_id)

    def controllers(self, course_ids: Sequence[int], since: datetime) -> Sequence[Controller] | None:
        """None: no script tells."""
        return None

    def deed(self, number: str) -> Deed:
        """Raises OutcomeUnknown: nobody keeps an account of what a script did."""
        raise refusals.no_account()

    def settle_deed(self, number: str) -> Deed:
        """Raises OutcomeUnknown: nobody keeps an account of what a script did."""
        raise refusals.no_account()

    def forget_deed(self, number: str) -> None:
        """Nothing is kept, so nothing is to be forgotten."""

    def course_facts(self, course_id: int) -> CourseFacts:
        """Refused: no script tells who is enrolled."""
        raise refusals.no_script("tell who is enrolled and how")

    def enrolment_methods(self) -> Mapping[str, bool]:
        """Refused: no script tells the site's enrolment methods."""
        raise refusals.no_script("tell the enrolment methods of the site")

    def modules(self) -> Mapping[str, bool]:
        """Refused: no script tells the site's activity modules."""
        raise refusals.no_script("tell the activity modules of the site")

    def arrange(self, course_id: int, arrangement: Arrangement) -> Course:
        """Refused: no script changes a course."""
        raise refusals.no_script("change a course's name, place, visibility or enrolments")

    def make_category(self, path: Sequence[str], *, idnumber: str = "", visible: bool = True) -> Category:
        """Refused: no script makes a category."""
        raise refusals.no_script("make a category")

    def pool(self) -> Pool:
        """Refused: no script moves the contents of files."""
        raise refusals.no_script("move the contents of files")

    def pressure(self) -> Pressure:
        """Not known: no script tells it."""
        return Pressure()

    def run_automated(self, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
        """Run ``admin/cli/automated_backups.php``, and say what is to be seen of it. Writes to the site."""
        from moodlectl.site.admincli import automated

        return automated.run(self._means, on_progress)

    def close(self) -> None:
        """End shared connections."""
        self._means.host.close()
        if self._means.web is not None:
            self._means.web.close()
