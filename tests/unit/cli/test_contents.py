"""``site contents``: what was put into a site's pool ahead of its courses, and taken out again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moodlectl import ledger
from moodlectl.cli import main
from moodlectl.site.contents import packed
from moodlectl.site.port import Content
from moodlectl.site.practice import PracticeSite

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command, on a practice site of its own."""
    path = tmp_path / "config.toml"
    path.write_text(f'default = "practice"\n[sites.practice]\nkind = "practice"\nfolder = "{tmp_path}/site"\n')
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))

    def start(*words: str) -> tuple[int, str, str]:
        status = main(["--config", str(path), *words])
        return status, *capfd.readouterr()

    return start


@pytest.fixture
def ahead(run: Run, tmp_path: Path) -> Content:
    data = b"nobody's yet" * 100
    one = Content(hashlib.sha1(data, usedforsecurity=False).hexdigest(), len(data))
    site = PracticeSite(tmp_path / "site")
    site.pool().take(packed(one, [data]), [one])
    site.close()
    return one


def test_what_was_put_there_ahead_is_listed(run: Run, ahead: Content) -> None:
    status, out, _ = run("-o", "json", "site", "contents", "--unclaimed")
    rows = [(row["sha1"], row["size"], row["claimed"]) for row in json.loads(out)]
    assert (status, rows) == (0, [(ahead.sha1, ahead.size, False)])


def test_it_is_removed_only_when_somebody_says_so(run: Run, ahead: Content) -> None:
    status, _, err = run("site", "contents", "--unclaimed", "--remove")
    assert (status, "--yes" in err) == (5, True)
    assert run("-y", "site", "contents", "--unclaimed", "--remove", "--dry-run")[0] == 0
    assert ahead.sha1 in run("site", "contents")[1]
    status, _, err = run("-y", "site", "contents", "--unclaimed", "--remove")
    assert (status, "removed 1 of 1" in err) == (0, True)
    assert json.loads(run("-o", "json", "site", "contents")[1]) == []
    assert ledger.jobs()[0].kind == "contents"


def test_what_courses_have_is_never_removed(run: Run, ahead: Content) -> None:
    status, _, err = run("-y", "site", "contents", "--remove")
    assert (status, "--unclaimed" in err) == (2, True)
