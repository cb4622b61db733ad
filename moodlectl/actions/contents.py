"""The contents of files, carried from one site's pool to another's: only what lacks there, each once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from moodlectl.actions.recording import recorded
from moodlectl.actions.steps import Later
from moodlectl.errors import AccessError, Failed, OutcomeUnknown, Refused, Unreachable
from moodlectl.ledger import Item
from moodlectl.site.port import (
    Content,
    ContentsTaken,
    HeldContent,
    OnProgress,
    Progress,
    Site,
    no_progress,
)

_AHEAD = 16
"""Pieces that may wait between the sender and the taker."""

_TRIES = 5
"""How often in a row a cut connection may bring nothing before it is given up."""

_BATCH = 64 << 20
"""Bytes of contents in one stream; what is whole in it is never sent again."""


@dataclass(frozen=True)
class Carried:
    """What was carried: how many contents and bytes, of those that were wanted; over the wire went fewer."""

    wanted: int
    wanted_bytes: int
    count: int
    bytes: int
    wire_bytes: int
    seconds: float


class Traffic:
    """What all courses of a batch share: which contents are on their way just now, and how fast all together may go.

    ``rate`` is bytes a second, None as fast as it goes. May be used by several threads at once.
    """

    def __init__(self, rate: float | None = None) -> None:
        self._rate, self._free_at = rate, 0.0
        self._lock = threading.Condition()
        self._under_way: set[str] = set()
        self._arrived: set[str] = set()

    def not_yet(self, contents: Sequence[Content]) -> list[Content]:
        """Those of them that nobody has brought since the batch began."""
        with self._lock:
            return [one for one in contents if one.sha1 not in self._arrived]

    def claim(self, contents: Sequence[Content]) -> list[Content]:
        """Those of them that nobody else sends just now; they are the caller's until ``let_go``."""
        with self._lock:
            ours = [one for one in contents if one.sha1 not in self._under_way]
            self._under_way |= {one.sha1 for one in ours}
            return ours

    def let_go(self, contents: Sequence[Content], *, arrived: bool = False) -> None:
        """They have arrived, or will not by the caller."""
        names = {one.sha1 for one in contents}
        with self._lock:
            self._under_way -= names
            if arrived:
                self._arrived |= names
            self._lock.notify_all()

    def wait(self, contents: Sequence[Content]) -> None:
        """Until one of those that others send is no longer under way."""
        names = {one.sha1 for one in contents}
        with self._lock:
            while names <= self._under_way:
                self._lock.wait(5.0)

    def some_free(self, contents: Sequence[Content]) -> bool:
        """Whether not all of them are being sent just now."""
        with self._lock:
            return not {one.sha1 for one in contents} <= self._under_way

    def hold_back(self, size: int) -> None:
        """Wait as long as so many bytes take at the rate of all together."""
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            ahead = self._free_at - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


@dataclass(frozen=True)
class How:
    """How contents travel: beside which others, and packed where that helps.

    ``waits``: where others bring all that is wanted just now, it is waited for; else Later is raised.
    """

    traffic: Traffic = field(default_factory=Traffic)
    pack: bool = True
    waits: bool = True


class Giver(Protocol):
    """What sends contents: a site's pool (``port.Pool``), or a store."""

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None: ...


class Taker(Protocol):
    """What takes them."""

    def lacking(self, contents: Sequence[Content]) -> Sequence[Content]: ...

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken: ...


def why_not(source: Site, target: Site, *, makes: bool = True) -> str | None:
    """Why contents cannot travel by themselves between two sites, in a sentence; None where they can. Reads only.

    ``makes``: the source is to make a backup without files for it. Raises Unreachable.
    """
    try:
        target.pool().lacking(())
    except (AccessError, Refused) as error:
        return f"{target.name}: {error.message}"
    return why_not_from(source, makes=makes)


def why_not_from(source: Site, *, makes: bool = True) -> str | None:
    """Why the contents of a site's courses cannot travel by themselves, None where they can. Reads only."""
    try:
        source.pool().lacking(())
        if not makes:
            return None
        files = next((one for one in source.backup_settings(None) if one.name == "files"), None)
    except (AccessError, Refused) as error:
        return f"{source.name}: {error.message}"
    if files is None or files.locked_by in ("config", "permission"):
        return f"{source.name}: the setting 'files' of backups cannot be switched off there."
    return None


def carry(
    source: Giver,
    target: Taker,
    contents: Sequence[Content],
    how: How | None = None,
    on_progress: OnProgress = no_progress,
) -> Carried:
    """Send what the target lacks of those contents, going on where a connection was cut. Writes to the target's pool.

    Raises Later where ``how`` says so, Failed ``content_missing`` where the source has lost one, ``content_damaged``
    where what it sent was not what its hash says, Unreachable where a connection stays cut; Refused for want of space.
    """
    how, began = how or How(), time.monotonic()
    wanted = lacking = list(target.lacking(contents))
    total, tally = sum(one.size for one in wanted), _Tally()
    while lacking:
        ours = how.traffic.claim(lacking)
        if not ours and not how.waits and not tally.count:
            raise Later(partial(how.traffic.some_free, lacking))
        if not ours:
            how.traffic.wait(lacking)
        else:
            some, arrived = _some(ours), False
            how.traffic.let_go(ours[len(some) :])
            try:
                more = max(0, total - tally.bytes - sum(one.size for one in some))
                _batch(source, target, some, _Way(how, _Told(on_progress, tally, total), more))
                arrived = True
            finally:
                how.traffic.let_go(some, arrived=arrived)
        lacking = how.traffic.not_yet(lacking)
    on_progress(Progress("contents", total, total, "bytes"))
    return Carried(len(wanted), total, tally.count, tally.bytes, tally.wire, time.monotonic() - began)


@dataclass
class _Tally:
    """What this course has brought so far."""

    count: int = 0
    bytes: int = 0
    wire: int = 0


@dataclass(frozen=True)
class _Told:
    """Who is told how far it is, and what was brought before."""

    on_progress: OnProgress
    tally: _Tally
    total: int

    def __call__(self, step: Progress) -> None:
        self.on_progress(Progress("contents", min(self.tally.bytes + step.done, self.total), self.total, "bytes"))


@dataclass(frozen=True)
class _Way:
    """How a batch of contents travels, who is told, and how many bytes are to come after it."""

    how: How
    told: _Told
    more: int


def _batch(source: Giver, target: Taker, contents: Sequence[Content], way: _Way) -> None:
    """Bring those contents, in as many streams as a bad connection makes of it."""
    left, tries, told = list(contents), 0, way.told
    while left:
        counter = _Counter(way.how.traffic)
        try:
            taken = _stream(source, target, left, way, counter)
        except (Unreachable, OutcomeUnknown) as cut:
            # What is in the pool is whole, and only what is not there is sent again.
            arrived = _arrived(target, left)
            tries = 0 if arrived else tries + 1
            if tries >= _TRIES:
                raise Unreachable(
                    f"The contents do not get through: {cut.message}",
                    "What has arrived is kept and not sent again. Try again when the connection holds.",
                    code=cut.code,
                    details=cut.details,
                ) from cut
            time.sleep(2.0**tries / 4)
        else:
            _refuse_bad(taken, left)
            arrived = left
        gone = set(arrived)
        left = [one for one in left if one not in gone]
        told.tally.count += len(arrived)
        told.tally.bytes += sum(one.size for one in arrived)
        told.tally.wire += counter.sent


def held(site: Site, *, unclaimed: bool = False) -> Sequence[HeldContent]:
    """What was put into the site's pool ahead, oldest first; with ``unclaimed`` what no file has by now. Reads only."""
    return [one for one in site.pool().held() if not (unclaimed and one.claimed)]


def remove(site: Site, contents: Sequence[HeldContent]) -> int:
    """Take contents out that no course has claimed; those claimed meanwhile stay with their files. Writes to the site.

    Returns how many went. Raises Failed where one is still there afterwards.
    """
    names = [one.sha1 for one in contents]
    item = Item(1, "", "contents", "planned", target=site.name, facts={"contents": len(names)})
    with recorded(site, "contents", item, {"remove": len(names)}) as entry:
        pool = site.pool()
        gone = pool.release(names, unclaimed=True)
        left = {one.sha1 for one in pool.held()} & set(names)
        if left:
            raise Failed(
                f"{len(left)} of {len(names)} contents are still there.", "Try again.", code="contents_left",
                details={"contents": sorted(left)[:50]},
            )  # fmt: skip
        entry.end("done", removed=gone)
    return gone


def _arrived(target: Taker, contents: Sequence[Content]) -> list[Content]:
    """What of a broken stream is in the pool; nothing while the target cannot be asked."""
    try:
        left = set(target.lacking(contents))
    except Unreachable:
        return []
    return [one for one in contents if one not in left]


def _some(contents: Sequence[Content]) -> list[Content]:
    """The first of them, as many as make up one stream."""
    found, size = [], 0
    for one in contents:
        found.append(one)
        size += one.size
        if size >= _BATCH:
            break
    return found


def _refuse_bad(taken: ContentsTaken, contents: Sequence[Content]) -> None:
    if taken.missing:
        raise Failed(
            f"The site the contents come from has lost {len(taken.missing)} of them: {', '.join(taken.missing[:3])}.",
            "Its file pool is damaged. Bring back the files there, or do without them: --allow without-files",
            code="content_missing",
            details={"contents": list(taken.missing)},
        )
    if taken.refused:
        raise Failed(
            f"{len(taken.refused)} contents were not what their sha1 says and were refused: "
            f"{', '.join(taken.refused[:3])}.",
            "The file pool they come from is damaged: Moodle's admin/cli/checkfiles.php names its files.",
            code="content_damaged",
            details={"contents": list(taken.refused)},
        )
    if taken.count != len(contents):
        raise Failed(f"Of {len(contents)} contents {taken.count} arrived.", "Try again.", code="contents_cut")


class _Counter:
    """Counts what goes over the wire, and holds it back where it would be faster than it may."""

    def __init__(self, traffic: Traffic) -> None:
        self.sent = 0
        self._traffic = traffic

    def __call__(self, size: int) -> None:
        self.sent += size
        self._traffic.hold_back(size)


def _stream(source: Giver, target: Taker, contents: Sequence[Content], way: _Way, counter: _Counter) -> ContentsTaken:
    def send(receive: Callable[[bytes], None]) -> None:
        source.send(contents, receive, pack=way.how.pack)

    stream = _sent(send, counter)
    try:
        return target.take(stream, contents, way.told, more=way.more)
    finally:
        stream.close()


class _GivenUp(Exception):
    """Nobody takes what is sent any more."""


def _sent(send: Callable[[Callable[[bytes], None]], None], counter: _Counter) -> Generator[bytes]:
    """What a sender sends, in a thread of its own, as something to be read; its trouble is raised where it is read."""
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    over = threading.Event()

    def put(piece: bytes | BaseException | None) -> None:
        while not over.is_set():
            try:
                waiting.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue
        raise _GivenUp

    def receive(piece: bytes) -> None:
        counter(len(piece))
        put(bytes(piece))

    def run() -> None:
        try:
            send(receive)
            put(None)
        except _GivenUp:
            return
        except BaseException as trouble:
            try:
                put(trouble)
            except _GivenUp:
                return

    thread = threading.Thread(target=run, name="contents", daemon=True)
    thread.start()
    try:
        while (piece := waiting.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        over.set()
        thread.join(30)
