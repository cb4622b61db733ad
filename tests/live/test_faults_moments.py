"""Whoever is killed, and whenever: what became of a replace is found out, and the course comes back as it was.

Every moment of a replace, from the upload to the cleaning up, and every way in which the person's side or the host's
side goes away. The moment is held (by stopping the command, by a lock, by a plugin of the site that waits), so that
nothing here depends on how fast a machine is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import faults
import pytest
import rig
from faults import Account, Running
from scenes import Scene, break_at, kept_whole, scenes_at

from moodlectl import ledger

Fault = Callable[[Running, Account], None]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def scenes(
    moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Scene]]:
    with scenes_at(moodles, tmp_path_factory, "Moments") as scene_at:
        yield scene_at


@pytest.fixture
def scene(moodle: rig.LiveMoodle, scenes: Callable[[str], Scene]) -> Iterator[Scene]:
    yield from kept_whole(scenes(moodle.name))


@pytest.fixture
def plugin(scene: Scene) -> Iterator[faults.Plugin]:
    with faults.plugin(scene.desk.site) as found:
        yield found


# --- the person's side goes away ----------------------------------------------------------------------------------

KILL, INT, TERM, HUP, CUT = (faults.kill_client, faults.interrupt_client, faults.terminate_client,
                             faults.hang_up_on_client, faults.cut_connection)  # fmt: skip
STATUS = {KILL: (-9,), INT: (130,), TERM: (143,), HUP: (129,), CUT: (0, 1, 6)}
ALL = (KILL, INT, TERM, HUP, CUT)


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


def ended_as_it_should(scene: Scene, running: Running, fault: Fault) -> ledger.Job:
    status, out, error = running.ended()
    assert status in STATUS[fault], error
    assert (out == "") is (status != 0)
    return scene.resolved(running)


@pytest.mark.parametrize("fault", ALL, ids=named)
def test_while_the_safety_backup_is_made(scene: Scene, fault: Fault) -> None:
    running = scene.replace(stage="safety")
    break_at(scene, running, faults.executing(100), fault)
    assert ended_as_it_should(scene, running, fault).state == "failed"
    assert no_safety_left(running)


@pytest.mark.parametrize("fault", [KILL, INT, TERM, HUP], ids=named)
@pytest.mark.parametrize("moment", [faults.downloading, faults.verifying], ids=named)
def test_while_the_safety_backup_comes_down_and_is_checked(
    scene: Scene, moment: Callable[..., bool], fault: Fault
) -> None:
    running = scene.replace(stage="safety")
    running.until_here(moment)  # the command is stopped there, and goes on into the fault
    fault(running, {})
    running.process.send_signal(18)
    assert ended_as_it_should(scene, running, fault).state == "failed"
    assert no_safety_left(running)


def no_safety_left(running: Running) -> bool:
    """No file of a safety backup that nothing will need lies about here."""
    job = faults.newest_job(running.desk)
    return not list(running.safety.glob(f"job-{job.id}-*"))


@pytest.mark.parametrize("fault", ALL, ids=named)
@pytest.mark.parametrize("moment", [faults.uploading, faults.unpacking, faults.prechecking], ids=named)
def test_before_the_course_is_touched(scene: Scene, moment: faults.Moment, fault: Fault) -> None:
    running = scene.replace()
    break_at(scene, running, moment, fault)
    job = ended_as_it_should(scene, running, fault)
    assert job.state in ("failed", "done")  # the site may have had all it needed already


@pytest.mark.parametrize("fault", ALL, ids=named)
def test_while_the_course_is_emptied(scene: Scene, fault: Fault) -> None:
    with faults.held(scene.desk.site, "SELECT id FROM {course_modules} WHERE course = ?", scene.course):
        running = scene.replace()
        break_at(scene, running, faults.deleting, fault)
    job = ended_as_it_should(scene, running, fault)
    assert job.state == "done"  # nobody ends PHP in the middle of that: it carries on
    assert job.items[0].facts["safety"]


@pytest.mark.telling("middle-cut_connection", "end-terminate_client")
@pytest.mark.parametrize("fault", ALL, ids=named)
@pytest.mark.parametrize("moment", [1, 8, "end"], ids=["first", "middle", "end"])
def test_while_it_restores(scene: Scene, plugin: faults.Plugin, moment: int | str, fault: Fault) -> None:
    plugin.order(scene.course, moment, "hang")
    running = scene.replace()
    account = running.until_true(plugin.there)
    scene.seen(account)
    fault(running, account)
    if fault is not CUT:
        with contextlib.suppress(Exception):  # an interrupted command waits a while for the site; let it see it at work
            running.process.wait(1)
    plugin.go()
    assert ended_as_it_should(scene, running, fault).state == "done"


@pytest.mark.parametrize("fault", [KILL, INT, TERM, HUP, CUT], ids=named)
def test_while_it_cleans_up(scene: Scene, fault: Fault) -> None:
    running = scene.replace()
    break_at(scene, running, faults.done, fault)
    status, _, error = running.ended()
    assert status in (*STATUS[fault], 0), error  # it may have been quicker
    assert scene.resolved(running).state == "done"


@pytest.mark.parametrize("fault", ALL, ids=named)
def test_during_the_undo_itself(scene: Scene, plugin: faults.Plugin, fault: Fault) -> None:
    running = scene.replace()
    assert running.ended()[0] == 0
    first = faults.newest_job(scene.desk)
    plugin.order(scene.course, 8, "hang")
    undoing = faults.begin(scene.desk, "restore", "--undo", str(first.id), stage="undo")
    account = undoing.until_true(plugin.there)
    fault(undoing, account)
    if fault is not CUT:
        with contextlib.suppress(Exception):
            undoing.process.wait(1)
    plugin.go()
    status, _, error = undoing.ended()
    assert status in STATUS[fault], error
    job = faults.newest_job(scene.desk)
    if job.state == "unknown":
        told = scene.run("job", "resume", str(job.id))
        assert told["state"] == "done"
    assert faults.newest_job(scene.desk).state == "done"
    assert scene.unchanged() == []
    scene.is_tidy()


# --- the host's side goes away ------------------------------------------------------------------------------------

HOWS = ("fatal", "timeout", "exit", "exception", "error", "segfault")


@pytest.mark.telling("middle-fatal")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("moment", [1, 8, "end"], ids=["first", "middle", "end"])
def test_a_plugin_that_takes_php_down_and_put_back_at_once(
    scene: Scene, plugin: faults.Plugin, moment: int | str, how: str
) -> None:
    plugin.order(scene.course, moment, how)
    running = scene.replace("--auto-undo")
    put_back_by_itself(scene, running)


def put_back_by_itself(scene: Scene, running: Running) -> None:
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    told = json.loads(error[error.index('{"error"') :])["error"]
    assert told["details"].get("auto_undo") == "done", told
    job = faults.newest_job(scene.desk)
    assert (job.state, job.items[0].facts["undone"]) == ("failed", True)
    assert scene.unchanged() == []
    assert scene.compares_equal(job.items[0].facts["safety"])
    scene.is_tidy()


@pytest.mark.parametrize("how", ["fatal", "exit", "segfault"])
def test_an_undo_at_once_that_fails_as_well_is_told_and_done_by_hand(
    scene: Scene, plugin: faults.Plugin, how: str
) -> None:
    plugin.order(scene.course, 8, "hang")
    running = scene.replace("--auto-undo")
    account = running.until_true(plugin.there)
    plugin.order(scene.course, 8, how)  # for the undo
    faults.kill(account["pid"])
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    told = json.loads(error[error.index('{"error"') :])["error"]
    job = faults.newest_job(scene.desk)
    assert told["details"]["auto_undo"].startswith("failed: ")
    assert f"moodlectl restore --undo {job.id}" in told["hint"]
    assert scene.resolved(running).state == "failed"


def test_php_killed_while_the_safety_backup_is_made(scene: Scene) -> None:
    running = scene.replace(stage="safety")
    break_at(scene, running, faults.executing(100), faults.kill_php)
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    assert scene.resolved(running).state == "failed"
    assert no_safety_left(running)


def test_php_killed_at_the_end_and_put_back_at_once(scene: Scene, plugin: faults.Plugin) -> None:
    plugin.order(scene.course, "end", "hang")
    running = scene.replace("--auto-undo")
    account = running.until_true(plugin.there)
    faults.kill(account["pid"])
    put_back_by_itself(scene, running)


def test_php_killed_while_it_cleans_up_has_done_its_work(scene: Scene) -> None:
    running = scene.replace()
    break_at(scene, running, faults.done, faults.kill_php)
    status, out, error = running.ended()
    assert status == 0, error
    assert json.loads(out)["verified"]["ok"]
    assert scene.resolved(running).state == "done"


@pytest.mark.parametrize("moment", [1, "end"], ids=["first", "end"])
def test_a_database_that_hangs_up(scene: Scene, plugin: faults.Plugin, moment: int | str) -> None:
    plugin.order(scene.course, moment, "hang")
    running = scene.replace("--auto-undo")
    account = running.until_true(plugin.there)
    faults.end_database(running, account)
    plugin.go()
    put_back_by_itself(scene, running)


@pytest.mark.parametrize("seconds", [4])
def test_a_database_that_is_away_for_a_while(scene: Scene, plugin: faults.Plugin, seconds: int) -> None:
    plugin.order(scene.course, 8, "hang")
    running = scene.replace("--auto-undo")
    running.until_true(plugin.there)
    with faults.no_database(scene.desk.site):
        plugin.go()
        with contextlib.suppress(Exception):
            running.process.wait(seconds)
    put_back_by_itself(scene, running)


# --- merging, and new courses -------------------------------------------------------------------------------------


@pytest.mark.telling("exit")
@pytest.mark.parametrize("how", HOWS)
def test_a_merge_that_breaks_off_is_put_back_at_once(scene: Scene, plugin: faults.Plugin, how: str) -> None:
    plugin.order(scene.course, 8, how)
    running = scene.merge("--auto-undo")
    put_back_by_itself(scene, running)


@pytest.mark.parametrize("fault", ALL, ids=named)
def test_a_merge_whose_person_goes_away(scene: Scene, plugin: faults.Plugin, fault: Fault) -> None:
    plugin.order(scene.course, 8, "hang")
    running = scene.merge()
    account = running.until_true(plugin.there)
    fault(running, account)
    if fault is not CUT:
        with contextlib.suppress(Exception):
            running.process.wait(1)
    plugin.go()
    assert ended_as_it_should(scene, running, fault).state == "done"


@pytest.mark.telling("end-timeout")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("moment", [1, "end"], ids=["first", "end"])
def test_a_new_course_that_breaks_off_leaves_no_trace(
    scene: Scene, plugin: faults.Plugin, moment: int | str, how: str
) -> None:
    plugin.order(0, moment, how)
    running = scene.new("--shortname", f"broken-{how}-{moment}")
    leaves_no_trace(scene, running)


def leaves_no_trace(scene: Scene, running: Running) -> None:
    status, out, error = running.ended()
    assert (status, out) == (1, ""), error
    job = faults.newest_job(scene.desk)
    assert job.state == "failed"
    scene.is_tidy()


@pytest.mark.parametrize("fault", [faults.end_database, faults.take_memory], ids=named)
def test_a_new_course_on_a_host_that_runs_out(scene: Scene, plugin: faults.Plugin, fault: Fault) -> None:
    plugin.order(0, 1, "hang")
    running = scene.new("--shortname", f"broken-{fault.__name__}")
    account = running.until_true(plugin.there)
    fault(running, account)
    plugin.go()
    leaves_no_trace(scene, running)


def test_a_new_course_for_which_the_disk_is_too_small(scene: Scene) -> None:
    with faults.full_disk(scene.desk.site, scene.big_hash):
        running = scene.new("--shortname", "broken-disk")
        scene.seen(running.until(faults.executing(1)))
        leaves_no_trace(scene, running)


def test_a_new_course_while_the_database_is_away(scene: Scene, plugin: faults.Plugin) -> None:
    plugin.order(0, 8, "hang")
    running = scene.new("--shortname", "broken-away")
    running.until_true(plugin.there)
    with faults.no_database(scene.desk.site):
        plugin.go()
        with contextlib.suppress(Exception):
            running.process.wait(4)
    leaves_no_trace(scene, running)
