"""The settings of backups and restores: which there are, who locked them, and what a person's wishes come to.

Names, defaults and dependencies as Moodle 5.1 has them: ``backup/moodle2/backup_root_task.class.php``,
``restore_root_task.class.php`` and ``restore_course_task.class.php``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moodlectl.errors import NotFound, Refused, UsageError
from moodlectl.site.port import ItemChoice, LockedBy, Setting
from moodlectl.site.practice.package import ActivityDocs, Package, SectionDocs

Value = str | int | bool | None

_USERS = ("users",)
_BOTH = ("users", "activities")
# name, Moodle's default, what it depends on
BACKUP_ROOT: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("imscc11", False, ()),
    ("users", True, ()),
    ("anonymize", False, _USERS),
    ("role_assignments", True, _USERS),
    ("activities", True, ()),
    ("blocks", True, ()),
    ("files", True, ()),
    ("filters", True, ()),
    ("comments", True, _USERS),
    ("badges", True, ()),
    ("calendarevents", True, ()),
    ("userscompletion", True, _USERS),
    ("logs", False, _USERS),
    ("grade_histories", False, _BOTH),
    ("groups", True, ()),
    ("competencies", True, ()),
    ("customfield", True, ()),
    ("contentbankcontent", True, ()),
    ("xapistate", True, _USERS),
    ("legacyfiles", True, ()),
)
RESTORE_ROOT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("users", ()),
    ("enrolments", ()),
    ("role_assignments", _USERS),
    ("permissions", ()),
    ("activities", ()),
    ("blocks", ()),
    ("filters", ()),
    ("comments", _USERS),
    ("badges", _BOTH),
    ("calendarevents", ()),
    ("userscompletion", _USERS),
    ("logs", _USERS),
    ("grade_histories", _BOTH),
    ("groups", ()),
    ("competencies", ()),
    ("customfield", ()),
    ("contentbankcontent", ()),
    ("xapistate", _USERS),
    ("legacyfiles", ()),
)
# What an IMS Common Cartridge has no place for: imscc11 shuts these off.
NOT_IN_A_CARTRIDGE = frozenset(
    [
        "users",
        "blocks",
        "filters",
        "comments",
        "badges",
        "calendarevents",
        "logs",
        "grade_histories",
        "groups",
        "competencies",
        "customfield",
        "files",
        "contentbankcontent",
        "xapistate",
        "legacyfiles",
        "role_assignments",
        "userscompletion",
        "anonymize",
    ]
)
_LABELS = {
    "imscc11": "IMS Common Cartridge 1.1",
    "users": "Include enrolled users",
    "anonymize": "Anonymize information",
    "role_assignments": "Include user role assignments",
    "activities": "Include activities and resources",
    "userscompletion": "Include user completion details",
    "grade_histories": "Include grade history",
    "enrolments": "Include enrolment methods",
}
ENROLMENTS = {
    "0": "No, restore users as manual enrolments",
    "1": "Yes, but only if users are included",
    "2": "Yes, always",
}


@dataclass
class Sheet:
    """All settings of one plan by name, and how wishes are laid over them."""

    settings: dict[str, Setting] = field(default_factory=dict)
    why: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, setting: Setting, why: Mapping[str, str] | None = None) -> None:
        """Put one setting on the sheet; ``why`` explains its lock."""
        self.settings[setting.name] = setting
        if why:
            self.why[setting.name] = dict(why)

    def value(self, name: str) -> Value:
        """The value a setting has now; False where there is none of that name."""
        return self.settings[name].value if name in self.settings else False

    def apply(self, wishes: Mapping[str, Value]) -> None:
        """Set what is wished for, then turn off what depends on something that is off.

        Raises Refused ``setting_locked`` naming everything that is locked and by whom; nothing is ignored.
        """
        problems: dict[str, dict[str, str]] = {}
        for name, wish in wishes.items():
            if name in self.why and not _same(self.settings[name].value, wish):
                problems[name] = self.why[name]
            else:
                self.settings[name] = replace(self.settings[name], value=wish)
        for name, setting in self.settings.items():
            blocker = self._blocker(setting)
            if blocker is None:
                continue
            if name in wishes and wishes[name] and name not in problems:
                problems[name] = self._hierarchy(name, blocker)
            self.settings[name] = replace(setting, value=False, locked_by=setting.locked_by or "hierarchy")
        if problems:
            raise Refused(
                " ".join(dict.fromkeys(problem["message"] for problem in problems.values())),
                next(iter(problems.values()))["hint"],
                code="setting_locked",
                details={"settings": problems},
            )

    def _blocker(self, setting: Setting) -> str | None:
        if setting.name in NOT_IN_A_CARTRIDGE and self.value("imscc11") and "imscc11" in setting.depends_on:
            return "imscc11"
        above = (name for name in setting.depends_on if name != "imscc11" and name in self.settings)
        return next((name for name in above if not self.value(name)), None)

    def _hierarchy(self, name: str, above: str) -> dict[str, str]:
        state = "on" if above == "imscc11" else "off"
        other = self.why.get(above, {})
        message = f"'{name}' depends on '{above}', which is {state}. {other.get('message', '')}".strip()
        hint = other.get("hint") or f"Turn '{above}' {'off' if state == 'on' else 'on'} as well."
        return {"message": message, "locked_by": "hierarchy", "hint": hint, "depends_on": above}


def _same(one: Value, other: Value) -> bool:
    def plain(value: Value) -> str:
        return str(int(value)) if isinstance(value, (bool, int)) else value or "0"

    return plain(one) == plain(other)


def require_known(names: Iterable[str], known: Sequence[str], what: str) -> None:
    """Raises UsageError ``unknown_setting``, which names what there is, for the first name that is not known."""
    for name in names:
        if name not in known:
            raise UsageError(
                f"This site's {what} have no setting '{name}'.",
                f"There are: {', '.join(known)}.",
                code="unknown_setting",
                details={"setting": name, "available": list(known)},
            )


@dataclass(frozen=True)
class Locks:
    """What the acting user may not change, and what the administrator has locked: setting → why."""

    username: str
    missing: frozenset[str]
    config: Mapping[str, Value]

    def find(self, name: str, default: Value) -> tuple[Value, LockedBy | None, dict[str, str] | None]:
        """The value, who locked it, and the explanation."""
        capability = {"users": "userinfo", "anonymize": "anonymise"}.get(name)
        if capability and capability in self.missing:
            return (
                False,
                "permission",
                {
                    "message": f"'{name}' is locked: the user {self.username} has not the capability"
                    f" moodle/backup:{capability}.",
                    "locked_by": "permission",
                    "hint": "Act as somebody who has it (--as USERNAME).",
                    "capability": f"moodle/backup:{capability}",
                },
            )
        if name in self.config:
            key = f"backup_general_{'histories' if name == 'grade_histories' else name}_locked"
            return (
                self.config[name],
                "config",
                {
                    "message": f"'{name}' is locked by the site's administrator (backup/{key}).",
                    "locked_by": "config",
                    "hint": "Leave it as it is, or have an administrator unlock it under Site"
                    " administration > Courses > Backups > General backup defaults.",
                    "config": f"backup/{key}",
                },
            )
        return default, None, None


def backup_sheet(package: Package | None, locks: Locks) -> Sheet:
    """The settings a backup of that course offers, or those of any course."""
    sheet = Sheet()
    sheet.add(Setting("filename", "backup.mbz", "root", label="Filename"))
    for name, default, depends in BACKUP_ROOT:
        value, locked_by, why = locks.find(name, default)
        above = (*depends, "imscc11") if name in NOT_IN_A_CARTRIDGE else depends
        label = _LABELS.get(name, f"Include {name}")
        sheet.add(Setting(name, value, "root", label=label, locked_by=locked_by, depends_on=above), why)
    if package is not None:
        add_items(sheet, package, lambda _: True)
    sheet.apply({})
    return sheet


def add_items(sheet: Sheet, package: Package, has_userinfo: Any) -> None:
    """Put the settings of every section and activity on the sheet, subsections right after their activity."""
    by_parent = {section.parent: section for section in package.sections if section.parent}

    def add(section: SectionDocs, level: str, inner: str, above: tuple[str, ...]) -> None:
        key = f"section_{section.id}"
        _pair(sheet, (key, level, section.id, section.title, ""), above, has_userinfo(key))
        for activity in package.activities_of(section.id):
            item = (activity.key, inner, activity.id, activity.title, activity.module)
            _pair(sheet, item, (key, "activities"), has_userinfo(activity.key))
            if activity.id in by_parent:
                add(by_parent[activity.id], "subsection", "subactivity", (activity.key,))

    for section in package.sections:
        if not section.parent:
            add(section, "section", "activity", ())


def _pair(sheet: Sheet, item: tuple[str, str, int, str, str], above: tuple[str, ...], userinfo: bool) -> None:
    key, level, item_id, title, module = item
    holders = [name for name in above if name != "activities"]
    included = (*(name for name in above if name == "activities"), *(f"{name}_included" for name in holders))
    sheet.add(
        Setting(
            f"{key}_included",
            True,
            level,
            title,
            depends_on=included,
            item_id=item_id,
            item=title,
            module=module,
        )
    )
    depends = ("users", *(f"{name}_userinfo" for name in holders), f"{key}_included")
    sheet.add(
        Setting(
            f"{key}_userinfo", userinfo, level, "User data", depends_on=depends, item_id=item_id, item=title,
            module=module,
        )
    )  # fmt: skip


def item_wishes(package: Package, choice: ItemChoice) -> dict[str, Value]:
    """A choice of items as settings. Raises NotFound ``item_not_found`` for an id that is not there.

    What a choice means is said at ``port.ItemChoice``, for backups and restores alike.
    """
    activities = {activity.id: activity for activity in package.activities}
    _require_items(choice, {section.id for section in package.sections}, set(activities))
    wishes: dict[str, Value] = {}
    wanted_sections, wanted_activities = _only(package, choice)
    for section in package.sections:
        if section.id not in wanted_sections or section.id in choice.skip_sections:
            wishes[f"section_{section.id}_included"] = False
        elif section.id in (choice.only_sections or ()):
            wishes[f"section_{section.id}_included"] = True
    for activity in package.activities:
        if activity.id not in wanted_activities or activity.id in choice.skip_activities:
            wishes[f"{activity.key}_included"] = False
        elif activity.id in (choice.only_activities or ()):
            wishes[f"{activity.key}_included"] = True
    for wanted, section_ids, activity_ids in (
        (False, choice.no_userdata_sections, choice.no_userdata_activities),
        (True, choice.userdata_sections, choice.userdata_activities),
    ):
        wishes.update({f"section_{number}_userinfo": wanted for number in section_ids})
        wishes.update({f"{activities[number].key}_userinfo": wanted for number in activity_ids})
    return wishes


def _require_items(choice: ItemChoice, sections: set[int], activities: set[int]) -> None:
    asked_sections = set(choice.only_sections or ()) | choice.skip_sections
    asked_sections |= choice.userdata_sections | choice.no_userdata_sections
    asked_activities = set(choice.only_activities or ()) | choice.skip_activities
    asked_activities |= choice.userdata_activities | choice.no_userdata_activities
    for kind, missing in (
        ("section", asked_sections - sections),
        ("activity", asked_activities - activities),
    ):
        if missing:
            raise NotFound(
                f"There is no {kind} with the id {min(missing)} in the course.",
                "See which there are: moodlectl course show, or moodlectl backup inspect for a backup.",
                code="item_not_found",
                details={"kind": kind, "ids": sorted(missing)},
            )


def _only(package: Package, choice: ItemChoice) -> tuple[set[int], set[int]]:
    """The ids of the sections and of the activities that take part, before anything is skipped."""
    every = {section.id for section in package.sections}
    if choice.only_sections is None and choice.only_activities is None:
        return every, {activity.id for activity in package.activities}
    named = set(choice.only_activities or ())
    sections = every if choice.only_sections is None else set(choice.only_sections)
    home = {activity.id: activity.section for activity in package.activities}
    holder = {section.id: section.parent for section in package.sections}
    # A subsection chosen brings all that is in it, unless something in it is chosen singly.
    frames = {parent for number in named if number in home and (parent := holder.get(home[number]))}
    whole = set(sections) if choice.only_activities is None else set()
    activities, grown = set(named), True
    while grown:  # downwards: what is in a section taken whole, and in a subsection chosen
        before = len(whole) + len(activities)
        inside = {activity.id for activity in package.activities if activity.section in whole}
        whole |= {section.id for section in package.sections if section.parent in (inside | named) - frames}
        activities |= inside
        grown = len(whole) + len(activities) > before
    sections = sections | whole
    grown = True
    while grown:  # upwards: what holds something chosen comes along, and only that
        before = len(sections) + len(activities)
        sections |= {home[number] for number in activities}
        known = sections if choice.only_sections is not None else {home[number] for number in activities}
        activities |= {parent for number in known if (parent := holder.get(number)) in home and parent}
        grown = len(sections) + len(activities) > before
    return sections & every, activities


def chosen(sheet: Sheet, package: Package) -> Chosen:
    """What a settled sheet comes to."""

    def on(item: SectionDocs | ActivityDocs, tail: str) -> bool:
        key = item.key if isinstance(item, ActivityDocs) else f"section_{item.id}"
        return bool(sheet.value(f"{key}_{tail}"))

    return Chosen(
        {name: setting.value for name, setting in sheet.settings.items() if setting.level in ("root", "course")},
        frozenset(section.id for section in package.sections if on(section, "included")),
        frozenset(activity.id for activity in package.activities if on(activity, "included")),
        frozenset(section.id for section in package.sections if on(section, "userinfo")),
        frozenset(activity.id for activity in package.activities if on(activity, "userinfo")),
    )


@dataclass(frozen=True)
class Chosen:
    """What a backup or restore takes along: root settings by name, and ids of sections and activities."""

    root: Mapping[str, Value]
    sections: frozenset[int]
    activities: frozenset[int]
    userinfo_sections: frozenset[int]
    userinfo_activities: frozenset[int]

    def __getitem__(self, name: str) -> bool:
        return bool(self.root.get(name, False))
