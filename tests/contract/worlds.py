"""A site with known content and everything a contract test needs beside it, the same for both kinds of site."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moodlectl.site.port import (
    BackupFile,
    BackupRequest,
    Course,
    CourseRef,
    Restored,
    RestoreRequest,
    RestoreSource,
    Section,
    Site,
)

LIVE = Path(__file__).parents[1] / "live"

# Moodle's own admin/cli/delete_course.php stumbles in 5.1: it does not load course/lib.php.
DELETE_COURSE = """
require_once($CFG->dirroot . '/course/lib.php');
$course = $DB->get_record('course', ['id' => $arguments['id']]);
if ($course) {
    $course->deletesource = 'restore'; // Past the recycle bin.
    delete_course($course, false);
    fix_course_sortorder();
}
"""

MAKE_CATEGORY = """
$name = 'Contract ' . random_string(8);
echo core_course_category::create(['name' => $name])->id;
"""
DELETE_CATEGORY = """
$category = core_course_category::get($arguments['id']);
if (!$category->has_courses()) {
    $category->delete_full(false);
}
"""


@dataclass
class World:
    """One site as a test sees it.

    Both kinds hold RICH101 (some of everything), EMPTY1, a hidden course with the idnumber X9, the categories
    ``Science`` (SCI) and ``Science / Biology``, and the users ``admin`` (acting), ``manager1`` and ``teacher1``, who
    teaches RICH101. ``lock`` locks a backup setting at its default while it lasts. ``made`` are the courses and
    ``stored`` the backups that the test made.
    """

    name: str
    site: Site
    tmp: Path
    lock: Callable[[], AbstractContextManager[tuple[str, bool]]]
    category: int  # a category of this test's own, where new courses go
    remove: Callable[[int], None] = lambda _: None
    cron: Callable[[], None] = lambda: None  # has the site make the backups that were left to it
    made: list[int] = field(default_factory=list)
    stored: list[BackupFile] = field(default_factory=list)

    def course(self, shortname: str) -> Course:
        """A course of the test data."""
        return self.site.course(CourseRef("shortname", shortname))

    @property
    def rich(self) -> Course:
        """The course with some of everything."""
        return self.course("RICH101")

    def items(self) -> dict[str, tuple[Section, Any]]:
        """The activities of RICH101 by module, the last of each, with the section it stands in."""
        return {
            activity.module: (section, activity)
            for section in self.site.contents(self.rich.id)
            for activity in section.activities
        }

    def backup(self, course_id: int | None = None, **request: Any) -> BackupFile:
        """A fresh backup, of RICH101 unless another course is named."""
        made = self.site.backup(BackupRequest(course_id or self.rich.id, **request))
        self.stored.append(made.file)
        return made.file

    def download(self, file: BackupFile, name: str = "backup.mbz") -> Path:
        """A stored backup, brought down."""
        self.site.download(file, self.tmp / name)
        return self.tmp / name

    def new(self, source: BackupFile | Path, **request: Any) -> Restored:
        """A restore into a new course."""
        request.setdefault("category_id", self.category)
        return self.restore(source, "new", **request)

    def restore(self, source: BackupFile | Path, mode: str, **request: Any) -> Restored:
        """A restore, remembered so that its course goes away again."""
        done = self.site.restore(self.request(source, mode, **request))
        if mode == "new":
            self.made.append(done.course.id)
        return done

    def request(self, source: BackupFile | Path, mode: str, **request: Any) -> RestoreRequest:
        """What a restore is asked with."""
        where = RestoreSource(path=source) if isinstance(source, Path) else RestoreSource(stored=source)
        return RestoreRequest(where, mode, **request)  # type: ignore[arg-type]

    def everything(self) -> set[tuple[int, str, str, str, bool]]:
        """The test data's courses and those of this test's category, with what a failed restore could change."""
        courses = [*map(self.course, ("RICH101", "EMPTY1", "HIDDEN1")), *self.site.courses(category_id=self.category)]
        return {(one.id, one.shortname, one.fullname, one.idnumber, one.visible) for one in courses}

    def tidy(self) -> None:
        """Take away what the test made, and nothing else."""
        for course_id in self.made:
            self.remove(course_id)
        for file in self.stored:
            # The whole record, sha1 and all: somebody else's file may bear the same name by now.
            there = (
                []
                if file.course_id in self.made
                else self.site.backups(file.course_id, [file.area], owner=file.owner).files
            )
            if file in there:
                self.site.delete_backup(file)


@contextmanager
def practice_world(tmp: Path) -> Iterator[World]:
    """A practice site of its own, fresh."""
    from moodlectl.site.practice import PracticeSite

    site = PracticeSite(tmp / "practice")
    try:
        # The fresh site's administrator has locked this one already.
        plain = next(one.id for one in site.categories() if not one.courses and not one.idnumber)
        yield World("practice", site, tmp, lambda: nullcontext(("logs", False)), plain)
    finally:
        site.close()


@contextmanager
def live_world(moodle: Any, tmp: Path) -> Iterator[World]:
    """A running Moodle of tests/live/rig.py, by web service and ssh; what the test makes is removed one by one."""
    from moodlectl.config import SiteConfig
    from moodlectl.site.opening import open_site

    secret = tmp / "token"
    secret.touch(mode=0o600)
    secret.write_text(moodle.tokens["admin"])
    config = SiteConfig(
        name="live",
        url=moodle.url,
        token=f"file:{secret}",
        via=tuple(moodle.via),
        moodle_dir=str(moodle.moodle_dir),
        ssh_config=moodle.ssh_config,
        timeout=300.0,
    )

    @contextmanager
    def lock() -> Iterator[tuple[str, bool]]:
        key = "backup_general_contentbankcontent_locked"
        moodle.cli("admin/cli/cfg.php", "--component=backup", f"--name={key}", "--set=1")
        try:
            yield "contentbankcontent", True
        finally:
            moodle.cli("admin/cli/cfg.php", "--component=backup", f"--name={key}", "--unset")

    def remove(course_id: int) -> None:
        moodle.php(DELETE_COURSE, id=course_id)

    site = open_site(config)
    # Others may work on the same site: what appears in a category of our own is ours.
    category = int(moodle.php(MAKE_CATEGORY))
    def cron() -> None:
        moodle.cli("admin/cli/adhoc_task.php", "--execute", "--classname=\\core\\task\\asynchronous_backup_task")

    world = World(moodle.name, site, tmp, lock, category, remove, cron)
    try:
        yield world
        world.tidy()
        moodle.php(DELETE_CATEGORY, id=category)
    finally:
        site.close()


def rig() -> Any:
    """The module tests/live/rig.py, which imports its neighbours by their bare names."""
    if str(LIVE) not in sys.path:
        sys.path.insert(0, str(LIVE))
    import rig as module

    return module
