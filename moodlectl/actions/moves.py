"""The steps by which one course of a batch is rolled over or moved to another site.

Each may be called again after a kill, with the facts it has noted: what was begun is looked up on the site and never
repeated blindly; what is arranged is arranged once. ``From`` is where the course lies, ``To`` where it goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moodlectl import mbz
from moodlectl.actions import contents as carrying
from moodlectl.actions import deeds, files, fingerprints, naming, protected, rewriting, safety
from moodlectl.actions.contents import How
from moodlectl.actions.specs import Place, Spec, read
from moodlectl.actions.steps import Step, Work
from moodlectl.errors import Failed, MoodlectlError, NotFound, OutcomeUnknown, Refused, Unreachable
from moodlectl.findings import GUARD_MODES, GuardMode
from moodlectl.site.port import (
    AREAS,
    BackupFile,
    BackupRequest,
    Content,
    Course,
    CourseRef,
    ItemChoice,
    RestoreRequest,
    RestoreSource,
    Site,
)

BACKUP, FETCH, CONTENTS, RESTORE, FINISH, OLD = "backup", "fetch", "contents", "restore", "finish", "old"
ALL = (BACKUP, FETCH, CONTENTS, RESTORE, FINISH, OLD)
_HOLES = {"content_missing": "has lost the content", "content_damaged": "has a damaged content"}
TRIES = 3
"""How often at most one course is tried again because the connection was cut under a deed."""


@dataclass(frozen=True)
class Moves:
    """The steps of a batch between two sites, by their names in the configuration; a rollover has the same twice.

    ``guards`` are the modes of the target's guards, where a plan says nothing of its own.
    ``how`` is how the contents of files travel, and what all courses of the batch share of it.
    """

    source: str
    target: str
    guards: Mapping[str, GuardMode] = field(default_factory=dict)
    how: How = field(default_factory=How)

    @property
    def abroad(self) -> bool:
        """Whether the courses leave their site."""
        return self.source != self.target

    def steps(self, spec: Mapping[str, Any]) -> tuple[Step, ...]:
        """The steps one course needs, in order."""
        known = {
            BACKUP: Step(BACKUP, self.source, "backup", self._guarded(self.backup)),
            FETCH: Step(FETCH, self.source, "transfer", self._guarded(self.fetch)),
            CONTENTS: Step(CONTENTS, self.target, "transfer", self._guarded(self.contents)),
            RESTORE: Step(RESTORE, self.target, "restore", self._guarded(self.restore)),
            FINISH: Step(FINISH, self.target, "other", self._guarded(self.finish)),
            OLD: Step(OLD, self.source, "other", self._guarded(self.old)),
        }
        return tuple(known[name] for name in read(spec).steps)

    def _guarded(self, step: Any) -> Any:
        """A step that, when it fails for good, takes away what the steps before it have left on the site."""

        def do(work: Work) -> None:
            try:
                step(work, read(work.spec))
            except (OutcomeUnknown, Unreachable):
                raise  # will be asked for again
            except MoodlectlError as error:
                if self._worth_another_try(work, error):
                    raise
                with suppress(MoodlectlError):
                    self.tidy(work)
                self.forget(work)
                raise _in_words_of_a_plan(error) from error

        return do

    def _worth_another_try(self, work: Work, error: MoodlectlError) -> bool:
        """Whether nothing happened, and only the connection is to blame: that is tried again, but not for ever."""
        if not error.details.pop("retry", False):
            return False
        tried = int(work.facts.get("tried_again") or 0)
        if tried >= TRIES:
            return False
        work.note(tried_again=tried + 1)
        error.details["retry"] = True
        return True

    # --- from the old course to the new ---------------------------------------------------------------------------

    def backup(self, work: Work, spec: Spec) -> None:
        """Back the course up on its site. Writes to the site and the ledger."""
        assert spec.course is not None
        site = work.site(self.source)
        course = int(spec.course["id"])
        if spec.fingerprint and "fingerprint" not in work.facts:
            # Before the backup: what changes in between will be taken next time.
            users = spec.settings.get("users", True)
            work.note(fingerprint=fingerprints.fingerprint(site, course, with_users=users))
        items = naming.choose_items(spec.items, site.contents(course)) if spec.items else ItemChoice()
        settings = {**spec.settings, **({"files": False} if spec.lean else {})}
        made = deeds.made_or_found(site, BackupRequest(course, settings, items), work, BACKUP, work.progress)
        work.note(file=as_facts(made.file), bytes=made.file.size, sha1=made.file.sha1, warnings=list(made.warnings))

    def fetch(self, work: Work, spec: Spec) -> None:
        """Bring the backup here, look into it, and leave no copy on its site. Writes to the site it comes from."""
        from moodlectl.mbz import moving

        path = self._local(work, spec)
        if spec.backup is None:
            site = work.site(self.source)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.exists() and path.stat().st_size != work.facts.get("bytes"):
                path.unlink()  # the machine went down before it was on the disk
            if not path.exists():
                site.download(_needed(work, spec, site), path, work.progress)
            assert spec.course is not None
            files.check_is_of(path, _course(spec.course), site.info().url)
        if self.abroad:
            found = moving.moving(path)
            work.note(
                old_url=found.url,
                links_to_old_site=found.count,
                links=dict(found.links),
                missing_methods=self._missing_methods(work, found.methods),
            )
        work.note(sha1=files.sha1_of(path), bytes=path.stat().st_size)
        files.make_lasting(path)
        self.tidy(work)

    def contents(self, work: Work, spec: Spec) -> None:
        """Bring the contents that the target has not got yet from pool to pool. Writes to the target's file pool."""
        path = self._local(work, spec)
        found = {one.sha1: one for one in mbz.pool_files(path)}
        source, target = work.site(self.source).pool(), work.site(self.target).pool()
        lost = list[str]()
        while True:
            wanted = [Content(one.sha1, one.size) for one in found.values() if one.sha1 not in lost]
            try:
                done = carrying.carry(source, target, wanted, replace(self.how, waits=False), work.progress)
                break
            except Failed as failed:
                what = _HOLES.get(failed.code or "")
                if what is None:
                    raise
                names = [found[sha1].filename for sha1 in failed.details["contents"]]
                failed.details["files"] = names
                failed.message = f"{self.source} {what} of {len(names)} files: {', '.join(names[:3])}."
                if "without-files" not in spec.allow:
                    raise
                lost += failed.details["contents"]
                work.note(warnings=[*work.facts.get("warnings", ()), failed.message])
        carried = {"contents": len(found), "contents_sent": done.count, "content_bytes_sent": done.bytes}
        work.note(bytes=path.stat().st_size + done.wire_bytes, **carried)

    def _missing_methods(self, work: Work, methods: Mapping[str, int]) -> list[str]:
        return missing_methods(work.site(self.target).enrolment_methods(), methods)

    def restore(self, work: Work, spec: Spec) -> None:
        """Make the new course, or fill the one that is there, and compare it with the backup. Writes to the site."""
        site = work.site(self.target)
        if "course" not in work.facts:
            self._restore(work, spec, site)
        if not self.abroad:
            self.tidy(work)

    def _restore(self, work: Work, spec: Spec, site: Site) -> None:
        target = site.course(CourseRef("id", str(spec.target))) if spec.target is not None else None
        if target is not None and not work.again:
            self._still_unchanged(spec, site, target)
        source = self._source(work, spec, site)
        request = self._request(work, spec, site, source)
        protection = protected.Protection(safety=spec.safety, guards={**self.guards, **modes(spec)})
        if deeds.number_of(work.facts, protected.STAGE) is None:
            checked = protected.look(site, request, target, protection, work.progress)
            work.note(findings=[f"{one.severity}: {one.message}" for one in checked.findings])
            protection = replace(protection, checked=checked)
        done, _ = protected.within(site, request, target, protection, work, work.progress)
        course, differences = done.restored.course, list(done.differences or ())
        work.note(
            course=course.id,
            url=course.url,
            shortname=course.shortname,
            activities={str(old): new for old, new in done.restored.activities.items()},
            users={"matched": done.restored.users.matched, "created": done.restored.users.created},
            differences=differences,
            warnings=[*work.facts.get("warnings", ()), *done.restored.warnings],
        )
        if differences:
            raise Failed(
                f"{course.shortname} is not what the backup holds: {'; '.join(differences[:3])}.",
                f"Look at {course.url}; it was left as it is.",
                code="not_verified",
                details={"differences": differences},
            )

    def _still_unchanged(self, spec: Spec, site: Site, target: Course) -> None:
        if spec.unchanged_since is None:
            return
        users = spec.settings.get("users", True)
        if fingerprints.fingerprint(site, target.id, with_users=users) != spec.unchanged_since:
            raise Refused(
                f"{target.shortname} was changed on {self.target} since it was brought there.",
                'Look at both. To lose what was changed there: on_changed_target = "replace".',
                code="target_changed",
            )

    def _request(self, work: Work, spec: Spec, site: Site, source: RestoreSource) -> RestoreRequest:
        looks = spec.looks
        name = looks.shortname
        if spec.provisional:
            name = f"{looks.shortname}~{work.job}.{work.seq}"
        new = spec.mode == "new"
        arrangement = looks.arrangement()
        return RestoreRequest(
            source=source,
            mode=spec.mode,  # type: ignore[arg-type]  # checked when the plan was read
            category_id=place(site, looks.place) if new and looks.place is not None else None,
            course_id=spec.target,
            fullname=looks.fullname,
            shortname=name if new else None,
            startdate=arrangement.startdate,
            visible=False if looks.visible is False else None,  # shown when all is done
            settings=dict(spec.settings) if spec.backup is not None else _shared(spec.settings),
            enrolments=spec.enrolments,  # type: ignore[arg-type]
            keep_enrolments=spec.keep_enrolments,
            keep_groups=spec.keep_groups,
            overwrite_config=spec.overwrite_config,
            users_conflict=spec.users_conflict,  # type: ignore[arg-type]
            allow=frozenset(spec.allow),
        )

    def _source(self, work: Work, spec: Spec, site: Site) -> RestoreSource:
        """The archive as the target takes it: where it lies, as it came, or with its people mapped."""
        if FETCH not in spec.steps and spec.backup is None:
            return RestoreSource(stored=_needed(work, spec, site))
        path = self._local(work, spec)
        if not path.is_file():
            raise NotFound(f"{path} is gone.", "Begin anew: run the plan again.", code="backup_gone")
        if not spec.maps:
            return RestoreSource(path=path)
        mapped = work.folder / "mapped.mbz"
        if not mapped.exists():
            map_ = Path(spec.user_map) if spec.user_map else None
            work.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            asked = rewriting.Asked(mapped, map_, spec.map, overwrite=True, for_many=True)
            if not rewriting.concerns(str(path), asked, site):
                return RestoreSource(path=path)
            rewriting.rewrite(str(path), asked, site, work.progress)
        return RestoreSource(path=mapped)

    def _local(self, work: Work, spec: Spec) -> Path:
        """Where the archive lies here."""
        if spec.backup is not None:
            return naming.local_path(spec.backup)
        return work.folder / files.safe_name(str((spec.stored or work.facts["file"])["filename"]))

    # --- afterwards -----------------------------------------------------------------------------------------------

    def finish(self, work: Work, spec: Spec) -> None:
        """Name, date, show and people the new course. Writes to the site; changes nothing that is so already."""
        site = work.site(self.target)
        course = int(work.facts.get("course") or spec.target or 0)
        if spec.provisional and spec.old is not None:
            self.old(work, spec)  # first it gives up its name
        looks = spec.looks if spec.mode == "new" else replace(spec.looks, place=None, shortname=None)
        people = self._kept(work, spec) if spec.keep_roles else ()
        done = site.arrange(course, replace(looks.arrangement(people=people), startdate=None))
        work.note(course=done.id, url=done.url, shortname=done.shortname)
        if spec.fingerprint:
            users = spec.settings.get("users", True)
            work.note(target_fingerprint=fingerprints.fingerprint(site, course, with_users=users))
        if self.abroad and spec.course is not None:
            work.note(addresses=self._addresses(work, spec, site, course))
        if CONTENTS in spec.steps and (path := self._local(work, spec)).is_file():
            # They have their files now; what was put there ahead of them is no longer needed.
            site.pool().release([one.sha1 for one in mbz.pool_files(path)])
        self.forget(work)

    def _kept(self, work: Work, spec: Spec) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Who has one of the roles that are kept, as (username, those roles)."""
        assert spec.course is not None
        wanted = set(spec.keep_roles or ())
        people = work.site(self.source).course_facts(int(spec.course["id"])).people
        kept = ((person.username, tuple(r for r in person.roles if r in wanted)) for person in people if person.active)
        return tuple((username, roles) for username, roles in kept if roles)

    def _addresses(self, work: Work, spec: Spec, site: Site, course: int) -> list[list[str]]:
        """Old addresses and new ones, of the course and what is in it."""
        from moodlectl.mbz import moving

        assert spec.course is not None
        old_url = str(work.facts.get("old_url") or "") or work.site(self.source).info().url
        new = {one.id: one.module for section in site.contents(course) for one in section.activities}
        pairs = {int(old): after for old, after in work.facts.get("activities", {}).items()}
        known = {old: (new[after], after) for old, after in pairs.items() if after in new}
        return moving.addresses(old_url, site.info().url, (int(spec.course["id"]), course), known)

    def old(self, work: Work, spec: Spec) -> None:
        """What the plan says of the old course. Writes to the site; changes nothing that is so already."""
        assert spec.course is not None
        assert spec.old is not None
        site = work.site(self.source)
        category = place(site, spec.old.place) if spec.old.place is not None else None
        site.arrange(int(spec.course["id"]), spec.old.arrangement(category))

    # --- what must not stay ---------------------------------------------------------------------------------------

    def tidy(self, work: Work) -> None:
        """Delete the backup that was made for this on its site, if it is still there. Writes to the site."""
        site = work.site(self.source)
        file = _stored(work, site)
        if file is not None:
            site.delete_backup(file)
        if work.facts.get("safety"):
            _drop_stored_copy(work.site(self.target), work)

    def forget(self, work: Work) -> None:
        """Let the sites forget deeds whose end is written down here."""
        for stage, name in ((BACKUP, self.source), (protected.STAGE, self.target), (safety.STAGE, self.target)):
            for number in deeds.numbers_of(work.facts, stage):
                with suppress(MoodlectlError):
                    work.site(name).forget_deed(number)


def missing_methods(there: Mapping[str, bool], methods: Mapping[str, int]) -> list[str]:
    """Of a course's enrolment methods (how many people each has) those that the target has not, or has switched off, a
    phrase each."""
    return [
        f"{name} ({'not installed' if name not in there else 'switched off'}, {people} people)"
        for name, people in methods.items()
        if not there.get(name)
    ]


def place(site: Site, where: Place | None) -> int | None:
    """The id of a category, made where the plan said so. Writes to the site at most that."""
    if where is None or where.id is not None:
        return where.id if where is not None else None
    made = None
    for depth, (idnumber, visible) in enumerate(zip(where.idnumbers, where.visible, strict=True)):
        if idnumber or depth == len(where.path) - 1:
            made = site.make_category(where.path[: depth + 1], idnumber=idnumber, visible=visible).id
    return made


def _course(said: Any) -> Course:
    return Course(
        id=int(said["id"]), shortname=str(said["shortname"]), fullname=str(said.get("fullname") or ""), idnumber="",
        category_id=0, category_name="", startdate=None, visible=True, url="",
    )  # fmt: skip


def as_facts(file: BackupFile) -> dict[str, Any]:
    """What is written down of a stored backup, enough to find it again."""
    return {"course": file.course_id, "area": file.area, "filename": file.filename, "owner": file.owner,
            "sha1": file.sha1, "size": file.size}  # fmt: skip


def _needed(work: Work, spec: Spec, site: Site) -> BackupFile:
    """The stored backup to go on with. Raises Failed where it is gone."""
    file = find(site, spec.stored) if spec.stored is not None else _stored(work, site)
    if file is None:
        raise Failed(
            f"The backup of {work.course} is gone from {site.name}.", "Run the plan again.", code="backup_gone"
        )
    return file


def _stored(work: Work, site: Site) -> BackupFile | None:
    """The backup that was made for this course, as it lies on its site now; None where there is none any more."""
    said = work.facts.get("file")
    if not said:
        number = deeds.number_of(work.facts, BACKUP)
        made = site.deed(number).made if number else None
        if made is None:
            return None
        said = as_facts(made.file)
    return find(site, said)


def find(site: Site, said: Mapping[str, Any]) -> BackupFile | None:
    """A stored backup by what ``as_facts`` told of it; None where it is gone, or another by now. Reads only."""
    area = next(area for area in AREAS if area == said["area"])
    try:
        listed = site.backups(int(said["course"]), [area], owner=said["owner"]).files
    except NotFound:
        return None
    same = (one for one in listed if one.filename == said["filename"])
    return next((one for one in same if said["sha1"] is None or one.sha1 in (said["sha1"], None)), None)


def _drop_stored_copy(site: Site, work: Work) -> None:
    """A kill can come between bringing a safety backup here and removing it there."""
    number = deeds.number_of(work.facts, safety.STAGE)
    made = site.deed(number).made if number else None
    if made is not None:
        for one in site.backups(made.file.course_id, [made.file.area], owner=made.file.owner).files:
            if (one.filename, one.sha1) == (made.file.filename, made.file.sha1):
                site.delete_backup(one)


def _shared(settings: Any) -> dict[str, bool]:
    """Of the settings a backup was made with those that a restore has, too; what is left out there cannot come."""
    return {name: value for name, value in settings.items() if value and name in ("permissions",)}


def _in_words_of_a_plan(error: MoodlectlError) -> MoodlectlError:
    """Remedies are said as a plan says them, not as options of a command."""
    if error.code == "user_conflict":
        names = error.details.get("conflicts") or ["admin"]
        error.hint = (
            f'If they are the same people, say so in the plan: map = ["{names[0]}={names[0]}"], or '
            'user_map = "FILE.csv" for many. Or bring the course without people: on_user_conflict = "without-users".'
        )
    elif error.hint:
        error.hint = in_words_of_a_plan(error.hint)
    return error


def in_words_of_a_plan(remedy: str) -> str:
    """A remedy that names an option of a command, as a plan says the same."""
    return _IN_A_PLAN.sub(lambda found: f'{found[1].replace("-", "_")} = ["{found[2]}"]', remedy)


_IN_A_PLAN = re.compile(r"--(allow|without) ([\w-]+)")


def modes(spec: Spec) -> dict[str, GuardMode]:
    """The guards' modes that the plan itself says."""
    return {name: mode for name, said in spec.guards.items() for mode in GUARD_MODES if mode == said}

