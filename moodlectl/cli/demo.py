"""``moodlectl demo``: the whole main job on the practice site, each command shown as it would be typed."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from moodlectl.cli import output
from moodlectl.cli.state import State
from moodlectl.cli.words import state_of

STEPS = (
    ("Which courses are there?", ["course", "list"]),
    ("Look into one.", ["course", "show", "RICH101"]),
    ("What could be chosen when it is backed up?", ["backup", "settings", "RICH101"]),
    (
        "Back it up, with its people and their work, and bring the file down.",
        ["backup", "create", "RICH101", "--download", "{folder}"],
    ),
    ("Find it in its area, beside the automated ones.", ["backup", "list", "RICH101"]),
    ("What is in it?", ["backup", "inspect", "{file}"]),
    ("Is the file whole?", ["backup", "verify", "{file}"]),
    (
        "What would restoring it into a new course do?",
        ["restore", "{file}", "--new", "Science / Biology", "--shortname", "RICH101-demo", "--dry-run"],
    ),
    (
        "Do it.",
        ["restore", "{file}", "--new", "Science / Biology", "--shortname", "RICH101-demo", "--hidden"],
    ),
    (
        "Bring the forums alone, without what people wrote, into a course that is there already.",
        ["restore", "{file}", "--merge", "EMPTY1", "--only", "mod:forum", "--without", "users"],
    ),
)


def register(app: typer.Typer) -> None:
    """Hang the command on the program."""
    app.command("demo")(demo)


def demo(
    ctx: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep/--fresh", help="Keep what is on the practice site, or begin it anew.")
    ] = False,
) -> None:
    """The whole main job on the built-in practice site; nothing to set up, nothing outside its folder touched."""
    from moodlectl.actions import practice

    state = state_of(ctx)
    name = practice.prepare(state.config, fresh=not keep)
    output.remark(state, f"The practice site is called '{name}': a small Moodle of its own, in {practice.folder()}.")
    with tempfile.TemporaryDirectory(prefix="moodlectl-demo-") as folder:
        for text, words in STEPS:
            _step(state, name, text, words, Path(folder))
    output.remark(
        state,
        f"\nThat was the main job. '{name}' stays: try every command on it, for example\n"
        f"  moodlectl --site {name} backup list RICH101\n"
        "and add your own Moodle with 'moodlectl site add'; README.md shows how.",
    )


def _step(state: State, site: str, text: str, words: list[str], folder: Path) -> None:
    from moodlectl.cli import main

    newest = max(folder.glob("*.mbz"), key=lambda p: p.stat().st_mtime, default=folder / "none.mbz")
    filled = [w.format(folder=str(folder), file=str(newest)) for w in words]
    shown = [w.replace(str(folder) + "/", "").replace(str(folder), ".") for w in filled]
    sys.stdout.write(f"\n# {text}\n$ moodlectl {shlex.join(shown)}\n")
    sys.stdout.flush()
    config = ["--config", str(state.config)] if state.config else []
    colour = [] if state.color else ["--no-color"]
    status = main(["--site", site, *config, *colour, *filled])
    sys.stdout.flush()
    if status != 0:
        raise typer.Exit(status)
