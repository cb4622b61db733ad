"""The activities of the practice courses, as documents of Moodle 5.1's backup schema.

Field by field as in ``mod/*/backup/moodle2/backup_*_stepslib.php`` of 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from moodlectl.site.practice.schema import activity_doc
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import Value, node

Where = tuple[int, int, str, int]  # instance id, course module id, module name, context id


@dataclass(frozen=True)
class Cast:
    """Who takes part, by user id, when it happened (seconds since 1970), and where ids come from."""

    store: Store
    teacher: int
    students: Sequence[int]
    when: int

    def next_id(self, kind: str) -> int:
        """A fresh id."""
        return self.store.allocate(kind)


def simple(where: Where, name: str, intro: str, **fields: Value) -> Element:
    """An activity that consists of fields alone: page, url, folder, resource, label, subsection, …"""
    return activity_doc(where, name=name, intro=intro, introformat=1, **fields)


def page(where: Where, name: str, content: str, when: int) -> Element:
    """A page."""
    return simple(
        where, name, "", content=content, contentformat=1, legacyfiles=0, legacyfileslast=None, display=5,
        displayoptions='a:1:{s:10:"printintro";i:0;}', revision=1, timemodified=when,
    )  # fmt: skip


def url(where: Where, name: str, address: str, when: int) -> Element:
    """A link."""
    return simple(
        where, name, "", externalurl=address, display=0, displayoptions='a:1:{s:10:"printintro";i:0;}',
        parameters="a:0:{}", timemodified=when,
    )  # fmt: skip


def folder(where: Where, name: str, when: int) -> Element:
    """A folder of files."""
    return simple(
        where,
        name,
        "",
        revision=1,
        timemodified=when,
        display=0,
        showexpanded=1,
        showdownloadfolder=1,
        forcedownload=1,
    )


def resource(where: Where, name: str, when: int) -> Element:
    """One file."""
    return simple(
        where, name, "", tobemigrated=0, legacyfiles=0, legacyfileslast=None, display=0,
        displayoptions='a:1:{s:10:"printintro";i:0;}', filterfiles=0, revision=1, timemodified=when,
    )  # fmt: skip


def glossary(where: Where, name: str, terms: Sequence[tuple[str, str]], cast: Cast) -> Element:
    """A glossary, its entries by the students in turn."""
    entries = [
        node(
            "entry", node("aliases"), node("ratings"),
            id_=cast.next_id("glossary_entry"), userid=cast.students[place % len(cast.students)],
            concept=concept,
            definition=f"<p>{definition}</p>", definitionformat=1, definitiontrust=0, attachment="",
            timecreated=cast.when, timemodified=cast.when, teacherentry=0, sourceglossaryid=0, usedynalink=1,
            casesensitive=0, fullmatch=0, approved=1,
        )
        for place, (concept, definition) in enumerate(terms)
    ]  # fmt: skip
    return activity_doc(
        where, node("entries", *entries), node("entriestags"), node("categories"),
        name=name, intro="<p>Words of this course.</p>", introformat=1, allowduplicatedentries=0,
        displayformat="dictionary", mainglossary=0, showspecial=1, showalphabet=1, showall=1, allowcomments=0,
        allowprintview=1, usedynalink=1, defaultapproval=1, globalglossary=0, entbypage=10, editalways=0,
        rsstype=0,
        rssarticles=0, assessed=0, assesstimestart=0, assesstimefinish=0, scale=0, timecreated=cast.when,
        timemodified=cast.when, completionentries=0,
    )  # fmt: skip


def choice(where: Where, name: str, options: Sequence[str], cast: Cast) -> Element:
    """A choice that most students have made."""
    ids = [cast.next_id("choice_option") for _ in options]
    answers = [
        node(
            "answer", id_=cast.next_id("choice_answer"), userid=user, optionid=ids[place % len(ids)],
            timemodified=cast.when,
        )
        for place, user in enumerate(cast.students[:-2])
    ]  # fmt: skip
    return activity_doc(
        where,
        node("options", *(
            node("option", id_=option, text=words, maxanswers=0, timemodified=cast.when)
            for option, words in zip(ids, options, strict=True)
        )),
        node("answers", *answers),
        name=name, intro="", introformat=1, publish=0, showresults=1, display=0, allowupdate=1,
        allowmultiple=0,
        showunanswered=0, limitanswers=0, timeopen=0, timeclose=0, timemodified=cast.when, completionsubmit=0,
        showpreview=0, includeinactive=1, showavailable=0,
    )  # fmt: skip


def _post(cast: Cast, user: int, parent: int, words: tuple[str, str], attachment: bool) -> Element:
    return node(
        "post", node("ratings"), id_=cast.next_id("forum_post"), parent=parent, userid=user,
        created=cast.when,
        modified=cast.when, mailed=1, subject=words[0], message=f"<p>{words[1]}</p>", messageformat=1,
        messagetrust=0, attachment=1 if attachment else "", totalscore=0, mailnow=0, privatereplyto=0,
    )  # fmt: skip


def forum(
    where: Where, name: str, threads: Sequence[tuple[str, Sequence[str]]], cast: Cast, kind: str = "general"
) -> tuple[Element, int | None]:
    """A forum with discussions; each thread is a subject and its posts. Returns the first reply's id too."""
    discussions, attached = [], None
    for place, (subject, messages) in enumerate(threads):
        author = cast.teacher if place == 0 else cast.students[place % len(cast.students)]
        posts: list[Element] = []
        for turn, message in enumerate(messages):
            user = author if turn == 0 else cast.students[(place + turn) % len(cast.students)]
            with_file = turn == 1 and attached is None
            parent = int(posts[0].get("id", "0")) if posts else 0
            post = _post(cast, user, parent, (subject if turn == 0 else f"Re: {subject}", message), with_file)
            posts.append(post)
            if with_file:
                attached = int(post.get("id", "0"))
        discussions.append(
            node(
                "discussion", node("posts", *posts), node("discussion_subs"),
                id_=cast.next_id("forum_discussion"), name=subject, firstpost=posts[0].get("id"),
                userid=author,
                groupid=-1, assessed=0, timemodified=cast.when, usermodified=author, timestart=0, timeend=0,
                pinned=0, timelocked=0,
            )
        )  # fmt: skip
    doc = activity_doc(
        where,
        node("discussions", *discussions), node("subscriptions"), node("digests"), node("readposts"),
        node("trackedprefs"), node("poststags"), node("grades"),
        type=kind, name=name, intro="", introformat=1, duedate=0, cutoffdate=0, assessed=0, assesstimestart=0,
        assesstimefinish=0, scale=0, maxbytes=0, maxattachments=3, forcesubscribe=0, trackingtype=1,
        rsstype=0,
        rssarticles=0, timemodified=cast.when, warnafter=0, blockafter=0, blockperiod=0,
        completiondiscussions=0,
        completionreplies=0, completionposts=0, displaywordcount=0, lockdiscussionafter=0, grade_forum=0,
    )  # fmt: skip
    return doc, attached


def assign(where: Where, name: str, due: int, work: Sequence[tuple[int, float | None]], cast: Cast) -> Element:
    """An assignment; ``work`` is who has handed in and the grade given, if any."""
    submissions, grades = [], []
    for user, value in work:
        submission = cast.next_id("assign_submission")
        submissions.append(
            node(
                "submission",
                node(
                    "subplugin_assignsubmission_file_submission",
                    node("submission_file", numfiles=1, submission=submission),
                ),
                node(
                    "subplugin_assignsubmission_onlinetext_submission",
                    node(
                        "submission_onlinetext", onlinetext="<p>Mon arbre est un hêtre.</p>", onlineformat=1,
                        submission=submission,
                    ),
                ),
                id_=submission, userid=user, timecreated=cast.when, timemodified=cast.when, timestarted=None,
                status="submitted", groupid=0, attemptnumber=0, latest=1,
            )
        )  # fmt: skip
        if value is not None:
            grade = cast.next_id("assign_grade")
            grades.append(
                node(
                    "grade",
                    node(
                        "subplugin_assignfeedback_comments_grade",
                        node("feedback_comments", commenttext="<p>Well observed.</p>", commentformat=1,
                             grade=grade),
                    ),
                    id_=grade, userid=user, timecreated=cast.when, timemodified=cast.when,
                    grader=cast.teacher,
                    grade=f"{value:.5f}", penalty="0.00000", attemptnumber=0,
                )
            )  # fmt: skip
    plugins = [
        ("onlinetext", "assignsubmission"),
        ("file", "assignsubmission"),
        ("comments", "assignfeedback"),
    ]
    configs = [
        node(
            "plugin_config",
            id_=cast.next_id("assign_config"),
            plugin=plugin,
            subtype=kind,
            name="enabled",
            value=1,
        )
        for plugin, kind in plugins
    ]
    configs.append(
        node(
            "plugin_config", id_=cast.next_id("assign_config"), plugin="file", subtype="assignsubmission",
            name="maxfilesubmissions", value=3,
        )
    )  # fmt: skip
    return activity_doc(
        where,
        node("userflags"), node("submissions", *submissions), node("grades", *grades),
        node("plugin_configs", *configs), node("overrides"),
        name=name, intro="<p>Describe one tree.</p>", introformat=1, alwaysshowdescription=1,
        submissiondrafts=0,
        sendnotifications=0, sendlatenotifications=0, sendstudentnotifications=1, duedate=due, cutoffdate=0,
        gradingduedate=0, allowsubmissionsfromdate=0, grade=100, timemodified=cast.when, completionsubmit=1,
        requiresubmissionstatement=0, teamsubmission=0, requireallteammemberssubmit=0,
        teamsubmissiongroupingid=0,
        blindmarking=0, hidegrader=0, revealidentities=0, attemptreopenmethod="untilpass", maxattempts=1,
        markingworkflow=0, markingallocation=0, markinganonymous=0, preventsubmissionnotingroup=0,
        activity=None,
        activityformat=0, timelimit=0, submissionattachments=0, gradepenalty=0,
    )  # fmt: skip
