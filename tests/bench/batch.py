"""A migration of eight courses beside the loop an admin would write: ``batch.py FILE.json`` (of ``tests/live/up.py``).

Courses of Moodle's own generator, sizes M and S mixed, are made on the first site of the file, and moved to the last
one twice: by ``moodlectl migrate``, and one after the other by ``admin/cli/backup.php``, ``scp`` and
``admin/cli/restore_backup.php`` over the same ssh. Prints both times and their ratio.

    python tests/bench/batch.py FILE.json [--sizes M,S,M,S,M,S,M,S] [--jobs N] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

import rig  # noqa: E402
from conftest import Command  # noqa: E402

MAKE = """
require_once($CFG->dirroot . '/course/lib.php');
foreach ($DB->get_records_select('course', $DB->sql_like('shortname', '?'), ['BATCH%']) as $old) {
    $old->deletesource = 'restore';
    delete_course($old, false);
}
echo core_course_category::create(['name' => 'Bench ' . random_string(6)])->id;
"""
MOVE = """
$DB->set_field('course', 'category', $arguments['category'], ['shortname' => $arguments['shortname']]);
fix_course_sortorder();
cache_helper::purge_by_event('changesincourse');
echo $DB->get_field('course', 'id', ['shortname' => $arguments['shortname']]);
"""


def make_courses(site: rig.LiveMoodle, sizes: list[str]) -> tuple[int, dict[str, int]]:
    """A category with a generated course of each size; its id, and the courses' ids by short name."""
    category = int(site.php(MAKE))
    made = {}
    for number, size in enumerate(sizes):
        name = f"BATCH{os.getpid()}_{number}"
        site.cli("admin/tool/generator/cli/maketestcourse.php", f"--shortname={name}", f"--size={size}", "--bypasscheck")
        made[name] = int(site.php(MOVE, category=category, shortname=name))
    return category, made


def loop(old: rig.LiveMoodle, new: rig.LiveMoodle, courses: dict[str, int], category: int) -> float:
    """The admin's loop, over ssh, from this machine; how long it took, in seconds."""

    def ssh(site: rig.LiveMoodle, *words: str) -> str:
        as_web = ["sudo", "-n", "-u", site.web_user, "--"] if rig.AS_ROOT else []
        argv = ["ssh", "-F", str(site.ssh_config), site.ssh_alias, shlex.join([*as_web, *words])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment(site))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def script(site: rig.LiveMoodle, name: str) -> list[str]:
        places = [site.moodle_dir / name, site.moodle_dir / "public" / name]
        return ["php", *rig.PHP, str(next(place for place in places if place.is_file()))]

    with tempfile.TemporaryDirectory() as here:
        far = ssh(old, "mktemp", "-d").strip(), ssh(new, "mktemp", "-d").strip()
        for site, folder in zip((old, new), far, strict=True):
            ssh(site, "chmod", "777", folder)
        began = time.perf_counter()
        for course in courses.values():
            ssh(old, *script(old, "admin/cli/backup.php"), f"--courseid={course}", f"--destination={far[0]}")
            name = ssh(old, "ls", "-t", far[0]).split()[0]
            ssh(old, "chmod", "644", f"{far[0]}/{name}")
            for words in (
                ["-F", str(old.ssh_config), f"{old.ssh_alias}:{far[0]}/{name}", here],
                ["-F", str(new.ssh_config), f"{here}/{name}", f"{new.ssh_alias}:{far[1]}/{name}"],
            ):
                subprocess.run(["scp", "-q", *words], check=True, env=environment(old))
            ssh(new, "chmod", "644", f"{far[1]}/{name}") if not rig.AS_ROOT else None
            told = ssh(
                new, *script(new, "admin/cli/restore_backup.php"), f"--file={far[1]}/{name}", f"--categoryid={category}"
            )
            assert re.search(r"[Cc]ourse", told), told
        taken = time.perf_counter() - began
        for site, folder in zip((old, new), far, strict=True):
            ssh(site, "rm", "-rf", folder)
    return taken


def environment(site: rig.LiveMoodle) -> dict[str, str]:
    return {**os.environ, "PATH": f"{site.machine.ssh.bin_dir}:{os.environ['PATH']}"}


def migrate(old: rig.LiveMoodle, new: rig.LiveMoodle, categories: tuple[int, int], asked: SimpleNamespace) -> float:
    """The same by one command; how long it took, in seconds."""
    with tempfile.TemporaryDirectory(prefix="mc-", dir="/tmp") as home:
        command = Command(Path(home))
        for name, site in (("old", old), ("new", new)):
            command.add_site(name, site)
            told = command("site", "add", name, "--replace", "--ssh-config", str(site.ssh_config))
            assert told.status == 0, told.stderr
        with (Path(home) / "config" / "moodlectl" / "config.toml").open("a") as file:
            file.writelines(f"\n[sites.{name}.limits]\nload = 1000\n" for name in ("old", "new"))
        plan = Path(home) / "plan.toml"
        plan.write_text(
            f'[defaults]\ncategory = "id:{categories[1]}"\nmap = ["admin=admin"]\n\n[[course]]\n'
            f'select = {{category = "id:{categories[0]}"}}\nshortname = "{{source.shortname}}-{time.time_ns()}"\n'
        )
        began = time.perf_counter()
        done = command("-o", "json", "migrate", str(plan), "--from", "old", "--to", "new", "--jobs", str(asked.jobs))
        taken = time.perf_counter() - began
        assert done.status == 0, done.stderr + done.stdout
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--sizes", default="M,S,M,S,M,S,M,S")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    asked = SimpleNamespace(**vars(parser.parse_args()))
    sites = rig.attach_sites([asked.file])
    old, new = sites[0], sites[-1]
    category, courses = make_courses(old, asked.sizes.split(","))
    target = int(new.php(MAKE))
    for _ in range(asked.rounds):
        ours = migrate(old, new, (category, target), asked)
        theirs = loop(old, new, courses, target)
        print(
            f"{len(courses)} courses ({asked.sizes}) from {old.name} to {new.name}: moodlectl migrate {ours:.1f} s, "
            f"backup.php + scp + restore_backup.php {theirs:.1f} s, ratio {ours / theirs:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
