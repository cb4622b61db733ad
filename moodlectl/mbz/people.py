"""Who is in a backup: users.xml, read as it streams by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moodlectl.errors import Refused
from moodlectl.mbz.archive import MANIFEST, Archive, Member, ProgressBytes, open_backup
from moodlectl.mbz.information import Information, read_information
from moodlectl.mbz.manifest import OriginalSite
from moodlectl.mbz.names import refuse
from moodlectl.mbz.roster import Roster
from moodlectl.mbz.sources import Source
from moodlectl.mbz.text import printable

USERS = "users.xml"
_FIELDS = frozenset(
    {
        *("username", "idnumber", "email", "firstname", "lastname", "auth"),
        *("mnethosturl", "firstaccess", "deleted"),
    }
)


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One person of a backup. ``id`` is the id on the original site; ``firstaccess`` seconds since 1970, 0
    never.

    ``mnethosturl`` is None for people of the original site itself. Texts are as stored; show them with
    ``printable``.
    """

    id: int
    username: str
    email: str = ""
    firstname: str = ""
    lastname: str = ""
    idnumber: str = ""
    firstaccess: int = 0
    deleted: bool = False
    mnethosturl: str | None = None
    auth: str = ""

    @property
    def fullname(self) -> str:
        """First and last name."""
        return f"{self.firstname} {self.lastname}".strip()


def read_users(where: Path | Source, progress: ProgressBytes | None = None) -> Iterator[UserRecord]:
    """Every person in the backup, in the order of users.xml; none where it was made without users. Reads
    only.

    One pass, constant memory. Raises NotFound, and Refused with the reason as its code.
    """
    with open_backup(where, progress=progress) as archive:
        yield from _people_among(archive.members())


@contextmanager
def people_in(
    where: Path | Source, progress: ProgressBytes | None = None
) -> Iterator[tuple[OriginalSite, Iterator[UserRecord]]]:
    """Where a backup was made, and everybody in it one by one, in the order of users.xml. Reads only.

    One pass (two where users.xml lies before the manifest, as Moodle never lays them) and constant memory. Raises
    NotFound, and Refused with the reason as its code, ``not_a_backup`` also for what has no people to read: a Moodle
    1.9 backup, a Common Cartridge.
    """
    with open_backup(where, progress=progress) as archive:
        members = archive.members()
        information, passed = _to_the_manifest(members, archive)
        fields = information.fields
        origin = OriginalSite(fields.get("original_wwwroot"), fields.get("original_site_identifier_hash"))
        yield origin, read_users(where, progress) if passed else _people_among(members)


def read_people(
    where: Path | Source, progress: ProgressBytes | None = None
) -> tuple[OriginalSite, list[UserRecord]]:
    """Where a backup was made, and everybody in it, at once: ``people_in`` as a list. Reads only."""
    with people_in(where, progress) as (origin, people):
        return origin, list(people)


def _to_the_manifest(members: Iterator[Member], archive: Archive) -> tuple[Information, bool]:
    """What the manifest says, and whether users.xml went by before it."""
    passed = False
    for member in members:
        if member.name == MANIFEST and member.kind == "file":
            return read_information(member, archive.limits), passed
        passed = passed or member.name == USERS
    raise Refused(
        f"{printable(archive.source.name)} has no {MANIFEST}: it is no Moodle 2 backup, and lists no people.",
        "'moodlectl backup inspect' says what it is.",
        code="not_a_backup",
    )


def _people_among(members: Iterator[Member]) -> Iterator[UserRecord]:
    """Everybody in users.xml; reads on to the end, where checksums stand."""
    for member in members:
        if member.name == USERS and member.kind == "file":
            yield from people_of(member)


def people_of(member: Member) -> Iterator[UserRecord]:
    """Every person of an open users.xml. Raises Refused."""
    roster = Roster(USERS, _FIELDS)
    for chunk in member.chunks():
        yield from map(_user, roster.feed(chunk))
    yield from map(_user, roster.close())


def _user(record: Mapping[str, str]) -> UserRecord:
    return UserRecord(
        id=_number(record.get("id"), "id"),
        username=record.get("username", ""),
        email=record.get("email", ""),
        firstname=record.get("firstname", ""),
        lastname=record.get("lastname", ""),
        idnumber=record.get("idnumber", ""),
        firstaccess=_number(record.get("firstaccess", "0") or "0", "firstaccess"),
        deleted=record.get("deleted", "0") not in ("0", ""),
        mnethosturl=record.get("mnethosturl") or None,
        auth=record.get("auth", ""),
    )


def _number(text: str | None, what: str) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise refuse(
            "hostile_xml", f"{USERS} holds {str(text)[:40]!r} where a user's {what} belongs.", member=USERS
        )
    return int(text)
