"""What bad input gets: the exit status of the contract, the cause, the remedy, and nothing changed on the site."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from desks import Desk, Traces, left, opened, settled, traces

TWINS = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
$g = phpunit_util::get_data_generator();
foreach (['Twin', 'Twin'] as $name) {
    $g->create_module('page', ['course' => $arguments['id'], 'name' => $name], ['section' => 1]);
}
"""


@dataclass
class Scene:
    """A desk with a course of its own called ``victim``, and backup files of every bad kind."""

    desk: Desk
    course: int
    work: Path
    words: dict[str, str]
    last: Traces | None = None  # what was there after the case before this one

    def refused(self, status: int, *words: str, site: str = "live") -> dict[str, Any]:
        """The error of a command that must end so: JSON on standard error, no data, and nothing changed on the site."""
        before = self.last or traces(self.desk)
        done = self.desk.run("--site", site, "-o", "json", *[w.format(**self.words) for w in words])
        assert (done.status, done.stdout) == (status, ""), done
        error = done.error
        assert set(error) == {"code", "message", "hint", "details"}
        assert len(error["message"]) > 15
        assert error["code"] != "bug"
        assert "Traceback" not in done.stderr
        for token in self.desk.site.tokens.values():
            assert token not in done.stderr
        changed, self.last = settled(self.desk, before)
        assert changed == ""
        return error

    def site_like(self, name: str, *words: str) -> str:
        """Another way to the same site: ``live`` with some settings changed. Returns its name."""
        text = next(iter((self.desk.run.home / "config").rglob("config.toml"))).read_text()
        if f"[sites.{name}]" not in text:
            url, token = self.desk.site.url, self.desk.run.home / "live.token"
            told = self.desk.run("site", "add", name, "--no-check", "--url", url, "--token-from", f"file:{token}",
                                 "--ssh-config", str(self.desk.site.ssh_config), *words)  # fmt: skip
            assert told.status == 0, told.stderr
        return name

    def over(self, *hops: str) -> list[str]:
        """Options for other hops than the usual ones, to the same Moodle."""
        return [*[w for hop in hops for w in ("--via", hop)], "--moodle-dir", str(self.desk.site.moodle_dir)]

    def php(self, name: str, text: str) -> list[str]:
        """Options for a PHP on the host that is this script; it may start the real one as $PHP."""
        path = self.work / name
        path.write_text(text.replace("$PHP", shutil.which("php") or "php"))
        path.chmod(0o755)
        return [*self.over(*self.desk.site.via), "--php", str(path)]


@pytest.fixture(scope="module")
def scenes(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[..., Scene]]:
    made: dict[str, Scene] = {}
    with opened(moodles, "Bad input") as desk_at:

        def scene_at(name: str) -> Scene:
            if name not in made:
                made[name] = _scene(desk_at(name), desk_at(name).run.home / "host")
            return made[name]

        yield scene_at


@pytest.fixture
def scene(moodle: rig.LiveMoodle, scenes: Callable[[str], Scene]) -> Scene:
    return scenes(moodle.name)


def _scene(desk: Desk, work: Path) -> Scene:
    work.mkdir()
    for path in (desk.run.home.parent, desk.run.home, work):
        path.chmod(0o755)  # the web server's user starts the PHP stand-ins that lie there
    [made] = desk.ok("backup", "create", "RICH101", "--download", str(work), "--remove-remote")
    whole = Path(made["path"])
    course = desk.new(whole, "victim")
    desk.site.php(TWINS, id=course)
    files = {
        "whole": whole,
        "truncated": _written(work / "truncated.mbz", whole.read_bytes()[:-50_000]),
        "json": _written(work / "error.mbz", b'{"error":"Invalid token","errorcode":"invalidtoken"}'),
        "html": _written(work / "login.mbz", b"<!DOCTYPE html>\n<html><title>Log in</title></html>"),
        "empty": _written(work / "empty.mbz", b""),
        "newer": _edited(whole, work / "newer.mbz", rb"<moodle_version>[^<]*", b"<moodle_version>2099010100"),
        "hotpot": _edited(whole, work / "hotpot.mbz", rb"<modulename>wiki<", b"<modulename>hotpot<", ("wiki", "hotpot")),
    }
    words = {name: str(path) for name, path in files.items()}
    return Scene(desk, course, work, {**words, "category": f"id:{desk.category}", "home": str(desk.run.home)})


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _edited(source: Path, target: Path, pattern: bytes, new: bytes, module: tuple[str, str] = ("", "")) -> Path:
    """A copy of a backup whose manifest was changed; ``module`` is what a module was called, and is now."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz", format=tarfile.USTAR_FORMAT) as out:
        for member in old:
            stream = old.extractfile(member)
            content = stream.read() if stream else b""
            if member.name == ".ARCHIVE_INDEX":
                continue
            if member.name == "moodle_backup.xml":
                content, number = re.subn(pattern, new, content)
                assert number
            if module[0] and member.name.endswith(f"/{module[0]}.xml"):
                member.name = member.name.removesuffix(f"{module[0]}.xml") + f"{module[1]}.xml"
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return target


# --- what is not there, or is said wrongly ------------------------------------------------------------------------

SAID_WRONGLY = {
    "an unknown course": (4, "backup create NOPE", "NOPE", "course list"),
    "an unknown course id": (4, "backup create 99999999", "99999999", "course list"),
    "an unknown ID number": (4, "restore {whole} --merge idnumber:nope", "nope", ""),
    "an unknown category": (4, "restore {whole} --new Nowhere", "Nowhere", "category list"),
    "an ambiguous item": (4, "backup create victim --only page:Twin", "Twin", "cmid"),
    "an unknown item": (4, "backup create victim --only forum:Nope", "forum:Nope", ""),
    "an item that is none": (2, "backup create victim --only Twin", "Twin", "section:2"),
    "an unknown item of a file": (4, "restore {whole} --new {category} --only quiz:Nope", "quiz:Nope", ""),
    "a wrong area": (2, "backup download victim@attic", "attic", "automated"),
    "an empty area": (4, "backup download victim@automated", "automated", "backup list"),
    "an unknown file of an area": (4, "restore RICH101@course/nope.mbz --new {category}", "nope.mbz", "backup list"),
    "a file that is not there": (4, "restore nope.mbz --new {category}", "nope.mbz", "COURSE@"),
    "an address of another site": (2, "course show https://x.example/course/view.php?id=2", "x.example", "--site"),
    "an unknown setting": (2, "backup create victim --with userz", "userz", "users"),
    "an unknown setting of a restore": (2, "restore {whole} --new {category} --with userz", "userz", "users"),
    "a setting switched on and off": (2, "backup create victim --with users --without users", "users", ""),
    "a danger nobody knows": (2, "restore {whole} --new {category} --allow fire", "fire", "newer-backup"),
    "two targets": (2, "restore {whole} --new {category} --merge victim", "Where", "--merge"),
    "no target": (2, "restore {whole}", "Where", "--new"),
    "a day that is none": (2, "restore {whole} --new {category} --startdate 2027-02-30", "2027-02-30", "YYYY-MM-DD"),
    "a short name that is taken": (5, "restore {whole} --new {category} --shortname RICH101", "RICH101", ""),
    "an unknown site": (4, "--site nope course list", "nope", "live"),
    "a user who is not there": (4, "backup create victim --as nobody9", "nobody9", ""),
    "an empty course": (2, "backup create ''", "mpty", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID_WRONGLY)
def test_what_is_said_wrongly_is_told_with_its_remedy(scene: Scene, what: str) -> None:
    status, line, says, hint = SAID_WRONGLY[what]
    error = scene.refused(status, *shlex.split(line))
    assert says in error["message"]
    assert hint in json.dumps([error["hint"], error["details"]])


def test_an_ambiguous_item_is_told_with_both_that_it_fits(scene: Scene) -> None:
    error = scene.refused(4, "backup", "create", "victim", "--only", "page:Twin")
    ids = [row[0] for row in scene.desk.site.sql(
        f"SELECT cm.id FROM {{course_modules}} cm JOIN {{page}} p ON p.id = cm.instance JOIN {{modules}} m "
        f"ON m.id = cm.module AND m.name = 'page' WHERE cm.course = {scene.course} AND p.name = 'Twin'")]  # fmt: skip
    assert len(ids) == 2
    assert all(f"cmid:{number}" in json.dumps(error["details"]) for number in ids)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "html", "truncated", "empty"])
@pytest.mark.parametrize("where", ["--new {category}", "--merge victim", "--yes --replace victim"])
def test_a_file_that_is_no_whole_backup_is_refused_before_it_travels(scene: Scene, kind: str, where: str) -> None:
    error = scene.refused(5, "restore", "{" + kind + "}", *where.split())
    assert error["hint"]
    if kind == "json":
        assert "error reply of a site" in error["message"]
        assert "invalidtoken" in error["message"]


def test_a_backup_of_a_newer_moodle_is_refused_until_that_is_allowed(scene: Scene) -> None:
    error = scene.refused(5, "restore", "{newer}", "--new", "{category}")
    assert error["code"] == "newer-backup"
    assert "--allow newer-backup" in error["hint"]


def test_a_missing_plugin_is_named_and_refused_until_that_is_allowed(scene: Scene) -> None:
    error = scene.refused(5, "restore", "{hotpot}", "--yes", "--replace", "victim")
    assert "mod_hotpot" in json.dumps(error)
    assert "--allow missing-plugins" in error["hint"]


# --- tokens, rights, locks ------------------------------------------------------------------------------------------


def test_a_token_of_another_site_is_told_so(scene: Scene) -> None:
    foreign = _written(scene.work / "foreign.token", b"0123456789abcdef0123456789abcdef")
    foreign.chmod(0o600)
    scene.site_like("foreign", "--token-from", f"file:{foreign}", *scene.over(*scene.desk.site.via))
    for words in (["course", "list"], ["backup", "create", "victim"], ["restore", "{whole}", "--merge", "victim"]):
        error = scene.refused(3, *words, site="foreign")
        assert error["code"] == "invalidtoken"
        assert "token" in error["hint"]


def test_a_token_file_that_others_can_read_is_not_used(scene: Scene) -> None:
    token = _written(scene.work / "open.token", b"0123456789abcdef0123456789abcdef")
    token.chmod(0o644)
    words = ("site", "add", "open", "--url", scene.desk.site.url, "--token-from", f"file:{token}")
    added = scene.desk.run("-o", "json", *words)
    assert (added.status, added.stdout) == (3, "")
    assert "chmod 600" in added.error["hint"]


@pytest.mark.parametrize("who", ["student1", "teacher1"])
def test_a_user_who_may_not_is_refused(scene: Scene, who: str) -> None:
    """A student may do neither; a teacher may back the own course up, but restore nothing into a category."""
    if who == "student1":
        assert "backup:backupcourse" in json.dumps(scene.refused(3, "backup", "create", "victim", "--as", who))
        assert scene.refused(3, "restore", "{whole}", "--merge", "victim", "--as", who)["hint"]
    assert scene.refused(3, "restore", "{whole}", "--new", "{category}", "--as", who)["hint"]


@contextlib.contextmanager
def _locked(site: rig.LiveMoodle, name: str) -> Iterator[None]:
    site.php("set_config($arguments['name'], 1, 'backup');", name=name)
    try:
        yield
    finally:
        site.php("unset_config($arguments['name'], 'backup');", name=name)


def test_a_locked_setting_is_refused_with_who_locked_it(scene: Scene) -> None:
    with _locked(scene.desk.site, "backup_general_users_locked"):
        error = scene.refused(5, "backup", "create", "victim", "--without", "users")
        assert (error["code"], "users" in error["message"]) == ("setting_locked", True)
        assert re.search(r"admin|configuration", error["message"] + error["hint"])


# --- the way to the host --------------------------------------------------------------------------------------------


def test_a_host_key_that_changed_is_refused(scene: Scene) -> None:
    site = scene.desk.site
    key = scene.work / "other_key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    text = site.ssh_config.read_text()
    known = Path(re.findall(r"UserKnownHostsFile (\S+)", text)[0])
    host = known.read_text().split()[0]
    other = _written(scene.work / "known_hosts", f"{host} {key.with_suffix('.pub').read_text()}".encode())
    config = _written(scene.work / "ssh_config", text.replace(str(known), str(other)).encode())
    config.chmod(0o600)
    scene.site_like("changed", "--ssh-config", str(config), *scene.over(*site.via))
    error = scene.refused(3, "backup", "create", "victim", site="changed")
    assert error["code"] == "host_key_changed"
    assert "ssh-keygen -R" in error["hint"]


def test_a_host_that_does_not_answer_is_unreachable(scene: Scene) -> None:
    port = rig.free_port()
    text = re.sub(r"Port \d+", f"Port {port}", scene.desk.site.ssh_config.read_text())
    config = _written(scene.work / "ssh_nowhere", text.encode())
    config.chmod(0o600)
    scene.site_like("nowhere", "--ssh-config", str(config), *scene.over(*scene.desk.site.via))
    assert scene.refused(6, "backup", "create", "victim", site="nowhere")["code"] == "connection_refused"


@pytest.fixture
def powerless() -> Iterator[str]:
    """A system user whom sudo gives nothing without a password; needs root, as the whole rig in this shape does."""
    if not rig.AS_ROOT:
        pytest.skip("only root can add a user")
    name = f"mctl{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", name], check=True, capture_output=True)
    yield name
    subprocess.run(["userdel", name], check=True, capture_output=True)


def test_a_sudo_that_wants_a_password_is_told_with_the_rule_it_needs(scene: Scene, powerless: str) -> None:
    hops = [f"ssh:{scene.desk.site.ssh_alias}", f"user:{powerless}", "user:www-data"]
    scene.site_like("powerless", *scene.over(*hops))
    error = scene.refused(3, "backup", "create", "victim", site="powerless")
    assert error["code"] in ("sudo_password", "sudo_denied")
    assert "NOPASSWD" in error["hint"]


def test_a_system_user_who_is_not_there_is_told(scene: Scene) -> None:
    scene.site_like("nouser", *scene.over(f"ssh:{scene.desk.site.ssh_alias}", "user:nobody-of-that-name"))
    assert scene.refused(3, "backup", "create", "victim", site="nouser")["code"] == "system_user_unknown"


@pytest.mark.parametrize("place", ["/nonexistent", "/etc", "."])
def test_a_wrong_moodle_dir_is_told(scene: Scene, place: str) -> None:
    name = "dir" + re.sub(r"\W", "x", place)
    hops = [w for hop in scene.desk.site.via for w in ("--via", hop)]
    scene.site_like(name, *hops, "--moodle-dir", place)
    error = scene.refused(4, "backup", "create", "victim", site=name)
    assert error["code"] == "moodle_dir"
    assert "--moodle-dir" in error["hint"]


def test_a_config_file_that_is_no_moodles_is_told(scene: Scene) -> None:
    folder = scene.work / "other"
    folder.mkdir(exist_ok=True)
    _written(folder / "config.php", b"<?php echo 'I am another program';")
    hops = [w for hop in scene.desk.site.via for w in ("--via", hop)]
    scene.site_like("other-php", *hops, "--moodle-dir", str(folder))
    error = scene.refused(4, "backup", "create", "victim", site="other-php")
    assert "--moodle-dir" in error["hint"]


def test_a_php_that_is_not_there_is_told(scene: Scene) -> None:
    scene.site_like("nophp", *scene.over(*scene.desk.site.via), "--php", "/nonexistent/php")
    error = scene.refused(4, "backup", "create", "victim", site="nophp")
    assert error["code"] == "php_missing"
    assert "--php" in error["hint"]


def test_a_php_that_is_too_old_is_told(scene: Scene) -> None:
    # The real PHP, told that it is 7.1: the loader itself must notice.
    old = scene.php("php71", '#!/bin/bash\nwords=("$@")\nexec $PHP "${words[@]//PHP_VERSION_ID/70133}"\n')
    scene.site_like("oldphp", *old)
    error = scene.refused(3, "backup", "create", "victim", site="oldphp")
    assert error["code"] == "php_too_old"
    assert "--php" in error["hint"]


# --- no room --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(scene: Scene) -> Iterator[str]:
    """A way to the site whose temporary directory for backups is a disk of 8 MB."""
    if not rig.AS_ROOT:
        pytest.skip("only root can mount a small disk")
    site, disk, folder = scene.desk.site, scene.work / "small", scene.work / "small-config"
    disk.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    text = (site.moodle_dir / "config.php").read_text()
    text = text.replace("__DIR__", f"'{site.moodle_dir}'")
    text = text.replace("$CFG->admin =", f"$CFG->backuptempdir = '{disk}';\n$CFG->admin =")
    config = _written(folder / "config.php", text.encode())
    config.chmod(0o640)
    os.chown(config, 0, pwd.getpwnam(site.web_user).pw_gid)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "none", str(disk)], check=True)
    hops = [w for hop in site.via for w in ("--via", hop)]
    yield scene.site_like("small", *hops, "--moodle-dir", str(folder))
    left_there = [path.name for path in disk.iterdir()]
    subprocess.run(["umount", str(disk)], check=True)
    assert left_there in ([], [".htaccess"])  # Moodle puts one into every directory of the kind


def test_no_room_on_the_host_is_refused_before_anything_changes(scene: Scene, small_disk: str) -> None:
    for words in (["backup", "create", "victim"], ["restore", "{whole}", "--new", "{category}"],
                  ["--yes", "restore", "{whole}", "--replace", "victim"]):  # fmt: skip
        error = scene.refused(5, *words, site=small_disk)
        assert error["code"] == "no_space"
        assert error["details"]["free"] < error["details"]["needed"] + (16 << 20)


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(scene: Scene) -> None:
    # A limit for what one file may hold stands for the full disk: writes come up short in the same way.
    full = scene.php("php-full", "#!/bin/bash\ntrap '' XFSZ\nulimit -f 200\nexec $PHP \"$@\"\n")
    scene.site_like("full", *full)
    before = traces(scene.desk)
    for words in (["backup", "create", "victim"], ["restore", scene.words["whole"], "--new", scene.words["category"]]):
        done = scene.desk.run("--site", "full", "-o", "json", *words)
        assert done.status in (1, 5), done
        assert done.stdout == ""
        assert done.error["code"] != "bug"
        assert left(scene.desk, before) == ""


def test_no_room_here_is_refused_before_a_download_begins(scene: Scene, tmp_path: Path) -> None:
    if not rig.AS_ROOT:
        pytest.skip("only root can mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(tmp_path)], check=True)
    try:
        error = scene.refused(5, "backup", "download", "RICH101@automated", "-d", str(tmp_path))
        assert error["code"] == "nospace"
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
