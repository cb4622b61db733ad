"""What the kinds of things are called, how much they weigh, and which differences Moodle itself makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from moodlectl.actions.holdings import Holdings, Pair, Side

Words = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class Kind:
    """One kind of thing: its name, how heavy its loss is (0 the heaviest), and what leaves it out of a backup.

    ``placed``: the first two words of its key are the activity it belongs to (or ``course`` and nothing).
    ``words`` are the places in the rest of the key that name it. ``people``: it belongs to people.
    """

    name: str
    weight: int
    setting: str | None = None
    placed: bool = True
    people: bool = False
    words: str = ""


OWN_NAMES: Final = "each course has names and an ID number of its own"
"""Why courses that are equal are not named alike."""

KINDS: Mapping[str, Kind] = {
    "course": Kind("course", 0),
    "section": Kind("section", 1, words="{0}", placed=False),
    "activity": Kind("activity", 1, "activities"),
    "person": Kind("enrolment of", 2, "enrolments", False, True, "{0} ({1})"),
    "role": Kind("role", 3, "role_assignments", True, True, "{1} of {0}"),
    "grade_item": Kind("grade item", 2, words="{0}"),
    "grade_category": Kind("grade category", 3, words="{0}"),
    "grade": Kind("grade", 2, None, True, True, "{0} of {1}"),
    "grade_history": Kind("grade history", 6, "grade_histories", True, True, "{0}"),
    "grading": Kind("advanced grading", 4, words="{0}"),
    "question": Kind("question", 2, "questionbank", False, False, "{0} ({1})"),
    "group": Kind("group", 3, "groups", False, False, "{0}"),
    "grouping": Kind("grouping", 3, "groups", False, False, "{0}"),
    "grouping_group": Kind("group of a grouping", 4, "groups", False, False, "{1} in {0}"),
    "group_member": Kind("group member", 3, "groups", False, True, "{1} in {0}"),
    "file": Kind("file", 2, "files", True, False, "{1} ({0})"),
    "user_file": Kind("file", 2, None, True, True, "{1} ({0})"),
    "completion": Kind("completion", 4, "userscompletion", True, True, "{0}"),
    "view": Kind("completion view", 6, "userscompletion", True, True, "{0}"),
    "course_completion": Kind("course completion", 4, "userscompletion", False, True, "{0}"),
    "criterion": Kind("course completion criterion", 4, "userscompletion", False, False, "{0} {1}"),
    "badge": Kind("badge", 4, "badges", False, False, "{0}"),
    "badge_award": Kind("badge award", 5, "badges", False, True, "{0} to {1}"),
    "badge_issued": Kind("issued badge", 6, "badges", False, True, "{0} to {1}"),
    "event": Kind("calendar event", 5, "calendarevents", words="{0} ({1})"),
    "block": Kind("block", 5, "blocks", words="{0}"),
    "override": Kind("role override", 4, words="{1} for {0}"),
    "filter": Kind("filter", 6, "filters", words="{0}"),
    "competency": Kind("competency", 5, "competencies", words="{0}"),
    "comment": Kind("comment", 4, "comments", True, True, "by {1} ({0})"),
    "tag": Kind("tag", 6, words="{0}"),
    "custom_field": Kind("custom field", 4, "customfield", False, False, "{0}"),
    "content": Kind("content bank item", 4, "contentbankcontent", False, False, "{0}"),
    "enrolment": Kind("enrolment method", 5, "enrolments", False, False, "{0} {1}"),
    "logs": Kind("log entries", 9, "logs", True, True),
}
_BY_PEOPLE = re.compile(
    r"_(?:answer|attempt|result|override|entry|content|rating|version|page|response|value|discussion|post|subscription|"
    r"submission|text|grading|comment|flag|assessment|aggregation|track|message)$"
)
_CONTENT_KINDS = frozenset({"lesson_page", "lesson_answer"})


def kind_of(name: str) -> Kind:
    """A kind by its name; what activities hold is called by its module and its own name."""
    known = KINDS.get(name)
    if known:
        return known
    module, _, what = name.partition("_")
    people = bool(_BY_PEOPLE.search(name)) and name not in _CONTENT_KINDS
    return Kind(f"{module} {what}", 3, None, True, people)


def place(pair: Pair) -> str:
    """The activity a thing belongs to, ``forum "News"``; empty for the course's own."""
    if not kind_of(pair.kind).placed or pair.key[:1] == ("course",) or len(pair.key) < 2:
        return ""
    return f'{pair.key[0]} "{pair.key[1]}"'


def what(pair: Pair) -> str:
    """A thing in words: ``grade of student1 in assign "Essay"``; of a second grade, ``grade item 1 of student1 …``."""
    kind, where = kind_of(pair.kind), place(pair)
    if pair.kind == "activity":
        return where
    if pair.kind == "course":
        return "course"
    rest = [*(pair.key[2:] if kind.placed else pair.key), "", "", ""]
    if where and rest[0] == "item 0":
        rest[0] = ""  # the grade of the activity itself
    if kind.words:
        named = " ".join(kind.words.format(*rest).split())
    else:
        named = ", ".join(word for word in rest if word)
    owner = (pair.a or pair.b or {}).get("owner")
    named += f" of {owner}" if owner else ""
    text = " ".join(word for word in (kind.name, named) if word)
    return f"{text} in {where}" if where else text


# --- what Moodle itself does not carry -------------------------------------------------------------------------------


@dataclass
class Judge:
    """Tells what Moodle's own backup and restore change or leave behind from what was lost.

    As seen on 4.5 and 5.1 by comparing a rich course with its restored copy; what a setting leaves out counts, too.
    """

    holdings: Holdings
    by_cohort: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        a, b = self.holdings.about["a"], self.holdings.about["b"]
        self.same_site = bool(a.get("site")) and a.get("site") == b.get("site")
        self.banks_moved = branch(a) < 500 <= branch(b) or branch(b) < 500 <= branch(a)
        left, right = (self.holdings.facts("a", "course"), self.holdings.facts("b", "course"))
        self.shift = _number(right.get("startdate")) - _number(left.get("startdate"))
        if not self.same_site:
            self.by_cohort = self._cohort_people()

    def _cohort_people(self) -> set[str]:
        """Who is enrolled by cohort or another course alone, on either side."""
        found: set[str] = set()
        for side in ("a", "b"):
            methods: dict[str, set[str]] = {}
            for who, method in self.holdings.keys("a" if side == "a" else "b", "person"):
                methods.setdefault(who, set()).add(method)
            found |= {who for who, each in methods.items() if each <= {"cohort", "meta"}}
        return found

    def left_out(self, pair: Pair) -> str | None:
        """Why a thing is not compared at all: the setting that a side was made without."""
        found = kind_of(pair.kind)
        for side in ("a", "b"):
            about = self.holdings.about[side]
            # A backup without its files still names them.
            settings = [found.setting] if found.setting and found.setting != "files" else []
            if pair.kind == "file" and len(pair.key) > 2:
                settings += [setting for area, setting in _FILES_OF.items() if pair.key[2].startswith(area)]
            if found.people:
                settings.append("users")
            if found.people and about.get("setting_anonymize") == "1":
                return "anonymize"
            for setting in settings:
                if about.get(f"setting_{setting}") == "0":
                    return setting
        return None

    def known(self, pair: Pair) -> str | None:
        """Why Moodle makes this difference; None where nothing explains it."""
        rule = _RULES.get(pair.kind)
        return (rule(self, pair) if rule else None) or self._dates(pair)

    def _dates(self, pair: Pair) -> str | None:
        changed = pair.changed()
        if self.shift and changed and all(self._moved(*values) for values in changed.values()):
            return "dates move with the start of the course"
        return None

    def _moved(self, a: str, b: str) -> bool:
        # An hour more or less is summer time.
        return len(a) > 8 and len(b) > 8 and abs(_number(b) - _number(a) - self.shift) in (0, 3600)

    def _course(self, pair: Pair) -> str | None:
        changed = pair.changed()
        names = {"shortname", "fullname", "idnumber"}
        others = {name: values for name, values in changed.items() if name not in names}
        dates = {"startdate", "enddate"}
        if not others:
            return OWN_NAMES
        if set(others) <= dates and all(self._moved(*values) for values in others.values()):
            return "names are its own, and dates move with the start of the course"
        return None

    def _activity(self, pair: Pair) -> str | None:
        if self.banks_moved and pair.key[0] == "qbank" and (pair.a is None or pair.b is None):
            return "before 5.0 the course itself was the question bank"
        return None

    def _question(self, pair: Pair) -> str | None:
        if self.banks_moved and set(pair.changed()) <= {"bank", "category"} and pair.a and pair.b:
            return "before 5.0 the course itself was the question bank"
        return None

    def _event(self, pair: Pair) -> str | None:
        if pair.key[0] == "course" or (pair.a is not None and pair.b is not None):
            return None
        return "backups leave deadlines out of the calendar; cron puts them back from the activities"

    def _history(self, pair: Pair) -> str | None:
        if pair.key[0] == "course":
            return "Moodle skips the history of manual items, categories and totals"
        sides = [self.holdings.about[side].get("source") for side in ("a", "b")]
        grown = _number((pair.b or {}).get("count")) - _number((pair.a or {}).get("count"))
        if sides[1] == "backup":
            grown = -grown
        if grown > 0:
            return "a restore adds to the history"
        return "backups leave histories out unless told otherwise" if "backup" not in sides else None

    def _total(self, pair: Pair) -> str | None:
        """Totals of categories and of the course, where nobody has overridden them."""
        if pair.key[:2] != ("course", "") or not pair.key[2].startswith(("course total", "category ")):
            return None
        if pair.kind == "grade_item" and (pair.a is None or pair.b is None or set(pair.changed()) != {"grademax"}):
            return None
        if any((side or {}).get("overridden", "0") not in ("0", "") for side in (pair.a, pair.b)):
            return None
        return "Moodle computes totals anew when somebody looks at the gradebook"

    def _badge(self, pair: Pair) -> str | None:
        return "a restored badge is inactive" if set(pair.changed()) == {"status"} else None

    def _gradebook(self, pair: Pair) -> str | None:
        """The total and the category that holds everything, on one side, where the other has no gradebook yet."""
        if pair.key[:2] != ("course", "") or pair.key[2] not in ("", "course total"):
            return None
        empty: Side = "a" if pair.a is None else "b"
        alone = (pair.a is None) != (pair.b is None)
        if alone and next(self.holdings.keys(empty, "grade_category"), None) is None:
            return "Moodle makes the course total when it is first needed"
        return None

    def _custom_field(self, pair: Pair) -> str | None:
        alone = pair.a is None or pair.b is None
        return "sites have custom fields of their own" if alone and not self.same_site else None

    def _cohort(self, pair: Pair) -> str | None:
        if self.same_site:
            return None
        words = set(pair.key)
        if words & {"cohort", "meta"} or (pair.kind != "enrolment" and words & self.by_cohort):
            return "cohorts and other courses enrol on their own site only"
        return None


_FILES_OF: Mapping[str, str] = {
    "badges/": "badges",
    "group/": "groups",
    "grouping/": "groups",
    "course/legacy": "legacyfiles",
    "contentbank/": "contentbankcontent",
    "calendar/": "calendarevents",
}


def branch(about: Mapping[str, str]) -> int:
    """The release a side was made with or lies on, 5.1 as 501; 0 where nobody says."""
    match = re.match(r"(\d+)\.(\d+)", about.get("release", ""))
    return int(match[1]) * 100 + int(match[2]) if match else 0


def _number(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,18}", text) else 0


Rule = Callable[[Judge, Pair], str | None]
_RULES: Mapping[str, Rule] = {
    "course": Judge._course,
    "activity": Judge._activity,
    "question": Judge._question,
    "event": Judge._event,
    "grade_history": Judge._history,
    "grade": Judge._total,
    "grade_item": lambda judge, pair: Judge._total(judge, pair) or Judge._gradebook(judge, pair),
    "badge": Judge._badge,
    "badge_issued": lambda _judge, _pair: "backups carry what was awarded by hand, and it is not issued again",
    "custom_field": Judge._custom_field,
    "grade_category": Judge._gradebook,
    "logs": lambda _judge, _pair: "a restore leaves traces of its own, and logs are off by default",
    "person": Judge._cohort,
    "role": Judge._cohort,
    "group_member": Judge._cohort,
    "enrolment": Judge._cohort,
}
