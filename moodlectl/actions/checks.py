"""The check before a restore: the file, the course, the site, in one report; and the refusal where something stands
against it.

Everything that ``restore --dry-run`` tells is what an ordinary restore looks at before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl import findings
from moodlectl.actions import guards, manifest, recovery, restore, safety
from moodlectl.actions.files import sha1_of
from moodlectl.errors import AccessError, MoodlectlError, Refused
from moodlectl.findings import Finding, GuardMode
from moodlectl.site.port import (
    Course,
    OnProgress,
    Progress,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    Site,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.actions.restore import Wanted
    from moodlectl.mbz import Manifest, VerifyReport

# What a person may accept of a file (``mbz.verify``), and what nobody misses: Moodle does not read what it does not
# know. With anything else wrong no restore comes to its end.
_BEARABLE = frozenset({"missing", "content", "size", "files_xml"})
_UNTIDY = frozenset({"unexpected", "unclaimed", "index", "container", "more"})

# What the way to the site cannot do at all, whatever is restored.
_NOT_OF_THE_RESTORE = frozenset({"engine_cannot", "noshell", "notoken", "noexchange"})


@dataclass(frozen=True)
class Report:
    """What was found before a restore, and the site's plan where one was made.

    ``sha1`` is that of the backup a person named, ``file_sha1`` that of the file that travels (another one where
    people were mapped); None where nobody knows.
    """

    findings: tuple[Finding, ...]
    plan: RestorePlan | None = None
    sha1: str | None = None
    file_sha1: str | None = None

    def refusal(self, allow: frozenset[str]) -> MoodlectlError | None:
        """The error that says why the restore must not begin, None where nothing stops it."""
        return findings.refusal(self.findings, allow)


@dataclass(frozen=True)
class Look:
    """How to look: the guards' modes, what is known of the file, and how far.

    ``origin`` is the sha1 of the backup that a person named, where another file travels. ``plan`` is whether the site
    is to make its plan; without ``all`` it is not asked to where something forbids the restore already. ``safety`` is
    whether a safety backup will be wanted.
    """

    guards: Mapping[str, GuardMode] = field(default_factory=dict)
    held: Manifest | None = None
    origin: str | None = None
    plan: bool = True
    all: bool = False
    safety: bool = False


def before(
    site: Site,
    request: RestoreRequest,
    target: Course | None,
    look: Look,
    on_progress: OnProgress = no_progress,
) -> Report:
    """Look at everything that can be known before a restore. Leaves nothing behind on the site.

    What stands against it is in the report, not raised; UsageError, NotFound and Unreachable are.
    """
    found: list[Finding] = []
    verified = _verified(request.source.path, on_progress)
    if verified is not None:
        found += of_file(verified)
    stored = request.source.stored
    sha1 = verified.sha1 if verified is not None else stored.sha1 if stored is not None else None
    if any(one.severity == "forbidden" for one in found):
        return Report(findings.worst_first(found), None, look.origin or sha1, sha1)  # nothing that should travel
    plan = None
    try:
        if target is not None:
            standing = site.standing(target.id, as_user=request.as_user)
            scene = guards.Scene(site, request, target, standing, look.origin or sha1, look.held)
            found += guards.findings(scene, look.guards)
            found += _in_use(request, target, standing.running, standing.active)
            if look.safety:
                safety.ready(site, target)
        if look.plan and (look.all or not any(one.stops(request.allow) for one in found)):
            plan = site.restore_plan(request, on_progress)
            found += plan.findings
    except (Refused, AccessError) as error:
        if error.code in _NOT_OF_THE_RESTORE:
            raise
        found += findings.of_error(error)
    return Report(_each_once(findings.worst_first(found, request.allow)), plan, look.origin or sha1, sha1)


@dataclass(frozen=True)
class Looked:
    """A restore looked at from all sides: what was found, what the chosen items would miss, and the restore itself,
    None where the file does not even open. ``held`` is what the backup holds where it was read, ``lacks`` what of
    the wishes it has not got."""

    report: Report
    broken: tuple[str, ...] = ()
    request: RestoreRequest | None = None
    target: Course | None = None
    held: Manifest | None = None
    lacks: tuple[str, ...] = ()


def looked(
    site: Site, wanted: Wanted, source: RestoreSource, look: Look, on_progress: OnProgress = no_progress
) -> Looked:
    """Find everything that a command line names, and look at everything before it. Leaves nothing behind on the site.

    Raises UsageError, NotFound and Unreachable; what stands against the restore is in the report.
    """
    try:
        held = _held(site, wanted, source)
    except Refused as error:
        if error.code in _NOT_OF_THE_RESTORE:
            raise
        return Looked(Report(findings.of_error(error), file_sha1=None))
    request, target = restore.request_for(site, wanted, source, held)
    broken = tuple(manifest.broken(held, request.items)) if held else ()
    safe = look.safety and target is not None
    look = replace(look, held=held, plan=look.all or safe, safety=safe)
    lacks = tuple(recovery.lacks(held)) if held and request.wishes else ()
    return Looked(before(site, request, target, look, on_progress), broken, request, target, held, lacks)


def _held(site: Site, wanted: Wanted, source: RestoreSource) -> Manifest | None:
    """What the backup holds: needed to choose from it, and worth a look where it is added to something."""
    needed = bool(wanted.items)
    if needed or source.path is not None or wanted.mode != "merge":
        return restore.look(site, source, needed=needed)
    try:
        return restore.look(site, source, needed=True)
    except (Refused, AccessError):
        return None  # the way to this site does not let it be read where it lies


def origin(source: RestoreSource) -> str | None:
    """The sha1 of the backup that a person named, None where the site does not tell. Reads only."""
    if source.path is not None:
        return sha1_of(source.path)
    return source.stored.sha1 if source.stored is not None else None


def refuse(report: Report, allow: frozenset[str]) -> None:
    """Raises what stands against the restore, if anything does: Refused, or AccessError for a missing permission."""
    refusal = report.refusal(allow)
    if refusal is not None:
        raise refusal


@contextmanager
def telling(report: Report | None, allow: frozenset[str]) -> Iterator[None]:
    """Give an error that a site refuses with the whole report: what was found before, and what it says itself."""
    try:
        yield
    except (Refused, AccessError) as error:
        before = report.findings if report is not None else ()
        found = findings.worst_first((*findings.of_error(error), *before), allow)
        error.details["findings"] = [one.as_dict(allow) for one in _each_once(found)]
        raise


def _each_once(found: Sequence[Finding]) -> tuple[Finding, ...]:
    seen: dict[tuple[str, str], Finding] = {}
    for one in found:
        seen.setdefault((one.name, one.message), one)
    return tuple(seen.values())


# --- the file -------------------------------------------------------------------------------------------------------


def _verified(path: Path | None, on_progress: OnProgress) -> VerifyReport | None:
    """The file looked through to its last byte, before it travels; what lies on the site is looked through there."""
    from moodlectl import mbz

    if path is None:
        return None
    return mbz.verified(path, lambda done, total: on_progress(Progress("scan", done, total, "bytes")))


def of_file(report: VerifyReport) -> list[Finding]:
    """What is wrong with a backup file: hostile and cut off ones are not restored, damaged ones only if allowed."""
    problems = report.problems
    details = {"path": str(report.path), "problems": [problem.as_dict() for problem in problems[:50]]}
    hopeless = [one for one in problems if one.code not in _BEARABLE | _UNTIDY]
    if hopeless:
        return [Finding(hopeless[0].code, "forbidden", hopeless[0].message,
                        "Get it again; 'moodlectl backup verify FILE' tells all that is wrong.", details)]  # fmt: skip
    real = [one for one in problems if one.code not in _UNTIDY]
    if not problems:
        return []
    first = (real or list(problems))[0]
    more = f" And {len(problems) - 1} more like it." if len(problems) > 1 else ""
    if not real:
        return [Finding("not_tidy", "note", f"{first.message}{more}", "", details)]
    return [Finding("not-whole", "danger", f"The backup file is not whole: {first.message}{more}",
                    "Get it again, or make another; 'moodlectl backup verify FILE' tells all that is wrong. To restore"
                    " what is left of it: --allow not-whole", details)]  # fmt: skip


# --- the course -----------------------------------------------------------------------------------------------------


def _in_use(
    request: RestoreRequest, course: Course, running: Sequence[str] | None, active: int | None
) -> list[Finding]:
    """The same in the same words as a site finds it on its way; where no plan is made, it is found here."""
    found = []
    if running:
        found.append(Finding(
            "in-use", "danger", f"Something is at work in the course {course.shortname}: {'; '.join(running)}.",
            "Wait until it has ended. What was broken off and will never end can be passed over: --allow in-use",
            {"running": list(running)},
        ))  # fmt: skip
    if active:
        people = "One person was" if active == 1 else f"{active} people were"
        replace = request.mode == "replace"
        found.append(Finding(
            "in-use", "danger" if replace else "warning",
            f"{people} in the course {course.shortname} within the last five minutes.",
            f"Choose a quieter time, or tell them{'; to go on: --allow in-use' if replace else '.'}",
            {"active": active},
        ))  # fmt: skip
    return found
