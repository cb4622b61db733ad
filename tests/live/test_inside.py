"""Backups looked into, on sites and beside them: every road tells the same, and what Moodle itself tells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from moodlectl import mbz
from moodlectl.config import SiteConfig
from moodlectl.site.opening import open_site
from moodlectl.site.port import BackupFile, CourseRef, Site, UsersQuestion

FILES = Path(__file__).parents[1] / "data" / "mbz"
WHOLE = sorted(path for path in FILES.glob("*.mbz") if not path.name.startswith("truncated"))

# What Moodle's own restore pages know of a file: the facts of "Confirm" and the plan's settings of "Settings".
MOODLE_TELLS = """
require_once($CFG->dirroot . '/backup/util/includes/restore_includes.php');
require_once($CFG->libdir . '/filelib.php');
$info = backup_general_helper::get_backup_information_from_mbz($arguments['path']);
$told = ['type' => $info->type, 'format' => $info->format, 'mode' => (int)$info->mode,
    'date' => (int)$info->backup_date, 'moodle_version' => (string)$info->moodle_version,
    'moodle_release' => $info->moodle_release, 'backup_release' => $info->backup_release,
    'backup_version' => (string)$info->backup_version, 'url' => $info->original_wwwroot,
    'same_site' => (bool)backup_general_helper::backup_is_samesite($info),
    'include_files' => (bool)$info->include_files, 'course' => (int)$info->original_course_id,
    'fullname' => $info->original_course_fullname, 'shortname' => $info->original_course_shortname,
    'startdate' => (int)$info->original_course_startdate, 'root' => (array)$info->root_settings];
foreach ($info->sections as $key => $section) {
    $told['sections'][(int)$section->sectionid] = [$section->title, (int)$section->settings[$key . '_included'],
        (int)$section->settings[$key . '_userinfo']];
}
foreach ($info->activities as $key => $activity) {
    $told['activities'][(int)$activity->moduleid] = [$activity->modulename, $activity->title,
        (int)$activity->settings[$key . '_included'], (int)$activity->settings[$key . '_userinfo'],
        (int)$activity->sectionid];
}
$name = 'moodlectl-test-' . random_string(8);
$base = make_backup_temp_directory($name);
get_file_packer('application/vnd.moodle.backup')->extract_to_pathname($arguments['path'], $base);
$controller = new restore_controller($name, SITEID, backup::INTERACTIVE_YES, backup::MODE_GENERAL,
    get_admin()->id, backup::TARGET_CURRENT_ADDING);
$told['modules'] = array_keys(core_component::get_plugin_list('mod'));
foreach ($controller->get_plan()->get_settings() as $setting) {
    if ($setting->get_name() !== 'keep_roles_and_enrolments' && $setting->get_name() !== 'keep_groups_and_groupings') {
        $told['plan'][$setting->get_name()] = $setting->get_value();
    }
}
foreach (['user' => 'users.xml', 'file' => 'files.xml', 'question_bank_entry' => 'questions.xml',
        'group' => 'groups.xml'] as $tag => $file) {
    $dom = new DOMDocument();
    $told['count'][$tag] = 0;
    if (is_file("$base/$file") && @$dom->load("$base/$file", LIBXML_PARSEHUGE)) {
        $path = $tag === 'file' ? "/files/file[filename != '.']" : "//{$tag}[@id]";
        $path = $tag === 'group' ? '/groups/group' : $path;
        $told['count'][$tag] = (new DOMXPath($dom))->query($path)->length;
    }
}
$controller->destroy();
fulldelete($base);
echo json_encode($told);
"""


@contextmanager
def site_of(moodle: Any, tmp: Path, *, shell: bool = True, token: bool = True) -> Iterator[Site]:
    """A running Moodle by the roads that are wanted."""
    secret = tmp / "token"
    secret.touch(mode=0o600)
    secret.write_text(moodle.tokens["admin"])
    config = SiteConfig(
        name="live",
        url=moodle.url,
        token=f"file:{secret}" if token else None,
        via=tuple(moodle.via) if shell else (),
        moodle_dir=str(moodle.moodle_dir) if shell else None,
        ssh_config=moodle.ssh_config if shell else None,
        timeout=300.0,
    )
    with closing(open_site(config)) as site:
        yield site


STORE = """
$course = $DB->get_record('course', ['shortname' => 'RICH101'], '*', MUST_EXIST);
$record = ['contextid' => context_course::instance($course->id)->id, 'component' => 'backup', 'filearea' => 'course',
    'itemid' => 0, 'filepath' => '/', 'filename' => $arguments['name'], 'userid' => 2];
$storage = get_file_storage();
foreach ($arguments['remove'] ? [$arguments['name']] : [] as $name) {
    $storage->get_file($record['contextid'], 'backup', 'course', 0, '/', $name)->delete();
}
if (!$arguments['remove']) {
    $storage->create_file_from_pathname($record, $arguments['path']);
}
"""


@contextmanager
def stored(moodle: Any, path: Path, name: str) -> Iterator[str]:
    """A file laid into RICH101's course area while it lasts."""
    shared = Path("/tmp") / name
    shutil.copyfile(path, shared)
    shared.chmod(0o644)
    moodle.php(STORE, path=str(shared), name=name, remove=False)
    try:
        yield name
    finally:
        moodle.php(STORE, path="", name=name, remove=True)
        shared.unlink()


def found(site: Site, name: str) -> BackupFile:
    course = site.course(CourseRef("shortname", "RICH101"))
    return next(one for one in site.backups(course.id, ["course"]).files if one.filename == name)


def assert_moodle_says_the_same(moodle: Any, path: Path, tmp_path: Path) -> mbz.Manifest:
    """What inspect says of a file, once it is seen that Moodle's own restore says so, too."""
    shared = Path("/tmp") / f"moodlectl-told-{path.name}"
    shutil.copyfile(path, shared)
    shared.chmod(0o644)
    try:
        told = json.loads(moodle.php(MOODLE_TELLS, path=str(shared)))
    finally:
        shared.unlink()
    with site_of(moodle, tmp_path) as site:
        info = site.info()
    ours = mbz.inspect(path, site_hash=info.identifier_hash, site_url=info.url, site_version=info.version)
    modes = {10: "general", 50: "automated", 70: "async"}
    assert (ours.type, ours.format, ours.mode) == (told["type"], told["format"], modes[told["mode"]])
    assert ours.backup_date and int(ours.backup_date.timestamp()) == told["date"]
    assert (ours.moodle_version, ours.moodle_release) == (told["moodle_version"], told["moodle_release"])
    assert (ours.backup_version, ours.backup_release) == (told["backup_version"], told["backup_release"])
    assert (ours.original_site.url, ours.same_site) == (told["url"], told["same_site"])
    course = ours.course
    assert (course.id, course.fullname, course.shortname) == (told["course"], told["fullname"], told["shortname"])
    assert course.startdate and int(course.startdate.timestamp()) == told["startdate"]
    assert ours.include_files == told["include_files"]
    assert {name: str(int(value) if isinstance(value, bool) else value) for name, value in ours.settings.items()} == {
        name: str(value) for name, value in told["root"].items()
    }
    # An activity alone comes with no section; ours has a nameless one, for it lies in one.
    sections = [one for one in ours.all_sections() if one.directory]
    assert {one.id: [one.title, int(one.included), int(one.userinfo)] for one in sections} == {
        int(id_): facts for id_, facts in (told.get("sections") or {}).items()
    }
    assert {
        one.id: [one.module, one.title, int(one.included), int(one.userinfo), one.section_id]
        for one in ours.all_activities()
    } == {int(id_): facts for id_, facts in (told.get("activities") or {}).items()}
    offered = {name.rpartition("_")[0] for name in told["plan"] if name.endswith("_included")}
    there = [one for one in ours.all_activities() if one.module in told["modules"]]  # Moodle drops the others
    assert offered == {one.directory.rpartition("/")[2] for one in [*sections, *there]}
    counts = ours.counts
    assert (counts.users, counts.files.count) == (told["count"]["user"], told["count"]["file"])
    assert (counts.questions, counts.groups) == (told["count"]["question_bank_entry"], told["count"]["group"])
    return ours


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_inspect_says_what_moodles_own_restore_says(moodle: Any, path: Path, tmp_path: Path) -> None:
    assert_moodle_says_the_same(moodle, path, tmp_path)


@pytest.mark.parametrize("name", ["course-5.1-tgz-rich-users", "course-4.5-zip-users", "course-4.1-tgz-without-files"])
def test_every_road_to_a_stored_backup_tells_the_same(moodle: Any, name: str, tmp_path: Path) -> None:
    path = FILES / f"{name}.mbz"
    is_zip = "zip" in name
    here, people = mbz.inspect(path), mbz.read_people(path)
    with stored(moodle, path, f"moodlectl-{tmp_path.name}.mbz") as filename:
        for shell, token in ((True, True), (True, False), (False, True)):
            with site_of(moodle, tmp_path, shell=shell, token=token) as site:
                inside = site.inside(found(site, filename))
                if inside is None:
                    assert not shell and not is_zip
                    continue
                assert inside.hollow is not is_zip
                assert mbz.inspect(inside) == here
                assert mbz.read_people(inside) == people


def test_a_zip_is_inspected_by_ranges_without_bringing_it_down(moodle: Any, tmp_path: Path) -> None:
    import os
    import zipfile

    path = tmp_path / "large.mbz"
    shutil.copyfile(FILES / "course-4.5-zip-users.mbz", path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(8):
            archive.writestr(f"files/{number:02x}/{number:040x}", os.urandom(4_000_000))
    from moodlectl.site.pieces import PieceFile

    name = f"moodlectl-{tmp_path.name}.mbz"
    with stored(moodle, path, name) as filename, site_of(moodle, tmp_path, shell=False) as site:
        inside = site.inside(found(site, filename))
        assert inside is not None
        asked: list[PieceFile] = []
        opened = inside.open

        def counted() -> Any:
            asked.append(opened())  # type: ignore[arg-type]
            return asked[-1]

        inside.open = counted  # type: ignore[method-assign]
        assert mbz.inspect(inside).counts.pool.bytes > 32_000_000
        assert asked[0].fetched < path.stat().st_size / 10


@pytest.mark.parametrize("name", ["truncated-tgz", "truncated-zip"])
def test_what_is_cut_short_on_the_site_is_told_as_it_is_here(moodle: Any, name: str, tmp_path: Path) -> None:
    from moodlectl.errors import Refused

    path = FILES / f"{name}.mbz"
    with stored(moodle, path, f"moodlectl-{tmp_path.name}.mbz") as filename, site_of(moodle, tmp_path) as site:
        inside = site.inside(found(site, filename))
        assert inside is not None
        with pytest.raises(Refused) as refused:
            mbz.inspect(inside)
        assert refused.value.code == "truncated"
        assert site.info().username  # the session still answers


def test_a_hostile_stored_backup_is_refused_by_the_same_reader(moodle: Any, tmp_path: Path) -> None:
    import io
    import tarfile

    from moodlectl.errors import Refused

    path = tmp_path / "hostile.mbz"
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("moodle_backup.xml", "../../etc/passwd"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"<a>"))
    with stored(moodle, path, f"moodlectl-{tmp_path.name}.mbz") as filename, site_of(moodle, tmp_path) as site:
        inside = site.inside(found(site, filename))
        assert inside is not None
        with pytest.raises(Refused):
            mbz.inspect(inside)


PEOPLE = """
require_once($CFG->dirroot . '/user/lib.php');
$made = [];
foreach (['alive', 'conflict', 'gone', 'renamed'] as $kind) {
    $name = $arguments['prefix'] . $kind;
    $id = user_create_user(['username' => $name, 'email' => $name . '@example.org', 'firstname' => 'A',
        'lastname' => 'B', 'confirmed' => 1, 'mnethostid' => $CFG->mnet_localhost_id, 'auth' => 'manual',
        'password' => 'Xy-12345678'], true, false);
    $DB->set_field('user', 'firstaccess', 1700000000 + $id, ['id' => $id]);
    $made[$kind] = (int)$id;
}
delete_user($DB->get_record('user', ['id' => $made['gone']]));
echo json_encode($made);
"""
UNMAKE = """
foreach ($arguments['ids'] as $id) {
    $user = $DB->get_record('user', ['id' => $id]);
    if (!$user->deleted) {
        delete_user($user);
    }
}
"""


def test_each_rule_of_moodle_is_named_and_web_services_say_the_same(moodle: Any, tmp_path: Path) -> None:
    import secrets

    from moodlectl.mbz import UserRecord

    prefix = f"ag{secrets.token_hex(4)}"
    made = json.loads(moodle.php(PEOPLE, prefix=prefix))

    def person(kind: str, id_: int, **other: Any) -> UserRecord:
        facts = {"username": prefix + kind, "email": f"{prefix}{kind}@example.org"} | other
        return UserRecord(id=id_, **facts)

    seen = {kind: 1700000000 + id_ for kind, id_ in made.items()}
    alive, conflict, gone, renamed = (made[kind] for kind in ("alive", "conflict", "gone", "renamed"))
    former = {"username": f"{prefix}renamed@example.org.1690000000", "deleted": True, "email": "md5"}
    same = [
        (person("alive", alive), "match", "1A", alive),
        (person("gone", gone), "match", "1C", gone),
        (person("renamed", renamed, **former), "match", "1D", renamed),
        (person("conflict", 999_999), "conflict", "1E", conflict),
        (person("new", 999_998), "create", "1F", None),
    ]
    elsewhere = [
        (person("alive", 5, email=f"{prefix}ALIVE@example.org"), "match", "2A1", alive),
        (person("conflict", 6, email="x@y.org", firstaccess=seen["conflict"]), "match", "2A1", conflict),
        (person("gone", 7), "match", "2B1", gone),
        (person("renamed", 8, firstaccess=seen["renamed"], **former), "match", "2C", renamed),
        (person("conflict", 9, email="x@y.org", firstaccess=3), "conflict", "2D", conflict),
        (person("new", 10), "create", "2E", None),
    ]
    try:
        with site_of(moodle, tmp_path) as site:
            info = site.info()
            home = UsersQuestion(info.url, info.identifier_hash)
            away = UsersQuestion("https://elsewhere.example.org", "0" * 32)
            for question, cases, own in ((home, same, True), (away, elsewhere, False)):
                told = site.users_against([case[0] for case in cases], question)
                assert (told.source, told.same_site) == ("site", own)
                assert [(f.outcome, f.rule, f.account_id) for f in told.fates] == [case[1:] for case in cases]
            as_teacher = UsersQuestion(away.url, away.identifier_hash, as_user="teacher1")
            refused = site.users_against([elsewhere[-1][0]], as_teacher)
            assert [fate.outcome for fate in refused.fates] == ["cannot_create"]
        with site_of(moodle, tmp_path, shell=False) as site:
            for question, cases in ((home, same), (away, elsewhere)):
                told = site.users_against([case[0] for case in cases], question)
                assert told.source == "web service"
                assert told.notes
                for fate, case in zip(told.fates, cases, strict=True):
                    if case[2] not in ("1C", "2B1"):  # accounts deleted on the site are not shown by web service
                        assert (fate.outcome, fate.rule, fate.account_id) == case[1:]
    finally:
        moodle.php(UNMAKE, ids=list(made.values()))


ADMIN = """
set_config('import_general_duplicate_admin_allowed', $arguments['allowed'], 'backup');
if ($arguments['name'] !== '') {
    $user = (object)['username' => $arguments['name'], 'email' => 'a@example.org', 'firstname' => 'A', 'lastname' => 'B',
        'confirmed' => 1, 'mnethostid' => $CFG->mnet_localhost_id, 'auth' => 'manual', 'password' => 'x'];
    require_once($CFG->dirroot . '/user/lib.php');
    echo user_create_user($user, false, false);
}
"""


def test_another_sites_admin_and_accounts_deleted_since_are_told_by_their_rules(moodle: Any, tmp_path: Path) -> None:
    import secrets

    from moodlectl.mbz import UserRecord

    prefix, hash_ = f"ag{secrets.token_hex(4)}", secrets.token_hex(16)
    away = UsersQuestion("https://elsewhere.example.org", hash_)
    made = json.loads(moodle.php(PEOPLE, prefix=prefix))
    seen = 1700000000 + made["gone"]
    admin = UserRecord(2, "admin", "admin@elsewhere.example.org")
    # Renamed before it was deleted: nothing but its address and its first access tell who it was.
    gone = UserRecord(7, f"{prefix}former", f"{prefix}gone@example.org", firstaccess=seen)
    late = UserRecord(8, f"{prefix}former", f"{prefix}gone@example.org", firstaccess=seen + 1)
    allowed = json.loads(moodle.php("echo json_encode(get_config('backup', 'import_general_duplicate_admin_allowed'));"))
    try:

        def told(*people: UserRecord) -> list[tuple[str, str | None, int | None, str | None]]:
            # A session keeps the switches it once saw, so each is asked anew.
            with site_of(moodle, tmp_path) as site:
                fates = site.users_against(people, away).fates
            return [(one.outcome, one.rule, one.account_id, one.account_username) for one in fates]

        found, new = told(gone, late)
        assert (found[:3], new[:2]) == (("match", "2B2", made["gone"]), ("create", "2E"))
        moodle.php(ADMIN, allowed="0", name="")
        assert told(admin) == [("conflict", "2D", 2, "admin")]
        moodle.php(ADMIN, allowed="1", name="")
        assert told(admin) == [("create", "2A2", None, f"admin_{hash_}")]
        made["admin"] = int(moodle.php(ADMIN, allowed="1", name=f"admin_{hash_}"))
        assert told(admin) == [("match", "2A2", made["admin"], f"admin_{hash_}")]
    finally:
        moodle.php(ADMIN, allowed=str(allowed or 0), name="")
        moodle.php(UNMAKE, ids=list(made.values()))


MANY = """
$found = [];
foreach ($DB->get_records_select('user', 'id > 2', null, 'id', 'id, username, email, firstaccess, deleted', 0, 400) as $u) {
    $found[] = [(int)$u->id, $u->username, $u->email, (int)$u->firstaccess, (bool)$u->deleted];
}
echo json_encode($found);
"""


def test_of_many_people_web_services_say_what_the_site_says(moodle: Any, tmp_path: Path) -> None:
    from moodlectl.mbz import UserRecord

    rows = json.loads(moodle.php(MANY))
    people = []
    for id_, username, email, access, deleted in rows:
        if not deleted:
            people += [
                UserRecord(id_, username, email, firstaccess=access),
                UserRecord(id_ + 500_000, username, email.upper()),
                UserRecord(id_ + 600_000, username, f"x{email}", firstaccess=access),
                UserRecord(id_ + 700_000, username, f"x{email}", firstaccess=3),
                UserRecord(id_, f"{email}.1690000000", "md5", firstaccess=access, deleted=True),
                UserRecord(id_ + 800_000, f"new.{username}", email),
            ]
    assert len(people) > 100
    with site_of(moodle, tmp_path) as by_host, site_of(moodle, tmp_path, shell=False) as by_web:
        info = by_host.info()
        for question in (
            UsersQuestion(info.url, info.identifier_hash),
            UsersQuestion("https://elsewhere.example.org", "0" * 32),
        ):
            site, web = by_host.users_against(people, question), by_web.users_against(people, question)
            assert (site.source, web.source) == ("site", "web service")
            assert site.same_site == web.same_site
            differ = [one for one in zip(people, site.fates, web.fates, strict=True) if one[1] != one[2]]
            assert not differ, (len(differ), len(people), differ[:5])


def test_the_command_tells_what_restoring_people_would_do(moodlectl_on: Any, moodle: Any) -> None:
    path = str(FILES / "course-4.5-tgz-users.mbz")
    done = moodlectl_on("-o", "json", "backup", "users", path, "--against", "live")
    assert done.status == 0, done.stderr
    people = done.json
    assert people["source"] == "site"
    assert people["same_site"] is False
    assert sum(count for name, count in people["totals"].items() if name != "users") == people["totals"]["users"]
    for user in people["users"]:
        assert {"id", "username", "email", "firstname", "lastname", "outcome", "rule", "account"} <= set(user)
    plain = moodlectl_on("backup", "users", path, "--against", "live")
    assert plain.status == 0
    assert "USERNAME" in plain.stdout and "OUTCOME" in plain.stdout


def test_a_partial_restore_is_told_what_it_would_break(moodlectl_on: Any, moodle: Any) -> None:
    path = FILES / "course-5.1-tgz-rich-users.mbz"
    manifest = mbz.inspect(path)
    need = next(one for one in manifest.dependencies if one.cmid is not None and one.item.startswith("cmid:"))
    words = ("restore", str(path), "--new", "idnumber:SCI", "--only", need.item, "--dry-run")
    done = moodlectl_on("-o", "json", *words, "--allow", "newer-backup", "--on-user-conflict", "without-users")
    assert done.status == 0, done.stderr
    assert any(f"({need.item})" in text and f"cmid:{need.cmid}" in text for text in done.json["broken"])
    assert "which is not among the items chosen" in done.stderr
