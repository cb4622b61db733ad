"""What a plan means on the sites it is for: every course resolved, every problem found at once. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from moodlectl.actions import contents, moves, naming, past, rewriting
from moodlectl.actions.catalogue import Catalogue, split_path
from moodlectl.actions.specs import Looks, Place, Spec
from moodlectl.actions.steps import Planned
from moodlectl.errors import MoodlectlError, NotFound, UsageError
from moodlectl.findings import DANGERS, GUARDS
from moodlectl.plans import Kind, OldCourse, Plan, Problem, Row, Selection
from moodlectl.plans.patterns import Pattern
from moodlectl.plans.reading import follows
from moodlectl.site.port import BackupFile, Course, OnProgress, Progress, Setting, Site, no_progress

Values = Mapping[str, str | int]
_ABOUT_FILES = frozenset({"files", "imscc11"})
"""Settings by which somebody has said himself what becomes of files."""


@dataclass(frozen=True)
class Source:
    """Where one course comes from: a course, a backup of it that lies on its site, or a file here.

    ``was``: the course before an earlier run moved, hidden or renamed it, where it is selected for that alone.
    """

    course: Course | None = None
    stored: BackupFile | None = None
    path: str | None = None
    fullname: str = ""
    shortname: str = ""
    idnumber: str = ""
    startday: date | None = None
    was: Course | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        assert self.course is not None
        return f"{self.course.shortname} (id:{self.course.id})"


@dataclass(frozen=True)
class Resolved:
    """One course of a plan. ``state``: ``todo``, or ``there`` where nothing is to be done, and ``message`` says why.
    ``there`` is the course an earlier run made of it, ``wanting`` whether that has not all that it should have."""

    row: Row
    source: Source
    spec: Spec
    shortname: str
    action: str
    where: str
    state: Literal["todo", "there"] = "todo"
    message: str | None = None
    there: int | None = None
    wanting: bool = False

    def planned(self) -> Planned:
        """The same for the engine."""
        return Planned(
            course=self.shortname,
            action=self.action,
            source=str(self.source),
            target=self.where,
            spec=self.spec.as_json(),
            state="planned" if self.state == "todo" else "skipped",
            message=self.message,
        )


@dataclass(frozen=True)
class Resolution:
    """A whole plan resolved: its courses in the plan's order, every problem, and what is worth saying."""

    courses: tuple[Resolved, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def todo(self) -> tuple[Resolved, ...]:
        """The courses something is to be done for."""
        return tuple(one for one in self.courses if one.state == "todo")


def resolve(
    plan: Plan,
    kind: Kind,
    sides: tuple[Site, Site],
    today: date,
    on_progress: OnProgress = no_progress,
    *,
    lean: bool = False,
) -> Resolution:
    """Resolve a plan against the site the courses are on and the one they go to (for a rollover the same twice).

    ``lean``: backups are made without files where that can be. Reads only. Raises AccessError, Unreachable.
    """
    source = Catalogue(sides[0])
    target = source if sides[0] is sides[1] else Catalogue(sides[1])
    resolver = _Resolver(kind, source, target, today, past.Past(kind))
    resolver.lean = lean and resolver.may_be_lean(plan)
    for place, row in enumerate(plan.rows):
        on_progress(Progress("plan", place, len(plan.rows)))
        resolver.row(row)
    on_progress(Progress("plan", len(plan.rows), len(plan.rows)))
    resolver.collisions()
    problems = (*plan.problems, *resolver.problems)
    return Resolution(tuple(resolver.courses), problems, (*plan.notes, *resolver.notes))


@dataclass
class _Resolver:
    kind: Kind
    source: Catalogue
    target: Catalogue
    today: date
    past: past.Past
    courses: list[Resolved] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lean: bool = False
    _settings: Mapping[str, Setting] | None = None
    _maps: dict[Any, tuple[str, ...]] = field(default_factory=dict)
    _roles: set[str] = field(default_factory=set)

    def may_be_lean(self, plan: Plan) -> bool:
        """Whether contents can travel by themselves; a note says why not."""
        made = any(row.source_backup is None for row in plan.rows)
        why = contents.why_not(self.source.site, self.target.site) if made else None
        if why is not None:
            self.notes.append(f"each backup carries its files along, since their contents cannot travel alone. {why}")
        return why is None

    # --- rows and what they stand for -----------------------------------------------------------------------------

    def row(self, row: Row) -> None:
        """All courses of one row."""
        before = len(self.problems)
        sources = list(self._sources(row))
        found_all = len(self.problems) == before
        self._words(row)
        if not found_all and row.mode == "new" and "mode" not in row.unread:
            said = (row.category, row.category_idnumber, row.category_path)
            if any(said) and not any(one.names for one in said if one is not None):
                self._named_place(row, "", said, {})  # wherever the course is
        if row.select is not None and not sources and found_all and "select" not in row.unread:
            self.notes.append(f"line {row.line}: the selection finds no course; nothing is to be done for it.")
        found: list[tuple[Source, Resolved | None, list[Problem]]] = []
        for source in sources:
            before = len(self.problems)
            one = self._one(row, source)
            found.append((source, one, self.problems[before:]))
            del self.problems[before:]
        # What an earlier run made of one course of the selection is not the next to be rolled over.
        made = {one.there for _, one, _ in found if one is not None} if self.source is self.target else set()
        for source, one, problems in found:
            if row.select is not None and source.course is not None and source.course.id in made:
                continue
            if source.was is not None and (one is None or one.there is None):
                continue  # nothing that was done with it goes on
            self.problems += (problem for problem in problems if not follows(row, problem))
            self.courses += [one] if one is not None else []

    def _wrong(self, row: Row, column: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(row.at(column), column, message, hint))

    def _no_word(self, row: Row, column: str, message: str, hint: str | None = None) -> None:
        """A word that is wrong whatever the course: told once, where it is written."""
        self.problems.append(Problem(row.written(column), column, message, hint))

    def _words(self, row: Row) -> None:
        """Words that only the site can tell right from wrong: settings, dangers."""
        for name in row.allow:
            if name not in {**DANGERS, **GUARDS}:
                known = ", ".join({**DANGERS, **GUARDS})
                self._no_word(row, "allow", f"'{name}' is no danger that could be allowed", f"There are: {known}.")
        for name in row.guards:
            if name not in GUARDS:
                self._no_word(row, "guards", f"'{name}' is no guard", f"There are: {', '.join(GUARDS)}.")
        self._map(row)
        if not row.settings or row.source_backup is not None:
            return
        if self._settings is None:
            offered = self.source.site.backup_settings(None)
            self._settings = {one.name: one for one in offered if one.level == "root"}
        for name, wanted in row.settings.items():
            column = "with" if wanted else "without"
            setting = self._settings.get(name)
            if setting is None:
                known = ", ".join(sorted(self._settings))
                self._no_word(row, column, f"{self.source.site.name} has no setting '{name}'", f"It has: {known}.")
            elif setting.locked_by in ("config", "permission") and bool(setting.value) != wanted:
                by = "the site's administrator" if setting.locked_by == "config" else "a permission that is missing"
                self._no_word(row, column, f"the setting '{name}' is locked by {by}")

    def _map(self, row: Row) -> None:
        """A user map that cannot be read, or names accounts that the target has not."""
        if row.user_map is None and not row.map:
            return
        key = (row.user_map, row.map)
        if key not in self._maps:
            asked = rewriting.Asked(Path(), row.user_map, row.map, for_many=True)
            try:
                rewriting.user_map(asked, self.target.site)
                self._maps[key] = ()
            except (UsageError, NotFound) as error:
                problems = error.details.get("problems")
                self._maps[key] = tuple(problems) if problems else (error.message.rstrip("."),)
        for problem in self._maps[key]:
            self._no_word(row, "user_map" if row.user_map is not None else "map", str(problem))

    def _sources(self, row: Row) -> Iterator[Source]:
        if row.unread & {"select", "templatecourse", "source_backup"}:
            return
        try:
            if row.select is not None:
                yield from self._selected(row.select)
            elif row.source_backup is not None:
                yield self._of_backup(row, row.source_backup)
            elif row.templatecourse is not None:  # else it was said already that none is named
                yield self._of_course(self._template(row))
        except MoodlectlError as error:
            column = "select" if row.select else "source_backup" if row.source_backup else "templatecourse"
            self._wrong(row, column, error.message.rstrip("."), error.hint)

    def _selected(self, wanted: Selection) -> Iterator[Source]:
        """The courses that a selection finds, and those it would find if an earlier run had not changed them."""
        found = self.source.select(wanted)
        yield from map(self._of_course, found)
        known = {one.id for one in found}
        were = [
            replace(now, shortname=said["shortname"], category_id=said["category"], visible=said["visible"])
            for number, said in self.past.sources(self.source.info[1]).items()
            if number not in known and (now := self.source.courses.get(number)) is not None
        ]
        for course in self.source.select(wanted, were):
            yield replace(self._of_course(self.source.courses[course.id]), was=course)

    def _template(self, row: Row) -> Course:
        """The course a row names; where it was renamed by an earlier run, the one it was then."""
        assert row.templatecourse is not None
        try:
            return self.source.course(row.templatecourse)
        except NotFound:
            earlier = self.past.of_word(self.source.info[1], row.templatecourse)
            found = self.source.courses.get(earlier) if earlier is not None else None
            if found is None:
                raise
            return found

    def _of_course(self, course: Course) -> Source:
        """A course, by the names it had before an earlier run of the plan gave it others."""
        before = self.past.renamed(self.source.info[1], course)
        if before is not None:
            return Source(course, None, None, before["fullname"], before["shortname"], before.get("idnumber") or "")
        return Source(course, None, None, course.fullname, course.shortname, course.idnumber)

    def _of_backup(self, row: Row, word: str) -> Source:
        from moodlectl import mbz

        parsed = naming.parse_backup(word)
        if isinstance(parsed, naming.StoredBackup):
            course = self.source.course(parsed.course)
            file = naming.find_stored(self.source.site, replace(parsed, course=f"id:{course.id}"))
            return replace(self._of_course(course), stored=file)
        path = naming.existing(parsed.path)
        held = mbz.inspect(path).course
        if held is None:
            raise NotFound(f"{path} is no backup of a course")
        return Source(None, None, str(path.absolute()), held.fullname, held.shortname, held.idnumber or "")

    # --- one course -----------------------------------------------------------------------------------------------

    def _one(self, row: Row, source: Source) -> Resolved | None:
        before = len(self.problems)
        start = self._start(row, source)
        values = self._values(row, source, start)
        shortname = self._name(row, "shortname", row.shortname, values, 255) or source.shortname
        fullname = self._name(row, "fullname", row.fullname, values, 1333)
        idnumber = self._idnumber(row, source, values)
        old = self._old(row, source, values)
        if row.enddate and start and row.enddate <= start and row.startdate is None:
            self._wrong(row, "enddate", f"{row.enddate} is not after the new start, {start}")
        target = self._target(row, shortname) if row.mode != "new" else None
        where = self._place(row, source, values) if row.mode == "new" else None
        self._known_roles(row, source)
        wrong = {problem.column for problem in self.problems[before:]} | row.unread
        looks = Looks(
            fullname=(fullname or source.fullname or None) if row.mode == "new" else fullname,
            shortname=shortname,
            idnumber=idnumber,
            place=where,
            startdate=start.isoformat() if start else None,
            enddate=row.enddate.isoformat() if row.enddate else None,
            visible=self._visible(row),
        )
        spec = self._spec(row, source, looks, target, old)
        shown = str(where) if where is not None else target.fullname if target is not None else ""
        if where is not None and where.id is not None:
            category = self.target.category(where.id)
            shown = " / ".join(category.path) if category is not None else shown
        one = Resolved(row, source, spec, shortname, row.mode, shown)
        if "shortname" in wrong:
            return None
        found = past.recognise(one, self.past, self.source, self.target, self.today)
        if isinstance(found, Problem):
            self.problems.append(found)
        return None if wrong or isinstance(found, Problem) else found

    def _spec(self, row: Row, source: Source, looks: Looks, target: Course | None, old: Looks | None) -> Spec:
        settings = dict(row.settings)
        if self.kind == "rollover" and source.path is None and source.stored is None:
            settings.setdefault("users", False)
        course = None
        if source.course is not None:
            course = {
                "id": source.course.id,
                "shortname": source.shortname,
                "fullname": source.fullname,
                "idnumber": source.idnumber,
                "url": source.course.url,
                "category": source.course.category_id,
                "visible": source.course.visible,
                "site": self.source.site.name,
                "at": self.source.info[1],
                "word": row.templatecourse,
            }
        spec = Spec(
            line=row.line,
            steps=(),
            to=self.target.info[1],
            mode=row.mode,
            course=course,
            backup=source.path,
            stored=moves.as_facts(source.stored) if source.stored is not None else None,
            target=target.id if target is not None else None,
            looks=looks,
            settings=settings,
            enrolments=row.enrolments,
            keep_roles=row.keep_roles,
            only=row.only,
            skip=row.skip,
            no_userdata=row.no_userdata,
            user_map=str(row.user_map.absolute()) if row.user_map is not None else None,
            map=row.map,
            users_conflict=row.on_user_conflict,
            allow=row.allow,
            guards=dict(row.guards),
            keep_enrolments=row.keep_enrolments,
            keep_groups=row.keep_groups,
            overwrite_config=row.overwrite_config,
            safety=row.safety_backup,
            old=old,
            fingerprint=self.kind == "migrate" and source.course is not None and source.stored is None,
            lean=self.lean and source.path is None and source.stored is None and not settings.keys() & _ABOUT_FILES,
        )
        return replace(spec, steps=tuple(self._steps(spec)))

    def _steps(self, spec: Spec) -> Iterator[str]:
        abroad = self.source is not self.target
        if spec.backup is None and spec.stored is None:
            yield moves.BACKUP
        if abroad or (spec.maps and spec.backup is None):
            yield moves.FETCH
        if abroad and spec.lean:
            yield moves.CONTENTS
        yield moves.RESTORE
        yield moves.FINISH
        if spec.old is not None:
            yield moves.OLD

    # --- its parts ------------------------------------------------------------------------------------------------

    def _start(self, row: Row, source: Source) -> date | None:
        if not row.shift_days:
            return row.startdate
        column = "shift_weeks" if "shift_weeks" in {*row.places, *row.inherited} else "shift_days"
        if source.course is None:
            self._wrong(row, column, "a file has no day to begin with that both sites agree on",
                        "Give the new startdate instead.")  # fmt: skip
            return None
        day = self.source.facts(source.course.id).startday
        if day is None:
            self._wrong(row, column, f"{source.shortname} has no start date, so nothing can be moved from there",
                        "Give it one, or leave it out of this row.")  # fmt: skip
            return None
        return day + timedelta(days=row.shift_days)

    def _values(self, row: Row, source: Source, start: date | None) -> Values:
        values: dict[str, str | int] = {
            "source.shortname": source.shortname,
            "source.fullname": source.fullname,
            "source.idnumber": source.idnumber,
        }
        course = source.was or source.course
        if course is not None:
            path = self.source.path_of(course)
            category = self.source.category(course.category_id)
            values |= {"source.id": course.id, "source.category": path[-1], "source.category_path": " / ".join(path)}
            values["source.category_idnumber"] = category.idnumber if category is not None else ""
            if course.startdate is not None and _asks(row, "source.year", "source.yy"):
                day = self.source.facts(course.id).startday or course.startdate.date()
                values |= {"source.year": day.year, "source.yy": day.year}
        year = row.year or (start.year if start else self.today.year)
        return {**values, "year": year, "yy": year}

    def _name(self, row: Row, column: str, pattern: Pattern | None, values: Values, longest: int) -> str | None:
        if pattern is None:
            return None
        try:
            name = pattern.expand(values)
        except ValueError as error:
            self._wrong(row, column, str(error))
            return None
        if not name and pattern.text:
            self._wrong(row, column, f"'{pattern.text}' comes to nothing for {values['source.shortname']}")
        if len(name) > longest:
            self._wrong(row, column, f"'{name[:40]}…' has {len(name)} characters; Moodle takes {longest}")
        return name

    def _idnumber(self, row: Row, source: Source, values: Values) -> str | None:
        if row.idnumber is not None:
            said = self._name(row, "idnumber", row.idnumber, values, 100)
            return said if said or row.mode != "new" else None
        return source.idnumber or None if self.kind == "migrate" and row.mode == "new" else None

    def _visible(self, row: Row) -> bool | None:
        if row.hidden_until is not None:
            return self.today >= row.hidden_until
        return row.visible

    def _target(self, row: Row, shortname: str) -> Course | None:
        found = self.target.named(shortname)
        if found is None:
            self._wrong(row, "shortname", f"there is no course '{shortname}' on {self.target.site.name} to {row.mode}")
        return found

    def _known_roles(self, row: Row, source: Source) -> None:
        """A role that nobody has is more likely a slip of the pen; Moodle's own names are known."""
        if not row.keep_roles or source.course is None:
            return
        people = self.source.facts(source.course.id).people
        self._roles |= {role for person in people for role in person.roles}
        for name in row.keep_roles:
            if name not in self._roles | _STANDARD_ROLES:
                self._no_word(row, "keep_roles", f"nobody in the course has a role '{name}'",
                              "Roles have short names, such as editingteacher, teacher, student.")  # fmt: skip

    def _old(self, row: Row, source: Source, values: Values) -> Looks | None:
        old = row.old
        if old == OldCourse() or source.course is None:
            return None
        place = None
        if old.category or old.category_idnumber or old.category_path:
            place = self._named_place(row, "old_", (old.category, old.category_idnumber, old.category_path), values)
        looks = Looks(
            fullname=self._name(row, "old_fullname", old.fullname, values, 1333),
            shortname=self._name(row, "old_shortname", old.shortname, values, 255),
            idnumber=self._name(row, "old_idnumber", old.idnumber, values, 100),
            place=place,
            visible=old.visible,
            enrolments=old.enrolments,
        )
        other = self.source.named(looks.shortname) if looks.shortname else None
        if other is not None and other.id != source.course.id:
            earlier = self.past.of_word(self.source.info[1], row.templatecourse or "")
            if earlier != other.id and not self._is_old_of(source.course, other):
                self._wrong(row, "old_shortname", f"'{looks.shortname}' is the short name of another course already")
        return looks

    def _is_old_of(self, course: Course, other: Course) -> bool:
        """Whether ``course`` was made from ``other``: then it is ``other`` that was rolled over."""
        return self.source.facts(course.id).original_course_id == other.id

    # --- categories -----------------------------------------------------------------------------------------------

    def _place(self, row: Row, source: Source, values: Values) -> Place | None:
        if row.category or row.category_idnumber or row.category_path:
            return self._named_place(row, "", (row.category, row.category_idnumber, row.category_path), values)
        if source.course is None:
            self._wrong(row, "category", "where the course goes is not said", "A file does not tell: name a category.")
            return None
        if self.source is self.target:
            return Place(source.course.category_id)
        own = self.source.category(source.course.category_id)
        if own is not None and own.idnumber:
            found = self.target.category_numbered(own.idnumber)
            if found is not None:
                return Place(found.id)
        return self._at(row, "category", self.source.path_of(source.course))

    def _named_place(
        self, row: Row, prefix: str, said: tuple[Pattern | None, Pattern | None, Pattern | None], values: Values
    ) -> Place | None:
        word, number, path = said
        catalogue = self.target if not prefix else self.source
        if number is not None:
            name = self._name(row, prefix + "category_idnumber", number, values, 100)
            found = catalogue.category_numbered(name) if name else None
            if name and found is None:
                self._wrong(row, prefix + "category_idnumber", f"there is no category with the idnumber '{name}'",
                            "Name its path instead: a category that is to be made needs a name.")  # fmt: skip
            return Place(found.id) if found is not None else None
        if path is not None:
            name = self._name(row, prefix + "category_path", path, values, 2000)
            return self._at(row, prefix + "category_path", split_path(name), catalogue) if name else None
        assert word is not None
        name = self._name(row, prefix + "category", word, values, 2000)
        if not name:
            return None
        try:
            ref = naming.parse_category(name)
        except MoodlectlError as error:
            self._wrong(row, prefix + "category", error.message)
            return None
        if ref.field == "path":
            return self._at(row, prefix + "category", split_path(name), catalogue)
        fits = [one for one in catalogue.categories if naming.category_fits(one, ref)]
        if not fits:
            self._wrong(row, prefix + "category", f"there is no category '{name}' on {catalogue.site.name}")
        return Place(fits[0].id) if fits else None

    def _at(
        self, row: Row, column: str, path: tuple[str, ...], catalogue: Catalogue | None = None
    ) -> Place | None:
        """The category of a path, or the one that will be made there where the plan says so."""
        catalogue = catalogue or self.target
        found = catalogue.category_at(path)
        if not found and len(path) == 1:
            found = [one for one in catalogue.categories if one.name == path[0]]
        shown = " / ".join(path)
        if len(found) > 1:
            self._wrong(row, column, f"'{shown}' fits {len(found)} categories", "Name the one meant by its idnumber.")
            return None
        if found:
            return Place(found[0].id)
        if not row.create_categories:
            self._wrong(row, column, f"there is no category '{shown}' on {catalogue.site.name}",
                        "Make it, or have it made: create_categories = true.")  # fmt: skip
            return None
        if not all(path):
            self._wrong(row, column, f"'{shown}' has a level without a name")
            return None
        return self._new_place(path, catalogue)

    def _new_place(self, path: tuple[str, ...], catalogue: Catalogue) -> Place:
        """A category to be made; where the source has the same path, with the same idnumbers and visibility."""
        idnumbers, visible = [], []
        for depth in range(1, len(path) + 1):
            there = bool(catalogue.category_at(path[:depth]))
            like = self.source.category_at(path[:depth]) if catalogue is not self.source and not there else []
            number = like[0].idnumber if len(like) == 1 else ""
            idnumbers.append(number if number and catalogue.category_numbered(number) is None else "")
            visible.append(like[0].visible if len(like) == 1 else True)
        return Place(None, path, tuple(idnumbers), tuple(visible))

    # --- all together ---------------------------------------------------------------------------------------------

    def collisions(self) -> None:
        """Courses of the plan that would get the same name, or change the same course."""
        told = "'{0.shortname}' would be made twice: from {0.source} and from {1.source}"
        self._collide("shortname", lambda one: one.shortname.casefold(), told)
        told = "'{0.spec.looks.idnumber}' would be given twice: to {0.shortname} and to {1.shortname}"
        self._collide("idnumber", lambda one: one.spec.looks.idnumber or None, told)

    def _collide(self, column: str, key: Callable[[Resolved], str | None], words: str) -> None:
        seen: dict[str, Resolved] = {}
        for one in self.courses:
            word = key(one)
            if word is None or one.row.mode == "merge":
                continue
            first = seen.setdefault(word, one)
            if first is not one and not (one.row.line == first.row.line and one.source == first.source):
                self._wrong(one.row, column, words.format(one, first))


_STANDARD_ROLES = frozenset({"manager", "coursecreator", "editingteacher", "teacher", "student", "guest"})


def _asks(row: Row, *names: str) -> bool:
    """Whether any pattern of a row needs one of those pieces."""
    patterns: Sequence[Any] = [*vars(row).values(), *vars(row.old).values()]
    return any(isinstance(one, Pattern) and one.names & set(names) for one in patterns)
