"""What the documents say is so: commands, examples, names. ``UPDATE_DOCS=1`` has this file rewrite the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_the_nightly_example_backs_up_the_practice_site(tmp_path: Path) -> None:
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
    environment = os.environ | home | {"MOODLECTL_CONFIG": str(settings), "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    folder = tmp_path / "backups"
    folder.mkdir()
    script = ROOT / "examples" / "nightly-backup.sh"

    def night(*courses: str) -> subprocess.CompletedProcess[str]:
        argv = ["sh", str(script), str(folder), *courses]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    first = night("RICH101", "EMPTY1")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert len(list(folder.glob("*/*.mbz"))) == 2
    assert night("NOWHERE").returncode == 4
    assert night().returncode == 2
