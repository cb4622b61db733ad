"""What is changed in each document of a backup, and what is only counted.

Moodle writes the fields of a record before the records inside it (``backup_nested_element``), and whose a record is
among the first of them: so a record need not be held for long until it is known whether it stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from moodlectl.mbz import anonymize as nobody
from moodlectl.mbz.rewritexml import Element, Rules, Verdict
from moodlectl.mbz.xmlstream import NULL

FORGOTTEN_URL = "https://forgotten.invalid"
# Whose a record is.
_OWNERS = frozenset({"userid", "recipientid", "authorid", "reviewerid"})
# Records that others' work hangs on: they stay, under a nobody, when their owner is left out.
_SHARED = frozenset(
    {
        *(("forum", "discussion"), ("forum", "post"), ("wiki", "page"), ("wiki", "version")),
        *(("glossary", "entry"), ("data", "record"), ("", "step")),
    }
)
# The course's own, whoever made them: a restore gives them to whoever restores.
_OF_THE_COURSE = frozenset({"event", "block_instance", "question"})
_ROOT_USER_SETTINGS = frozenset(
    {
        *("users", "anonymize", "role_assignments", "comments", "userscompletion", "logs", "grade_histories"),
        "xapistate",
    }
)
_ID = re.compile(r"[0-9]{1,18}")
_LETTER = re.compile(r"[^\W\d_]")
_ACTIVITY = re.compile(r"activities/([a-z][a-z0-9_]*)_[0-9]+/")


@dataclass
class Plan:
    """What is to be done to one backup, once its people are known.

    ``changes`` are the fields of mapped people by id, ``gone`` the ids left out, ``stand_ins`` those of them whose
    place a nobody takes, with its number. ``everybody`` leaves all people out, whoever they are.
    """

    changes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    stand_ins: dict[int, int] = field(default_factory=dict)
    everybody: bool = False
    anonymize: bool = False
    forget: bool = False
    site_hash: str = ""
    new_hash: str | None = None
    new_url: str | None = None
    salt: bytes = b""
    # What was found and done on the way.
    done: Counter[str] = field(default_factory=Counter)
    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept_contents: set[bytes] = field(default_factory=set)
    dropped_contents: set[bytes] = field(default_factory=set)
    unneeded: frozenset[bytes] = frozenset()

    @property
    def leaves_out(self) -> bool:
        """Whether anybody at all is left out."""
        return self.everybody or bool(self.gone)

    def is_gone(self, text: str) -> bool:
        """Whether that field names somebody who is left out."""
        if not _ID.fullmatch(text):
            return False
        return int(text) in self.gone or (self.everybody and text != "0")


def rules_for(name: str, plan: Plan) -> Rules | None:
    """The rules for a member, None where nothing in it can change."""
    if not name.endswith(".xml"):
        return None
    base = name.rpartition("/")[2]
    if name == "moodle_backup.xml":
        return ManifestRules(plan)
    if name == "users.xml":
        return UserRules(plan) if plan.changes or plan.gone or plan.anonymize else None
    if name == "files.xml":
        return FileRules(plan) if plan.leaves_out or plan.anonymize else None
    if base == "inforef.xml":
        return ReferenceRules(plan) if plan.leaves_out else None
    if plan.anonymize:
        return LogRules(plan) if base in nobody.LOGS else PersonalRules(name, plan)
    return RecordRules(name, plan) if plan.leaves_out else None


class RecordRules(Rules):
    """Records that name somebody left out go, with all inside them; shared ones stay under a nobody."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.capture: frozenset[str] | None = _OWNERS | {"courseid"}
        self.plan = plan
        found = _ACTIVITY.match(name)
        self.module = found[1] if found else ""
        self.shared = {tag for module, tag in _SHARED if module in ("", self.module)}

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """Every record waits until it is known whose it is."""
        if self.plan.leaves_out and "id" in element.attributes and len(path) > 0:
            return Verdict.HOLD
        return Verdict.PASS

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """An owner is told: the record of path[-1] stays or goes."""
        if name not in _OWNERS or not path[-1].held:
            return None
        if not self.plan.is_gone(text):
            return Verdict.PASS if text not in ("", NULL, "0") else None
        return self._of_one_gone(path[-1], int(text))

    def _of_one_gone(self, record: Element, user_id: int) -> Verdict:
        if record.name in _OF_THE_COURSE:
            # An activity's event without a course is one person's own deadline (calendar/lib.php).
            own = record.name == "event" and record.fields.get("courseid", "1") in ("0", "")
            return Verdict.DROP if own else Verdict.PASS
        if record.name in self.shared and not self.plan.everybody:
            if user_id not in self.plan.stand_ins:
                self.plan.stand_ins[user_id] = nobody.stand_in(self.plan.site_hash, user_id)
            return Verdict.PASS
        return Verdict.DROP

    def dropped(self, element: Element) -> None:
        """One record less."""
        self.plan.done["records"] += 1


class PersonalRules(RecordRules):
    """Fields that are personal wherever they stand are emptied; texts of people's own are counted."""

    change = frozenset(nobody.SCRUBBED)

    def __init__(self, name: str, plan: Plan) -> None:
        super().__init__(name, plan)
        self.capture = None
        self.where = self.module or name

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """Empties what is personal; remembers texts until it is known whose record they stand in."""
        record = path[-1]
        if (new := nobody.SCRUBBED.get(name)) is not None:
            if text in ("", NULL, new):
                return None
            self.plan.done["fields"] += 1
            return new
        if name in _OWNERS and text not in ("", NULL, "0"):
            record.fields["\0person"] = "1"
        elif name not in nobody.MOODLES_WORDS and text != NULL and _LETTER.search(text):
            note = record.note
            if not isinstance(note, list):
                record.note = note = []
            note.append(name)
        return super().leaf(path, name, text)

    def closed(self, path: list[Element], element: Element) -> None:
        """A record is over: were its texts somebody's?"""
        if isinstance(element.note, list) and any("\0person" in each.fields for each in (*path, element)):
            for name in element.note:
                self.plan.texts[self.where, f"{element.name}.{name}"] += 1


class LogRules(Rules):
    """Logs are emptied: every line of them is about a person, some with their address."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """Whatever has an id is a line."""
        return Verdict.DROP if path and "id" in element.attributes else Verdict.PASS

    def dropped(self, element: Element) -> None:
        """One line less."""
        self.plan.done["log lines"] += 1


class ReferenceRules(Rules):
    """inforef.xml: who is needed by an item; those left out are not."""

    capture = frozenset({"id"})

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """References to people wait for their id."""
        person = element.name == "user" and path and path[-1].name == "userref"
        return Verdict.HOLD if person else Verdict.PASS

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """The id is told."""
        if not path[-1].held:
            return None
        gone = self.plan.is_gone(text) and int(text) not in self.plan.stand_ins
        return Verdict.DROP if gone else Verdict.PASS


class UserRules(Rules):
    """users.xml: people are mapped, left out, or made nobody."""

    capture: frozenset[str] | None = None

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.change: frozenset[str] = _Everything()
        if not (plan.anonymize or plan.stand_ins):
            # Only what a map changes is looked at: a users.xml may have ten million fields.
            self.capture = self.change = frozenset(name for each in plan.changes.values() for name in each)
        self._changes: Mapping[str, str] = {}
        self._number = 0
        self._count = 0

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """Whose record begins: is it to go?"""
        if len(path) == 1 and element.name == "user":
            return self._begin(element.attributes.get("id", ""))
        # Profile fields, preferences, interests, and whatever a plugin keeps there.
        if self._number and len(path) == 3 and path[2].name != "roles":
            return Verdict.DROP
        return Verdict.PASS

    def _begin(self, text: str) -> Verdict:
        user_id = int(text) if _ID.fullmatch(text) else -1
        plan = self.plan
        self._changes, self._number = plan.changes.get(user_id, {}), 0
        if user_id in plan.gone and user_id not in plan.stand_ins:
            return Verdict.DROP
        self._count += 1
        if plan.anonymize:
            plan.done["anonymized"] += 1
            self._number = self._count
        elif user_id in plan.gone:
            self._number = plan.stand_ins[user_id]
        return Verdict.PASS if self._number or self._changes else Verdict.KEEP

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """One field of a person."""
        if len(path) != 2:
            return None
        if self._number:
            return nobody.anonymous(name, text, self._number)
        return self._changes.get(name)


class FileRules(Rules):
    """files.xml: records of people left out go, names of authors and of what was handed in become plain."""

    capture = frozenset(
        {
            *("contenthash", "component", "filearea", "filepath", "filename", "userid", "source", "author"),
            "filesize",
        }
    )
    change = frozenset({"filepath", "filename", "source", "author"})

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """A file waits until it is known where it lies and whose it is."""
        return Verdict.HOLD if len(path) == 1 and element.name == "file" else Verdict.PASS

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """One field of a file."""
        if len(path) != 2:
            return None
        record, plan = path[1], self.plan
        component, area = record.fields.get("component", ""), record.fields.get("filearea", "")
        if name == "filearea" and (plan.everybody or plan.anonymize):
            # Portraits, and files in people's own areas.
            if component == "user" or (plan.everybody and nobody.handed_in(component, area)):
                return Verdict.DROP
        elif name == "userid" and plan.is_gone(text) and (component, area) in nobody.SUBMITTED:
            return Verdict.DROP
        return self._plain(record, name, text) if plan.anonymize and text not in ("", NULL) else None

    def _plain(self, record: Element, name: str, text: str) -> str | None:
        where = record.fields.get("component", ""), record.fields.get("filearea", "")
        if name == "author":
            self.plan.done["authors"] += 1
            return ""
        if name == "source":
            return ""
        if where not in nobody.ATTACHED:
            return None
        if name == "filename" and text != ".":
            self.plan.done["filenames"] += 1
            return nobody.plain_filename(text, record.attributes.get("id", ""))
        if name == "filepath" and text != "/":
            return nobody.plain_folder(text, self.plan.salt)
        return None

    def closed(self, path: list[Element], element: Element) -> None:
        """The file stays; so does its content."""
        if element.name != "file" or element.fields.get("filename") == ".":
            return
        self.plan.kept_contents.add(_content(element))
        where = element.fields.get("component", ""), element.fields.get("filearea", "")
        self.plan.done["documents of people" if nobody.handed_in(*where) else "documents of the course"] += 1

    def dropped(self, element: Element) -> None:
        """The file goes; so does its content, where no other file has the same."""
        self.plan.done["files"] += 1
        self.plan.dropped_contents.add(_content(element))


class ManifestRules(Rules):
    """moodle_backup.xml: the settings that say what the file is now, and where it comes from."""

    capture = frozenset({"name", "value", "level", "original_wwwroot", "original_site_identifier_hash"})
    change = capture

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """One fact of the manifest."""
        plan, inside = self.plan, path[-1].name
        if inside == "information":
            if name == "name":
                return self.filename(text)
            if name == "original_wwwroot":
                return plan.new_url
            return plan.new_hash if name == "original_site_identifier_hash" else None
        if inside != "setting" or name != "value":
            return None
        setting = path[-1].fields.get("name", "")
        if setting == "filename":
            return self.filename(text)
        if plan.everybody:
            root = path[-1].fields.get("level") == "root"
            if (root and setting in _ROOT_USER_SETTINGS) or (not root and setting.endswith("_userinfo")):
                return "0"
        return "1" if plan.anonymize and setting == "anonymize" else None

    def filename(self, text: str) -> str | None:
        """The file's name with Moodle's own endings: -an anonymised, -nu no users."""
        ending = "-nu" if self.plan.everybody else "-an" if self.plan.anonymize else ""
        stem = text.removesuffix(".mbz")
        if not ending or stem.endswith(ending) or text == NULL:
            return None
        return f"{stem}{ending}.mbz"


class _Everything(frozenset[str]):
    """Every name is in it."""

    def __contains__(self, _: object) -> bool:
        return True


def _content(element: Element) -> bytes:
    text = element.fields.get("contenthash", "")
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{40}", text) else b""
