"""How long the command takes to start, beside an empty Python: ``python tests/bench/startup.py``.

Prints medians and the ratio to ``python -c pass`` of the same interpreter, run in turn so that a slow moment of the
machine hits both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "moodlectl --version": [sys.executable, "-m", "moodlectl", "--version"],
    "moodlectl --help": [sys.executable, "-m", "moodlectl", "--help"],
    "moodlectl restore --help": [sys.executable, "-m", "moodlectl", "restore", "--help"],
}


def seconds(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, argv in COMMANDS.items():
            times[name].append(seconds(argv))
    empty = statistics.median(times["python -c pass"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:<28} {median:6.3f} s   {median / empty:5.1f} × an empty Python")


if __name__ == "__main__":
    main()
