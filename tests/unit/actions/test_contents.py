"""Contents carried from pool to pool: each once, going on where a connection was cut."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from moodlectl.actions import contents as carrying
from moodlectl.actions.contents import How, carry
from moodlectl.errors import Failed, OutcomeUnknown, Unreachable
from moodlectl.site.contents import packed
from moodlectl.site.port import Content, ContentsTaken, OnProgress, Pool, Progress, no_progress
from moodlectl.site.practice import PracticeSite


def content(data: bytes) -> Content:
    return Content(hashlib.sha1(data, usedforsecurity=False).hexdigest(), len(data))


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[tuple[Pool, Pool]]:
    one, two = PracticeSite(tmp_path / "one"), PracticeSite(tmp_path / "two")
    yield one.pool(), two.pool()
    one.close()
    two.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def put(pool: Pool, *data: bytes) -> list[Content]:
    found = [content(one) for one in data]
    pool.take((piece for one in data for piece in packed(content(one), [one])), found)
    return found


class Cut:
    """A pool whose connection breaks, either way, after so many bytes each time it is used; ``sent`` counts them."""

    def __init__(self, pool: Pool, after: int, error: type[Exception] = Unreachable) -> None:
        self.pool, self.after, self.error = pool, after, error
        self.sent = 0
        self.lacking, self.held, self.release = pool.lacking, pool.held, pool.release

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        left = self.after

        def some(piece: bytes) -> None:
            nonlocal left
            if left < len(piece):
                raise self.error("cut")
            left -= len(piece)
            self.sent += len(piece)
            receive(piece)

        self.pool.send(contents, some, pack=pack)

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken:
        def some() -> Iterator[bytes]:
            left = self.after
            for piece in stream:
                if left < len(piece):
                    raise self.error("cut")
                left -= len(piece)
                yield piece

        return self.pool.take(some(), coming, on_progress, more=more)


def test_only_what_lacks_travels_and_progress_ends_at_the_end(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    data = [os.urandom(50_000) for _ in range(5)]
    all_ = put(source, *data)
    put(target, *data[:2])
    seen: list[Progress] = []
    done = carry(source, target, all_, How(pack=False), seen.append)
    assert (done.wanted, done.count, done.bytes) == (3, 3, 150_000)
    assert 150_000 < done.wire_bytes < 151_000
    assert (seen[-1].done, seen[-1].total) == (150_000, 150_000)
    assert carry(source, target, all_).wire_bytes == 0


@pytest.mark.parametrize("error", [Unreachable, OutcomeUnknown])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_cut_connection_goes_on_where_it_stopped_and_nothing_whole_is_sent_again(
    pools: tuple[Pool, Pool], side: str, error: type[Exception]
) -> None:
    source, target = pools
    all_ = put(source, *(os.urandom(20_000) for _ in range(10)))
    cut = Cut(source if side == "source" else target, 45_000, error)
    done = carry(cut, target, all_) if side == "source" else carry(source, cut, all_)
    assert (done.count, done.bytes) == (10, 200_000)
    assert list(target.lacking(all_)) == []
    if side == "source":
        assert cut.sent < 2 * 200_000


def test_a_connection_that_stays_cut_is_given_up_with_what_arrived_kept(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    all_ = put(source, os.urandom(1000), os.urandom(60_000))
    with pytest.raises(Unreachable, match="do not get through"):
        carry(Cut(source, 30_000), target, all_)
    assert list(target.lacking(all_)) == [one for one in all_ if one.size == 60_000]


def test_a_content_the_source_has_lost_is_named(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    lost = content(b"gone")
    with pytest.raises(Failed) as failed:
        carry(source, target, [lost])
    assert failed.value.code == "content_missing"
    assert failed.value.details["contents"] == [lost.sha1]


def test_a_content_that_was_damaged_where_it_lay_is_refused(tmp_path: Path) -> None:
    one, two = PracticeSite(tmp_path / "one"), PracticeSite(tmp_path / "two")
    [good] = put(one.pool(), b"as it was")
    path = one.store.content_path(good.sha1)
    path.chmod(0o600)
    path.write_bytes(b"as it waz")
    with pytest.raises(Failed) as failed:
        carry(one.pool(), two.pool(), [good])
    assert failed.value.code == "content_damaged"
    assert list(two.pool().lacking([good])) == [good]
    one.close()
    two.close()


def test_what_packs_well_is_packed(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    [text] = put(source, b"<p>the same again</p>" * 50_000)
    done = carry(source, target, [text])
    assert done.bytes == 1_050_000
    assert done.wire_bytes < 50_000


def test_a_rate_is_kept_by_all_together(pools: tuple[Pool, Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pools
    all_ = put(source, *(os.urandom(100_000) for _ in range(3)))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(carrying.time, "monotonic", lambda: 0.0)
    traffic = carrying.Traffic(50_000.0)
    carry(source, target, all_[:1], How(traffic, pack=False))
    carry(source, target, all_[1:], How(traffic, pack=False))
    assert max(slept) == pytest.approx(6.0, abs=0.1)  # 300 kB at 50 kB/s, on a clock that stands still


def test_what_another_course_sends_just_now_is_waited_for_and_not_sent_twice(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    all_ = put(source, *(os.urandom(30_000) for _ in range(40)))
    how, done = How(pack=False), list[carrying.Carried]()
    both = [threading.Thread(target=lambda: done.append(carry(source, target, all_, how))) for _ in range(4)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sum(one.count for one in done) == 40
    assert sum(one.wire_bytes for one in done) < 40 * 31_000
    assert list(target.lacking(all_)) == []


def test_a_sender_does_not_wait_for_ever_when_the_taker_gives_up(pools: tuple[Pool, Pool]) -> None:
    source, target = pools
    all_ = put(source, *(os.urandom(30_000) for _ in range(60)))

    class Full(Cut):
        def take(self, stream: Iterable[bytes], *_: object, **__: object) -> ContentsTaken:  # type: ignore[override]
            next(iter(stream))
            raise Failed("no room", code="no_space")

    before = threading.active_count()
    with pytest.raises(Failed, match="no room"):
        carry(source, Full(target, 0), all_)
    assert threading.active_count() == before
