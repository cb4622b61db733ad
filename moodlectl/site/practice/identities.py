"""Everything a practice course holds, read from the very documents a backup of it would be made of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from moodlectl.errors import AccessError
from moodlectl.mbz.identities import Chosen
from moodlectl.mbz.identities import identities as read
from moodlectl.site.port import ALL, Identity, Part, no_progress
from moodlectl.site.practice import maker
from moodlectl.site.practice.cut import cut
from moodlectl.site.practice.people import Actor, identifier_hash
from moodlectl.site.practice.settings import BACKUP_ROOT, Locks, backup_sheet, chosen
from moodlectl.site.practice.store import Store

_OFF = frozenset({"anonymize", "imscc11", "files"})


def identities(store: Store, course_id: int, actor: Actor, wanted: Part = ALL) -> Iterator[Identity]:
    """What the course holds. Reads only. Raises AccessError where the acting user may not back it up so."""
    from moodlectl.site.practice.writer import Labels, write_mbz

    with_users = wanted.with_users
    for capability in ("moodle/backup:backupcourse", *(["moodle/backup:userinfo"] if with_users else [])):
        if not actor.may(capability, course_id):
            raise AccessError(
                f"{actor.user.username} has not the capability {capability} in this course.",
                "Act as a user who may, with --as USERNAME, or give that user the capability.",
                code="nopermissions",
            )
    package = maker.with_people(store, store.load(course_id))
    # What is locked for backups may still be looked at.
    sheet = backup_sheet(package, Locks(actor.user.username, frozenset(), {}))
    off = _OFF if with_users else _OFF | {name for name, _, needs in BACKUP_ROOT if name == "users" or "users" in needs}
    sheet.apply({name: name not in off for name, *_ in BACKUP_ROOT})
    taken = chosen(sheet, package)
    labels = Labels("identities.mbz", "0" * 32, maker.MODES["general"], 0, maker.WWWROOT, identifier_hash(store))
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / "identities.mbz"
        with path.open("wb") as target:
            write_mbz(cut(package, taken), taken, labels, store, target, no_progress)
        there = {activity.id for activity in package.activities}
        left_out = wanted.without | (there - wanted.only if wanted.only is not None else frozenset())
        for kind, key, facts in read(path, chosen=Chosen(left_out)):
            if kind == "about":
                told = {name: value for name, value in facts.items() if not name.startswith("setting_")}
                yield kind, key, {**told, "source": "site", "setting_users": facts["setting_users"]}
            else:
                yield kind, key, facts
