"""Moodle's own scripts: what they say is read, what they cannot do is refused by name, their status is not believed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, OutcomeUnknown, Refused
from moodlectl.mbz import inspect
from moodlectl.site.admincli import AdminCliSite, leftovers, looking, scripts
from moodlectl.site.admincli.doctor import judge
from moodlectl.site.admincli.scripts import Looked, Said
from moodlectl.site.port import (
    BackupRequest,
    CourseRef,
    ItemChoice,
    RestoreRequest,
    RestoreSource,
    Site,
    SiteInfo,
    Verdict,
)

DATA = Path(__file__).parents[2] / "data" / "mbz"
SOURCE = RestoreSource(path=Path("x.mbz"))
UNPACKED = "== Extracting backup file to: /d/temp/backup/bc7ea5f2 ==\n== Preprocessing backup file =="


def said(text: str, status: int = 0, errors: str = "") -> Said:
    return Said(status, tuple(text.splitlines()), tuple(errors.splitlines()))


def site(**settings: Any) -> AdminCliSite:
    """A site whose PHP would be noticed if it were run: there is none."""
    given = {"url": "https://m.example", "moodle_dir": "/m", "php": "/nowhere/php", **settings}
    return AdminCliSite(SiteConfig("s", **given), None)


def test_it_answers_the_port() -> None:
    assert isinstance(site(), Site)


# --- calling --------------------------------------------------------------------------------------------------------


def test_scripts_lie_beside_public_where_that_is_what_was_named() -> None:
    assert scripts.roots("/srv/moodle/") == ("/srv/moodle",)
    assert scripts.roots("/srv/moodle/public") == ("/srv/moodle", "/srv/moodle/public")
    assert scripts.script_path("/srv/moodle", "backup.php") == "/srv/moodle/admin/cli/backup.php"


def test_a_restore_names_a_category_or_a_course_but_never_both() -> None:
    new = scripts.restore_options("/x/a.mbz", category_id=3)
    assert new == ["--file=/x/a.mbz", "--categoryid=3"]
    merge = scripts.restore_options("/x/a.mbz", course_id=5)
    assert merge == ["--file=/x/a.mbz", "--courseid=5"]


def test_a_course_is_deleted_past_the_recycle_bin_without_a_question() -> None:
    past = ["--courseid=7", "--disablerecyclebin", "--non-interactive"]
    assert scripts.delete_options(7, recycle_bin=False) == past
    assert "--disablerecyclebin" not in scripts.delete_options(7, recycle_bin=True)


# --- understanding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "status", "course"),
    [
        (f"{UNPACKED}\n== Restored course ID: 42 ==", 0, 42),
        (f"{UNPACKED}\n== Wiederhergestellte Kurs-ID: 7 ==\n\n", 0, 7),
        (f"{UNPACKED}\n== 7 :معرف المقرر ==", 0, 7),
        (f"{UNPACKED}\n== Restored course ID: 42 ==\n++ debugging 13 ++", 0, 42),
        (f"{UNPACKED}\n== Restored course ID: 42 ==", 1, None),
        ("== Extracting backup file to: /d/temp/backup/99 ==", 0, None),
        (UNPACKED, 0, None),
        ("!!! Exception - 12 !!!", 1, None),
        ("", 0, None),
    ],
)
def test_the_restored_course_is_read_in_any_language(output: str, status: int, course: int | None) -> None:
    assert scripts.restored_id(said(output, status)) == course


def test_options_are_read_from_the_help_of_each_release() -> None:
    old = said("Options:\n-f, --file=STRING\n-c, --categoryid=INT  ID of the category\n-h, --help")
    new = said("-f, --file=STRING\r\n-C, --courseid=INT  ID of the course\r\n")
    assert scripts.options_in(old) == {"file", "categoryid", "help"}
    assert "courseid" in scripts.options_in(new)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (said("x\n!!! Exception - error/setting_invalid_text !!!", 1, "Could not chdir"), "error/setting_invalid_text"),
        (said("!!! Incorrect category ID! !!!", 1), "Incorrect category ID!"),
        (said("PHP Fatal error:  Allowed memory size exhausted in /m/lib.php", 255),
         "Allowed memory size exhausted in /m/lib.php"),
        (said("Error: No admin account was found"), "Error: No admin account was found"),
        (said("", 3), "it said nothing and ended with status 3"),
    ],
)  # fmt: skip
def test_the_scripts_own_words_are_found(told: Said, problem: str) -> None:
    assert scripts.problem(told) == problem


def test_what_backup_php_writes_and_refuses_is_told_apart_though_it_always_ends_with_0() -> None:
    done = said("== Performing backup... ==\nWriting /x/backup-moodle2-course-4.mbz\nBackup completed.")
    refused = said("Destination directory does not exists or not writable.")
    left = "Destination directory does not exist or is not writable. Leaving the backup in the course backup file area."
    late = said(f"== Performing backup... ==\nWriting /x/b.mbz\n{left}")
    assert scripts.written(done) == "/x/backup-moodle2-course-4.mbz"
    assert scripts.stored(done)
    assert scripts.destination_refused(refused)
    assert scripts.written(refused) is None
    assert not scripts.stored(late)
    assert not scripts.stored(said("Perform backup of the given course.\n\nOptions:"))


def test_where_it_unpacked_to_is_known_from_the_first_heading() -> None:
    assert scripts.unpacked_at(said(UNPACKED)) == "/d/temp/backup/bc7ea5f2"
    assert scripts.unpacked_at(said("!!! no !!!", 1)) is None


def test_errors_before_moodle_has_begun_are_no_beginning() -> None:
    assert not scripts.has_begun(["!!! Incorrect category ID! !!!", ""])
    assert not scripts.has_begun(["Could not open input file: /m/admin/cli/x.php"])
    assert scripts.has_begun(["== Performing backup... =="])


# --- automated backups ----------------------------------------------------------------------------------------------

RAN = """Server Time: Mon, 23 Nov 2026 22:30:01 +0100


Checking automated backup status...OK
Checking courses
Skipping deleted courses...0 courses
Running required automated backups...
Getting admin info
Skipping course id 1: Not scheduled for backup until Tue, 24 Nov 2026 00:00:00 +0100
Putting backup of course id 8 in adhoc task queue
Skipping course id 9: Not modified since previous backup
Automated backups complete.
Automated cron backups completed correctly
"""


def test_the_fate_of_each_course_is_read_from_what_the_automated_backups_say() -> None:
    told = scripts.automated(said(RAN))
    assert told.state == "ran"
    assert told.started == datetime(2026, 11, 23, 21, 30, 1, tzinfo=UTC)
    assert told.looked == (Looked("notyetrun", 1), Looked("queued", 8), Looked("skipped", 9))


def test_older_releases_name_courses_by_their_full_names() -> None:
    old = RAN.replace("course id 8", "Botany (spring)").replace("course id 9: Not modified since previous backup",
                                                                "Zoology (Not modified in 7 days)")  # fmt: skip
    looked = scripts.automated(said(old)).looked
    assert Looked("queued", None, "Botany (spring)") in looked
    assert Looked("skipped", None, "Zoology") in looked


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("Checking automated backup status...INACTIVE\nAutomated cron backups completed correctly", "inactive"),
        ("Checking automated backup status...Automated cron backups completed correctly", "busy"),
        ("Automated cron backups completed correctly", "unclear"),
        ("CLI maintenance mode active, backup execution suspended.", "unclear"),
    ],
)
def test_completed_correctly_is_not_believed(words: str, state: str) -> None:
    assert scripts.automated(said(words)).state == state


# --- leftovers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shortname", "visible", "is_ours"),
    [
        ("restoring", 0, True),
        ("restoring_12", 0, True),
        ("restoring", 1, False),
        ("restoring the forest", 0, False),
        ("BIO.101", 1, True),
        ("BIO.101_2", 0, True),
        ("BIOX101", 0, False),
        ("BIO.101_autumn", 0, False),
    ],
)
def test_only_the_scripts_own_course_is_taken_for_a_leftover(shortname: str, visible: int, is_ours: bool) -> None:
    assert leftovers.is_leftover({"id": 1, "shortname": shortname, "visible": visible}, "BIO.101") is is_ours


# --- what a file brings, and what speaks against it ------------------------------------------------------------


def info(release: str, version: str) -> SiteInfo:
    return SiteInfo("s", "https://m.example", release, version, "admin")


def test_sections_are_expected_up_to_the_highest_with_those_of_subsections_on_top() -> None:
    counts = looking.expected(inspect(DATA / "course-5.1-tgz-rich-users.mbz"))
    assert counts.sections == 7
    assert counts.activities["subsection"] == 1
    assert "qbank" not in counts.activities  # which web services do not show
    assert looking.expected(inspect(DATA / "course-4.5-tgz-users.mbz")).sections == 2


def test_a_newer_backup_and_one_without_files_are_dangers() -> None:
    new = inspect(DATA / "course-5.1-tgz-subsections.mbz")
    bare = inspect(DATA / "course-4.1-tgz-without-files.mbz")
    old_site, new_site = info("4.5.6 (Build: 20250811)", "2024100706.00"), info("5.1+", "2025100600.02")
    assert list(looking.dangers(new, old_site)) == ["newer-backup"]
    assert looking.dangers(new, new_site) == {}
    assert list(looking.dangers(bare, new_site)) == ["without-files"]


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (BackupRequest(4, {"users": False}), "users"),
        (BackupRequest(4, items=ItemChoice(skip_sections=frozenset({3}))), "sections"),
        (BackupRequest(4, as_user="teacher"), "teacher"),
    ],
)
def test_what_backup_php_cannot_do_is_refused_before_anything_runs(asked: BackupRequest, named: str) -> None:
    with pytest.raises(Refused, match=named) as error:
        site().backup(asked)
    assert error.value.code == "engine_cannot"


@pytest.mark.parametrize(
    "asked",
    [
        {"mode": "replace", "category_id": None, "course_id": 5},
        {"shortname": "x"},
        {"fullname": "x"},
        {"idnumber": "x"},
        {"startdate": date(2027, 1, 1)},
        {"visible": False},
        {"settings": {"blocks": False}},
        {"enrolments": "manual"},
        {"overwrite_config": True},
        {"keep_groups": True},
        {"items": ItemChoice(only_activities=frozenset({1}))},
        {"users_conflict": "without-users"},
        {"as_user": "teacher"},
    ],
)
def test_what_restore_backup_php_cannot_do_is_refused_by_name(asked: dict[str, Any]) -> None:
    request = RestoreRequest(**{"source": SOURCE, "mode": "new", "category_id": 1, **asked})
    for way in (site().restore, site().restore_plan):
        with pytest.raises(Refused) as error:
            way(request)
        assert error.value.code == "engine_cannot"


def test_the_sites_own_as_is_refused_where_it_would_be_passed_over_in_silence() -> None:
    for way in (lambda one: one.backup(BackupRequest(4)), lambda one: one.run_automated()):
        with pytest.raises(Refused, match="teacher"):
            way(site(acting="teacher"))


def test_what_no_script_does_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="settings of a backup"):
        site().backup_settings(5)
    with pytest.raises(Refused, match="everything a course holds"):
        site().identities(5, print)


def test_nobody_keeps_an_account_of_a_deed() -> None:
    for way in (site().deed, site().settle_deed):
        with pytest.raises(OutcomeUnknown) as error:
            way("0" * 32)
        assert error.value.code == "no_account"


def test_without_a_token_only_a_course_named_by_its_id_can_be_meant() -> None:
    assert site().course(CourseRef("id", "5")).id == 5
    for ask in (
        lambda: site().course(CourseRef("shortname", "BIO")),
        lambda: site().courses(),
        lambda: site().counts(5),
        lambda: site().backups(5),
        lambda: site().restore(RestoreRequest(SOURCE, "new", category_id=1)),
    ):
        with pytest.raises(AccessError, match="no token") as error:
            ask()
        assert error.value.code == "notoken"


# --- the exchange folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stat", "verdict"),
    [
        ("directory|2770|admin", Verdict.OK),
        ("directory|755|admin", Verdict.WARNING),
        ("directory|1777|root", Verdict.WARNING),
        ("directory|777|root", Verdict.WARNING),
        ("regular file|644|admin", Verdict.ERROR),
        ("", Verdict.ERROR),
    ],
)
def test_an_exchange_folder_open_to_others_is_warned_of(stat: str, verdict: Verdict) -> None:
    assert judge("/x", stat).verdict is verdict


def test_a_folder_where_others_could_change_files_is_told_from_one_where_they_could_read() -> None:
    assert "written to by everybody" in judge("/x", "directory|777|root").message
    assert "entered by everybody" in judge("/x", "directory|1777|root").message
