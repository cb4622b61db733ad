"""``moodlectl store``, and the store in ``backup create`` and ``restore``, on the practice site."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from moodlectl import ledger
from moodlectl.cli import main
from moodlectl.errors import AccessError
from moodlectl.site.practice import PracticeSite
from tests.backups import DAY, make_backup, sha1


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'default = "practice"\nstore = "kept"\n[sites.practice]\nkind = "practice"\nfolder = "{tmp_path / "site"}"\n'
        f'[sites.other]\nkind = "practice"\nfolder = "{tmp_path / "other"}"\n'
    )
    monkeypatch.setenv("MOODLECTL_CONFIG", str(settings))
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MOODLECTL_STORE", raising=False)

    def call(*words: str) -> Ran:
        status = main(words)
        told = capsys.readouterr()
        return Ran(status, told.out, told.err)

    return call


Run = Callable[..., Ran]


def nightly(run: Run, folder: Path, *days: int, course: int = 42, name: str = "BIO101") -> list[str]:
    files = [
        make_backup(
            folder / f"{name}-{day}.mbz", {"same": b"same " * 99, f"{day}": b"%d" % day},
            shortname=name, course=course, date=DAY + timedelta(days=day),
        )
        for day in days
    ]  # fmt: skip
    done = run("-o", "json", "store", "add", *map(str, files))
    assert done.status == 0, done.err
    return [one["id"] for one in done.json]


def test_before_anything_was_added_there_is_no_store(run: Run, tmp_path: Path) -> None:
    done = run("store", "list")
    assert done.status == 4
    assert "store add" in done.err
    assert not (tmp_path / "kept").exists()


def test_the_store_of_the_settings_is_beside_them_and_another_can_be_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly(run, tmp_path, 0)
    assert (tmp_path / "kept" / "moodlectl-store.json").is_file()
    monkeypatch.setenv("MOODLECTL_STORE", str(tmp_path / "by-environment"))
    nightly(run, tmp_path, 1)
    assert run("-o", "json", "store", "show").json["backups"] == 1
    assert run("-o", "json", "store", "show", "--store", str(tmp_path / "kept")).json["backups"] == 1
    assert run("store", "show", "--store", str(tmp_path / "nowhere")).status == 4


def test_add_tells_what_came_and_what_was_there(run: Run, tmp_path: Path) -> None:
    path = make_backup(tmp_path / "1.mbz", {"a": b"a" * 1000})
    first, again = run("-o", "json", "store", "add", str(path)), run("-o", "json", "store", "add", str(path))
    assert (first.json[0]["new"], again.json[0]["new"]) == (True, False)
    assert first.json[0]["id"] == again.json[0]["id"]
    assert first.json[0]["contents"] == {"count": 1, "bytes": 1000}
    assert run("store", "add", str(path)).out == f"store:{first.json[0]['id'][:10]}\n"


def test_one_that_is_no_backup_stops_no_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "no.mbz").write_text("no backup")
    good = make_backup(tmp_path / "1.mbz", {"a": b"a"})
    done = run("store", "add", str(tmp_path / "no.mbz"), str(good), str(tmp_path / "missing.mbz"))
    assert done.status == 7
    assert len(run("-o", "json", "store", "list").json) == 1
    assert run("store", "add", str(tmp_path / "no.mbz")).status == 5
    assert run("store", "add", str(tmp_path / "missing.mbz")).status == 4
    assert run("store", "add", str(good), "--allow", "anything").status == 2


def test_list_tells_what_they_would_be_and_what_they_take(run: Run, tmp_path: Path) -> None:
    nightly(run, tmp_path, *range(5))
    nightly(run, tmp_path, 0, course=7, name="CHEM")
    rows = run("-o", "json", "store", "list").json
    assert [row["course"]["shortname"] for row in rows] == ["BIO101"] * 5 + ["CHEM"] or len(rows) == 6
    assert rows[0]["date"] > rows[-1]["date"]
    assert len(run("-o", "json", "store", "list", "CHEM").json) == len(run("-o", "json", "store", "list", "id:7").json) == 1
    told = run("store", "list")
    assert "6 backups" in told.err and "BIO101" in told.out
    told = run("store", "list", "NOPE")
    assert (told.status, "0 backups" in told.err, "of 6 in" in told.err) == (0, True, True)


def test_show_tells_what_only_one_needs(run: Run, tmp_path: Path) -> None:
    ids = nightly(run, tmp_path, 0, 1)
    shown = run("-o", "json", "store", "show", ids[0]).json
    assert shown["alone"] == shown["xml"] + 1
    assert shown["manifest"]["include_files"]
    text = run("store", "show", "BIO101@2026-11-01")
    assert ids[0] in text.out and "MySub" in text.out
    assert run("store", "show", "NOWHERE").status == 4


def test_export_gives_an_ordinary_backup_back(run: Run, tmp_path: Path) -> None:
    ids = nightly(run, tmp_path, 0, 1)
    out = tmp_path / "out"
    done = run("-o", "json", "store", "export", *ids, "-d", str(out))
    assert done.status == 0
    assert [row["verified"] for row in done.json] == [True, True]
    for row in done.json:
        assert run("backup", "verify", row["path"]).status == 0
    assert run("store", "export", ids[0], "-d", str(out)).status == 5
    assert run("store", "export", ids[0], "-d", str(out), "--overwrite").status == 0
    assert run("store", "export", ids[0], "--file", str(out / "x.mbz")).out == f"{out / 'x.mbz'}\n"
    assert run("store", "export", *ids, "--file", str(out / "y.mbz")).status == 2


def test_verify_names_every_hole_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    nightly(run, tmp_path, 0, 1)
    assert run("store", "verify").status == 0
    lost = sha1(b"same " * 99)
    (tmp_path / "kept" / "contents" / lost[:2] / lost).unlink()
    done = run("-o", "json", "store", "verify")
    assert done.status == 1
    assert [(hole["file"], hole["content"]) for hole in done.json["holes"]] == [("same", lost)] * 2
    assert json.loads(done.err)["error"]["code"] == "not_whole"
    text = run("store", "verify")
    assert text.out.count("content of same is missing") == 2
    assert run("store", "export", "BIO101", "-d", str(tmp_path / "out")).status != 0
    assert not list((tmp_path / "out").glob("*"))


def test_prune_shows_asks_and_takes_away(run: Run, tmp_path: Path) -> None:
    ids = nightly(run, tmp_path, -600, -599, 0, 1)
    shown = run("-o", "json", "store", "prune", "--dry-run").json
    assert (shown["would_remove"], shown["removed"]) == (2, 0)
    assert {one["id"] for one in shown["backups"] if not one["keep"]} == set(ids[:2])
    refused = run("store", "prune")
    assert (refused.status, refused.out.count("GOES")) == (5, 2)
    assert run("-o", "json", "store", "show").json["backups"] == 4
    done = run("-y", "-o", "json", "store", "prune").json
    assert (done["removed"], done["freed"]) == (2, shown["would_free"])
    assert run("store", "verify").status == 0
    assert run("-o", "json", "store", "show").json["backups"] == 2
    job = ledger.job(ledger.jobs(limit=1)[0].id)
    assert (job.kind, job.state) == ("prune", "done")
    assert {one["id"] for one in job.items[0].facts["backups"]} == set(ids[:2])
    assert run("job", "resume", str(job.id)).status == 5
    assert run("job", "show", str(job.id)).status == 0
    assert run("-y", "store", "prune").status == 0


@pytest.mark.parametrize("words", [("--keep-within", "soon"), ("--keep-last", "0", "--keep-within", "0d"), ("--keep-last", "-1")])
def test_a_rule_that_cannot_be_meant_is_refused(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    nightly(run, tmp_path, 0)
    assert run("-y", "store", "prune", *words).status == 2
    assert run("-o", "json", "store", "show").json["backups"] == 1


def test_remove_takes_one_away_by_name(run: Run, tmp_path: Path) -> None:
    ids = nightly(run, tmp_path, 0, 1)
    assert run("store", "remove", ids[0]).status == 5
    assert run("-y", "store", "remove", ids[0], "--dry-run").status == 0
    assert run("-y", "store", "remove", ids[0]).status == 0
    assert [one["id"] for one in run("-o", "json", "store", "list").json] == ids[1:]
    assert run("store", "verify").status == 0


@pytest.mark.parametrize("word", ["store:", "PLACE", "store:PLACE", "file://PLACE"])
def test_a_backup_is_made_straight_into_a_store_without_packing_its_files(run: Run, tmp_path: Path, word: str) -> None:
    place = tmp_path / "kept"
    nightly(run, tmp_path, 0)
    before = run("-o", "json", "backup", "list", "RICH101").json
    done = run("-o", "json", "backup", "create", "RICH101", "--download", word.replace("PLACE", str(place)))
    assert done.status == 0, done.err
    [made] = done.json
    assert made["settings"]["files"] is False
    assert made["size"] < made["entry"]["size"] / 2
    assert made["removed"]
    assert run("-o", "json", "backup", "list", "RICH101").json == before
    assert run("store", "verify").status == 0
    whole = tmp_path / "whole.mbz"
    assert run("store", "export", made["entry"]["id"], "--file", str(whole)).status == 0
    assert run("-o", "json", "course", "compare", "RICH101", str(whole)).json["equal"]
    told = run("-o", "json", "backup", "inspect", str(whole)).json
    assert (told["include_files"], told["settings"]["files"], told["filename" if "filename" in told else "type"]) == (
        True, True, "course",
    )  # fmt: skip
    again = run("-o", "json", "backup", "create", "RICH101", "--download", word.replace("PLACE", str(place))).json[0]
    assert again["entry"]["came"] == again["entry"]["xml"]


@pytest.mark.parametrize("word", ["memory://x", "store:memory://x", "s3:/bucket/x", "store:s3:/bucket/x"])
def test_a_place_that_would_be_gone_or_another_than_was_meant_is_refused_before_anything_is_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    there = run("-o", "json", "backup", "list", "RICH101").json
    done = run("backup", "create", "RICH101", "--download", word)
    assert done.status == 3, done.err
    assert run("-o", "json", "backup", "list", "RICH101").json == there
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(("s3", "memory"))]


def test_a_backup_without_files_by_wish_is_one_in_the_store_too(run: Run) -> None:
    [made] = run("-o", "json", "backup", "create", "RICH101", "--without", "files", "--download", "store:").json
    assert (made["entry"]["files"], made["entry"]["contents"]["count"], made["removed"]) == (False, 0, False)
    assert run("store", "verify").status == 0


def test_a_content_the_site_has_lost_is_no_silent_hole(run: Run, tmp_path: Path) -> None:
    site = PracticeSite(tmp_path / "site", "practice")
    course = next(one for one in site.courses() if one.shortname == "RICH101")
    lost = site.pool().of_course(course.id)[0]
    site.close()
    next((tmp_path / "site").rglob(lost.sha1)).unlink()
    before = run("-o", "json", "backup", "list", "RICH101").json
    done = run("-o", "json", "backup", "create", "RICH101", "--download", "store:")
    assert done.status == 1
    error = json.loads(done.err)["error"]
    assert (error["code"], error["details"]["contents"]) == ("content_missing", [lost.sha1])
    assert error["details"]["files"] and "--allow not-whole" in error["hint"]
    assert run("-o", "json", "store", "list").json == []
    assert run("-o", "json", "backup", "list", "RICH101").json == before
    allowed = run("backup", "create", "RICH101", "--download", "store:", "--allow", "not-whole")
    assert (allowed.status, "lacks the contents of some files (1)" in allowed.err) == (0, True), allowed.err
    [kept] = run("-o", "json", "store", "list").json
    assert kept["holes"] == [lost.sha1]
    assert run("store", "verify").status == 0
    other = ("store:" + str(tmp_path / "other-store"), "--allow", "not-whole")
    [kept] = [one["entry"] for one in run("-o", "json", "backup", "create", "RICH101", "--download", *other).json]
    assert kept["came"] == kept["contents"]["bytes"] + kept["xml"]
    assert run("-o", "json", "backup", "list", "RICH101").json == before


def test_a_disk_that_fills_up_on_the_way_is_refused_in_words_and_nothing_is_left(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moodlectl.store import adding, exporting

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    nightly(run, tmp_path, 0)
    there = sorted((tmp_path / "kept").rglob("*"))
    other = make_backup(tmp_path / "other.mbz", {"b": b"b"})
    monkeypatch.setattr(exporting, "write_whole", full)
    monkeypatch.setattr(adding, "write_lean", full)
    (tmp_path / "out").mkdir()
    for words in (("store", "export", "BIO101", "-d", str(tmp_path / "out")), ("store", "add", str(other))):
        done = run(*words)
        assert (done.status, "There is no room in" in done.err) == (5, True), done.err
    assert sorted((tmp_path / "kept").rglob("*")) == there
    assert list((tmp_path / "out").iterdir()) == []


def test_what_may_be_lacking_is_said_only_where_it_means_something(run: Run, tmp_path: Path) -> None:
    assert run("backup", "create", "RICH101", "--download", str(tmp_path), "--allow", "not-whole").status == 2
    assert run("backup", "create", "RICH101", "--download", "store:", "--allow", "anything").status == 2


def test_a_stored_backup_of_a_site_goes_into_the_store(run: Run) -> None:
    done = run("-o", "json", "store", "add", "RICH101@automated")
    assert done.status == 0, done.err
    [added] = done.json
    listed = run("-o", "json", "backup", "list", "RICH101", "--area", "automated").json
    assert added["id"] in {one["sha1"] for one in listed}
    assert run("store", "verify").status == 0
    assert not run("-o", "json", "store", "add", "RICH101@automated").json[0]["new"]


@pytest.mark.parametrize("site", ["practice", "other"])
def test_a_backup_of_the_store_is_restored(run: Run, site: str) -> None:
    [made] = run("-o", "json", "backup", "create", "RICH101", "--download", "store:").json
    word = f"store:{made['entry']['id'][:10]}"
    dry = run("--site", site, "restore", word, "--new", "id:1", "--shortname", "FROM-STORE", "--dry-run")
    assert dry.status == 0, dry.err
    assert run("-o", "json", "site", "contents", site).json == []
    done = run("--site", site, "-o", "json", "restore", "store:RICH101", "--new", "id:1", "--shortname", "FROM-STORE")
    assert done.status == 0, done.err
    assert done.json["verified"]["ok"]
    assert run("-o", "json", "site", "contents", site).json == []
    compared = run("--site", "practice", "-o", "json", "course", "compare", "RICH101", "FROM-STORE", "--site-b", site).json
    assert [one for one in compared["differences"] if one["kind"] == "file" and not one["known"]] == []


def test_what_was_sent_ahead_for_a_restore_that_is_refused_is_taken_out_again(run: Run) -> None:
    assert run("backup", "create", "RICH101", "--download", "store:").status == 0
    done = run("--site", "other", "restore", "store:RICH101", "--new", "id:1", "--shortname", "RICH101")
    assert done.status in (3, 5), done.err
    assert run("-o", "json", "site", "contents", "other").json == []


def test_a_restore_from_a_store_with_a_hole_begins_nothing(run: Run, tmp_path: Path) -> None:
    nightly(run, tmp_path, 0)
    lost = sha1(b"same " * 99)
    (tmp_path / "kept" / "contents" / lost[:2] / lost).unlink()
    before = run("--site", "other", "-o", "json", "course", "list").json
    done = run("--site", "other", "-o", "json", "restore", "store:BIO101", "--new", "id:1", "--shortname", "X")
    assert done.status == 1
    error = json.loads(done.err)["error"]
    assert (error["details"]["contents"], error["details"]["files"]) == ([lost], ["same"])
    assert "store" in error["message"]
    assert run("--site", "other", "-o", "json", "course", "list").json == before
    assert run("-o", "json", "site", "contents", "other").json == []


@pytest.mark.parametrize("at", ["needed_by", "finish"])
def test_a_job_that_was_cut_off_on_its_way_into_the_store_is_cleared_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """With ``finish`` the backup is in the store already when the process ends, before it is taken from the site."""
    from moodlectl.store import adding

    real = getattr(adding, at)

    def dies(*words: Any, **more: Any) -> None:
        if at == "finish":
            real(*words, **more)
        raise SystemExit(9)

    before = run("-o", "json", "backup", "list", "RICH101").json
    with monkeypatch.context() as patch:
        patch.setattr(adding, at, dies)
        run("backup", "create", "RICH101", "--download", "store:")
    job = ledger.jobs(limit=1)[0]
    assert job.state == "unknown"
    assert len(run("-o", "json", "backup", "list", "RICH101").json) == len(before) + 1
    resumed = run("-o", "json", "job", "resume", str(job.id))
    assert resumed.status == (0 if at == "finish" else 1), resumed.err
    assert run("-o", "json", "backup", "list", "RICH101").json == before
    assert len(run("-o", "json", "store", "list").json) == (1 if at == "finish" else 0)
    assert run("store", "verify").status == 0


def test_words_that_contradict_one_another_are_refused(run: Run, tmp_path: Path) -> None:
    nightly(run, tmp_path, 0)
    assert run("restore", "store:BIO101", "--from", "other", "--new", "id:1").status == 2
    assert run("restore", "RICH101@course", "--store", "kept", "--new", "id:1").status == 2
    assert run("backup", "create", "RICH101", "--queue", "--download", "store:").status == 2


def test_commands_that_take_none_say_how_to_have_it_as_a_file(run: Run) -> None:
    for words in (("backup", "download"), ("backup", "delete")):
        done = run(*words, "store:BIO101")
        assert (done.status, "store export BIO101" in done.err) == (2, True), done.err


@pytest.mark.parametrize("words", [("show",), ("export", "--overwrite"), ("remove",)])
def test_a_backup_is_named_to_the_store_as_it_is_to_other_commands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    [number] = nightly(run, tmp_path, 0)
    done = run("-y", "store", *words, f"store:{number[:10]}")
    assert done.status == 0, done.err


def test_whatever_reads_a_backup_reads_one_of_the_store(run: Run, tmp_path: Path) -> None:
    run("backup", "create", "RICH101", "--download", "store:")
    [there] = run("-o", "json", "store", "list").json
    run("store", "export", "RICH101", "--file", str(tmp_path / "x.mbz"))
    before = sorted(str(one) for one in (tmp_path / "kept").rglob("*"))
    as_file, kept = (run("-o", "json", "backup", "inspect", one).json for one in (str(tmp_path / "x.mbz"), "store:RICH101"))
    assert kept == as_file | {"size": there["size"]}
    assert kept["include_files"] and kept["counts"]["pool"]["count"] == there["contents"]["count"]
    people = [run("-o", "json", "backup", "users", one).json for one in (str(tmp_path / "x.mbz"), "store:RICH101")]
    assert people[0] == people[1] and people[0]["users"]
    verified = run("-o", "json", "backup", "verify", f"store:{there['id'][:8]}").json
    assert [one["ok"] for one in verified] == [True] and verified[0]["path"] == f"store:{there['id'][:8]}"
    compared = run("course", "compare", "RICH101", "store:RICH101")
    assert compared.status == 0, compared.out
    rewritten = run("backup", "rewrite", "store:RICH101", "--anonymize", "--output", str(tmp_path / "nobody.mbz"))
    assert rewritten.status == 0, rewritten.err
    assert run("backup", "verify", str(tmp_path / "nobody.mbz")).status == 0
    assert sorted(str(one) for one in (tmp_path / "kept").rglob("*")) == before


def test_a_store_that_is_named_is_the_one_that_is_read(run: Run, tmp_path: Path) -> None:
    nightly(run, tmp_path, 0)
    assert run("backup", "inspect", "store:BIO101", "--store", str(tmp_path / "kept")).status == 0
    assert run("backup", "inspect", "store:BIO101", "--store", str(tmp_path / "none")).status == 4
    assert run("backup", "inspect", str(tmp_path / "BIO101-0.mbz"), "--store", str(tmp_path / "kept")).status == 2
    assert run("backup", "verify", "store:BIO101", "store:NOPE").status == 7


def test_without_a_way_to_the_pool_the_whole_backup_comes_and_that_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise AccessError("The user teacher1 may not move the contents of files.")

    monkeypatch.setattr(PracticeSite, "pool", refuse)
    told = run("backup", "create", "RICH101", "--download", "store:")
    assert told.status == 0, told.err
    assert "its files were packed into it" in told.err and "may not move" in told.err
    [made] = run("-o", "json", "backup", "create", "RICH101", "--download", "store:", "--remove-remote").json
    assert made["settings"]["files"] is True
    assert (made["entry"]["size"], made["removed"]) == (made["size"], True)
    assert len(run("-o", "json", "backup", "list", "RICH101", "--area", "course").json) == 2  # the one that was there
    done = run("-o", "json", "restore", "store:RICH101", "--new", "id:1", "--shortname", "WHOLE")
    assert done.status == 0, done.err
    assert done.json["verified"]["ok"]
    [added] = run("-o", "json", "store", "add", "RICH101@automated").json
    assert added["new"]
    assert run("store", "verify").status == 0
