"""Where the command starts. ``--version`` is answered here, before anything heavy is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with the exit status of the contract."""
    if sys.argv[1:] == ["--version"]:
        from moodlectl.version import __version__

        sys.stdout.write(f"moodlectl {__version__}\n")
        raise SystemExit(0)
    from moodlectl.cli import main as run

    raise SystemExit(run(sys.argv[1:]))
