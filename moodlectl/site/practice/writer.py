"""Writes a course as Moodle writes it: a tgz that any Moodle of this release restores, or a Common Cartridge.

Order and content as ``backup/moodle2`` and ``lib/filestorage/tgz_packer.php`` of 5.1.
"""

from __future__ import annotations

import html
import io
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO
from xml.etree.ElementTree import Element

from moodlectl.site.port import OnProgress, Progress
from moodlectl.site.practice.package import CARRIED_USER_FIELDS, ActivityDocs, Package
from moodlectl.site.practice.plugins import BACKUP_RELEASE, BACKUP_VERSION, RELEASE, VERSION
from moodlectl.site.practice.schema import roles_doc
from moodlectl.site.practice.settings import Chosen
from moodlectl.site.practice.store import Store
from moodlectl.site.practice.xmltree import Value, ident, node, number, put, serialise, text, walk

INDEX_TIME = 1356998400  # Moodle gives the index this constant time
_ACTIVITY_DEFAULTS = {
    "calendar.xml": "events", "comments.xml": "comments", "completion.xml": "completions",
    "filters.xml": "filters",
    "grade_history.xml": "grade_history", "logs.xml": "logs", "logstores.xml": "logstores",
    "xapistate.xml": "states",
    "competencies.xml": "course_module_competencies", "grades.xml": "activity_gradebook",
}  # fmt: skip
_COURSE_DEFAULTS = {
    "course/calendar.xml": "events", "course/comments.xml": "comments", "course/filters.xml": "filters",
    "course/competencies.xml": "course_competencies",
    "course/completiondefaults.xml": "course_completion_defaults",
    "course/contentbank.xml": "contents", "course/enrolments.xml": "enrolments", "course/logs.xml": "logs",
    "course/logstores.xml": "logstores", "course/loglastaccess.xml": "lastaccesses", "badges.xml": "badges",
    "completion.xml": "course_completion", "grade_history.xml": "grade_history", "gradebook.xml": "gradebook",
    "groups.xml": "groups", "outcomes.xml": "outcomes_definition", "questions.xml": "question_categories",
    "roles.xml": "roles_definition", "scales.xml": "scales_definition",
}  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What the manifest says about where and how a backup was made."""

    name: str
    backup_id: str
    mode: int
    when: int
    wwwroot: str
    identifier_hash: str


def file_name(course_id: int, shortname: str, when: int, chosen: Chosen) -> str:
    """The name Moodle's web pages give a backup (``backup_plan_dbops::get_default_backup_filename``)."""
    clean = "".join(
        letter for letter in shortname.replace(" ", "_") if letter.isprintable() and letter not in '\\/:*?"<>|&'
    )
    clean = unicodedata.normalize("NFC", clean).strip("_").lower()
    stamp = datetime.fromtimestamp(when, UTC).strftime("%Y%m%d-%H%M")
    # Moodle puts its localised word for backup first; this site speaks English.
    name = f"backup-moodle2-course-{course_id}-{clean}-{stamp}"
    if not chosen["users"]:
        name += "-nu"
    elif chosen["anonymize"]:
        name += "-an"
    if chosen["imscc11"]:
        return f"{name}.imscc"
    return f"{name}.mbz" if chosen["files"] else f"{name}-nf.mbz"


def write_mbz(
    part: Package, chosen: Chosen, labels: Labels, store: Store, target: IO[bytes], on_progress: OnProgress
) -> list[str]:
    """Write the backup file; returns the contents that were missing in the pool, one sentence each."""
    documents = _documents(part, chosen, labels)
    pool: dict[str, Path] = {}
    warnings = []
    if chosen["files"]:
        for contenthash in sorted(part.content_hashes()):
            path = store.content_path(contenthash)
            if path.is_file():
                pool[f"files/{contenthash[:2]}/{contenthash}"] = path
            else:
                warnings.append(f"The file with the content {contenthash} is missing in the site's file pool.")
    members = _in_order({**{name: len(data) for name, data in documents.items()},
                         **{name: path.stat().st_size for name, path in pool.items()}})  # fmt: skip
    index = f"Moodle archive file index. Count: {len(members)}\n" + "".join(
        f"{name}\td\t0\t?\n" if size is None else f"{name}\tf\t{size}\t{labels.when}\n" for name, size in members
    )
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.USTAR_FORMAT, compresslevel=4) as archive:
        _add(archive, ".ARCHIVE_INDEX", io.BytesIO(index.encode()), len(index.encode()), INDEX_TIME)
        for done, (name, size) in enumerate(members):
            if size is None:
                folder = tarfile.TarInfo(name.rstrip("/"))
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, labels.when
                archive.addfile(folder)
            elif name in pool:
                with pool[name].open("rb") as content:
                    _add(archive, name, content, size, labels.when)
            else:
                _add(archive, name, io.BytesIO(documents[name]), size, labels.when)
            on_progress(Progress("backup", done + 1, len(members)))
    return warnings


def _add(archive: tarfile.TarFile, name: str, content: BinaryIO | io.BytesIO, size: int, when: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, when
    archive.addfile(entry, content)


def _in_order(sizes: dict[str, int]) -> list[tuple[str, int | None]]:
    """Members by name with every folder before its content, and moodle_backup.log last, as Moodle orders them."""
    entries: dict[str, int | None] = dict(sizes)
    for name in sizes:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            entries["/".join(parts[:depth]) + "/"] = None
    return sorted(entries.items(), key=lambda entry: (entry[0] == "moodle_backup.log", entry[0]))


def _documents(part: Package, chosen: Chosen, labels: Labels) -> dict[str, bytes]:
    docs: dict[str, Element] = {path: node(root) for path, root in _COURSE_DEFAULTS.items()}
    docs["course/roles.xml"] = roles_doc()
    docs.update(part.docs)
    docs["course/inforef.xml"] = _inforef(part, list(part.docs.values()), part.contextid, None)
    docs.update(_block_inforefs(part, part.docs))
    for section in part.sections:
        folder = f"sections/section_{section.id}"
        docs.update({f"{folder}/{path}": doc for path, doc in section.docs.items()})
        docs[f"{folder}/inforef.xml"] = _inforef(part, [], part.contextid, section.id)
    for activity in part.activities:
        docs.update({f"activities/{activity.key}/{path}": doc for path, doc in _activity_docs(part, activity).items()})
    if chosen["users"]:
        docs["users.xml"] = node("users", *(part.users[key] for key in sorted(part.users)))
    docs["files.xml"] = node("files", *part.files)
    docs["moodle_backup.xml"] = _manifest(part, chosen, labels)
    return {**{path: serialise(doc) for path, doc in docs.items()}, "moodle_backup.log": b""}


def _activity_docs(part: Package, activity: ActivityDocs) -> dict[str, Element]:
    docs = {path: node(root) for path, root in _ACTIVITY_DEFAULTS.items()}
    docs["roles.xml"] = roles_doc()
    docs.update(activity.docs)
    docs["inforef.xml"] = _inforef(part, list(activity.docs.values()), activity.contextid, None)
    docs.update(_block_inforefs(part, activity.docs))
    return docs


def _block_inforefs(part: Package, docs: dict[str, Element]) -> dict[str, Element]:
    return {
        path.replace("block.xml", "inforef.xml"): _inforef(part, [], int(doc.get("contextid", "0")), None)
        for path, doc in docs.items()
        if path.endswith("/block.xml")
    }


def _inforef(part: Package, docs: list[Element], contextid: int, section: int | None) -> Element:
    """inforef.xml: what else in the backup belongs to these documents; a restore takes only what it names."""
    found: dict[str, set[int]] = {
        "user": set(), "group": set(), "grouping": set(), "role": set(), "grade_item": set(), "scale": set(),
        "question_category": set(), "file": set(),
    }  # fmt: skip
    for element in walk(docs):
        value = int(element.text) if element.text and element.text.isdigit() else 0
        if element.tag in CARRIED_USER_FIELDS and value in part.users:
            found["user"].add(value)
        elif element.tag in ("groupid", "groupingid", "roleid", "scaleid") and value:
            found[element.tag.removesuffix("id")].add(value)
        elif element.tag in ("grade_item", "group", "grouping") and element.get("id"):
            found[element.tag].add(ident(element))
    questions = part.docs.get("questions.xml")
    if questions is not None and contextid != part.contextid:
        used = {number(each, "questionbankentryid") for each in walk(docs) if each.tag == "question_reference"}
        found["question_category"] = {
            ident(category)
            for category in questions
            if number(category, "contextid") == contextid
            or any(ident(entry) in used for entry in category.iter("question_bank_entry"))
        }
    for file in part.files:
        in_section = text(file, "component") == "course" and text(file, "filearea") == "section"
        own = number(file, "itemid") == section if in_section else section is None
        if number(file, "contextid") == contextid and own:
            found["file"].add(ident(file))
    if section is None and contextid == part.contextid:
        people = {int(user.get("contextid", "0")) for user in part.users.values()}
        found["file"] |= {ident(file) for file in part.files if number(file, "contextid") in people}
        found["user"] |= set(part.users)
    return node(
        "inforef",
        *(
            node(f"{kind}ref", *(node(kind, node_id(each)) for each in sorted(ids)))
            for kind, ids in found.items()
            if ids
        ),
    )


def node_id(value: int) -> Element:
    """``<id>12</id>``, as inforef.xml has them."""
    element = Element("id")
    element.text = str(value)
    return element


def _manifest(part: Package, chosen: Chosen, labels: Labels) -> Element:
    course = part.course
    facts: dict[str, Value] = {
        "name": labels.name, "moodle_version": VERSION, "moodle_release": RELEASE,
        "backup_version": BACKUP_VERSION,
        "backup_release": BACKUP_RELEASE, "backup_date": labels.when, "mnet_remoteusers": 0,
        "include_files": int(chosen["files"]), "include_file_references_to_external_content": 0,
        "original_wwwroot": labels.wwwroot, "original_site_identifier_hash": labels.identifier_hash,
        "original_course_id": part.course_id, "original_course_format": text(course, "format", "topics"),
        "original_course_fullname": text(course, "fullname"),
        "original_course_shortname": text(course, "shortname"),
        "original_course_startdate": number(course, "startdate"),
        "original_course_enddate": number(course, "enddate"),
        "original_course_contextid": part.contextid, "original_system_contextid": 1,
    }  # fmt: skip
    detail = node(
        "detail",
        type="course",
        format="moodle2",
        interactive=1,
        mode=labels.mode,
        execution=1,
        executiontime=0,
    )
    detail.set("backup_id", labels.backup_id)
    delegated = {section.id for section in part.sections if section.parent}
    activities = node("activities", *(
        node(
            "activity", moduleid=activity.id, sectionid=activity.section, modulename=activity.module,
            title=activity.title, directory=f"activities/{activity.key}",
            insubsection=1 if activity.section in delegated else "",
        )
        for activity in part.activities
    ))  # fmt: skip
    sections = node("sections", *(
        node(
            "section", sectionid=section.id, title=section.title, directory=f"sections/section_{section.id}",
            parentcmid=section.parent or "", modname="subsection" if section.parent else "",
        )
        for section in part.sections
    ))  # fmt: skip
    contents = node(
        "contents", activities, sections,
        node("course", courseid=part.course_id, title=text(course, "shortname"), directory="course"),
    )  # fmt: skip
    settings = node("settings", *_settings(part, chosen, labels))
    information = node("information")
    for name, value in facts.items():
        put(information, name, value)
    information.extend([node("details", detail), contents, settings])
    return node("moodle_backup", information)


def _settings(part: Package, chosen: Chosen, labels: Labels) -> Iterable[Element]:
    for name, value in chosen.root.items():
        shown = labels.name if name == "filename" else int(bool(value))
        yield node("setting", level="root", name=name, value=shown)
    for section in part.sections:
        key = f"section_{section.id}"
        ticks = {"included": 1, "userinfo": int(section.id in chosen.userinfo_sections)}
        for tail, tick in ticks.items():
            yield node("setting", level="section", section=key, name=f"{key}_{tail}", value=tick)
    for activity in part.activities:
        ticks = {"included": 1, "userinfo": int(activity.id in chosen.userinfo_activities)}
        for tail, tick in ticks.items():
            yield node("setting", level="activity", activity=activity.key, name=f"{activity.key}_{tail}", value=tick)


# --- IMS Common Cartridge -----------------------------------------------------------------------------------

_CC = "http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1"
_LOM = "http://ltsc.ieee.org/xsd/imsccv1p1/LOM/manifest"
_LINK = "http://www.imsglobal.org/xsd/imsccv1p1/imswl_v1p1"


def write_cartridge(part: Package, store: Store, target: BinaryIO) -> None:
    """Write an IMS Common Cartridge 1.1 with the pages, links, files and texts of the course; returns
    warnings.

    Like Moodle's own (``backup/converter/imscc11``) it has no place for activities that students work in.
    """
    items: list[str] = []
    resources: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as cartridge:
        for section in part.sections:
            inner = []
            for activity in part.activities_of(section.id):
                written = _cartridge_files(part, activity, store)
                if not written:
                    continue
                kind, files = written
                for href, content in files:
                    if isinstance(content, Path):
                        cartridge.write(content, href)
                    else:
                        cartridge.writestr(href, content)
                name = f"I_{activity.id:08X}"
                title = f"<title>{_x(activity.title)}</title>"
                inner.append(f'<item identifier="{name}" identifierref="{name}_R">{title}</item>')
                listed = "".join(f'<file href="{_x(href)}"/>' for href, _ in files)
                head = f' href="{_x(files[0][0])}"' if kind == "webcontent" else ""
                resources.append(f'<resource identifier="{name}_R" type="{kind}"{head}>{listed}</resource>')
            title = f"<title>{_x(section.title)}</title>"
            items.append(f'<item identifier="S_{section.id:08X}">{title}{"".join(inner)}</item>')
        cartridge.writestr("imsmanifest.xml", _cartridge_manifest(part, items, resources))


def _x(words: str) -> str:
    return html.escape(words)


def _cartridge_files(
    part: Package, activity: ActivityDocs, store: Store
) -> tuple[str, list[tuple[str, str | Path]]] | None:
    own = activity.docs[f"{activity.module}.xml"][0]
    folder = f"i_{activity.id:08x}"
    if activity.module in ("page", "label"):
        body = text(own, "content" if activity.module == "page" else "intro")
        head = f"<head><meta charset='utf-8'><title>{_x(activity.title)}</title></head>"
        page = f"<!DOCTYPE html><html>{head}<body>{body}</body></html>"
        return "webcontent", [(f"{folder}/{_slug(activity.title)}.html", page)]
    if activity.module == "url":
        link = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<webLink xmlns="{_LINK}">'
            f'<title>{_x(activity.title)}</title><url href="{_x(text(own, "externalurl"))}"/></webLink>'
        )
        return "imswl_xmlv1p1", [(f"{folder}/weblink.xml", link)]
    if activity.module in ("resource", "folder"):
        files: list[tuple[str, str | Path]] = [
            (f"{folder}/{text(file, 'filename')}", store.content_path(text(file, "contenthash")))
            for file in part.files
            if number(file, "contextid") == activity.contextid and text(file, "filename") != "."
        ]
        return ("webcontent", files) if files else None
    return None


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "page"


def _cartridge_manifest(part: Package, items: list[str], resources: list[str]) -> str:
    title = f'<lomimscc:string language="en">{_x(text(part.course, "fullname"))}</lomimscc:string>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<manifest xmlns="{_CC}" xmlns:lomimscc="{_LOM}"'
        f' identifier="M_{part.course_id:08X}"><metadata><schema>IMS Common Cartridge</schema>'
        f"<schemaversion>1.1.0</schemaversion><lomimscc:lom><lomimscc:general><lomimscc:title>{title}"
        "</lomimscc:title></lomimscc:general></lomimscc:lom></metadata>"
        f'<organizations><organization identifier="O_{part.course_id:08X}" structure="rooted-hierarchy">'
        f'<item identifier="root">{"".join(items)}</item></organization></organizations>'
        f"<resources>{''.join(resources)}</resources></manifest>\n"
    )
