"""Small documents are passed over unparsed only where parsing them would have found nothing, and nothing wrong."""

from __future__ import annotations

from pathlib import Path

import mbz_corpus as corpus
import pytest
from hypothesis import given
from hypothesis import strategies as some

from moodlectl.errors import Refused
from moodlectl.mbz import verify
from moodlectl.mbz.archive import Member
from moodlectl.mbz.limits import LIMITS
from moodlectl.mbz.recordpaths import Record, RecordPaths, passes_over
from moodlectl.mbz.xmlstream import SMALL, XmlReader, lacks

WAY = ("comments", "comment")
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
parts = some.sampled_from(
    [
        "<comments>", "</comments>", "<comment>", "<comment\tid='1'>", "<comment\n>", "</comment>", "<comment/>",
        "<content>x</content>", "<commentary/>", "<!-- <comment> -->", "<![CDATA[<comment>]]>", "&amp;", "&own;", "\x00",
        "<!DOCTYPE a>", HEAD, '<?xml version="1.0" encoding="latin1"?>', "<a b='1' b='2'/>", "é", "\ud800", "<", " text ",
        "<a>" * 130, "</a>" * 130,
    ]
)  # fmt: skip
documents = some.one_of(
    some.lists(parts, max_size=8).map("".join),
    some.lists(parts, max_size=4).map(lambda inside: f"{HEAD}<comments>{''.join(inside)}</comments>"),
)


def member(data: bytes, name: str = "comments.xml") -> Member:
    content = iter((memoryview(data),))
    return Member(name, len(data), "file", lambda: content)


def read(data: bytes, *, may_pass: bool) -> list[dict[str, str]] | str:
    """The records found, or the reason to refuse."""
    found: list[dict[str, str]] = []

    def keep(record: Record) -> None:
        found.append(record.fields)

    one = member(data)
    try:
        if not (may_pass and passes_over(one, {WAY: keep})):
            one.parse(RecordPaths(one.name, {WAY: keep}))
    except Refused as refused:
        return f"{refused.code} {refused.message}"
    return found


@given(documents)
def test_what_is_passed_over_would_have_told_nothing(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert read(data, may_pass=True) == read(data, may_pass=False)


@given(documents)
def test_what_lacks_an_element_is_what_any_reader_takes(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    starts: list[str] = []
    reader = XmlReader("x.xml", lambda _, name, __: starts.append(name))
    try:
        member(data).parse(reader)
    except Refused:
        assert not lacks(data, frozenset({"comment"}))
    else:
        assert not (lacks(data, frozenset({"comment"})) and "comment" in starts)


def test_an_empty_document_is_passed_over_and_can_still_be_read() -> None:
    empty = f"{HEAD}<comments>\n</comments>".encode()
    one = member(empty)
    assert one.lacks("comment")
    assert not one.lacks("comments")
    assert one.read(SMALL) == empty


def test_nothing_large_is_passed_over() -> None:
    assert not member(f"<comments>{' ' * SMALL}</comments>".encode()).lacks("comment")


def test_many_names_and_deep_nesting_need_more_than_a_small_document() -> None:
    assert min(LIMITS.xml_names, LIMITS.xml_name_bytes, LIMITS.xml_token, LIMITS.xml_text) > SMALL
    assert not lacks(b"<a>" * 129 + b"</a>" * 129, frozenset())


@pytest.mark.parametrize("broken", [b"<filters>", b"<!DOCTYPE a><filters/>", b"<filters>&x;</filters>"])
def test_each_of_two_broken_documents_of_one_text_is_named(broken: bytes, tmp_path: Path) -> None:
    names = [piece.name for piece in corpus.pieces() if piece.name.endswith("/filters.xml")][:2]
    pieces = [
        corpus.Piece(one.name, broken if one.name in names else one.data, one.kind, one.link) for one in corpus.pieces()
    ]
    path = corpus.write_tgz(tmp_path / "bad.mbz", [corpus.index(pieces), *pieces])
    for _ in range(2):
        assert {one.member for one in verify(path).problems if one.code not in ("index",)} == set(names)
