"""Global options may stand anywhere on the line."""

from __future__ import annotations

import pytest
import typer

from moodlectl.cli import app, hoist

COMMAND = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("backup list BIO -o json", "-o json backup list BIO"),
        ("backup list BIO --output=json --site old", "--output=json --site old backup list BIO"),
        ("backup create BIO -qy --download d", "-qy backup create BIO --download d"),
        ("restore f --new 1 --fullname --yes -y", "-y restore f --new 1 --fullname --yes"),
        ("backup download a@course -d dir -v", "-v backup download a@course -d dir"),
        ("backup delete x -- -y", "backup delete x -- -y"),
        ("restore --help", "restore --help"),
    ],
)
def test_global_options_move_to_the_front(line: str, expected: str) -> None:
    assert hoist(COMMAND, line.split()) == expected.split()


def test_an_option_a_command_has_itself_stays_with_it() -> None:
    words = hoist(COMMAND, ["site", "add", "x", "--url", "https://m", "--as", "me", "--site", "y"])
    assert words[:2] == ["--site", "y"]
    assert words[2:] == ["site", "add", "x", "--url", "https://m", "--as", "me"]
