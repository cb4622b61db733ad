"""Back courses up: plan what would be made, make it, bring it down, and take it away from the site if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from moodlectl.actions import deeds, files
from moodlectl.actions.naming import ItemWords, choose_items, course_word, find_course, stored_word
from moodlectl.actions.recording import Entry, recorded
from moodlectl.errors import MoodlectlError, UsageError
from moodlectl.ledger import Item
from moodlectl.site.port import (
    AutomatedRun,
    BackupMade,
    BackupQueued,
    BackupRequest,
    Course,
    ItemChoice,
    OnProgress,
    Setting,
    Site,
    no_progress,
)

if TYPE_CHECKING:
    from moodlectl.store import Store
    from moodlectl.store.entries import Entry as StoreEntry


@dataclass(frozen=True)
class Wanted:
    """What one command line asks of every course it names; ``download`` is a folder, ``store`` a store's address.

    ``allow`` is what a backup may lack that comes into a store.
    """

    settings: dict[str, bool] = field(default_factory=dict)
    items: ItemWords = field(default_factory=ItemWords)
    download: Path | None = None
    remove_remote: bool = False
    as_user: str | None = None
    store: str | None = None
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class Planned:
    """One backup that would be made."""

    course: Course
    request: BackupRequest
    wanted: Wanted


@dataclass(frozen=True)
class Done:
    """One backup that was made; ``path`` is where it was brought down to, ``removed`` whether the site's is gone.

    ``stored`` is what became of it in the store, where it was brought into one; ``note`` why its files were packed.
    """

    course: Course
    made: BackupMade
    path: Path | None = None
    removed: bool = False
    job: int | None = None
    stored: StoreEntry | None = None
    note: str | None = None


@dataclass(frozen=True)
class Queued:
    """One backup that the site's cron will make; ``word`` is what it will be called."""

    course: Course
    left: BackupQueued
    job: int
    word: str


@dataclass(frozen=True)
class NotDone:
    """One backup that was not made, or not brought down, and why."""

    course: str
    error: MoodlectlError


def plan(site: Site, course: str, wanted: Wanted) -> Planned:
    """Find the course and its items, and say what would be backed up. Reads only. Raises UsageError, NotFound."""
    if wanted.remove_remote and wanted.download is None and wanted.store is None:
        raise UsageError(
            "--remove-remote without --download would make a backup and throw it away.", "Add --download DIR."
        )
    if wanted.allow:
        from moodlectl.actions import storing

        storing.check_allowed(wanted.allow)
        if wanted.store is None:
            raise UsageError("--allow says what a backup may lack that comes into a store.", "Add --download store:")
    if wanted.items.userdata:
        raise UsageError("A backup has no --userdata: it takes user data along unless --no-userdata says not to.")
    found = find_course(site, course)
    items = choose_items(wanted.items, site.contents(found.id)) if wanted.items else ItemChoice()
    request = BackupRequest(found.id, dict(wanted.settings), items, wanted.as_user)
    return Planned(found, request, wanted)


def preview(site: Site, planned: Planned) -> Sequence[Setting]:
    """Every setting that backup would be made with, asked of the site. Reads only."""
    offered = site.backup_settings(planned.course.id, as_user=planned.request.as_user)
    return [_as_asked(setting, planned.request) for setting in offered]


def _as_asked(setting: Setting, request: BackupRequest) -> Setting:
    if setting.level == "root":
        return replace(setting, value=request.settings.get(setting.name, setting.value))
    if setting.item_id is None:
        return setting
    section = setting.level in ("section",) or setting.name.startswith("section_")
    items = request.items
    only = items.only_sections if section else items.only_activities
    skip = items.skip_sections if section else items.skip_activities
    no_userdata = items.no_userdata_sections if section else items.no_userdata_activities
    out = setting.item_id in skip or (only is not None and setting.item_id not in only)
    if out or (setting.name.endswith("_userinfo") and setting.item_id in no_userdata):
        return replace(setting, value=False)
    return setting


def run(site: Site, planned: Planned, on_progress: OnProgress = no_progress) -> Done:
    """Make the backup, and bring it down and remove it there as planned. Writes to the site and the ledger.

    Raises AccessError, Refused (locked or unknown setting, no space), Failed, OutcomeUnknown. The stored backup is
    only removed when its copy here has been checked against the site's sha1 and opened.
    """
    folder, store = planned.wanted.download, None
    if folder is not None:
        files.prepare_folder(folder)
    if planned.wanted.store is not None:
        from moodlectl.actions import storing

        store = storing.opened(planned.wanted.store, create=True)
    course = planned.course
    target = planned.wanted.store or str(folder or "")
    item = Item(1, course.shortname, "backup", "planned", source=f"course {course.id}", target=target)
    with recorded(site, "backup", item, _asked(planned.wanted)) as entry:
        if store is not None:
            done = _make_into(store, site, planned, entry, on_progress)
        else:
            done = _make(site, planned, entry, on_progress)
        file = done.made.file
        kept = {"store": store.address, "entry": done.stored.id} if store is not None and done.stored else {}
        entry.end("done", file=stored_word(file), sha1=file.sha1, size=file.size, path=str(done.path or ""), **kept)
    return done


def _asked(wanted: Wanted) -> dict[str, object]:
    """The command line for the record."""
    items = {name: list(value) for name, value in vars(wanted.items).items() if value}
    said = {"settings": wanted.settings, "items": items, "as_user": wanted.as_user}
    return {name: value for name, value in said.items() if value}


def _make(site: Site, planned: Planned, entry: Entry, on_progress: OnProgress) -> Done:
    folder = planned.wanted.download
    made = deeds.made(site, planned.request, entry, "backup", on_progress)
    entry.note(file=stored_word(made.file), sha1=made.file.sha1, size=made.file.size)
    if folder is None:
        return Done(planned.course, made, job=entry.job)
    lies = f"The backup was made and lies on the site: {stored_word(made.file)}"
    try:
        path = files.free_name(folder, made.file.filename)
        got = site.download(made.file, path, on_progress)
        lies = f"The backup was made and brought to {path}; the site may have it, too: {stored_word(made.file)}"
        files.check_is_of(path, planned.course, site.info().url)
        if planned.wanted.remove_remote:
            files.make_lasting(path)
            site.delete_backup(made.file)
    except MoodlectlError as error:
        error.details.setdefault("backup_made", stored_word(made.file))
        raise
    except KeyboardInterrupt as stop:
        stop.__notes__ = [lies]  # what the broken-off step says of itself is not all
        raise
    return Done(planned.course, replace(made, file=got), path, planned.wanted.remove_remote, entry.job)


def _make_into(store: Store, site: Site, planned: Planned, entry: Entry, on_progress: OnProgress) -> Done:
    """Into a store: without packing the files, where their contents can come by themselves, each once."""
    from moodlectl.actions import storing

    settings = dict(planned.request.settings)
    why = storing.can_travel(site, settings)
    lean = why is None
    request = replace(planned.request, settings=storing.lean_settings(settings)) if lean else planned.request
    entry.note(into_store=lean, store=store.address)  # then what is on the site is no backup to keep
    made = deeds.made(site, request, entry, "backup", on_progress)
    entry.note(file=stored_word(made.file), sha1=made.file.sha1, size=made.file.size)
    removed = lean or planned.wanted.remove_remote
    try:
        coming = storing.Made(made.file, planned.course, lean, planned.wanted.allow)
        kept = storing.bring_down(store, site, coming, on_progress)
    except MoodlectlError as error:
        if lean:
            with suppress(MoodlectlError):
                site.delete_backup(made.file)
        else:
            error.details.setdefault("backup_made", stored_word(made.file))
        raise
    if removed:
        site.delete_backup(made.file)
    note = None if lean or not settings.get("files", True) else why
    return Done(planned.course, made, None, removed, entry.job, kept, note)


def queue(site: Site, planned: Planned) -> Queued:
    """Leave the backup to the site's cron; ``job resume`` waits for it. Writes to the site and the ledger.

    Raises what ``run`` raises, and UsageError where it should be brought down, too.
    """
    if planned.wanted.download is not None or planned.wanted.store is not None:
        raise UsageError(
            "A backup that is left to the site's cron cannot be brought down by the same command.",
            "Leave --download out; 'job resume' waits for it, 'backup download' brings it.",
        )
    course = planned.course
    item = Item(1, course.shortname, "backup", "planned", source=f"course {course.id}")
    with recorded(site, "backup", item, {**_asked(planned.wanted), "queue": True}) as entry:
        left = deeds.queued(site, planned.request, entry)
        word = f"{course_word(course.id, course.shortname)}@{left.area}/{left.filename}"
        entry.end("unknown", f"left to the site's cron: {word}", file=word)
        return Queued(course, left, entry.job, word)


def automated(site: Site, on_progress: OnProgress = no_progress) -> Sequence[AutomatedRun]:
    """Run the site's automated backups that are due. Writes to the site and the ledger."""
    with recorded(site, "automated", Item(1, "", "automated", "planned"), {}) as entry:
        ran = site.run_automated(on_progress)
        failed = [run.shortname for run in ran if run.status in ("error", "unfinished")]
        told = {run.shortname: run.status for run in ran}
        entry.end("failed" if failed else "done", f"failed: {', '.join(failed)}" if failed else "", courses=told)
    return ran


def run_all(
    site: Site,
    courses: Sequence[str],
    wanted: Wanted,
    on_progress: Callable[[str], OnProgress] | None = None,
) -> Iterator[Done | NotDone]:
    """Back up each course named; the failure of one does not stop the others. Writes to the site.

    Every name is looked up before the first backup begins, so that a mistyped one costs nothing. With a single
    course an error is raised as it is.
    """
    planned: list[Planned | NotDone] = []
    for course in courses:
        try:
            planned.append(plan(site, course, wanted))
        except MoodlectlError as error:
            raise error if len(courses) == 1 else _nothing_begun(error, course) from error
    made: list[str] = []
    for one in planned:
        assert isinstance(one, Planned)
        try:
            step = on_progress(one.course.shortname) if on_progress else no_progress
            done = run(site, one, step)
            made.append(str(done.path or stored_word(done.made.file)))
            yield done
        except KeyboardInterrupt as stop:
            if made:
                stop.add_note(f"Done before that: {', '.join(made)}")
            raise
        except MoodlectlError as error:
            if len(courses) == 1:
                raise
            yield NotDone(one.course.shortname, error)


def _nothing_begun(error: MoodlectlError, course: str) -> MoodlectlError:
    return type(error)(
        f"{course}: {error.message} No backup was begun.", error.hint, code=error.code, details=error.details
    )
