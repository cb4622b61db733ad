"""The examples can be used as they are: plans are read, commands are parsed, files are what they say."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from moodlectl.cli import app, hoist
from moodlectl.plans import read_plan

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "kind", "rows"), [("rollover.toml", "rollover", 2), ("rollover.csv", "rollover", 3), ("migration.toml", "migrate", 2)]
)
def test_the_plans_have_no_problems(name: str, kind: str, rows: int) -> None:
    plan = read_plan(EXAMPLES / name, kind)  # type: ignore[arg-type]
    assert (plan.problems, plan.notes, len(plan.rows)) == ((), (), rows)


def test_the_names_that_the_rollover_makes_are_those_that_are_meant() -> None:
    row = read_plan(EXAMPLES / "rollover.toml", "rollover").rows[0]
    values: dict[str, str | int] = {"source.shortname": "BIO-2026", "source.category": "Science 2026", "year": 2027}
    assert row.shortname is not None and row.shortname.expand(values) == "BIO-2027"
    assert row.category_path is not None and row.category_path.expand(values) == "2027 / Science"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours in the examples, with where it stands."""
    for path in sorted(EXAMPLES.rglob("*")):
        if path.suffix in (".crontab", ".service", ".yml", ".toml"):
            for line in path.read_text(encoding="utf-8").splitlines():
                found = re.search(r"(?:^|[\s/])moodlectl ((?:-\S+ |rollover|migrate|restore|job).*)", line)
                if found:
                    words = shlex.split(re.split(r" \| | >|   ", found[1])[0], comments=True)
                    yield f"{path.name}: {line.strip()}", words


def parsed(words: list[str]) -> Any:
    """The command a line means, its options read, nothing done."""
    command = typer.main.get_command(app)
    words = hoist(command, words)
    context = command.make_context("moodlectl", list(words))
    below = context.command.get_command(context, context._protected_args[0] if context._protected_args else context.args[0])  # type: ignore[attr-defined]
    rest = [*context._protected_args, *context.args][1:]
    return below.make_context(below.name, list(rest), parent=context)


@pytest.mark.parametrize(("where", "words"), list(commands()))
def test_every_command_line_is_one_of_ours(where: str, words: list[str]) -> None:
    assert parsed(words).info_name in ("rollover", "migrate", "restore", "job"), where


def test_there_are_command_lines_to_look_at() -> None:
    assert len(list(commands())) >= 7


def test_the_playbook_is_one_and_its_commands_are_ours() -> None:
    play = yaml.safe_load((EXAMPLES / "ansible-playbook.yml").read_text(encoding="utf-8"))[0]
    lines = [task["ansible.builtin.command"]["argv"] for task in play["tasks"] if "ansible.builtin.command" in task]
    assert len(lines) == 2
    for argv in lines:
        assert parsed([str(word).replace("{{ ", "").replace(" }}", "") for word in argv[1:]]).info_name == "rollover"


def test_the_workflow_is_one() -> None:
    flow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    steps = flow["jobs"]["plan"]["steps"]
    assert all("uses" in step or "run" in step for step in steps)
    assert set(flow[True]) == {"pull_request", "push"}  # YAML reads the word on as true


def test_the_units_are_whole() -> None:
    units = {}
    for path in [*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.timer")]:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(path.read_text(encoding="utf-8"))
        units[path.name] = parser
    service = units["moodlectl-rollover.service"]["Service"]
    assert service["Type"] == "oneshot"
    assert service["KillMode"] == "mixed"  # else TERM cuts ssh off in the middle of a step
    assert "OnCalendar" in units["moodlectl-rollover.timer"]["Timer"]
    assert {name.partition(".")[0] for name in units} == {"moodlectl-rollover"}


def test_the_crontab_finds_the_command_and_mails_no_table() -> None:
    lines = (EXAMPLES / "rollover.crontab").read_text(encoding="utf-8").splitlines()
    said = [line for line in lines if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in said[:-1])
    assert "/usr/local/bin" in settings["PATH"].split(":")
    minute, hour, _, _, _, user, rest = said[-1].split(None, 6)
    assert (minute, hour, user) == ("30", "2", "moodle-admin")
    assert rest.endswith(">/dev/null")  # warnings and errors are left for the mail
    assert "%" not in rest  # a line end to cron
