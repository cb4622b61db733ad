"""A replace that is broken at any moment: each time the course comes back as it was, and nothing lies about."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import faults
import pytest
import rig
from faults import Account, Moment, Running
from scenes import Scene, break_at, kept_whole, scenes_at

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def scenes(
    moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Scene]]:
    with scenes_at(moodles, tmp_path_factory, "Faults") as scene_at:
        yield scene_at


@pytest.fixture
def scene(moodle: rig.LiveMoodle, scenes: Callable[[str], Scene]) -> Iterator[Scene]:
    yield from kept_whole(scenes(moodle.name))


# --- before anything was changed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", [faults.uploading, faults.unpacking, faults.prechecking], ids=lambda moment: moment.__name__
)
def test_php_killed_before_the_course_was_touched_changes_nothing(scene: Scene, moment: Moment) -> None:
    running = scene.replace()
    break_at(scene, running, moment, faults.kill_php)
    status, out, error = running.ended()
    assert (status, out) == (6, ""), error
    assert faults.newest_job(scene.desk).state == "failed"
    assert scene.unchanged() == []
    scene.is_tidy()


def test_a_client_killed_while_it_uploads_leaves_nothing(scene: Scene) -> None:
    running = scene.replace()
    account = break_at(scene, running, faults.uploading, faults.kill_client)
    running.gone(account["pid"])
    job = faults.newest_job(scene.desk)
    assert job.state == "unknown"
    failed = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id))
    assert failed.status == 1, failed.stderr
    assert faults.newest_job(scene.desk).state == "failed"
    assert scene.unchanged() == []
    scene.is_tidy()


# --- PHP is killed in the middle ----------------------------------------------------------------------------------


def test_php_killed_as_it_begins_to_empty_the_course_and_put_back_at_once(scene: Scene) -> None:
    with faults.held(scene.desk.site, "SELECT id FROM {course_modules} WHERE course = ?", scene.course):
        running = scene.replace("--auto-undo")
        break_at(scene, running, faults.deleting, faults.kill_php)
    _put_back_by_itself(scene, running)


@pytest.mark.parametrize("thousandths", [1, 400, 700])
def test_php_killed_while_it_restores_and_put_back_at_once(scene: Scene, thousandths: int) -> None:
    running = scene.replace("--auto-undo")
    break_at(scene, running, faults.executing(thousandths), faults.kill_php)
    _put_back_by_itself(scene, running)


def _put_back_by_itself(scene: Scene, running: Running) -> None:
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    told = json.loads(error[error.index('{"error"') :])["error"]
    assert told["details"]["auto_undo"] == "done"
    assert "put back, and is as it was" in told["message"]
    job = faults.newest_job(scene.desk)
    assert (job.state, job.items[0].facts["undone"]) == ("failed", True)
    assert scene.unchanged() == []
    scene.is_tidy()


@pytest.mark.telling
def test_php_killed_in_the_middle_is_told_with_the_way_back(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.executing(300), faults.kill_php)
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    told = json.loads(error[error.index('{"error"') :])["error"]
    job = faults.newest_job(scene.desk)
    assert told["details"]["put_back"] == f"moodlectl restore --undo {job.id}"
    assert Path(told["details"]["safety_backup"]).is_file()
    assert scene.unchanged() != []
    scene.is_tidy()
    scene.undo(job.id)
    assert scene.unchanged() == []


def test_client_and_php_both_killed_are_found_out_and_put_back_by_resume(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.executing(300), faults.kill_both)
    job = faults.newest_job(scene.desk)
    assert job.state == "unknown"
    told = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id), "--undo")
    assert told.status == 1, told.stderr
    assert told.error["details"]["verified"]["ok"]
    assert scene.unchanged() == []
    scene.is_tidy()
    again = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id))
    assert again.status == 1
    assert "undo" not in (again.error["hint"] or "")


def test_an_undo_that_is_killed_itself_is_done_once_more(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.executing(300), faults.kill_php)
    running.ended()
    job = faults.newest_job(scene.desk)
    undoing = faults.begin(scene.desk, "restore", "--undo", str(job.id), stage="undo")
    break_at(scene, undoing, faults.executing(300), faults.kill_both)
    second = faults.newest_job(scene.desk)
    assert (second.kind, second.state) == ("undo", "unknown")
    told = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(second.id), "--undo")
    assert told.status == 1, told.stderr
    assert scene.unchanged() == []
    scene.is_tidy()


# --- the client or the connection goes away, the site carries on --------------------------------------------------


def test_a_connection_cut_while_the_course_is_emptied_is_seen_through(scene: Scene) -> None:
    with faults.held(scene.desk.site, "SELECT id FROM {course_modules} WHERE course = ?", scene.course):
        running = scene.replace()
        break_at(scene, running, faults.deleting, faults.cut_connection)
    status, out, error = running.ended()
    assert status == 0, error
    done = json.loads(out)
    assert done["verified"]["ok"]
    assert faults.newest_job(scene.desk).state == "done"
    scene.is_tidy()
    scene.undo(done["job"])
    assert scene.unchanged() == []


@pytest.mark.telling
def test_a_client_killed_in_the_middle_is_resumed_to_a_verified_end(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.executing(300), faults.kill_client)
    job = faults.newest_job(scene.desk)
    assert job.state == "unknown"
    told = scene.run("job", "resume", str(job.id))
    assert (told["state"], told["course"]["id"]) == ("done", scene.course)
    assert faults.newest_job(scene.desk).state == "done"
    scene.is_tidy()
    scene.undo(job.id)
    assert scene.unchanged() == []


def test_an_interrupted_client_lets_the_site_finish_and_says_how_to_find_out(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.executing(300), faults.interrupt_client)
    status, _, error = running.ended()
    assert status == 130, error
    job = faults.newest_job(scene.desk)
    assert f"moodlectl job resume {job.id}" in error
    assert scene.run("job", "resume", str(job.id))["state"] == "done"
    scene.is_tidy()
    scene.undo(job.id)
    assert scene.unchanged() == []


def test_an_answer_that_nobody_heard_is_known_all_the_same(scene: Scene) -> None:
    running = scene.replace()
    running.until(faults.executing(300))
    running.process.send_signal(19)  # it hears no more
    account = running.until(faults.done)
    faults.kill_client(running, account)
    job = faults.newest_job(scene.desk)
    assert scene.run("job", "resume", str(job.id))["state"] == "done"
    scene.is_tidy()
    scene.undo(job.id)
    assert scene.unchanged() == []


# --- what a host runs out of --------------------------------------------------------------------------------------


def test_a_database_that_hangs_up_in_the_middle(scene: Scene) -> None:
    running = scene.replace("--auto-undo")
    break_at(scene, running, faults.executing(300), faults.end_database)
    _put_back_by_itself(scene, running)


@pytest.mark.telling
def test_a_disk_that_is_full_in_the_middle(scene: Scene) -> None:
    with faults.full_disk(scene.desk.site, scene.big_hash):
        running = scene.replace("--auto-undo", "--overwrite-config")  # the big file is of its settings
        scene.seen(running.until(faults.executing(1)))
        _put_back_by_itself(scene, running)


@pytest.mark.parametrize(
    "moment", [faults.uploading, faults.unpacking, faults.prechecking, faults.executing(300)],
    ids=["uploading", "unpacking", "prechecking", "executing"])  # fmt: skip
def test_a_disk_for_temporary_files_that_is_full_all_of_a_sudden(scene: Scene, moment: Moment) -> None:
    with faults.small_temp(scene.desk.site) as fill:
        running = scene.replace("--auto-undo")
        break_at(scene, running, moment, fill)
        status, _, error = running.ended()
        assert running.relief is not None
        running.relief.unlink()
        assert scene.resolved(running).state == ("done" if status == 0 else "failed"), error
        if moment is faults.uploading:  # later on it may have all it needs
            assert status == 5 and "room" in error, error


def test_memory_that_runs_out_in_the_middle(scene: Scene) -> None:
    running = scene.replace("--auto-undo")
    break_at(scene, running, faults.executing(100), faults.take_memory)
    status, _, error = running.ended()
    if status == 0:  # it needed no more than it had
        scene.undo(faults.newest_job(scene.desk).id)
        pytest.fail("the memory taken was not missed; nothing was tested")
    assert status == 1, error
    assert faults.newest_job(scene.desk).items[0].facts["undone"] is True
    assert scene.unchanged() == []
    scene.is_tidy()


# --- new courses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.kill_php, faults.cut_connection, faults.interrupt_client, faults.kill_both,
                                   faults.kill_client], ids=lambda fault: fault.__name__)  # fmt: skip
@pytest.mark.parametrize("thousandths", [1, 400])
def test_a_new_course_broken_off_leaves_no_trace(
    scene: Scene, fault: Callable[[Running, Account], None], thousandths: int
) -> None:
    running = scene.new("--shortname", f"broken-{fault.__name__}-{thousandths}")
    account = break_at(scene, running, faults.executing(thousandths), fault)
    status, out, error = running.ended()
    assert (status, out) in ((1, ""), (130, ""), (-9, "")), error
    job = faults.newest_job(scene.desk)
    if job.state == "unknown":
        with contextlib.suppress(AssertionError):
            running.gone(account["pid"])
        told = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id))
        assert told.status == 1, told.stderr
    assert faults.newest_job(scene.desk).state == "failed"
    scene.is_tidy()


# --- backups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.kill_php, faults.cut_connection, faults.kill_client, faults.kill_both],
                         ids=lambda fault: fault.__name__)  # fmt: skip
def test_a_backup_broken_off_leaves_no_trace(scene: Scene, fault: Callable[[Running, Account], None]) -> None:
    running = faults.begin(scene.desk, "backup", "create", f"id:{scene.course}", stage="backup")
    account = break_at(scene, running, faults.executing(1), fault)
    status, out, error = running.ended()
    assert (status, out) in ((1, ""), (-9, "")), error
    job = faults.newest_job(scene.desk)
    if job.state == "unknown":
        told = scene.desk.run("--site", "live", "-o", "json", "job", "resume", str(job.id))
        assert told.status == 1, told.stderr
    assert faults.newest_job(scene.desk).state == "failed"
    running.gone(account["pid"])
    assert scene.unchanged() == []  # its stored backups, too
    scene.is_tidy()
