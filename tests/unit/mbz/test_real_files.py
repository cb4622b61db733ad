"""Real backups, written by Moodle itself: named right, counted right, found whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import mbz_corpus as corpus
import pytest

from moodlectl.errors import NotFound, Refused
from moodlectl.mbz import inspect, open_backup, read_users, verify

DATA = corpus.DATA
WHOLE = sorted(path.name for path in DATA.iterdir() if not path.name.startswith("truncated"))
CONTRACT = {
    *("type", "format", "mode", "backup_date", "moodle_release", "moodle_version", "backup_release"),
    *(
        "backup_version",
        "original_site",
        "same_site",
        "include_files",
        "course",
        "settings",
        "sections",
        "users",
    ),
    *("size", "files", "include_file_references_to_external_content"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_real_backup_is_whole_and_inspect_gives_the_keys_of_the_contract(name: str) -> None:
    path = DATA / name
    report = verify(path)
    assert report.problems == ()
    assert report.ok
    assert report.sha1 == hashlib.sha1(path.read_bytes()).hexdigest()
    facts = inspect(path).as_dict()
    assert set(facts) >= CONTRACT
    assert set(facts["course"]) >= {"id", "fullname", "shortname", "format", "startdate", "enddate"}
    assert facts["size"] == path.stat().st_size
    json.dumps(facts)


@pytest.mark.parametrize("name", WHOLE)
def test_the_members_are_those_that_tar_or_unzip_list(name: str) -> None:
    path = DATA / name
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as listed:
            expected = {info.filename.rstrip("/"): info.file_size for info in listed.infolist()}
    else:
        with tarfile.open(path) as tar:
            expected = {info.name: info.size for info in tar}
    with open_backup(path) as archive:
        got = {member.name: member.size for member in archive.members()}
        again = {member.name: sum(map(len, member.chunks())) for member in archive.members()}
    assert got == expected == again


def test_a_rich_course_of_5_1_is_described_as_its_files_say() -> None:
    """The numbers were counted with tar and grep in the unpacked file."""
    manifest = inspect(DATA / "course-5.1-tgz-rich-users.mbz")
    assert (manifest.type, manifest.format, manifest.mode) == ("course", "moodle2", "general")
    assert manifest.kind == "Moodle backup of a course"
    assert manifest.moodle_release == "5.1+ (Build: 20251017)"
    assert manifest.moodle_version == "2025100600.02"
    assert manifest.original_site.url == "http://127.0.0.1:8501"
    assert manifest.original_site.identifier_hash == "7970a0fa2ab3e6cc736cc24deaa97230"
    assert manifest.backup_date == datetime.fromtimestamp(1795442589, UTC)
    assert manifest.course.id == 46
    assert manifest.course.fullname == "Écologie & société : l'été à Besançon 🌍 (rich1)"
    assert manifest.course.idnumber == "id-rich1"
    assert manifest.course.startdate == datetime.fromtimestamp(1756684800, UTC)
    counts = manifest.counts
    assert (counts.sections, sum(counts.activities.values()), counts.activities["forum"]) == (7, 20, 2)
    assert (counts.users, counts.enrolments, counts.groups, counts.groupings) == (17, 17, 3, 1)
    assert (counts.grade_items, counts.grades, counts.questions, counts.badges) == (8, 36, 6, 1)
    assert (counts.files.count, counts.files.bytes) == (37, 3236258)
    assert (counts.pool.count, counts.pool.bytes) == (32, 3230055)
    assert manifest.settings["users"] is True
    assert manifest.settings["anonymize"] is False
    assert manifest.settings["filename"] == "rich.mbz"
    assert manifest.plugins.qtype == ("multichoice", "shortanswer", "truefalse")
    assert manifest.plugins.block == ("calendar_month", "html")
    assert manifest.plugins.enrol == ("cohort", "guest", "manual", "self")
    assert manifest.plugins.format == ("topics",)
    assert [danger.code for danger in manifest.dangers] == ["user_data"]


def test_a_subsection_hangs_on_its_activity_and_not_on_the_course_page() -> None:
    manifest = inspect(DATA / "course-5.1-tgz-rich-users.mbz")
    assert len(manifest.sections) == 6
    holder = next(activity for activity in manifest.all_activities() if activity.module == "subsection")
    assert holder.id == 7632
    assert holder.subsection is not None
    assert (holder.subsection.id, holder.subsection.title) == (2416, "Sous-section d'approfondissement")
    assert [activity.module for activity in holder.subsection.activities] == ["page"]
    assert len(list(manifest.all_sections())) == 7
    assert len({activity.id for activity in manifest.all_activities()}) == 20
    assert [section.number for section in manifest.sections] == [0, 1, 2, 3, 4, 5]
    listed = [activity for section in manifest.as_dict()["sections"] for activity in section["activities"]]
    assert next(activity for activity in listed if activity["id"] == 7632)["subsection"]["id"] == 2416


def test_ticks_of_user_data_are_those_of_the_manifest() -> None:
    rich = inspect(DATA / "course-4.5-tgz-rich-users.mbz")
    assert all(activity.included and activity.userinfo for activity in rich.all_activities())
    assert all(section.included and section.userinfo for section in rich.all_sections())


def test_what_depends_on_what_is_told() -> None:
    manifest = inspect(DATA / "course-5.1-tgz-rich-users.mbz")
    assert manifest.missing() == ()
    quiz, bank, page, forum = 7623, 7622, 7616, 7615
    found = {(need.item, need.kind, need.cmid) for need in manifest.dependencies}
    assert (f"cmid:{quiz}", "question", bank) in found
    assert (f"cmid:{page}", "link", forum) in found
    assert ("course", "completion", page) in found
    everything = {section.id for section in manifest.all_sections()}
    broken = manifest.broken_by(everything, {quiz, page})
    assert {(need.item, need.kind) for need in broken} >= {
        (f"cmid:{quiz}", "question"),
        (f"cmid:{page}", "link"),
    }
    assert {need.item for need in manifest.broken_by(set(), {bank})} == {"course"}


def test_a_link_to_an_activity_outside_the_file_is_named(tmp_path: Path) -> None:
    source = corpus.replaced("activities/page_7/page.xml", "<content>", "<content>$@QUIZVIEWBYID*4711@$ ")
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert [(need.item, need.kind, need.needs) for need in manifest.missing()] == [
        ("cmid:7", "link", "cmid:4711")
    ]
    assert "incomplete" in [danger.code for danger in manifest.dangers]


def test_a_restriction_on_a_group_outside_the_file_is_named(tmp_path: Path) -> None:
    inner = '{"op":"|","c":[{"type":"group","id":99},{"type":"completion","cm":8,"e":1}]}'
    tree = '{"op":"&amp;","c":[' + inner + '],"showc":[true]}'
    source = corpus.replaced(
        "activities/page_7/module.xml", "<availability>$@NULL@$<", f"<availability>{tree}<"
    )
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    restrictions = [
        (need.needs, need.missing, need.cmid) for need in manifest.dependencies if need.kind == "restriction"
    ]
    assert restrictions == [("cmid:8", False, 8), ("group:99", True, None)]


@pytest.mark.parametrize(
    ("known", "same"),
    [
        ({}, None),
        ({"site_hash": "7970a0fa2ab3e6cc736cc24deaa97230"}, True),
        ({"site_hash": "0" * 32, "site_url": "http://127.0.0.1:8501"}, False),
        ({"site_url": "http://127.0.0.1:8501/"}, True),
        ({"site_url": "https://moodle.example.org"}, False),
    ],
)
def test_the_same_site_is_known_by_identifier_then_by_address(
    known: dict[str, str], same: bool | None
) -> None:
    assert inspect(DATA / "course-5.1-tgz-rich-users.mbz", **known).same_site is same


@pytest.mark.parametrize(
    ("site", "newer"),
    [("2025100600.01", True), ("2025100600.02", False), ("2024100706.00", True), ("junk", False)],
)
def test_a_backup_from_a_newer_moodle_is_a_danger(site: str, newer: bool) -> None:
    manifest = inspect(DATA / "course-5.1-tgz-rich-users.mbz", site_version=site)
    assert ("newer_moodle" in [danger.code for danger in manifest.dangers]) is newer


def test_a_backup_without_files_says_so() -> None:
    manifest = inspect(DATA / "course-4.1-tgz-without-files.mbz")
    assert manifest.include_files is False
    assert manifest.counts.activities == {"resource": 3, "forum": 1, "assign": 10, "page": 50}
    assert manifest.counts.pool.count == 0
    assert "without_files" in [danger.code for danger in manifest.dangers]


def test_an_automated_backup_and_a_zip_are_told_by_their_content() -> None:
    assert inspect(DATA / "automated-5.1-tgz.mbz").mode == "automated"
    zipped, tarred = inspect(DATA / "course-4.5-zip-users.mbz"), inspect(DATA / "course-4.5-tgz-users.mbz")
    assert (zipped.container, tarred.container) == ("zip", "tgz")
    assert zipped.counts == tarred.counts


def test_a_common_cartridge_is_named_for_what_it_is() -> None:
    manifest = inspect(DATA / "common-cartridge-5.1.imscc")
    assert (manifest.format, manifest.kind) == ("imscc11", "IMS Common Cartridge 1.1")
    assert manifest.course.fullname == "Sub one"
    assert [section.title for section in manifest.sections] == ["0", "1", "MySub", "2"]
    assert "needs_conversion" in [danger.code for danger in manifest.dangers]


def test_users_are_read_with_their_accents() -> None:
    users = list(read_users(DATA / "course-5.1-tgz-rich-users.mbz"))
    assert len(users) == 17
    first = users[0]
    assert (first.id, first.username, first.email) == (1020, "rich1.t1", "rich1.t1@example.org")
    assert (first.fullname, first.idnumber, first.firstaccess) == ("Ngọc Nguyễn", "id-rich1.t1", 1756684901)
    assert (first.deleted, first.mnethosturl, first.auth) == (False, None, "manual")
    assert [user.username for user in read_users(DATA / "course-4.5-zip-users.mbz")][0] == "admin"


@pytest.mark.parametrize("name", ["truncated-tgz.mbz", "truncated-zip.mbz"])
def test_a_truncated_file_is_named_for_what_it_is(name: str) -> None:
    with pytest.raises(Refused) as refused:
        inspect(DATA / name)
    assert refused.value.code == "truncated"
    assert "again" in str(refused.value.hint)
    report = verify(DATA / name)
    assert [problem.code for problem in report.problems] == ["truncated"]
    assert report.sha1 == hashlib.sha1((DATA / name).read_bytes()).hexdigest()


def test_no_file_is_not_found(tmp_path: Path) -> None:
    for call in (inspect, verify, lambda path: list(read_users(path))):
        with pytest.raises(NotFound):
            call(tmp_path / "none.mbz")


def test_inspect_tells_its_progress_in_bytes_and_of_a_file_it_has_just_read_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = tmp_path / "course.mbz"
    path.write_bytes((DATA / "course-5.1-tgz-rich-users.mbz").read_bytes())
    inspect(path, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(told) > 10
    told.clear()
    inspect(path, progress=lambda done, total: told.append((done, total)))
    assert told == [(path.stat().st_size, path.stat().st_size)]


def test_without_igzip_zlib_reads_the_same() -> None:
    path = DATA / "course-5.1-tgz-rich-users.mbz"
    program = (
        "import sys, json\nfrom pathlib import Path\nsys.modules['isal'] = None\nfrom moodlectl import mbz\n"
        "assert mbz.engine() == 'zlib'\nassert mbz.verify(Path(sys.argv[1])).ok\n"
        "print(json.dumps(mbz.inspect(Path(sys.argv[1])).as_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == inspect(path).as_dict()
