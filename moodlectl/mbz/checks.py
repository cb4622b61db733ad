"""``verify``: is a backup file whole and true to itself, down to the last byte."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moodlectl.errors import Refused
from moodlectl.mbz.archive import INDEX, MANIFEST, Archive, Member, ProgressBytes, open_backup
from moodlectl.mbz.archiveindex import ArchiveIndex
from moodlectl.mbz.foreign import ForeignReader
from moodlectl.mbz.information import Information, nest, read_information
from moodlectl.mbz.people import USERS, people_of
from moodlectl.mbz.seen import Seen
from moodlectl.mbz.sniff import sniff
from moodlectl.mbz.tally import POOL
from moodlectl.mbz.text import printable
from moodlectl.mbz.xmlstream import RecordReader, XmlReader

LOG = "moodle_backup.log"
_LAYOUT = re.compile(
    r"[a-z][a-z0-9_]*\.xml|course/(?:[a-z0-9_]+/)*[a-z0-9_]+\.xml"
    r"|(?P<item>(?:activities|sections)/[a-z][a-z0-9_]*_[0-9]+)/(?:[a-z0-9_]+/)*[a-z0-9_]+\.xml"
)
_FILE_FIELDS = frozenset({"contenthash", "filename", "filesize", "repositoryid", "reference"})
_SHA1 = re.compile(r"[0-9a-f]{40}")
# What one member may have wrong without making the rest of the archive unreadable.
_OF_ONE_MEMBER = frozenset({"bad_xml", "hostile_entity", "hostile_xml", "hostile_encoding"})


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a backup: a stable ``code``, the member it is about, and a safe sentence."""

    code: str
    message: str
    member: str | None = None

    def __str__(self) -> str:
        return self.message

    def as_dict(self) -> dict[str, Any]:
        """The problem as JSON has it."""
        return {"code": self.code, "message": self.message, "member": self.member}


@dataclass(frozen=True)
class VerifyReport:
    """What ``verify`` found. ``bytes_checked`` counts unpacked bytes; ``sha1`` is that of the file itself."""

    path: Path
    ok: bool
    problems: tuple[Problem, ...]
    files_checked: int
    bytes_checked: int
    sha1: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``backup verify``."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "problems": [problem.as_dict() for problem in self.problems],
            "files_checked": self.files_checked,
            "bytes_checked": self.bytes_checked,
            "sha1": self.sha1,
        }


def verify(path: Path, progress: ProgressBytes | None = None) -> VerifyReport:
    """Whether a backup is whole: checksums, contents against their names and files.xml, XML, manifest, index.

    Reads only, in one pass and near constant memory. What is wrong is listed in the report, also where the
    file is cut short, hostile or no backup at all. Raises NotFound, and Refused ``unreadable``.
    """
    path = Path(path)
    sha1 = hashlib.sha1(usedforsecurity=False)
    check = _Check()
    whole = False
    try:
        sniff(path)
        with open_backup(path, progress=progress, tap=sha1.update) as archive:
            check.run(archive)
            whole = archive.container == "tgz"
    except Refused as refused:
        if refused.code == "unreadable":
            raise
        check.stopped(refused)
    digest = sha1.hexdigest() if whole else _sha1(path)
    return VerifyReport(path, not check.problems, check.listed(), check.files, check.size, digest)


VERIFIED: Seen[VerifyReport] = Seen()
"""What was found of files that are looked through on several ways to one deed."""


def verified(path: Path, progress: ProgressBytes | None = None) -> VerifyReport:
    """``verify``, or what it has said of this very file a moment ago. Reads only."""
    return replace(VERIFIED.ask(path, lambda: verify(path, progress), progress=progress), path=path)


@dataclass
class _Check:
    """The running check of one archive."""

    problems: list[Problem] = field(default_factory=list)
    files: int = 0
    size: int = 0
    _more: int = 0
    _information: Information | None = None
    _index: ArchiveIndex | None = None
    _foreign: ForeignReader = field(default_factory=ForeignReader)
    # Contents by their raw sha1, with their size: what the pool has, and what files.xml names.
    _pool: dict[bytes, int] = field(default_factory=dict)
    _named: dict[bytes, tuple[int, bool]] = field(default_factory=dict)
    _directories: set[str] = field(default_factory=set)
    _strange: list[str] = field(default_factory=list)

    def run(self, archive: Archive) -> None:
        """Checks every member, then what they say about one another.

        Raises Refused where reading must stop.
        """
        for member in archive.members():
            if self._index and member.name != INDEX:
                self._compare_index(member)
            if member.kind == "dir":
                _read_through(member)  # a zip says of a folder, too, where it is
                continue
            self.files += 1
            self.size += member.size
            try:
                self._member(member)
            except Refused as refused:
                if archive.container == "tgz" and refused.code not in _OF_ONE_MEMBER:
                    raise
                self.add(refused.code, refused.message, member.name)
        for remark in archive.remarks:
            self.add("container", remark)
        if self._index and (words := self._index.end()):
            self.add("index", words)
        self._conclude(archive)

    def add(self, code: str, message: str, member: str | None = None) -> None:
        """Notes a problem; after some hundreds only their number."""
        if len(self.problems) < 200:
            self.problems.append(Problem(code, printable(message), printable(member) if member else None))
        else:
            self._more += 1

    def stopped(self, refused: Refused) -> None:
        """Notes, before all else, why reading could not go on."""
        self.problems.insert(0, Problem(refused.code, printable(refused.message)))

    def listed(self) -> tuple[Problem, ...]:
        """The problems, the last one saying how many more there are."""
        more = [Problem("more", f"... and {self._more} more problems.")] if self._more else []
        return (*self.problems, *more)

    def _member(self, member: Member) -> None:
        name = member.name
        if pooled := POOL.fullmatch(name):
            self._content(member, pooled[1], pooled[2])
        elif name == MANIFEST:
            self._information = read_information(member)
        elif name == "files.xml":
            member.parse(RecordReader(name, 2, frozenset({"file"}), _FILE_FIELDS, self._file))
        elif name == USERS:
            for _ in people_of(member):
                pass
        elif name == INDEX:
            self._index = ArchiveIndex(member)
        elif self._foreign.see(member):
            pass
        elif layout := _LAYOUT.fullmatch(name):
            if layout["item"] and len(self._directories) < 200_000:
                self._directories.add(layout["item"])
            if not member.lacks():
                member.parse(XmlReader(name))
        else:
            if name != LOG and len(self._strange) < 200:
                self._strange.append(name)
            _read_through(member)

    def _content(self, member: Member, folder: str, name: str) -> None:
        """A file of the pool against its own name, which is its sha1."""
        sha1 = hashlib.sha1(usedforsecurity=False)
        for chunk in member.chunks():
            sha1.update(chunk)
        if sha1.hexdigest() != name:
            self.add("content", f"{member.name} holds something else than its name says.", member.name)
        if not name.startswith(folder):
            self.add("content", f"{member.name} lies in the wrong folder.", member.name)
        self._pool[bytes.fromhex(name)] = member.size

    def _file(self, _: str, record: Mapping[str, str]) -> None:
        """A record of files.xml: which content must be there, and how large."""
        filename, size = record.get("filename"), record.get("filesize", "")
        if filename == ".":
            return
        contenthash = record.get("contenthash", "")
        if not _SHA1.fullmatch(contenthash) or not size.isdecimal() or len(size) > 18:
            self.add(
                "files_xml", f"files.xml has a record without contenthash or size: {filename}", "files.xml"
            )
            return
        key = bytes.fromhex(contenthash)
        # The content of a file kept elsewhere need not be in the backup.
        needed = int(size) > 0 and not (record.get("repositoryid") or record.get("reference"))
        known = self._named.get(key)
        if known and known[0] != int(size):
            self.add("files_xml", f"files.xml gives two sizes for the content {contenthash}.", "files.xml")
        self._named[key] = (int(size), needed or bool(known and known[1]))

    def _compare_index(self, member: Member) -> None:
        if self._index and (words := self._index.compare(member)):
            self.add("index", words, member.name)

    def _conclude(self, archive: Archive) -> None:
        """What the members say about one another, once all have gone by."""
        if self._foreign.found is not None and self._information is None:
            return
        for name in self._strange:
            self.add("unexpected", f"{name} is nothing Moodle writes into a backup.", name)
        if archive.has(MANIFEST) and self._information is None:
            return  # Its own problem is listed already: it is a file, and could not be read.
        if self._information is None:
            self.add("not_a_backup", f"This is an archive, but no Moodle backup: it has no {MANIFEST}.")
            return
        self._manifest(archive, self._information)
        self._contents(self._information.fields.get("include_files", "1") == "1")

    def _manifest(self, archive: Archive, information: Information) -> None:
        """Everything the manifest names is there, and no item that it does not name."""
        try:
            nest(information, {})
        except Refused as refused:
            self.add(refused.code, refused.message, MANIFEST)
        # What Moodle writes whatever the settings are (backup_final_task, backup_activity_task, 3.9 to 5.1).
        expected = ["files.xml", "roles.xml", "scales.xml", "outcomes.xml", "questions.xml"]
        if information.root_settings().get("users"):
            expected.append("users.xml")
        if information.course:
            expected += ["course/course.xml", "course/inforef.xml", "course/roles.xml"]
        directories = set()
        for item in information.activities:
            directory, module = item.get("directory", ""), item.get("modulename", "")
            directories.add(directory)
            expected += [f"{directory}/{name}.xml" for name in ("module", module, "inforef", "roles", "grades")]
        for item in information.sections:
            directory = item.get("directory", "")
            directories.add(directory)
            expected += [f"{directory}/section.xml", f"{directory}/inforef.xml"]
        for name in expected:
            if not archive.has(name):
                self.add("missing", f"{name} is not in the backup, and the manifest says it is.", name)
        for directory in sorted(self._directories - directories):
            self.add(
                "unexpected", f"{directory} is in the backup, and the manifest does not name it.", directory
            )

    def _contents(self, include_files: bool) -> None:
        """The pool against files.xml."""
        for key, size in self._pool.items():
            named = self._named.get(key)
            if named is None:
                self.add(
                    "unclaimed", f"The content {key.hex()} is in the backup, and files.xml does not name it."
                )
            elif named[0] != size:
                self.add("size", f"The content {key.hex()} has {size} bytes, and files.xml says {named[0]}.")
        if include_files:
            for key, (_, needed) in self._named.items():
                if needed and key not in self._pool:
                    self.add(
                        "missing", f"The content {key.hex()} is not in the backup, and files.xml names it."
                    )


def _read_through(member: Member) -> None:
    for _ in member.chunks():
        pass


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
