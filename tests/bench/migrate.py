"""A platform's move, three ways: ``migrate.py SRC_SITE DST_SITE --sites FILE.json`` (of ``tests/live/up.py``).

Eight courses, of which six are yearly copies: two of Moodle's own generator (sizes M and S), and six copies of the first
without people. They are moved (c) by ``moodlectl migrate``, (b) by ``moodlectl migrate --whole-backups``, (a) one after
the other by ``admin/cli/backup.php``, ``scp`` and ``admin/cli/restore_backup.php``. Then two more copies are moved
the first and the last way, and one course is rolled over on its own site by ``moodlectl rollover`` and by the scripts.
Prints bytes, seconds and ratios; with ``--mbit`` everything goes through a link of that speed.

    python tests/bench/migrate.py 4.5-pgsql 5.1-pgsql --sites FILE.json [--sizes M,S] [--copies 6] [--jobs 4] [--mbit 50]
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

import rig  # noqa: E402
from conftest import Command  # noqa: E402

LINK = Path(__file__).with_name("link.py")
CATEGORY = "echo core_course_category::create(['name' => 'Moved ' . random_string(8)])->id;"
MOVE = """
$DB->set_field('course', 'category', $arguments['category'], ['shortname' => $arguments['shortname']]);
fix_course_sortorder();
cache_helper::purge_by_event('changesincourse');
echo $DB->get_field('course', 'id', ['shortname' => $arguments['shortname']]);
"""
# With their contents, out of the trash too: the next way starts with a target that has none of them.
CLEAR = """
require_once($CFG->dirroot . '/course/lib.php');
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
fulldelete($CFG->dataroot . '/trashdir');
"""


@dataclass
class Sum:
    """What one way took: bytes that travelled, and seconds."""

    bytes: int
    seconds: float

    def beside(self, other: Sum) -> str:
        """The two ratios."""
        return f"bytes {self.bytes / other.bytes:.4f}, time {self.seconds / other.seconds:.2f}"


@dataclass
class Bench:
    """Two sites, a command that knows them as ``old`` and ``new``, and how everything reaches them."""

    old: rig.LiveMoodle
    new: rig.LiveMoodle
    command: Command
    folder: Path
    jobs: int

    def moodlectl(self, *words: str) -> Any:
        done = self.command("-o", "json", "-y", *words)
        assert done.status == 0, done.stderr[-4000:]
        return done.json

    # --- the courses ----------------------------------------------------------------------------------------------

    def generated(self, size: str, category: int) -> str:
        name = f"MOVED{os.getpid()}_{size}"
        self.old.cli("admin/tool/generator/cli/maketestcourse.php", f"--shortname={name}", f"--size={size}", "--bypasscheck")
        self.old.php(MOVE, category=category, shortname=name)
        return name

    def copied(self, course: str, year: int, category: int) -> str:
        name = f"{course}_{year}"
        self.moodlectl("--site", "old", "copy", course, "--new", f"id:{category}", "--shortname", name)
        return name

    # --- the ways -------------------------------------------------------------------------------------------------

    def migrated(self, courses: list[str], category: int, *words: str) -> Sum:
        plan = self.folder / f"plan{time.time_ns()}.toml"
        rows = (f'[[course]]\ntemplatecourse = "{name}"\nshortname = "{name}"\n' for name in courses)
        plan.write_text(f'[defaults]\ncategory = "id:{category}"\nmap = ["admin=admin"]\n' + "".join(rows))
        began = time.perf_counter()
        done = self.moodlectl("migrate", str(plan), "--from", "old", "--to", "new", "--jobs", str(self.jobs), *words)
        taken = time.perf_counter() - began
        assert all(item["state"] == "done" for item in done["items"]), done['totals']
        return Sum(sum(int(item["facts"]["bytes"]) for item in done["items"]), taken)

    def looped(self, courses: list[str], category: int) -> Sum:
        far = self.ssh(self.old, "mktemp", "-d").strip(), self.ssh(self.new, "mktemp", "-d").strip()
        for site, folder in zip((self.old, self.new), far, strict=True):
            self.ssh(site, "chmod", "777", folder)
        size, began = 0, time.perf_counter()
        for course in courses:
            self.ssh(self.old, *script(self.old, "backup.php"), f"--courseshortname={course}", f"--destination={far[0]}")
            name = self.ssh(self.old, "ls", "-t", far[0]).split()[0]
            self.ssh(self.old, "chmod", "644", f"{far[0]}/{name}")
            here = self.folder / name
            self.scp(f"{self.old.ssh_alias}:{far[0]}/{name}", str(here), self.old)
            self.scp(str(here), f"{self.new.ssh_alias}:{far[1]}/{name}", self.new)
            told = self.restored(self.new, f"{far[1]}/{name}", category)
            assert re.search(r"[Cc]ourse", told), told
            size += here.stat().st_size
            here.unlink()
        taken = time.perf_counter() - began
        for site, folder in zip((self.old, self.new), far, strict=True):
            self.ssh(site, "rm", "-rf", folder)
        return Sum(size, taken)

    def rolled(self, course: str, category: int) -> tuple[Sum, int]:
        """One course into a new year on its own site; and the bytes that the file pool has grown by."""
        plan = self.folder / "year.toml"
        plan.write_text(
            f'[[course]]\ntemplatecourse = "{course}"\nshortname = "{course}-next"\ncategory = "id:{category}"\n'
        )
        before, began = pool_size(self.old), time.perf_counter()
        done = self.moodlectl("--site", "old", "rollover", str(plan))
        taken = time.perf_counter() - began
        return Sum(int(done["items"][0]["facts"]["bytes"]), taken), pool_size(self.old) - before

    def scripted(self, course: str, category: int) -> Sum:
        """The same by the two scripts."""
        far = self.ssh(self.old, "mktemp", "-d").strip()
        self.ssh(self.old, "chmod", "777", far)
        began = time.perf_counter()
        self.ssh(self.old, *script(self.old, "backup.php"), f"--courseshortname={course}", f"--destination={far}")
        name = self.ssh(self.old, "ls", "-t", far).split()[0]
        self.restored(self.old, f"{far}/{name}", category)
        taken = time.perf_counter() - began
        size = int(self.ssh(self.old, "stat", "-c", "%s", f"{far}/{name}"))
        self.ssh(self.old, "rm", "-rf", far)
        return Sum(size, taken)

    def restored(self, site: rig.LiveMoodle, path: str, category: int) -> str:
        return self.ssh(site, *script(site, "restore_backup.php"), f"--file={path}", f"--categoryid={category}")

    def ssh(self, site: rig.LiveMoodle, *words: str) -> str:
        as_web = ["sudo", "-n", "-u", site.web_user, "--"] if rig.AS_ROOT else []
        argv = ["ssh", "-F", str(site.ssh_config), site.ssh_alias, shlex.join([*as_web, *words])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment(site))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def scp(self, source: str, target: str, site: rig.LiveMoodle) -> None:
        subprocess.run(["scp", "-q", "-F", str(site.ssh_config), source, target], check=True, env=environment(site))


def script(site: rig.LiveMoodle, name: str) -> list[str]:
    places = [site.moodle_dir / "admin/cli" / name, site.moodle_dir / "public/admin/cli" / name]
    return ["php", *rig.PHP, str(next(place for place in places if place.is_file()))]


def environment(site: rig.LiveMoodle) -> dict[str, str]:
    return {**os.environ, "PATH": f"{site.machine.ssh.bin_dir}:{os.environ['PATH']}"}


def pool_size(site: rig.LiveMoodle) -> int:
    return sum(path.stat().st_size for path in (site.dataroot / "filedir").rglob("*") if path.is_file())


def slowed(site: rig.LiveMoodle, megabits: float, folder: Path) -> rig.LiveMoodle:
    """The same site behind a slow link; web requests would go round it, so there are none."""
    config = folder / f"ssh-{site.name}"
    text = site.ssh_config.read_text()
    found = {key: re.search(rf"(?mi)^\s*{key}\s+(\S+)", text) for key in ("HostName", "Port")}
    host, port = (one.group(1) if one else "127.0.0.1" for one in found.values())
    proxy = f"ProxyCommand {sys.executable} {LINK} {host} {port} {megabits:g}"
    config.write_text(f"Host *\n    {proxy}\n{text}")
    behind = copy.copy(site.machine)
    behind.ssh = replace(site.machine.ssh, config=config, server=None)
    return replace(site, machine=behind)


def known(command: Command, name: str, site: rig.LiveMoodle, *, web: bool) -> None:
    """Have the command know the site; without its web services where everything is to go over ssh."""
    command.add_site(name, site)
    assert command("site", "add", name, "--replace", "--ssh-config", str(site.ssh_config)).status == 0
    path = next(command.home.rglob("config.toml"))
    if not web:
        path.write_text(re.sub(r"(?m)^token = .*\n", "", path.read_text()))
    with path.open("a") as file:
        file.write(f"\n[sites.{name}.limits]\nload = 1000\n")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("source")
    words.add_argument("target")
    words.add_argument("--sites", type=Path, nargs="+", required=True)
    words.add_argument("--sizes", default="M,S")
    words.add_argument("--copies", type=int, default=6)
    words.add_argument("--jobs", type=int, default=4)
    words.add_argument("--mbit", type=float, default=0)
    words.add_argument("--without-b", action="store_true", help="leave out way (b)")
    asked = words.parse_args()
    sites = {site.name: site for site in rig.attach_sites(asked.sites)}
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as home:
        folder = Path(home)
        old, new = sites[asked.source], sites[asked.target]
        if asked.mbit:
            old, new = (slowed(site, asked.mbit, folder) for site in (old, new))
        command = Command(folder)
        for name, site in (("old", old), ("new", new)):
            known(command, name, site, web=not asked.mbit)
        bench = Bench(old, new, command, folder, asked.jobs)
        source = int(old.php(CATEGORY))
        made = []
        try:
            run(bench, asked, source, made)
        finally:
            old.php(CLEAR, id=source)
            for category in made:
                new.php(CLEAR, id=category)


def run(bench: Bench, asked: argparse.Namespace, source: int, made: list[int]) -> None:
    """Make the courses, move them each way, and print what it took."""

    def place() -> int:
        made.append(int(bench.new.php(CATEGORY)))
        return made[-1]

    def cleared() -> None:
        bench.new.php(CLEAR, id=made.pop())

    bases = [bench.generated(size, source) for size in asked.sizes.split(",")]
    courses = [*bases, *(bench.copied(bases[0], n, source) for n in range(asked.copies))]
    link = f", {asked.mbit:g} Mbit/s" if asked.mbit else ""
    print(
        f"{len(courses)} courses ({asked.sizes}, {asked.copies} copies of the first), "
        f"{asked.source} -> {asked.target}{link}",
        flush=True,
    )
    c = bench.migrated(courses, place())
    tell("(c) moodlectl migrate", c)
    later = [bench.copied(bases[0], n, source) for n in (98, 99)]
    again = bench.migrated(later, made[-1])
    tell("    two more copies", again)
    cleared()
    if not asked.without_b:
        b = bench.migrated(courses, place(), "--whole-backups")
        tell("(b) --whole-backups", b)
        cleared()
    a = bench.looped(courses, place())
    tell("(a) backup.php, scp, restore_backup.php", a)
    shell = bench.looped(later, made[-1])
    tell("    two more copies", shell)
    print(f"(c) beside (a): {c.beside(a)}")
    if not asked.without_b:
        print(f"(c) beside (b): {c.beside(b)}")
    print(f"two more copies, (c) beside (a): {again.beside(shell)}")
    rolled, grown = bench.rolled(bases[0], source)
    scripts = bench.scripted(bases[0], source)
    print(
        f"rollover of {bases[0]}: {rolled.seconds:.1f} s, scripts {scripts.seconds:.1f} s, ratio "
        f"{rolled.seconds / scripts.seconds:.2f}; the file pool grew by {grown} bytes"
    )


def tell(way: str, took: Sum) -> None:
    print(f"{way:42} {took.bytes / 1e6:9.2f} MB {took.seconds:8.1f} s", flush=True)


if __name__ == "__main__":
    main()
