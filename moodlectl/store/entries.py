"""What a store knows of each backup: one small file that makes it one, beside the XML and the list of its contents."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from moodlectl.errors import Failed
from moodlectl.site.port import Content
from moodlectl.store.places import Place

BACKUPS: Final = "backups"
FORMAT: Final = 1
_ID = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(rf"{BACKUPS}/([0-9a-f]{{40}})/entry\.json")
_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9]{1,16})")


@dataclass(frozen=True)
class Entry:
    """One backup of a store. ``id`` is the sha1 of the file it came as, ``size`` what it would be as an ordinary one.

    ``lean_*`` is its archive without files; ``contents`` are how many contents it needs, ``content_bytes`` theirs,
    ``came`` the bytes of those that no other backup had brought when it came. ``carries`` is False for a backup that
    was made without files. ``holes`` are contents that it lacked already when it was taken in, by their sha1.
    """

    id: str
    filename: str
    added: datetime
    date: datetime | None
    course_id: int | None
    shortname: str
    fullname: str
    site_url: str
    site_hash: str
    kind: str
    release: str
    has_users: bool
    size: int
    lean_size: int
    lean_sha1: str
    contents: int
    content_bytes: int
    list_sha1: str
    came: int
    carries: bool = True
    holes: tuple[str, ...] = ()

    @property
    def when(self) -> datetime:
        """When the backup was made; where it does not say, when it was taken in."""
        return self.date or self.added

    @property
    def archive(self) -> str:
        """The name of its archive within the store."""
        return f"{folder_of(self.id)}/backup.mbz"

    @property
    def listed(self) -> str:
        """The name of the list of the contents that it needs."""
        return f"{folder_of(self.id)}/contents.txt"


def folder_of(number: str) -> str:
    """The folder of one backup within the store."""
    return f"{BACKUPS}/{number}"


def name_of(number: str) -> str:
    """The name of the file that makes it a backup of the store."""
    return f"{folder_of(number)}/entry.json"


def written(entry: Entry) -> bytes:
    """The entry as its file has it."""
    values = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    values |= {"format": FORMAT, "added": entry.added.isoformat(), "date": entry.date and entry.date.isoformat()}
    return json.dumps(values | {"holes": list(entry.holes)}, ensure_ascii=False, indent=1).encode()


def read(name: str, data: bytes) -> Entry:
    """The entry out of its file. Raises Failed ``store_damaged`` for what is none, ``store_too_new``."""
    try:
        values = json.loads(data)
        if int(values.pop("format")) > FORMAT:
            raise Failed(
                f"{name} was written by a later moodlectl.", "Use that one, or a newer one.", code="store_too_new"
            )
        entry = Entry(
            **{
                **values,
                "added": _moment(values["added"]),
                "date": _moment(values["date"]) if values["date"] else None,
                "holes": tuple(map(str, values.get("holes", ()))),
            }
        )
        _check(entry, name)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failed(
            f"{name} in the store is damaged: {error}.",
            "'moodlectl store verify --repair' writes it anew from the backup itself, where that is whole. Or delete "
            "that file: then the backup is no part of the store any more.",
            code="store_damaged",
            details={"name": name},
        ) from error
    return entry


def _check(entry: Entry, name: str) -> None:
    found = _NAME.fullmatch(name)
    if found is None or found[1] != entry.id:
        raise ValueError("it stands for another backup")
    for number in (entry.size, entry.lean_size, entry.contents, entry.content_bytes, entry.came):
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"{number!r} is no number of bytes")
    for text in (entry.filename, entry.shortname, entry.fullname, entry.site_url, entry.site_hash, entry.kind):
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
    if not all(_ID.fullmatch(one) for one in (entry.lean_sha1, entry.list_sha1, *entry.holes)):
        raise ValueError("a sha1 in it is none")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def numbers(place: Place) -> list[str]:
    """The ids of all backups of a place. Reads only."""
    found = (_NAME.fullmatch(one.name) for one in place.found(BACKUPS))
    return sorted(one[1] for one in found if one)


def load(place: Place, wanted: Iterable[str]) -> Iterator[Entry]:
    """Those backups; one that is taken away meanwhile is left out. Reads only. Raises Failed ``store_damaged``."""
    for name, data in place.load([name_of(number) for number in wanted]):
        if data is not None:
            yield read(name, data)


def sha1_of(path: Path) -> str:
    """The sha1 of a file's bytes, in hex. Reads only."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


# --- the list of contents ---------------------------------------------------------------------------------------------


def list_text(contents: Iterable[Content]) -> bytes:
    """A list of contents as its file has it: a line each, its sha1 and its bytes."""
    return b"".join(f"{one.sha1} {one.size}\n".encode("ascii") for one in contents)


def contents_of(place: Place, entry: Entry) -> Iterator[Content]:
    """The contents that a backup needs, one by one. Reads only.

    Raises Failed ``store_damaged`` at its end where the list is not what it was, NotFound where it is gone.
    """
    digest, rest, count = hashlib.sha1(usedforsecurity=False), b"", 0
    for piece in place.read(entry.listed):
        digest.update(piece)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            found = _LINE.fullmatch(line)
            if found is None:
                raise _damaged(entry)
            count += 1
            yield Content(found[1].decode(), int(found[2]))
    if rest or digest.hexdigest() != entry.list_sha1 or count != entry.contents:
        raise _damaged(entry)


def _damaged(entry: Entry) -> Failed:
    return Failed(
        f"The list of the contents of {entry.filename} in the store is damaged.",
        "'moodlectl store verify --repair' writes it anew from the backup itself.",
        code="store_damaged",
        details={"backup": entry.id, "name": entry.listed},
    )


def record(entry: Entry) -> Mapping[str, Any]:
    """A backup of the store with the keys that scripts may rely on."""
    return {
        "id": entry.id,
        "course": {"id": entry.course_id, "shortname": entry.shortname, "fullname": entry.fullname},
        "site": {"url": entry.site_url, "identifier_hash": entry.site_hash},
        "type": entry.kind,
        "date": entry.date,
        "added": entry.added,
        "filename": entry.filename,
        "moodle_release": entry.release,
        "has_users": entry.has_users,
        "size": entry.size,
        "came": entry.came,
        "contents": {"count": entry.contents, "bytes": entry.content_bytes},
        "xml": entry.lean_size,
        "files": entry.carries,
        "holes": list(entry.holes),
    }
