"""What the documents of a backup call each other by id: people, roles, groups, sections, activities, contexts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from moodlectl.mbz.archive import MANIFEST, Member
from moodlectl.mbz.information import Information, read_information
from moodlectl.mbz.likeness import COURSE
from moodlectl.mbz.recordpaths import OnRecord, Record, RecordPaths, passes_over
from moodlectl.mbz.recordpaths import Path as Way
from moodlectl.mbz.roster import Roster

_HEAD = re.compile(rb"<(?:activity|block) [^>]*?contextid=\"([0-9]{1,18})\"")
_CATEGORY_REF: Way = ("inforef", "question_categoryref", "question_category")
_MODULE_FIELDS = frozenset(
    {
        *("idnumber", "visible", "visibleoncoursepage", "indent", "groupmode", "completion", "completionview"),
        *("completionexpected", "completionpassgrade", "showdescription", "availability"),
    }
)


@dataclass
class IndexedActivity:
    """One activity: course module id, module, title, its section's id, and what module.xml says."""

    folder: str
    cmid: int = 0
    module: str = ""
    title: str = ""
    section: str = ""
    userdata: bool = True
    fields: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


@dataclass
class Index:
    """Filled by a first walk through a backup; bounded by the number of people and items."""

    activities: dict[str, IndexedActivity] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    section_names: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    by_context: dict[str, IndexedActivity] = field(default_factory=dict)
    users_known: bool = False
    question_categories: dict[str, set[str]] = field(default_factory=dict)
    _users: dict[str, str] = field(default_factory=dict)
    _contexts: dict[str, str] = field(default_factory=dict)
    _information: Information = field(default_factory=Information)

    def username(self, id_: str) -> str:
        """A person's username; of whom the backup does not hold, a mark that names nobody."""
        return self._users.get(id_, "" if id_ in ("", "0") else "?")

    def where(self, contextid: str) -> tuple[str, str] | None:
        """Module and name of the activity a context belongs to, the course, or None for a place elsewhere."""
        if contextid == self._information.fields.get("original_course_contextid"):
            return COURSE
        folder = self._contexts.get(contextid)
        if folder is None:
            return None
        found = self.activities.get(folder)
        return (found.module, found.title) if found else COURSE

    def about(self) -> Mapping[str, str]:
        """How the backup was made: ``setting_NAME`` as 0 or 1, site, release, and whose data is in it."""
        fields = self._information.fields
        settings = self._information.root_settings()
        facts = {
            "source": "backup",
            "site": fields.get("original_site_identifier_hash", ""),
            "url": fields.get("original_wwwroot", ""),
            "release": fields.get("backup_release", ""),
            "type": self._information.detail.get("type", "course"),
            "startdate": fields.get("original_course_startdate", "0"),
        }
        for name, value in settings.items():
            if isinstance(value, bool):
                facts[f"setting_{name}"] = "1" if value else "0"
        facts.setdefault("setting_users", "1" if self.users_known else "0")
        return facts

    def see(self, member: Member) -> None:
        """Look at one document for what others will refer to."""
        name = member.name
        folder, _, base = name.rpartition("/")
        if base == "inforef.xml":
            self._parse(member, {_CATEGORY_REF: partial(self._category, folder)})
        elif name == MANIFEST:
            self._information = read_information(member)
        elif base == "block.xml":
            found = _head(member)
            if found:
                self._contexts[found] = folder.partition("/blocks/")[0]
        elif folder.startswith("activities/") and "/" not in folder[11:]:
            module = folder[11:].rpartition("_")[0]
            if base == "module.xml":
                self._parse(member, self._module_ways(folder))
            elif base == f"{module}.xml":
                found = _head(member)
                if found:
                    self._contexts[found] = folder
        elif name == "users.xml":
            self.users_known = True
            self._people(member)
        elif name in ("roles.xml", "groups.xml"):
            self._parse(member, self._ways(name))
        elif base == "section.xml" and folder.startswith("sections/"):
            self._parse(member, {("section",): self._section})

    def finish(self) -> None:
        """Bring together what several documents say."""
        ticks = self._information.ticks()
        for item in self._information.activities:
            folder = item.get("directory", "")
            activity = self.activities.setdefault(folder, IndexedActivity(folder))
            activity.cmid = int(item.get("moduleid") or 0)
            activity.module, activity.title = item.get("modulename", ""), item.get("title", "")
            activity.section = item.get("sectionid", "")
            activity.userdata = ticks.get(f"{folder.rpartition('/')[2]}_userinfo", self.users_known)
            self.titles[str(activity.cmid)] = f"{activity.module} {activity.title}"
        for contextid, folder in self._contexts.items():
            if folder in self.activities:
                self.by_context[contextid] = self.activities[folder]

    def _parse(self, member: Member, handlers: Mapping[Way, OnRecord]) -> None:
        if not passes_over(member, handlers):
            member.parse(RecordPaths(member.name, handlers))

    def _people(self, member: Member) -> None:
        roster = Roster(member.name, frozenset({"username"}))
        for chunk in member.chunks():
            self._keep(roster.feed(chunk))
        self._keep(roster.close())

    def _keep(self, people: Iterable[Mapping[str, str]]) -> None:
        self._users.update((one.get("id", ""), one.get("username", "")) for one in people)

    def _ways(self, name: str) -> Mapping[Way, OnRecord]:
        def keep(names: dict[str, str], field: str) -> OnRecord:
            def handler(record: Record) -> None:
                names[record.get("id")] = record.get(field)

            return handler

        if name == "roles.xml":
            return {("roles_definition", "role"): keep(self.roles, "shortname")}
        return {("groups", "group"): keep(self.groups, "name")}

    def _module_ways(self, folder: str) -> Mapping[Way, OnRecord]:
        activity = self.activities.setdefault(folder, IndexedActivity(folder))

        def module(record: Record) -> None:
            activity.fields = {n: v for n, v in record.fields.items() if n in _MODULE_FIELDS}

        def tag(record: Record) -> None:
            activity.tags.append(record.get("rawname"))

        return {("module",): module, ("module", "tags", "tag"): tag}

    def _category(self, folder: str, record: Record) -> None:
        self.question_categories.setdefault(folder, set()).add(record.get("id"))

    def _section(self, record: Record) -> None:
        delegated = record.get("component")
        name = f"subsection {record.get('name')}" if delegated else record.get("number")
        self.section_names[record.get("id")] = name


def _head(member: Member) -> str | None:
    """The context id that the first element of a document names."""
    for chunk in member.chunks():
        match = _HEAD.search(bytes(chunk[:4096]))
        return match[1].decode() if match else None
    return None
