"""What the practice site has installed, and where modules keep what belongs to their users.

The lists are those of a standard Moodle 5.1 (``lib/plugins.json`` and the backup steps of each module).
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from moodlectl.site.practice.xmltree import drop, text

RELEASE = "5.1+ (Build: 20251017)"
VERSION = "2025100600.02"
BACKUP_RELEASE = "5.1"
BACKUP_VERSION = 2025100600

MODULES = frozenset(
    [
        "assign",
        "bigbluebuttonbn",
        "book",
        "choice",
        "data",
        "feedback",
        "folder",
        "forum",
        "glossary",
        "h5pactivity",
        "imscp",
        "label",
        "lesson",
        "lti",
        "page",
        "qbank",
        "quiz",
        "resource",
        "scorm",
        "subsection",
        "url",
        "wiki",
        "workshop",
    ]
)
FORMATS = frozenset({"singleactivity", "social", "topics", "weeks"})
QUESTION_TYPES = frozenset(
    [
        "calculated",
        "calculatedmulti",
        "calculatedsimple",
        "ddimageortext",
        "ddmarker",
        "ddwtos",
        "description",
        "essay",
        "gapselect",
        "match",
        "missingtype",
        "multianswer",
        "multichoice",
        "numerical",
        "ordering",
        "random",
        "randomsamatch",
        "shortanswer",
        "truefalse",
    ]
)

# Emptied in an activity's own document when it is backed up or restored without user data.
_USER_ELEMENTS: dict[str, tuple[str, ...]] = {
    "assign": ("userflags", "submissions", "grades"),
    "bigbluebuttonbn": ("logs",),
    "choice": ("answers",),
    "data": ("records", "ratings"),
    "feedback": ("completeds",),
    "forum": ("discussions", "subscriptions", "digests", "readposts", "trackedprefs", "poststags", "grades"),
    "glossary": ("entries", "entriestags", "category_entries"),
    "h5pactivity": ("attempts",),
    "lesson": ("attempts", "grades", "branches", "timers"),
    "lti": ("ltisubmissions",),
    "quiz": ("grades", "attempts"),
    "scorm": ("sco_tracks", "attempts"),
    "wiki": ("subwikis",),
    "workshop": ("submissions", "assessments", "aggregations"),
}
_USER_DOCUMENTS = (
    "completion.xml",
    "comments.xml",
    "xapistate.xml",
    "logs.xml",
    "logstores.xml",
    "grade_history.xml",
)
_USER_AREAS = frozenset(
    {
        ("mod_forum", "post"),
        ("mod_forum", "attachment"),
        ("mod_glossary", "entry"),
        ("mod_glossary", "attachment"),
        ("mod_data", "content"),
        ("mod_wiki", "attachments"),
        ("mod_feedback", "item_file"),
        ("mod_lesson", "essay_responses"),
        ("mod_lesson", "essay_answers"),
        ("mod_workshop", "submission_content"),
        ("mod_workshop", "submission_attachment"),
        ("mod_workshop", "overallfeedback_content"),
        ("mod_workshop", "overallfeedback_attachment"),
        ("question", "response_attachments"),
        ("question", "response_answer"),
    }
)
_USER_COMPONENTS = ("assignsubmission_", "assignfeedback_", "grading")


def strip_user_data(module: str, docs: dict[str, Element]) -> None:
    """Take what belongs to users out of an activity's documents, as Moodle does without ``userinfo``."""
    if (own := docs.get(f"{module}.xml")) is not None:
        drop(own, *_USER_ELEMENTS.get(module, ()))
        for overrides in own.iter("overrides"):
            for override in [each for each in overrides if text(each, "userid")]:
                overrides.remove(override)
    for name in _USER_DOCUMENTS:
        docs.pop(name, None)
    if (grades := docs.get("grades.xml")) is not None:
        drop(grades, "grade_grades")
    if (roles := docs.get("roles.xml")) is not None:
        drop(roles, "role_assignments")


def is_user_file(file: Element) -> bool:
    """Whether a file lies in an area that holds users' work."""
    component = text(file, "component")
    return component.startswith(_USER_COMPONENTS) or (component, text(file, "filearea")) in _USER_AREAS
