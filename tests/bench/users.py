"""Reading everybody in a backup with 200,000 people, beside Python's own XML parser that builds one record at a time.

    python tests/bench/users.py [--users 200000] [--rounds 3]

Wanted: under 10 s and under 100 MB, for the reading and for the command in each of its forms.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import large

READ = "import sys; from pathlib import Path; from moodlectl.mbz import read_users\n"
READ += "print(sum(1 for _ in read_users(Path(sys.argv[1]))))"
ELEMENT_TREE = """
import sys, tarfile
from xml.etree.ElementTree import iterparse
with tarfile.open(sys.argv[1], "r|gz") as archive:
    for member in archive:
        if member.name == "users.xml":
            count = 0
            for event, element in iterparse(archive.extractfile(member)):
                if element.tag == "user":
                    record = {name: element.findtext(name) for name in ("username", "email", "firstname", "lastname")}
                    count += 1
                    element.clear()
            print(count)
"""


def main() -> None:
    """Measure, and print the times side by side with their ratio."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--users", type=int, default=200_000)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--directory", type=Path, help="where to make the file")
    asked = words.parse_args()
    with large.scratch(asked.directory) as where:
        file = Path(where, "people.mbz")
        large.make(file, 0, users=asked.users)
        print(f"{asked.users} people, {file.stat().st_size / 1e6:.0f} MB packed")
        theirs, ours = "tarfile and ElementTree.iterparse", "moodlectl.mbz.read_users"
        best = large.compare(
            asked.rounds,
            {
                theirs: [[sys.executable, "-c", ELEMENT_TREE, str(file)]],
                ours: [[sys.executable, "-c", READ, str(file)]],
                **{
                    f"moodlectl -o {form} backup users X": [large.ours("-o", form, "backup", "users", str(file))]
                    for form in ("csv", "json", "table")
                },
            },
        )
        print(f"time beside ElementTree: {best[ours].seconds / best[theirs].seconds:.2f}")
        print(f"reading: {best[ours].seconds:.1f} s (wanted: under 10)")
        most = max(taken.megabytes for name, taken in best.items() if name != theirs)
        slowest = max(taken.seconds for name, taken in best.items() if name != theirs)
        print(f"the command in its slowest form: {slowest:.1f} s (wanted: under 10)")
        print(f"memory: {most:.0f} MB (wanted: under 100)")


if __name__ == "__main__":
    main()
