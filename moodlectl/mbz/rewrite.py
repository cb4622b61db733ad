"""``rewrite``: a backup with its people mapped, left out or made nobody, written as a new file.

Three readings and a check: who is in it and what hangs on them; the changed documents, into a temporary file; the
new archive, all else copied as it is; and ``verify`` on the result, before it gets its name. Memory does not grow
with the backup.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from moodlectl.errors import Failed, Refused, UsageError
from moodlectl.mbz.archive import INDEX, MANIFEST, Archive, Member, ProgressBytes, open_backup
from moodlectl.mbz.checks import LOG, VERIFIED, verify
from moodlectl.mbz.information import Information, read_information
from moodlectl.mbz.people import USERS, read_users
from moodlectl.mbz.rewriterules import FORGOTTEN_URL, Plan, RecordRules, rules_for
from moodlectl.mbz.rewritexml import XmlEditor
from moodlectl.mbz.seen import identity
from moodlectl.mbz.tally import POOL
from moodlectl.mbz.text import printable
from moodlectl.mbz.usermap import Account, Mapped, UserMap, resolve
from moodlectl.mbz.writer import BackupWriter, Item, TgzWriter, ZipWriter

_CHUNK = 256 * 1024
_FORGOTTEN_HASH = "0" * 32


@dataclass(frozen=True)
class Target:
    """The site a backup goes to; ``identifier_hash`` is the md5 of its identifier, None where it is not known."""

    url: str
    identifier_hash: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What is to be done to a backup: any of these together."""

    user_map: UserMap | None = None
    target: Target | None = None
    anonymize: bool = False
    forget_site: bool = False
    without_users: bool = False


@dataclass(frozen=True)
class Leftover:
    """Something that could not be known to be harmless: where it is, what it is, and how many of them."""

    where: str
    what: str
    count: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"where": self.where, "what": self.what, "count": self.count}


@dataclass(frozen=True)
class RewriteReport:
    """What was changed. ``mapped`` are old and new usernames, ``left_out`` usernames, ``stand_ins`` those of them
    whose contributions stay under an account of nobody; ``changed`` counts by kind; ``leftovers`` could not be
    known to be harmless."""

    path: Path
    output: Path
    size: int
    sha1: str
    mapped: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    changed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    leftovers: tuple[Leftover, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``backup rewrite``."""
        return {
            "path": str(self.path),
            "output": str(self.output),
            "size": self.size,
            "sha1": self.sha1,
            "mapped": [{"old": old, "new": new} for old, new in self.mapped],
            "left_out": list(self.left_out),
            "stand_ins": list(self.stand_ins),
            "changed": dict(self.changed),
            "notes": list(self.notes),
            "leftovers": [leftover.as_dict() for leftover in self.leftovers],
        }


def rewrite(
    path: Path,
    output: Path,
    wanted: Wanted,
    *,
    overwrite: bool = False,
    progress: ProgressBytes | None = None,
) -> RewriteReport:
    """Writes a changed copy of a backup to ``output``, of the same kind (tgz or zip), which verifies clean.

    The original is only read. ``output`` appears whole or not at all. Raises UsageError where the map does not fit,
    NotFound, Refused where the backup is hostile, not whole, or ``output`` is there already.
    """
    path, output = Path(path), Path(output)
    _check_words(path, output, wanted, overwrite)
    step = _Steps(progress, path)
    information = _manifest(path)
    mapped = resolve(wanted.user_map, read_users(path)) if wanted.user_map else []
    plan = _plan(wanted, information, mapped)
    _survey(path, plan, step)
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            _write(path, file, plan, information, step)
        report = verify(part, step.next())
        if not report.ok:
            raise _not_whole(path, [problem.message for problem in report.problems])
        os.replace(part, output)  # noqa: PTH105
        VERIFIED.remember(identity(output), report)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return _told(
        RewriteReport(path, output, output.stat().st_size, report.sha1), wanted, plan, mapped, information
    )


def concerns(path: Path, wanted: Wanted) -> bool:
    """Whether ``rewrite`` would change anything: whether the map means anybody in the backup. Reads only.

    Raises UsageError where the map does not fit, NotFound, Refused.
    """
    if wanted.anonymize or wanted.forget_site or wanted.without_users or wanted.user_map is None:
        return True
    return bool(resolve(wanted.user_map, read_users(path)))


def _check_words(path: Path, output: Path, wanted: Wanted, overwrite: bool) -> None:
    entries = wanted.user_map.entries if wanted.user_map else ()
    if not (entries or wanted.anonymize or wanted.forget_site or wanted.without_users):
        hint = "Say --user-map, --map, --anonymize, --forget-site or --without-users."
        raise UsageError("Nothing is to be changed.", hint)
    if wanted.without_users and (entries or wanted.anonymize):
        raise UsageError("Without users there is nobody to map or to make anonymous.")
    if wanted.anonymize and any(entry.new is not None for entry in entries):
        hint = "Map the original, or leave people out."
        raise UsageError("A file that names no person cannot be mapped to accounts.", hint)
    if output.exists() and path.exists() and output.samefile(path):
        raise UsageError("The new file cannot be the old one.", "Name another --output.")
    if output.exists() and not overwrite:
        raise Refused(f"{printable(str(output))} is there already.", "Name another, or say --overwrite.", code="exists")
    if not output.parent.is_dir():
        raise UsageError(f"There is no folder {printable(str(output.parent))}.")


def _manifest(path: Path) -> Information:
    with open_backup(path) as archive:
        for member in archive.members():
            if member.name == MANIFEST and member.kind == "file":
                information = read_information(member)
                break
        else:
            raise Refused(
                f"This is an archive, but no Moodle backup: it has no {MANIFEST}.",
                "Name a backup that Moodle wrote.",
                code="not_a_backup",
            )
    return information


def _plan(wanted: Wanted, information: Information, mapped: list[Mapped]) -> Plan:
    fields = information.fields
    site_hash, url = fields.get("original_site_identifier_hash", ""), fields.get("original_wwwroot", "")
    plan = Plan(
        changes={each.person.id: _changes(each.account) for each in mapped if each.account},
        gone=frozenset(each.person.id for each in mapped if each.account is None),
        everybody=wanted.without_users,
        anonymize=wanted.anonymize,
        forget=wanted.forget_site,
        site_hash=site_hash or url,
        salt=secrets.token_bytes(16),
    )
    if wanted.forget_site:
        plan.new_hash, plan.new_url = _FORGOTTEN_HASH, FORGOTTEN_URL
    elif _is_home(wanted.target, site_hash, url) and any(_moved(each) for each in mapped):
        # On its own site Moodle goes by ids first, and refuses a username that has another one (rule 1E). A file
        # from elsewhere goes by username and email.
        plan.new_hash = _FORGOTTEN_HASH
    return plan


def _changes(account: Account) -> dict[str, str]:
    """What makes Moodle match that account: username, and email or first access (restore_dbops, rule 2A1)."""
    fields = {"username": account.username, "mnethosturl": "", "deleted": "0"}
    if account.email:
        fields["email"] = account.email
    if account.firstaccess:
        fields["firstaccess"] = str(account.firstaccess)
    return fields


def _is_home(target: Target | None, site_hash: str, url: str) -> bool:
    if target is None:
        return False
    if target.identifier_hash and site_hash:
        return target.identifier_hash == site_hash
    return target.url.rstrip("/") == url.rstrip("/")


def _moved(mapped: Mapped) -> bool:
    return mapped.account is not None and mapped.account.id not in (None, mapped.person.id)


def _survey(path: Path, plan: Plan, step: _Steps) -> None:
    """Finds out which people left out need a nobody in their place, and which contents nobody needs any more."""
    if not (plan.leaves_out or plan.anonymize):
        step.next()
        return
    with open_backup(path, progress=step.next()) as archive:
        for member in archive.members():
            rules = rules_for(member.name, plan)
            if member.kind == "file" and (
                (plan.gone and isinstance(rules, RecordRules)) or member.name == "files.xml"
            ):
                member.parse(XmlEditor(member.name, rules, None)) if rules else None
    # What was counted was a rehearsal.
    plan.done.clear()
    plan.texts.clear()
    plan.unneeded = frozenset(plan.dropped_contents - plan.kept_contents)


def _write(path: Path, file: BinaryIO, plan: Plan, information: Information, step: _Steps) -> None:
    """Writes the changed documents aside, which tells their sizes, and then the archive."""
    url = information.fields.get("original_wwwroot", "")
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as aside:
        with open_backup(path, progress=step.next()) as archive:
            items, places = _set_aside(archive, plan, _Forget(url) if plan.forget else None, aside)
        with open_backup(path, progress=step.next()) as archive:
            writer: BackupWriter = TgzWriter(file, items) if archive.container == "tgz" else ZipWriter(file)
            _copy(archive, writer, items, _Aside(aside, places))
            writer.close()
    file.flush()
    os.fsync(file.fileno())


def _set_aside(
    archive: Archive, plan: Plan, forget: _Forget | None, aside: BinaryIO
) -> tuple[list[Item], dict[str, int]]:
    items: list[Item] = []
    places: dict[str, int] = {}
    for member in archive.members():
        if not _stays(member, plan):
            continue
        size = member.size
        if member.kind == "file" and not POOL.fullmatch(member.name):
            rules = rules_for(member.name, plan)
            if rules or (forget and member.name.endswith(".xml")):
                places[member.name] = aside.tell()
                sink = forget.into(aside.write) if forget else aside.write
                if rules:
                    member.parse(XmlEditor(member.name, rules, sink))
                else:
                    for chunk in member.chunks():
                        sink(bytes(chunk))
                if forget:
                    plan.done["addresses"] += forget.end()
                size = aside.tell() - places[member.name]
        items.append(Item(member.name, size, member.kind))
    return items, places


def _stays(member: Member, plan: Plan) -> bool:
    if member.name == INDEX:
        return False
    if pooled := POOL.fullmatch(member.name):
        return bytes.fromhex(pooled[2]) not in plan.unneeded
    if member.name == USERS:
        return not plan.everybody
    # Moodle's log of the backup, which no restore reads.
    return member.name != LOG or not (plan.anonymize or plan.forget or plan.everybody)


@dataclass
class _Aside:
    """The changed documents, by name."""

    file: BinaryIO
    places: dict[str, int]

    def chunks(self, item: Item) -> Iterator[bytes]:
        """One of them."""
        self.file.seek(self.places[item.name])
        left = item.size
        while left and (data := self.file.read(min(left, _CHUNK))):
            left -= len(data)
            yield data


def _copy(archive: Archive, writer: BackupWriter, items: Iterable[Item], aside: _Aside) -> None:
    waiting = iter(items)
    item = next(waiting, None)
    for member in archive.members():
        if item is None or member.name != item.name:
            continue
        writer.add(item, aside.chunks(item) if item.name in aside.places else _content(member))
        item = next(waiting, None)
    if item is not None:
        raise Failed("The backup was changed while it was read.", "Try again.", code="file_changed")


def _content(member: Member) -> Iterable[bytes | memoryview]:
    return member.chunks() if member.kind == "file" else ()


class _Forget:
    """Replaces a site's address wherever it stands in texts, also across pieces, also as JSON writes it."""

    def __init__(self, url: str) -> None:
        plain = re.sub(r"^https?://", "", url.rstrip("/"))
        self._count = 0
        self._tail = b""
        self._sink: Callable[[bytes], object] = bytes
        self._pattern: re.Pattern[bytes] | None = None
        if plain:
            slash = rb"(?:\\?/)"
            site = slash.join(re.escape(part.encode()) for part in plain.split("/"))
            # Not where the name only begins like it: example.org is not example.organic.
            self._pattern = re.compile(rb"(?i)(?:https?:)?" + slash * 2 + site + rb"(?![a-z0-9-]|\.[a-z0-9]|:[0-9])")
        self._keep = 2 * len(plain) + 16

    def into(self, sink: Callable[[bytes], object]) -> Callable[[bytes], object]:
        """What replaces on the way into ``sink``."""
        self._sink, self._tail, self._count = sink, b"", 0
        return self._feed

    def end(self) -> int:
        """The document is over: how many addresses there were."""
        self._send(self._tail, len(self._tail))
        self._tail = b""
        return self._count

    def _feed(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) > self._keep + _CHUNK:
            self._tail = self._send(self._tail, len(self._tail) - self._keep)

    def _send(self, data: bytes, most: int) -> bytes:
        """Sends what begins before ``most``; returns the rest."""
        at = 0
        for found in self._pattern.finditer(data) if self._pattern else ():
            if found.start() >= most:
                break
            self._sink(data[at : found.start()])
            self._sink(FORGOTTEN_URL.replace("/", "\\/").encode() if b"\\" in found[0] else FORGOTTEN_URL.encode())
            self._count += 1
            at = found.end()
        end = max(at, most)
        self._sink(data[at:end])
        return data[end:]


@dataclass
class _Steps:
    """One progress over four readings, each taken as long as the file is large."""

    progress: ProgressBytes | None
    path: Path
    _step: int = -1

    def next(self) -> ProgressBytes | None:
        """The progress of the next reading."""
        self._step += 1
        tell, step = self.progress, self._step
        if tell is None:
            return None

        def told(done: int, total: int) -> None:
            # The new file is a little smaller or larger than the old one.
            share = done / total if total else 1.0
            tell(int((step + share) * 1000), 4000)

        return told


def _not_whole(path: Path, problems: list[str]) -> Refused:
    return Refused(
        f"{printable(path.name)} cannot be rewritten into a whole backup: {problems[0]}",
        f"See what is wrong with it: moodlectl backup verify {printable(str(path))}",
        code="not_whole",
        details={"problems": problems[:20]},
    )


def _told(
    report: RewriteReport, wanted: Wanted, plan: Plan, mapped: list[Mapped], information: Information
) -> RewriteReport:
    from dataclasses import replace

    gone = [each.person for each in mapped if each.account is None]
    return replace(
        report,
        mapped=tuple((each.person.username, each.account.username) for each in mapped if each.account),
        left_out=tuple(person.username for person in gone),
        stand_ins=tuple(person.username for person in gone if person.id in plan.stand_ins),
        changed=dict(sorted((kind, count) for kind, count in plan.done.items() if not kind.startswith("documents"))),
        notes=tuple(_notes(wanted, plan, mapped)),
        leftovers=tuple(_leftovers(plan, information)) if wanted.anonymize else (),
    )


def _notes(wanted: Wanted, plan: Plan, mapped: list[Mapped]) -> Iterator[str]:
    unknown = [e.account.username for e in mapped if e.account and not (e.account.email or e.account.firstaccess)]
    if unknown:
        yield (
            f"The email of {', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''} on the target is not known: "
            "Moodle takes such a person for that account only where the email in the backup is the account's. "
            "Name the site (--against SITE), or give a third column with the email."
        )
    if plan.new_hash and not plan.forget:
        yield (
            "The file counts as one of another site now, because Moodle would refuse those people by their ids. "
            "Cohort and meta enrolments and shared tool settings are not connected on restore."
        )
    if plan.stand_ins:
        yield (
            "What people left out wrote for others to read (posts, wiki pages, entries) and steps of others' quiz "
            f"attempts stay, under {len(plan.stand_ins)} account(s) of nobody."
        )
    if plan.gone:
        yield "Files that people left out had handed in are gone; what they put into the course stays."
    if wanted.forget_site:
        yield "Ids, and the names of the course, its categories and groups, are those of the original site."


def _leftovers(plan: Plan, information: Information) -> Iterator[Leftover]:
    for (where, what), count in sorted(plan.texts.items()):
        yield Leftover(where, f"text written by or about a person: {what}", count)
    for kind, count in sorted(plan.done.items()):
        if kind.startswith("documents"):
            yield Leftover("files.xml", f"{kind}: their contents, and names inside them", count)
    texts = "texts of the course itself: names, descriptions, pages, questions, groups, keys"
    yield Leftover("course", texts, len(information.activities))
    yield Leftover("users.xml", "ids of people, which are those of the original site", plan.done["anonymized"])
