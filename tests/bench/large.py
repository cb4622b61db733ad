"""Large backups to measure with, shaped as Moodle writes them, and a stopwatch that also sees memory."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from moodlectl.mbz import open_backup

REAL = Path(__file__).parents[1] / "data" / "mbz" / "course-5.1-tgz-rich-users.mbz"
_PLAIN = [
    *("phone1", "phone2", "institution", "department", "address", "city", "country", "lastip", "picture"),
    *("description", "descriptionformat", "imagealt", "auth", "firstnamephonetic", "lastnamephonetic"),
    *("middlename", "alternatename"),
]
_AFTER = [
    *("confirmed", "policyagreed", "deleted", "lang", "theme", "timezone", "lastaccess", "lastlogin"),
    *("currentlogin", "mailformat", "maildigest", "maildisplay", "autosubscribe", "trackforums"),
    *("timecreated", "timemodified", "trustbitmask"),
]


@dataclass(frozen=True)
class Taken:
    """What one command took: seconds of the clock, of the processor, and its largest memory in MB."""

    seconds: float
    work: float
    megabytes: float


def run(words: list[str], stdout: int = subprocess.DEVNULL) -> Taken:
    """One command to its end, in a process whose children are its own. Raises where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=stdout)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words[0]} failed")
    return Taken(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def ours(*words: str) -> list[str]:
    """The command line of moodlectl."""
    return [sys.executable, "-m", "moodlectl", "--quiet", *words]


def pool(sizes: Iterable[int]) -> Iterable[tuple[str, bytes]]:
    """Contents of a file pool: half of each is random, half is text that packs well."""
    for size in sizes:
        data = os.urandom(size // 2) + b"Lorem ipsum dolor sit amet. " * (size // 56)
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        yield f"files/{digest[:2]}/{digest}", data


def make(path: Path, megabytes: int, *, users: int = 0) -> None:
    """``backup`` in a process of its own: what a child is measured with must not be the maker's memory."""
    maker = multiprocessing.get_context("spawn").Process(target=backup, args=(path, megabytes), kwargs={"users": users})
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit("the backup could not be made")


def backup(path: Path, megabytes: int, *, users: int = 0, piece: int = 4_000_000) -> None:
    """A real course's XML around a pool of that many megabytes (unpacked), and with as many people as asked."""
    with open_backup(REAL) as archive, tarfile.open(path, "w:gz", compresslevel=6, format=tarfile.USTAR_FORMAT) as out:
        xml = {m.name: m.read(1 << 26) for m in archive.members() if m.kind == "file" and m.name != ".ARCHIVE_INDEX"}
        records = []
        for name, data in pool([piece] * (megabytes * 1_000_000 // piece)):
            add(out, name, data)
            records.append(file_record(len(records), name[-40:], len(data)))
        xml["files.xml"] = xml["files.xml"].replace(b"</files>", "".join(records).encode() + b"</files>")
        if users:
            xml["users.xml"] = b"".join(people(users))
        for name, data in xml.items():
            add(out, name, data)


def add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    """One member as Moodle writes it."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), 1_700_000_000
    out.addfile(member, io.BytesIO(data))


def file_record(number: int, digest: str, size: int) -> str:
    """One record of files.xml."""
    return (
        f'  <file id="{9_000_000 + number}">\n    <contenthash>{digest}</contenthash>\n    <contextid>1</contextid>\n'
        f"    <component>course</component>\n    <filearea>legacy</filearea>\n    <itemid>0</itemid>\n"
        f"    <filepath>/</filepath>\n    <filename>{number}.bin</filename>\n    <userid>$@NULL@$</userid>\n"
        f"    <filesize>{size}</filesize>\n    <repositoryid>$@NULL@$</repositoryid>\n"
        f"    <reference>$@NULL@$</reference>\n  </file>\n"
    )


def people(count: int) -> Iterable[bytes]:
    """A users.xml of that many people, piece by piece."""
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n<users>'
    for number in range(1, count + 1):
        fields = [("username", f"student{number}"), ("idnumber", f"S{number}"), ("email", f"s{number}@example.org")]
        fields += [(name, "") for name in _PLAIN]
        fields += [("firstname", "Ngọc &amp; Co"), ("lastname", f"Nguyễn {number}")]
        fields += [(name, "0") for name in _AFTER] + [("firstaccess", str(1_700_000_000 + number))]
        plain = "".join(f"\n    <{name}>{value}</{name}>" for name, value in fields)
        liked = "".join(
            f'\n      <preference id="{number * 3 + one}">\n        <name>preference{one}</name>\n'
            "        <value>1</value>\n      </preference>"
            for one in range(3)
        )
        yield (
            f'\n  <user id="{number}" contextid="{number + 5}">{plain}\n    <custom_fields>\n    </custom_fields>\n'
            f"    <tags>\n    </tags>\n    <preferences>{liked}\n    </preferences>\n    <roles>\n"
            "      <role_overrides>\n      </role_overrides>\n      <role_assignments>\n      </role_assignments>\n"
            "    </roles>\n  </user>"
        ).encode()
    yield b"\n</users>"


def scratch(directory: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder for the large files, gone at the end."""
    return tempfile.TemporaryDirectory(prefix="moodlectl-bench-", dir=directory)


def compare(rounds: int, commands: dict[str, list[list[str]]]) -> dict[str, Taken]:
    """The best of several rounds for each, turn about, so that what else the machine does hits all alike."""
    best: dict[str, Taken] = {}
    for _ in range(rounds):
        for name, steps in commands.items():
            taken = [run(words) for words in steps]
            seconds, work = sum(one.seconds for one in taken), sum(one.work for one in taken)
            total = Taken(seconds, work, max(one.megabytes for one in taken))
            if name not in best or total.seconds < best[name].seconds:
                best[name] = total
    for name, taken_best in best.items():
        spent = f"{taken_best.seconds:8.2f} s  (processor {taken_best.work:6.2f} s)"
        print(f"{name:40} {spent}  {taken_best.megabytes:6.0f} MB")
    return best
