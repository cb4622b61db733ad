"""The host half of a site check: each hop, PHP, Moodle's directory, who PHP runs as, Moodle's own start."""

from __future__ import annotations

import json
import posixpath
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from moodlectl.config import SiteConfig
from moodlectl.errors import MoodlectlError, Unreachable
from moodlectl.site.live import doctor_state
from moodlectl.site.live.findings import Finding, error, failed, ok, skipped, warning

if TYPE_CHECKING:
    from moodlectl.site.runner import Runner

HOP_SECONDS = 60.0
SCRIPTS = ("backup.php", "restore_backup.php", "automated_backups.php")
_SUDO = ("sudo_password", "sudo_denied")


@dataclass(frozen=True)
class HostProbe:
    """What the way to the host and the host itself answered.

    ``hops`` are the hops tried, outermost first, each with the error it ended with; the hops behind a broken
    one were not tried. ``php`` is what ``probe.php`` printed, ``hello`` the runner's greeting, ``state`` the
    answer of ``site_state``; each may be the error instead, or None where it was not tried. For the engine
    ``admin-cli``: Moodle's scripts tried, and whether the person may write to ``exchange_dir``.
    """

    hops: Sequence[tuple[str, MoodlectlError | None]] = ()
    php: Mapping[str, Any] | MoodlectlError | None = None
    hello: Mapping[str, Any] | MoodlectlError | None = None
    state: Mapping[str, Any] | MoodlectlError | None = None
    scripts: Mapping[str, MoodlectlError | None] = field(default_factory=dict)
    exchange: MoodlectlError | bool | None = None


# --- asking -------------------------------------------------------------------------------------------------


def probe(config: SiteConfig, runner: Runner | None) -> HostProbe:
    """Walk the hops and look at the host. Reads only."""
    hops: list[tuple[str, MoodlectlError | None]] = []
    for end in range(1, len(config.via) + 1):
        problem = _tried(config, end, ["true"])
        hops.append((config.via[end - 1], problem))
        if problem is not None:
            break
    broken = hops[-1][1] if hops else None
    if broken is not None and (broken.code not in _SUDO or len(hops) < len(config.via)):
        return HostProbe(hops)
    if config.engine == "admin-cli":
        scripts = {
            name: _tried(config, None, [config.php, _script(config, name), "--help"]) for name in SCRIPTS
        }
        passed = any(each is None for each in scripts.values())
        return HostProbe(_forgiven(hops, passed), scripts=scripts, exchange=_exchange(config))
    php = _php(config)
    if isinstance(php, MoodlectlError) and broken is not None:
        return HostProbe(hops)
    hops = _forgiven(hops, not isinstance(php, MoodlectlError))  # sudo may allow PHP and nothing else
    if isinstance(php, MoodlectlError) or not php.get("readable") or runner is None:
        return HostProbe(hops, php)
    try:
        hello = dict(runner.hello.more)
    except MoodlectlError as problem:
        return HostProbe(hops, php, problem)
    try:
        return HostProbe(hops, php, hello, runner.ask("site_state", {"service": config.service}))
    except MoodlectlError as problem:
        return HostProbe(hops, php, hello, problem)


def _forgiven(
    hops: list[tuple[str, MoodlectlError | None]], passed: bool
) -> list[tuple[str, MoodlectlError | None]]:
    """A hop that lets what is needed pass is good, though it would not let everything pass."""
    return [*hops[:-1], (hops[-1][0], None)] if hops and passed else hops


def _tried(config: SiteConfig, end: int | None, command: list[str]) -> MoodlectlError | None:
    """Nothing where the command ends well behind the first ``end`` hops (None: all), else what went wrong."""
    try:
        status, out, err = _run(config, end, command)
    except MoodlectlError as problem:
        return problem
    return None if status == 0 else _explained(config, end, status, out + err)


def _php(config: SiteConfig) -> Mapping[str, Any] | MoodlectlError:
    source = (resources.files("moodlectl.site.live") / "probe.php").read_text(encoding="utf-8")
    code = source.removeprefix("<?php")
    command = [config.php, "-d", "display_errors=stderr", "-r", code, "--", config.moodle_dir or "."]
    try:
        status, out, err = _run(config, None, command)
    except MoodlectlError as problem:
        return problem
    for line in out.splitlines():
        if line.startswith("moodlectl-probe "):
            found = json.loads(line.partition(" ")[2])
            return dict(found)
    return _explained(config, None, status, out + err)


def _run(config: SiteConfig, end: int | None, command: list[str]) -> tuple[int, str, str]:
    """Run a command behind some hops; its status and what it printed. Raises AccessError, Unreachable."""
    from moodlectl.site.shell import Shell

    shell = Shell(config.via[:end], config.ssh_config)
    try:
        process = shell.start(command)
        try:
            out, err = process.communicate(timeout=HOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unreachable(
                f"{shell}: no answer in {HOP_SECONDS:.0f} seconds.", "Try the hop by hand.", code="timeout"
            ) from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
    finally:
        shell.close()


def _explained(config: SiteConfig, end: int | None, status: int, text: str) -> MoodlectlError:
    from moodlectl.site.trouble import End, explain

    where = " → ".join(config.via[:end]) or "this machine"
    lines = [line for line in text.splitlines() if line.strip()][-10:]
    return explain(End(where, config.php, status, lines))


def _exchange(config: SiteConfig) -> MoodlectlError | bool | None:
    """Whether the user before the last user hop, who carries the files, may write to exchange_dir."""
    if config.exchange_dir is None:
        return None
    end = len(config.via) - (1 if config.via and config.via[-1].startswith("user:") else 0)
    try:
        return _run(config, end, ["test", "-d", config.exchange_dir, "-a", "-w", config.exchange_dir])[0] == 0
    except MoodlectlError as problem:
        return problem


def _script(config: SiteConfig, name: str) -> str:
    root = (config.moodle_dir or ".").rstrip("/")
    root = posixpath.dirname(root) if posixpath.basename(root) == "public" else root
    return f"{root}/admin/cli/{name}"


# --- judging ------------------------------------------------------------------------------------------------


def judge(config: SiteConfig, found: HostProbe, siteurl: str | None = None) -> list[Finding]:
    """The lines about the host half; ``siteurl`` is what the site calls itself over HTTP. Pure."""
    if not config.has_shell:
        hint = (
            f"Backups and restores need one: moodlectl site add {config.name} --replace … --via ssh:HOST "
            "--moodle-dir DIR"
        )
        return [warning("shell", "none: backups can be listed and downloaded, nothing more", hint)]
    lines = _hops(config, found)
    if any(problem is not None for _, problem in found.hops):
        return [*lines, *_unseen("a hop before it is broken")]
    if config.engine == "admin-cli":
        return [*lines, *_scripts(found), *_exchanged(config, found)]
    php = found.php
    if isinstance(php, MoodlectlError) or php is None:
        line = failed("PHP", php) if php else skipped("PHP", "nobody asked")
        return [*lines, line, *_unseen("PHP cannot be run", 1)]
    lines += [_version(php), _directory(config, php)]
    if lines[-1].exit_status:
        return [*lines, *_unseen("Moodle's config.php cannot be read", 2)]
    hello = found.hello
    if isinstance(hello, MoodlectlError) or hello is None:
        start = failed("Moodle", hello) if hello else skipped("Moodle", "no runner")
        return [*lines, start, *_unseen("Moodle does not start there", 3)]
    lines += _greeting(config, hello, siteurl)
    state = found.state
    if isinstance(state, MoodlectlError) or state is None:
        return [*lines, failed("state", state) if state else skipped("state", "nobody asked")]
    return [*lines, *doctor_state.judge(config, state)]


_LATER = (
    "PHP", "config.php", "Moodle", "PHP's user", "upgrade", "maintenance", "site on the host", "free space",
    "cron", "tasks", "automated backups", "permissions",
)  # fmt: skip


def _unseen(why: str, start: int = 0) -> list[Finding]:
    return [skipped(name, why) for name in _LATER[start:]]


def _hops(config: SiteConfig, found: HostProbe) -> list[Finding]:
    if not config.via:
        return [ok("hops", "none: Moodle lies on this machine")]
    tried = [
        failed(f"hop {word}", problem) if problem else ok(f"hop {word}", "lets commands pass")
        for word, problem in found.hops
    ]
    untried = config.via[len(found.hops) :]
    return [*tried, *(skipped(f"hop {word}", "a hop before it is broken") for word in untried)]


def _scripts(found: HostProbe) -> list[Finding]:
    return [
        failed(f"admin/cli/{name}", problem) if problem else ok(f"admin/cli/{name}", "may be run")
        for name, problem in found.scripts.items()
    ]


def _exchanged(config: SiteConfig, found: HostProbe) -> list[Finding]:
    if found.exchange is None:
        return []
    if isinstance(found.exchange, MoodlectlError):
        return [failed("exchange_dir", found.exchange)]
    if not found.exchange:
        hint = "Make a folder there that both you and the web server's user may write to."
        return [error("exchange_dir", f"you may not write to {config.exchange_dir}", hint, status=3)]
    return [ok("exchange_dir", f"{config.exchange_dir} can be written to")]


def _version(php: Mapping[str, Any]) -> Finding:
    mine, least, below = str(php["php"]), php.get("least"), php.get("below")
    of = f"Moodle {str(php['release']).split(' ')[0]}" if php.get("release") else "Moodle"
    hint = "Give the PHP that the web server uses with --php PATH, such as /usr/bin/php8.2."
    if _number(mine) < (7, 2):
        return error("PHP", f"{mine} is older than 7.2, which moodlectl needs", hint, status=3)
    if least and _number(mine) < _number(str(least)):
        return error("PHP", f"{mine} is too old: {of} wants {least} or newer", hint, status=3)
    if below and _number(mine) >= _number(str(below)):
        return warning("PHP", f"{mine} is newer than {of} was made for (below {below})", hint)
    wanted = f", {of} wants {least} or newer" if least else ""
    return ok("PHP", f"{mine}{wanted}")


def _number(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        parts.append(int(digits) if digits else 0)
    return tuple(parts)


def _directory(config: SiteConfig, php: Mapping[str, Any]) -> Finding:
    there = f"{config.moodle_dir} on {config.via[-1] if config.via else 'this machine'}"
    user = php.get("user") or "PHP's user"
    if not php.get("config"):
        why = "has no config.php" if php.get("directory") else f"is not there, or {user} may not look into it"
        hint = "Give --moodle-dir the directory that holds Moodle's config.php, as it is called on that host."
        return error("config.php", f"{there} {why}", hint, status=3)
    if not php.get("readable"):
        hint = "Run PHP as the web server's user: add --via user:www-data (or whatever it is called)."
        return error("config.php", f"{user} may not read {php['config']}", hint, status=3)
    return ok("config.php", str(php["config"]))


def _greeting(config: SiteConfig, hello: Mapping[str, Any], siteurl: str | None) -> list[Finding]:
    acting = hello["acting"]["username"]
    lines = [ok("Moodle", f"{hello['release']} on {hello.get('dbtype')}, acting as {acting}")]
    lines.append(_owner(str(hello["user"]), str(hello.get("dataroot_owner") or "")))
    if hello.get("upgrade_pending"):
        hint = "Finish it: admin/cli/upgrade.php, or the administration page."
        lines.append(error("upgrade", "the site waits for an upgrade of its database", hint))
    else:
        lines.append(ok("upgrade", "none is waiting"))
    lines.append(_maintenance(hello))
    lines.append(_same_site(config, str(hello["wwwroot"]), siteurl))
    return lines


def _owner(user: str, owner: str) -> Finding:
    if owner and owner != user:
        return error(
            "PHP's user",
            f"PHP runs as {user}, but the data directory belongs to {owner}: "
            "what it writes the site cannot change",
            f"Add the hop that makes it {owner}: --via user:{owner}",
            status=3,
        )
    return ok("PHP's user", f"{user}, who owns the data directory")


def _maintenance(hello: Mapping[str, Any]) -> Finding:
    if hello.get("cli_maintenance"):
        hint = "Somebody works on it. It ends with: admin/cli/maintenance.php --disable"
        return error("maintenance", "the site is in command-line maintenance mode", hint, status=6)
    if hello.get("maintenance"):
        hint = "The shell works all the same; web services answer site administrators only."
        return warning("maintenance", "the site is in maintenance mode", hint)
    return ok("maintenance", "off")


def _same_site(config: SiteConfig, wwwroot: str, siteurl: str | None) -> Finding:
    """Token and shell must belong to one site: a backup of the one must not be sought on the other."""
    known = {config.url.rstrip("/").lower(), (siteurl or config.url).rstrip("/").lower()}
    if wwwroot.rstrip("/").lower() not in known:
        return error(
            "site on the host",
            f"the Moodle in {config.moodle_dir} is {wwwroot}, the address is {config.url}: two sites",
            "Give --moodle-dir and --url (with its token) of the same site.",
            status=3,
        )
    return ok("site on the host", f"is {wwwroot}")
