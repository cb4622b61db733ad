"""A stored backup restored on another site: its files' contents travel by themselves, and only those that lack there."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.actions import travelling
from moodlectl.actions.travelling import Road, travelled
from moodlectl.errors import AccessError, OutcomeUnknown, Refused
from moodlectl.site.port import BackupFile, BackupRequest, Content, CourseRef
from moodlectl.site.practice import PracticeSite


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[PracticeSite, PracticeSite]]:
    one, two = PracticeSite(tmp_path / "one"), PracticeSite(tmp_path / "two")
    # The second one starts with the same courses: it is made poor.
    for row in two.store.rows("SELECT DISTINCT contenthash FROM files"):
        two.store.content_path(row["contenthash"]).unlink(missing_ok=True)
    yield one, two
    one.close()
    two.close()


@pytest.fixture
def stored(sites: tuple[PracticeSite, PracticeSite]) -> BackupFile:
    courses = [(len(sites[0].pool().of_course(one.id)), one.id) for one in sites[0].courses()]
    return sites[0].backup(BackupRequest(max(courses)[1])).file


def contents(path: Path) -> list[Content]:
    return [Content(one.sha1, one.size) for one in mbz.pool_files(path)]


def test_what_lacks_is_in_the_targets_pool_while_it_is_restored_and_the_backup_carries_none(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile
) -> None:
    road = Road()
    with travelled(*sites, stored, road) as source:
        assert source.path is not None
        assert not mbz.inspect(source.path).include_files
        assert sites[1].pool().lacking(contents(source.path)) == []
        assert road.facts["contents_sent"] == len(contents(source.path)) > 0
    assert "were sent" in road.notes[0]


@pytest.mark.parametrize("error", [Refused("no"), AccessError("no")])
def test_nothing_stays_in_the_pool_of_a_restore_that_was_refused(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile, error: Exception
) -> None:
    with pytest.raises(type(error)), travelled(*sites, stored, Road()):
        assert sites[1].pool().held()
        raise error
    assert sites[1].pool().held() == []


@pytest.mark.parametrize("error", [OutcomeUnknown("?"), KeyboardInterrupt()])
def test_contents_stay_where_the_site_may_still_be_at_it(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile, error: BaseException
) -> None:
    with pytest.raises(type(error)), travelled(*sites, stored, Road()):
        raise error
    assert sites[1].pool().held()


def test_what_an_attempt_that_was_cut_off_has_sent_is_let_go_once_files_have_it(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile
) -> None:
    with pytest.raises(OutcomeUnknown), travelled(*sites, stored, Road()):
        raise OutcomeUnknown("?")
    held = {one.sha1 for one in sites[1].pool().held()}
    assert held
    claimed = {one.sha1 for one in sites[1].pool().held() if one.claimed}
    with travelled(*sites, stored, Road()) as source:
        assert source.path is not None
        assert {one.sha1 for one in contents(source.path)} >= held
    assert {one.sha1 for one in sites[1].pool().held()} == held - claimed


def test_a_full_disk_here_is_told_in_words_and_nothing_is_sent(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(travelling, "write_lean", full)
    with pytest.raises(Refused, match="There is no room in"), travelled(*sites, stored, Road()):
        pass
    assert sites[1].pool().held() == []


def test_in_one_piece_where_that_is_asked_for(sites: tuple[PracticeSite, PracticeSite], stored: BackupFile) -> None:
    with travelled(*sites, stored, Road(whole=True)) as source:
        assert source.path is not None
        assert mbz.inspect(source.path).include_files
    assert sites[1].pool().held() == []


@pytest.mark.parametrize("how", ["no longer has all", "has a damaged one"])
def test_in_one_piece_where_the_source_itself_has_lost_a_content_that_the_backup_holds(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile, how: str
) -> None:
    lost = sites[0].pool().of_course(stored.course_id)[0]
    path = sites[0].store.content_path(lost.sha1)
    path.unlink()
    if "damaged" in how:
        path.write_bytes(bytes(lost.size))
    road = Road()
    with travelled(*sites, stored, road) as source:
        assert source.path is not None
        assert mbz.inspect(source.path).include_files
        assert lost in contents(source.path)
        assert how in road.notes[-1]
        assert sites[1].pool().held() == []


def test_in_one_piece_where_a_pool_may_not_be_asked_and_the_reason_is_told(
    sites: tuple[PracticeSite, PracticeSite], stored: BackupFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AccessError("moodle/site:config is missing.")

    monkeypatch.setattr(sites[1], "pool", refuse)
    road = Road()
    with travelled(*sites, stored, road) as source:
        assert source.path is not None
        assert mbz.inspect(source.path).include_files
    assert "moodle/site:config is missing" in road.notes[0]
    assert sites[0].course(CourseRef("id", str(stored.course_id)))
