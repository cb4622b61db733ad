"""``backup inspect`` of a large tgz beside ``tar -xzO -f X moodle_backup.xml``, which only shows one file of it.

    python tests/bench/inspecting.py [--megabytes 1500] [--rounds 3] [FILE]

Wanted: at most half the time, under 80 MB of memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import large


def main() -> None:
    """Measure, and print the times side by side with their ratio."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--megabytes", type=int, default=1500, help="of the file pool, unpacked")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--directory", type=Path, help="where to make the file")
    words.add_argument("file", nargs="?", type=Path)
    asked = words.parse_args()
    with large.scratch(asked.directory) as where:
        file = asked.file or Path(where, "large.mbz")
        if not asked.file:
            large.make(file, asked.megabytes)
        print(f"{file.stat().st_size / 1e6:.0f} MB")
        tar, ours = "tar -xzO -f X moodle_backup.xml", "moodlectl backup inspect X"
        best = large.compare(
            asked.rounds,
            {
                tar: [["tar", "-xzO", "-f", str(file), "moodle_backup.xml"]],
                ours: [large.ours("-o", "json", "backup", "inspect", str(file))],
            },
        )
        print(f"time beside tar: {best[ours].seconds / best[tar].seconds:.2f} (wanted: 0.50 or less)")
        print(f"memory: {best[ours].megabytes:.0f} MB (wanted: under 80)")


if __name__ == "__main__":
    main()
