"""Many may add at once, one alone may take away, and the dead hold nobody up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from moodlectl.errors import Failed, Refused
from moodlectl.store import Store, adding, locks, open_store, pruning
from moodlectl.store.locks import locked, reading
from tests.backups import DAY, make_backup
from tests.unit.store.keeping import add, kept, names, whole


def held(store: Store) -> list[str]:
    return [one for one in names(store) if one.startswith("locks/")]


def test_several_add_at_once_and_one_alone_takes_away(store: Store) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(locked(store.place, exclusive=False))
        with pytest.raises(Refused) as busy, locked(store.place, exclusive=True, patience=0):
            pass
        assert busy.value.code == "store_busy"
        assert str(os.getpid()) in busy.value.message
        assert len(held(store)) == 3
    assert held(store) == []
    with locked(store.place, exclusive=True):
        for exclusive in (True, False):
            with pytest.raises(Refused), locked(store.place, exclusive=exclusive, patience=0):
                pass
    assert held(store) == []


def test_letting_go_leaves_the_folder_that_another_may_be_about_to_write_to(folder: Store) -> None:
    with locked(folder.place, exclusive=True):
        pass
    assert (Path(folder.address) / "locks").is_dir()


def test_whoever_waits_gets_it_when_the_other_has_ended(folder: Store) -> None:
    order: list[str] = []

    def add_slowly() -> None:
        with locked(folder.place, exclusive=False):
            order.append("adds")
            inside.set()
            time.sleep(0.5)
            order.append("added")

    inside = threading.Event()
    thread = threading.Thread(target=add_slowly)
    thread.start()
    inside.wait(10)
    with locked(folder.place, exclusive=True):
        order.append("takes away")
    thread.join()
    assert order == ["adds", "added", "takes away"]


def test_of_many_that_want_it_alone_never_two_have_it(folder: Store) -> None:
    inside, most, done = [0], [0], [0]

    def work() -> None:
        with locked(folder.place, exclusive=True, patience=60):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1
            done[0] += 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], done[0]) == (1, 5)


HOLD = """
import sys, time
from moodlectl.store import open_store
from moodlectl.store.locks import locked
with locked(open_store(sys.argv[1]).place, exclusive=True):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_process_that_was_killed_counts_for_nothing_at_once(folder: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder.address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Refused), locked(folder.place, exclusive=False, patience=0):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(held(folder)) == 1
    with locked(folder.place, exclusive=True, patience=0):
        assert len(held(folder)) == 1
    assert held(folder) == []


def test_the_lock_of_another_machine_counts_until_it_has_given_no_sign_for_half_an_hour(folder: Store) -> None:
    theirs = {"exclusive": True, "machine": "elsewhere", "host": "elsewhere", "process": 1, "began": "1", "at": "then"}
    folder.place.save("locks/theirs.json", json.dumps(theirs).encode())
    with pytest.raises(Refused) as busy, locked(folder.place, exclusive=False, patience=0):
        pass
    assert "elsewhere" in busy.value.message
    path = Path(folder.address) / "locks" / "theirs.json"
    for minutes, free in ((29, False), (31, True)):
        then = time.time() - minutes * 60
        os.utime(path, (then, then))
        if free:
            with locked(folder.place, exclusive=False, patience=0):
                assert not path.exists()
        else:
            with pytest.raises(Refused), locked(folder.place, exclusive=False, patience=0):
                pass


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b'{"exclusive": false}'])
def test_a_lock_that_cannot_be_read_is_heeded_like_any_other(folder: Store, data: bytes) -> None:
    folder.place.save("locks/odd.json", data)
    with pytest.raises(Refused), locked(folder.place, exclusive=True, patience=0):
        pass


def test_a_lock_gives_signs_of_life(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_REFRESH", 0.05)
    with locked(folder.place, exclusive=False) as lock:
        path = Path(folder.address) / lock.name
        os.utime(path, (0, 0))
        until = time.monotonic() + 10
        while path.stat().st_mtime < 1 and time.monotonic() < until:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1
        path.unlink()  # taken from us
        time.sleep(0.2)
        assert not path.exists()
        with pytest.raises(Failed):
            lock.check()


def test_whoever_slept_so_long_that_the_lock_was_taken_brings_nothing_in(
    folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_backup(tmp_path / "1.mbz", {"a": b"a"})
    real = adding.needed_by

    def sleeps(lean: Path) -> object:
        for name in held(folder):
            folder.place.remove([name])
        return real(lean)

    monkeypatch.setattr(adding, "needed_by", sleeps)
    with pytest.raises(Failed) as failed:
        add(folder, path)
    assert failed.value.code == "store_lock_lost"
    assert kept(folder) == set()


def test_a_content_taken_away_behind_the_back_of_who_adds_takes_the_backup_back(
    folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_backup(tmp_path / "1.mbz", {"a": b"a"})
    real = type(folder.place).save

    def save(place: object, name: str, data: bytes) -> None:
        real(place, name, data)  # type: ignore[arg-type]
        if name.endswith("entry.json"):
            folder.place.remove([one for one in names(folder) if one.startswith("contents/")])

    monkeypatch.setattr(type(folder.place), "save", save)
    with pytest.raises(Exception, match="gone from the store"):
        add(folder, path)
    assert kept(folder) == set()


def test_reading_needs_no_right_to_write(folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moodlectl.errors import AccessError

    def refuse(*_: object) -> None:
        raise AccessError("read-only")

    monkeypatch.setattr(type(folder.place), "save", refuse)
    with reading(folder.place):
        pass


@pytest.mark.parametrize("rounds", [6])
def test_adding_and_pruning_at_once_loses_nothing(tmp_path: Path, rounds: int) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    pool = {f"{n}": bytes([97 + n]) * 50_000 for n in range(4)}
    errors: list[BaseException] = []

    def tried(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)

        return run

    def adds(who: int) -> Callable[[], None]:
        def work() -> None:
            for night in range(rounds):
                held = {name: data for name, data in pool.items() if (int(name) + night + who) % 3}
                path = tmp_path / f"{who}-{night}.mbz"
                add(store, make_backup(path, held, course=who, date=DAY + timedelta(days=night)))

        return work

    def prunes() -> None:
        for _ in range(rounds):
            found = pruning.judge(store.entries(), pruning.Keep(1, pruning.parse_span("1h")), DAY + timedelta(days=99))
            pruning.take_away(store, [one.entry for one in found if not one.reasons])
            time.sleep(0.1)

    threads = [threading.Thread(target=tried(work)) for work in (adds(1), adds(2), prunes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = whole(store)
    assert {(one.course_id, one.when) for one in store.entries()} >= {
        (who, DAY + timedelta(days=rounds - 1)) for who in (1, 2)
    }
    assert found.backups >= 2
