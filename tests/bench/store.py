"""What many nights of one course cost in a store, measured against keeping each night's file.

    python tests/bench/store.py [MEGABYTES [NIGHTS [PERCENT]]]        a course of 1000 MB, 20 nights, 1 % of it changes

Each night's backup is made, taken in, and thrown away. Prints, as ratios to the first night alone: the bytes that all
nights take, the seconds of a later night, and the peak of memory; then what export, verify and prune take.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from large import REAL, Taken, add, file_record, ours, run, scratch

from moodlectl.mbz import open_backup

PIECE = 1_000_000
MOSTLY_FILM = 0.9  # so much of each content is random, as films and pictures are; the rest packs


class Course:
    """A course's files, of which some are replaced every night."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.names = folder, list[str]()
        for _ in range(count):
            self.names.append(self._content())

    def night(self, percent: float) -> None:
        """Some of the files get another content."""
        for number in range(max(1, round(len(self.names) * percent / 100))):
            at = (number * 7919 + len(self.names) // 3) % len(self.names)
            (self.folder / self.names[at]).unlink()
            self.names[at] = self._content()

    def _content(self) -> str:
        data = os.urandom(int(PIECE * MOSTLY_FILM))
        data += b"Lorem ipsum. " * ((PIECE - len(data)) // 13)
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        (self.folder / name).write_bytes(data)
        return name

    def backup(self, path: Path, night: int) -> None:
        """The night's backup, as Moodle would write it."""
        with open_backup(REAL) as archive:
            xml = {m.name: m.read(1 << 26) for m in archive.members() if m.kind == "file" and not m.name.startswith(".")}
        xml = {name: data for name, data in xml.items() if not name.startswith("files/")}
        sizes = {name: (self.folder / name).stat().st_size for name in self.names}
        records = "".join(file_record(n, name, sizes[name]) for n, name in enumerate(self.names))
        xml["files.xml"] = f'<?xml version="1.0" encoding="UTF-8"?>\n<files>\n{records}</files>'.encode()
        date = f"<backup_date>{1_790_000_000 + night * 86_400}<".encode()
        xml["moodle_backup.xml"] = re.sub(rb"<backup_date>\d+<", date, xml["moodle_backup.xml"])
        with _packing(path) as packed, tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as out:
            for name in sorted(set(self.names)):
                add(out, f"files/{name[:2]}/{name}", (self.folder / name).read_bytes())
            for name, data in xml.items():
                add(out, name, data)


def _packing(path: Path) -> BinaryIO:
    try:
        from isal import igzip
    except ImportError:
        return gzip.open(path, "wb", compresslevel=1)  # type: ignore[return-value]
    return igzip.open(path, "wb", compresslevel=1)  # type: ignore[no-any-return]


def told(*words: str) -> Any:
    """What the command prints as JSON."""
    return json.loads(subprocess.run(ours("-o", "json", *words), check=True, capture_output=True).stdout)


def main(megabytes: int, nights: int, percent: float) -> None:
    """Run it in a temporary folder, which needs room for some three times the course."""
    with scratch(None) as name:
        folder = Path(name)
        os.environ |= {"MOODLECTL_STORE": str(folder / "store"), "MOODLECTL_STATE": str(folder / "state")}
        (folder / "files").mkdir()
        course = Course(folder / "files", megabytes * 1_000_000 // PIECE)
        path, files, taken = folder / "night.mbz", 0, list[Taken]()
        first_used = 0
        for night in range(nights):
            if night:
                course.night(percent)
            course.backup(path, night)
            files += path.stat().st_size
            taken.append(run(ours("store", "add", str(path))))
            path.unlink()
            first_used = first_used or told("store", "show")["used"]
        used = told("store", "show")["used"]
        later = taken[1:] or taken
        print(f"{nights} nights of a course of {megabytes} MB, of which {percent} % change")
        print(f"as files            {files / 1e6:10.0f} MB   {files / first_used:6.2f} × the first night's store")
        print(f"in the store        {used / 1e6:10.0f} MB   {used / first_used:6.2f} × the first night's store")
        print(f"store to files                        {used / files:6.3f}")
        _print("first night", taken[0], taken[0])
        work = sorted(later, key=lambda one: one.work)[len(later) // 2]
        _print("a later night", work, taken[0])
        for words in (["store", "verify"], ["store", "export", "rich1", "--file", str(folder / "out.mbz")]):
            _print(" ".join(words[:2]), run(ours(*words)), taken[0])
        (folder / "out.mbz").unlink()
        _print("store prune", run([*ours("--yes"), "store", "prune", "--keep-last", "1", "--keep-within", "1h"]), taken[0])
        left = told("store", "show")
        print(f"after pruning to 1  {left['used'] / 1e6:10.0f} MB   {left['used'] / first_used:6.2f} × the first night's store")


def _print(what: str, one: Taken, first: Taken) -> None:
    ratio = one.seconds / first.seconds
    print(f"{what:18} {one.seconds:8.2f} s  (processor {one.work:6.2f} s)  {one.megabytes:5.0f} MB   {ratio:6.2f} × the first")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 1000, int(given[1]) if given[1:] else 20, float(given[2]) if given[2:] else 1.0)
