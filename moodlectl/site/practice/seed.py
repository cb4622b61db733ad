"""What a fresh practice site holds: categories, people and a handful of courses.

RICH101 has some of everything, EMPTY1 nothing,
HIDDEN1 (idnumber X9) is hidden; the others make lists believable.
"""

from __future__ import annotations

import hashlib
import random
import struct
import uuid
import zlib
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from moodlectl.site.practice import content, quizzes
from moodlectl.site.practice.package import ActivityDocs, Package, SectionDocs
from moodlectl.site.practice.schema import (
    ROLES,
    activity_doc,
    block_docs,
    course_doc,
    enrol_method,
    enrolment,
    file_doc,
    grade,
    grade_category,
    grade_change,
    grade_item,
    gradebook_doc,
    module_doc,
    role_assignment,
    role_definition,
    roles_doc,
    section_doc,
    user_doc,
)
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import Value, ident, node, put, text

# Far above what a real site uses: Moodle 4.5 keeps the old context id of question files whose question bank activity it
# cannot restore (5.0 and later have them), and must not meet a context of somebody's course there.
FIRST_CONTEXT = 900_000_000
WHEN = int(datetime(2026, 8, 24, 9, 0, tzinfo=UTC).timestamp())
START = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
END = int(datetime(2027, 6, 30, tzinfo=UTC).timestamp())
DUE = int(datetime(2026, 10, 16, 21, 59, tzinfo=UTC).timestamp())

_CATEGORIES = (
    (1, "Category 1", "", 0, 1),
    (2, "Science", "SCI", 0, 1),
    (3, "Biology", "BIO", 2, 1),
    (4, "Arts", "ART", 0, 1),
)
_STUDENTS = (
    ("Zoë", "Müller"), ("Łucja", "Wójcik"), ("Nguyễn", "Văn An"), ("Siobhán", "O'Brien"),
    ("Anaïs", "Lefèvre"),
    ("Jürgen", "Groß"), ("Søren", "Ågren"), ("Inês", "Conceição"), ("李", "小龙"), ("Дмитрий", "Петров"),
    ("Amara", "Okafor"), ("Mia", "Smith & Sons"), ("Ömer", "Yıldız"), ("Chloé", "Dubois"),
)  # fmt: skip
_STAFF = (
    ("admin", "Ada", "Admin", "admin"),
    ("manager1", "Maya", "Manager", "manager"),
    ("teacher1", "Théo", "Teacher", "user"),
    ("teacher2", "Grace", "Þórsdóttir", "user"),
    ("assistant1", "Noor", "O'Hara", "user"),
)


def seed(store: Store) -> None:
    """Fill an empty store, inside a transaction of the caller's."""
    store.set_config("identifier", uuid.uuid4().hex)
    # As an administrator would who wants no logs in backups: the value is 0, and locked.
    store.set_config("backup_general_logs_locked", "1")
    for place, (number, name, idnumber, parent, visible) in enumerate(_CATEGORIES):
        store.run("INSERT INTO categories VALUES (?, ?, ?, ?, ?, ?)", number, name, idnumber, parent, visible, place)
    for kind, last in (
        ("category", len(_CATEGORIES)),
        ("course", 1),
        ("context", FIRST_CONTEXT),
        ("cm", 40),
        ("section", 10),
        ("user", 1),
    ):
        store.allocate(kind, last - 1)
    people = _people(store)
    _empty(store)
    _hidden(store, people)
    _french(store, people)
    _rich(store, people)
    _subsections(store, people)


def _people(store: Store) -> dict[str, int]:
    ids = {}
    students = [(f"student{n}", first, last, "user") for n, (first, last) in enumerate(_STUDENTS, 1)]
    for username, first, last, role in (*_STAFF, *students):
        user_id = ids[username] = store.allocate("user")
        element = user_doc(
            user_id, store.allocate("context"), username=username, firstname=first, lastname=last,
            email=f"{username}@example.invalid", city="Lyon", country="FR", firstaccess=WHEN + user_id * 60,
            timecreated=WHEN, timemodified=WHEN,
        )  # fmt: skip
        store.add_user(element, role)
    return ids


class _Course:
    """A course being written: adds sections, activities, files and people, then saves."""

    def __init__(
        self, store: Store, category: int, teachers: tuple[int, ...], students: list[int], **fields: Value
    ) -> None:
        self.store, self.category = store, category
        self.teachers, self.students = teachers, students
        package = self.package = Package(store.allocate("course"), store.allocate("context"))
        name = store.rows("SELECT name FROM categories WHERE id = ?", category)[0][0]
        dates = {"startdate": START, "timecreated": WHEN, "timemodified": WHEN}
        package.docs["course/course.xml"] = course_doc(
            package.course_id, package.contextid, (category, name), **{**dates, **fields}
        )
        self.items: list[Element] = []
        self.grade_category = store.allocate("grade_category")
        self.add_section("")

    @property
    def cast(self) -> content.Cast:
        """Who the activities are about."""
        return content.Cast(self.store, self.teachers[0] if self.teachers else 0, self.students, START + 86400 * 7)

    def add_section(self, name: str, parent: int | None = None, instance: int | None = None, **fields: Value) -> int:
        """A section after the others; returns its id."""
        section_id, place = self.store.allocate("section"), len(self.package.sections)
        component = {"component": "mod_subsection", "itemid": instance} if parent else {}
        doc = section_doc(section_id, place, name or None, **{**component, "timemodified": WHEN, **fields})
        section = SectionDocs(section_id, place, name or str(place), parent, {"section.xml": doc})
        self.package.sections.append(section)
        return section_id

    def place(self, module: str) -> content.Where:
        """Ids for a new activity: its instance, course module, module name and context."""
        return (
            self.store.allocate(f"mod_{module}"), self.store.allocate("cm"), module,
            self.store.allocate("context")
        )  # fmt: skip

    def add(
        self, where: content.Where, doc: Element, *more: Element, section: int = -1, **fields: Value
    ) -> ActivityDocs:
        """Put an activity at the end of a section (by number; the last one by default)."""
        _, cmid, module, contextid = where
        target = self.package.sections[section]
        title = text(doc[0], "name")
        docs = {
            "module.xml": module_doc(cmid, module, (target.id, target.number), **{"added": WHEN, **fields}),
            f"{module}.xml": doc,
        }
        if more:
            docs["grades.xml"] = node("activity_gradebook", node("grade_items", *more), node("grade_letters"))
        activity = ActivityDocs(cmid, module, target.id, title, contextid, docs)
        self.package.activities.append(activity)
        return activity

    def graded(self, where: content.Where, name: str, most: int, grades: list[tuple[int, float]]) -> Element:
        """A grade item of an activity with its grades."""
        cast = self.cast
        rows = [
            grade(
                self.store.allocate("grade"), user, value, most, usermodified=cast.teacher,
                timemodified=cast.when,
                timecreated=cast.when,
            )
            for user, value in grades
        ]  # fmt: skip
        return grade_item(
            self.store.allocate("grade_item"), *rows, categoryid=self.grade_category, itemname=name,
            itemmodule=where[2], iteminstance=where[0], itemnumber=0, idnumber="", grademax=f"{most}.00000",
            sortorder=len(self.items) + 2, timecreated=WHEN, timemodified=WHEN,
        )  # fmt: skip

    def file(self, content: tuple[bytes, str, str], where: tuple[int, str, str, int], user: int | None = None) -> None:
        """Put a file (bytes, type, name) where Moodle would (context, component, area, item).

        Moodle keeps a record of the folder beside it, and so does this.
        """
        data, kind, name = content
        contextid, component, area, itemid = where
        contenthash, size = self.store.add_content([data])
        owner = user or (self.teachers[0] if self.teachers else None)
        place: dict[str, Value] = {
            "contextid": contextid,
            "component": component,
            "filearea": area,
            "itemid": itemid,
        }
        times: dict[str, Value] = {"timecreated": WHEN, "timemodified": WHEN, "userid": owner}
        self.package.files.append(
            file_doc(
                self.store.allocate("file"), contenthash=contenthash, filesize=size, filename=name,
                mimetype=kind,
                license="unknown", source=name, **place, **times,
            )
        )  # fmt: skip
        empty = hashlib.sha1(b"", usedforsecurity=False).hexdigest()
        self.store.add_content([b""])
        if not any(
            text(file, "filename") == "." and all(text(file, key) == str(value) for key, value in place.items())
            for file in self.package.files
        ):
            self.package.files.append(
                file_doc(self.store.allocate("file"), contenthash=empty, filename=".", **place, **times)
            )

    def save(self) -> None:
        """Enrol people, close the gradebook, write everything."""
        store, docs = self.store, self.package.docs
        roles = [(user, 3) for user in self.teachers] + [(user, 5) for user in self.students]
        people = [enrolment(store.allocate("enrolment"), user, START) for user, _ in roles]
        methods = [
            enrol_method(store.allocate("enrol"), "manual", *people, customint1=1, timecreated=WHEN, timemodified=WHEN),
            enrol_method(store.allocate("enrol"), "guest", status=1, roleid=0, timecreated=WHEN, timemodified=WHEN),
        ]
        docs["course/enrolments.xml"] = node("enrolments", node("enrols", *methods))
        docs["course/roles.xml"] = roles_doc(
            *(role_assignment(store.allocate("role_assignment"), user, role, START) for user, role in roles)
        )
        docs["roles.xml"] = node("roles_definition", *(role_definition(role, name) for role, name in ROLES.items()))
        if self.items or any("grades.xml" in activity.docs for activity in self.package.activities):
            total = grade_item(
                store.allocate("grade_item"), itemtype="course", iteminstance=self.grade_category,
                timecreated=WHEN, timemodified=WHEN,
            )  # fmt: skip
            docs["gradebook.xml"] = gradebook_doc([grade_category(self.grade_category)], [total, *self.items])
        store.save(self.package, self.category)


def _empty(store: Store) -> None:
    course = _Course(store, 3, (), [], shortname="EMPTY1", fullname="An empty course")
    course.add_section("")
    course.add_section("")
    course.save()


def _hidden(store: Store, people: dict[str, int]) -> None:
    course = _Course(
        store,
        2,
        (people["teacher2"],),
        [],
        shortname="HIDDEN1",
        fullname="A hidden course",
        idnumber="X9",
        visible=0,
    )
    course.add_section("")
    where = course.place("page")
    course.add(where, content.page(where, "Behind the curtain", "<p>Only managers see this.</p>", WHEN))
    course.save()


def _french(store: Store, people: dict[str, int]) -> None:
    students = [people[f"student{n}"] for n in range(3, 11)]
    course = _Course(
        store,
        4,
        (people["teacher2"],),
        students,
        shortname="FR-B1",
        fullname="Français : l’été à Besançon",
        enddate=END,
    )
    course.add_section("Grammaire")
    where = course.place("page")
    course.add(where, content.page(where, "Le subjonctif", "<p>Il faut que j’aille…</p>", WHEN))
    where = course.place("forum")
    doc, _ = content.forum(
        where, "Café des élèves", [("Bonjour !", ["Présentez-vous.", "Moi, c’est Inês."])], course.cast
    )
    course.add(where, doc)
    course.add_section("Lectures")
    where = course.place("resource")
    course.add(where, content.resource(where, "Le Petit Prince (extrait)", WHEN))
    course.file(
        (_pdf("Le Petit Prince"), "application/pdf", "petit-prince.pdf"),
        (where[3], "mod_resource", "content", 0),
    )
    course.save()


def _subsections(store: Store, people: dict[str, int]) -> None:
    students = [people[f"student{n}"] for n in range(1, 6)]
    course = _Course(
        store,
        2,
        (people["teacher1"],),
        students,
        shortname="GEO200",
        fullname="Geology: rocks & time",
        idnumber="GEO-26",
    )
    course.add_section("Rocks")
    where = course.place("page")
    course.add(where, content.page(where, "Basalt", "<p>Grey, fine, heavy.</p>", WHEN))
    sub = course.place("subsection")
    doc = activity_doc(sub, name="Field trip", timemodified=WHEN)
    course.add(sub, doc)
    course.add_section("Field trip", parent=sub[1], instance=sub[0])
    where = course.place("url")
    course.add(where, content.url(where, "The map", "https://www.example.com/map?zoom=3&layer=rocks", WHEN))
    course.save()


def _rich(store: Store, people: dict[str, int]) -> None:
    students = [people[f"student{n}"] for n in range(1, 13)]
    course = _Course(
        store, 3, (people["teacher1"], people["assistant1"]), students,
        shortname="RICH101", fullname="Biologie végétale 🌱", idnumber="RICH-2026", enddate=END,
        summary="<p>Les plantes, des racines à la canopée &amp; au-delà.</p>",
    )  # fmt: skip
    course.file((_png(7, 48), "image/png", "feuille.png"), (course.package.contextid, "course", "overviewfiles", 0))
    _announcements(course)
    course.add_section("Week 1: cells", summary="<p>What a cell is made of.</p>")
    _week_one(course)
    course.add_section("Week 2: leaves")
    _week_two(course)
    course.add_section("Week 3: forests")
    _week_three(course)
    _groups(course)
    _extras(course)
    course.save()


def _announcements(course: _Course) -> None:
    where = course.place("forum")
    doc, _ = content.forum(
        where, "Announcements", [("Welcome 👋", ["The course begins on Tuesday."])], course.cast, "news"
    )
    course.add(where, doc)


def _week_one(course: _Course) -> None:
    where = course.place("label")
    course.add(where, content.simple(where, "Read this first", "<p>Read this first.</p>", timemodified=WHEN))
    where = course.place("page")
    light = '<p>Light, water, CO₂ <img src="@@PLUGINFILE@@/chloroplaste.png" alt="chloroplast"></p>'
    course.add(where, content.page(where, "Photosynthèse", light, WHEN))
    course.file((_png(1, 160), "image/png", "chloroplaste.png"), (where[3], "mod_page", "content", 0))
    where = course.place("url")
    course.add(where, content.url(where, "Flora online", "https://www.example.com/flora?lang=fr&page=2", WHEN))
    where = course.place("resource")
    course.add(where, content.resource(where, "Herbier", WHEN), visible=0, visibleold=0)
    course.file((_pdf("Herbier"), "application/pdf", "herbier été.pdf"), (where[3], "mod_resource", "content", 0))
    where = course.place("folder")
    course.add(where, content.folder(where, "Slides", WHEN))
    for number in range(1, 4):
        course.file(
            (_pdf(f"Slides {number}", 20_000 * number), "application/pdf", f"slides-{number}.pdf"),
            (where[3], "mod_folder", "content", 0),
        )
    where = course.place("forum")
    threads = [
        ("Which tree is this?", ["I saw it by the river.", "An alder, I think. 🌳", "Black alder!"]),
        ("Sève brute & élaborée", ["Qui peut expliquer ?", "L’une monte, l’autre descend."]),
        ("Excursion", ["Who has a car?"]),
    ]
    doc, attached = content.forum(where, "Discussions", threads, course.cast)
    course.add(where, doc)
    if attached:
        course.file(
            (_png(2, 120), "image/png", "l’aulne.png"),
            (where[3], "mod_forum", "attachment", attached),
            course.students[1],
        )


def _week_two(course: _Course) -> None:
    cast, students = course.cast, course.students
    where = course.place("glossary")
    terms = [
        ("Stomate", "A pore of the leaf."),
        ("Xylem", "Carries water up."),
        ("Chlorophylle", "Makes leaves green."),
    ]
    course.add(where, content.glossary(where, "Glossary", terms, cast))
    where = course.place("assign")
    marks = [78.0, 91.5, 64.0, 85.0, 70.5, 99.0]
    work: list[tuple[int, float | None]] = list(zip(students[:6], marks, strict=True))
    doc = content.assign(where, "Essay: un arbre 🌳", DUE, [*work, (students[6], None)], cast)
    item = course.graded(where, "Essay: un arbre 🌳", 100, list(zip(students[:6], marks, strict=True)))
    activity = course.add(where, doc, item, completion=2)
    for submission in doc.findall("assign/submissions/submission"):
        course.file(
            (f"Mon arbre, par {text(submission, 'userid')}\n".encode() * 200, "text/plain", "mon arbre.txt"),
            (where[3], "assignsubmission_file", "submission_files", ident(submission)),
            int(text(submission, "userid")),
        )
    changes = [
        grade_change(
            course.store.allocate("grade_history"), ident(item), user, value - 5,
            loggeduser=course.teachers[0],
            usermodified=course.teachers[0], timemodified=cast.when,
        )
        for user, value in zip(students[:6], marks, strict=True)
    ]  # fmt: skip
    activity.docs["grade_history.xml"] = node("grade_history", node("grade_grades", *changes))
    activity.docs["completion.xml"] = node(
        "completions",
        *(
            node("completion", id_=course.store.allocate("completion"), userid=user, completionstate=1,
                 timemodified=cast.when)
            for user in students[:7]
        ),
        node("completionviews"),
    )  # fmt: skip
    _quiz(course)
    where = course.place("choice")
    course.add(where, content.choice(where, "Which plant?", ["Oak", "Fern", "Mousse & lichen"], cast))


def _quiz(course: _Course) -> None:
    cast, where = course.cast, course.place("quiz")
    questions = [
        quizzes.Question("Stomata", "Leaves breathe through stomata.", True),
        quizzes.Question("Roots", "Roots are green.", False),
        quizzes.Question("Gaz", "Which gas do leaves take in?", "CO2"),
        quizzes.Question("Sugar", "What do leaves make of it?", "sugar"),
    ]
    categories, banked = quizzes.question_bank(where, "Quiz: leaves", questions, cast)
    results = [(course.students[0], 4), (course.students[1], 3), (course.students[3], 2)]
    item = course.graded(where, "Quiz: leaves", 10, [(user, right * 2.5) for user, right in results])
    course.add(where, quizzes.quiz(where, "Quiz: leaves", banked, results, cast), item)
    course.package.docs["questions.xml"] = node("question_categories", *categories)


def _week_three(course: _Course) -> None:
    sub = course.place("subsection")
    course.add(sub, activity_doc(sub, name="Excursion", timemodified=WHEN))
    course.add_section("Excursion", parent=sub[1], instance=sub[0])
    where = course.place("page")
    course.add(where, content.page(where, "What to bring", "<p>Boots, bread &amp; a lens.</p>", WHEN))


def _groups(course: _Course) -> None:
    store, groups = course.store, []
    for place, name in enumerate(("Groupe A – été", "Groupe B – hiver")):
        members = [
            node(
                "group_member",
                id_=store.allocate("member"),
                userid=user,
                timeadded=START,
                component="",
                itemid=0,
            )
            for user in course.students[place::2]
        ]
        groups.append(
            node(
                "group", node("group_members", *members), id_=store.allocate("group"), name=name,
                idnumber=f"G{place + 1}", description="", descriptionformat=1, enrolmentkey=None, picture=0,
                visibility=0, participation=1, timecreated=WHEN, timemodified=WHEN,
            )
        )  # fmt: skip
    grouping = node(
        "grouping",
        node("grouping_groups", *(
            node("grouping_group", id_=store.allocate("member"), groupid=ident(group), timeadded=START)
            for group in groups
        )),
        id_=store.allocate("grouping"), name="Lab halves", idnumber="LAB", description="",
        descriptionformat=1,
        configdata=None, timecreated=WHEN, timemodified=WHEN,
    )  # fmt: skip
    course.package.docs["groups.xml"] = node(
        "groups",
        *groups,
        node("groupcustomfields"),
        node("groupings", grouping, node("groupingcustomfields")),
    )


def _extras(course: _Course) -> None:
    store, package = course.store, course.package
    oral = [
        grade(store.allocate("grade"), user, value, 20, usermodified=course.teachers[0], timemodified=START)
        for user, value in zip(course.students, (12.0, 15.5, 9.0, 18.0), strict=False)
    ]
    for each in oral:
        put(each, "rawgrade", None)
    course.items.append(
        grade_item(
            store.allocate("grade_item"), *oral, categoryid=course.grade_category, itemname="Oral exam",
            itemtype="manual", itemnumber=0, idnumber="oral", grademax="20.00000", sortorder=9,
            timecreated=WHEN,
            timemodified=WHEN,
        )
    )  # fmt: skip
    for name in ("calendar_month", "recent_activity"):
        block = block_docs(store.allocate("block"), (store.allocate("context"), package.contextid), name, WHEN)
        package.docs.update({f"course/{path}": doc for path, doc in block.items()})
    package.docs["course/calendar.xml"] = node(
        "events",
        node(
            "event", id_=store.allocate("event"), name="Sortie en forêt", description="<p>Bring boots.</p>",
            format=1,
            courseid=package.course_id, groupid=0, userid=course.teachers[0], repeatid=0, modulename="",
            instance=0,
            type=0, eventtype="course", timestart=DUE, timeduration=7200, timesort=DUE, visible=1, uuid="",
            sequence=1, timemodified=WHEN, priority=None, location="Gare",
        ),
    )  # fmt: skip


def _png(seed_number: int, side: int) -> bytes:
    """A real picture of random squares, the same for the same number."""
    noise = random.Random(seed_number)  # noqa: S311 - a picture, not a secret
    rows = b"".join(b"\0" + noise.randbytes(side * 3) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _pdf(title: str, padding: int = 4000) -> bytes:
    """A small document that a viewer opens, padded with a comment of random bytes."""
    noise = random.Random(title).randbytes(padding).hex().encode()  # noqa: S311
    stream = b"BT /F1 24 Tf 72 720 Td (" + title.encode("ascii", "replace") + b") Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n%" + noise + b"\n", []
    for number, content_of in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content_of)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count, start = len(objects) + 1, len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    return body + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, start)
