"""What a batch knows of one course: resolved against the sites, fit for JSON, enough for every step of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from moodlectl.actions.naming import ItemWords
from moodlectl.site.port import Arrangement, Course


@dataclass(frozen=True)
class Place:
    """A category: by its id where it is there, else what it is made with: its path from the top, and for each level an
    idnumber (empty: none) and whether it is shown."""

    id: int | None = None
    path: tuple[str, ...] = ()
    idnumbers: tuple[str, ...] = ()
    visible: tuple[bool, ...] = ()

    def __str__(self) -> str:
        return " / ".join(self.path) if self.path else f"id:{self.id}"


@dataclass(frozen=True)
class Looks:
    """How a course is to be called and shown; None stays. Days are ``YYYY-MM-DD``."""

    fullname: str | None = None
    shortname: str | None = None
    idnumber: str | None = None
    place: Place | None = None
    startdate: str | None = None
    enddate: str | None = None
    visible: bool | None = None
    enrolments: str | None = None

    def arrangement(
        self, category_id: int | None = None, people: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ) -> Arrangement:
        """The same as a site is asked for it."""
        return Arrangement(
            fullname=self.fullname,
            shortname=self.shortname,
            idnumber=self.idnumber,
            category_id=category_id,
            startdate=_day(self.startdate),
            enddate=_day(self.enddate),
            visible=self.visible,
            people=people,
            enrolments=self.enrolments,  # type: ignore[arg-type]  # checked when the plan was read
        )

    def differ(self, course: Course) -> bool:
        """Whether the course is not yet so, as far as lists show it."""
        asked = {
            "fullname": self.fullname,
            "shortname": self.shortname,
            "idnumber": self.idnumber,
            "visible": self.visible,
            "category_id": self.place.id if self.place is not None else None,
        }
        made = self.place is not None and self.place.id is None
        return made or any(value is not None and value != getattr(course, name) for name, value in asked.items())


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


@dataclass(frozen=True)
class Spec:
    """One course of a batch. ``steps`` names what is to be done, in order.

    ``course`` is the source course, None where ``backup``, a file here, stands alone; ``stored`` is a backup on the
    source's site that was there before. ``target`` is the course that is replaced or merged into, ``to`` the site it is
    on. ``provisional``: the new course gets its short name only when the old one has given it up. ``unchanged_since``
    is the fingerprint the target must still have before it is replaced. ``lean``: the backup carries no files; their
    contents are in the target's file pool, or brought there.
    """

    line: int
    steps: tuple[str, ...]
    to: str = ""
    mode: str = "new"
    course: Mapping[str, Any] | None = None
    backup: str | None = None
    stored: Mapping[str, Any] | None = None
    target: int | None = None
    looks: Looks = field(default_factory=Looks)
    provisional: bool = False
    settings: Mapping[str, bool] = field(default_factory=dict)
    enrolments: str | None = None
    keep_roles: tuple[str, ...] | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    no_userdata: tuple[str, ...] = ()
    user_map: str | None = None
    map: tuple[str, ...] = ()
    users_conflict: str = "stop"
    allow: tuple[str, ...] = ()
    guards: Mapping[str, str] = field(default_factory=dict)
    keep_enrolments: bool = False
    keep_groups: bool = False
    overwrite_config: bool = False
    safety: bool = True
    old: Looks | None = None
    unchanged_since: str | None = None
    fingerprint: bool = False
    lean: bool = False

    @property
    def items(self) -> ItemWords:
        """The items that take part."""
        return ItemWords(only=self.only, skip=self.skip, no_userdata=self.no_userdata)

    @property
    def maps(self) -> bool:
        """Whether people are mapped, so that the file has to come here."""
        return self.user_map is not None or bool(self.map)

    def as_json(self) -> dict[str, Any]:
        """The same for the ledger; what says nothing is left out."""
        empty = asdict(Spec(0, ()))
        return {name: value for name, value in asdict(self).items() if name == "line" or value != empty[name]}


def read(said: Mapping[str, Any]) -> Spec:
    """What ``as_json`` wrote, after its time in the ledger."""
    fields = dict(said)
    for name in ("steps", "keep_roles", "only", "skip", "no_userdata", "map", "allow"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    for name in ("looks", "old"):
        if fields.get(name) is not None:
            fields[name] = _looks(fields[name])
    fields.setdefault("steps", ())
    return Spec(**fields)


def _looks(said: Mapping[str, Any]) -> Looks:
    place = said.get("place")
    if place is not None:
        place = Place(place.get("id"), *(tuple(place.get(name, ())) for name in ("path", "idnumbers", "visible")))
    return Looks(**{**said, "place": place})
