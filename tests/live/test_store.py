"""Real courses in a store: brought there without being packed, given back as files that Moodle itself restores."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig
from conftest import Command
from desks import CLEAR, HOLDS, MAKE_CATEGORY


@dataclass
class Keeper:
    """The command, told about a site as ``live``, a store of its own, and a category there."""

    run: Command
    site: rig.LiveMoodle
    folder: Path
    category: int
    name: str = ""

    @property
    def place(self) -> str:
        return str(self.folder / "store")

    def ok(self, *words: str, site: str = "live") -> Any:
        done = self.run("-y", "--site", site, "-o", "json", *words)
        assert done.status == 0, done.stderr
        return done.json

    def night(self) -> Any:
        [made] = self.ok("backup", "create", self.name, "--download", f"store:{self.place}")
        return made

    def files(self, course: int) -> list[str]:
        return json.loads(self.site.php(HOLDS, id=course))["files"]

    def course(self, shortname: str) -> int:
        return int(self.ok("course", "show", shortname)["id"])


@pytest.fixture
def keeper(moodlectl: Command, moodle: rig.LiveMoodle, tmp_path: Path) -> Iterator[Keeper]:
    moodlectl.add_site("live", moodle)
    category = int(moodle.php(MAKE_CATEGORY, name=f"Store {tmp_path.name} {id(tmp_path)}"))
    made = Keeper(moodlectl, moodle, tmp_path, category, f"KEPT-{category}")
    try:
        # A course of our own: others work in the one that all tests share.
        made.ok("copy", "RICH101", "--new", f"id:{category}", "--shortname", made.name, "--with", "users")
        yield made
    finally:
        moodle.php(CLEAR, id=category)


def test_a_course_is_kept_night_after_night_and_costs_little_more_than_once(keeper: Keeper) -> None:
    before = keeper.ok("backup", "list", keeper.name, "--area", "course")
    first, second = keeper.night(), keeper.night()
    assert keeper.ok("backup", "list", keeper.name, "--area", "course") == before
    assert first["size"] < first["entry"]["size"] / 2  # its files were never packed on the site
    assert second["entry"]["came"] == second["entry"]["xml"]
    checked = keeper.ok("store", "verify", "--store", keeper.place)
    assert (checked["ok"], checked["backups"]) == (True, 2)
    assert keeper.ok("store", "show", "--store", keeper.place)["used"] < first["entry"]["size"] * 1.5


def test_what_is_exported_is_whole_and_moodles_own_script_restores_it(keeper: Keeper) -> None:
    made = keeper.night()
    target = keeper.folder / "whole.mbz"
    [out] = keeper.ok("store", "export", made["entry"]["id"], "--file", str(target), "--store", keeper.place)
    assert out["verified"]
    [verified] = keeper.ok("backup", "verify", str(target))
    assert (verified["ok"], verified["problems"]) == (True, [])
    compared = keeper.ok("course", "compare", keeper.name, str(target))
    assert [one for one in compared["differences"] if not one["known"]] == []
    copy = Path("/tmp") / f"store-{keeper.category}.mbz"  # where the web server's user may read it
    copy.write_bytes(target.read_bytes())
    copy.chmod(0o644)
    try:
        keeper.site.cli("admin/cli/restore_backup.php", f"--file={copy}", f"--categoryid={keeper.category}")
    finally:
        copy.unlink()
    courses = keeper.ok("course", "list", "--category", f"id:{keeper.category}")
    [course] = [one for one in courses if one["shortname"] != keeper.name]
    assert keeper.files(course["id"]) == keeper.files(keeper.course(keeper.name))


def test_a_course_comes_back_from_the_store_with_every_file(keeper: Keeper) -> None:
    made = keeper.night()
    word, place = f"store:{made['entry']['id'][:12]}", ("--store", keeper.place)
    new = ("--new", f"id:{keeper.category}", "--shortname", f"STORE-{keeper.category}")
    keeper.ok("restore", word, *place, *new, "--dry-run")
    done = keeper.ok("restore", word, *place, *new)
    assert done["verified"]["ok"], done["verified"]
    assert keeper.files(done["course"]["id"]) == keeper.files(keeper.course(keeper.name))


def test_a_course_goes_from_the_store_to_another_site(
    keeper: Keeper, moodles: dict[str, rig.LiveMoodle], moodle: rig.LiveMoodle
) -> None:
    other = list(moodles.values())[-1]
    if other is moodle:
        pytest.skip("needs another site of the same release or a newer one")
    keeper.run.add_site("other", other)
    made = keeper.night()
    category = int(other.php(MAKE_CATEGORY, name=f"From the store {id(keeper)}"))
    try:
        done = keeper.ok(
            "restore", f"store:{made['entry']['id']}", "--store", keeper.place, "--new", f"id:{category}",
            "--shortname", f"STORE-{category}", "--map", "admin=admin", site="other",
        )  # fmt: skip
        assert done["verified"]["ok"], done["verified"]
        ours = json.loads(other.php(HOLDS, id=done["course"]["id"]))["files"]
        assert sorted(one.split(" ")[1] for one in ours) == sorted(
            one.split(" ")[1] for one in keeper.files(keeper.course(keeper.name))
        )
    finally:
        other.php(CLEAR, id=category)


def test_a_backup_that_lies_on_the_site_comes_in_without_being_brought_whole(keeper: Keeper) -> None:
    [made] = keeper.ok("backup", "create", keeper.name)
    word = f"{keeper.name}@{made['area']}/{made['filename']}"
    try:
        [added] = keeper.ok("store", "add", word, "--store", keeper.place)
        assert (added["id"], added["size"], added["new"]) == (made["sha1"], made["size"], True)
        out, whole = keeper.folder / "out.mbz", keeper.folder / "whole"
        keeper.ok("store", "export", added["id"], "--file", str(out), "--store", keeper.place)
        [down] = keeper.ok("backup", "download", word, "-d", str(whole))
        one, two = (keeper.ok("backup", "inspect", str(path)) for path in (out, Path(down["path"])))
        assert one["files"] == two["files"]
        assert one["sections"] == two["sections"]
        assert not keeper.ok("store", "add", down["path"], "--store", keeper.place)[0]["new"]
    finally:
        keeper.ok("backup", "delete", word)


@pytest.mark.parametrize("after", [0.6, 1.5, 2.5])
def test_killed_on_its_way_into_the_store_it_is_resumed_and_leaves_nothing(keeper: Keeper, after: float) -> None:
    before = keeper.ok("backup", "list", keeper.name, "--area", "course")
    first = keeper.night()
    words = ["--site", "live", "-o", "json", "backup", "create", keeper.name, "--download", f"store:{keeper.place}"]
    process = keeper.run.popen(*words)
    time.sleep(after)
    process.kill()
    process.communicate()
    [job, *_] = keeper.ok("job", "list")
    if job["state"] == "unknown":
        keeper.run("-y", "--site", "live", "job", "resume", str(job["id"]))
    assert keeper.ok("store", "verify", "--store", keeper.place)["ok"]
    kept = {one["id"] for one in keeper.ok("store", "list", "--store", keeper.place)}
    assert first["entry"]["id"] in kept
    keeper.night()
    assert keeper.ok("store", "verify", "--store", keeper.place)["ok"]
    assert keeper.ok("backup", "list", keeper.name, "--area", "course") == before
