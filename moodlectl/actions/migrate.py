"""Courses move from one site to another: planned as a whole, each done step by step, and accounted for."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from moodlectl import ledger
from moodlectl.actions import planning, specs
from moodlectl.actions.contents import How, Traffic
from moodlectl.actions.moves import Moves
from moodlectl.actions.steps import Step
from moodlectl.errors import AccessError, UsageError
from moodlectl.ledger import Item
from moodlectl.ledger_batch import Reader
from moodlectl.plans import Plan
from moodlectl.site.port import OnProgress, Site, no_progress

KIND: Final = "migrate"


class Migrate:
    """How a migration is done: the options' ``from`` and ``to`` are the names of the sites, ``guards`` those of the
    one the courses go to."""

    kind = KIND

    def __init__(self, options: Mapping[str, Any]) -> None:
        how = How(Traffic(options.get("limit_rate")))
        self._moves = Moves(str(options["from"]), str(options["to"]), options.get("guards") or {}, how)

    @property
    def sites(self) -> Sequence[str]:
        """The names of both sites."""
        return (self._moves.source, self._moves.target)

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        """The steps of one course: backup and fetch there, restore and finish here."""
        return self._moves.steps(spec)


def plan(
    plan: Plan,
    source: Site,
    target: Site,
    today: date,
    on_progress: OnProgress = no_progress,
    *,
    lean: bool = True,
) -> planning.Resolution:
    """What that plan means on the two sites, every problem at once. Reads only.

    ``lean``: the contents of files travel by themselves, each once, and not in every backup.

    Raises UsageError where both are the same Moodle, AccessError, Unreachable.
    """
    one, other = source.info(), target.info()
    if (one.identifier_hash or one.url) == (other.identifier_hash or other.url):
        raise UsageError(
            f"{source.name} and {target.name} are the same Moodle, {one.url}.",
            "Within one site courses are rolled over: moodlectl rollover PLAN.",
        )
    return planning.resolve(plan, KIND, (source, target), today, on_progress, lean=lean)


@dataclass(frozen=True)
class Account:
    """What to know of all that has moved between two sites: links that lead to the old one, by course; enrolment
    methods the new one has not, each with how many courses; old addresses and new ones."""

    links: Mapping[str, int]
    methods: Mapping[str, int]
    addresses: Sequence[tuple[str, str]]


def account(at: str, to: str, path: Path | None = None) -> Account:
    """The account of everything that moved from one site to another, in this run and all before it. Reads only.

    ``at`` and ``to`` are what tells the sites from all others (identifier hash, or address).
    """
    latest: dict[int, Item] = {}
    for item in ledger.history(KIND, path):
        if item.state == "done" and item.spec:
            spec = specs.read(item.spec)
            if spec.course is not None and (spec.course["at"], spec.to) == (at, to):
                latest[int(spec.course["id"])] = item
    methods: Counter[str] = Counter()
    for item in latest.values():
        methods.update(item.facts.get("missing_methods") or ())
    return Account(
        links={item.course: int(n) for item in latest.values() if (n := item.facts.get("links_to_old_site"))},
        methods=dict(methods),
        addresses=[(old, new) for item in latest.values() for old, new in item.facts.get("addresses") or ()],
    )


def sides(job: int, path: Path | None = None) -> tuple[str, str] | None:
    """What tells the two sites of a migration from all others, by its record; None where it moves no course."""
    with closing(Reader(job, path)) as reader:
        read = (specs.read(item.spec) for item in reader.items() if item.spec)
        return next(((str(spec.course["at"]), spec.to) for spec in read if spec.course is not None), None)


def check_writable(path: Path) -> None:
    """Refuse a place for the addresses before anything is moved. Raises AccessError."""
    folder = path.parent
    why = "it is a folder" if path.is_dir() else f"there is no folder {folder}" if not folder.is_dir() else ""
    if why or not os.access(folder, os.W_OK):
        raise AccessError(
            f"{path} cannot be written: {why or f'the folder {folder} may not be written to'}.",
            "Nothing was begun. Name another file with --addresses.",
            code="output",
        )


def write_addresses(path: Path, addresses: Iterable[tuple[str, str]]) -> None:
    """Write old and new addresses as CSV, for redirects. Writes one file here. Raises AccessError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["old", "new"])
            writer.writerows(addresses)
        part.replace(path)
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror}.", code="output") from error
