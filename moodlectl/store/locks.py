"""Who is at work on a store: any number may add, only one may take away, and those who were killed hold nobody up."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from moodlectl.errors import AccessError, Failed, MoodlectlError, Refused
from moodlectl.store.places import Found, Place

LOCKS: Final = "locks"
STALE: Final = timedelta(minutes=30)
"""After so long without a sign of life a lock of another machine is nobody's any more."""

PATIENCE: Final = 3600.0
"""Seconds for which whoever adds or reads waits for one that takes away: a night's backup is not to fail for that."""

HURRY: Final = 300.0
"""Seconds for which whoever takes away waits for the others: that can be done at any time."""

_REFRESH: Final = 120.0


@dataclass(frozen=True)
class Lock:
    """A lock that is held. ``exclusive``: nobody else is at work."""

    place: Place
    name: str
    exclusive: bool

    def check(self) -> None:
        """Raise Failed where it is held no longer: this process was asleep for so long that it was thought dead."""
        if not self.place.sizes([self.name]):
            raise Failed(
                f"The store {self.place.address} was taken by somebody else while this process slept.",
                "Nothing in it is lost. Do it again.",
                code="store_lock_lost",
            )


@contextmanager
def locked(place: Place, *, exclusive: bool, patience: float | None = None) -> Iterator[Lock]:
    """Hold a lock of the store to the end of the block. Writes to the store. Raises Refused ``store_busy``."""
    lock = Lock(place, f"{LOCKS}/{uuid.uuid4().hex}.json", exclusive)
    over = threading.Event()
    refresher = threading.Thread(target=_refresh, args=(lock, over), name="store lock", daemon=True)
    try:
        _acquire(lock, time.monotonic() + ((HURRY if exclusive else PATIENCE) if patience is None else patience))
        refresher.start()
        yield lock
    finally:  # also of what Ctrl-C has broken off
        over.set()
        if refresher.is_alive():
            refresher.join(10)
        with suppress(MoodlectlError):
            place.remove([lock.name])


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """See to it that nothing is taken away to the end of the block; where one may not write, hope so."""
    with ExitStack() as stack:
        with suppress(AccessError):
            stack.enter_context(locked(place, exclusive=False))
        yield


def _acquire(lock: Lock, until: float) -> None:
    """Ours is written first, then the others' are read: of two that come at once at least one sees the other."""
    while True:
        lock.place.save(lock.name, _written(lock))
        holder = _in_the_way(lock)
        if holder is None:
            return
        lock.place.remove([lock.name])
        if time.monotonic() >= until:
            raise _busy(lock.place, holder)
        time.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - so that two do not keep meeting


def _in_the_way(lock: Lock) -> dict[str, Any] | None:
    """The holder of a lock that ours cannot be held beside; those of the dead are taken away."""
    found = list(lock.place.found(LOCKS))
    ours = next((one.modified for one in found if one.name == lock.name), datetime.now(UTC))
    for name, data in lock.place.load([one.name for one in found if one.name != lock.name]):
        if data is None:
            continue  # let go of meanwhile
        holder = _read(data)
        seen = next(one for one in found if one.name == name)
        if _is_dead(holder, seen, ours):
            lock.place.remove([name])
        elif lock.exclusive or holder.get("exclusive", True):
            return holder
    return None


def _read(data: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(data)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _written(lock: Lock) -> bytes:
    holder = {
        "exclusive": lock.exclusive,
        "machine": _machine(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "began": _began(os.getpid()),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(holder).encode()


def _is_dead(holder: dict[str, Any], seen: Found, now: datetime) -> bool:
    """Whether its process has ended: known at once on the same machine, after a while on another.

    Both times are the place's own, so that clocks may go wrong.
    """
    number = holder.get("process")
    if holder.get("machine") == _machine() and isinstance(number, int):
        return _began(number) != holder.get("began")
    return now - seen.modified > STALE


def _machine() -> str:
    """This machine since it was started, and within it the numbers of processes that we see."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _began(number: int) -> str | None:
    """When a process began, in the kernel's clock ticks; None where there is none."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc (macOS): that there is one has to do
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "-"


def _refresh(lock: Lock, over: threading.Event) -> None:
    while not over.wait(_REFRESH):
        with suppress(MoodlectlError):
            if lock.place.sizes([lock.name]):  # one that was taken from us is not taken back
                lock.place.save(lock.name, _written(lock))


def _busy(place: Place, holder: dict[str, Any]) -> Refused:
    who = f"process {holder.get('process')} on {holder.get('host')} since {holder.get('at')}"
    what = "takes backups away" if holder.get("exclusive", True) else "adds to it"
    return Refused(
        f"Somebody {what} in the store {place.address}: {who}.",
        f"Wait until it has ended. A lock of a machine that is gone counts for nothing after {STALE.seconds // 60} "
        "minutes.",
        code="store_busy",
        details={"holder": holder},
    )
