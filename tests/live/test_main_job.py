"""The main job with the installed command: back up, find, download, inspect, restore; counted by the site itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from conftest import Outcome
from desks import Desk, opened


@pytest.fixture(scope="module")
def desks(moodles: dict[str, rig.LiveMoodle]) -> Iterator[Callable[[str], Desk]]:
    with opened(moodles, "Main job") as desk_at:
        yield desk_at


@pytest.fixture
def desk(moodle: rig.LiveMoodle, desks: Callable[[str], Desk]) -> Desk:
    return desks(moodle.name)


@pytest.fixture(scope="module")
def files(desks: Callable[[str], Desk]) -> Callable[[Desk], Path]:
    """A fresh, whole backup of the rich course, made and brought down by the command; nothing of it stays there."""
    made: dict[str, Path] = {}

    def file_of(desk: Desk) -> Path:
        if desk.site.name not in made:
            [done] = desk.ok("backup", "create", "RICH101", "--download", str(desk.run.home), "--remove-remote")
            made[desk.site.name] = Path(done["path"])
            assert desk.stored(done["filename"]) == []
        return made[desk.site.name]

    return file_of


@pytest.fixture
def file(desk: Desk, files: Callable[[Desk], Path]) -> Path:
    return files(desk)


RUN = secrets.token_hex(3)


def named(word: str) -> str:
    """A short name of this run's own: another run may be at work on the same site, or have been ended there."""
    return f"{word}-{RUN}"


def without(held: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name not in names}


# --- the whole road -----------------------------------------------------------------------------------------------


def test_a_default_backup_restored_as_a_new_course_brings_everything(desk: Desk, file: Path) -> None:
    assert desk.holds(desk.new(file, named("whole"))) == desk.holds(desk.rich)


def test_the_main_job_with_chosen_settings_and_items(desk: Desk, file: Path) -> None:
    own = desk.new(file, named("own"))
    all_of_it = desk.holds(own)
    assert all_of_it["attempts"] and all_of_it["posts"] and all_of_it["grades"] and all_of_it["submissions"]
    [made] = desk.ok("backup", "create", named("own"), "--without", "comments,badges", "--skip", "mod:data",
                     "--skip", "section:Excursion", "--no-userdata", "mod:quiz")  # fmt: skip
    assert (made["settings"]["comments"], made["settings"]["users"]) == (False, True)
    listed = desk.ok("backup", "list", named("own"))
    assert [(f["area"], f["filename"], f["size"]) for f in listed] == [("course", made["filename"], made["size"])]
    [got] = desk.ok("backup", "download", f"{named('own')}@course/{made['filename']}", "-d", str(desk.run.home / "down"))
    [stored] = desk.stored(made["filename"])
    path = Path(got["path"])
    assert hashlib.sha1(path.read_bytes()).hexdigest() == stored["contenthash"] == got["sha1"] == made["sha1"]
    assert path.stat().st_size == int(stored["filesize"])

    seen = desk.ok("backup", "inspect", str(path))
    assert (seen["type"], seen["course"]["shortname"]) == ("course", named("own"))
    assert (seen["settings"]["comments"], seen["settings"]["badges"]) == (False, False)
    activities = {a["module"]: a for section in seen["sections"] for a in section["activities"] if a["included"]}
    assert "data" not in activities
    assert "subsection" not in activities
    assert (activities["quiz"]["userinfo"], activities["forum"]["userinfo"]) == (False, True)
    assert desk.ok("backup", "verify", str(path))[0]["ok"]

    part = desk.new(path, named("part"), "--fullname", "Ein Teil & mehr 🌿", "--idnumber", f"part-{os.getpid()}",
                    "--startdate", "2027-02-15", "--hidden")  # fmt: skip
    wanted = dict(all_of_it["activities"])
    del wanted["data"], wanted["subsection"]
    wanted["page"] -= 1  # the one inside the subsection
    held = desk.holds(part)
    assert held["activities"] == wanted
    assert (held["attempts"], held["posts"]) == (0, all_of_it["posts"])
    assert (held["users"], held["groups"]) == (all_of_it["users"], all_of_it["groups"])
    assert held["submissions"] == all_of_it["submissions"]
    assert held["sections"] == all_of_it["sections"] - 1  # the subsection's; Moodle keeps the numbers of the others
    assert not [f for f in held["files"] if f.startswith("mod_data/")]
    assert [f for f in held["files"] if f.startswith("assignsubmission_file/")]
    assert desk.course(part) == {
        "fullname": "Ein Teil & mehr 🌿", "shortname": named("part"), "idnumber": f"part-{os.getpid()}", "visible": 0,
        "category": desk.category, "startdate": "2027-02-15",
    }  # fmt: skip


def test_a_generated_course_arrives_whole(desk: Desk) -> None:
    [made] = desk.ok("backup", "create", "GEN_XS", "--download", str(desk.run.home / "xs"), "--remove-remote")
    new = desk.new(made["path"], named("xs"))
    assert desk.holds(new) == desk.holds(desk.site.content["courses"]["GEN_XS"])


def test_merging_adds_the_chosen_items_and_leaves_the_rest_as_it_was(desk: Desk, file: Path) -> None:
    target = desk.new(file, named("target"), "--only", "section:Introduction", "--without", "users")
    before = desk.holds(target)
    assert (before["users"], before["posts"], before["grades"]) == (0, 0, 0)
    names = desk.course(target)
    done = desk.ok("restore", str(file), "--merge", named("target"), "--only", "mod:forum", "--only", "mod:choice")
    assert (done["mode"], done["verified"]["ok"], done["course"]["id"]) == ("merge", True, target)
    after = desk.holds(target)
    added = {**before["activities"], "forum": before["activities"]["forum"] + 1, "choice": 1}
    assert after["activities"] == added
    assert after["posts"] == desk.holds(desk.rich)["posts"]
    assert after["users"] == desk.holds(desk.rich)["users"]
    assert set(before["files"]) <= set(after["files"])
    assert desk.course(target) == names


def test_replacing_deletes_what_was_there_and_brings_what_was_asked(desk: Desk, file: Path) -> None:
    target = desk.new(file, named("replaced"), "--fullname", "Stays", "--only", "mod:choice")
    desk.site.php("require_once($CFG->dirroot . '/course/lib.php');"
                  "course_create_section($arguments['id'], 9);", id=target)  # fmt: skip
    before = desk.holds(target)
    refused = desk.fails(5, "restore", str(file), "--replace", named("replaced"))
    assert "--yes" in refused["hint"]
    assert desk.holds(target) == before
    done = desk.ok("--yes", "restore", str(file), "--replace", named("replaced"), "--skip", "mod:wiki")
    assert (done["mode"], done["verified"]["ok"], done["course"]["id"]) == ("replace", True, target)
    whole, held = desk.holds(desk.rich), desk.holds(target)
    assert held["activities"] == without(whole["activities"], "wiki")
    assert (held["users"], held["posts"], held["attempts"]) == (whole["users"], whole["posts"], whole["attempts"])
    # Moodle brings badges only where no activity is left out, and the course's picture only with its settings.
    left_out = ("mod_wiki/", "badges/", "course/overviewfiles/")
    assert held["files"] == [f for f in whole["files"] if not f.startswith(left_out)]
    assert held["questions"] == whole["questions"]
    assert (desk.course(target)["fullname"], desk.course(target)["shortname"]) == ("Stays", named("replaced"))


def test_without_people_nobody_comes_along(desk: Desk, file: Path) -> None:
    held = desk.holds(desk.new(file, named("nobody"), "--without", "users"))
    whole = desk.holds(desk.rich)
    assert (held["users"], held["posts"], held["attempts"], held["grades"], held["submissions"]) == (0,) * 5
    assert (held["activities"], held["questions"]) == (whole["activities"], whole["questions"])


def test_tags_in_the_names_of_a_course_do_not_keep_it_from_being_restored(desk: Desk) -> None:
    """Enrolment plugins can give such names, and Moodle's own restore then ends with setting_invalid_text."""
    course = desk.new(desk.ok("backup", "create", "GEN_XS", "--only", "section:1", "--download",
                              str(desk.run.home / "tags"), "--remove-remote")[0]["path"], named("tags"))  # fmt: skip
    desk.site.php("$DB->update_record('course', ['id' => $arguments['id'], 'fullname' => $arguments['name'],"
                  "'shortname' => $arguments['name']]);", id=course, name=f"<b>{named('Tagged')}</b> & <i>x")  # fmt: skip
    [made] = desk.ok("backup", "create", f"id:{course}", "--download", str(desk.run.home / "tags"), "--remove-remote")
    done = desk.ok("restore", made["path"], "--new", f"id:{desk.category}")
    assert (done["verified"]["ok"], done["course"]["shortname"]) == (True, f"{named('Tagged')} & x")
    assert desk.course(done["course"]["id"])["fullname"] == f"{named('Tagged')} & x"
    given = desk.new(made["path"], named("given"), "--fullname", "Given")
    assert desk.course(given)["fullname"] == "Given"


def test_a_name_that_is_too_long_for_the_site_is_refused_before_anything_is_done(desk: Desk, file: Path) -> None:
    limit = 254 if desk.site.release == "4.5" else 1333
    error = desk.fails(2, "restore", str(file), "--new", f"id:{desk.category}", "--fullname", "F" * (limit + 1))
    assert error["code"] == "bad_fullname"
    assert str(limit) in error["message"]
    longest = desk.new(file, named("longest"), "--fullname", "F" * limit, "--only", "mod:page", "--without", "users")
    assert desk.course(longest)["fullname"] == "F" * limit


# --- areas --------------------------------------------------------------------------------------------------------


def test_a_stored_automated_backup_is_restored_where_it_lies(desk: Desk) -> None:
    new = desk.new("RICH101@automated", named("from-automated"))
    assert desk.holds(new) == desk.holds(desk.rich)


def test_a_backup_without_people_lies_in_the_private_area_until_it_is_deleted(desk: Desk, file: Path) -> None:
    course = desk.new(file, named("private"), "--only", "mod:page", "--without", "users")
    [made] = desk.ok("backup", "create", named("private"), "--without", "users")
    assert (made["area"], made["has_users"]) == ("private", False)
    assert [f["filename"] for f in desk.ok("backup", "list", named("private"), "--area", "private")] == [made["filename"]]
    word = f"{named('private')}@private/{made['filename']}"
    [got] = desk.ok("backup", "download", word, "-d", str(desk.run.home / "private"))
    [stored] = desk.stored(made["filename"])
    assert hashlib.sha1(Path(got["path"]).read_bytes()).hexdigest() == stored["contenthash"]
    again = desk.new(word, named("private-again"))
    assert without(desk.holds(again), "sections") == without(desk.holds(course), "sections")
    assert desk.fails(5, "backup", "delete", word)["code"] == "not_confirmed"
    assert len(desk.stored(made["filename"])) == 1
    assert desk.ok("--yes", "backup", "delete", word)[0]["deleted"] is True
    assert desk.stored(made["filename"]) == []
    assert desk.fails(4, "backup", "download", word)["code"] == "backup_unknown"


def test_of_several_courses_the_failing_one_is_named_and_the_others_are_done(desk: Desk, file: Path) -> None:
    desk.new(file, named("taught"))  # teacher1 comes along as its teacher
    desk.new(file, named("foreign"), "--only", "mod:page", "--without", "users")
    words = ("backup", "create", named("foreign"), named("taught"), "--as", "teacher1")
    done: Outcome = desk.run("--site", "live", "-o", "json", *words)
    assert done.status == 7
    [made] = done.json
    assert made["course"]["shortname"] == named("taught")
    assert done.error["code"] == "some_failed"
    assert done.error["details"]["done"] == [named("taught")]
    assert done.error["details"]["failed"][0].startswith(named("foreign") + ": ")
    assert len(desk.stored(made["filename"])) == 1
    assert desk.ok("backup", "list", named("foreign")) == []


def test_one_mistyped_name_among_several_costs_nothing(desk: Desk, file: Path) -> None:
    desk.new(file, named("typed"), "--only", "mod:page", "--without", "users")
    error = desk.fails(4, "backup", "create", named("typed"), named("tipped"))
    assert named("tipped") in error["message"]
    assert desk.ok("backup", "list", named("typed")) == []


# --- with a token alone, with a shell alone, between sites ----------------------------------------------------------


def test_a_token_alone_finds_and_downloads_and_says_what_needs_a_shell(desk: Desk, moodle: rig.LiveMoodle) -> None:
    desk.run.add_site("web", moodle, ssh=False) if not (desk.run.home / "web.token").exists() else None
    listed = desk.run("--site", "web", "-o", "json", "backup", "list", "RICH101", "--area", "automated")
    assert listed.status == 0, listed.stderr
    name = listed.json[0]["filename"]
    got = desk.run("--site", "web", "-o", "json", "backup", "download", f"RICH101@automated/{name}",
                   "-d", str(desk.run.home / "web"))  # fmt: skip
    assert got.status == 0, got.stderr
    assert got.json[0]["sha1"] == desk.stored(name, automated=True)[0]["contenthash"]
    refused = desk.run("--site", "web", "-o", "json", "backup", "create", "RICH101")
    assert (refused.status, refused.stdout) == (3, "")
    assert "shell" in refused.error["message"]


def test_a_shell_alone_does_the_whole_job(desk: Desk, moodle: rig.LiveMoodle) -> None:
    hops = [word for hop in moodle.via for word in ("--via", hop)]
    added = desk.run("site", "add", "host", "--replace", "--url", moodle.url, *hops,
                     "--moodle-dir", str(moodle.moodle_dir))  # fmt: skip
    assert added.status == 0, added.stderr
    done = desk.run("--site", "host", "-o", "json", "backup", "create", "GEN_XS", "--only", "section:1",
                    "--download", str(desk.run.home / "host"), "--remove-remote")  # fmt: skip
    assert done.status == 0, done.stderr
    path = done.json[0]["path"]
    restored = desk.run("--site", "host", "-o", "json", "restore", path, "--new", f"id:{desk.category}")
    assert restored.status == 0, restored.stderr
    seen = desk.ok("backup", "inspect", path)
    modules = [a["module"] for s in seen["sections"] for a in s["activities"] if a["included"]]
    held = desk.holds(restored.json["course"]["id"])["activities"]
    assert held == {module: modules.count(module) for module in modules}


def test_a_course_goes_from_the_oldest_site_to_every_newer_one(
    moodles: dict[str, rig.LiveMoodle], desks: Callable[[str], Desk]
) -> None:
    names = sorted(moodles, key=lambda name: [int(n) for n in moodles[name].release.split(".")])
    source = desks(names[0])
    whole = source.holds(source.rich)
    for name in names[1:] or names:
        target = desks(name)
        if not (target.run.home / "other.token").exists():
            target.run.add_site("other", moodles[names[0]])
            told = target.run("site", "add", "other", "--replace", "--ssh-config", str(source.site.ssh_config))
            assert told.status == 0, told.stderr
        new = target.new("RICH101@course", named(f"from-{names[0]}"), "--from", "other")
        held = target.holds(new)
        same = ("activities", "users", "groups", "posts", "attempts", "submissions", "questions", "sections")
        assert {n: held[n] for n in same} == {n: whole[n] for n in same}
        assert {f.split()[1] for f in held["files"]} == {f.split()[1] for f in whole["files"]}


# --- secrets --------------------------------------------------------------------------------------------------------


def test_the_token_is_seen_nowhere_on_the_way(desk: Desk, moodle: rig.LiveMoodle) -> None:
    """Not in any command line, in what --verbose says, in the web server's log, nor in a file but its own."""
    token, log = moodle.tokens["admin"], moodle.dataroot.parent / "web/web.log"
    logged = log.stat().st_size
    command = desk.run
    process = subprocess.Popen(
        [*command.argv, "--site", "live", "-v", "backup", "create", "GEN_XS", "--remove-remote", "--download",
         str(command.home / "secret")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=command.env, cwd=command.home)  # fmt: skip
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.append(process.communicate()[0]))
    reader.start()
    seen: set[bytes] = set()
    while reader.is_alive():
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(place.read_bytes())
    assert process.returncode == 0, told
    assert any(b"ssh" in line for line in seen)
    assert not [line for line in seen if token.encode() in line]
    assert token not in told[0]
    with log.open("rb") as file:
        file.seek(logged)
        fresh = file.read()
    assert b"POST /webservice/pluginfile.php" in fresh
    assert token.encode() not in fresh
    for path in command.home.rglob("*"):
        if path.is_file() and path.suffix != ".token":
            assert token.encode() not in path.read_bytes(), path


def test_of_two_restores_into_one_course_at_once_the_second_is_refused(desk: Desk, file: Path) -> None:
    course = desk.new(file, named("R-at-once"))
    words = ("--site", "live", "-o", "json", "-y", "restore", str(file), "--replace", f"id:{course}")
    both = [desk.run.popen(*words) for _ in range(2)]
    told = [process.communicate(timeout=600) for process in both]
    ended = sorted((process.returncode, error) for process, (_, error) in zip(both, told, strict=True))
    assert ended[0][0] == 0, ended
    if ended[1][0] != 0:  # else the one had ended before the other began
        assert ended[1][0] == 5, ended
        assert "is under way" in ended[1][1] or "is at work" in ended[1][1], ended
    assert desk.holds(course)["activities"] == desk.holds(desk.rich)["activities"]
