"""The one door where errors become output: ours with cause and remedy, the unforeseen with a way to report it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import typer

from moodlectl.errors import MoodlectlError, UsageError

# typer brings its own copy of click since 0.2x and used the installed one before: ask it for the class it raises.
_LineIsWrong: Any = typer.BadParameter.__mro__[2]


def report(error: BaseException, *, as_json: bool) -> int:
    """Print one error on standard error and return its exit status."""
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt | typer.Abort | EOFError):
        return _interrupted(error, as_json=as_json)
    if isinstance(error, BrokenPipeError):
        return _nobody_reads()
    if isinstance(error, _LineIsWrong):
        _print(_usage(error), as_json=as_json)
        return 2
    if isinstance(error, MoodlectlError):
        _print(error, as_json=as_json)
        return error.exit_status
    return _unforeseen(error, as_json=as_json)


def _interrupted(error: BaseException, *, as_json: bool) -> int:
    notes = getattr(error, "__notes__", [])
    wanted = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped: no answer was given"
    message = ". ".join([wanted, *notes])
    _print(MoodlectlError(message, code="interrupted"), as_json=as_json)
    return 143 if "SIGTERM" in error.args else 129 if "SIGHUP" in error.args else 130


def _nobody_reads() -> int:
    """Whoever read our output has gone (``| head``): end quietly, and keep Python from complaining at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _usage(error: Any) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "moodlectl"
    return UsageError(error.format_message(), f"'{path} --help' shows what there is.")


def _unforeseen(error: BaseException, *, as_json: bool) -> int:
    import logging

    logging.getLogger("moodlectl").debug("unforeseen", exc_info=error)
    place = _place(error)
    _print(
        MoodlectlError(
            f"unforeseen {type(error).__name__}: {error}",
            "This is a bug in moodlectl. Run the command again with --verbose and report what it prints.",
            code="bug",
            details={"at": place},
        ),
        as_json=as_json,
    )
    return 1


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"


def _print(error: MoodlectlError, *, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(json.dumps({"error": error.as_dict()}, ensure_ascii=False, default=str) + "\n")
        return
    from moodlectl.cli.output import plain

    sys.stderr.write(f"error: {plain(error.message)}\n")
    for line in _evidence(error.details):
        sys.stderr.write(f"  {plain(line)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {plain(error.hint)}\n")


def _evidence(details: dict[str, Any]) -> list[str]:
    """The details as lines; lists one item a line, at most 25 of them."""
    lines: list[str] = []
    for name, value in details.items():
        if isinstance(value, list | tuple):
            if value:
                lines.append(f"{name.replace('_', ' ')}:")
                lines += [f"  {item}" for item in value[:25]]
                if len(value) > 25:
                    lines.append(f"  and {len(value) - 25} more (all of them with -o json)")
        elif isinstance(value, dict):
            if value:
                lines.append(f"{name.replace('_', ' ')}: " + ", ".join(f"{k}={v}" for k, v in value.items()))
        elif value not in (None, ""):
            lines.append(f"{name.replace('_', ' ')}: {value}")
    return lines
