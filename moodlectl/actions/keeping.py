"""What is kept in the local store: shown, given back as files, and taken away by rule or by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.actions import files
from moodlectl.actions.storing import scanning
from moodlectl.errors import Refused
from moodlectl.ledger import Item, Ledger
from moodlectl.site.port import OnProgress, no_progress
from moodlectl.store import Store, exporting, pruning
from moodlectl.store.entries import BACKUPS, Entry
from moodlectl.store.locks import reading
from moodlectl.store.pruning import Freed, Judged, Keep

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest, VerifyReport

KINDS = ("prune", "export")
"""The kinds of job that are done in the store alone; there is nothing to go on with."""


@dataclass(frozen=True)
class Shown:
    """One backup of a store: what it holds, and the bytes that no other needs, None where another cannot be read."""

    entry: Entry
    manifest: Manifest
    alone: int | None


def show(store: Store, entry: Entry) -> Shown:
    """What a backup of the store holds, and what taking it away would free. Reads only. Raises Failed."""
    from moodlectl import mbz

    with store.archive(entry) as lean:
        held = as_kept(entry, mbz.inspect(lean))
    found, broken = store.look()
    others = [one for one in found if one.id != entry.id]
    return Shown(entry, held, None if broken else pruning.would_free(store, [entry], others).bytes)


def as_kept(entry: Entry, held: Manifest) -> Manifest:
    """What a backup of the store holds, of what its archive without files says: its files are in the store."""
    from moodlectl.mbz.manifest import FileCounts

    if not entry.carries:
        return held
    return replace(
        held,
        size=entry.size,
        include_files=True,
        settings={**held.settings, **({"files": True} if "files" in held.settings else {})},
        counts=replace(held.counts, pool=FileCounts(entry.contents, entry.content_bytes)),
        dangers=tuple(one for one in held.dangers if one.code != "without_files"),
    )


# --- out --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A backup that was given back as an ordinary file: where, and how it was read to its last byte."""

    entry: Entry
    path: Path
    report: VerifyReport


def export(
    store: Store, entry: Entry, target: Path, *, overwrite: bool = False, on_progress: OnProgress = no_progress
) -> Exported:
    """Write a backup of the store as an ordinary ``.mbz``, verified; into a folder under its own name.

    Writes that file, and the ledger: people's data may be in it.

    Raises Refused ``file_exists``, Failed where something of it is lost or damaged.
    """
    path = target / files.safe_name(entry.filename) if target.is_dir() else target
    if path.exists() and not overwrite:
        raise Refused(
            f"{path} is there already.", "Name another with -d or --file, or replace it with --overwrite.",
            code="file_exists",
        )  # fmt: skip
    files.prepare_folder(path.parent)
    facts = {"backup": entry.id, "has_users": entry.has_users}
    with reading(store.place), _noted("export", store, facts, entry.shortname, str(path)) as ended:
        report = exporting.write(store, entry, path, scanning(on_progress), allow_holes=True)
        ended["sha1"] = report.sha1
    return Exported(entry, path, replace(report, path=path))


# --- away -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruning:
    """What a rule says of every backup of a store, and what would be freed."""

    judged: tuple[Judged, ...]
    freed: Freed

    @property
    def going(self) -> tuple[Entry, ...]:
        """The backups that may go."""
        return tuple(one.entry for one in self.judged if not one.reasons)


def plan_pruning(store: Store, keep: Keep) -> Pruning:
    """What a rule would take away. Reads only. Raises Failed ``store_damaged`` where what is needed cannot be known."""
    with reading(store.place):
        judged = tuple(pruning.judge(store.entries(), keep))
        going = [one.entry for one in judged if not one.reasons]
        staying = [one.entry for one in judged if one.reasons]
        return Pruning(judged, pruning.would_free(store, going, staying))


def plan_removal(store: Store, words: Sequence[str]) -> Pruning:
    """What taking those backups away would free. Reads only. Raises NotFound."""
    with reading(store.place):
        going = {store.find(word).id for word in words}
        found = store.entries()
        judged = tuple(Judged(one, () if one.id in going else ("not named",)) for one in found)
        away = [one for one in found if one.id in going]
        return Pruning(judged, pruning.would_free(store, away, [one for one in found if one.id not in going]))


def prune(store: Store, plan: Pruning, on_progress: OnProgress = no_progress) -> Freed:
    """Take away what was planned, never more, and what no backup needs any more. Writes to the store and the ledger.

    Raises Refused ``store_busy``.
    """
    told = [{"id": one.id, "course": one.shortname, "date": one.when.isoformat()} for one in plan.going]
    with _noted("prune", store, {"backups": told}) as ended:
        freed = pruning.take_away(store, plan.going, on_progress)
        ended |= {"removed": freed.backups, "freed": freed.bytes}
    return freed


@contextmanager
def _noted(
    kind: str, store: Store, facts: Mapping[str, Any], course: str = "", target: str = ""
) -> Iterator[dict[str, Any]]:
    """Write down what is done with a store, before and after it; what the block puts into the dict is written, too."""
    ledger, ended = Ledger(), dict[str, Any]()
    try:
        job = ledger.begin(kind, "", store.address, {})
        ledger.start(job, Item(1, course, kind, "planned", source=store.address, target=target, facts=dict(facts)))
        try:
            yield ended
        except BaseException as error:
            ledger.end(job, 1, "failed", str(error) or type(error).__name__)
            ledger.close_job(job)
            raise
        ledger.end(job, 1, "done", **ended)
        ledger.close_job(job)
    finally:
        ledger.close()


def used(store: Store) -> int:
    """The bytes that everything in a store takes. Reads only."""
    folders = (*store.pool.folders(), BACKUPS)
    return sum(one.size for folder in folders for one in store.place.found(folder))
