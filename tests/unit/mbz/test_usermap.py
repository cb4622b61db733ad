"""User maps: what may be written, whom it means, and everything wrong with it told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodlectl.errors import NotFound, UsageError
from moodlectl.mbz.people import UserRecord
from moodlectl.mbz.usermap import Account, Entry, UserMap, made, parse_pair, read_user_map, resolve

ANN = UserRecord(1, "ann", "ann@old.org", idnumber="A1")
BOB = UserRecord(2, "bob", "shared@old.org", idnumber="B1")
CID = UserRecord(3, "cid", "shared@old.org", idnumber="C1")
PEOPLE = [ANN, BOB, CID]


def written(tmp_path: Path, data: str | bytes) -> Path:
    path = tmp_path / "map.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "old,new\nann,anna\nbob,-\n",
        "new;old\nanna;ann\n-;bob\n",
        "ann\tanna\nbob\t-\n",
        "\ufeffOld username,New username,Email\r\nann,anna,\r\nbob,-,\r\n",
        "# a remark\n\nann, Anna\nbob, -\n",
        '"ann","anna"\n"bob","-"\n',
    ],
)
def test_a_map_is_read_in_every_shape_people_save_it_in(tmp_path: Path, text: str) -> None:
    map_ = read_user_map(written(tmp_path, text))
    assert [(entry.old, entry.new, entry.email) for entry in map_.entries] == [
        ("ann", "anna", None),
        ("bob", None, None),
    ]


def test_a_map_out_of_an_old_excel_keeps_its_letters(tmp_path: Path) -> None:
    text = "old;new;email\nzoë;zoe;z@x.org\n"
    for data in (text.encode("cp1252"), text.replace(";", "\t").encode("utf-16")):
        assert read_user_map(written(tmp_path, data)).entries == (Entry("zoë", "zoe", "z@x.org", 2),)


def test_every_problem_of_a_map_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = "old,new\nann,x\nANN,y\nbob,x\n,z\ncid,\n"
    with pytest.raises(UsageError) as caught:
        read_user_map(written(tmp_path, text))
    problems = caught.value.details["problems"]
    assert [problem.split(":")[0] for problem in problems] == ["line 3", "line 4", "line 5", "line 6"]
    assert "ann and" in problems[0] or "stands in line 2" in problems[0]
    assert "become the same x" in problems[1]


def test_lines_with_one_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_user_map(written(tmp_path, "ann,x\nbob\n"))
    assert caught.value.details["problems"] == ["line 2: 1 column; old and new are needed"]


def test_a_map_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_user_map(tmp_path / "none.csv")
    with pytest.raises(UsageError):
        read_user_map(written(tmp_path, ""))
    with pytest.raises(UsageError):
        read_user_map(written(tmp_path, b"\x81\x8d\x8f,\x90"))


def test_people_are_found_by_username_email_or_idnumber() -> None:
    map_ = made([Entry("ann@old.org", "anna"), Entry("B1", "robert"), Entry("CID", None)])
    found = resolve(map_, PEOPLE)
    assert [(each.person.username, each.account) for each in found] == [
        ("ann", Account("anna")),
        ("bob", Account("robert")),
        ("cid", None),
    ]


def test_who_is_unknown_ambiguous_or_meant_twice_is_told_at_once() -> None:
    map_ = made(
        [Entry("dora", "d", line=2), Entry("shared@old.org", "s", line=3), Entry("ann", "a", line=4),
         Entry("A1", "b", line=5)]
    )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        resolve(map_, PEOPLE)
    assert caught.value.details["problems"] == [
        "line 2: dora is nobody in the backup",
        "line 3: shared@old.org is more than one: bob, cid",
        "line 5: ann is meant by line 4 already",
    ]


def test_nobody_may_take_the_username_of_somebody_else_in_the_backup() -> None:
    with pytest.raises(UsageError, match="who is in the backup too"):
        resolve(made([Entry("ann", "bob")]), PEOPLE)
    both = resolve(made([Entry("ann", "bob"), Entry("bob", "ann")]), PEOPLE)
    assert [(each.person.username, each.account and each.account.username) for each in both] == [
        ("ann", "bob"),
        ("bob", "ann"),
    ]


def test_accounts_of_the_target_bring_their_email_and_missing_ones_are_told() -> None:
    map_ = made([Entry("ann", "anna", line=2), Entry("bob", "robert", line=3), Entry("cid", None, line=4)])
    assert map_.usernames() == ["anna", "robert"]
    known = map_.with_accounts([Account("anna", 7, "anna@new.org", 5), Account("robert", 8, None, 0)])
    assert resolve(known, PEOPLE)[0].account == Account("anna", 7, "anna@new.org", 5)
    with pytest.raises(UsageError) as caught:
        map_.with_accounts([Account("anna")])
    assert caught.value.details["problems"] == ["line 3: the target has no account 'robert'"]


def test_a_pair_on_the_command_line_is_a_map_of_one() -> None:
    assert parse_pair("admin=Admin") == Entry("admin", "admin")
    assert parse_pair("a=b@x.org=-") == Entry("a=b@x.org", None)
    for wrong in ("admin", "=x", "x=", ""):
        with pytest.raises(UsageError):
            parse_pair(wrong)
    with pytest.raises(UsageError):
        UserMap((Entry("ann", "x", line=2),)).plus([Entry("ann", "y")])
