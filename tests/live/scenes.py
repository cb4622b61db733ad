"""A course that is not to be lost, and a backup of another to replace it with: where restores are broken on purpose."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
import pytest
import rig
from desks import Desk, opened
from faults import Account, Moment, Running
from snapshots import NAME_BADGES, changes, snapshot

from moodlectl import ledger

BIG = 24 << 20

# The rich course once more, with a page of its own and a file that takes a moment on its way.
MAKE_BIG = """
require_once($CFG->libdir . '/phpunit/classes/util.php');
require_once($CFG->libdir . '/testing/generator/data_generator.php');
$context = context_course::instance($arguments['id']);
$file = get_file_storage()->create_file_from_string(['contextid' => $context->id, 'component' => 'course',
    'filearea' => $arguments['area'], 'itemid' => 0, 'filepath' => '/', 'filename' => 'big.bin'], random_bytes($arguments['bytes']));
echo 'HASH:' . $file->get_contenthash();
"""

# A stored backup, an automated one, a suspended student, a calendar entry: what is easily lost.
DRESS = """
$id = (int)$arguments['id'];
$context = context_course::instance($id);
$fs = get_file_storage();
foreach (['course', 'automated'] as $area) {
    $fs->create_file_from_string(['contextid' => $context->id, 'component' => 'backup', 'filearea' => $area, 'itemid' => 0,
        'filepath' => '/', 'filename' => "kept-$area.mbz", 'timecreated' => 1700000000], "the $area backup of $id");
}
$enrolment = $DB->get_records_sql('SELECT ue.* FROM {user_enrolments} ue JOIN {enrol} e ON e.id = ue.enrolid
    WHERE e.courseid = ? ORDER BY ue.id DESC', [$id], 0, 1);
$DB->set_field('user_enrolments', 'status', 1, ['id' => key($enrolment)]);
$DB->set_field('course', 'idnumber', $arguments['idnumber'], ['id' => $id]);
require_once($CFG->dirroot . '/calendar/lib.php');
calendar_event::create((object)['name' => 'Feast', 'description' => 'all come', 'format' => FORMAT_HTML, 'courseid' => $id,
    'eventtype' => 'course', 'timestart' => 1900000000, 'timeduration' => 3600, 'visible' => 1, 'userid' => 2], false);
rebuild_course_cache($id, true);
"""

# What a deed of ours can have left: accounts, directories, backups set aside, restores that have not ended.
LEFT = """
$courses = array_map('intval', $DB->get_fieldset_select('course', 'id', 'category = ?', [$arguments['category']]));
list($in, $values) = $DB->get_in_or_equal($courses ?: [0]);
echo 'LEFT:' . json_encode([
    'courses' => $courses,
    'accounts' => array_values(array_filter(array_map('basename', glob("$CFG->backuptempdir/moodlectl-deed-*.json")),
        function($name) use ($arguments) { return in_array(substr($name, 15, 32), $arguments['deeds']); })),
    'aside' => array_values(array_filter($DB->get_fieldset_select('files', 'filepath',
        "component = 'user' AND filearea = 'backup' AND filepath LIKE '/moodlectl-%'"), function($path) use ($arguments) {
            return in_array(substr($path, 11, 32), $arguments['deeds']);
        })),
    'directories' => array_values(array_filter($arguments['directories'], function($name) use ($CFG) {
        return file_exists("$CFG->backuptempdir/$name"); })),
    'controllers' => $DB->count_records_select('backup_controllers', "status < 900 AND itemid $in", $values),
    'bin' => $DB->get_manager()->table_exists('tool_recyclebin_category')
        ? $DB->count_records('tool_recyclebin_category', ['categoryid' => $arguments['category']]) : 0,
]);
"""


@dataclass
class Scene:
    """A course that is not to be lost, what it holds, and another backup to replace it with."""

    desk: Desk
    course: int
    big: Path
    big_hash: str
    before: dict[str, Any]
    directories: list[str] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    lost: bool = False

    def replace(self, *words: str, stage: str = "restore") -> Running:
        words = ("restore", str(self.big), "--replace", f"id:{self.course}", *words)
        return faults.begin(self.desk, *words, stage=stage)

    def merge(self, *words: str) -> Running:
        return faults.begin(self.desk, "restore", str(self.big), "--merge", f"id:{self.course}", *words)

    def new(self, *words: str) -> Running:
        return faults.begin(self.desk, "restore", str(self.big), "--new", f"id:{self.desk.category}", *words)

    def unchanged(self) -> list[str]:
        return changes(self.before, snapshot(self.desk.site, self.course))[:20]

    def left(self, deeds: list[str]) -> dict[str, Any]:
        found = self.desk.site.php(
            LEFT, category=self.desk.category, deeds=deeds, directories=self.directories
        ).rsplit("LEFT:", 1)[1]
        told: dict[str, Any] = json.loads(found)
        return {**told, "courses": [one for one in told["courses"] if one not in self.known]}

    def is_tidy(self, job: ledger.Job | None = None) -> None:
        """Nothing of the job's deeds is left on the site."""
        job = job or faults.newest_job(self.desk)
        deeds = [str(v) for n, v in job.items[0].facts.items() if n.startswith("deed_")]
        nothing = {"courses": [], "accounts": [], "aside": [], "directories": [], "controllers": 0, "bin": 0}
        assert self.left(deeds) == nothing

    def resolved(self, running: Running) -> ledger.Job:
        """Find out what became of the job, put back what it changed, and see that the course is as it was.

        What is told on the way must be true: a job that is *failed* without having changed anything has not.
        """
        status, _, error = running.ended()
        job = faults.newest_job(self.desk)
        if job.state == "unknown":
            told = self.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id))
            assert told.status in (0, 1), told.stderr
            job = ledger.job(job.id, faults.state_path(self.desk))
        assert job.state in ("done", "failed"), (status, error)
        facts = job.items[0].facts
        changed = facts.get("course_changed") or facts.get("differences")
        if job.state == "failed" and not changed:
            assert self.unchanged() == [], facts
        elif not facts.get("undone"):
            self.undo(job.id)
            assert self.compares_equal(facts["safety"])
        assert self.unchanged() == []
        self.is_tidy(job)
        return job

    def compares_equal(self, safety: str) -> bool:
        """Whether the command's own comparison finds the course to be what the safety backup holds."""
        done = self.desk.run("--site", "live", "-o", "json", "course", "compare", f"id:{self.course}", safety)
        assert done.status == 0, done.stdout[-3000:] + done.stderr
        return True

    def seen(self, account: Account) -> None:
        self.directories = [*account.get("directories", []), *(f"{one}.log" for one in account.get("ids", []))]

    def run(self, *words: str) -> Any:
        """A command that must succeed; its JSON."""
        done = self.desk.run("--site", "live", "-o", "json", "-y", *words)
        assert done.status == 0, done.stderr
        return done.json

    def undo(self, job: int) -> None:
        assert self.run("restore", "--undo", str(job))["verified"]["ok"]


def prepare(desk: Desk, work: Path, number: str) -> Scene:
    """The rich course with what is easily lost, and a backup of another one, with a file that takes a moment."""
    [rich] = desk.ok("backup", "create", "RICH101", "--download", str(work), "--remove-remote")
    course = desk.new(rich["path"], f"not-to-be-lost-{desk.category}-{number}", "--skip", "mod:wiki")
    desk.site.php(DRESS, id=course, idnumber=f"faults-{desk.category}-{number}")
    desk.site.php(MAKE_BIG, id=course, bytes=BIG // 3, area="overviewfiles")
    other = desk.new(rich["path"], "other", "--fullname", "Another one", "--skip", "mod:glossary")
    for each in (course, other):
        desk.site.php(NAME_BADGES, id=each, course=course)
    told = desk.site.php(MAKE_BIG, id=other, bytes=BIG, area="summary")
    [big] = desk.ok("backup", "create", "other", "--download", str(work), "--remove-remote")
    desk.site.php("""
        $CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
        require_once($CFG->dirroot . '/course/lib.php');
        delete_course($arguments['id'], false);
    """, id=other)  # fmt: skip
    hash_ = told.rsplit("HASH:", 1)[1].strip()
    made = Scene(desk, course, Path(big["path"]), hash_, snapshot(desk.site, course))
    made.known = made.left([])["courses"]
    return made


@contextmanager
def scenes_at(
    moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory, label: str
) -> Iterator[Callable[[str], Scene]]:
    """A scene for each site that is asked for; one whose course was lost is made anew."""
    made: dict[str, Scene] = {}
    numbers = itertools.count(1)
    with opened(moodles, label) as desk_at:

        def scene_at(name: str) -> Scene:
            if name not in made or made[name].lost:
                made[name] = prepare(desk_at(name), tmp_path_factory.mktemp("scene"), str(next(numbers)))
            return made[name]

        yield scene_at


def kept_whole(found: Scene) -> Iterator[Scene]:
    """The course as it is to be; a test that lost it fails, and the next gets another."""
    yield found
    lost = found.unchanged()
    found.lost = bool(lost)
    assert lost == []


def break_at(scene: Scene, running: Running, moment: Moment, fault: Callable[[Running, Account], None]) -> Account:
    """Let the fault happen when that moment is seen."""
    account = running.until(moment)
    scene.seen(account)
    fault(running, account)
    return account
