"""A quiz of the practice site: questions in its own bank, attempts and grades, in Moodle 5.1's backup schema.

As ``mod/quiz/backup/moodle2/backup_quiz_stepslib.php`` and ``backup_questions_structure_step`` of 5.1 write
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from moodlectl.site.practice.content import Cast, Where
from moodlectl.site.practice.schema import activity_doc
from moodlectl.site.practice.xmltree import node


@dataclass(frozen=True)
class Question:
    """One question: true or false where ``right`` is a bool, else one with a short answer."""

    name: str
    words: str
    right: bool | str


@dataclass(frozen=True)
class Banked:
    """A question that lies in the question bank, with the ids it has there."""

    question: Question
    entry: int
    id: int


def question_bank(
    where: Where, name: str, questions: Sequence[Question], cast: Cast
) -> tuple[list[Element], list[Banked]]:
    """The categories of an activity's own question bank, and where each question went."""
    top, default = cast.next_id("question_category"), cast.next_id("question_category")
    banked, entries = [], []
    for question in questions:
        entry, question_id = cast.next_id("question_bank_entry"), cast.next_id("question")
        banked.append(Banked(question, entry, question_id))
        versions = node(
            "question_versions", node("questions", _question(banked[-1], cast)),
            id_=cast.next_id("question_versions"), version=1, status="ready",
        )  # fmt: skip
        entries.append(
            node(
                "question_bank_entry", node("question_version", versions), id_=entry,
                questioncategoryid=default,
                idnumber=None, ownerid=cast.teacher,
            )
        )  # fmt: skip
    _, cmid, _, contextid = where
    shared = {"contextid": contextid, "contextlevel": 70, "contextinstanceid": cmid}
    return [
        node(
            "question_category", node("question_bank_entries"), id_=top, name="top", **shared, info="",
            infoformat=0,
            stamp=f"practice+{cast.when}+top{top}", parent=0, sortorder=0, idnumber=None,
        ),
        node(
            "question_category", node("question_bank_entries", *entries), id_=default,
            name=f"Default for {name}",
            **shared, info="", infoformat=0, stamp=f"practice+{cast.when}+default{default}", parent=top,
            sortorder=999, idnumber=None,
        ),
    ], banked  # fmt: skip


def _question(banked: Banked, cast: Cast) -> Element:
    question = banked.question
    if isinstance(question.right, bool):
        kind = "truefalse"
        yes, no = cast.next_id("question_answer"), cast.next_id("question_answer")
        plugin = node(
            "plugin_qtype_truefalse_question",
            node("answers", *(
                node("answer", id_=answer, answertext=word, answerformat=0,
                     fraction="1.0000000" if right == question.right else "0.0000000", feedback="",
                     feedbackformat=1)
                for answer, word, right in ((yes, "True", True), (no, "False", False))
            )),
            node("truefalse", id_=cast.next_id("qtype"), trueanswer=yes, falseanswer=no,
                 showstandardinstruction=1),
        )  # fmt: skip
    else:
        kind = "shortanswer"
        plugin = node(
            "plugin_qtype_shortanswer_question",
            node("answers", node(
                "answer", id_=cast.next_id("question_answer"), answertext=question.right, answerformat=0,
                fraction="1.0000000", feedback="", feedbackformat=1,
            )),
            node("shortanswer", id_=cast.next_id("qtype"), usecase=0),
        )  # fmt: skip
    return node(
        "question", plugin, node("question_hints"), node("tags"),
        id_=banked.id, parent=0, name=question.name, questiontext=f"<p>{question.words}</p>",
        questiontextformat=1,
        generalfeedback="", generalfeedbackformat=1, defaultmark="1.0000000", penalty="1.0000000", qtype=kind,
        length=1, stamp=f"practice+{cast.when}+q{banked.id}", timecreated=cast.when, timemodified=cast.when,
        createdby=cast.teacher, modifiedby=cast.teacher,
    )  # fmt: skip


def quiz(where: Where, name: str, banked: Sequence[Banked], attempts: Sequence[tuple[int, int]], cast: Cast) -> Element:
    """A quiz over those questions; ``attempts`` is who tried and how many of the answers were right."""
    instance, _, _, contextid = where
    slots = []
    for slot, question in enumerate(banked, 1):
        slot_id = cast.next_id("quiz_slot")
        reference = node(
            "question_reference", id_=slot_id, usingcontextid=contextid, component="mod_quiz",
            questionarea="slot",
            questionbankentryid=question.entry, version=None,
        )  # fmt: skip
        slots.append(
            node(
                "question_instance", reference, id_=slot_id, quizid=instance, slot=slot, page=slot,
                displaynumber=None, requireprevious=0, maxmark="1.0000000", quizgradeitemid=None,
            )
        )  # fmt: skip
    grades = [
        node(
            "grade", id_=cast.next_id("quiz_grade"), userid=user, timemodified=cast.when,
            gradeval=f"{right * 10 / len(banked):.5f}",
        )
        for user, right in attempts
    ]  # fmt: skip
    feedback = node(
        "feedback", id_=cast.next_id("quiz_feedback"), feedbacktext="<p>Thank you.</p>", feedbacktextformat=1,
        mingrade="0.00000", maxgrade="11.00000",
    )  # fmt: skip
    section = node("section", id_=cast.next_id("quiz_section"), firstslot=1, heading="", shufflequestions=0)
    return activity_doc(
        where,
        node("quiz_grade_items"), node("question_instances", *slots), node("sections", section),
        node("feedbacks", feedback), node("overrides"), node("grades", *grades),
        node("attempts", *(_attempt(user, right, banked, cast) for user, right in attempts)),
        name=name, intro="", introformat=1, timeopen=0, timeclose=0, timelimit=0,
        overduehandling="autosubmit",
        graceperiod=0, preferredbehaviour="deferredfeedback", canredoquestions=0, attempts_number=0,
        attemptonlast=0, grademethod=1, decimalpoints=2, questiondecimalpoints=-1, reviewattempt=69904,
        reviewcorrectness=69904, reviewmaxmarks=69904, reviewmarks=69904, reviewspecificfeedback=69904,
        reviewgeneralfeedback=69904, reviewrightanswer=69904, reviewoverallfeedback=4368, questionsperpage=1,
        navmethod="free", shuffleanswers=1, sumgrades=f"{len(banked)}.00000", grade="10.00000",
        timecreated=cast.when, timemodified=cast.when, password="", subnet="", browsersecurity="-", delay1=0,
        delay2=0, showuserpicture=0, showblocks=0, completionattemptsexhausted=0, completionminattempts=0,
        allowofflineattempts=0, precreateattempts=None,
    )  # fmt: skip


def _attempt(user: int, right: int, banked: Sequence[Banked], cast: Cast) -> Element:
    usage = cast.next_id("question_usage")
    tries = [_question_attempt(user, slot, each, slot <= right, cast) for slot, each in enumerate(banked, 1)]
    return node(
        "attempt",
        node("question_usage", node("question_attempts", *tries), id_=usage, component="mod_quiz",
             preferredbehaviour="deferredfeedback"),
        id_=cast.next_id("quiz_attempt"), userid=user, attemptnum=1, uniqueid=usage,
        layout=",".join(f"{slot},0" for slot in range(1, len(banked) + 1)), currentpage=0, preview=0,
        state="finished", timestart=cast.when, timefinish=cast.when + 300, timemodified=cast.when + 300,
        timemodifiedoffline=0, timecheckstate=None, sumgrades=f"{right}.00000",
        gradednotificationsenttime=cast.when + 300,
    )  # fmt: skip


def _question_attempt(user: int, slot: int, banked: Banked, correct: bool, cast: Cast) -> Element:
    question = banked.question
    if isinstance(question.right, bool):
        answer = str(int(question.right == correct))
        shown = {"1": "True", "0": "False"}
        rightanswer, given = shown[str(int(question.right))], shown[answer]
    else:
        answer = given = question.right if correct else "?"
        rightanswer = question.right
    states: list[tuple[str, str | None, dict[str, str]]] = [
        ("todo", None, {}),
        ("complete", None, {"answer": answer}),
    ]
    states.append(("gradedright" if correct else "gradedwrong", f"{int(correct)}.0000000", {"-finish": "1"}))
    steps = [
        node(
            "step",
            node("response", *(node("variable", name=name, value=value) for name, value in response.items())),
            id_=cast.next_id("question_step"), sequencenumber=order, state=state, fraction=fraction,
            timecreated=cast.when + order * 60, userid=user,
        )
        for order, (state, fraction, response) in enumerate(states)
    ]  # fmt: skip
    return node(
        "question_attempt", node("steps", *steps), id_=cast.next_id("question_attempt"), slot=slot,
        behaviour="deferredfeedback", questionid=banked.id, variant=1, maxmark="1.0000000",
        minfraction="0.0000000", maxfraction="1.0000000", flagged=0, questionsummary=question.words,
        rightanswer=rightanswer, responsesummary=given, timemodified=cast.when + 300,
    )  # fmt: skip
