"""The practice site: what it holds at first, how it keeps it, and what only it does."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from moodlectl.errors import ConfigError, Refused
from moodlectl.site.port import BackupRequest, CourseRef, ItemChoice, RestoreRequest, RestoreSource, Verdict
from moodlectl.site.practice import PracticeSite
from moodlectl.site.practice.xmltree import number, text
from tests.contract import archives


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PracticeSite]:
    """A fresh practice site."""
    made = PracticeSite(tmp_path / "site")
    yield made
    made.close()


def rich(site: PracticeSite) -> int:
    """The id of the course with some of everything."""
    return site.course(CourseRef("shortname", "RICH101")).id


def pool(site: PracticeSite) -> set[str]:
    """The contents the site's pool holds."""
    return {path.name for path in site.store.pool.glob("??/*")}


def test_a_fresh_site_has_believable_courses_people_and_backups(site: PracticeSite) -> None:
    courses = {one.shortname: one for one in site.courses()}
    assert len(courses) >= 5
    assert not courses["HIDDEN1"].visible
    assert courses["HIDDEN1"].idnumber == "X9"
    assert "é" in courses["FR-B1"].fullname and "🌱" in courses["RICH101"].fullname
    assert len(site.store.rows("SELECT * FROM users")) >= 19
    assert {file.area for file in site.backups(rich(site)).files} == {"course", "automated"}
    assert [file.area for file in site.backups(courses["GEO200"].id).files] == ["private"]


def test_a_site_is_filled_once_and_keeps_what_was_made(tmp_path: Path) -> None:
    first = PracticeSite(tmp_path)
    made = first.backup(BackupRequest(rich(first))).file
    hash_of_first = first.info().identifier_hash
    first.close()
    again = PracticeSite(tmp_path)
    assert made in again.backups(rich(again)).files
    assert again.info().identifier_hash == hash_of_first
    assert len(again.courses()) == 5
    again.close()


def test_two_processes_may_open_an_empty_folder_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from moodlectl.site.practice import PracticeSite\n"
        "from moodlectl.site.port import BackupRequest, CourseRef\n"
        "site = PracticeSite(Path(sys.argv[1])); course = site.course(CourseRef('shortname', 'RICH101'))\n"
        "print(*[site.backup(BackupRequest(course.id)).file.filename for _ in range(4)])"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "shared")]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = [name for process in running for name in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(names)) == 12
    site = PracticeSite(tmp_path / "shared")
    assert len(site.courses()) == 5
    assert set(names) <= {file.filename for file in site.backups(rich(site), ["course"]).files}
    site.close()


def test_a_folder_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "practice.sqlite").write_text("this is no database, but somebody's letter\n" * 99)
    with pytest.raises(ConfigError) as problem:
        PracticeSite(tmp_path)
    assert problem.value.code == "practice_folder"


def test_the_check_has_one_warning_with_a_remedy(site: PracticeSite) -> None:
    lines = site.check()
    warned = [line for line in lines if line.verdict is not Verdict.OK]
    assert [line.verdict for line in warned] == [Verdict.WARNING]
    assert warned[0].hint


def test_automated_backups_skip_what_is_hidden_and_keep_two(site: PracticeSite) -> None:
    for _ in range(2):
        runs = {run.shortname: run for run in site.run_automated()}
    assert runs["HIDDEN1"].status == "skipped"
    assert {run.status for run in runs.values()} == {"ok", "skipped"}
    assert runs["RICH101"].started is not None
    kept = site.backups(rich(site), ["automated"]).files
    assert len(kept) == 2
    path = site.store.content_path(kept[0].sha1 or "")
    assert archives.manifest(path).findtext("details/detail/mode") == "50"


# --- the files it writes ----------------------------------------------------------------------------------------


def test_a_backup_has_moodles_order_and_an_index_of_all_its_members(site: PracticeSite, tmp_path: Path) -> None:
    file = site.backup(BackupRequest(rich(site))).file
    site.download(file, tmp_path / "b.mbz")
    names = archives.names(tmp_path / "b.mbz")
    index = archives.member(tmp_path / "b.mbz", ".ARCHIVE_INDEX").decode().splitlines()
    assert names[0] == ".ARCHIVE_INDEX" and names[-1] == "moodle_backup.log"
    assert names.index("moodle_backup.xml") > max(place for place, name in enumerate(names) if "files/" in name)
    assert index[0] == f"Moodle archive file index. Count: {len(names) - 1}"
    assert [line.split("\t")[0].rstrip("/") for line in index[1:]] == names[1:]


def test_everything_a_restore_takes_is_named_in_some_inforef(site: PracticeSite, tmp_path: Path) -> None:
    file = site.backup(BackupRequest(rich(site))).file
    site.download(file, tmp_path / "b.mbz")
    named: dict[str, set[str]] = {"file": set(), "user": set(), "question_category": set(), "grade_item": set()}
    for name in archives.names(tmp_path / "b.mbz"):
        if name.endswith("/inforef.xml"):
            for kind, ids in named.items():
                ids |= {one.text or "" for one in archives.xml(tmp_path / "b.mbz", name).iterfind(f"*/{kind}/id")}
    for kind, document in (("file", "files.xml"), ("user", "users.xml"), ("question_category", "questions.xml")):
        assert named[kind] == {one.get("id") for one in archives.xml(tmp_path / "b.mbz", document).iter(kind)}
    assert len(named["grade_item"]) >= 2


def test_the_archive_reader_finds_nothing_wrong_with_a_backup(site: PracticeSite, tmp_path: Path) -> None:
    from moodlectl.mbz.archive import open_backup

    file = site.backup(BackupRequest(rich(site))).file
    site.download(file, tmp_path / "b.mbz")
    with open_backup(tmp_path / "b.mbz") as archive:
        assert sum(1 for _ in archive.members()) > 100
        assert archive.container == "tgz"
        assert archive.remarks == []


def test_a_cartridge_holds_pages_links_and_files(site: PracticeSite, tmp_path: Path) -> None:
    file = site.backup(BackupRequest(rich(site), {"imscc11": True})).file
    site.download(file, tmp_path / "c.imscc")
    with zipfile.ZipFile(tmp_path / "c.imscc") as cartridge:
        root = ElementTree.fromstring(cartridge.read("imsmanifest.xml"))  # noqa: S314
        listed = {one.get("href") for one in root.iter() if one.tag.endswith("}file")}
        assert listed | {"imsmanifest.xml"} == set(cartridge.namelist())
        links = [cartridge.read(name).decode() for name in cartridge.namelist() if name.endswith("weblink.xml")]
    assert any("flora?lang=fr&amp;page=2" in link for link in links)


# --- what it takes in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["course-4.5-tgz-rich-users.mbz", "course-5.1-tgz-rich-users.mbz"])
def test_a_real_course_goes_in_and_out_and_in_again_unharmed(site: PracticeSite, tmp_path: Path, name: str) -> None:
    first = site.restore(RestoreRequest(RestoreSource(path=archives.DATA / name), "new", category_id=2))
    assert first.after.activities == first.expected.activities
    file = site.backup(BackupRequest(first.course.id, {"grade_histories": True})).file
    other = PracticeSite(tmp_path / "other")
    site.download(file, tmp_path / "again.mbz")
    second = other.restore(RestoreRequest(RestoreSource(path=tmp_path / "again.mbz"), "new", category_id=2))
    assert second.after == first.after
    assert second.users.created == first.users.created
    other.close()


def test_what_speaks_of_an_activity_still_does_after_a_restore(site: PracticeSite) -> None:
    path = archives.DATA / "course-5.1-tgz-rich-users.mbz"
    done = site.restore(RestoreRequest(RestoreSource(path=path), "new", category_id=2))
    package = site.store.load(done.course.id)
    page = next(one for one in package.activities if one.id == done.activities[7616])
    assert f"$@FORUMVIEWBYID*{done.activities[7615]}@$" in text(page.docs["page.xml"][0], "content")
    restricted = [text(one.docs["module.xml"], "availability") for one in package.activities]
    assert any(f'"cm":{done.activities[7616]},' in words for words in restricted)
    quiz = next(one for one in package.activities if one.module == "quiz")
    asked = {number(one, "questionbankentryid") for one in quiz.docs["quiz.xml"].iter("question_reference")}
    there = {one.get("id") for one in package.docs["questions.xml"].iter("question_bank_entry")}
    assert {str(entry) for entry in asked} <= there


def test_a_new_start_date_moves_due_dates_and_leaves_work_alone(site: PracticeSite) -> None:
    file = site.backup(BackupRequest(rich(site))).file
    request = RestoreRequest(RestoreSource(stored=file), "new", category_id=2, startdate=date(2027, 9, 1))
    done = site.restore(request)
    before, after = (
        next(one.docs["assign.xml"][0] for one in site.store.load(course).activities if one.module == "assign")
        for course in (rich(site), done.course.id)
    )
    assert number(after, "duedate") - number(before, "duedate") == 365 * 86400
    work = [text(one, "timecreated") for one in before.iterfind("submissions/submission")]
    assert [text(one, "timecreated") for one in after.iterfind("submissions/submission")] == work


def test_a_restore_that_fails_leaves_no_file_in_the_pool(site: PracticeSite) -> None:
    before = pool(site)
    path = archives.DATA / "course-4.5-tgz-users.mbz"
    with pytest.raises(Refused):
        site.restore(RestoreRequest(RestoreSource(path=path), "new", category_id=2))
    assert pool(site) == before
    assert not list(site.store.folder.glob("incoming-*"))


def test_a_restore_that_is_interrupted_is_taken_back_whole(site: PracticeSite) -> None:
    file, before = site.backup(BackupRequest(rich(site))).file, (pool(site), site.courses())
    before = (pool(site), site.courses())

    def interrupt(step: object) -> None:
        if getattr(step, "phase", "") == "restore" and getattr(step, "done", 0) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.restore(RestoreRequest(RestoreSource(stored=file), "replace", course_id=rich(site)), interrupt)
    assert (pool(site), site.courses()) == before
    assert file in site.backups(rich(site)).files


def test_a_changed_file_in_a_backup_is_refused(site: PracticeSite, tmp_path: Path) -> None:
    site.download(site.backup(BackupRequest(rich(site))).file, tmp_path / "b.mbz")

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(b"%PDF", b"%XXX") if name.startswith("files/") else data

    path = archives.changed(tmp_path / "b.mbz", tmp_path / "changed.mbz", change)
    with pytest.raises(Refused) as problem:
        site.restore(RestoreRequest(RestoreSource(path=path), "new", category_id=2))
    assert problem.value.code == "not_a_backup"


def test_a_document_type_in_a_backup_is_refused(site: PracticeSite, tmp_path: Path) -> None:
    site.download(site.backup(BackupRequest(rich(site))).file, tmp_path / "b.mbz")

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        doctype = b'<!DOCTYPE groups [<!ENTITY x "y">]>'
        return name, data.replace(b"?>\n", b"?>\n" + doctype, 1) if name == "groups.xml" else data

    path = archives.changed(tmp_path / "b.mbz", tmp_path / "doctype.mbz", change)
    with pytest.raises(Refused) as problem:
        site.restore(RestoreRequest(RestoreSource(path=path), "new", category_id=2))
    assert "document type" in problem.value.message


def test_a_merge_meets_groups_by_their_idnumber(site: PracticeSite) -> None:
    file = site.backup(BackupRequest(rich(site))).file
    done = site.restore(RestoreRequest(RestoreSource(stored=file), "merge", course_id=rich(site)))
    assert done.after.groups == done.before.groups == 2
    assert done.after.users == done.before.users


def test_overwriting_the_configuration_takes_all_but_the_names(site: PracticeSite) -> None:
    file = site.backup(BackupRequest(rich(site), {"users": False})).file
    target = site.course(CourseRef("shortname", "EMPTY1"))
    request = RestoreRequest(RestoreSource(stored=file), "merge", course_id=target.id, overwrite_config=True)
    assert site.restore(request).course.shortname == "EMPTY1"
    assert "canopée" in text(site.store.load(target.id).course, "summary")


def test_a_subsection_brings_its_section_and_its_section_brings_it(site: PracticeSite) -> None:
    geology = site.course(CourseRef("shortname", "GEO200")).id
    sections = site.contents(geology)
    inner = next(section for section in sections if section.parent_activity)
    choice = ItemChoice(only_sections=frozenset(), only_activities=frozenset({inner.activities[0].id}))
    made = site.backup(BackupRequest(geology, items=choice)).file
    there = archives.activities(site.store.content_path(made.sha1 or ""))
    assert {module for _, module in there} == {"subsection", "url"}
