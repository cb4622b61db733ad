"""Copy and import by web services alone: inside one web request, whose answer may be lost on the way.

A gateway that gives up (504, 502, an error page, a connection that drops) says nothing about what Moodle does: the site
is looked at until that is known. The request is never sent twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodlectl.actions import copying, webwatch
from moodlectl.actions.recording import Entry, recorded
from moodlectl.actions.webwatch import Seen, Task, Verdict, Watch, lacking, things_in
from moodlectl.errors import (
    AccessError,
    Failed,
    MoodlectlError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unreachable,
    UsageError,
)
from moodlectl.ledger import Item
from moodlectl.site.port import (
    WEB_COPY,
    WEB_IMPORT,
    Course,
    CourseRef,
    ItemChoice,
    OnProgress,
    Site,
    WebCopy,
    WebImport,
    no_progress,
)

STAGE = "web"


@dataclass(frozen=True)
class WebDone:
    """A copy or import that Moodle finished: its job, what is missing of it, and ``gave_up``: what came in place of
    Moodle's answer, None where it came."""

    course: Course
    job: int
    differences: tuple[str, ...] | None
    gave_up: str | None
    seconds: float


# --- what can be asked this way -----------------------------------------------------------------------------------


def refuse_what_cannot_be(planned: copying.Planned) -> None:
    """Refuse by name what Moodle's web services have no option for. Raises Refused, UsageError."""
    request, source = planned.request, planned.request.source.course
    assert source is not None
    kind = source.rules
    known = WEB_COPY if kind == "copy" else WEB_IMPORT
    asked = {
        "--delete-contents": request.mode == "replace",
        "--startdate": request.startdate is not None,
        "--idnumber": request.idnumber is not None,
        "--enrolments": request.enrolments is not None,
        "--as": request.as_user is not None,
        "--only, --skip and --no-userdata": source.items != ItemChoice(),
    }
    if asked["--delete-contents"]:
        raise Refused(
            "Without a shell nothing that a course holds is deleted: Moodle's web service empties the course before it "
            "knows whether the import can be done, and no safety backup can be made first.",
            _SHELL,
            code="needs_shell",
        )
    for words, said in asked.items():
        if said:
            what = f"Moodle's web service to {kind} a course has no option for {words}."
            raise Refused(what, _SHELL, code="needs_shell")
    unknown = [name for name in source.settings if name not in known]
    if unknown:
        raise Refused(
            f"Moodle's web service to {kind} a course has no setting {', '.join(unknown)}.",
            f"It has: {', '.join(known)}. {_SHELL}",
            code="needs_shell",
            details={"settings": unknown, "available": list(known)},
        )
    people = [name for name in ("role_assignments", "comments", "userscompletion", "logs", "grade_histories")
              if source.settings.get(name) and not source.settings.get("users")]  # fmt: skip
    if people:
        raise UsageError(f"'{people[0]}' depends on 'users', which is off.", "Say --with users as well.")


_SHELL = "A shell can: 'moodlectl site add' says how a site's host is reached (--via, --moodle-dir)."


def settings_of(settings: Mapping[str, bool], known: Mapping[str, bool]) -> dict[str, bool]:
    """All settings the web service has: those said, and for the rest what goes with them."""
    people = {name: True for name in ("role_assignments", "comments", "userscompletion") if settings.get("users")}
    return {name: settings.get(name, people.get(name, default)) for name, default in known.items()}


def plan(site: Site, planned: copying.Planned) -> dict[str, Any]:
    """What would be asked of Moodle, and what the source holds. Reads only. Raises Refused, UsageError."""
    refuse_what_cannot_be(planned)
    task = _task(site, planned)
    source = planned.request.source.course
    settings = source.settings if source else {}
    return {
        "source": planned.source.shortname,
        "into": planned.target.shortname if planned.target else "a new course",
        "mode": planned.request.mode,
        "fullname": task.fullname or None,
        "shortname": task.shortname or None,
        "visible": task.visible if task.kind == "copy" else None,
        "settings": settings_of(settings, WEB_COPY if task.kind == "copy" else WEB_IMPORT),
        "sections": sum(number for (kind, _), number in task.things.items() if kind == "section"),
        "activities": sum(number for (kind, _), number in task.things.items() if kind != "section"),
    }


# --- doing it -------------------------------------------------------------------------------------------------------


def run(
    site: Site,
    planned: copying.Planned,
    asked: Mapping[str, Any],
    on_progress: OnProgress = no_progress,
    *,
    verify: bool = True,
    wait: float = webwatch.WAIT,
) -> WebDone:
    """Copy or import inside one web request, and know how it ended whatever came back. Writes to site and ledger.

    Raises AccessError, Refused (nothing changed), Failed (what was left is named, and removed where it is ours beyond
    doubt), OutcomeUnknown where nothing has moved for ``wait`` seconds and nothing tells why.
    """
    refuse_what_cannot_be(planned)
    task = _task(site, planned)
    source = planned.source
    item = Item(
        1,
        planned.target.shortname if planned.target else task.shortname,
        task.kind,
        "planned",
        source=str(asked.get("backup") or source.shortname),
        target=f"course {task.target_id}" if planned.target else f"category {task.category_id}",
        facts={"source_course": source.id, "verify": verify, "wait": wait},
    )
    began = time.monotonic()
    with recorded(site, task.kind, item, asked) as entry:
        entry.note(stage=STAGE, web=task.facts())
        gave_up = _send(site, planned, task, entry)
        course, differences = _settle(site, entry, gave_up, on_progress)
        _record(entry, course, differences if verify else None, gave_up)
    told = differences if verify else None
    return WebDone(course, entry.job, told, gave_up, time.monotonic() - began)


def _task(site: Site, planned: copying.Planned) -> Task:
    """What is asked, and what is there before. Reads only. Raises Refused for what the site would trip over."""
    request, source = planned.request, planned.source
    things = things_in(site.contents(source.id))
    if planned.target is not None:
        held = {one.id for section in site.contents(planned.target.id) for one in section.activities}
        return Task("import", source.id, webwatch.now(), things, frozenset(held), target_id=planned.target.id)
    assert request.shortname is not None and request.category_id is not None
    _refuse_taken(site, request.shortname)
    _refuse_overwriting(site, source)
    return Task(
        "copy",
        source.id,
        webwatch.now(),
        things,
        frozenset(one.id for one in site.courses(category_id=request.category_id)),
        category_id=request.category_id,
        fullname=request.fullname or source.fullname,
        shortname=request.shortname,
        visible=source.visible if request.visible is None else request.visible,
    )


def _refuse_taken(site: Site, shortname: str) -> None:
    try:
        other = site.course(CourseRef("shortname", shortname))
    except NotFound:
        return
    raise Refused(
        f"The shortname {shortname} belongs to another course.",
        "Choose another with --shortname.",
        code="shortname_taken",
        details={"course_id": other.id, "shortname": shortname},
    )


def _refuse_overwriting(site: Site, source: Course) -> None:
    """Moodle stores its own backup of the course as ``backup.mbz`` on the way, in place of one that is there, and then
    deletes it (``backup_helper::store_backup_file``, 3.9 to 5.1)."""
    try:
        files = site.backups(source.id, ["course"]).files
    except AccessError:
        return
    if any(file.filename == "backup.mbz" for file in files):
        word = f"{source.shortname}@course/backup.mbz"
        raise Refused(
            f"The backup {word} would be lost: Moodle uses that name for itself on the way.",
            f"Bring it down and delete it on the site first: moodlectl backup download {word}",
            code="would_overwrite",
        )


def _send(site: Site, planned: copying.Planned, task: Task, entry: Entry) -> str | None:
    """Send it, once. Returns what came in place of Moodle's answer, None where that came.

    Raises what the site says of what it did not begin; what it says of what it broke off is settled first.
    """
    settings = planned.request.source.course.settings if planned.request.source.course else {}
    entry.note(begun_web=0)
    try:
        if task.kind == "copy":
            known = settings_of(settings, WEB_COPY)
            wanted = WebCopy(task.course_id, task.category_id, task.fullname, task.shortname, task.visible, known)
            entry.note(web={**task.facts(), "mine": site.web_copy(wanted)})
        else:
            site.web_import(WebImport(task.course_id, task.target_id, settings_of(settings, WEB_IMPORT)))
    except OutcomeUnknown as lost:
        entry.note(gave_up=lost.message)
        return lost.message
    except Unreachable:
        raise  # it never got there
    except MoodlectlError as said:
        if not _is_strange_answer(said):
            raise _after_refusal(site, task, said) from said
        entry.note(gave_up=said.message)
        return said.message
    return None


def _is_strange_answer(error: MoodlectlError) -> bool:
    """Whether what came back is no answer of Moodle's: a gateway's page, of which nothing can be told."""
    return error.code in ("webpage", "invalidjson", "invalidanswer")


def _after_refusal(site: Site, task: Task, said: MoodlectlError) -> MoodlectlError:
    """Moodle itself says that it failed: what it left behind is looked for; it takes back nothing."""
    try:
        seen = webwatch.look(site, task)
    except MoodlectlError:
        return said
    if task.kind == "import":
        if seen.arrived:
            return _broken(site, task, Verdict("broken", seen, 0.0), said)
        return said
    return _broken(site, task, Verdict("broken", seen, 0.0), said) if seen.course else said


# --- how it ended ---------------------------------------------------------------------------------------------------


def _settle(
    site: Site, entry: Entry, gave_up: str | None, on_progress: OnProgress
) -> tuple[Course, tuple[str, ...] | None]:
    """The course and what it lacks, None where that may not be seen.

    Raises Failed, OutcomeUnknown, Unreachable (nothing happened).
    """
    task = Task.of(entry.facts["web"])

    def note(mine: int) -> None:
        entry.note(web={**entry.facts["web"], "mine": mine})

    if gave_up is None:
        verdict = Verdict("done", _look_after(site, task), 0.0)
    else:
        watch = Watch(site, task, note, on_progress, wait=float(entry.facts.get("wait", webwatch.WAIT)))
        try:
            verdict = watch.verdict()
        except Unreachable as silence:
            gone = f"After that the site did not answer any more: {silence.message}"
            raise _unknown(task, f"{gave_up}. {gone}") from silence
        task = watch.task
    if verdict.outcome == "done" and verdict.seen.course is not None:
        missing = None if verdict.seen.blind else tuple(_words(lacking(task, verdict.seen)))
        return verdict.seen.course, missing
    if verdict.outcome == "nothing":
        raise Unreachable(
            f"{gave_up}. Nothing has come of it in {verdict.silence:.0f} seconds: {verdict.why}.",
            "It can be tried again.",
            code="nothing_begun",
        )
    if verdict.outcome == "broken":
        raise _broken(site, task, verdict, None)
    raise _unknown(task, f"{gave_up}. In {verdict.silence:.0f} seconds nothing was to be seen of it on the site")


def _look_after(site: Site, task: Task) -> Seen:
    """What there is after Moodle has said that it is done. Raises OutcomeUnknown where it cannot be seen."""
    try:
        return webwatch.look(site, task)
    except MoodlectlError as trouble:
        raise OutcomeUnknown(
            f"Moodle says that it is done, but looking at the course did not succeed: {trouble.message}",
            code="not_looked_at",
            details=trouble.details,
        ) from trouble


def _unknown(task: Task, message: str) -> OutcomeUnknown:
    what = "it may still be backing the course up" if task.kind == "copy" else "nothing has arrived in the course yet"
    return OutcomeUnknown(f"{message.rstrip('.')}; {what}.", code="gateway", details={"nothing_is_sent_twice": True})


def _broken(site: Site, task: Task, verdict: Verdict, said: MoodlectlError | None) -> Failed:
    """What was begun and not finished: named, and removed where it is ours beyond doubt."""
    seen, course = verdict.seen, verdict.seen.course
    assert course is not None
    why = said.message if said else f"Moodle broke off: for {verdict.silence:.0f} seconds nothing has moved."
    details: dict[str, Any] = dict(said.details) if said else {}
    code = said.code if said else "broke_off"
    if task.kind == "import":
        details["arrived"] = list(_words(seen.arrived))
        return Failed(
            f"{why} A part of the import is in {course.shortname}: {sum(seen.arrived.values())} activities.",
            f"Look at the course and delete what came with it: {course.url}",
            code=code,
            details=details,
        )
    name = f"{course.shortname} (id:{course.id})"
    if stored := _left_backup(site, task):
        details["left_backup"] = stored
    trouble = _remove(site, task, course)
    if trouble is None:
        return Failed(f"{why} The unfinished course {name} was removed again.", code=code,
                      details={**details, "course_removed": True})  # fmt: skip
    return Failed(
        f"{why} The unfinished course {name} is still there: {trouble}",
        f"Delete it on the site: {course.url.replace('view.php', 'delete.php')}",
        code=code,
        details={**details, "course_removed": False, "left": course.url},
    )


def _left_backup(site: Site, task: Task) -> str | None:
    """The backup that Moodle made on the way and would have deleted at the end; no web service deletes it."""
    try:
        files = site.backups(task.course_id, ["course"]).files
    except MoodlectlError:
        return None
    left = [one for one in files if one.filename == "backup.mbz"]
    return f"{left[0].course_shortname}@course/{left[0].filename}" if left else None


def _remove(site: Site, task: Task, course: Course) -> str | None:
    """Remove the unfinished course; returns why not, None where it is gone. Writes to the site.

    Ours beyond doubt is one that was not there before and bore the short name that was free when we asked for it.
    """
    ours = course.id not in task.before and (task.mine == course.id or course.shortname == task.shortname)
    if not ours or course.category_id != task.category_id:
        return "it cannot be told for certain that it is ours."
    try:
        site.delete_course(course.id)
    except MoodlectlError as trouble:
        return trouble.message
    return None


def _words(things: Counter[tuple[str, str]]) -> list[str]:
    return [f"{kind} '{name}' is missing" if number == 1 else f"{kind} '{name}' is missing {number} times"
            for (kind, name), number in sorted(things.items())]  # fmt: skip


def _record(entry: Entry, course: Course, differences: tuple[str, ...] | None, gave_up: str | None) -> None:
    facts: dict[str, Any] = {"course": course.id, "url": course.url, "differences": list(differences or ())}
    if differences:
        entry.end("failed", "the course is not what its source is", **facts)
    else:
        entry.end("done", finished(gave_up) if gave_up else "", **facts)


def finished(gave_up: str) -> str:
    """What to say of a request whose answer was lost, and that was done all the same."""
    return f"{gave_up.rstrip('.')}; Moodle finished it all the same."


def found_out(site: Site, entry: Entry, on_progress: OnProgress = no_progress) -> tuple[Course, tuple[str, ...] | None]:
    """What became of one whose end nobody heard: for ``job resume``. Writes to the ledger; removes what is left.

    Raises Failed, OutcomeUnknown.
    """
    if "begun_web" not in entry.facts:
        raise Failed("It ended before anything was asked of the site; nothing was changed.", code="not_begun")
    gave_up = str(entry.facts.get("gave_up") or "The answer was lost")
    entry.facts["wait"] = min(float(entry.facts.get("wait", webwatch.WAIT)), webwatch.WAIT)
    course, differences = _settle(site, entry, gave_up, on_progress)
    told = differences if entry.facts.get("verify", True) else None
    _record(entry, course, told, gave_up)
    return course, told

