"""The servers a live test needs, each private: PostgreSQL or MariaDB, sshd, and PHP's web server.

Every one of them listens on loopback (or a socket in a private directory) only, keeps its files below one
working directory, and is ended through the process group this module made, never by name.

apt packages: postgresql (for ``db='pgsql'``), mariadb-server (for ``db='mariadb'``), openssh-server, sudo,
php-cli and the PHP modules listed in :data:`APT`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AS_ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name

APT = {
    "php": "php8.2-cli",
    "curl": "php-curl", "gd": "php-gd", "intl": "php-intl", "mbstring": "php-mbstring", "soap": "php-soap",
    "xml": "php-xml", "zip": "php-zip",
    "pgsql": "php-pgsql", "mysqli": "php-mysql",
    "initdb": "postgresql", "mariadbd": "mariadb-server",
    "sshd": "openssh-server", "sudo": "sudo",
}


class RigProblem(Exception):
    """The rig cannot do what was asked; the text says what is missing or what broke."""


@dataclass
class Server:
    """One running server, and the files that tell what it had to say."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """End the process group this server leads, kindly first."""
        for sign in (how, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                break
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            break
        self.process.wait()


def user_or_me(name: str) -> str:
    """The system user a server is run as: the usual one when we are root, ourselves otherwise."""
    return name if AS_ROOT else ME


def as_user(name: str) -> dict[str, Any]:
    """Keyword arguments for subprocess that run the child as that user."""
    if not AS_ROOT:
        return {}
    who = pwd.getpwnam(name)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def run(argv: Sequence[str], *, user: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run one command to its end as a user; raises RigProblem with what it printed when it fails."""
    options: dict[str, Any] = {**as_user(user), **more}
    done = subprocess.run(list(argv), cwd=cwd, text=True, encoding="utf-8", capture_output=True, **options)
    if done.returncode:
        plain = [word for word in argv[1:] if "=" not in word and word != "-d"]  # no settings, no passwords
        words = " ".join([Path(argv[0]).name, *plain])
        said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        raise RigProblem(f"{words} ended with {done.returncode}:\n{said}")
    return done


def start(
    name: str, argv: Sequence[str], *, user: str, cwd: Path, env: dict[str, str] | None = None,
) -> Server:
    """Start a server in a process group of its own, its words going to NAME.log."""
    log = cwd / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(argv), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
            start_new_session=True, **as_user(user),
        )
    return Server(name, process, log)


def until(ready: Callable[[], bool], server: Server, seconds: float = 60) -> None:
    """Ask again and again until the server answers; raises RigProblem with its log when it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.1)
    words = server.log.read_text(errors="replace")[-3000:]
    server.stop()
    raise RigProblem(f"{server.name} did not come up:\n{words}")


def free_port() -> int:
    """A loopback TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections on that loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def private_dir(path: Path, user: str, mode: int = 0o700) -> Path:
    """A new directory that belongs to that user."""
    path.mkdir(parents=True, mode=0o755)
    path.chmod(mode)
    if AS_ROOT:
        who = pwd.getpwnam(user)
        os.chown(path, who.pw_uid, who.pw_gid)
    return path


def program(name: str) -> str:
    """The full path of a program, also outside PATH; raises RigProblem naming its apt package."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/sbin"]
    clusters = Path("/usr/lib/postgresql")
    if clusters.is_dir():
        releases = [p for p in clusters.iterdir() if p.name.isdigit()]
        places += [str(p / "bin") for p in sorted(releases, key=lambda p: int(p.name), reverse=True)]
    found = shutil.which(name, path=":".join(places))
    if not found:
        raise RigProblem(f"{name} is not installed; apt install {APT.get(name, name)}")
    return found


def missing(db: str) -> list[str]:
    """The apt packages that have to be installed before sites can run on that kind of database."""
    lacks = []
    for name in ["php", "sshd", "initdb" if db == "pgsql" else "mariadbd", *(["sudo"] if AS_ROOT else [])]:
        try:
            program(name)
        except RigProblem:
            lacks.append(APT[name])
    if "php8.2-cli" not in lacks:
        has = run([program("php"), "-m"], user=ME, cwd=Path("/")).stdout.split()
        driver = "pgsql" if db == "pgsql" else "mysqli"
        needed = ["curl", "gd", "intl", "mbstring", "soap", "xml", "zip", driver]
        lacks += [APT[module] for module in needed if module not in has]
    return lacks


@dataclass
class Database:
    """One private database server; several sites may each have a database in it."""

    kind: str
    port: int
    user: str = "moodle"
    password: str = field(default="", repr=False)
    server: Server | None = None  # None: somebody else's to stop

    def _client(self, database: str) -> tuple[list[str], dict[str, str]]:
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        if self.kind == "pgsql":
            argv = [program("psql"), "-XAtq", "-F\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                    "-p", str(self.port), "-U", self.user, "-d", database]
            return argv, {**env, "PGPASSWORD": self.password}
        argv = [program("mariadb"), "--no-defaults", "-NB", "--default-character-set=utf8mb4", "-h127.0.0.1",
                f"-P{self.port}", f"-u{self.user}", database]
        return argv, {**env, "MYSQL_PWD": self.password}

    def sql(self, database: str, query: str) -> list[list[str]]:
        """Send statements to one database and return the rows, every value as text."""
        argv, env = self._client(database)
        out = run(argv, user=ME, cwd=Path("/"), env=env, input=query).stdout
        return [line.split("\t") for line in out.splitlines()]

    def create(self, database: str) -> None:
        """Make an empty UTF-8 database."""
        if self.kind == "pgsql":
            self.sql("postgres", f"CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0")
        else:
            self.sql("mysql", f"CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")

    def stop(self) -> None:
        """End the server; SIGINT is PostgreSQL's fast shutdown."""
        if self.server:
            self.server.stop(signal.SIGINT if self.kind == "pgsql" else signal.SIGTERM)


def start_postgresql(work: Path) -> Database:
    """A PostgreSQL cluster of our own, made afresh, that forgets durability for speed."""
    user = user_or_me("postgres")
    home = private_dir(work / "pgsql", user)
    password, port = secrets.token_hex(12), free_port()
    pwfile = home / "password"
    pwfile.write_text(password + "\n")
    shutil.chown(pwfile, user)
    run([program("initdb"), "-D", str(home / "data"), "-U", "moodle", f"--pwfile={pwfile}",
         "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"], user=user, cwd=home)
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(home), "fsync": "off",
                "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "256MB",
                "max_connections": "150", "max_wal_size": "2GB"}
    argv = [program("postgres"), "-D", str(home / "data"), "-p", str(port)]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    server = start("postgres", argv, user=user, cwd=home)
    database = Database("pgsql", port, password=password, server=server)
    until(lambda: _accepts(database, "postgres"), server)
    return database


def start_mariadb(work: Path) -> Database:
    """A MariaDB server of our own, made afresh, utf8mb4 throughout."""
    user = user_or_me("mysql")
    home = private_dir(work / "mariadb", user)
    password, port = secrets.token_hex(12), free_port()
    run([program("mariadb-install-db"), "--no-defaults", f"--datadir={home}/data", "--skip-test-db",
         "--auth-root-authentication-method=normal"], user=user, cwd=home)
    first = home / "first.sql"
    first.write_text(f"CREATE USER IF NOT EXISTS 'moodle'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
                     "GRANT ALL ON *.* TO 'moodle'@'127.0.0.1';\n"
                     "DELETE FROM mysql.global_priv WHERE User='root';\nFLUSH PRIVILEGES;\n")
    first.chmod(0o600)
    shutil.chown(first, user)
    server = start("mariadbd", [
        program("mariadbd"), "--no-defaults", f"--datadir={home}/data", f"--socket={home}/sock",
        f"--pid-file={home}/pid", f"--port={port}", "--bind-address=127.0.0.1", f"--init-file={first}",
        "--skip-name-resolve", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
        "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=256M", "--max-allowed-packet=128M",
        "--skip-log-bin",
    ], user=user, cwd=home)
    database = Database("mariadb", port, password=password, server=server)
    until(lambda: _accepts(database, "mysql"), server)
    return database


def _accepts(database: Database, name: str) -> bool:
    if not answers(database.port):
        return False
    try:
        return database.sql(name, "SELECT 1") == [["1"]]
    except RigProblem:
        return False


@dataclass
class SshHost:
    """This machine seen over a private sshd, and the client configuration that reaches it."""

    alias: str
    config: Path
    bin_dir: Path  # holds an ``ssh`` that uses that configuration, to put first on PATH
    server: Server | None = None  # None: somebody else's to stop

    def stop(self) -> None:
        """End the sshd."""
        if self.server:
            self.server.stop()


def start_sshd(work: Path, alias: str = "moodle-host") -> SshHost:
    """A private sshd with a host key, a client key and a known_hosts of its own."""
    home = private_dir(work / "ssh", ME)
    port = free_port()
    for key in ("host_key", "client_key"):
        run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(home / key)],
            user=ME, cwd=home)
    (home / "authorized_keys").write_text((home / "client_key.pub").read_text())
    host_key = " ".join((home / "host_key.pub").read_text().split()[:2])
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (home / "sshd_config").write_text("\n".join([
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {home}/host_key", f"PidFile {home}/sshd.pid",
        f"AuthorizedKeysFile {home}/authorized_keys", "StrictModes no", "UsePAM no", "PermitRootLogin yes",
        "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PubkeyAuthentication yes",
        "MaxSessions 60", "MaxStartups 100", "PrintMotd no", "UseDNS no", "X11Forwarding no",
        "Subsystem sftp internal-sftp", "",  # what scp speaks
    ]))
    config = home / "config"
    config.write_text("\n".join([
        f"Host {alias}", "  HostName 127.0.0.1", f"  Port {port}", f"  User {ME}",
        f"  IdentityFile {home}/client_key", "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {home}/known_hosts", "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes", "  BatchMode yes", "  LogLevel ERROR", "",
    ]))
    bin_dir = home / "bin"
    bin_dir.mkdir()
    (bin_dir / "ssh").write_text(f'#!/bin/sh\nexec {program("ssh")} -F {config} "$@"\n')
    (bin_dir / "ssh").chmod(0o755)
    if AS_ROOT:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation directory
    server = start("sshd", [program("sshd"), "-D", "-e", "-f", str(home / "sshd_config")], user=ME, cwd=home)
    until(lambda: answers(port), server)
    return SshHost(alias, config, bin_dir, server)
