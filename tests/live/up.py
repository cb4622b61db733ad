"""Start private Moodle sites for use by hand: ``python tests/live/up.py [--db pgsql|mariadb] [DIR...]``.

Prints one JSON document with the facts of every site when all are ready, stays in the foreground, and takes
everything away on Ctrl-C (or SIGTERM).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import rig  # noqa: E402
from servers import RigProblem  # noqa: E402


def main() -> int:
    """Start the sites, say where they are, wait for Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", choices=["pgsql", "mariadb"], default="pgsql")
    parser.add_argument("--size", default=os.environ.get("MOODLE_SIZE", "XS"), help="of the generated course")
    parser.add_argument("--json", type=Path, help="write the facts to this file too")
    parser.add_argument("dirs", nargs="*", type=Path, help="Moodle source directories (default: MOODLE_DIRS)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sources = [path.resolve() for path in options.dirs] or rig.source_dirs()
    if not sources:
        print("No Moodle: name a source directory, or set MOODLE_DIRS.", file=sys.stderr)
        return 2
    try:
        sites = rig.start_sites([(source, options.db) for source in sources], size=options.size)
    except RigProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    text = json.dumps([site.facts() for site in sites], indent=1)
    if options.json:
        options.json.touch(0o600)
        options.json.write_text(text + "\n")
    print(text, flush=True)
    print("Running; Ctrl-C ends it and removes everything.", file=sys.stderr, flush=True)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        sites[0].machine.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
