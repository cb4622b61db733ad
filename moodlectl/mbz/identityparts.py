"""What activities hold, said once for backup files and databases: where each kind of record stands in both.

A part is written in five cells: ``module.kind``, the way to it, its key, its facts, and whether it belongs to people.
The way is a list of steps ``elements:table:column``: the elements below the one before in ``<module>.xml``
(``backup/moodle2/backup_*_stepslib.php`` of each module), and the table whose column points at the step before
(``db/install.xml``; Moodle 3.9 to 5.1). ``table1|table2`` is the first that a site has; ``column>other`` points at
another column than ``id``; ``!name=value`` leaves a record out unless the field is so.

Fields are ``name``, ``name=column`` where file and table differ, ``..name`` for the step before; and with a type:
``:user`` a user's id, ``:group`` a group's, ``:hash`` a text that is only compared, ``:ref(table,element,field)``
the id of another record of the activity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SOURCE = """
book.chapter | chapters/chapter:book_chapters:bookid | title | pagenum subchapter hidden content:hash | -
choice.option | options/option:choice_options:choiceid | text | maxanswers | -
choice.answer | answers/answer:choice_answers:choiceid | userid:user | optionid:ref(choice_options,option,text) | people
quiz.slot | question_instances/question_instance:quiz_slots:quizid | slot | page requireprevious maxmark | -
quiz.section | sections/section:quiz_sections:quizid | firstslot | heading shufflequestions | -
quiz.feedback | feedbacks/feedback:quiz_feedback:quizid | mingrade | maxgrade feedbacktext:hash | -
quiz.override | overrides/override:quiz_overrides:quiz | userid:user groupid:group | timeopen timeclose timelimit attempts | people
quiz.attempt | attempts/attempt:quiz_attempts:quiz!preview=0 | userid:user attemptnum=attempt | state sumgrades | people
quiz.answer | attempts/attempt:quiz_attempts:quiz!preview=0 question_usage/question_attempts/question_attempt:question_attempts:questionusageid>uniqueid | ..userid:user ..attemptnum=attempt slot | maxmark responsesummary:hash | people
quiz.result | grades/grade:quiz_grades:quiz | userid:user | gradeval=grade | people
lesson.page | pages/page:lesson_pages:lessonid | title | qtype contents:hash | -
lesson.answer | pages/page:lesson_pages:lessonid answers/answer:lesson_answers:pageid | ..title answer_text=answer | score grade response:hash | -
lesson.attempt | pages/page:lesson_pages:lessonid answers/answer:lesson_answers:pageid attempts/attempt:lesson_attempts:answerid | userid:user retry | correct useranswer:hash | people
lesson.result | grades/grade:lesson_grades:lessonid | userid:user | grade_val=grade | people
lesson.override | overrides/override:lesson_overrides:lessonid | userid:user groupid:group | available deadline timelimit maxattempts | people
data.field | fields/field:data_fields:dataid | name | type required description:hash | -
data.entry | records/record:data_records:dataid | userid:user | approved | people
data.content | records/record:data_records:dataid contents/content:data_content:recordid | ..userid:user fieldid:ref(data_fields,field,name) | content:hash | people
data.rating | records/record:data_records:dataid ratings/rating:rating:itemid!component=mod_data | userid:user | value=rating | people
glossary.category | categories/category:glossary_categories:glossaryid | name | - | -
glossary.entry | entries/entry:glossary_entries:glossaryid | concept | userid:user approved definition:hash | people
glossary.rating | entries/entry:glossary_entries:glossaryid ratings/rating:rating:itemid!component=mod_glossary | ..concept userid:user | value=rating | people
wiki.page | subwikis/subwiki:wiki_subwikis:wikiid pages/page:wiki_pages:subwikiid | title | userid:user | people
wiki.version | subwikis/subwiki:wiki_subwikis:wikiid pages/page:wiki_pages:subwikiid versions/version:wiki_versions:pageid | ..title version | userid:user content:hash | people
feedback.item | items/item:feedback_item:feedback | name typ | position required presentation:hash | -
feedback.response | completeds/completed:feedback_completed:feedback | userid:user | anonymous_response | people
feedback.value | completeds/completed:feedback_completed:feedback values/value:feedback_value:completed | ..userid:user item:ref(feedback_item,item,name) | value:hash | people
forum.discussion | discussions/discussion:forum_discussions:forum | name userid:user | groupid:group pinned | people
forum.post | discussions/discussion:forum_discussions:forum posts/post:forum_posts:discussion | ..name subject userid:user | message:hash | people
forum.rating | discussions/discussion:forum_discussions:forum posts/post:forum_posts:discussion ratings/rating:rating:itemid!component=mod_forum | ..subject userid:user | value=rating | people
forum.subscription | subscriptions/subscription:forum_subscriptions:forum | userid:user | - | people
assign.submission | submissions/submission:assign_submission:assignment | userid:user groupid:group attemptnumber | status | people
assign.text | submissions/submission:assign_submission:assignment subplugin_assignsubmission_onlinetext_submission/submission_onlinetext:assignsubmission_onlinetext:submission | ..userid:user ..attemptnumber | onlinetext:hash | people
assign.grading | grades/grade:assign_grades:assignment | userid:user attemptnumber | grade | people
assign.comment | grades/grade:assign_grades:assignment subplugin_assignfeedback_comments_grade/feedback_comments:assignfeedback_comments:grade | ..userid:user ..attemptnumber | commenttext:hash | people
assign.flag | userflags/userflag:assign_user_flags:assignment | userid:user | locked extensionduedate workflowstate | people
assign.override | overrides/override:assign_overrides:assignid | userid:user groupid:group | allowsubmissionsfromdate duedate cutoffdate | people
workshop.submission | submissions/submission:workshop_submissions:workshopid!example=0 | title authorid:user | grade content:hash | people
workshop.assessment | submissions/submission:workshop_submissions:workshopid!example=0 assessments/assessment:workshop_assessments:submissionid | ..title reviewerid:user | grade feedbackauthor:hash | people
workshop.aggregation | aggregations/aggregation:workshop_aggregations:workshopid | userid:user | gradinggrade | people
scorm.item | scoes/sco:scorm_scoes:scorm | identifier title | scormtype | -
scorm.track | scoes/sco:scorm_scoes:scorm sco_tracks/sco_track:scorm_scoes_value|scorm_scoes_track:scoid | ..identifier | - | people
survey.answer | answers/answer:survey_answers:survey | userid:user question | answer1:hash answer2:hash | people
chat.message | messages/message:chat_messages:chatid | userid:user | message_text=message:hash | people
lti.submission | ltisubmissions/ltisubmission:lti_submission:ltiid | userid:user | originalgrade gradepercent | people
h5pactivity.attempt | attempts/attempt:h5pactivity_attempts:h5pactivityid | userid:user attempt | rawscore maxscore completion success | people
h5pactivity.result | attempts/attempt:h5pactivity_attempts:h5pactivityid results/result:h5pactivity_attempts_results:attemptid | ..userid:user ..attempt description:hash | rawscore maxscore response:hash | people
"""  # noqa: E501 - a table reads across


@dataclass(frozen=True)
class Step:
    """One step: ``elements`` in the file, ``tables`` (the first there is) whose ``column`` points at ``to``."""

    elements: tuple[str, ...]
    tables: tuple[str, ...]
    column: str
    to: str = "id"
    only: tuple[str, str] | None = None


@dataclass(frozen=True)
class Field:
    """One field: ``name`` in the file, ``column`` in the table, ``up`` steps above the record."""

    name: str
    column: str
    kind: str = "plain"
    up: int = 0
    ref: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Part:
    """One kind of record that activities of a module hold."""

    module: str
    kind: str
    steps: tuple[Step, ...]
    key: tuple[Field, ...]
    facts: tuple[Field, ...]
    personal: bool

    def path(self) -> tuple[str, ...]:
        """The elements from ``<activity>`` to the record."""
        return ("activity", self.module, *(element for step in self.steps for element in step.elements))

    def as_question(self) -> dict[str, Any]:
        """The part as the host's PHP reads it."""
        return {
            "module": self.module,
            "kind": f"{self.module}_{self.kind}",
            "personal": self.personal,
            "steps": [
                {"tables": step.tables, "column": step.column, "to": step.to, "only": step.only} for step in self.steps
            ],
            "key": [_field_as_question(one) for one in self.key],
            "facts": [_field_as_question(one) for one in self.facts],
        }


def _field_as_question(one: Field) -> dict[str, Any]:
    return {
        "name": one.name,
        "column": one.column,
        "kind": one.kind,
        "up": one.up,
        "ref": {"table": one.ref[0], "field": one.ref[2]} if one.ref else None,
    }


def _step(word: str) -> Step:
    elements, tables, column = word.split(":")
    column, _, only = column.partition("!")
    column, _, to = column.partition(">")
    name, _, value = only.partition("=")
    return Step(
        tuple(elements.split("/")), tuple(tables.split("|")), column, to or "id", (name, value) if name else None
    )


_FIELD = re.compile(r"(?P<up>\.\.)?(?P<name>\w+)(?:=(?P<column>\w+))?(?::(?P<kind>\w+)(?:\((?P<ref>[\w,]+)\))?)?")


def _field(word: str) -> Field:
    match = _FIELD.fullmatch(word)
    assert match is not None, word
    table, element, field = match["ref"].split(",") if match["ref"] else ("", "", "")
    return Field(
        name=match["name"],
        column=match["column"] or match["name"],
        kind=match["kind"] or "plain",
        up=1 if match["up"] else 0,
        ref=(table, element, field) if table else None,
    )


def _part(line: str) -> Part:
    # A step's alternative tables are parted by a bar without blanks, the cells by one with blanks; "-" is nothing.
    name, way, key, facts, whose = (cell.replace("-", "") for cell in line.split(" | "))
    module, _, kind = name.partition(".")
    return Part(
        module=module,
        kind=kind,
        steps=tuple(_step(word) for word in way.split()),
        key=tuple(_field(word) for word in key.split()),
        facts=tuple(_field(word) for word in facts.split()),
        personal=whose == "people",
    )


PARTS: tuple[Part, ...] = tuple(_part(line) for line in _SOURCE.strip().splitlines())
"""Every part of core's activities, Moodle 3.9 to 5.1."""


def of_module() -> Mapping[str, tuple[Part, ...]]:
    """The parts by module."""
    found: dict[str, list[Part]] = {}
    for part in PARTS:
        found.setdefault(part.module, []).append(part)
    return {module: tuple(parts) for module, parts in found.items()}
