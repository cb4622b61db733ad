"""Rollovers and migrations in which every content travels once, and those in which none has to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodlectl.cli import main
from moodlectl.site.port import CourseRef
from moodlectl.site.practice import PracticeSite

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command with two practice sites, ``old`` and ``new``; standard output as JSON."""
    path = tmp_path / "config.toml"
    sites = "".join(f'[sites.{name}]\nkind = "practice"\nfolder = "{tmp_path}/{name}"\n' for name in ("old", "new"))
    path.write_text(f'default = "old"\n{sites}')
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    new = PracticeSite(tmp_path / "new")
    with new.store.transaction():  # both begin with the same courses
        new.store.run("DELETE FROM files")
    new.store.sweep()
    new.close()
    (tmp_path / "move.toml").write_text(
        '[defaults]\ncategory_path = "Moved"\ncreate_categories = true\nmap = ["admin=admin"]\n'
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "MOVED1"\nidnumber = "M1"\n'
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "MOVED2"\nidnumber = "M2"\n'
    )
    (tmp_path / "year.toml").write_text(
        '[[course]]\ntemplatecourse = "RICH101"\nshortname = "RICH-NEXT"\ncategory_path = "Science"\n'
    )

    def start(*words: str) -> tuple[int, Any, str]:
        status = main(["--config", str(path), "-o", "json", "-y", *words])
        out, err = capfd.readouterr()
        return status, json.loads(out) if out.strip() else None, err

    return start


def move(run: Run, tmp_path: Path, *words: str) -> tuple[int, Any, str]:
    return run("migrate", str(tmp_path / "move.toml"), "--from", "old", "--to", "new", *words)


def files(folder: Path, shortname: str) -> list[Any]:
    site = PracticeSite(folder)
    found: list[Any] = []
    course = site.course(CourseRef("shortname", shortname))
    site.identities(course.id, found.append)
    site.close()
    return sorted((key, tuple(sorted(facts.items()))) for kind, key, facts in found if kind == "file")


def held(folder: Path) -> int:
    site = PracticeSite(folder)
    found = len(site.pool().held())
    site.close()
    return found


def test_two_copies_of_one_course_send_each_content_once_and_hold_the_same_files(run: Run, tmp_path: Path) -> None:
    status, job, err = move(run, tmp_path)
    assert status == 0, err
    sent = [item["facts"]["contents_sent"] for item in job["items"]]
    assert (sum(sent), min(sent)) == (job["items"][0]["facts"]["contents"], 0)
    assert files(tmp_path / "new", "MOVED1") == files(tmp_path / "new", "MOVED2") == files(tmp_path / "old", "RICH101")
    assert held(tmp_path / "new") == 0


def test_the_ordinary_way_ends_with_the_same_files(run: Run, tmp_path: Path) -> None:
    status, job, err = move(run, tmp_path, "--whole-backups")
    assert status == 0, err
    assert all("contents" not in item["facts"] for item in job["items"])
    assert files(tmp_path / "new", "MOVED1") == files(tmp_path / "old", "RICH101")


def test_what_was_sent_ahead_does_not_travel_again(run: Run, tmp_path: Path) -> None:
    before = move(run, tmp_path, "--dry-run")[1]["totals"]["bytes_missing"]
    status, job, err = move(run, tmp_path, "--seed-only")
    assert (status, job["totals"]["done"]) == (0, 1), err
    assert job["items"][0]["facts"]["content_bytes_sent"] == before > 0
    assert held(tmp_path / "new") > 0
    assert move(run, tmp_path, "--dry-run")[1]["totals"]["bytes_missing"] == 0
    assert move(run, tmp_path, "--seed-only")[1]["totals"]["skipped"] == 1
    status, job, err = move(run, tmp_path)
    assert status == 0, err
    assert [item["facts"]["contents_sent"] for item in job["items"]] == [0, 0]
    assert held(tmp_path / "new") == 0


def test_what_comes_in_its_backup_is_not_sent_ahead(run: Run, tmp_path: Path) -> None:
    rows = (("RICH101", "MOVED1", 'without = ["files"]'), ("RICH101", "MOVED2", 'with = ["files"]'), ("EMPTY1", "MOVED3", ""))
    (tmp_path / "move.toml").write_text(
        '[defaults]\ncategory = "Science"\nmap = ["admin=admin"]\n'
        + "".join(
            f'[[course]]\ntemplatecourse = "{of}"\nshortname = "{name}"\nidnumber = "{name}"\n{rest}\n'
            for of, name, rest in rows
        )
    )
    status, job, err = move(run, tmp_path, "--seed-only")
    assert status == 0, err
    assert [item["course"] for item in job["items"]] == ["MOVED3"]
    assert held(tmp_path / "new") == 0
    plan = tmp_path / "move.toml"
    plan.write_text(plan.read_text().rpartition("[[course]]")[0])
    status, _, err = move(run, tmp_path, "--seed-only")
    assert (status, "cannot_seed" in err, "say themselves" in err) == (5, True, True), err


def test_room_is_needed_for_what_is_missing_and_for_what_is_packed(run: Run, tmp_path: Path) -> None:
    def needs(*words: str) -> tuple[int, int, int]:
        status, told, err = run(*words, "--dry-run")
        assert status == 0, err
        return told["totals"]["needs_there"], told["totals"]["bytes_missing"], told["totals"]["bytes"]

    abroad = ("migrate", str(tmp_path / "move.toml"), "--from", "old", "--to", "new")
    there, missing, _ = needs(*abroad)
    assert there == missing > 0
    assert needs(*abroad, "--whole-backups")[0] > needs(*abroad)[2]
    assert needs("rollover", str(tmp_path / "year.toml"))[0] == 0
    assert needs("rollover", str(tmp_path / "year.toml"), "--whole-backups")[0] > 0
    plan = tmp_path / "move.toml"
    plan.write_text(plan.read_text() + 'with = ["files"]\n')  # of two, one is packed
    mixed, missing, _ = needs(*abroad)
    assert mixed > missing > 0


def test_a_backup_without_files_is_refused_by_the_name_of_a_file_that_lies_there_cut_short(
    run: Run, tmp_path: Path
) -> None:
    status, [made], err = run(
        "backup", "create", "RICH101", "--without", "files", "--download", str(tmp_path), "--remove-remote"
    )
    assert status == 0, err
    site = PracticeSite(tmp_path / "old")
    course = site.course(CourseRef("shortname", "RICH101"))
    short = next(one for one in site.pool().of_course(course.id) if one.size > 1)
    path = site.store.content_path(short.sha1)
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1])
    [name, *_] = {
        row["xml"].decode().partition("<filename>")[2].partition("<")[0]
        for row in site.store.rows("SELECT xml FROM files WHERE contenthash = ?", short.sha1)
    }
    site.close()
    status, _, err = run("restore", made["path"], "--new", "Science", "--shortname", "AGAIN")
    assert (status, name in err) == (5, True), err
    path.write_bytes(whole)
    status, _, err = run("restore", made["path"], "--new", "Science", "--shortname", "AGAIN")
    assert status == 0, err


def test_a_content_the_old_site_has_lost_is_named_by_its_file(run: Run, tmp_path: Path) -> None:
    site = PracticeSite(tmp_path / "old")
    course = site.course(CourseRef("shortname", "RICH101"))
    names = {path.name for path in (tmp_path / "old" / "filedir").glob("??/*")}
    lost = next(one for one in site.pool().of_course(course.id) if one.sha1 in names)
    [name] = {
        row["xml"].decode().partition("<filename>")[2].partition("<")[0]
        for row in site.store.rows("SELECT xml FROM files WHERE contenthash = ? LIMIT 1", lost.sha1)
    }
    site.store.content_path(lost.sha1).unlink()
    site.close()
    status, job, _ = move(run, tmp_path)
    assert (status, job["totals"]["failed"]) == (7, 2)
    message = job["items"][0]["message"]
    assert "has lost the content of 1 files" in message
    assert name in message


def test_all_others_are_sent_ahead_when_the_old_site_has_lost_one_and_that_is_told_days_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodlectl.actions.contents._BATCH", 1)
    site = PracticeSite(tmp_path / "old")
    course = site.course(CourseRef("shortname", "RICH101"))
    every = site.pool().of_course(course.id)
    lost, damaged = every[0], every[1]
    site.store.content_path(lost.sha1).unlink()
    site.store.content_path(damaged.sha1).unlink()
    site.store.content_path(damaged.sha1).write_bytes(bytes(damaged.size))
    site.close()
    status, job, _ = move(run, tmp_path, "--seed-only")
    assert (status, job["totals"]["failed"]) == (7, 1)
    message = job["items"][0]["message"]
    assert "All was sent but 2 contents" in message
    assert held(tmp_path / "new") == len(every) - 2
    plan = tmp_path / "move.toml"
    plan.write_text(plan.read_text().replace("[defaults]", '[defaults]\nallow = ["without-files"]'))
    assert move(run, tmp_path, "--seed-only")[0] == 0


def test_a_rollover_packs_no_file_and_brings_them_all(run: Run, tmp_path: Path) -> None:
    run("site", "check", "old")
    before = {path.name for path in (tmp_path / "old" / "filedir").glob("??/*")}
    status, job, err = run("rollover", str(tmp_path / "year.toml"))
    assert status == 0, err
    assert job["items"][0]["facts"]["bytes"] < 100_000
    assert files(tmp_path / "old", "RICH-NEXT") == files(tmp_path / "old", "RICH101")
    assert {path.name for path in (tmp_path / "old" / "filedir").glob("??/*")} == before


def test_a_rate_that_is_none_and_words_that_cannot_go_together_are_refused(run: Run, tmp_path: Path) -> None:
    assert move(run, tmp_path, "--limit-rate", "fast")[0] == 2
    assert move(run, tmp_path, "--limit-rate", "")[0] == 2  # of a script's variable that is not set
    assert move(run, tmp_path, "--whole-backups", "--limit-rate", "")[0] == 2
    assert move(run, tmp_path, "--whole-backups", "--seed-only")[0] == 2
