"""Everything a practice course holds, read from the very documents a backup of it would be made of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from moodlectl.mbz.identities import identities as read
from moodlectl.site.port import Identity, no_progress
from moodlectl.site.practice import maker
from moodlectl.site.practice.cut import cut
from moodlectl.site.practice.people import Actor, identifier_hash
from moodlectl.site.practice.settings import BACKUP_ROOT, backup_sheet, chosen
from moodlectl.site.practice.store import Store

_OFF = frozenset({"anonymize", "imscc11", "files"})


def identities(store: Store, course_id: int, actor: Actor, *, with_users: bool = True) -> Iterator[Identity]:
    """Everything the course holds, as far as the acting user may back it up. Reads only."""
    from moodlectl.site.practice.writer import Labels, write_mbz

    package = maker.with_people(store, store.load(course_id))
    sheet = backup_sheet(package, maker.locks(store, actor, course_id))
    sheet.apply({name: name not in _OFF and (with_users or name != "users") for name, *_ in BACKUP_ROOT})
    taken = chosen(sheet, package)
    labels = Labels("identities.mbz", "0" * 32, maker.MODES["general"], 0, maker.WWWROOT, identifier_hash(store))
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / "identities.mbz"
        with path.open("wb") as target:
            write_mbz(cut(package, taken), taken, labels, store, target, no_progress)
        for kind, key, facts in read(path):
            if kind == "about":
                told = {name: value for name, value in facts.items() if not name.startswith("setting_")}
                yield kind, key, {**told, "source": "site", "setting_users": facts["setting_users"]}
            else:
                yield kind, key, facts
