"""What is found before a restore: one record for each thing, the names a person may accept, and the order of telling.

A *forbidden* finding stops a restore whatever is said; a *danger* stops it until it is accepted by its name
(``--allow NAME``); a *warning* is told and stops nothing; a *note* only tells. Sites find some of them,
``actions.checks`` the others, and both refuse with ``refusal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from moodlectl.errors import AccessError, MoodlectlError, Refused

Severity = Literal["forbidden", "danger", "warning", "note"]
GuardMode = Literal["stop", "warn", "ignore"]
GUARD_MODES: tuple[GuardMode, ...] = ("stop", "warn", "ignore")

DANGERS: Mapping[str, str] = {
    "newer-backup": "the backup was made by a newer Moodle than the site's",
    "missing-plugins": "the site lacks plugins that the backup needs; what they made is left out",
    "without-files": "the backup carries no files and the site has not got them all; they will be missing",
    "not-whole": "the backup file is damaged, or does not hold all that it names",
    "missing-roles": "people have roles in the backup that cannot be given here; they come without them",
    "without-people": "the backup holds people whom the acting user may not bring; they and their work are left out",
    "in-use": "somebody, or another backup or restore, is at work in the course",
    "maintenance": "the site is in maintenance mode",
}
"""Every danger of a restore that stops it unless it is accepted by name (``--allow NAME``)."""

GUARDS: Mapping[str, str] = {
    "title": "whether it is the course that is meant: its title is shown and, in a terminal, has to be typed",
    "students": "whether students are enrolled in the course",
    "grades": "whether the course holds grades or work that was handed in",
    "visited": "whether people were in the course in the last two weeks",
    "visible": "whether students can see the course",
    "same-backup": "whether this very backup was restored into the course before",
}
"""What is looked at in a course before something is merged into it or replaces what it holds."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found before a restore: what it is, and what can be done about it.

    ``name`` is a stable word, for dangers and guards the one that ``--allow`` takes. ``details`` is the evidence.
    ``access`` is whether it is a permission that is missing.
    """

    name: str
    severity: Severity
    message: str
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    access: bool = False

    def accepted(self, allow: Iterable[str]) -> bool:
        """Whether it is a danger that a person has accepted by its name."""
        return self.severity == "danger" and self.name in allow

    def stops(self, allow: Iterable[str]) -> bool:
        """Whether a restore must not begin."""
        return self.severity == "forbidden" or (self.severity == "danger" and not self.accepted(allow))

    def as_dict(self, allow: Iterable[str] = ()) -> dict[str, Any]:
        """The finding as JSON has it."""
        return {
            "name": self.name,
            "severity": self.severity,
            "accepted": self.accepted(allow),
            "access": self.access,
            "message": self.message,
            "remedy": self.remedy,
            "details": dict(self.details),
        }


def worst_first(findings: Iterable[Finding], allow: Iterable[str] = ()) -> tuple[Finding, ...]:
    """The findings in the order they are told: what stops the restore first, a missing permission before all."""

    def weight(finding: Finding) -> tuple[int, bool]:
        if finding.accepted(allow):
            return 2, True
        return {"forbidden": 0, "danger": 1, "warning": 3, "note": 4}[finding.severity], not finding.access

    return tuple(sorted(findings, key=weight))


def refusal(findings: Iterable[Finding], allow: Iterable[str] = ()) -> MoodlectlError | None:
    """The error that tells why a restore must not begin, None where nothing stops it.

    It is told by the worst finding; ``details["findings"]`` has all of them, ``details["dangers"]`` those that could
    be accepted by name.
    """
    ordered = worst_first(findings, allow)
    stopping = [one for one in ordered if one.stops(allow)]
    if not stopping:
        return None
    first = stopping[0]
    kind = AccessError if first.access else Refused
    return kind(
        first.message,
        first.remedy or None,
        code=first.name,
        details={
            **first.details,
            "dangers": [one.name for one in stopping if one.severity == "danger"],
            "findings": [one.as_dict(allow) for one in ordered],
        },
    )


def of_record(record: Mapping[str, Any]) -> Finding:
    """A finding as a site's PHP, or ``as_dict``, wrote it."""
    details = record.get("details")
    return Finding(
        name=str(record["name"]),
        severity=record["severity"],
        message=str(record["message"]),
        remedy=str(record.get("remedy") or ""),
        details=dict(details) if isinstance(details, Mapping) else {},  # PHP writes an empty object as a list
        access=bool(record.get("access")),
    )


def of_error(error: MoodlectlError) -> tuple[Finding, ...]:
    """What an error that stopped the looking tells, and what had been found until then."""
    known = [of_record(one) for one in error.details.get("findings") or ()]
    if any(one.name == error.code and one.message == error.message for one in known):
        return tuple(known)
    details = {name: value for name, value in error.details.items() if name not in ("findings", "dangers")}
    access = isinstance(error, AccessError)
    return (Finding(error.code, "forbidden", error.message, error.hint or "", details, access), *known)


def of_names(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The names of the dangers among them, each once."""
    return tuple(dict.fromkeys(one.name for one in findings if one.severity == "danger"))
