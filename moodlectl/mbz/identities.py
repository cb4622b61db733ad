"""What a backup holds, as identities that can be compared with a course's: names, usernames and hashes, no ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from moodlectl.mbz import identityparts, likeness
from moodlectl.mbz.archive import MANIFEST, Member, ProgressBytes, open_backup
from moodlectl.mbz.identityindex import Index, IndexedActivity
from moodlectl.mbz.identityparts import Field, Part
from moodlectl.mbz.likeness import COURSE, Identity, digest, plain
from moodlectl.mbz.recordpaths import OnRecord, Record, RecordPaths, passes_over
from moodlectl.mbz.recordpaths import Path as Way
from moodlectl.mbz.sources import Source

Names = Mapping[tuple[str, str, str], str]
Walk = Callable[[], Iterable[Member]]


@dataclass(frozen=True)
class Chosen:
    """Which items of a backup are meant: those of these ids are left out, those only with their settings."""

    without_activities: frozenset[int] = frozenset()
    without_sections: frozenset[int] = frozenset()
    without_userdata: frozenset[int] = frozenset()


WHOLE = Chosen()


def identities(
    where: Path | Source, *, chosen: Chosen = WHOLE, progress: ProgressBytes | None = None
) -> Iterator[Identity]:
    """Everything a backup holds; the first is ``about``: how it was made, and with what.

    Two passes, each opened anew, nearly constant memory. Reads only. Raises NotFound, and Refused with the reason as
    its code.
    """
    yield from of_members(partial(_documents, where, progress), chosen)


def _documents(where: Path | Source, progress: ProgressBytes | None) -> Iterator[Member]:
    with open_backup(where, progress=progress) as archive:
        for member in archive.members():
            if member.kind == "file" and member.name.endswith(".xml"):
                yield member


def of_members(walk: Walk, chosen: Chosen = WHOLE) -> Iterator[Identity]:
    """Everything that documents in Moodle's backup format hold; ``walk`` is called twice. Reads only."""
    index = Index()
    for member in walk():
        index.see(member)
    index.finish()
    yield "about", (), index.about()
    reader = _Reader(index, chosen)
    for member in walk():
        yield from reader.read(member)
    yield from reader.rest()


@dataclass
class _Reader:
    """Turns documents into identities, one document after the other."""

    index: Index
    chosen: Chosen
    found: list[Identity] = field(default_factory=list)
    history: dict[str, int] = field(default_factory=dict)
    items: dict[str, tuple[str, ...]] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    logs: int = 0

    def __post_init__(self) -> None:
        self.part = bool(self.chosen.without_activities or self.chosen.without_sections)
        self.question_categories = {
            category
            for folder, found in self.index.question_categories.items()
            if not ((activity := self.index.activities.get(folder)) and self._out(activity))
            for category in found
        }

    def _out(self, activity: IndexedActivity) -> bool:
        return (
            activity.cmid in self.chosen.without_activities
            or int(activity.section or 0) in self.chosen.without_sections
        )

    def read(self, member: Member) -> Iterator[Identity]:
        """The identities of one document."""
        handlers = self._handlers(member.name)
        if not handlers or passes_over(member, handlers):
            return
        reader = RecordPaths(member.name, handlers)
        for chunk in member.chunks():
            reader.feed(chunk)
            yield from self.found
            self.found.clear()
        reader.close()
        yield from self.found
        self.found.clear()

    def rest(self) -> Iterator[Identity]:
        """What is known only at the end: counts."""
        for item, count in self.history.items():
            if item in self.items:  # each grade item for itself, as a site tells it: two may be called the same
                yield "grade_history", self.items[item], {"count": str(count)}
        yield "logs", COURSE, {"count": str(self.logs)}

    # --- which document is read how -----------------------------------------------------------------------------

    def _handlers(self, name: str) -> Mapping[Way, OnRecord]:
        folder, _, base = name.rpartition("/")
        if name in _ROOTS:
            return {way: partial(handler, self) for way, handler in _ROOTS[name].items()}
        if folder == "course":
            return self._shared(base, COURSE) | {
                way: partial(handler, self) for way, handler in _COURSE.get(base, {}).items()
            }
        if folder.startswith("sections/"):
            return {("section",): self._section} if base == "section.xml" else {}
        if base == "block.xml":
            return {("block",): partial(self._block, folder)}
        activity = self.index.activities.get(folder)
        if activity is None or self._out(activity):
            return {}
        where = (activity.module, activity.title)
        userdata = activity.userdata and activity.cmid not in self.chosen.without_userdata
        if base == f"{activity.module}.xml":
            return self._module(where, folder, userdata=userdata)
        if base in ("grades.xml", "grade_history.xml", "completion.xml", "grading.xml"):
            return self._activity(base, where, userdata=userdata)
        return self._shared(base, where, userdata=userdata)

    def _shared(self, base: str, where: tuple[str, str], *, userdata: bool = True) -> dict[Way, OnRecord]:
        """Documents that courses and activities both have."""
        if base == "roles.xml":
            ways: dict[Way, OnRecord] = {("roles", "role_overrides", "override"): partial(self._override, where)}
            if self.index.users_known:
                ways["roles", "role_assignments", "assignment"] = partial(self._role, where)
            return ways
        if base == "comments.xml" and userdata:
            return {("comments", "comment"): partial(self._comment, where)}
        if base == "calendar.xml":
            return {("events", "event"): partial(self._event, where)}
        if base == "filters.xml":
            return {("filters", "filter_actives", "filter_active"): partial(self._filter, where)}
        if base == "competencies.xml":
            top = "course_competencies" if where == COURSE else "course_module_competencies"
            return {(top, "competencies", "competency"): partial(self._competency, where)}
        if base == "logstores.xml":
            return {(*_LOGS, "subplugin_logstore_standard_logstore", "logstore_standard_log"): self._log}
        return {}

    def _activity(self, base: str, where: tuple[str, str], *, userdata: bool) -> dict[Way, OnRecord]:
        items = ("activity_gradebook", "grade_items", "grade_item")
        if base == "grades.xml":
            ways: dict[Way, OnRecord] = {items: partial(self._grade_item, where)}
            if userdata:
                ways[(*items, "grade_grades", "grade_grade")] = partial(self._grade, where)
            return ways
        if base == "grade_history.xml" and userdata:
            return {("grade_history", "grade_grades", "grade_grade"): self._history}
        if base == "completion.xml":  # what people completed comes even where their data does not
            return {
                ("completions", "completion"): partial(self._completion, where),
                ("completions", "completionviews", "completionview"): partial(self._view, where),
            }
        if base == "grading.xml":
            return {("areas", "area"): partial(self._grading, where)}
        return {}

    # --- activities ---------------------------------------------------------------------------------------------

    def _module(self, where: tuple[str, str], folder: str, *, userdata: bool) -> dict[Way, OnRecord]:
        module = where[0]
        top: Way = ("activity", module)
        ways: dict[Way, list[OnRecord]] = {top: [partial(self._settings, where, folder)]}
        refs: dict[tuple[str, str, str], str] = {}
        for part in _PARTS.get(module, ()):
            if part.personal and not userdata:
                continue
            way: Way = top
            for step in part.steps:
                way = (*way, *step.elements)
                ways.setdefault(way, [])
            ways[way].append(partial(self._part, part, where, refs))
            for one in (*part.key, *part.facts):
                if one.ref:
                    self._keep_names(ways, module, one, refs)
        return {way: _all(handlers) for way, handlers in ways.items()}

    def _keep_names(
        self,
        ways: dict[Way, list[OnRecord]],
        module: str,
        one: Field,
        refs: dict[tuple[str, str, str], str],
    ) -> None:
        """What the records that others point at are called: options, fields and questions come before answers."""
        assert one.ref is not None
        _, element, name = one.ref
        way: Way = ("activity", module, f"{element}s", element)

        def keep(record: Record) -> None:
            refs[element, name, record.get("id")] = record.get(name)

        ways.setdefault(way, []).append(keep)

    def _settings(self, where: tuple[str, str], folder: str, record: Record) -> None:
        activity = self.index.activities[folder]
        told = dict(record.fields)
        if "attempts_number" in told:  # of a quiz, whose attempts are a list within it
            told["attempts"] = told.pop("attempts_number")
        facts = likeness.settings({**activity.fields, **told})
        facts["section"] = self.index.section_names.get(activity.section, "")
        facts["availability"] = likeness.shape(activity.fields.get("availability", ""))
        facts["intro"] = digest(record.get("intro"))
        self.found.append(("activity", where, facts))
        for tag in activity.tags:
            self.found.append(("tag", (*where, tag), {}))

    def _part(self, part: Part, where: tuple[str, str], refs: Names, record: Record) -> None:
        ways = _ways(part)
        lineage = [one for one in record.above if one.path in ways]
        levels = [record, *reversed(lineage)]
        for step, one in zip(reversed(part.steps), levels, strict=False):
            if step.only and one.get(step.only[0]) not in ("", step.only[1]):
                return
        key = tuple(self._value(one, levels[one.up], refs) for one in part.key)
        facts = {one.name: self._value(one, levels[one.up], refs) for one in part.facts if one.up < len(levels)}
        self.found.append((f"{part.module}_{part.kind}", (*where, *key), facts))

    def _value(self, one: Field, record: Record, refs: Names) -> str:
        value = record.get(one.name)
        if one.kind == "user":
            return self.index.username(value)
        if one.kind == "group":
            return self.index.groups.get(value, "")
        if one.ref:
            return plain(refs.get((one.ref[1], one.ref[2], value), ""))
        return digest(value) if one.kind == "hash" else plain(value)

    def _grading(self, where: tuple[str, str], record: Record) -> None:
        self.found.append(
            ("grading", (*where, record.get("areaname")), {"method": plain(record.get("activemethod"))})
        )

    def _completion(self, where: tuple[str, str], record: Record) -> None:
        state = plain(record.get("completionstate"))
        if state not in ("", "0"):
            self.found.append(("completion", (*where, self.index.username(record.get("userid"))), {"state": state}))

    def _view(self, where: tuple[str, str], record: Record) -> None:
        self.found.append(("view", (*where, self.index.username(record.get("userid"))), {}))

    # --- grades -------------------------------------------------------------------------------------------------

    def _grade_item(self, where: tuple[str, str], record: Record) -> None:
        key = self._item(where, record)
        self.found.append(("grade_item", key, grade_item_facts(record.fields)))

    def _item(self, where: tuple[str, str], record: Record) -> tuple[str, ...]:
        type_ = record.get("itemtype")
        if type_ == "course":
            name = "course total"
        elif type_ == "category":
            name = f"category {self.categories.get(record.get('iteminstance'), '')}"
        elif type_ == "mod":
            name = f"item {record.get('itemnumber') or '0'}"
        else:
            name = record.get("itemname")
        key = (*where, name)
        self.items[record.get("id")] = key
        return key

    def _grade(self, where: tuple[str, str], record: Record) -> None:
        facts = grade_facts(record.fields)
        if facts:
            item = self._item(where, record.above[-1])
            self.found.append(("grade", (*item, self.index.username(record.get("userid"))), facts))

    def _history(self, record: Record) -> None:
        item = record.get("itemid")
        self.history[item] = self.history.get(item, 0) + 1

    def _grade_category(self, record: Record) -> None:
        name = record.get("fullname")
        self.categories[record.get("id")] = name
        facts = {n: plain(record.get(n)) for n in ("aggregation", "keephigh", "droplow", "aggregateonlygraded")}
        self.found.append(("grade_category", ("course", "", "" if name == "?" else name), facts))

    # --- the course ---------------------------------------------------------------------------------------------

    def _course(self, record: Record) -> None:
        facts = {name: plain(record.get(name)) for name in COURSE_FACTS}
        facts["summary"] = digest(record.get("summary"))
        self.found.append(("course", COURSE, facts))

    def _tag(self, record: Record) -> None:
        self.found.append(("tag", (*COURSE, record.get("rawname")), {}))

    def _custom_field(self, record: Record) -> None:
        value = record.get("value")
        if value:
            self.found.append(("custom_field", (record.get("shortname"),), {"value": plain(value)}))

    def _section(self, record: Record) -> None:
        if int(record.get("id") or 0) in self.chosen.without_sections:
            return
        name, facts = record.get("name"), {}
        if not record.get("component"):
            facts["name"] = plain(name)
        facts["visible"] = plain(record.get("visible"))
        facts["summary"] = digest(record.get("summary"))
        facts["availability"] = likeness.shape(record.get("availabilityjson"))
        self.found.append(("section", (self.index.section_names.get(record.get("id"), ""),), facts))

    def _enrolment(self, record: Record) -> None:
        facts = {"status": plain(record.get("status")), "timeend": plain(record.get("timeend"))}
        key = (self.index.username(record.get("userid")), record.above[-1].get("enrol"))
        self.found.append(("person", key, facts))

    def _method(self, record: Record) -> None:
        key = (record.get("enrol"), record.get("name"))
        self.found.append(("enrolment", key, {"status": plain(record.get("status"))}))

    def _role(self, where: tuple[str, str], record: Record) -> None:
        role = self.index.roles.get(record.get("roleid"), "")
        self.found.append(("role", (*where, self.index.username(record.get("userid")), role), {}))

    def _override(self, where: tuple[str, str], record: Record) -> None:
        role = self.index.roles.get(record.get("roleid"), "")
        key = (*where, role, record.get("capability"))
        self.found.append(("override", key, {"permission": plain(record.get("permission"))}))

    def _group(self, record: Record) -> None:
        facts = {"idnumber": plain(record.get("idnumber")), "description": digest(record.get("description"))}
        self.found.append(("group", (record.get("name"),), facts))

    def _member(self, record: Record) -> None:
        if self.index.users_known:
            key = (record.above[-1].get("name"), self.index.username(record.get("userid")))
            self.found.append(("group_member", key, {}))

    def _grouping(self, record: Record) -> None:
        facts = {"idnumber": plain(record.get("idnumber")), "description": digest(record.get("description"))}
        self.found.append(("grouping", (record.get("name"),), facts))

    def _grouping_group(self, record: Record) -> None:
        group = self.index.groups.get(record.get("groupid"), "")
        self.found.append(("grouping_group", (record.above[-1].get("name"), group), {}))

    def _comment(self, where: tuple[str, str], record: Record) -> None:
        key = (*where, record.get("commentarea"), self.index.username(record.get("userid")))
        self.found.append(("comment", key, {"content": digest(record.get("content"))}))

    def _event(self, where: tuple[str, str], record: Record) -> None:
        if record.get("courseid") == "0":
            return  # a person's own date, known by the override it comes from
        key = (*where, record.get("name"), record.get("eventtype"))
        facts = {n: plain(record.get(n)) for n in ("timestart", "timeduration")}
        self.found.append(("event", key, {**facts, "description": digest(record.get("description"))}))

    def _filter(self, where: tuple[str, str], record: Record) -> None:
        self.found.append(("filter", (*where, record.get("filter")), {"active": plain(record.get("active"))}))

    def _competency(self, where: tuple[str, str], record: Record) -> None:
        self.found.append(("competency", (*where, record.get("idnumber")), {"rule": plain(record.get("ruleoutcome"))}))

    def _block(self, folder: str, record: Record) -> None:
        parent = self.index.activities.get(folder.partition("/blocks/")[0])
        if parent is not None and parent.cmid in self.chosen.without_activities:
            return
        where = (parent.module, parent.title) if parent else COURSE
        facts = {"region": plain(record.get("defaultregion")), "weight": plain(record.get("defaultweight"))}
        self.found.append(("block", (*where, record.get("blockname")), facts))

    def _log(self, _: Record) -> None:
        self.logs += 1

    def _content(self, record: Record) -> None:
        self.found.append(("content", (record.get("name"), record.get("contenttype")), {}))

    def _criterion(self, record: Record) -> None:
        type_ = record.get("criteriatype")
        what = self.index.titles.get(record.get("moduleinstance"), "") if type_ == "4" else ""
        facts = {name: plain(record.get(name)) for name in ("gradepass", "timeend", "enrolperiod")}
        self.found.append(("criterion", (type_, what), facts))

    def _completed(self, record: Record) -> None:
        if record.get("timecompleted") not in ("", "0"):
            self.found.append(("course_completion", (self.index.username(record.get("userid")),), {}))

    def _badge(self, record: Record) -> None:
        facts = {"status": plain(record.get("status")), "description": digest(record.get("description"))}
        self.found.append(("badge", (record.get("name"),), facts))

    def _award(self, record: Record) -> None:
        if self.index.users_known:
            key = (record.above[-1].get("name"), self.index.username(record.get("recipientid")))
            self.found.append(("badge_award", key, {}))

    # --- questions and files ------------------------------------------------------------------------------------

    def _question(self, record: Record) -> None:
        """One version of a question: the latest speaks for its entry."""
        versions = [one for one in record.above if one.path[-1] in ("question_versions", "question_bank_entry")]
        if len(versions) == 2:
            entry, version = versions
            number = int(version.get("version") or 0)
            if number < int(entry.notes.get("version", "0")):
                return
            entry.notes.clear()
            entry.notes.update(_question_notes(record), version=str(number), status=version.get("status"))
        elif record.get("qtype") != "random":  # before 4.0 questions had no versions
            self._entry_found(record.above[0], _question_notes(record) | {"idnumber": plain(record.get("idnumber"))})

    def _entry(self, record: Record) -> None:
        if record.notes:
            self._entry_found(record.above[0], {**record.notes, "idnumber": plain(record.get("idnumber"))})

    def _entry_found(self, category: Record, notes: Mapping[str, str]) -> None:
        where = self.index.where(category.get("contextid"))
        if where is None:
            return  # a bank elsewhere on the site, which the course only uses
        activity = self.index.by_context.get(category.get("contextid"))
        if activity is not None and activity.cmid in self.chosen.without_activities:
            return
        if self.part and category.get("id") not in self.question_categories:
            return  # only categories that something chosen refers to come along
        facts = {name: value for name, value in notes.items() if name not in ("name", "qtype")}
        facts["bank"] = " ".join(where).strip()
        name = category.get("name")
        self.found.append(("question", (notes["name"], notes["qtype"]), {**facts, "category": plain(name)}))

    def _file(self, record: Record) -> None:
        component, area = record.get("component"), record.get("filearea")
        where = self.index.where(record.get("contextid"))
        if where is None or record.get("filename") == "." or not file_counts(component, area):
            return
        activity = self.index.by_context.get(record.get("contextid"))
        if activity is not None and activity.cmid in self.chosen.without_activities:
            return
        personal = personal_area(component, area)
        if personal and activity is not None and activity.cmid in self.chosen.without_userdata:
            return
        owner = self.index.username(record.get("userid")) if personal else ""
        if component.startswith(("question", "qtype")) and not personal:
            where = COURSE
        key = (*where, f"{component}/{area}", record.get("filepath") + record.get("filename"))
        facts = {"contenthash": record.get("contenthash"), "size": plain(record.get("filesize"))}
        # A file that nobody owns becomes the restorer's.
        self.found.append(("user_file" if personal else "file", key, {**facts, "owner": owner} if owner else facts))


# --- what files, grades and settings are compared by, also on sites -------------------------------------------------

COURSE_FACTS = (
    *("shortname", "fullname", "idnumber", "format", "startdate", "enddate", "visible", "groupmode"),
    *("groupmodeforce", "lang", "enablecompletion", "showgrades", "newsitems"),
)
_ITEM_FACTS = ("idnumber", "gradetype", "grademax", "grademin", "gradepass", "aggregationcoef")
_PERSONAL: Mapping[str, str] = {
    "mod_forum": "post attachment",
    "mod_glossary": "entry attachment",
    "mod_data": "content",
    "mod_wiki": "attachments",
    "mod_lesson": "essay_responses essay_answers",
    "mod_assignment": "submission response",
    "mod_workshop": "submission_content submission_attachment overallfeedback_content overallfeedback_attachment",
    "grade": "feedback historyfeedback",
}


def personal_area(component: str, area: str) -> bool:
    """Whether files there are people's work; of other files it does not matter who put them there."""
    if component.startswith(("assignsubmission_", "assignfeedback_")):
        return True
    if component.startswith("question"):
        return area.startswith("response_")
    return area in _PERSONAL.get(component, "").split()


def file_counts(component: str, area: str) -> bool:
    """Whether a file is the course's own: no backup, no draft, none that Moodle makes anew from others."""
    if component in ("user", "backup", "tool_recyclebin", "core_grading"):
        return False
    return component != "assignfeedback_editpdf" or area in ("download", "stamps", "systemstamps")


def grade_item_facts(fields: Mapping[str, str]) -> dict[str, str]:
    """A grade item's settings; an activity's ID number is the activity's own."""
    facts = {name: plain(fields.get(name, "")) for name in _ITEM_FACTS}
    if fields.get("itemtype") == "mod":
        del facts["idnumber"]
    return facts


def grade_facts(fields: Mapping[str, str]) -> dict[str, str]:
    """A grade's value and feedback; nothing where there is neither."""
    value, feedback = plain(fields.get("finalgrade", "")), digest(fields.get("feedback", ""))
    if not value and not feedback:
        return {}
    flags = {name: "0" if fields.get(name, "0") in ("", "0") else "1" for name in ("overridden", "excluded")}
    return {"value": value, "feedback": feedback, **flags}


def _question_notes(record: Record) -> dict[str, str]:
    return {
        "name": record.get("name"),
        "qtype": record.get("qtype"),
        "text": digest(record.get("questiontext")),
        "mark": plain(record.get("defaultmark")),
    }


def _all(handlers: list[OnRecord]) -> OnRecord:
    def each(record: Record) -> None:
        for handler in handlers:
            handler(record)

    return each


def _ways(part: Part) -> set[Way]:
    way: Way = ("activity", part.module)
    found = set()
    for step in part.steps:
        way = (*way, *step.elements)
        found.add(way)
    return found


_PARTS = identityparts.of_module()
_LOGS: Way = ("logstores", "logstore")
_CATEGORY: Way = ("question_categories", "question_category")
_ENTRY: Way = (*_CATEGORY, "question_bank_entries", "question_bank_entry")
_VERSION: Way = (*_ENTRY, "question_version", "question_versions")
Handler = Callable[[_Reader, Record], None]


def _nothing(_: _Reader, __: Record) -> None:
    """For records that only give their fields to those within."""


_ROOTS: Mapping[str, Mapping[Way, Handler]] = {
    "files.xml": {("files", "file"): _Reader._file},
    "groups.xml": {
        ("groups", "group"): _Reader._group,
        ("groups", "group", "group_members", "group_member"): _Reader._member,
        ("groups", "groupings", "grouping"): _Reader._grouping,
        ("groups", "groupings", "grouping", "grouping_groups", "grouping_group"): _Reader._grouping_group,
    },
    "gradebook.xml": {
        ("gradebook", "grade_categories", "grade_category"): _Reader._grade_category,
        ("gradebook", "grade_items", "grade_item"): lambda reader, record: reader._grade_item(COURSE, record),
        ("gradebook", "grade_items", "grade_item", "grade_grades", "grade_grade"): lambda reader, record: (
            reader._grade(COURSE, record)
        ),
    },
    "grade_history.xml": {("grade_history", "grade_grades", "grade_grade"): _Reader._history},
    "completion.xml": {
        ("course_completion", "course_completion_criteria"): _Reader._criterion,
        ("course_completion", "course_completions"): _Reader._completed,
    },
    "badges.xml": {
        ("badges", "badge"): _Reader._badge,
        ("badges", "badge", "manual_awards", "manual_award"): _Reader._award,
    },
    "questions.xml": {
        _CATEGORY: _nothing,
        _ENTRY: _Reader._entry,
        _VERSION: _nothing,
        (*_VERSION, "questions", "question"): _Reader._question,
        (*_CATEGORY, "questions", "question"): _Reader._question,
    },
    MANIFEST: {},
}
_COURSE: Mapping[str, Mapping[Way, Handler]] = {
    "course.xml": {
        ("course",): _Reader._course,
        ("course", "tags", "tag"): _Reader._tag,
        ("course", "customfields", "customfield"): _Reader._custom_field,
    },
    "enrolments.xml": {
        ("enrolments", "enrols", "enrol"): _Reader._method,
        ("enrolments", "enrols", "enrol", "user_enrolments", "enrolment"): _Reader._enrolment,
    },
    "contentbank.xml": {("contents", "content"): _Reader._content},
}
