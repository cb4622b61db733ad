"""Restoring with ``admin/cli/restore_backup.php``: what can be foreseen, the deed, and whether it was done.

The script throws its pre-check's result away and names neither users nor warnings (3.10 to 5.1): what it did is seen in
the course itself, over web services.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl import findings
from moodlectl.errors import Failed, MoodlectlError, NotFound, OutcomeUnknown, Refused
from moodlectl.findings import Finding
from moodlectl.site.admincli import backup, checks, leftovers, looking, refusals, scripts
from moodlectl.site.admincli.leftovers import Before
from moodlectl.site.admincli.looking import Means
from moodlectl.site.admincli.scripts import RESTORE, Said
from moodlectl.site.live import courses
from moodlectl.site.port import (
    BEGUN,
    Counts,
    Course,
    CourseRef,
    OnProgress,
    Precheck,
    Progress,
    Restored,
    RestorePlan,
    RestoreRequest,
    RestoreSource,
    SiteInfo,
    UsersOutcome,
)

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest
    from moodlectl.site.webservice import WebService

_NO_PRECHECK = "Moodle's pre-check cannot be run by the engine admin-cli; what it would warn of is not known."
_NO_USERS = "Whom of the backup's people the site has could not be looked up."
PEOPLE = (
    "'moodlectl backup rewrite' writes a copy that restores: with --map OLD=NEW for single people (OLD=- leaves "
    "them out), or with --without-users."
)


@dataclass(frozen=True)
class _Job:
    """One restore with all that was read before it."""

    request: RestoreRequest
    ws: WebService
    path: Path
    manifest: Manifest
    info: SiteInfo
    target: Course | None


# --- before ----------------------------------------------------------------------------------------------------------


def plan(means: Means, request: RestoreRequest, on_progress: OnProgress) -> RestorePlan:
    """What can be known from the file and the site's own lists; nothing is run but ``--help``. Reads only."""
    with _prepared(means, request, on_progress) as job:
        users, unseen = _people(job)
        found = (*_findings(job, means), *checks.people(users, unseen))
        clash = "Trying to restore user '{}' from backup file will cause conflict"
        target, course = job.target, job.manifest.course
        return RestorePlan(
            request=request,
            precheck=Precheck(
                tuple(clash.format(name) for name in users.conflicts), (_NO_PRECHECK, *_doubts(job), *unseen)
            ),
            users=users,
            settings=(),
            expected=looking.expected(job.manifest),
            target=target,
            target_counts=looking.counts(job.ws, target.id) if target else None,
            fullname=target.fullname if target else course.fullname,
            shortname=target.shortname if target else course.shortname,
            backup_release=job.manifest.moodle_release or "",
            site_release=job.info.release,
            same_site=bool(job.manifest.same_site),
            dangers=findings.of_names(found),
            findings=found,
        )


@contextmanager
def _prepared(means: Means, request: RestoreRequest, on_progress: OnProgress) -> Iterator[_Job]:
    """Everything that can be refused is, before anything runs."""
    from moodlectl import mbz

    refusals.check_restore(request, means.config)
    if means.web is None:
        raise refusals.no_token(means.config.name, "what a restore needs to know")
    if means.config.exchange_dir is None:
        raise refusals.no_exchange(means.config, "restoring")
    info, target = courses.info(means.web), None
    if request.course_id is not None:
        target = courses.course(means.web, CourseRef("id", str(request.course_id)))
    elif request.category_id is not None:
        courses.below(courses.categories(means.web), request.category_id)
    with _local(means, request.source, on_progress) as path:
        manifest = mbz.inspect(path, site_url=info.url, site_version=info.version)
        if manifest.format != "moodle2":
            why = f"{RESTORE} converts nothing"
            raise refusals.cannot(f"restore a file that is no Moodle 2 backup ({manifest.kind})", why)
        if manifest.type != "course" and request.mode == "new":
            raise refusals.cannot(f"make a new course of a {manifest.kind}", "name a course to add it to, with --merge")
        _check_options(means, request)
        yield _Job(request, means.web, path, manifest, info, target)


@contextmanager
def _local(means: Means, source: RestoreSource, on_progress: OnProgress) -> Iterator[Path]:
    """The archive on this machine; a stored one is brought to a private folder for the length of the block."""
    if source.stored is None:
        if source.path is None or not source.path.is_file():
            raise NotFound(f"There is no backup file {source.path}.", code="no_file")
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        path = Path(folder) / "backup.mbz"
        backup.download(means, source.stored, path, on_progress)
        yield path


def _check_options(means: Means, request: RestoreRequest) -> None:
    """Whether this release's script has the option for where it shall go; its help says. Raises Refused."""
    option = "categoryid" if request.mode == "new" else "courseid"
    if option not in means.host.options(RESTORE):
        what = "make a new course of a backup" if request.mode == "new" else "restore into an existing course"
        raise refusals.cannot(what, f"this release's admin/cli/{RESTORE} has no --{option}")


def _doubts(job: _Job) -> list[str]:
    modules = looking.doubtful_modules(job.manifest, job.info)
    if not modules:
        return []
    return [f"Whether the site has {', '.join(modules)} cannot be seen; Moodle leaves out what it has not got."]


def _people(job: _Job) -> tuple[UsersOutcome, tuple[str, ...]]:
    """What would become of the backup's people, and what of that cannot be seen, a sentence each."""
    foreseen = looking.foresee_people(job.ws, job.path, job.manifest) if job.manifest.has_users else None
    if foreseen is None:
        return UsersOutcome(), (_NO_USERS,) if job.manifest.has_users else ()
    return foreseen.outcome, foreseen.notes


def _findings(job: _Job, means: Means) -> tuple[Finding, ...]:
    return tuple(checks.findings(means, job.path, job.manifest, job.info, job.target))


# --- the deed --------------------------------------------------------------------------------------------------------


def restore(means: Means, request: RestoreRequest, on_progress: OnProgress) -> Restored:
    """Restore into a new course or, where the release's script can, into one there is. Writes to the site."""
    started = time.monotonic()
    with _prepared(means, request, on_progress) as job:
        found = (*_findings(job, means), *checks.people(*_people(job)))
        refusal = findings.refusal(found, request.allow)
        if refusal is not None:
            raise refusal
        known, before = frozenset[int](), Counts(0, {}, 0)
        if request.category_id is not None:
            known = frozenset(looking.in_category(job.ws, request.category_id))
        if job.target is not None:
            before = looking.counts(job.ws, job.target.id)
        with means.host.carried(job.path, on_progress) as there:
            on_progress(Progress(BEGUN, request.course_id or 0))
            on_progress(Progress("restore", 0, None))
            options = scripts.restore_options(there, category_id=request.category_id, course_id=request.course_id)
            said = means.host.script(RESTORE, options, deed=True)
        course = _course(means, job, said, known, before)
        on_progress(Progress("verify", 0, None))
        return Restored(
            course=course,
            mode=request.mode,
            precheck=Precheck(),
            users=UsersOutcome(),
            expected=looking.expected(job.manifest),
            before=before,
            after=looking.counts(job.ws, course.id),
            activities={},
            warnings=(_UNTOLD, *_doubts(job)),
            seconds=round(time.monotonic() - started, 3),
            findings=found,
        )


_UNTOLD = (
    "Sections and activities are compared, nothing else: Moodle's script tells neither what its pre-check warned of "
    "nor what became of people."
)


def _course(means: Means, job: _Job, said: Said, known: frozenset[int], before: Counts) -> Course:
    """The course restored into, where there is evidence of it; else what is left is removed, and it is raised."""
    told = scripts.restored_id(said)
    wanted = job.request.course_id
    if told is None or (told != wanted if wanted is not None else told in known):
        if wanted is not None:
            raise _not_merged(job, said, before)
        raise _not_made(means, job, said, known)
    try:
        return courses.course(job.ws, CourseRef("id", str(told)))
    except NotFound as unseen:
        raise OutcomeUnknown(
            f"Moodle's script says that it restored course {told}, but the token's user does not see it.",
            "Look at the course as an administrator, or use a token that sees hidden courses.",
            code="not_seen",
            details={"course": told, **said.evidence},
        ) from unseen


def _not_merged(job: _Job, said: Said, before: Counts) -> MoodlectlError:
    trouble = _trouble(job, said)
    if isinstance(trouble, Refused):
        return trouble
    after = looking.counts(job.ws, job.request.course_id or 0)
    if after == before:
        trouble.hint = "The course has the sections and activities it had before."
        return trouble
    held = f"{after.sections} sections and {sum(after.activities.values())} activities"
    trouble.details["left"] = {"sections": after.sections, "activities": dict(after.activities)}
    return _with(trouble, f"The course may hold a part of the backup; it holds {held}.")


def _not_made(means: Means, job: _Job, said: Said, known: frozenset[int]) -> MoodlectlError:
    """The failure of a new course; the unfinished one is removed, or else named."""
    trouble = _trouble(job, said)
    if not _made_one(said):
        return trouble
    category = job.request.category_id or 0
    found = leftovers.remove(
        means, Before(category, known, job.manifest.course.shortname), surely_empty=scripts.stopped_by_precheck(said)
    )
    trouble.details.update(found)
    changed = "left_behind" in found or "not_looked" in found
    return _with(trouble, leftovers.told(found), Failed if changed else type(trouble))


def _with(trouble: MoodlectlError, more: str, kind: type[MoodlectlError] | None = None) -> MoodlectlError:
    """The trouble with a sentence more; ``kind`` where it is not what it was."""
    message = f"{trouble.message} {more}".strip()
    return (kind or type(trouble))(message, trouble.hint, code=trouble.code, details=trouble.details)


def _made_one(said: Said) -> bool:
    """Whether the script got to where it makes its course: it unpacks first, then says that it looks at it."""
    return sum(1 for line in said.output if line.strip().startswith("== ")) >= 2


# --- what went wrong -------------------------------------------------------------------------------------------------


def _trouble(job: _Job, said: Said) -> MoodlectlError:
    details: dict[str, Any] = dict(said.evidence)
    if (folder := scripts.unpacked_at(said)) and said.status != 0:
        details["unpacked_at"] = folder
    if scripts.stopped_by_precheck(said):
        return _precheck(job, details)
    if said.status == 0:
        message = "Moodle's script ended as if all were well, but said of no course that it was restored."
        return Failed(message, "Its last words are in the details.", code="script_failed", details=details)
    message = f"Moodle's script failed: {scripts.problem(said)}."
    return Failed(message, "'moodlectl backup verify FILE' tells whether the file is whole.", code="script_failed",
                  details=details)  # fmt: skip


def _precheck(job: _Job, details: dict[str, Any]) -> Refused:
    """The script does not say why; people that conflict are looked up, since it is nearly always them."""
    conflicts: tuple[str, ...] = ()
    try:
        foreseen = looking.foresee_people(job.ws, job.path, job.manifest)
        conflicts = foreseen.outcome.conflicts if foreseen else ()
    except MoodlectlError as unknown:
        details["people"] = unknown.message
    if conflicts:
        names = ", ".join(conflicts[:50]) + (f", … ({len(conflicts)} in all)" if len(conflicts) > 50 else "")
        details |= {"conflicts": list(conflicts[:50]), "count": len(conflicts)}
        message = f"The site has other people under the same usernames: {names}."
        return Refused(message, PEOPLE, code="user_conflict", details=details)
    people = job.manifest.counts.users
    message = "Moodle's pre-check found errors, which its script keeps to itself."
    if not people:
        return Refused(message, "The engine 'runner' shows them.", code="precheck", details=details)
    of = f"{people} people" if people > 1 else "one person"
    message += f" The backup holds {of}; most often an account conflicts or may not be created."
    return Refused(message, PEOPLE, code="precheck", details=details)
