"""The documents of Moodle 5.1's backup schema that every course and activity needs, with Moodle's own'
' defaults.

Field by field as in the ``define_structure`` methods of ``backup/moodle2/backup_stepslib.php`` in 5.1.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from moodlectl.site.practice.plugins import BACKUP_VERSION
from moodlectl.site.practice.xmltree import Value, node

_NOT_SAID: dict[str, Value] = dict.fromkeys(
    [f"customint{n}" for n in range(1, 9)]
    + [f"customchar{n}" for n in range(1, 4)]
    + [f"customdec{n}" for n in range(1, 3)]
    + [f"customtext{n}" for n in range(1, 5)]
)


def with_defaults(tag: str, defaults: dict[str, Value], given: dict[str, Value], *children: Element) -> Element:
    """An element whose fields are the defaults with what was given laid over them; ``id`` becomes the attribute."""
    fields = {**defaults, **{name: value for name, value in given.items() if name != "id"}}
    found = given.get("id")
    return node(tag, *children, id_=None if found is None else int(found), **fields)


def course_doc(course_id: int, contextid: int, category: tuple[int, str], **given: Value) -> Element:
    """course/course.xml."""
    defaults: dict[str, Value] = {
        "shortname": "", "fullname": "", "idnumber": "", "summary": "", "summaryformat": 1,
        "format": "topics",
        "showgrades": 1, "newsitems": 5, "startdate": 0, "enddate": 0, "marker": 0, "maxbytes": 0,
        "legacyfiles": 0,
        "showreports": 0, "visible": 1, "groupmode": 0, "groupmodeforce": 0, "defaultgroupingid": 0,
        "lang": "",
        "theme": "", "timecreated": 0, "timemodified": 0, "requested": 0, "showactivitydates": 1,
        "showcompletionconditions": 1, "pdfexportfont": None, "enablecompletion": 1, "completionnotify": 0,
        "enableaitools": None,
    }  # fmt: skip
    options = [
        node("courseformatoption", format="topics", sectionid=0, name=name, value=0)
        for name in ("hiddensections", "coursedisplay")
    ]
    element = with_defaults(
        "course", defaults, given,
        node("category", id_=category[0], name=category[1], description=None),
        node("tags"), node("customfields"), node("courseformatoptions", *options),
    )  # fmt: skip
    element.set("id", str(course_id))
    element.set("contextid", str(contextid))
    return element


def section_doc(section_id: int, number: int, name: str | None, **given: Value) -> Element:
    """section.xml; its sequence is filled in when the course is saved."""
    defaults: dict[str, Value] = {
        "number": number, "name": name, "summary": "", "summaryformat": 1, "sequence": "", "visible": 1,
        "availabilityjson": None, "component": None, "itemid": None, "timemodified": 0,
    }  # fmt: skip
    return with_defaults("section", defaults, {**given, "id": section_id})


def module_doc(cmid: int, module: str, section: tuple[int, int], **given: Value) -> Element:
    """module.xml; ``section`` is the section's id and number."""
    defaults: dict[str, Value] = {
        "modulename": module, "sectionid": section[0], "sectionnumber": section[1], "idnumber": "",
        "added": 0,
        "score": 0, "indent": 0, "visible": 1, "visibleoncoursepage": 1, "visibleold": 1, "groupmode": 0,
        "groupingid": 0, "completion": 0, "completiongradeitemnumber": None, "completionpassgrade": 0,
        "completionview": 0, "completionexpected": 0, "availability": None, "showdescription": 0,
        "downloadcontent": 1, "lang": None, "enableaitools": None, "enabledaiactions": None,
    }  # fmt: skip
    element = with_defaults("module", defaults, {**given, "id": cmid}, node("tags"))
    element.set("version", str(BACKUP_VERSION))
    return element


def activity_doc(where: tuple[int, int, str, int], /, *children: Element, **fields: Value) -> Element:
    """An activity's own document; ``where`` is its instance id, course module id, module name and context id."""
    instance, cmid, module, contextid = where
    root = node("activity", node(module, *children, id_=instance, **fields), id_=instance)
    root.set("moduleid", str(cmid))
    root.set("modulename", module)
    root.set("contextid", str(contextid))
    return root


def grade_item(item_id: int, *grades: Element, **given: Value) -> Element:
    """One item of the gradebook with its grades."""
    defaults: dict[str, Value] = {
        "categoryid": None, "itemname": None, "itemtype": "mod", "itemmodule": None, "iteminstance": None,
        "itemnumber": None, "iteminfo": None, "idnumber": None, "calculation": None, "gradetype": 1,
        "grademax": "100.00000", "grademin": "0.00000", "scaleid": None, "outcomeid": None,
        "gradepass": "0.00000",
        "multfactor": "1.00000", "plusfactor": "0.00000", "aggregationcoef": "0.00000",
        "aggregationcoef2": "0.00000", "weightoverride": 0, "sortorder": 1, "display": 0, "decimals": None,
        "hidden": 0, "locked": 0, "locktime": 0, "needsupdate": 0, "timecreated": 0, "timemodified": 0,
    }  # fmt: skip
    return with_defaults("grade_item", defaults, {**given, "id": item_id}, node("grade_grades", *grades))


def grade(grade_id: int, user: int, value: float | None, most: int, **given: Value) -> Element:
    """One person's grade."""
    shown = None if value is None else f"{value:.5f}"
    defaults: dict[str, Value] = {
        "userid": user, "rawgrade": shown, "rawgrademax": f"{most}.00000", "rawgrademin": "0.00000",
        "rawscaleid": None, "usermodified": None, "finalgrade": shown, "hidden": 0, "locked": 0,
        "locktime": 0,
        "exported": 0, "overridden": 0, "excluded": 0, "feedback": None, "feedbackformat": 0,
        "information": None,
        "informationformat": 0, "timecreated": None, "timemodified": None, "aggregationstatus": "used",
        "aggregationweight": None,
    }  # fmt: skip
    return with_defaults("grade_grade", defaults, {**given, "id": grade_id})


def grade_change(change_id: int, item: int, user: int, value: float, **given: Value) -> Element:
    """One line of the grade history."""
    defaults: dict[str, Value] = {
        "action": 1, "oldid": 0, "source": "mod/assign", "loggeduser": None, "itemid": item, "userid": user,
        "rawgrade": f"{value:.5f}", "rawgrademax": "100.00000", "rawgrademin": "0.00000", "rawscaleid": None,
        "usermodified": None, "finalgrade": f"{value:.5f}", "hidden": 0, "locked": 0, "locktime": 0,
        "exported": 0,
        "overridden": 0, "excluded": 0, "feedback": None, "feedbackformat": 0, "information": None,
        "informationformat": 0, "timemodified": 0,
    }  # fmt: skip
    return with_defaults("grade_grade", defaults, {**given, "id": change_id})


def grade_category(category_id: int) -> Element:
    """The one category of a bare gradebook: the course's own, with natural aggregation."""
    return node(
        "grade_category", id_=category_id, parent=None, depth=1, path=f"/{category_id}/", fullname="?",
        aggregation=13, keephigh=0, droplow=0, aggregateonlygraded=1, aggregateoutcomes=0, timecreated=0,
        timemodified=0, hidden=0,
    )  # fmt: skip


def gradebook_doc(categories: list[Element], items: list[Element]) -> Element:
    """gradebook.xml."""
    return node(
        "gradebook",
        node("attributes"), node("grade_categories", *categories), node("grade_items", *items),
        node("grade_letters"),
        node("grade_settings", node("grade_setting", id_=0, name="minmaxtouse", value=1)),
    )  # fmt: skip


def enrol_method(enrol_id: int, method: str, *people: Element, **given: Value) -> Element:
    """One enrolment method of a course with the people it enrols."""
    defaults: dict[str, Value] = {
        "enrol": method, "status": 0, "name": None, "enrolperiod": 0, "enrolstartdate": 0, "enrolenddate": 0,
        "expirynotify": 0, "expirythreshold": 86400, "notifyall": 0, "password": None, "cost": None,
        "currency": None, "roleid": 5, **_NOT_SAID, "timecreated": 0, "timemodified": 0,
    }  # fmt: skip
    return with_defaults("enrol", defaults, {**given, "id": enrol_id}, node("user_enrolments", *people))


def enrolment(enrolment_id: int, user: int, start: int) -> Element:
    """One person's enrolment."""
    return node(
        "enrolment",
        id_=enrolment_id,
        status=0,
        userid=user,
        timestart=start,
        timeend=0,
        modifierid=2,
        timemodified=start,
    )


def role_assignment(assignment_id: int, user: int, role: int, when: int) -> Element:
    """One person's role in a context."""
    return node(
        "assignment", id_=assignment_id, roleid=role, userid=user, timemodified=when, modifierid=2,
        component="",
        itemid=0, sortorder=0,
    )  # fmt: skip


def roles_doc(*assignments: Element) -> Element:
    """roles.xml of a context."""
    return node("roles", node("role_overrides"), node("role_assignments", *assignments))


def role_definition(role_id: int, shortname: str) -> Element:
    """One role as roles.xml at the top describes it."""
    return node(
        "role", id_=role_id, name="", shortname=shortname, nameincourse=None, description="",
        sortorder=role_id,
        archetype=shortname,
    )  # fmt: skip


ROLES = {1: "manager", 3: "editingteacher", 4: "teacher", 5: "student"}


def user_doc(user_id: int, contextid: int, **given: Value) -> Element:
    """One person of users.xml."""
    defaults: dict[str, Value] = {
        "username": "", "idnumber": "", "email": "", "phone1": "", "phone2": "", "institution": "",
        "department": "",
        "address": "", "city": "", "country": "", "lastip": "", "picture": 0, "description": None,
        "descriptionformat": 1, "imagealt": None, "auth": "manual", "firstnamephonetic": "",
        "lastnamephonetic": "",
        "middlename": "", "alternatename": "", "firstname": "", "lastname": "", "confirmed": 1,
        "policyagreed": 0,
        "deleted": 0, "lang": "en", "theme": "", "timezone": "99", "firstaccess": 0, "lastaccess": 0,
        "lastlogin": 0, "currentlogin": 0, "mailformat": 1, "maildigest": 0, "maildisplay": 2,
        "autosubscribe": 1,
        "trackforums": 0, "timecreated": 0, "timemodified": 0, "trustbitmask": 0,
    }  # fmt: skip
    element = with_defaults(
        "user", defaults, {**given, "id": user_id},
        node("custom_fields"), node("tags"), node("preferences"), roles_doc(),
    )  # fmt: skip
    element.set("contextid", str(contextid))
    return element


def file_doc(file_id: int, **given: Value) -> Element:
    """One file of files.xml."""
    defaults: dict[str, Value] = {
        "contenthash": "", "contextid": 0, "component": "", "filearea": "", "itemid": 0, "filepath": "/",
        "filename": "", "userid": None, "filesize": 0, "mimetype": None, "status": 0, "timecreated": 0,
        "timemodified": 0, "source": None, "author": None, "license": None, "sortorder": 0,
        "repositorytype": None,
        "repositoryid": None, "reference": None,
    }  # fmt: skip
    return with_defaults("file", defaults, {**given, "id": file_id})


def block_docs(block_id: int, contexts: tuple[int, int], name: str, when: int) -> dict[str, Element]:
    """The documents of one block; ``contexts`` are its own and its parent's."""
    block = node(
        "block", node("block_positions"), id_=block_id, blockname=name, parentcontextid=contexts[1],
        showinsubcontexts=0, pagetypepattern="course-view-*", subpagepattern=None, defaultregion="side-pre",
        defaultweight=1, configdata=None, timecreated=when, timemodified=when,
    )  # fmt: skip
    block.set("contextid", str(contexts[0]))
    block.set("version", str(BACKUP_VERSION))
    folder = f"blocks/{name}_{block_id}"
    return {
        f"{folder}/block.xml": block,
        f"{folder}/roles.xml": roles_doc(),
        f"{folder}/comments.xml": node("comments"),
    }
