"""Whatever bytes come in: a refusal with a reason or a right answer, and never anything else."""

from __future__ import annotations

import gzip
import os.path
from functools import cache
from pathlib import Path

import mbz_corpus as corpus
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from moodlectl.errors import Refused
from moodlectl.mbz import Manifest, inspect, is_printable, printable, read_users, verify
from moodlectl.mbz.names import check_name
from moodlectl.mbz.xmlstream import XmlReader, read_xml

often = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "any.mbz"


@cache
def real(name: str) -> bytes:
    return (corpus.DATA / name).read_bytes()


@cache
def real_tar() -> bytes:
    return corpus.tar_bytes(corpus.pieces())


def look(path: Path) -> None:
    """Asks everything of a file; only a refusal may come instead of an answer."""
    try:
        assert isinstance(inspect(path), Manifest)
    except Refused as refused:
        assert refused.code
        assert is_printable(refused.message)
    try:
        for user in read_users(path):
            assert user.id >= 0
    except Refused as refused:
        assert is_printable(refused.message)
    report = verify(path)
    assert report.ok is (not report.problems)
    assert all(is_printable(problem.message) for problem in report.problems)


@often
@given(st.binary(max_size=3000), st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"<?xml", b"{"]))
def test_any_bytes_at_all(file: Path, tail: bytes, head: bytes) -> None:
    file.write_bytes(head + tail)
    look(file)
    assert not verify(file).ok


@often
@given(
    st.sampled_from(["course-5.1-tgz-subsections.mbz", "course-4.5-zip-users.mbz"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8),
)
def test_a_real_file_with_flipped_bytes(file: Path, name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(real(name))
    for at, mask in flips:
        data[at % len(data)] ^= mask
    file.write_bytes(data)
    look(file)


@often
@given(st.sampled_from(["course-5.1-tgz-subsections.mbz", "course-4.5-zip-users.mbz"]), st.integers(0, 10**6))
def test_a_real_file_cut_anywhere_is_never_whole(file: Path, name: str, at: int) -> None:
    data = real(name)
    file.write_bytes(data[: at % len(data)])
    look(file)
    assert not verify(file).ok


@often
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6))
def test_a_tar_changed_inside_its_gzip(file: Path, changes: list[tuple[int, bytes]]) -> None:
    tar = bytearray(real_tar())
    for at, data in changes:
        at %= len(tar)
        tar[at : at + len(data)] = data[: len(tar) - at]
    file.write_bytes(gzip.compress(bytes(tar), 1))
    look(file)


@often
@given(st.lists(st.tuples(st.integers(0, 10**6), st.text(max_size=30)), min_size=1, max_size=4))
def test_a_manifest_changed_anywhere(file: Path, changes: list[tuple[int, str]]) -> None:
    source = corpus.pieces()
    for piece in source:
        if piece.name == corpus.MANIFEST:
            for at, text in changes:
                at %= len(piece.data)
                piece.data = piece.data[:at] + text.encode("utf-8", "surrogatepass") + piece.data[at:]
    corpus.write_tgz(file, source)
    look(file)


@often
@given(st.text(alphabet="<>/&;!-[]?='\" abc\u00e9\x00", max_size=400).map(str.encode), st.integers(1, 50))
@example(b"<a>" * 500, 7)
def test_any_xml_in_any_pieces_is_parsed_or_refused(data: bytes, step: int) -> None:
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    try:
        read_xml(chunks, XmlReader("x.xml", lambda *_: None, lambda *_: None, frozenset({"a", "b"})))
    except Refused as refused:
        assert refused.code in {"bad_xml", "hostile_xml", "hostile_entity", "hostile_encoding"}


@often
@given(st.text(alphabet="ab./\\:~C\x00\x1b\n\u202e\u00e9", max_size=60) | st.text(max_size=60))
def test_a_name_that_passes_never_leaves_its_folder(name: str) -> None:
    try:
        plain = check_name(name)
    except Refused as refused:
        assert refused.code in {"hostile_path", "hostile_name", "hostile_encoding"}
        return
    assert os.path.normpath(f"/safe/{plain}").startswith("/safe")
    assert not plain.startswith("/")
    assert is_printable(plain)


@given(st.text())
def test_printable_text_holds_no_control_characters_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert is_printable(shown)
    assert printable(shown) == shown
    assert len(shown) == len(text)
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)
    shown.encode("utf-8")
