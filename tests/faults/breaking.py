"""A practice site behind a connection that breaks, and whose restores can be made to break off half-way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moodlectl.errors import Failed, OutcomeUnknown, Unreachable
from moodlectl.site.port import (
    BEGUN,
    BackupMade,
    BackupRequest,
    CourseRef,
    Deed,
    ItemChoice,
    OnProgress,
    Progress,
    Restored,
    RestoreRequest,
    no_progress,
)
from moodlectl.site.practice import PracticeSite


class BreakingSite(PracticeSite):
    """``faults`` are taken one for each restore or backup: ``lost`` (done, the answer is lost),
    ``mute`` (lost, and the next question finds nobody), ``cut`` (never
    arrives), ``dead`` (PHP is killed when the course is emptied), ``torn`` (breaks off and says so), ``gone`` (dead,
    and no account of it is left), ``stop`` (Ctrl-C, then the site finishes). ``silent`` is how many questions about
    deeds find nobody."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "practice")
        self.faults: list[str] = []
        self.silent = 0
        self.settled: list[str] = []
        self._died: dict[str, Deed] = {}

    def restore(self, request: RestoreRequest, on_progress: OnProgress = no_progress) -> Restored:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "cut":
            raise Unreachable("the connection was lost (nothing was changed)")
        if fault:
            on_progress(Progress(BEGUN, request.course_id or 0))
        if fault in ("dead", "torn", "gone"):
            self._half(request, fault)
        restored = super().restore(request, on_progress)
        if fault in ("lost", "mute"):
            self.silent += 1 if fault == "mute" else 0
            raise OutcomeUnknown("the connection was lost, after the site had begun to change")
        if fault == "stop":
            raise KeyboardInterrupt
        return restored

    def backup(self, request: BackupRequest, on_progress: OnProgress = no_progress) -> BackupMade:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "cut":
            raise Unreachable("the connection was lost (nothing was changed)")
        made = super().backup(request, on_progress)
        if fault == "lost":
            on_progress(Progress(BEGUN, request.course_id))
            raise OutcomeUnknown("the connection was lost, after the site had begun to change")
        return made

    def _half(self, request: RestoreRequest, fault: str) -> None:
        """A restore of next to nothing stands for one that was broken off."""
        assert request.deed is not None
        error = Failed("Moodle broke off.", code="broke_off", details={"left": {"sections": 1}})
        if request.mode != "new":
            part = ItemChoice(only_sections=frozenset(), only_activities=frozenset())
            super().restore(replace(request, items=part, deed=None, settings={"users": False}, enrolments=None))
        if fault != "gone":
            changed = request.mode != "new"
            self._died[request.deed] = Deed(
                request.deed, True, phase="executing", changed=changed, unsettled=True, course_id=request.course_id
            )
        if fault == "torn":
            self._settle(request.deed, error)
            raise error
        raise OutcomeUnknown("PHP was killed on the host, after the site had begun to change")

    def deed(self, number: str) -> Deed:
        if self.silent:
            self.silent -= 1
            raise Unreachable("nobody answers")
        return self._died.get(number) or super().deed(number)

    def settle_deed(self, number: str) -> Deed:
        self.settled.append(number)
        return self._settle(number, Failed("PHP was killed on the host in the middle of the restore.", code="php_killed"))

    def _settle(self, number: str, error: Failed) -> Deed:
        self._died[number] = replace(self._died[number], phase="failed", unsettled=False, error=error)
        return self._died[number]


def held(site: PracticeSite, course: int) -> list[str]:
    """All that a course holds, without the numbers of things."""
    package = site.store.load(course)
    told = [f"{section.number} {section.title}" for section in package.sections]
    told += [f"{one.module} {one.title} {one.visible}" for one in package.activities]
    row = site.course(CourseRef("id", str(course)))
    told += [row.fullname, row.shortname, row.idnumber, str(row.visible), str(row.startdate), repr(site.counts(course))]
    told += [f"{f.area} {f.filename} {f.sha1}" for f in site.backups(course).files if f.area != "private"]
    return sorted(told)
