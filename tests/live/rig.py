"""Real, private Moodle sites for the live tests, made from source directories a person names.

``start_site(Path("…/moodle"))`` makes a hard-link copy of the code (the person's tree is never written to), a
database of its own, a config.php, runs Moodle's own installer, serves it with PHP's web server, opens a
private sshd, and fills the site through Moodle's data generators. Everything listens on loopback and lies
below one temporary directory, removed at the end. Run as root, code and data belong to root and the web
server's user as in real life; otherwise everything is run by the person.

Environment:

``MOODLE_DIRS``         source directories, colon separated; else every one below ``~/moodle``
``MOODLE_DB``           ``pgsql`` (default), ``mariadb``, or both with a comma between
``MOODLE_SIZE``         size of the generated course: ``XS`` (default), ``S``, ``M``, …
``MOODLECTL_LIVE_DIR``  where the working directory is made (default: the system's temporary directory); the
                        web server's user must be able to read it; hard links need the sources' file system
``MOODLECTL_LIVE_SITES``  JSON files that ``up.py --json`` wrote, colon separated: use those running sites and
                        start none, which saves minutes while a test is being written

Needs the apt packages php8.2-cli php-pgsql php-mysql php-curl php-gd php-intl php-mbstring php-soap php-xml
php-zip postgresql mariadb-server openssh-server sudo; what is missing is named. (PHP 8.2 serves Moodle 4.2 to
5.1; an older Moodle needs an older PHP first on PATH.)
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import (
    AS_ROOT,
    ME,
    Database,
    RigProblem,
    Server,
    SshHost,
    free_port,
    missing,
    private_dir,
    program,
    run,
    start,
    start_mariadb,
    start_postgresql,
    start_sshd,
    until,
    user_or_me,
)

SHORTNAME = "moodlectl-test"  # the rig works with no other site
ADMIN_PASSWORD = "Moodlectl-test-1!"
CONTENT = Path(__file__).with_name("content")
PHP = ["-d", "max_input_vars=5000", "-d", "memory_limit=512M", "-d", "upload_max_filesize=2G",
       "-d", "post_max_size=2G", "-d", "max_execution_time=0", "-d", "display_errors=stderr"]
CONFIG = """<?php
unset($CFG);
global $CFG;
$CFG = new stdClass();
$CFG->dbtype = '{dbtype}';
$CFG->dblibrary = 'native';
$CFG->dbhost = '127.0.0.1';
$CFG->dbname = '{dbname}';
$CFG->dbuser = '{dbuser}';
$CFG->dbpass = '{dbpass}';
$CFG->prefix = 'mdl_';
$CFG->dboptions = ['dbport' => {dbport}, 'dbpersist' => 0{dbmore}];
$CFG->wwwroot = '{url}';
$CFG->dataroot = '{dataroot}';
$CFG->localrequestdir = '{requestdir}';
$CFG->admin = 'admin';
$CFG->directorypermissions = 02770;
$CFG->noemailever = true;
require_once(__DIR__ . '/lib/setup.php');
"""


@dataclass
class LiveMoodle:
    """One running Moodle and every way to reach it."""

    name: str  # such as 4.5-pgsql
    release: str  # 4.5, 5.1
    db: str  # pgsql or mariadb
    url: str
    moodle_dir: Path  # where config.php lies
    dataroot: Path
    web_user: str
    dbname: str
    machine: Machine = field(repr=False)
    server: Server | None = field(default=None, repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)  # admin, manager1, teacher1, poor
    content: dict[str, Any] = field(default_factory=dict, repr=False)  # what content/*.php made, ids by name

    @property
    def ssh_config(self) -> Path:
        """The OpenSSH client configuration that reaches the host."""
        return self.machine.ssh.config

    @property
    def ssh_alias(self) -> str:
        """The name the host has in that configuration."""
        return self.machine.ssh.alias

    @property
    def via(self) -> list[str]:
        """The hops to the web server's user, as ``--via`` takes them."""
        return [f"ssh:{self.ssh_alias}", *([f"user:{self.web_user}"] if AS_ROOT else [])]

    def php(self, code: str | Path, **arguments: Any) -> str:
        """Run PHP as the web server's user with Moodle loaded; ``$arguments`` holds the keyword arguments.

        ``code`` is the text of a script without its opening tag, or the path of one. Returns what it printed.
        """
        text = code.read_text(encoding="utf-8") if isinstance(code, Path) else f"<?php\n{code}\n"
        prelude = (
            "<?php define('CLI_SCRIPT', true); "
            f"require '{self.moodle_dir}/config.php'; "
            f"if ($SITE->shortname !== '{SHORTNAME}') {{ fwrite(STDERR, 'not our site'); exit(1); }} "
            "$arguments = json_decode(getenv('RIG_ARGUMENTS'), true); "
            "\\core\\session\\manager::set_user(get_admin()); ?>"
        )
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "RIG_ARGUMENTS": json.dumps(arguments)}
        argv = [program("php"), *PHP]
        try:
            done = run(argv, user=self.web_user, cwd=self.moodle_dir, env=env, input=prelude + text)
        except RigProblem as problem:
            raise RigProblem(f"{self.name}, {code if isinstance(code, Path) else 'php'}: {problem}") from None
        return done.stdout

    def cli(self, script: str, *arguments: str) -> str:
        """Run one of Moodle's own scripts, such as ``admin/cli/cron.php``, as the web server's user."""
        places = [self.moodle_dir / script, self.moodle_dir / "public" / script]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise RigProblem(f"this Moodle has no {script}")
        argv = [program("php"), *PHP, str(path), *arguments]
        return run(argv, user=self.web_user, cwd=self.moodle_dir).stdout

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query on the site's database, every value as text; ``{course}`` is ``mdl_course``."""
        prefixed = re.sub(r"\{(\w+)\}", r"mdl_\1", query)
        return self.machine.database(self.db).sql(self.dbname, prefixed)

    def facts(self) -> dict[str, Any]:
        """Everything somebody needs to work with this site by hand, ready for JSON."""
        database = self.machine.database(self.db)
        return {
            "name": self.name, "release": self.release, "db": self.db, "url": self.url,
            "moodle_dir": str(self.moodle_dir), "dataroot": str(self.dataroot), "web_user": self.web_user,
            "admin": {"username": "admin", "password": ADMIN_PASSWORD}, "tokens": self.tokens,
            "ssh_config": str(self.ssh_config), "ssh_alias": self.ssh_alias,
            "ssh_bin_dir": str(self.machine.ssh.bin_dir), "via": self.via,
            "database": {"port": database.port, "name": self.dbname, "user": database.user,
                         "password": database.password},
            "content": self.content,
        }

    def stop(self) -> None:
        """End the web server, and the machine with it when this is its last site."""
        if self.server:
            self.server.stop()
            self.server = None
        self.machine.left(self)


class Machine:
    """The private host of one or more sites: a working directory, database servers, an sshd."""

    def __init__(self, work: Path | None, ssh: SshHost, databases: dict[str, Database] | None = None) -> None:
        """A host that runs already; ``work`` is None when it belongs to somebody else."""
        self.work = work
        self.ssh = ssh
        self.sites: list[LiveMoodle] = []
        self._databases = databases or {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    def begin(cls) -> Machine:
        """A new host: the working directory is made and the sshd started."""
        work = Path(tempfile.mkdtemp(prefix="mctl-", dir=os.environ.get("MOODLECTL_LIVE_DIR")))
        work.chmod(0o755)
        try:
            return cls(work, start_sshd(work))
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def database(self, kind: str) -> Database:
        """The database server of that kind, started when it is first asked for."""
        starters = {"pgsql": start_postgresql, "mariadb": start_mariadb}
        if kind not in starters:
            raise RigProblem(f"MOODLE_DB knows pgsql and mariadb, not {kind}")
        with self._lock:
            if kind not in self._databases:
                assert self.work is not None, "a host of somebody else's starts no servers"
                self._databases[kind] = starters[kind](self.work)
            return self._databases[kind]

    def new_home(self) -> Path:
        """A new directory for one more site."""
        assert self.work is not None, "a host of somebody else's starts no sites"
        home = self.work / f"site{next(self._numbers)}"
        home.mkdir(mode=0o755)
        return home

    def left(self, site: LiveMoodle) -> None:
        """Forget a stopped site; with the last one everything ends."""
        if site in self.sites:
            self.sites.remove(site)
        if not self.sites:
            self.stop()

    def stop(self) -> None:
        """End every server this machine started and remove its files."""
        for site in self.sites:
            if site.server:
                site.server.stop()
        for database in self._databases.values():
            database.stop()
        self.ssh.stop()
        if self.work:
            shutil.rmtree(self.work, ignore_errors=True)


def source_dirs() -> list[Path]:
    """The Moodle source directories to test with: MOODLE_DIRS, else every one below ~/moodle."""
    named = os.environ.get("MOODLE_DIRS")
    if named:
        found = [Path(word).expanduser().resolve() for word in named.split(":") if word]
    else:
        home = Path("~/moodle").expanduser()
        found = sorted(home.iterdir()) if home.is_dir() else []
    for path in found:
        if named and not version_file(path):
            raise RigProblem(f"{path} (from MOODLE_DIRS) is no Moodle source directory: no version.php")
    return [path for path in found if version_file(path)]


def databases() -> list[str]:
    """The kinds of database to test on: MOODLE_DB, pgsql unless it says otherwise."""
    return [word for word in os.environ.get("MOODLE_DB", "pgsql").replace(",", " ").split() if word]


def version_file(source: Path) -> Path | None:
    """Moodle's version.php below that directory, also when the code lies under public/ (5.1 and later)."""
    places = (source / "public/version.php", source / "version.php")
    return next((path for path in places if path.is_file()), None)


def release_of(source: Path) -> str:
    """The release of a source directory as two numbers, such as 4.5."""
    path = version_file(source)
    found = re.search(r"^\$release\s*=\s*'(\d+\.\d+)", path.read_text(), re.MULTILINE) if path else None
    if not found:
        raise RigProblem(f"{source} holds no version.php of a Moodle")
    return found[1]


def site_names(wanted: list[tuple[Path, str]]) -> list[str]:
    """A name for every site, such as 4.5-pgsql, with the directory's name where two would be the same."""
    plain = [f"{release_of(source)}-{db}" for source, db in wanted]
    return [
        name if plain.count(name) == 1 else f"{name}-{source.name}"
        for name, (source, _) in zip(plain, wanted, strict=True)
    ]


def copy_tree(source: Path, target: Path) -> None:
    """Copy the code by hard links where the file system allows, by bytes where it does not."""
    linked = subprocess.run(["cp", "-al", f"{source}/.", str(target)], capture_output=True)
    if linked.returncode:
        shutil.rmtree(target)
        target.mkdir()
        run(["cp", "-a", f"{source}/.", str(target)], user=ME, cwd=target.parent)
    target.chmod(0o755)


def write_config(site: LiveMoodle) -> None:
    """Put a fresh config.php into the copy; a linked one is taken away first, never written through."""
    database = site.machine.database(site.db)
    path = site.moodle_dir / "config.php"
    path.unlink(missing_ok=True)
    path.write_text(CONFIG.format(
        dbtype=site.db, dbname=site.dbname, dbport=database.port, dbuser=database.user,
        dbpass=database.password,
        dbmore=", 'dbcollation' => 'utf8mb4_unicode_ci'" if site.db == "mariadb" else "",
        url=site.url, dataroot=site.dataroot, requestdir=site.dataroot.with_name("request"),
    ))
    path.chmod(0o640)
    if AS_ROOT:
        os.chown(path, 0, pwd.getpwnam(site.web_user).pw_gid)  # as a careful administrator would have it


def serve(site: LiveMoodle) -> None:
    """Start PHP's web server on the site's port and wait until Moodle answers."""
    public = site.moodle_dir / "public"
    port = site.url.rsplit(":", 1)[1]
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PHP_CLI_SERVER_WORKERS": "4"}
    logs = site.dataroot.parent / "web"
    if not logs.is_dir():  # else it is started again
        private_dir(logs, site.web_user)
    site.server = start("web", [program("php"), *PHP, "-S", f"127.0.0.1:{port}",
                                "-t", str(public if public.is_dir() else site.moodle_dir)],
                        user=site.web_user, cwd=logs, env=env)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{site.url}/webservice/rest/server.php", timeout=60) as reply:
                return bool(reply.status < 500)
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False

    until(ready, site.server, 120)


def fill(site: LiveMoodle, size: str) -> None:
    """Make users, tokens, categories, courses and backups; Moodle's generators do the work."""
    steps: list[tuple[str, dict[str, str]]] = [
        ("services.php", {}), ("courses.php", {"size": size}), ("rich.php", {}),
        ("backups.php", {"mode": "course"}), ("backups.php", {"mode": "automated"}),  # a process for each
    ]
    for script, arguments in steps:
        made = site.php(CONTENT / script, **arguments)
        site.content.update(json.loads(made.rsplit("RIG:", 1)[1]))
        site.tokens.update(site.content.pop("tokens", {}))


def start_site(
    source: Path, *, db: str = "pgsql", size: str = "XS", machine: Machine | None = None,
) -> LiveMoodle:
    """Install, fill and serve one Moodle; takes a minute or two. Raises RigProblem."""
    release = release_of(source)
    lacks = missing(db)
    if lacks:
        raise RigProblem(f"the live tests need more packages: apt install {' '.join(lacks)}")
    if machine is None:
        return start_sites([(source, db)], size=size)[0]
    home = machine.new_home()
    web_user = user_or_me("www-data")
    site = LiveMoodle(
        name=f"{release}-{db}", release=release, db=db, url=f"http://127.0.0.1:{free_port()}",
        moodle_dir=home / "moodle", dataroot=home / "data", web_user=web_user, dbname=home.name,
        machine=machine,
    )
    machine.sites.append(site)
    site.moodle_dir.mkdir(mode=0o755)
    for directory in ("data", "request"):  # Moodle's own request directory is /tmp/requestdir, for all sites
        private_dir(home / directory, web_user)
    copy_tree(source, site.moodle_dir)
    machine.database(db).create(site.dbname)
    write_config(site)
    site.cli("admin/cli/install_database.php", "--agree-license", "--lang=en",
             f"--adminpass={ADMIN_PASSWORD}", "--adminemail=admin@example.invalid",
             "--fullname=Moodlectl test site", f"--shortname={SHORTNAME}")
    serve(site)
    fill(site, size)
    return site


def start_sites(wanted: list[tuple[Path, str]], *, size: str = "XS") -> list[LiveMoodle]:
    """Start several sites at once on one machine, from (source directory, kind of database) pairs."""
    machine = Machine.begin()
    try:
        with ThreadPoolExecutor(max(1, len(wanted))) as pool:
            starting = [
                pool.submit(start_site, source, db=db, size=size, machine=machine) for source, db in wanted
            ]
            sites = [future.result() for future in starting]
    except BaseException:
        machine.stop()
        raise
    for site, name in zip(sites, site_names(wanted), strict=True):
        site.name = name
    return sites


def attach_sites(files: list[Path]) -> list[LiveMoodle]:
    """Sites that ``up.py --json FILE`` keeps running; stopping them here leaves them running."""
    sites = []
    for facts in (facts for file in files for facts in json.loads(file.read_text())):
        where = facts["database"]
        machine = Machine(
            None,
            SshHost(facts["ssh_alias"], Path(facts["ssh_config"]), Path(facts["ssh_bin_dir"])),
            {facts["db"]: Database(facts["db"], where["port"], where["user"], where["password"])},
        )
        site = LiveMoodle(
            name=facts["name"], release=facts["release"], db=facts["db"], url=facts["url"],
            moodle_dir=Path(facts["moodle_dir"]), dataroot=Path(facts["dataroot"]), dbname=where["name"],
            web_user=facts["web_user"], machine=machine, tokens=facts["tokens"], content=facts["content"],
        )
        if site.sql("SELECT shortname FROM {course} WHERE id = 1") != [[SHORTNAME]]:
            raise RigProblem(f"{site.url} is not one of the rig's own sites")
        sites.append(site)
    return sites
