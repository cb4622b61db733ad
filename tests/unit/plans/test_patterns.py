"""Names made from other names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlectl.plans import patterns

VALUES = {
    "source.shortname": "BIO-2026",
    "source.fullname": "Biologie végétale",
    "source.category": "2026",
    "year": 2027,
    "yy": 2027,
    "source.year": 2026,
    "source.yy": 2026,
}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("plain", "plain"),
        ("{source.shortname}-{year}", "BIO-2026-2027"),
        ("{year}/{yy+1}", "2027/28"),
        ("{year - 1}", "2026"),
        ("{yy+73}", "00"),
        ("{source.year+1}", "2027"),
        ("{{x}}", "{x}"),
        (r"{source.shortname|s/-2026$/-2027/}", "BIO-2027"),
        (r"{source.shortname|s/-\d+$//}-{year}", "BIO-2027"),
        (r"{source.shortname|s/(\w+)-(\d+)/\2_\1/}", "2026_BIO"),
        (r"{source.shortname|s/\d{4}/x/}", "BIO-x"),
        (r"{source.shortname|s#2#/#g}", "BIO-/0/6"),
        (r"{source.shortname|s/-/\//}", "BIO/2026"),
        (r"{source.shortname|s/bio/GEO/i|lower}", "geo-2026"),
        (r"{source.shortname|s/a|B/|/}", "|IO-2026"),
        ("{source.fullname|upper}", "BIOLOGIE VÉGÉTALE"),
        ("  {source.category}  ", "2026"),
    ],
)
def test_a_pattern_makes_a_name(pattern: str, name: str) -> None:
    assert patterns.parse(pattern).expand(VALUES) == name


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("{", "piece"), ("}", "'}'"), ("{source.shortnam}", "did you mean {source.shortname}"), ("{year", "not closed"),
        ("{source.shortname+1}", "no number"), ("{year|s/a/}", "not ended"), ("{year|s/(/x/}", "no regular expression"),
        (r"{year|s/a/\1/}", "0 groups"), ("{year|reverse}", "no change"), ("{year|s}", "no change"), ("{}", "no piece"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pattern_is_told(pattern: str, word: str) -> None:
    with pytest.raises(ValueError, match=".*") as wrong:
        patterns.parse(pattern)
    assert word in str(wrong.value)


def test_a_piece_without_a_value_is_told() -> None:
    with pytest.raises(ValueError, match="source.idnumber"):
        patterns.parse("{source.idnumber}").expand(VALUES)


@given(st.text(alphabet="{}|s/\\+-.0123456789abyersourchtn()[]*$g", max_size=60))
def test_any_text_is_a_pattern_or_told_to_be_none(text: str) -> None:
    try:
        pattern = patterns.parse(text)
    except ValueError:
        return
    pattern.expand(dict.fromkeys(patterns.NAMES, 1))


@given(st.text(max_size=60))
def test_braces_that_are_doubled_are_braces(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert patterns.parse(escaped).expand({}) == text.strip()
