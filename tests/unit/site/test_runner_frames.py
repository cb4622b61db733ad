"""Frames out of a stream that also carries noise, however it is cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlectl.site import frames

MARKER = "0123456789abcdef0123456789abcdef"


def reader_of(stream: bytes, sizes: list[int]) -> tuple[frames.FrameReader, list[bytes]]:
    """A reader of that stream which arrives in pieces of those sizes, repeated; and the noise it finds."""
    at, turn = 0, 0

    def read(wanted: int) -> bytes:
        nonlocal at, turn
        piece = stream[at : at + min(wanted, sizes[turn % len(sizes)])]
        at, turn = at + len(piece), turn + 1
        return piece

    noise: list[bytes] = []
    return frames.FrameReader(read, MARKER, noise.append), noise


def frame(kind: str, body: bytes) -> bytes:
    return f"\n{MARKER} {kind} {len(body)}\n".encode() + body


def drain(reader: frames.FrameReader) -> list[Any]:
    got: list[Any] = []
    try:
        while True:
            item = reader.next()
            if isinstance(item, bytes) and got and isinstance(got[-1], bytes):
                got[-1] += item
            else:
                got.append(item)
    except frames.StreamEnded:
        return got


noise = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"\n", MARKER.encode(), b"\n" + MARKER.encode()[:-1], b"\n" + MARKER.encode(), b"\n\n"]),
).filter(lambda text: f"\n{MARKER} ".encode() not in text)


@given(
    st.lists(
        st.tuples(
            noise, st.one_of(st.binary(min_size=1, max_size=200), st.dictionaries(st.text(), st.text()))
        )
    ),
    noise,
    st.lists(st.integers(1, 70), min_size=1, max_size=6),
)
def test_every_frame_is_found_and_everything_else_is_noise(
    parts: list[tuple[bytes, Any]], rest: bytes, sizes: list[int]
) -> None:
    stream, expected = b"", []
    for before, body in parts:
        stream += before
        stream += frame("B", body) if isinstance(body, bytes) else frame("J", json.dumps(body).encode())
        if isinstance(body, bytes) and expected and isinstance(expected[-1], bytes):
            expected[-1] += body
        else:
            expected.append(body)
    reader, printed = reader_of(stream + rest, sizes)
    assert drain(reader) == expected
    assert b"".join(printed) == b"".join(before for before, _ in parts) + rest


def test_an_empty_binary_frame_is_nothing() -> None:
    reader, _ = reader_of(frame("B", b"") + frame("J", b"1"), [1000])
    assert reader.next() == 1


def test_file_content_is_never_larger_than_a_read() -> None:
    body = bytes(3 * frames.CHUNK + 5)
    reader, _ = reader_of(frame("B", body) + frame("J", b"{}"), [1 << 30])
    sizes = []
    while isinstance(piece := reader.next(), bytes):
        sizes.append(len(piece))
    assert sum(sizes) == len(body)
    assert max(sizes) <= frames.CHUNK


@pytest.mark.parametrize(
    "behind",
    [b"X 3\nabc", b"J x\n{}", b"J -1\n{}", b"J 3", b"J 2\n{", b"J 5\n{nope", b"J 999999999999\n", b"J" * 60],
)
def test_a_stream_that_is_cut_or_wrong_behind_the_marker_is_never_an_answer(behind: bytes) -> None:
    reader, _ = reader_of(f"\n{MARKER} ".encode() + behind, [7])
    with pytest.raises((frames.BadFrame, frames.StreamEnded)):
        reader.next()


def test_a_cut_file_is_not_taken_for_a_whole_one() -> None:
    reader, _ = reader_of(frame("B", b"x" * 100)[:-1], [64])
    with pytest.raises(frames.StreamEnded):
        while True:
            reader.next()


def test_what_goes_to_the_host_is_cut_into_frames_and_ended() -> None:
    sent = [*frames.content([b"ab", b"", b"x" * (frames.CHUNK + 1)])]
    assert sent == [b"B 2\n", b"ab", b"B 1048576\n", b"x" * frames.CHUNK, b"B 1\n", b"x", b"E 0\n"]
    assert frames.request({"a": "ü"}) == 'J 11\n{"a": "ü"}'.encode()


def test_reading_noise_takes_time_in_proportion_to_its_length() -> None:
    """Megabytes of noise in small reads: the search goes on where it was, it does not begin again."""
    calls = 0

    def counting(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def counted(wanted: int) -> bytes:
            nonlocal calls
            calls += 1
            return read(wanted)

        return counted

    stream = b"noise\n" * 500_000 + frame("J", b"7")
    reader, printed = reader_of(stream, [4096])
    reader._read = counting(reader._read)
    assert reader.next() == 7
    assert calls <= len(stream) // 4096 + 2
    assert sum(map(len, printed)) == 3_000_000
    assert max(map(len, printed)) <= 4096 + len(MARKER) + 2
