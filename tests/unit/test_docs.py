"""What the documents say is so: commands, examples, names. ``UPDATE_DOCS=1`` has this file rewrite the README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from moodlectl import config
from moodlectl.cli import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def commands(command: Any = None, path: str = "moodlectl") -> Iterator[tuple[str, str]]:
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield path, (command.help or "").strip().splitlines()[0]
        return
    for name in below:
        yield from commands(below[name], f"{path} {name}")


def table() -> str:
    rows = [f"| `{path}` | {text} |" for path, text in commands()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def test_every_command_has_help() -> None:
    assert [path for path, text in commands() if len(text) < 10] == []


def test_the_readme_lists_every_command_with_its_help() -> None:
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(r"<!-- commands -->\n.*?<!-- /commands -->", re.DOTALL)
    wanted = f"<!-- commands -->\n{table()}\n<!-- /commands -->"
    if os.environ.get("UPDATE_DOCS"):
        README.write_text(pattern.sub(lambda _: wanted, text), encoding="utf-8")
        text = README.read_text(encoding="utf-8")
    assert wanted in text


def test_no_document_tells_anybody_to_install_the_other_project() -> None:
    told = [
        path.name
        for path in [*ROOT.glob("*.md"), *ROOT.glob("examples/*"), *ROOT.glob("moodlectl/**/*.py")]
        if re.search(r"pip install ['\"]?moodlectl(?!-backup)", path.read_text(encoding="utf-8"))
    ]
    assert told == []


def test_the_example_config_loads() -> None:
    loaded = config.load(ROOT / "examples" / "config.toml")
    assert loaded.sites


@dataclass
class Cron:
    """A machine whose cron runs the examples: the command on its PATH, told about the practice site."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, example: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", str(ROOT / "examples" / example), *words)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    home = {name: str(tmp_path / name) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'default = "practice"\n[sites.practice]\nkind = "practice"\nfolder = "{tmp_path / "site"}"\n', encoding="utf-8"
    )
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    command = bin_dir / "moodlectl"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moodlectl "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = {"MOODLECTL_CONFIG": str(settings), "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    return Cron(tmp_path, os.environ | home | path)


def test_the_nightly_example_backs_up_the_practice_site(cron: Cron) -> None:
    folder = cron.folder / "backups"
    folder.mkdir()
    first = cron("nightly-backup.sh", str(folder), "RICH101", "EMPTY1")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert len(list(folder.glob("*/*.mbz"))) == 2
    assert cron("nightly-backup.sh", str(folder), "NOWHERE").returncode == 4
    assert cron("nightly-backup.sh").returncode == 2


def test_the_nightly_example_keeps_the_practice_site_in_a_store(cron: Cron) -> None:
    for _ in range(2):
        night = cron("nightly-store.sh", "RICH101", "EMPTY1")
        assert (night.returncode, night.stdout, night.stderr) == (0, "", "")
    assert len(json.loads(cron.run("moodlectl", "-o", "json", "store", "list").stdout)) == 4
    assert cron.run("moodlectl", "store", "verify").returncode == 0
    assert cron("nightly-store.sh", "NOWHERE").returncode == 4
    assert cron("nightly-store.sh").returncode == 2
