"""The one door where errors become output: ours with cause and remedy, the unforeseen with a way to report it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import Any

import typer

from moodlectl.cli.output import indented, plain, tell
from moodlectl.errors import MoodlectlError, UsageError

# typer brings its own copy of click since 0.2x and used the installed one before: ask it for the class it raises.
_LineIsWrong: Any = typer.BadParameter.__mro__[2]


def report(error: BaseException, *, as_json: bool) -> int:
    """Print one error on standard error and return its exit status."""
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return _nobody_reads()  # so rich ends a program of its own accord
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt | typer.Abort | EOFError):
        return _interrupted(error, as_json=as_json)
    if isinstance(error, BrokenPipeError):
        return _nobody_reads()
    if isinstance(error, _LineIsWrong):
        if _help_is_the_answer(error) and not as_json:
            tell(error.format_message() + "\n")
        else:
            _print(_usage(error), as_json=as_json)
        return 2
    if isinstance(error, MoodlectlError):
        _print(error, as_json=as_json)
        return error.exit_status
    foreseen = _not_ours(error)
    if foreseen is not None:
        _print(foreseen, as_json=as_json)
        return foreseen.exit_status
    return _unforeseen(error, as_json=as_json)


def _interrupted(error: BaseException, *, as_json: bool) -> int:
    notes = getattr(error, "__notes__", []) or _nothing_begun()
    wanted = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped: no answer was given"
    message = ". ".join([wanted, *(note.removesuffix(".") for note in notes)]) + ("." if notes else "")
    _print(MoodlectlError(message, code="interrupted"), as_json=as_json)
    return 143 if "SIGTERM" in error.args else 129 if "SIGHUP" in error.args else 130


def _nothing_begun() -> list[str]:
    """Every change of a site is a job: where none was begun, that is known. Batches speak for themselves."""
    recording = sys.modules.get("moodlectl.actions.recording")
    return [] if recording is not None and recording.begun else ["Nothing had been begun on a site."]


def _nobody_reads() -> int:
    """Whoever read our output has gone (``| head``): end quietly."""
    silence_output()
    return 0


def settle_output() -> None:
    """Bring out what is still to be printed; where that cannot be, keep Python from complaining at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        silence_output()


def silence_output() -> None:
    """Let what is printed from here on go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test's has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_is_the_answer(error: Any) -> bool:
    """Whether a group of commands was called without one: typer then answers with its help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _usage(error: Any) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "moodlectl"
    message = "A command is missing." if _help_is_the_answer(error) else error.format_message()
    message = message.replace("Value error, ", "")
    return UsageError(message, f"'{path} --help' shows what there is.")


def _not_ours(error: BaseException) -> MoodlectlError | None:
    """What can go wrong between us and whoever started us: no text, nowhere to write, no memory."""
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return UsageError(
            "A word on the command line is not text in this locale's encoding.",
            f"Words are read as {sys.getfilesystemencoding()}; set LC_ALL to a UTF-8 locale, or type it again.",
        )
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        silence_output()
        return MoodlectlError(
            f"The output cannot be written: {error.strerror}.",
            "What was asked of the site may be done all the same; only what was to be printed is lost.",
            code="output",
        )
    return None


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


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
        tell(json.dumps({"error": error.as_dict()}, ensure_ascii=False, default=str) + "\n")
        return
    tell(f"error: {indented(plain(_short(error.message)))}\n")
    for line in _evidence(error.details, f"{error.message} {error.hint or ''}"):
        tell(f"  {indented(plain(_short(line)), 4)}\n")
    if error.hint:
        tell(f"hint: {indented(plain(_short(error.hint)))}\n")


def _short(text: str) -> str:
    """Nobody reads on after so much; -o json has the whole."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 200]} … {text[-150:]}"


_LONGEST = 2000


def _evidence(details: dict[str, Any], told: str) -> list[str]:
    """The details as lines, without what was ``told`` already; lists one item a line, at most 25 of them."""
    lines: list[str] = []
    for name, value in details.items():
        if name == "findings":
            lines += _also(value, told)
            continue
        if name == "dangers" and "findings" in details:
            continue
        if _is_told(value, told):
            continue
        if isinstance(value, list | tuple):
            if value:
                lines.append(f"{name.replace('_', ' ')}:")
                lines += [f"  {item}" for item in value[:25]]
                if len(value) > 25:
                    lines.append(f"  and {len(value) - 25} more (all of them with -o json)")
        elif isinstance(value, dict):
            problems = [one for one in value.values() if isinstance(one, dict) and "message" in one]
            lines += dict.fromkeys(_untold(one, told) for one in problems)
            if value and not problems:
                lines.append(f"{name.replace('_', ' ')}: " + ", ".join(f"{k}={v}" for k, v in value.items()))
        elif value not in (None, ""):
            lines.append(f"{name.replace('_', ' ')}: {value}")
    return [line for line in lines if line]


def _also(findings: Any, told: str) -> list[str]:
    """What else stands against a restore, with its remedy; warnings and notes are for the report of a dry run."""
    stopping = [one for one in findings if one["severity"] in ("forbidden", "danger") and not one.get("accepted")]
    return [_in_words(one) for one in stopping if one["message"] not in told][:25]


def _untold(problem: dict[str, Any], told: str) -> str:
    """A problem, or its remedy alone where it is told already; empty where both are."""
    if problem["message"] not in told:
        return _in_words(problem)
    hint = str(problem.get("hint") or "")
    return "" if hint in told else hint


def _in_words(problem: dict[str, Any]) -> str:
    return f"also: {problem['message']} {problem.get('remedy') or problem.get('hint') or ''}".rstrip()


def _is_told(value: Any, told: str) -> bool:
    if isinstance(value, str):
        return value in told
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) and v in told for v in value)
