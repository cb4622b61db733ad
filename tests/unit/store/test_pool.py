"""A store's contents as a pool: what is cut goes on where it was, what is wrong is refused, nothing comes twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moodlectl.actions.contents import carry
from moodlectl.errors import Failed, Refused, Unreachable
from moodlectl.site.contents import packed
from moodlectl.site.port import Content
from moodlectl.store import Store, open_store
from tests.backups import sha1

DATA = {sha1(data): data for data in [os.urandom(size) for size in (10, 70_000, 500_000, 3, 900_000)]}
CONTENTS = [Content(name, len(data)) for name, data in DATA.items()]


class Cut:
    """A pool that is cut after ever more bytes."""

    def __init__(self, step: int) -> None:
        self.step, self.sent, self.times = step, dict.fromkeys(DATA, 0), 0

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        self.times += 1
        left = self.step * self.times
        for one in contents:
            self.sent[one.sha1] += 1
            for piece in packed(one, [DATA[one.sha1][at : at + 30_000] for at in range(0, one.size, 30_000)], pack=pack):
                receive(piece[:left])
                left -= len(piece)
                if left <= 0:
                    raise Unreachable("cut")


@pytest.mark.parametrize("step", [5_000, 60_000, 300_000, 650_000])
def test_a_cut_at_any_byte_goes_on_and_ends_whole(folder: Store, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("moodlectl.actions.contents._TRIES", 10_000)
    pool = Cut(step)
    done = carry(pool, folder.pool, CONTENTS)
    assert pool.times > 1
    assert done.bytes == sum(map(len, DATA.values()))
    assert all(b"".join(folder.pool.read(one)) == DATA[one.sha1] for one in CONTENTS)
    assert pool.sent[CONTENTS[0].sha1] == 1  # it was whole before the first cut
    assert carry(pool, folder.pool, CONTENTS).wanted == 0


def test_what_is_not_what_it_is_called_is_refused_and_the_others_stay(store: Store) -> None:
    good, bad = Content(sha1(b"good"), 4), Content(sha1(b"bad"), 3)

    def stream() -> object:
        yield from packed(bad, [b"xxx"])
        yield from packed(Content(bad.sha1, 9), [b"bad"])
        yield from packed(Content(sha1(b"unasked"), 7), [b"unasked"])
        yield from packed(good, [b"good"])
        yield from packed(Content(sha1(b"gone"), 4), None)

    taken = store.pool.take(stream(), [bad, good, Content(sha1(b"gone"), 4)])  # type: ignore[arg-type]
    assert (taken.count, taken.bytes, set(taken.refused)) == (1, 4, {bad.sha1, sha1(b"unasked")})
    assert taken.missing == (sha1(b"gone"),)
    assert list(store.pool.lacking([good, bad])) == [bad]


def test_a_stream_that_holds_more_than_it_says_fills_no_disk(folder: Store, tmp_path: Path) -> None:
    lying = Content(sha1(b"x"), 1)
    taken = folder.pool.take(packed(lying, [b"x" * 1_000_000] * 50, pack=True), [lying])
    assert taken.refused == (lying.sha1,)
    assert not list((tmp_path / "store" / "incoming").glob("*"))


def test_what_a_store_sends_another_takes(store: Store, tmp_path: Path) -> None:
    other = open_store(str(tmp_path / "other"), create=True)
    carry(Cut(1 << 40), store.pool, CONTENTS)
    done = carry(store.pool, other.pool, CONTENTS)
    assert (done.count, list(other.pool.lacking(CONTENTS))) == (len(CONTENTS), [])


def test_a_content_damaged_in_the_store_is_not_sent_on(folder: Store, tmp_path: Path) -> None:
    other = open_store(str(tmp_path / "other"), create=True)
    carry(Cut(1 << 40), folder.pool, CONTENTS)
    worst = CONTENTS[2]
    path = tmp_path / "store" / "contents" / worst.sha1[:2] / worst.sha1
    path.write_bytes(bytes(worst.size))
    with pytest.raises(Failed) as failed:
        carry(folder.pool, other.pool, CONTENTS)
    assert (failed.value.code, failed.value.details["contents"]) == ("content_damaged", [worst.sha1])
    assert worst in other.pool.lacking(CONTENTS)


def test_where_there_is_no_room_nothing_is_begun(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(folder.place), "free", lambda _: 1000)
    with pytest.raises(Refused) as refused:
        carry(Cut(1 << 40), folder.pool, CONTENTS)
    assert refused.value.code == "no_space"
    assert refused.value.details["needed"] == sum(map(len, DATA.values()))


def test_room_is_needed_for_all_that_lacks_not_only_for_what_comes_first(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(map(len, DATA.values()))
    monkeypatch.setattr("moodlectl.actions.contents._BATCH", 1)
    monkeypatch.setattr(type(folder.place), "free", lambda _: (16 << 20) + size - 1)
    with pytest.raises(Refused) as refused:
        carry(Cut(1 << 40), folder.pool, CONTENTS)
    assert (refused.value.code, refused.value.details["needed"]) == ("no_space", size)
    assert folder.pool.lacking(CONTENTS) == CONTENTS


def test_many_contents_are_looked_up_whole_folders_at_once(store: Store) -> None:
    few = {sha1(b"%d" % n): b"%d" % n for n in range(100)}
    contents = [Content(name, len(data)) for name, data in few.items()]
    stream = (piece for one in contents[:90] for piece in packed(one, [few[one.sha1]]))
    store.pool.take(stream, contents[:90])
    assert list(store.pool.lacking(contents)) == contents[90:]
