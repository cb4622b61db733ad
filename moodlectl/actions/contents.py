"""The contents of files, carried from one site's pool to another's: only what lacks there, each once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from moodlectl.actions.recording import recorded
from moodlectl.errors import Failed, OutcomeUnknown, Unreachable
from moodlectl.ledger import Item
from moodlectl.site.port import (
    Content,
    ContentsTaken,
    HeldContent,
    OnProgress,
    Pool,
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


@dataclass(frozen=True)
class How:
    """How contents travel: at most so many bytes a second (None: as fast as it goes), packed where that helps."""

    rate: float | None = None
    pack: bool = True


def carry(
    source: Pool,
    target: Pool,
    contents: Sequence[Content],
    how: How | None = None,
    on_progress: OnProgress = no_progress,
) -> Carried:
    """Send what the target lacks of those contents, going on where a connection was cut. Writes to the target's pool.

    Raises Failed ``content_missing`` where the source has lost one, ``content_damaged`` where what it sent was
    not what its hash says, Unreachable where a connection stays cut; Refused for want of space.
    """
    how, began = how or How(), time.monotonic()
    lacking = list(target.lacking(contents))
    carried = Carried(len(lacking), sum(one.size for one in lacking), 0, 0, 0, 0.0)
    total, tries = carried.wanted_bytes, 0
    while lacking:
        some = _some(lacking)
        counter = _Counter(how.rate)
        done = carried.bytes

        def told(step: Progress, done: int = done) -> None:
            on_progress(Progress("contents", done + step.done, total, "bytes"))

        try:
            taken = _stream(source, target, some, how, counter, told)
        except (Unreachable, OutcomeUnknown) as cut:
            # What is in the pool is whole, and only what is not there is sent again.
            arrived = _arrived(target, some)
            tries = 0 if arrived else tries + 1
            if tries >= _TRIES:
                raise Unreachable(
                    f"The contents do not get through: {cut.message}",
                    "What has arrived is kept and not sent again. Try again when the connection holds.",
                    code=cut.code,
                    details=cut.details,
                ) from cut
            taken = ContentsTaken(len(arrived), sum(one.size for one in arrived))
            time.sleep(2.0**tries / 4)
        else:
            tries = 0
            _refuse_bad(taken, some)
            arrived = some
        gone = set(arrived)
        lacking = [one for one in lacking if one not in gone]
        carried = Carried(
            carried.wanted,
            carried.wanted_bytes,
            carried.count + taken.count,
            carried.bytes + taken.bytes,
            carried.wire_bytes + counter.sent,
            time.monotonic() - began,
        )
    on_progress(Progress("contents", total, total, "bytes"))
    return carried


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


def _arrived(target: Pool, contents: Sequence[Content]) -> list[Content]:
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
            "Its file pool is damaged. Bring back the files there, or do without them: --allow without-files.",
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
        raise Failed(
            f"Of {len(contents)} contents {taken.count} arrived.", "Try again.", code="contents_cut"
        )


class _Counter:
    """Counts what goes over the wire, and holds it back where it would be faster than it may."""

    def __init__(self, rate: float | None) -> None:
        self.sent = 0
        self._rate, self._began = rate, time.monotonic()

    def __call__(self, size: int) -> None:
        self.sent += size
        if self._rate:
            ahead = self.sent / self._rate - (time.monotonic() - self._began)
            if ahead > 0:
                time.sleep(ahead)


def _stream(
    source: Pool, target: Pool, contents: Sequence[Content], how: How, counter: _Counter, on_progress: OnProgress
) -> ContentsTaken:
    def send(receive: Callable[[bytes], None]) -> None:
        source.send(contents, receive, pack=how.pack)

    stream = _sent(send, counter)
    try:
        return target.take(stream, contents, on_progress)
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
