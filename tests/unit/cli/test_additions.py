"""What a merge would add, told to people: each kind once, its names without what all of them say."""

from __future__ import annotations

import pytest

from moodlectl.actions.recovery import Added
from moodlectl.cli.additions import _row


@pytest.mark.parametrize(
    ("kind", "names", "told"),
    [
        ("activity", ['assign "Essay"'], 'assign "Essay"'),
        ("grade_item", ['grade item in assign "Essay"'], 'assign "Essay"'),
        ("grade", ['grade of amy in assign "Essay"', 'grade of ben in assign "Essay"'], "amy; ben"),
        ("grade", ['grade of amy in assign "A"', 'grade of amy in quiz "B"'], 'amy in assign "A"; amy in quiz "B"'),
        ("grade", ['grade item 1 of amy in forum "News"'], "item 1 of amy"),
        ("grade_history", ['grade history in assign "Essay"'], 'assign "Essay"'),
        ("section", ["section of mice and men"], "of mice and men"),
        ("group", ["group Red", "group Blue"], "Red; Blue"),
        ("file", [], ""),
    ],
)
def test_names_do_not_repeat_the_kind_or_the_place(kind: str, names: list[str], told: str) -> None:
    assert _row(Added(kind, len(names), tuple(names)))["names"] == told
