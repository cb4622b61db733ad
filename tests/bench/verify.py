"""``backup verify`` of a large tgz beside what a person would do by hand: ``gzip -t``, and ``sha1sum`` of the pool.

    python tests/bench/verify.py [--megabytes 1500] [--rounds 3]

Wanted: within 1.3 times the two together. The pool lies unpacked already for sha1sum; unpacking it is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import large


def main() -> None:
    """Measure, and print the times side by side with their ratio."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--megabytes", type=int, default=1500, help="of the file pool, unpacked")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--directory", type=Path, help="where to make the file")
    asked = words.parse_args()
    with large.scratch(asked.directory) as where:
        file, unpacked = Path(where, "large.mbz"), Path(where, "unpacked")
        large.make(file, asked.megabytes)
        unpacked.mkdir()
        subprocess.run(["tar", "-xzf", str(file), "-C", str(unpacked), "files"], check=True)
        contents = [str(path) for path in sorted(unpacked.rglob("*")) if path.is_file()]
        print(f"{file.stat().st_size / 1e6:.0f} MB, {len(contents)} files in the pool")
        by_hand, ours = "gzip -t X, sha1sum of the pool", "moodlectl backup verify X"
        best = large.compare(
            asked.rounds,
            {
                by_hand: [["gzip", "-t", str(file)], ["sha1sum", *contents]],
                ours: [large.ours("-o", "json", "backup", "verify", str(file))],
            },
        )
        print(f"time beside both: {best[ours].seconds / best[by_hand].seconds:.2f} (wanted: 1.30 or less)")
        print(f"memory: {best[ours].megabytes:.0f} MB")


if __name__ == "__main__":
    main()
