"""Where the command starts. ``--version`` is answered here, before anything heavy is imported."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line and end the process with the exit status of the contract."""
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        from moodlectl.version import __version__

        try:
            sys.stdout.write(f"moodlectl {__version__}\n")
            sys.stdout.flush()
            raise SystemExit(0)
        except OSError:
            os._exit(1)  # nobody can be told; Python's own ending would complain at length
    _mend_streams()
    try:
        from moodlectl.cli import main as run
    except KeyboardInterrupt:  # so early that nobody else could say it
        os.write(2, b"error: interrupted. Nothing had been begun on a site.\n")
        os._exit(130)

    raise SystemExit(run(sys.argv[1:]))


def _mend_streams() -> None:
    """Let nothing fail for what it is started with: closed streams, or a locale that lacks a course's letters.

    A closed descriptor would be given to the next file or connection that is opened, which would then be written to.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
