"""Contents travel once, from pool to pool, between real sites; what comes of it equals the ordinary way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from conftest import Command

from moodlectl.mbz import open_backup

CATEGORY = """
echo core_course_category::create(['name' => $arguments['name']])->id;
"""
# Moves that failed, or were given up, leave what they had sent ahead.
NOTHING_AHEAD = """
foreach ($DB->get_records('files', ['component' => 'local_moodlectl']) as $record) {
    get_file_storage()->get_file_instance($record)->delete();
}
"""
CLEAR = NOTHING_AHEAD + """
require_once($CFG->dirroot . '/course/lib.php');
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
"""
# Every file of a course as the database has it; ids of contexts and items are each course's own.
FILES = """
$context = context_course::instance($arguments['id']);
$rows = $DB->get_records_sql("SELECT f.id, f.component, f.filearea, f.filepath, f.filename, f.contenthash, f.filesize,
        f.mimetype, f.author, f.license, f.source, u.username
    FROM {files} f JOIN {context} c ON c.id = f.contextid LEFT JOIN {user} u ON u.id = f.userid
    WHERE (c.id = ? OR c.path LIKE ?) AND f.component <> 'backup'", [$context->id, $context->path . '/%']);
$all = [];
foreach ($rows as $row) {
    unset($row->id);
    $all[] = (array)$row;
}
echo 'FILES:' . json_encode($all);
"""
# A picture of somebody's that no other file is like; none with 0 bytes.
PICTURE = """
$context = context_user::instance($DB->get_field('user', 'id', ['username' => $arguments['username']], MUST_EXIST));
$record = ['contextid' => $context->id, 'component' => 'user', 'filearea' => 'icon', 'itemid' => 0, 'filepath' => '/',
    'filename' => 'f9.png'];
get_file_storage()->delete_area_files($context->id, 'user', 'icon', 0);
if ($arguments['bytes']) {
    $file = get_file_storage()->create_file_from_string($record, random_bytes($arguments['bytes']));
    echo 'SHA1:' . $file->get_contenthash();
}
"""
# A file of a course's summary that no other is like; none with 0 bytes.
SUMMARY_FILE = """
$context = context_course::instance($DB->get_field('course', 'id', ['shortname' => $arguments['shortname']], MUST_EXIST));
$record = ['contextid' => $context->id, 'component' => 'course', 'filearea' => 'summary', 'itemid' => 0, 'filepath' => '/',
    'filename' => 'ahead.bin'];
$there = get_file_storage()->get_file(...array_values($record));
$there && $there->delete();
$arguments['bytes'] && get_file_storage()->create_file_from_string($record, random_bytes($arguments['bytes']));
"""
CUT_SHORT = """
$sha1 = $arguments['sha1'];
$path = $CFG->dataroot . '/filedir/' . substr($sha1, 0, 2) . '/' . substr($sha1, 2, 2) . "/$sha1";
$bytes = file_get_contents($path);
unlink($path);
file_put_contents($path, substr($bytes, 0, -1));
"""

# A course of two pages, of which one has something in every table that is rarely used.
RARE = """
require_once($CFG->dirroot . '/course/modlib.php');
require_once($CFG->libdir . '/filterlib.php');
require_once($CFG->libdir . '/gradelib.php');
$course = create_course((object)['fullname' => 'Rare things', 'shortname' => $arguments['shortname'], 'numsections' => 1,
    'category' => core_course_category::create(['name' => 'Rare'])->id]);
foreach (['Bare', 'Full'] as $name) {
    $page = (object)['modulename' => 'page', 'module' => $DB->get_field('modules', 'id', ['name' => 'page']), 'course' => $course->id,
        'section' => 1, 'name' => $name, 'visible' => 1, 'introeditor' => ['text' => $name, 'format' => FORMAT_HTML, 'itemid' => 0],
        'page' => ['text' => $name, 'format' => FORMAT_HTML, 'itemid' => 0], 'display' => 5, 'printintro' => 0,
        'printlastmodified' => 1, 'cmidnumber' => ''];
    $page = add_moduleinfo($page, $course);
}
$context = context_module::instance($page->coursemodule);
$role = $DB->get_field('role', 'id', ['shortname' => 'student']);
$now = 1700000000;
assign_capability('mod/page:view', CAP_PREVENT, $role, $context->id);
role_assign($role, 2, $context->id);
filter_set_local_state('mathjaxloader', $context->id, TEXTFILTER_OFF);
filter_set_local_config('mathjaxloader', $context->id, 'colour', 'green');
core_tag_tag::set_item_tags('core', 'course_modules', $page->coursemodule, $context, ['rare']);
$competency = $DB->insert_record('competency', ['shortname' => 'Rare', 'idnumber' => $course->shortname, 'parentid' => 0, 'path' => '/0/',
    'sortorder' => 0, 'timecreated' => $now, 'timemodified' => $now, 'usermodified' => 2, 'competencyframeworkid' =>
    $DB->insert_record('competency_framework', ['shortname' => 'Rare', 'idnumber' => $course->shortname, 'contextid' => SYSCONTEXTID,
        'scaleid' => 1, 'scaleconfiguration' => '[]', 'taxonomies' => '', 'timecreated' => $now, 'timemodified' => $now,
        'usermodified' => 2])]);
$rows = [
    'comments' => ['contextid' => $context->id, 'component' => 'mod_page', 'commentarea' => 'rare', 'itemid' => 1,
        'content' => 'Rare', 'format' => 1, 'userid' => 2, 'timecreated' => $now],
    'grade_letters' => ['contextid' => $context->id, 'lowerboundary' => 50, 'letter' => 'Rare'],
    'competency_modulecomp' => ['cmid' => $page->coursemodule, 'competencyid' => $competency, 'sortorder' => 0, 'ruleoutcome' => 1,
        'timecreated' => $now, 'timemodified' => $now, 'usermodified' => 2],
    'event' => ['name' => 'Rare', 'description' => '', 'format' => 1, 'courseid' => $course->id, 'userid' => 2, 'modulename' => 'page',
        'instance' => $page->instance, 'type' => 0, 'eventtype' => 'rare', 'timestart' => $now, 'visible' => 1],
    'course_modules_completion' => ['coursemoduleid' => $page->coursemodule, 'userid' => 2, 'completionstate' => 1,
        'timemodified' => $now],
    'course_modules_viewed' => ['coursemoduleid' => $page->coursemodule, 'userid' => 2, 'timecreated' => $now],
    'xapi_states' => ['component' => 'mod_page', 'userid' => 2, 'itemid' => $context->id, 'stateid' => 'rare', 'statedata' => 'x',
        'registration' => '', 'timecreated' => $now, 'timemodified' => $now],
    'block_instances' => ['blockname' => 'html', 'parentcontextid' => $context->id, 'showinsubcontexts' => 0,
        'pagetypepattern' => 'mod-page-*', 'defaultregion' => 'side-pre', 'defaultweight' => 0, 'configdata' => '',
        'timecreated' => $now, 'timemodified' => $now],
];
foreach ($rows as $table => $row) {
    $id = $DB->insert_record($table, $row);
}
context_block::instance($id);
grade_update('mod/page', $course->id, 'mod', 'page', $page->instance, 0, null, ['itemname' => 'Rare']);
get_file_storage()->create_file_from_string(['contextid' => $context->id, 'component' => 'mod_page', 'filearea' => 'content',
    'itemid' => 0, 'filepath' => '/', 'filename' => 'rare.txt'], 'Rare');
"""
# Where each of them lies in a backup, and what is to be found there.
RARE_PLACES = {
    "roles.xml": (b"<override ", b"<assignment "), "filters.xml": (b"<filter_active>", b"<filter_config>"),
    "comments.xml": (b"<comment ",), "competencies.xml": (b"<competency>",), "calendar.xml": (b"<event ",),
    "completion.xml": (b"<completion ", b"<completionview "), "xapistate.xml": (b"<state ",), "module.xml": (b"<tag ",),
    "grades.xml": (b"<grade_item ", b"<grade_letter "), "inforef.xml": (b"<fileref>", b"<userref>", b"<roleref>"),
}  # fmt: skip

# Of the whole archive only these tell of the backup itself: when it was made, and what it is called.
DATES = re.compile(rb"<(?:name|value)>backup-moodle2-[^<]*|<backup_date>\d+|backup_id=\"[0-9a-f]{32}\"")
# Moodle asks its database for these without an order; they come as its rows happen to lie.
UNORDERED = {"files.xml": re.compile(rb"(?=<file id=|</files>)"), "users.xml": re.compile(rb"(?=<user id=|</users>)")}


@dataclass
class Desk:
    """Two sites, the command that knows them as ``old`` and ``new``, and a category of its own on the new one."""

    run: Command
    old: rig.LiveMoodle
    new: rig.LiveMoodle
    category: int
    folder: Path

    def migrate(self, plan: str, *words: str) -> Any:
        path = self.folder / "plan.toml"
        path.write_text(plan)
        done = self.run("-o", "json", "-y", "migrate", str(path), "--from", "old", "--to", "new", *words)
        assert done.status == 0, done.stderr
        return done.json

    def plan(self, *shortnames: str) -> str:
        head = f'[defaults]\ncategory = "id:{self.category}"\nmap = ["admin=admin"]\n'
        rows = (f'[[course]]\ntemplatecourse = "RICH101"\nshortname = "{n}"\nidnumber = "{n}"\n' for n in shortnames)
        return head + "".join(rows)

    def files(self, course: int) -> list[Any]:
        told = json.loads(self.new.php(FILES, id=course).rsplit("FILES:", 1)[1])
        return sorted(json.dumps(one, sort_keys=True) for one in told)


@pytest.fixture
def desk(moodlectl: Command, moodles: dict[str, rig.LiveMoodle], tmp_path: Path) -> Iterator[Desk]:
    sites = list(moodles.values())
    old, new = sites[0], sites[-1]
    if old is new:
        pytest.skip("needs two sites")
    moodlectl.add_site("old", old)
    moodlectl.add_site("new", new)
    with next(moodlectl.home.rglob("config.toml")).open("a") as file:
        file.writelines(f"\n[sites.{name}.limits]\nload = 1000\n" for name in ("old", "new"))
    category = int(new.php(CATEGORY, name=f"Contents {tmp_path.name} {id(tmp_path)}"))
    yield Desk(moodlectl, old, new, category, tmp_path)
    new.php(CLEAR, id=category)


def test_a_course_moved_content_by_content_equals_one_moved_whole_file_by_file(desk: Desk) -> None:
    [whole] = desk.migrate(desk.plan("CONTENTS-WHOLE"), "--whole-backups")["items"]
    [lean] = desk.migrate(desk.plan("CONTENTS-LEAN"))["items"]
    assert lean["facts"]["contents"] > 20
    assert desk.files(whole["facts"]["course"]) == desk.files(lean["facts"]["course"])
    # All was there already, with the first of them.
    assert lean["facts"]["contents_sent"] == 0
    assert lean["facts"]["bytes"] < whole["facts"]["bytes"] / 2
    done = desk.run("--site", "new", "-o", "json", "course", "compare", "CONTENTS-WHOLE", "CONTENTS-LEAN")
    assert [one for one in done.json["differences"] if not one["known"]] == [], done.stdout + done.stderr


def test_what_is_sent_ahead_is_held_until_its_courses_come(desk: Desk) -> None:
    plan = desk.plan("CONTENTS-SEEDED")
    desk.new.php(NOTHING_AHEAD)
    # Whatever else ran before: this the new site has not.
    desk.old.php(SUMMARY_FILE, shortname="RICH101", bytes=30_001)
    try:
        missing = desk.migrate(plan, "--dry-run")["totals"]["bytes_missing"]
        assert missing >= 30_001
        [item] = desk.migrate(plan, "--seed-only", "--limit-rate", "20M")["items"]
        assert item["facts"]["content_bytes_sent"] == missing
        listed = desk.run("-o", "json", "site", "contents", "new", "--unclaimed").json
        assert sum(one["size"] for one in listed) == missing
        assert desk.migrate(plan, "--dry-run")["totals"]["bytes_missing"] == 0
        [item] = desk.migrate(plan)["items"]
        assert (item["facts"]["contents_sent"], item["state"]) == (0, "done")
        assert desk.run("-o", "json", "site", "contents", "new").json == []
    finally:
        desk.old.php(SUMMARY_FILE, shortname="RICH101", bytes=0)


def test_pictures_of_people_go_ahead_too_and_one_that_was_cut_short_since_comes_again(desk: Desk) -> None:
    plan = desk.plan("CONTENTS-PICTURE")
    sha1 = desk.old.php(PICTURE, username="student1", bytes=40_001).rsplit("SHA1:", 1)[1].strip()
    try:
        assert desk.migrate(plan, "--dry-run")["totals"]["bytes_missing"] >= 40_001
        desk.migrate(plan, "--seed-only")
        held = {one["sha1"] for one in desk.run("-o", "json", "site", "contents", "new", "--unclaimed").json}
        assert sha1 in held
        made = desk.run(
            "--site", "old", "-o", "json", "backup", "create", "RICH101", "--without", "files",
            "--download", str(desk.folder), "--remove-remote",
        )  # fmt: skip
        assert made.status == 0, made.stderr
        desk.new.php(CUT_SHORT, sha1=sha1)
        words = ("restore", made.json[0]["path"], "--new", f"id:{desk.category}", "--shortname", "CONTENTS-SHORT")
        refused = desk.run("--site", "new", "-o", "json", "-y", *words, "--map", "admin=admin")
        assert refused.status == 5, refused.stderr
        assert json.loads(refused.stderr.splitlines()[-1])["error"]["code"] == "without-files", refused.stderr
        assert "f9.png" in refused.stderr
        [item] = desk.migrate(plan)["items"]
        assert (item["state"], item["facts"]["contents_sent"]) == ("done", 1)
    finally:
        desk.old.php(PICTURE, username="student1", bytes=0)


def test_who_may_not_ask_the_pools_takes_the_ordinary_way_and_is_told_why(
    desk: Desk,
) -> None:
    for name, site in (("old", desk.old), ("new", desk.new)):
        assert desk.run("site", "remove", name, "-y").status == 0
        desk.run.add_site(name, site, token="manager1")
    told = desk.migrate(desk.plan("CONTENTS-MANAGER"), "--dry-run")
    assert told["totals"]["bytes_missing"] is None
    assert "moodle/site:config" in " ".join(told["notes"]), told["notes"]


def test_a_rollover_writes_no_byte_of_a_file_anew(moodlectl: Command, moodle: rig.LiveMoodle, tmp_path: Path) -> None:
    moodlectl.add_site("live", moodle)
    category = int(moodle.php(CATEGORY, name=f"Rollover {tmp_path.name} {id(tmp_path)}"))
    plan = tmp_path / "year.toml"
    plan.write_text(
        f'[[course]]\ntemplatecourse = "RICH101"\nshortname = "NEXT-{category}"\ncategory = "id:{category}"\n'
    )
    try:
        done = moodlectl("-o", "json", "-y", "rollover", str(plan))
        assert done.status == 0, done.stderr
        [item] = done.json["items"]
        assert item["facts"]["bytes"] < 200_000
        compared = moodlectl("-o", "json", "course", "compare", "RICH101", f"id:{item['facts']['course']}")
        lost = [one for one in compared.json["differences"] if one["kind"] == "file" and not one["known"]]
        assert [one for one in lost if "only in" in one["text"] and not one.get("where")] == []
        again = moodlectl("-o", "json", "-y", "rollover", str(plan))
        assert (again.status, again.json["totals"]["skipped"]) == (0, 1), again.stderr
    finally:
        moodle.php(CLEAR, id=category)


def test_a_stored_backup_restored_on_another_site_sends_what_lacks_there_and_equals_one_in_one_piece(
    desk: Desk,
) -> None:
    made = desk.run("--site", "old", "-o", "json", "backup", "create", "RICH101").json[0]
    word = f"RICH101@{made['area']}/{made['filename']}"

    def restored(name: str, *words: str) -> tuple[int, str]:
        line = ("--site", "new", "-o", "json", "-y", "restore", word, "--from", "old", "--new", f"id:{desk.category}")
        done = desk.run(*line, "--shortname", name, "--map", "admin=admin", *words)
        assert done.status == 0, done.stderr
        assert done.json["verified"]["differences"] == []
        return int(done.json["course"]["id"]), done.stderr

    try:
        lean, _ = restored("TRAVELLED-LEAN")
        whole, _ = restored("TRAVELLED-WHOLE", "--whole-backup")
        again, said = restored("TRAVELLED-AGAIN")
    finally:
        desk.run("--site", "old", "-y", "backup", "delete", word)
    assert "contents 0 were sent" in said
    assert desk.files(whole) == desk.files(lean) == desk.files(again)
    assert desk.run("-o", "json", "site", "contents", "new").json == []


def test_deeds_with_and_without_settings_of_the_database_session_have_equal_results(desk: Desk) -> None:
    ids = []
    for name in ("SESSION-TUNED", "SESSION-PLAIN"):
        line = ("--site", "new", "-o", "json", "--profile", "backup", "create", "RICH101", "--download")
        made = desk.run(*line, str(desk.folder / name), "--remove-remote")
        line = ("--site", "new", "-o", "json", "--profile", "-y", "restore", made.json[0]["path"])
        done = desk.run(*line, "--new", f"id:{desk.category}", "--shortname", name)
        assert done.status == 0, done.stderr
        assert ("asynchronous commit" in done.stderr) == (name == "SESSION-TUNED" and desk.new.db == "pgsql")
        ids.append(int(done.json["course"]["id"]))
        config = next(desk.run.home.rglob("config.toml"))
        plain = config.read_text().replace("plain_database = true\n", "")
        config.write_text(plain.replace("[sites.new]\n", "[sites.new]\nplain_database = true\n"))
    assert desk.files(ids[0]) == desk.files(ids[1])
    done = desk.run("--site", "new", "-o", "json", "course", "compare", f"id:{ids[0]}", f"id:{ids[1]}")
    assert [one for one in done.json["differences"] if not one["known"]] == [], done.stdout + done.stderr


def documents(path: Path) -> dict[str, bytes]:
    """All members of a backup but the index of its archive, without what tells of the backup itself."""
    with open_backup(path) as archive:
        found = {m.name: m.read(1 << 26) for m in archive.members() if m.kind == "file" and m.name != ".ARCHIVE_INDEX"}
    found["moodle_backup.xml"] = DATES.sub(b"", found["moodle_backup.xml"])
    for name, record in UNORDERED.items():
        found[name] = b"\n".join(sorted(one.strip() for one in record.split(found[name])))
    return found


def made_both_ways(run: Command, folder: Path, *words: str) -> list[dict[str, bytes]]:
    """The documents of a backup as we make it, and as Moodle makes it by itself."""
    made = []
    for plain in (False, True):
        if plain:
            config = next(run.home.rglob("config.toml"))
            config.write_text(config.read_text().replace("[sites.live]\n", "[sites.live]\nplain_database = true\n"))
        line = ("-o", "json", "--profile", "backup", "create", *words, "--download", str(folder / str(plain)))
        done = run(*line, "--remove-remote")
        assert done.status == 0, done.stderr
        for what in ("references asked for once an activity", "known answers not asked for"):
            assert (what in done.stderr) != plain, done.stderr
        made.append(documents(Path(done.json[0]["path"])))
    return made


@pytest.mark.parametrize(
    "words", [("RICH101",), ("GEN_XS",), ("RICH101", "--without", "files")], ids=["rich", "generated", "without-files"]
)
def test_backups_made_in_fewer_steps_and_in_moodles_own_hold_the_same_documents(
    moodlectl_on: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    fewer, own = made_both_ways(moodlectl_on, tmp_path, *words)
    assert sorted(fewer) == sorted(own)
    references = [name for name in own if name.endswith("/inforef.xml")]
    assert len(references) > 5
    assert any(b"<fileref>" in own[name] for name in references)
    assert [name for name in own if fewer[name] != own[name]] == []


def test_what_one_activity_alone_has_is_not_taken_for_nothing(
    moodlectl_on: Command, moodle: rig.LiveMoodle, tmp_path: Path
) -> None:
    name = f"RARE-{tmp_path.name}-{id(tmp_path)}"
    moodle.php(RARE, shortname=name)
    fewer, own = made_both_ways(moodlectl_on, tmp_path, name)
    [full] = [name.rsplit("/", 1)[0] for name in own if name.endswith("/page.xml") and b"<name>Full" in own[name]]
    for document, marks in RARE_PLACES.items():
        for mark in marks:
            assert mark in own[f"{full}/{document}"], (document, mark)
    assert any(name.startswith(f"{full}/blocks/") for name in own)
    assert sorted(fewer) == sorted(own)
    assert [name for name in own if fewer[name] != own[name]] == []
