"""What ``--help`` prints: summaries that are not cut short, and the names of things in place of Python's types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def readable(command: Any) -> Any:
    """The same tree of commands, its help made for people. Typer says ``{NAME}`` and ``NAME <str>`` since 0.2x."""
    for one in _all(command):
        if one.help and not one.short_help:
            one.short_help = _first_sentence(one.help)
        for parameter in one.params:
            if parameter.param_type_name == "argument":
                _plain(parameter)
    return command


def _all(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _all(below)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()


def _plain(argument: Any) -> None:
    name = argument.metavar or argument.name.upper()
    needed = name if argument.required else f"[{name}]"
    if hasattr(argument, "_usage_display_name"):
        argument._usage_display_name = lambda: needed
    if hasattr(argument, "display_type_rich"):
        argument.display_type_rich = lambda ctx: ""
