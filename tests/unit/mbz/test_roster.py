"""The fast reading of users.xml gives what the ordinary reading gives, whatever the file looks like."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as some

from moodlectl.errors import Refused
from moodlectl.mbz.roster import Roster
from moodlectl.mbz.xmlstream import RecordReader

FIELDS = frozenset({"username", "email", "firstname", "deleted"})
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def ordinary(xml: bytes) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    reader = RecordReader("users.xml", 2, frozenset({"user"}), FIELDS, lambda _, record: found.append(record))
    reader.feed(xml)
    reader.close()
    return found


def fast(xml: bytes, step: int) -> list[Mapping[str, str]]:
    roster = Roster("users.xml", FIELDS)
    found: list[Mapping[str, str]] = []
    for begin in range(0, len(xml), step):
        found += roster.feed(memoryview(xml)[begin : begin + step])
    return found + roster.close()


def plain(records: list[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Without the attributes nobody asks for."""
    return [{name: value for name, value in one.items() if name in FIELDS or name == "id"} for one in records]


texts = some.sampled_from(
    ["", "$@NULL@$", "x", "Nguyễn &amp; Söhne &lt;b&gt;", "a\r\nb\rc", "&#13;&#x1F331;&#128;", "tab\there", "]"]
)
inside = some.sampled_from(
    [
        "<preferences>\n<preference id='1'><name>a</name><value>b</value></preference></preferences>",
        "<preferences><username>not me</username></preferences>",
        "<roles><user id=\"99\" contextid=\"3\"><username>nested</username></user></roles>",
        "<!-- <username>said aside</username> -->",
        "<?odd <username>x</username>?>",
        "<email/>",
        "<username>twice</username>",
        "<description><![CDATA[</user><user id=\"7\" contextid=\"3\"><username>x</username>]]></description>",
        "<custom_fields></custom_fields><deleted>1</deleted>",
        "<firstname >odd</firstname >",
        "",
    ]
)


@some.composite
def people(draw: some.DrawFn) -> bytes:
    blocks = []
    for number in range(draw(some.integers(0, 6))):
        fields = "".join(f"\n    <{name}>{draw(texts)}</{name}>" for name in sorted(FIELDS))
        openings = ['<user id="{}" contextid="5">', '<user id="{}">', "<user contextid='1' id='{}'>"]
        opening = draw(some.sampled_from(openings))
        closing = draw(some.sampled_from(["</user>", "</user >"]))
        blocks.append("\n  " + opening.format(number) + fields + draw(inside) + draw(inside) + "\n  " + closing)
    between = draw(some.sampled_from(["", "\n", "<other><user id=\"5\"/></other>", "<!-- -->"]))
    root = draw(some.sampled_from(["users", "users", "users", "people"]))
    return f"{HEAD}<{root}>{between.join(blocks)}{between}\n</{root}>\n".encode()


@given(people(), some.integers(1, 700))
def test_fast_and_ordinary_reading_find_the_same_people(xml: bytes, step: int) -> None:
    assert plain(fast(xml, step)) == plain(ordinary(xml))


def test_what_moodle_writes_is_read_by_whole_blocks() -> None:
    user = '\n  <user id="3" contextid="4">\n    <username>a&amp;b</username>\n    <tags>\n    </tags>\n  </user>'
    roster = Roster("users.xml", FIELDS)
    found = roster.feed(f"{HEAD}<users>{user * 50}\n</users>".encode()) + roster.close()
    assert found == [{"id": "3", "username": "a&b"}] * 50
    assert roster._slow is None


@pytest.mark.parametrize(
    "xml",
    [
        "<users><user id=\"1\" contextid=\"2\"><username>a</username>",
        "<users><user id=\"1\" contextid=\"2\"><username>a</email></user></users>",
        "<!DOCTYPE users [<!ENTITY a 'b'>]><users></users>",
        "<users>" + "<a>" * 3000,
        f"<users><user id=\"1\"><username>a</username>{'<a>' * 127}{'</a>' * 127}</user></users>",
    ],
)
@pytest.mark.parametrize("step", [7, 100_000])
def test_what_is_broken_or_hostile_is_refused(xml: str, step: int) -> None:
    with pytest.raises(Refused):
        fast((HEAD + xml).encode(), step)


def test_as_deep_as_a_reader_takes_is_not_too_deep() -> None:
    many = "<preferences>" + "<p><name>a</name></p>" * 100 + "</preferences>"
    deep = "<a>" * 126 + "</a>" * 126
    xml = f'{HEAD}<users><user id="1">{many}</user><user id="2"><username>b</username>{deep}</user></users>'
    roster = Roster("users.xml", FIELDS)
    assert roster.feed(xml.encode()) + roster.close() == [{"id": "1"}, {"id": "2", "username": "b"}]
    assert roster._slow is None
