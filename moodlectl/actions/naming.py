"""The words of the command line turned into things: COURSE, CATEGORY, BACKUP, ITEM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from moodlectl.actions import addresses
from moodlectl.errors import NotFound, UsageError
from moodlectl.site.port import (
    AREAS,
    Area,
    BackupFile,
    Category,
    CategoryRef,
    Course,
    CourseRef,
    ItemChoice,
    Section,
    Site,
)

# --- courses and categories ---------------------------------------------------------------------------------------


COURSE_FORMS: Final = "A course is written id:42, shortname:BIO101, idnumber:X9, or as the address of one of its pages."
CATEGORY_FORMS: Final = "A category is written id:3, idnumber:SCI, or as a path of names: Science / Biology."


def parse_course(word: str, site_url: str | None = None) -> CourseRef:
    """A COURSE as the contract writes it: ``42``, ``id:42``, ``shortname:BIO``, ``BIO``, ``idnumber:X9``, an address.

    An address must belong to ``site_url``, when that is given; that of an activity or section stands for its course.
    Raises UsageError.
    """
    text = word.strip()
    if addresses.is_address(text):
        return addresses.course_of(text, site_url)
    kind, colon, value = text.partition(":")
    if colon and kind in ("id", "shortname", "idnumber"):
        if not value:
            raise UsageError(f"'{word}' names no course: nothing follows '{kind}:'.", COURSE_FORMS)
        if kind == "id" and not _is_id(value):
            raise UsageError(f"'{word}' is no course id: '{value}' is not a number.", COURSE_FORMS)
        return CourseRef(_FIELDS[kind], value)
    if not text:
        raise UsageError("An empty word names no course.", COURSE_FORMS)
    return CourseRef("id", text) if _is_id(text) else CourseRef("shortname", text)


_FIELDS: dict[str, Literal["id", "shortname", "idnumber"]] = {
    "id": "id",
    "shortname": "shortname",
    "idnumber": "idnumber",
}


def course_word(course_id: int, shortname: str) -> str:
    """A COURSE that means that one: its short name, where that is not read as something else."""
    try:
        plain = parse_course(shortname) == CourseRef("shortname", shortname)
    except UsageError:
        plain = False
    return shortname if plain and shortname.isprintable() and not shortname.startswith("-") else f"id:{course_id}"


def stored_word(file: BackupFile) -> str:
    """A stored backup as the command line writes it: ``BIO101@course/backup-….mbz``."""
    return f"{course_word(file.course_id, file.course_shortname)}@{file.area}/{file.filename}"


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def find_course(site: Site, word: str) -> Course:
    """The course a person named. Reads only. Raises UsageError, NotFound."""
    return site.course(parse_course(word, site.info().url if addresses.is_address(word) else None))


def parse_category(word: str) -> CategoryRef:
    """A CATEGORY: ``3``, ``id:3``, ``idnumber:SCI``, or a path of names ``Science / Biology``. Raises UsageError."""
    text = word.strip()
    kind, colon, value = text.partition(":")
    if colon and kind == "id":
        if not _is_id(value):
            raise UsageError(f"'{word}' is no category id: '{value}' is not a number.", CATEGORY_FORMS)
        return CategoryRef("id", value)
    if colon and kind == "idnumber" and value:
        return CategoryRef("idnumber", value)
    if not text:
        raise UsageError("An empty word names no category.", CATEGORY_FORMS)
    return CategoryRef("id", text) if _is_id(text) else CategoryRef("path", text)


def find_category(site: Site, word: str) -> Category:
    """The category a person named. Reads only. Raises UsageError, NotFound (none, or more than one)."""
    ref = parse_category(word)
    found = [c for c in site.categories() if category_fits(c, ref)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(
            f"'{word}' fits {len(found)} categories.",
            "Name it by its id, or by the whole path from the top.",
            code="ambiguous_category",
            details={"categories": [f"id:{c.id}  {' / '.join(c.path)}" for c in found]},
        )
    raise NotFound(
        f"There is no category '{word}', or it may not be seen.",
        "'moodlectl category list' shows those there are.",
        code="category_unknown",
    )


def category_fits(category: Category, ref: CategoryRef) -> bool:
    """Whether a category is one that a CATEGORY means."""
    if ref.field == "id":
        return str(category.id) == ref.value
    if ref.field == "idnumber":
        return category.idnumber == ref.value
    wanted = _as_path(ref.value)
    return wanted in (_as_path(" / ".join(category.path)), _as_path(category.name))


def _as_path(words: str) -> str:
    """A path of names, however much room it has around its separators: names may hold the separator themselves."""
    return " / ".join(name.strip() for name in re.split(r"\s+/\s+", words.strip()))


# --- backups ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalBackup:
    """A backup file on this machine."""

    path: Path


@dataclass(frozen=True)
class StoredBackup:
    """A backup in an area of a course: the newest one, or the one of that name."""

    course: str
    area: Area
    filename: str | None


def parse_backup(word: str) -> LocalBackup | StoredBackup:
    """A BACKUP: a local path, ``COURSE@AREA`` for the newest, or ``COURSE@AREA/FILENAME``. Raises UsageError.

    A file that is there wins over the other reading.
    """
    if not word.strip():
        raise UsageError("An empty word names no backup.", "Give a file, COURSE@AREA or COURSE@AREA/FILENAME.")
    path = _expanded(word)
    if path.is_file():
        return LocalBackup(path)
    if word.startswith("store:"):
        kept = word.removeprefix("store:")
        raise UsageError(
            f"'{word}' names a backup of the store, and none is taken here.",
            f"'moodlectl store export {kept}' writes it as a file, 'moodlectl store remove {kept}' takes it away.",
        )
    match = re.fullmatch(r"(?P<course>.+)@(?P<area>course|private|automated)(?:/(?P<file>.+))?", word, re.DOTALL)
    if match:
        return StoredBackup(match["course"], _AREAS[match["area"]], match["file"])
    stray = re.fullmatch(r"[^/]+@(?P<area>[a-z]+)(?:/.*)?", word)
    if stray:
        raise UsageError(
            f"'{stray['area']}' in '{word}' is no backup area.", f"The areas are {', '.join(AREAS)}."
        )
    return LocalBackup(path)


def kept_word(word: str) -> str | None:
    """What names the backup within the store, of a BACKUP written ``store:ENTRY``; None for every other."""
    if not word.startswith("store:") or _expanded(word).is_file():
        return None
    return word.removeprefix("store:")


def _expanded(word: str) -> Path:
    try:
        return Path(word).expanduser()
    except RuntimeError:  # ~nobody/file
        return Path(word)


_AREAS: dict[str, Area] = {area: area for area in AREAS}


def local_path(word: str) -> Path:
    """The path of a BACKUP that must be a local file. Raises UsageError, NotFound."""
    backup = parse_backup(word)
    if isinstance(backup, StoredBackup):
        raise UsageError(f"'{word}' lies on a site.", "Download it first: moodlectl backup download " + word)
    return existing(backup.path)


def existing(path: Path) -> Path:
    """That path, if a file is there. Raises NotFound."""
    if path.is_file():
        return path
    what = "is a folder" if path.is_dir() else "is no ordinary file" if path.exists() else "is not there"
    raise NotFound(
        f"The backup file {path} {what}.",
        "A backup on a site is written COURSE@course, COURSE@private or COURSE@automated.",
        code="backup_unknown",
    )


def find_stored(site: Site, backup: StoredBackup, *, owner: str | None = None) -> BackupFile:
    """The stored backup meant. Reads only. Raises NotFound, naming what is there instead."""
    course = find_course(site, backup.course)
    listing = site.backups(course.id, [backup.area], owner=owner)
    files = listing.files
    if backup.filename is not None:
        files = tuple(f for f in files if f.filename == backup.filename)
        if len(files) > 1:
            raise NotFound(
                f"{len(files)} backups named {backup.filename} lie in the {backup.area} area of {course.shortname}.",
                code="ambiguous_backup",
            )
    if files:
        return files[0]
    what = f"no backup named {backup.filename}" if backup.filename else "no backup"
    raise NotFound(
        f"There is {what} in the {backup.area} area of {course.shortname}.",
        f"'moodlectl backup list {course.shortname} --area all' shows those there are.",
        code="backup_unknown",
        details={
            "there": [f.filename for f in listing.files],
            "notes": list(listing.notes),
        },
    )


# --- items --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemRef:
    """An ITEM taken apart; ``word`` is how it was written, ``module`` the type for ``name`` and ``mod``."""

    kind: Literal["section-number", "section-name", "cmid", "name", "mod"]
    value: str
    module: str = ""
    word: str = ""


def parse_item(word: str) -> ItemRef:
    """An ITEM: ``section:2``, ``section:Introduction``, ``cmid:1234``, ``forum:News``, ``mod:quiz``. Raises UsageError.

    Quotation marks that came through the shell around the name are taken off.
    """
    kind, colon, value = word.partition(":")
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    value = value[1:-1] if quoted else value
    if not colon or not kind or not value:
        raise UsageError(
            f"'{word}' is no item.",
            'An item is section:2, section:"Introduction", cmid:1234, forum:"News" or mod:quiz.',
        )
    if kind == "section":
        is_number = _is_id(value) and not quoted
        return ItemRef("section-number" if is_number else "section-name", value, word=word)
    if kind == "cmid":
        if not _is_id(value):
            raise UsageError(f"'{word}': '{value}' is not a number.")
        return ItemRef("cmid", value, word=word)
    if kind == "mod":
        return ItemRef("mod", value, module=value, word=word)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
        raise UsageError(f"'{word}': '{kind}' is no module type.", "Module types are words such as quiz or forum.")
    return ItemRef("name", value, module=kind, word=word)


@dataclass
class _Picked:
    """What a list of items came to: section ids and course module ids."""

    sections: set[int] = field(default_factory=set)
    activities: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class ItemWords:
    """The item options of one command line, as they were written."""

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    userdata: Sequence[str] = ()
    no_userdata: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.skip or self.userdata or self.no_userdata)


def choose_items(words: ItemWords, sections: Sequence[Section]) -> ItemChoice:
    """Find every item among ``sections`` (of a course or a backup). Raises UsageError, NotFound (none, or two fit).

    An activity that is chosen brings along the sections above it, without their other activities; a section that is
    chosen brings all that is in it, subsections too.
    """
    if not words:
        return ItemChoice()
    only = _pick(words.only, sections) if words.only else None
    skip = _pick(words.skip, sections)
    userdata, no_userdata = _pick(words.userdata, sections), _pick(words.no_userdata, sections)
    both = (userdata.activities & no_userdata.activities) | (userdata.sections & no_userdata.sections)
    if both:
        raise UsageError("An item is named both by --userdata and by --no-userdata.")
    if only is not None and not (only.activities - skip.activities) and not (only.sections - skip.sections):
        raise UsageError("--skip takes away all that --only chose.")
    only = _with_ancestors(only, sections) if only else None
    return ItemChoice(
        only_sections=frozenset(only.sections) if only else None,
        only_activities=frozenset(only.activities) if only else None,
        skip_sections=frozenset(skip.sections),
        skip_activities=frozenset(skip.activities),
        userdata_sections=frozenset(userdata.sections),
        userdata_activities=frozenset(userdata.activities),
        no_userdata_sections=frozenset(no_userdata.sections),
        no_userdata_activities=frozenset(no_userdata.activities),
    )


def _pick(words: Iterable[str], sections: Sequence[Section]) -> _Picked:
    picked = _Picked()
    for word in words:
        item = parse_item(word)
        if item.kind.startswith("section"):
            section = _the_section(item, sections)
            _add_section(section, sections, picked)
        else:
            for cmid in _the_activities(item, sections):
                _add_activity(cmid, sections, picked)
    return picked


def _add_section(section: Section, sections: Sequence[Section], picked: _Picked) -> None:
    picked.sections.add(section.id)
    for activity in section.activities:
        _add_activity(activity.id, sections, picked)


def _add_activity(cmid: int, sections: Sequence[Section], picked: _Picked) -> None:
    if cmid in picked.activities:
        return
    picked.activities.add(cmid)
    for below in sections:
        if below.parent_activity == cmid:
            _add_section(below, sections, picked)


def _with_ancestors(picked: _Picked, sections: Sequence[Section]) -> _Picked:
    """The sections that the chosen activities stand in, and the subsection activities those stand in."""
    todo = list(picked.activities)
    while todo:
        cmid = todo.pop()
        for section in sections:
            if any(a.id == cmid for a in section.activities):
                picked.sections.add(section.id)
                if section.parent_activity is not None and section.parent_activity not in picked.activities:
                    picked.activities.add(section.parent_activity)
                    todo.append(section.parent_activity)
    for section in sections:
        if section.id in picked.sections and section.parent_activity is not None:
            parent = section.parent_activity
            if parent not in picked.activities:
                picked.activities.add(parent)
                return _with_ancestors(picked, sections)
    return picked


def find_section(word: str, sections: Sequence[Section]) -> Section:
    """The one section an ITEM names; the activity of a subsection stands for its section.

    Raises UsageError, NotFound (none, or two fit).
    """
    item = parse_item(word)
    if item.kind.startswith("section"):
        return _the_section(item, sections)
    cmids = _the_activities(item, sections)
    inside = [one for one in sections if one.parent_activity in cmids]
    if len(inside) != 1:
        raise UsageError(
            f"'{word}' is no section.", 'Name one of the course: section:2 or section:"Introduction".'
        )
    return inside[0]


def _the_section(item: ItemRef, sections: Sequence[Section]) -> Section:
    if item.kind == "section-number":
        found = [s for s in sections if s.parent_activity is None and s.number == int(item.value)]
        found = found or [s for s in sections if s.number == int(item.value)]
    else:
        found = [s for s in sections if s.name.strip() == item.value.strip()]
        found = found or [s for s in sections if s.name.strip().casefold() == item.value.strip().casefold()]
    if not found:
        raise NotFound(
            f"There is no section '{item.word}' here.",
            "Name one of those that are here.",
            code="item_unknown",
            details={"sections": [f"section:{s.number}  {s.name}" for s in sections]},
        )
    _one(item, found, [f"section:{s.number}  {s.name}" for s in found])
    return found[0]


def _the_activities(item: ItemRef, sections: Sequence[Section]) -> list[int]:
    everything = [(s, a) for s in sections for a in s.activities]
    if item.kind == "cmid":
        found = [(s, a) for s, a in everything if a.id == int(item.value)]
    elif item.kind == "mod":
        found = [(s, a) for s, a in everything if a.module == item.module]
    else:
        same = [(s, a) for s, a in everything if a.module == item.module]
        found = [(s, a) for s, a in same if a.name.strip() == item.value.strip()]
        found = found or [(s, a) for s, a in same if a.name.strip().casefold() == item.value.strip().casefold()]
    if not found:
        raise NotFound(
            f"There is no activity '{item.word}' here.",
            "Name one of those that are here.",
            code="item_unknown",
            details={"activities": [f"cmid:{a.id}  {a.module}:{a.name}" for _, a in everything]},
        )
    if item.kind == "name":
        _one(item, found, [f"cmid:{a.id}  {a.module}:{a.name}  in section:{s.number}  {s.name}" for s, a in found])
    return [a.id for _, a in found]


def _one(item: ItemRef, found: Sequence[object], lines: list[str]) -> None:
    if len(found) > 1:
        raise NotFound(
            f"'{item.word}' fits {len(found)} items.",
            "Name the one you mean by its cmid (or its section number).",
            code="ambiguous_item",
            details={"items": lines},
        )


# --- settings -----------------------------------------------------------------------------------------------------


def settings_from(with_: Sequence[str], without: Sequence[str]) -> dict[str, bool]:
    """The root settings asked for by ``--with a,b`` and ``--without c``. Raises UsageError for one named in both."""
    wanted = dict.fromkeys(_names(with_), True)
    for name in _names(without):
        if wanted.get(name):
            raise UsageError(f"The setting '{name}' is asked for both with and without.")
        wanted[name] = False
    return wanted


def _names(words: Sequence[str]) -> list[str]:
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise UsageError(
                f"'{name}' is no setting's name.", "Settings are Moodle's words, joined by commas: users,logs."
            )
    return names
