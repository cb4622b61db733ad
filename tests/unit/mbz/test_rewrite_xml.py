"""Changing XML while it streams by: what no rule touches stays, what one drops is gone, nothing hostile passes."""

from __future__ import annotations

import xml.etree.ElementTree as Tree
from collections.abc import Iterable

import mbz_corpus as corpus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodlectl.errors import Refused
from moodlectl.mbz.limits import Limits
from moodlectl.mbz.rewritexml import Element, Rules, Verdict, XmlEditor

often = settings(max_examples=300, deadline=None)


def edited(data: bytes, rules: Rules, step: int = 10**6) -> bytes:
    out: list[bytes] = []
    editor = XmlEditor("x.xml", rules, out.append)
    for at in range(0, len(data), step):
        editor.feed(data[at : at + step])
    editor.close()
    return b"".join(out)


class Without(Rules):
    """Drops records whose ``userid`` is 7, and doubles what ``b`` says."""

    capture = frozenset({"userid", "b"})
    change = frozenset({"b"})

    def enter(self, path: list[Element], element: Element) -> Verdict:
        return Verdict.HOLD if "id" in element.attributes and path else Verdict.PASS

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        if name == "b":
            return text + text
        return Verdict.DROP if text == "7" else Verdict.PASS


def model(node: Tree.Element) -> None:
    """The same, on a tree."""
    for child in list(node):
        owner = next((each for each in child if each.tag == "userid" and not len(each)), None)
        if "id" in child.attrib and owner is not None and owner.text == "7":
            node.remove(child)
            continue
        model(child)
        if child.tag == "b" and not len(child):
            child.text = (child.text or "") * 2


texts = st.text(alphabet="7a<&>\"'é🌱 ", max_size=8)
leaf = st.builds(lambda tag, text: _node(tag, {}, text, []), st.sampled_from(["b", "c"]), texts)
owner = st.builds(lambda text: _node("userid", {}, text, []), st.sampled_from(["7", "8", "$@NULL@$"]))


def _node(tag: str, attributes: dict[str, str], text: str, children: Iterable[Tree.Element]) -> Tree.Element:
    node = Tree.Element(tag, attributes)
    node.text = text
    node.extend(children)
    return node


def _record(children: st.SearchStrategy[Tree.Element]) -> st.SearchStrategy[Tree.Element]:
    # As Moodle writes: fields first, then groups of records.
    group = st.lists(children, min_size=1, max_size=3).map(lambda inside: _node("group", {}, "\n ", inside))
    return st.builds(
        lambda marks, fields, owners, groups: _node("rec", marks, "\n  ", [*fields, *owners, *groups]),
        st.sampled_from([{}, {"id": "1"}, {"id": "2", "x": "a>b"}]),
        st.lists(leaf, max_size=3),
        st.lists(owner, max_size=1),
        st.lists(group, max_size=2),
    )


records = st.recursive(_record(leaf), _record, max_leaves=8)
documents = st.lists(records, max_size=4).map(lambda inside: _node("root", {}, "\n", inside))


def _same(one: bytes, other: bytes) -> bool:
    def plain(node: Tree.Element) -> object:
        text = node.text or ""
        return node.tag, node.attrib, text if not len(node) and text.strip() else "", [plain(child) for child in node]

    return plain(Tree.fromstring(one)) == plain(Tree.fromstring(other))  # noqa: S314 - made right here


@often
@given(documents, st.integers(1, 70), st.booleans())
def test_whatever_the_pieces_the_right_records_are_dropped(root: Tree.Element, step: int, short: bool) -> None:
    data = Tree.tostring(root, encoding="utf-8", short_empty_elements=short)
    result = edited(data, Without(), step)
    model(root)
    assert _same(result, Tree.tostring(root))


@often
@given(documents, st.integers(1, 70))
def test_without_rules_not_a_byte_changes(root: Tree.Element, step: int) -> None:
    data = Tree.tostring(root, encoding="utf-8")
    assert edited(data, Rules(), step) == data


@pytest.mark.parametrize("name", ["course-4.5-tgz-rich-users.mbz", "course-5.1-tgz-rich-users.mbz"])
def test_real_documents_pass_byte_for_byte(name: str) -> None:
    for piece in corpus.pieces(corpus.DATA / name):
        if piece.name.endswith(".xml"):
            assert edited(piece.data, Rules(), 1000) == piece.data, piece.name


def test_a_new_text_is_written_as_xml_and_never_as_markup() -> None:
    class Set(Rules):
        capture = change = frozenset({"a"})

        def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
            return "</a><b>&\x00\ud800"

    assert edited(b"<r><a x='1>2'>old</a><a/><a y='/>'/></r>", Set()) == (
        "<r><a x='1>2'>&lt;/a&gt;&lt;b&gt;&amp;\ufffd\ufffd</a>"
        "<a>&lt;/a&gt;&lt;b&gt;&amp;\ufffd\ufffd</a><a y='/>'>&lt;/a&gt;&lt;b&gt;&amp;\ufffd\ufffd</a></r>"
    ).encode()


def test_a_group_whose_last_record_goes_stays_blank_and_not_empty() -> None:
    assert edited(b"<r><g><x id='1'><userid>7</userid></x></g></r>", Without()) == b"<r><g>\n</g></r>"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (corpus.LAUGHS, "hostile_entity"),
        (corpus.EXTERNAL, "hostile_entity"),
        (b"<r>" + b"<a>" * 200, "hostile_xml"),
        (b"<r x='" + b"y" * 1_000_000, "hostile_xml"),
        (b"<r><a></r>", "bad_xml"),
        (b"<r><a>", "bad_xml"),
        ("<r></r>".encode("utf-16"), "hostile_encoding"),
    ],
)
def test_hostile_documents_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        edited(data, Without())
    assert caught.value.code == code


def test_a_record_without_end_does_not_fill_the_memory() -> None:
    editor = XmlEditor("x.xml", Without(), None, Limits())
    editor.feed(b"<r><x id='1'>")
    with pytest.raises(Refused) as caught:
        for _ in range(2000):
            editor.feed(b"<c>" + b"a" * 60_000 + b"</c>")
    assert caught.value.code == "hostile_xml"


class OnlyTheFirst(Without):
    """Asks nothing about what is in a record that is not the first."""

    def enter(self, path: list[Element], element: Element) -> Verdict:
        if "id" in element.attributes and len(path) == 1:
            return Verdict.PASS if element.attributes["id"] == "1" else Verdict.KEEP
        return Verdict.PASS


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_of_what_is_kept_nothing_is_asked_and_what_follows_is_changed_again(step: int) -> None:
    record = '<rec id="{}"><b>x</b><in><rec id="1"><b>y</b></rec></in> z</rec>\n'
    xml = f"<all>{record.format(1)}{record.format(2)}<rec id='3'/><b>last</b></all>"
    changed = record.format(1).replace("x", "xx").replace("y", "yy")
    after = f"<all>{changed}{record.format(2)}<rec id='3'/><b>lastlast</b></all>"
    assert edited(xml.encode(), OnlyTheFirst(), step).decode() == after


def test_what_is_kept_may_not_be_nested_too_deeply() -> None:
    with pytest.raises(Refused, match="nested more than"):
        edited(b"<all><rec id='2'>" + b"<a>" * 200, OnlyTheFirst())
