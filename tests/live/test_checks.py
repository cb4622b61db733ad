"""Every danger of a restore, provoked: told by a dry run, refused by the restore itself, and not a byte changed.

States of the whole site (maintenance, an upgrade that waits, a small disk, locked settings) are given to our PHP alone,
by a config.php of its own: others may work on the same site.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pwd
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, Traces, opened, settled, traces
from snapshots import changes, snapshot

DATA = Path(__file__).parents[1] / "data" / "mbz"

SEEN = """
$DB->delete_records('user_lastaccess', ['courseid' => $arguments['course']]);
if ($arguments['ago'] !== null) {
    $user = $DB->get_field('user', 'id', ['username' => 'teacher1']);
    $DB->insert_record('user_lastaccess', ['userid' => $user, 'courseid' => $arguments['course'],
        'timeaccess' => time() - $arguments['ago']]);
}
"""

# What Moodle's own page does when backups are made in the background (backup/backup.php, 3.9 to 5.1).
QUEUE = """
require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
$controller = new backup_controller(backup::TYPE_1COURSE, $arguments['course'], backup::FORMAT_MOODLE,
    backup::INTERACTIVE_YES, backup::MODE_ASYNC, get_admin()->id, backup::RELEASESESSION_YES);
$controller->finish_ui();
echo $controller->get_backupid();
$controller->destroy();
"""
UNQUEUE = "$DB->delete_records('backup_controllers', ['backupid' => $arguments['id']]);"

HIDDEN = "$DB->set_field('course', 'visible', $arguments['visible'], ['id' => $arguments['course']]);"

# A right that editing teachers have in no site: to bring people, in one course of ours.
BRINGS = """
$role = $DB->get_field('role', 'id', ['shortname' => 'editingteacher']);
$context = context_course::instance($arguments['course']);
if ($arguments['give']) {
    assign_capability('moodle/restore:userinfo', CAP_ALLOW, $role, $context->id, true);
} else {
    unassign_capability('moodle/restore:userinfo', $role, $context->id);
}
"""


@dataclass
class Scene:
    """A desk with a whole backup, a course that holds what it holds, and what both looked like at first."""

    desk: Desk
    course: int
    work: Path
    whole: Path
    held: dict[str, Any]
    last: Traces

    def dangerous(self, name: str, status: int, *words: str, site: str = "live") -> dict[str, Any]:
        """What a dry run finds under that name; both it and the restore end so, and nothing is changed."""
        dry = self.desk.run("--site", site, "-o", "json", "restore", *words, "--dry-run")
        assert dry.status == status, dry
        found = dry.json["findings"]
        assert {"name", "severity", "accepted", "message", "remedy", "details"} <= set(found[0])
        stopping = [one for one in found if one["severity"] in ("forbidden", "danger") and not one["accepted"]]
        assert stopping == found[: len(stopping)]  # worst first
        assert name in {one["name"] for one in stopping}, found
        mine = next(one for one in stopping if one["name"] == name)
        assert len(mine["remedy"]) > 10
        done = self.desk.run("--site", site, "-y", "-o", "json", "restore", *words)
        assert (done.status, done.stdout) == (status, ""), done
        assert done.error["code"] in {one["name"] for one in stopping}
        assert name in {one["name"] for one in done.error["details"]["findings"]}
        self.unchanged()
        told: dict[str, Any] = mine
        return told

    def unchanged(self) -> None:
        """Nothing is other than it was, in the course and about it."""
        changed, self.last = settled(self.desk, self.last)
        assert changed == ""
        assert changes(self.held, snapshot(self.desk.site, self.course)) == []

    def tells(self, *words: str, site: str = "live") -> dict[str, dict[str, Any]]:
        """The findings of a dry run that nothing forbids, by name."""
        done = self.desk.run("--site", site, "-o", "json", "restore", *words, "--dry-run")
        assert done.status == 0, done
        return {one["name"]: one for one in done.json["findings"]}

    @property
    def new(self) -> list[str]:
        return ["--new", f"id:{self.desk.category}"]

    @property
    def merge(self) -> list[str]:
        return ["--merge", f"id:{self.course}"]

    @property
    def replace(self) -> list[str]:
        return ["--replace", f"id:{self.course}"]

    def lean(self, *more: str) -> list[str]:
        """A small restore into the course: one page."""
        return [str(self.whole), *self.merge, "--only", "mod:page", "--guard", "same-backup=ignore", *more]

    def changed(self, name: str, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> str:
        """A copy of the whole backup with its members passed through ``change``; its path."""
        target = self.work / f"{name}.mbz"
        with tarfile.open(self.whole) as old, tarfile.open(target, "w:gz", format=tarfile.USTAR_FORMAT) as new:
            for entry in old:
                if entry.name == ".ARCHIVE_INDEX":
                    continue
                content = old.extractfile(entry)
                passed = change(entry.name, content.read() if content else b"")
                if passed is not None:
                    entry.name, entry.size = passed[0], len(passed[1])
                    new.addfile(entry, io.BytesIO(passed[1]) if content else None)
        return str(target)

    def edited(self, name: str, member: str, pattern: bytes, put: bytes) -> str:
        """A copy in which something is written otherwise in the members of that name."""

        def change(at: str, content: bytes) -> tuple[str, bytes]:
            return at, re.sub(pattern, put, content) if re.fullmatch(member, at) else content

        return self.changed(name, change)

    def site_with(self, name: str, *lines: str) -> str:
        """The same site, seen by a PHP whose config.php has these lines more. Returns the name it is set up as."""
        folder, site = self.work / name, self.desk.site
        folder.mkdir(exist_ok=True)
        text = (site.moodle_dir / "config.php").read_text().replace("__DIR__", f"'{site.moodle_dir}'")
        path = folder / "config.php"
        path.write_text(text.replace("$CFG->admin =", "\n".join([*lines, "$CFG->admin ="])))
        path.chmod(0o640)
        if rig.AS_ROOT:
            os.chown(path, 0, pwd.getpwnam(site.web_user).pw_gid)
        told = self.desk.run("site", "add", name, "--no-check", "--url", site.url, "--token-from",
                             f"file:{self.desk.run.home / 'live.token'}", "--ssh-config", str(site.ssh_config),
                             *[w for hop in site.via for w in ("--via", hop)], "--moodle-dir", str(folder))  # fmt: skip
        assert told.status == 0, told.stderr
        return name


@pytest.fixture(scope="module")
def scenes(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[..., Scene]]:
    made: dict[str, Scene] = {}
    with opened(moodles, "Checks") as desk_at:

        def scene_at(name: str) -> Scene:
            if name not in made:
                made[name] = _scene(desk_at(name))
            return made[name]

        yield scene_at


@pytest.fixture
def scene(moodle: rig.LiveMoodle, scenes: Callable[[str], Scene]) -> Scene:
    return scenes(moodle.name)


def _scene(desk: Desk) -> Scene:
    work = desk.run.home / "host"
    work.mkdir()
    for path in (desk.run.home.parent, desk.run.home, work):
        path.chmod(0o755)  # the web server's user reads the config.php files that lie there
    [made] = desk.ok("backup", "create", "RICH101", "--download", str(work), "--remove-remote")
    course = desk.new(made["path"], f"checked-{desk.category}")
    desk.site.php(HIDDEN, course=course, visible=1)
    return Scene(desk, course, work, Path(made["path"]), snapshot(desk.site, course), traces(desk))


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_off_or_no_backup_does_not_travel(scene: Scene) -> None:
    cut, none = scene.work / "cut.mbz", scene.work / "none.mbz"
    cut.write_bytes(scene.whole.read_bytes()[:-50_000])
    none.write_text('{"error":"Invalid token","errorcode":"invalidtoken"}')
    scene.dangerous("truncated", 5, str(cut), *scene.new)
    scene.dangerous("truncated", 5, str(cut), *scene.replace)
    scene.dangerous("not_a_backup", 5, str(none), *scene.new)


def test_a_file_with_a_damaged_content_is_refused_until_that_is_allowed(scene: Scene) -> None:
    def change(at: str, content: bytes) -> tuple[str, bytes]:
        return at, b"?" + content[1:] if re.fullmatch(r"files/../[0-9a-f]{40}", at) else content

    path = scene.changed("damaged", change)
    found = scene.dangerous("not-whole", 5, path, *scene.new)
    assert found["details"]["problems"][0]["code"] == "content"
    assert scene.tells(path, *scene.new, "--allow", "not-whole")["not-whole"]["accepted"] is True


def test_a_newer_backup_is_refused_until_that_is_allowed(scene: Scene) -> None:
    path = scene.edited("newer", "moodle_backup.xml", rb"<moodle_version>[^<]*", b"<moodle_version>2099010100")
    for target in (scene.new, scene.merge):
        scene.dangerous("newer-backup", 5, path, *target)
    assert scene.tells(path, *scene.new, "--allow", "newer-backup")["newer-backup"]["accepted"] is True


# --- what the site lacks --------------------------------------------------------------------------------------------


def _hot_activity(at: str, content: bytes) -> tuple[str, bytes]:
    if at == "moodle_backup.xml":
        content = content.replace(b"<modulename>choice<", b"<modulename>hotpot<")
        content = re.sub(rb"\bchoice_(?=\d)", b"hotpot_", content)
    found = re.match(r"activities/choice_\d+/", at)
    if found:
        content = content.replace(b'modulename="choice"', b'modulename="hotpot"')
        content = content.replace(b"<modulename>choice<", b"<modulename>hotpot<")
        at = at.replace("activities/choice_", "activities/hotpot_").replace("/choice.xml", "/hotpot.xml")
    return at, content


def _hot_block(at: str, content: bytes) -> tuple[str, bytes]:
    found = re.match(r"course/blocks/[a-z_]+_(\d+)/", at)
    if found:
        at = f"course/blocks/hotblock_{found[1]}/{at.rpartition('/')[2]}"
        content = re.sub(rb"<blockname>[^<]*", b"<blockname>hotblock", content)
    return at, content


def _hot(member: str, pattern: bytes, put: bytes) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(at: str, content: bytes) -> tuple[str, bytes]:
        return at, re.sub(pattern, put, content) if at == member else content

    return change


def _hot_format(at: str, content: bytes) -> tuple[str, bytes]:
    if at == "moodle_backup.xml":
        content = re.sub(rb"<original_course_format>[^<]*", b"<original_course_format>hotformat", content)
    return at, content


LACKING = {
    "mod_hotpot": _hot_activity,
    "block_hotblock": _hot_block,
    "qtype_hotqtype": _hot("questions.xml", rb"<qtype>essay<", b"<qtype>hotqtype<"),
    "format_hotformat": _hot_format,
    "enrol_hotenrol": _hot("course/enrolments.xml", rb"<enrol>manual<", b"<enrol>hotenrol<"),
}


@pytest.mark.parametrize("plugin", LACKING)
def test_a_plugin_the_site_lacks_is_named_and_refused_until_that_is_allowed(scene: Scene, plugin: str) -> None:
    path = scene.changed(plugin, LACKING[plugin])
    found = scene.dangerous("missing-plugins", 5, path, *scene.new)
    assert plugin in found["details"]["missing_plugins"]
    assert plugin in found["message"]
    if plugin == "mod_hotpot":
        assert any(item.startswith("hotpot ") for item in found["details"]["activities"])
    if plugin != "format_hotformat":  # a course that is there keeps its format
        scene.dangerous("missing-plugins", 5, path, *scene.merge)
    assert scene.tells(path, *scene.new, "--allow", "missing-plugins")["missing-plugins"]["accepted"] is True


def test_files_that_are_nowhere_are_named_and_refused_until_that_is_allowed(scene: Scene) -> None:
    def change(at: str, content: bytes) -> tuple[str, bytes] | None:
        if at.startswith("files/"):
            return None
        if at == "moodle_backup.xml":
            content = re.sub(rb"<include_files>1", b"<include_files>0", content)
            content = re.sub(rb"(<original_site_identifier_hash>)[^<]*", rb"\g<1>" + b"0" * 32, content)
        if at == "files.xml":  # one content that this site has never seen; it has all the others
            hashes = re.findall(rb"<contenthash>([0-9a-f]{40})<", content)
            empty = hashlib.sha1(b"", usedforsecurity=False).hexdigest().encode()
            lost = next(one for one in hashes if one != empty)
            content = content.replace(lost, hashlib.sha1(b"nowhere", usedforsecurity=False).hexdigest().encode())
        return at, content

    path = scene.changed("without-files", change)
    more = ["--on-user-conflict", "without-users"]
    found = scene.dangerous("without-files", 5, path, *scene.new, *more)
    assert found["details"]["count"] == 1
    assert found["details"]["files"][0] in found["message"]
    assert scene.tells(path, *scene.new, *more, "--allow", "without-files")["without-files"]["accepted"] is True


def test_a_role_nobody_can_give_here_is_refused_until_that_is_allowed(scene: Scene) -> None:
    path = scene.changed("roles", lambda at, c: (at, _hot_role(c) if at == "roles.xml" else c))
    found = scene.dangerous("missing-roles", 5, path, *scene.new)
    assert found["details"]["roles"]["hotrole"] >= 12
    assert "site administrator" in found["remedy"]
    assert scene.tells(path, *scene.new, "--allow", "missing-roles")["missing-roles"]["accepted"] is True


def _hot_role(content: bytes) -> bytes:
    return content.replace(b"<shortname>student<", b"<shortname>hotrole<").replace(
        b"<archetype>student<", b"<archetype>hottype<"
    )


# --- people ---------------------------------------------------------------------------------------------------------


def test_people_in_conflict_are_named_and_refused(scene: Scene) -> None:
    allow = ["--allow", "newer-backup"]
    for target in (scene.new, scene.merge, scene.replace):
        found = scene.dangerous("user_conflict", 5, str(DATA / "course-4.5-tgz-users.mbz"), *target, *allow)
        assert found["details"]["conflicts"] == ["admin"]
        assert "--map admin=admin" in found["remedy"]


def test_people_who_cannot_be_created_are_named_with_whom_to_ask(scene: Scene) -> None:
    def change(at: str, content: bytes) -> tuple[str, bytes]:
        if at == "moodle_backup.xml":
            content = re.sub(rb"(<original_site_identifier_hash>)[^<]*", rb"\g<1>" + b"0" * 32, content)
        return at, _strangers(content) if at == "users.xml" else content

    path = scene.changed("strangers", change)
    scene.desk.site.php(BRINGS, course=scene.course, give=True)
    before, scene.held = scene.held, snapshot(scene.desk.site, scene.course)
    try:
        words = [path, *scene.merge, "--as", "teacher1", "--no-safety-backup", "--only", "mod:choice"]
        found = scene.dangerous("cannot_create_users", 5, *words)
    finally:
        scene.desk.site.php(BRINGS, course=scene.course, give=False)
        scene.held = before
    scene.unchanged()
    assert "moodle/restore:createuser" in found["message"]
    assert found["details"]["uncreatable"]
    assert "manager1" in found["remedy"]
    assert "site administrator" in found["remedy"]


def _strangers(content: bytes) -> bytes:
    """Nobody of these has an account."""
    content = re.sub(rb"<username>(?!admin|teacher)([^<]*)", rb"<username>strange-\1", content)
    return re.sub(rb"<email>(?!admin|teacher)([^<]*)", rb"<email>strange-\1", content)


def test_people_the_acting_user_may_not_bring_are_no_silent_loss(scene: Scene) -> None:
    words = [str(scene.whole), *scene.merge, "--as", "teacher1", "--no-safety-backup", "--only", "mod:choice"]
    words += ["--guard", "same-backup=ignore"]
    found = scene.dangerous("without-people", 3, *words)
    assert found["details"]["capability"] == "moodle/restore:userinfo"
    assert "manager1" in found["remedy"]
    assert "without-people" not in scene.tells(*words, "--without", "users")
    assert scene.tells(*words, "--allow", "without-people")["without-people"]["accepted"] is True


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_that_are_taken_are_refused_or_told(scene: Scene) -> None:
    scene.dangerous("shortname_taken", 5, str(scene.whole), *scene.new, "--shortname", "RICH101")
    scene.dangerous("idnumber_taken", 5, str(scene.whole), *scene.new, "--idnumber", "X9")
    scene.dangerous("shortname_taken", 5, *scene.lean("--shortname", "RICH101"))
    found = scene.tells(str(scene.whole), *scene.new)["names"]
    assert (found["severity"], "RICH101_" in found["message"]) == ("warning", True)


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "capability", "target"),
    [
        ("teacher1", "moodle/course:create", "new"),
        ("student1", "moodle/course:create", "new"),
        ("student1", "moodle/restore:restorecourse", "merge"),
        ("student1", "moodle/restore:restorecourse", "replace"),
    ],
)
def test_a_permission_that_is_missing_is_named_with_whom_to_ask(
    scene: Scene, who: str, capability: str, target: str
) -> None:
    found = scene.dangerous("no_capability", 3, str(scene.whole), *getattr(scene, target), "--as", who)
    assert found["details"]["capability"] == capability
    assert capability in found["message"]
    assert "site administrator" in found["remedy"]
    assert "manager1" in found["remedy"]


def test_everything_is_told_at_once(scene: Scene) -> None:
    path = scene.changed("mod_hotpot", _hot_activity)
    words = ["restore", path, *scene.new, "--as", "teacher1", "--shortname", "RICH101", "--dry-run"]
    done = scene.desk.run("--site", "live", "-o", "json", *words)
    assert done.status == 3
    names = [one["name"] for one in done.json["findings"]]
    assert {"no_capability", "shortname_taken", "missing-plugins", "without-people"} <= set(names)
    assert names[0] == "no_capability"
    assert (done.json["expected"]["activities"]["page"] > 0, done.json["mode"]) == (True, "new")
    scene.unchanged()


# --- the site -------------------------------------------------------------------------------------------------------


def test_a_locked_setting_is_told_with_who_locked_it(scene: Scene) -> None:
    locked = "$CFG->forced_plugin_settings = ['restore' => ['restore_general_filters' => 1,"
    site = scene.site_with("locked", f"{locked} 'restore_general_filters_locked' => 1]];")
    found = scene.dangerous("setting_locked", 5, str(scene.whole), *scene.new, "--without", "filters", site=site)
    assert found["details"]["locked_by"] == "config"
    hanging = [str(scene.whole), *scene.new, "--without", "users", "--with", "role_assignments"]
    assert scene.dangerous("setting_locked", 5, *hanging)["details"]["depends_on"] == ["users"]


def test_people_locked_out_by_the_administrator_are_no_silent_loss(scene: Scene) -> None:
    locked = "$CFG->forced_plugin_settings = ['restore' => ['restore_general_users' => 0,"
    site = scene.site_with("nobody", f"{locked} 'restore_general_users_locked' => 1]];")
    found = scene.dangerous("without-people", 5, str(scene.whole), *scene.new, site=site)
    assert found["details"]["locked_by"] == "config"


def test_nothing_is_restored_in_maintenance_mode_unless_that_is_allowed(scene: Scene) -> None:
    site = scene.site_with("maintained", "$CFG->maintenance_enabled = 1;")
    for target in (scene.new, scene.merge):
        scene.dangerous("maintenance", 5, str(scene.whole), *target, site=site)
    assert scene.tells(str(scene.whole), *scene.new, "--allow", "maintenance", site=site)["maintenance"]["accepted"]


def test_nothing_is_restored_while_an_upgrade_waits_or_runs(scene: Scene) -> None:
    waits = scene.site_with("waits", "$CFG->version = '2020010100';", "$CFG->allversionshash = 'x';")
    runs = scene.site_with("runs", "$CFG->upgraderunning = time() + 600;")
    for target in (scene.new, scene.replace):
        scene.dangerous("upgrade_pending", 5, str(scene.whole), *target, site=waits)
        scene.dangerous("upgrade_running", 5, str(scene.whole), *target, site=runs)


@pytest.fixture
def small(scene: Scene) -> Iterator[Path]:
    """A disk of 8 MB."""
    if not rig.AS_ROOT:
        pytest.skip("only root can mount a small disk")
    disk = scene.work / "small"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "none", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("setting", ["backuptempdir", "filedir"])
def test_a_full_disk_is_told_with_what_is_needed(scene: Scene, small: Path, setting: str) -> None:
    site = scene.site_with(f"full-{setting}", f"$CFG->{setting} = '{small}';")
    for target in (scene.new, scene.replace):
        found = scene.dangerous("no_space", 5, str(scene.whole), *target, "--no-safety-backup", site=site)
        assert found["details"]["free"] < found["details"]["needed"] + (16 << 20)
        assert found["details"]["directory"].startswith(str(small))


# --- the course -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seen(scene: Scene, ago: int | None) -> Iterator[None]:
    scene.desk.site.php(SEEN, course=scene.course, ago=ago)
    try:
        yield
    finally:
        scene.desk.site.php(SEEN, course=scene.course, ago=None)


def test_a_course_in_which_a_backup_is_queued_is_left_alone(scene: Scene) -> None:
    queued = scene.desk.site.php(QUEUE, course=scene.course).strip()
    before, scene.last = scene.last, traces(scene.desk)
    try:
        for target in (scene.merge, scene.replace):
            found = scene.dangerous("in-use", 5, str(scene.whole), *target, "--guard", "same-backup=ignore")
            assert "is queued" in found["details"]["running"][0]
        assert scene.tells(*scene.lean("--allow", "in-use"))["in-use"]["accepted"] is True
    finally:
        scene.desk.site.php(UNQUEUE, id=queued)
    scene.last = before
    scene.unchanged()


def test_a_course_in_which_somebody_is_is_not_replaced(scene: Scene) -> None:
    with seen(scene, 60):
        found = scene.dangerous("in-use", 5, str(scene.whole), *scene.replace, "--no-safety-backup")
        assert found["details"]["active"] == 1
        assert scene.tells(*scene.lean())["in-use"]["severity"] == "warning"


# --- guards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", ["title", "students", "grades", "visited", "visible"])
def test_a_guard_stops_warns_or_says_nothing(scene: Scene, guard: str) -> None:
    with seen(scene, 3 * 86400):
        found = scene.dangerous(guard, 5, *scene.lean("--guard", f"{guard}=stop", "--no-safety-backup"))
        assert f"--allow {guard}" in found["remedy"]
        allowed = scene.tells(*scene.lean("--guard", f"{guard}=stop", "--allow", guard))[guard]
        assert (allowed["severity"], allowed["accepted"]) == ("danger", True)
        told = scene.tells(*scene.lean())[guard]
        assert told["severity"] == ("note" if guard == "title" else "warning")
        assert guard not in scene.tells(*scene.lean("--guard", f"{guard}=ignore"))
    details = {
        "title": ("shortname", f"checked-{scene.desk.category}"),
        "students": ("students", found["details"].get("students")),
        "grades": ("grades", found["details"].get("grades")),
        "visited": ("visitors", 1),
        "visible": ("visible", True),
    }
    name, value = details[guard]
    assert found["details"][name] == value
    assert value
    if guard == "students":
        assert value >= 12  # and some who are suspended, or watch


def test_the_settings_of_a_site_say_what_its_guards_do(scene: Scene) -> None:
    config = next(iter((scene.desk.run.home / "config").rglob("config.toml")))
    text = config.read_text()
    config.write_text(text + '\n[sites.live.guards]\nstudents = "stop"\nvisible = "ignore"\n')
    try:
        scene.dangerous("students", 5, *scene.lean("--no-safety-backup"))
        told = scene.tells(*scene.lean("--guard", "students=warn"))
        assert (told["students"]["severity"], "visible" in told) == ("warning", False)
        config.write_text(text + '\n[sites.live.guards]\nstudent = "stop"\n')
        error = scene.desk.fails(3, "restore", *scene.lean("--dry-run"))
        assert "sites.live.guards.student" in error["message"]
    finally:
        config.write_text(text)


def test_a_name_that_is_no_danger_or_guard_is_a_wrong_command_line(scene: Scene) -> None:
    for words in (["--allow", "everything"], ["--guard", "students"], ["--guard", "people=stop"]):
        assert scene.desk.fails(2, "restore", *scene.lean(*words))["code"] == "usage"
    scene.unchanged()


def test_what_a_merge_has_brought_is_not_brought_twice(scene: Scene) -> None:
    """Into a course of its own: this one is changed."""
    [empty] = scene.desk.ok("backup", "create", "EMPTY1", "--download", str(scene.work), "--remove-remote")
    course = scene.desk.new(empty["path"], f"twice-{scene.desk.category}")
    words = [str(scene.whole), "--merge", f"id:{course}", "--no-safety-backup"]
    page, choice = ["--only", "mod:page"], ["--only", "mod:choice"]
    first = scene.desk.ok("restore", *words, *page)
    scene.held, scene.course, kept = snapshot(scene.desk.site, course), course, (scene.held, scene.course)
    scene.last = traces(scene.desk)
    try:
        found = scene.dangerous("same-backup", 5, *words, *page)
        assert found["details"]["jobs"] == [first["job"]]
        assert len(found["details"]["items"]) == len(first["activities"])
        # All that is in the file would bring it again, too; another part of it, or the whole instead of it, would not.
        scene.dangerous("same-backup", 5, *words)
        assert scene.tells(*words, *choice)["same-backup"]["severity"] == "warning"
        told = scene.tells(str(scene.whole), "--replace", f"id:{course}", "--no-safety-backup")["same-backup"]
        assert (told["severity"], told["details"].get("job")) == ("warning", first["job"])
        # The site's own log tells of it, whatever this machine remembers.
        other = scene.desk.run("--site", "live", "-o", "json", "restore", *words, *choice, "--dry-run",
                               env={"MOODLECTL_STATE": str(scene.work / "elsewhere")})  # fmt: skip
        notes = [one for one in other.json["findings"] if one["name"] == "same-backup"]
        assert any(len(one["details"].get("times", ())) == 1 for one in notes), notes
        done = scene.desk.ok("restore", *words, *page, "--allow", "same-backup")
        accepted = [one for one in done["findings"] if one["name"] == "same-backup"]
        assert accepted[0]["accepted"] is True
    finally:
        scene.held, scene.course = kept
        scene.last = traces(scene.desk)


def test_warnings_are_told_when_it_is_done_too(scene: Scene) -> None:
    [empty] = scene.desk.ok("backup", "create", "EMPTY1", "--download", str(scene.work), "--remove-remote")
    course = scene.desk.new(str(scene.whole), f"told-{scene.desk.category}")
    done = scene.desk.run("--site", "live", "-y", "-o", "json", "restore", empty["path"], "--replace", f"id:{course}")
    assert done.status == 0, done.stderr
    assert {"students", "grades", "title"} <= {one["name"] for one in done.json["findings"]}
    assert re.search(r"warning: 1\d students are enrolled", done.stderr)
    scene.last = traces(scene.desk)


# --- scripts only ---------------------------------------------------------------------------------------------------


def test_the_other_engine_says_what_it_cannot_find_out(scene: Scene, small: Path) -> None:
    site, home = scene.desk.site, scene.desk.run.home

    def add(name: str, exchange: Path) -> str:
        told = scene.desk.run("site", "add", name, "--no-check", "--url", site.url, "--token-from",
                              f"file:{home / 'live.token'}", "--ssh-config", str(site.ssh_config), "--engine", "admin-cli",
                              "--exchange-dir", str(exchange), *[w for hop in site.via for w in ("--via", hop)],
                              "--moodle-dir", str(site.moodle_dir))  # fmt: skip
        assert told.status == 0, told.stderr
        return name

    exchange = scene.work / "exchange"
    exchange.mkdir(exist_ok=True)
    exchange.chmod(0o777)
    scripts = add("scripts", exchange)
    found = scene.tells(str(scene.whole), *scene.new, site=scripts)
    assert "pre-check" in found["not_known"]["message"]
    newer = scene.edited("newer", "moodle_backup.xml", rb"<moodle_version>[^<]*", b"<moodle_version>2099010100")
    scene.dangerous("newer-backup", 5, newer, *scene.new, site=scripts)
    scene.dangerous("user_conflict", 5, str(DATA / "course-4.5-tgz-users.mbz"), *scene.new, site=scripts)
    free = os.statvfs(small)
    (small / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize - (64 << 10)))
    scene.dangerous("nospace", 5, str(scene.whole), *scene.new, site=add("cramped", small))
