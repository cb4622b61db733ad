"""Everything that can go wrong, one class per exit status of the contract.

An error carries what a person needs: the cause (``message``), the remedy (``hint``) and the evidence
(``details``). It is raised where it arises, chained to what caused it, and turned into output at one door, in
``moodlectl.cli``. ``code`` is a short stable word for scripts, such as Moodle's own ``errorcode``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MoodlectlError(Exception):
    """The base of every error that moodlectl raises on purpose. Exit status 1."""

    exit_status = 1
    default_code = "failed"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.details: dict[str, Any] = dict(details or {})

    def as_dict(self) -> dict[str, Any]:
        """The error as scripts read it on standard error with ``-o json``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class Failed(MoodlectlError):
    """The operation was tried and failed; what was begun has been taken back. Exit status 1."""


class UsageError(MoodlectlError):
    """The command line is wrong: an unknown word, two options that exclude each other. Exit status 2."""

    exit_status = 2
    default_code = "usage"


class AccessError(MoodlectlError):
    """Configuration, credentials or permission: who asks may not, or is not known. Exit status 3."""

    exit_status = 3
    default_code = "access"


class ConfigError(AccessError):
    """The configuration file is wrong; the message starts with the path to the key. Exit status 3."""

    default_code = "config"


class NotFound(MoodlectlError):
    """No such course, category, backup, item or site, or more than one. Exit status 4."""

    exit_status = 4
    default_code = "notfound"


class Refused(MoodlectlError):
    """Refused before anything changed: pre-check, lock, conflict, full disk, newer backup. Exit status 5."""

    exit_status = 5
    default_code = "refused"


class Unreachable(MoodlectlError):
    """The site could not be reached or stopped answering, and nothing happened on it. Exit status 6."""

    exit_status = 6
    default_code = "unreachable"


class SomeFailed(MoodlectlError):
    """Of several items asked for at once some failed; the others are done. Exit status 7."""

    exit_status = 7
    default_code = "some_failed"


class OutcomeUnknown(MoodlectlError):
    """The site stopped answering while it worked; what it did is not known. Exit status 8."""

    exit_status = 8
    default_code = "unknown"
