"""Plan files: what they say is read, and all that is wrong is told at once, with line and column."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodlectl.errors import MoodlectlError, NotFound, Refused, UsageError
from moodlectl.plans import Plan, read_plan, refuse


def csv(tmp_path: Path, content: str | bytes, kind: str = "rollover", name: str = "plan.csv") -> Plan:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_plan(path, kind)  # type: ignore[arg-type]


def toml(tmp_path: Path, content: str, kind: str = "rollover") -> Plan:
    return csv(tmp_path, content, kind, "plan.toml")


def told(plan: Plan) -> list[tuple[int, str | None]]:
    return sorted(((one.line, one.column) for one in plan.problems), key=lambda one: (one[0], one[1] or ""))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_is_read_whatever_its_separator_and_mark(tmp_path: Path, separator: str, mark: bytes, end: str) -> None:
    rows = [
        ["templatecourse", "Shortname", "category_path", "startdate", "visible", "without"],
        ["BIO-26", "BIO-27", "2027 / Biologie végétale", "2027-09-01", "0", "users"],
        ["idnumber:X9", "X", "2027", "", "yes", ""],
    ]
    plan = csv(tmp_path, mark + end.join(separator.join(row) for row in rows).encode() + end.encode())
    assert plan.problems == () and plan.notes == ()
    first, second = plan.rows
    assert (first.line, first.templatecourse, first.startdate, first.visible) == (2, "BIO-26", date(2027, 9, 1), False)
    assert first.category_path is not None and first.category_path.text == "2027 / Biologie végétale"
    assert first.settings == {"users": False}
    assert (second.line, second.visible, second.startdate) == (3, True, None)


def test_a_line_for_excel_that_names_the_separator_is_understood(tmp_path: Path) -> None:
    plan = csv(tmp_path, "sep=;\r\ntemplatecourse;shortname;startdate\r\nA;B;2027-01-01\r\nC;D;never\r\n")
    assert [(row.line, row.templatecourse) for row in plan.rows] == [(3, "A"), (4, "C")]
    assert told(plan) == [(4, "startdate")]


def test_a_file_without_a_head_line_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 1: no column of a plan is named here"):
        csv(tmp_path, "BIO-26,BIO-27\nCHEM-26,CHEM-27\n")


def test_a_column_that_is_unknown_is_told_on_the_line_that_names_it(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname,colour\nA,B,\nC,D,red\nE,F,blue\n")
    assert told(plan) == [(1, "colour")]
    plan = toml(tmp_path, '[[course]]\ntemplatecourse = "A"\nshortname = "B"\nold = "hidden"\n')
    assert [(one.line, one.message) for one in plan.problems] == [(4, "it is no table")]


def test_a_word_that_shows_the_encoding_is_a_word_and_not_a_line(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname,fullname\nA,B,Café du monde\n".encode("cp1252"))
    assert "words like 'Café')" in plan.notes[0]
    assert "words like" not in csv(tmp_path, b"templatecourse,shortname,fullname\nA,B,10 \x80\n").notes[0]


def test_windows_1252_is_recognised_and_named(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse;shortname;fullname\nA;B;Einführung\n".encode("cp1252"))
    assert plan.rows[0].fullname is not None and plan.rows[0].fullname.text == "Einführung"
    assert "Windows-1252" in plan.notes[0] and "Einführung" in plan.notes[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UsageError) as wrong:
        csv(tmp_path, "templatecourse;shortname;fullname\nA;B;C\n".encode(encoding) * 3)
    assert "UTF-16" in wrong.value.message and "UTF-8" in (wrong.value.hint or "")


def test_a_toml_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        csv(tmp_path, '[[course]]\nfullname = "Über"\n'.encode("cp1252"), name="plan.toml")
    assert "line 2" in wrong.value.message and "Windows-1252" in wrong.value.message


def test_all_problems_of_a_csv_are_told_at_once(tmp_path: Path) -> None:
    plan = csv(
        tmp_path,
        "templatecourse,shortnam,startdate,visible,mode,summary,shift_days,enrolments\n"
        "A,B,2027-02-30,maybe,new,,,\n"
        "C,D,01/02/2027,1,merged,x,5,sometimes\n"
        "E,F,2027-01-01,1,new,,7,,too,many\n",
    )
    assert set(told(plan)) >= {
        (1, "shortnam"), (2, "startdate"), (2, "visible"), (3, "startdate"), (3, "mode"), (1, "summary"),
        (3, "enrolments"), (4, None), (4, "shift_days"),
    }  # fmt: skip
    words = {(one.line, one.column): f"{one.message} {one.hint}" for one in plan.problems}
    assert "did you mean 'shortname'" in words[1, "shortnam"]
    assert "two days" in words[3, "startdate"]
    assert "Moodle's upload" in words[1, "summary"]
    assert "startdate is said as well" in words[4, "shift_days"]


def test_rows_that_make_the_same_course_are_told(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname,idnumber\nA,X,1\nB,x,2\nC,Y,1\n")
    assert told(plan) == [(3, "shortname"), (4, "idnumber")]


def test_a_row_over_several_lines_has_the_line_it_begins_on(tmp_path: Path) -> None:
    plan = csv(tmp_path, 'templatecourse,shortname,visible\n"A",B,1\n\n"C",D,"no\nway"\nE,F,perhaps\n')
    assert told(plan) == [(4, "visible"), (6, "visible")]


def test_a_quotation_mark_that_is_not_closed_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        csv(tmp_path, 'templatecourse,shortname\nA,"B\nC,D\n')
    assert "line 2" in wrong.value.message


@pytest.mark.parametrize("text", ["", "\n\n", "templatecourse,shortname\n"])
def test_a_file_without_courses_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        csv(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_plan(tmp_path / "none.csv", "rollover")


def test_a_toml_has_defaults_and_rows_overrule_them(tmp_path: Path) -> None:
    plan = toml(
        tmp_path,
        """
[defaults]
shift_weeks = 52
category_path = "2027 / {source.category}"
keep_roles = ["editingteacher"]
without = ["users"]

[[course]]
select = {category = "2026 / *", visible = true, search = "bio", except = ["TEST*"]}
shortname = "{source.shortname}-{year+1}"
old = {visible = false, enrolments = "keep"}

[[course]]
templatecourse = "CHEM"
shortname = "CHEM-27"
startdate = 2027-09-01
category = "id:3"
keep_roles = []
[course.old]
enrolments = "suspended"
fullname = "{source.fullname} (old)"
""",
    )
    assert plan.problems == ()
    first, second = plan.rows
    assert first.select is not None
    assert (first.select.category, first.select.visible, first.select.leave_out) == ("2026 / *", True, ("TEST*",))
    assert (first.shift_days, first.startdate, first.keep_roles) == (364, None, ("editingteacher",))
    assert (first.old.visible, first.old.enrolments) == (False, None)
    assert (second.shift_days, second.startdate, second.keep_roles) == (None, date(2027, 9, 1), ())
    assert second.category_path is None and second.category is not None
    assert second.old.enrolments == "suspended"


def test_all_problems_of_a_toml_have_their_lines(tmp_path: Path) -> None:
    plan = toml(
        tmp_path,
        """title = "x"
[defaults]
nonsense = 1
with = [
  "users",
  "lo gs",
]
[[course]]
templatecourse = "A"
fullname = '''
[[course]]
'''
shortname = "A-{yaer}"
[[course]]
select = {vizible = true}
shortname = "same for all"
[[course]]
templatecourse = "B"
shortname = "B"
[course.old]
visble = true
[[course]]
templatecourse = "C"
shortname = "{source.shortname|s/(/x/}"
guards = {students = "halt"}
hidden_until = 2027-01-01T10:00:00
""",
    )
    assert set(told(plan)) >= {
        (1, "title"), (3, "nonsense"), (4, "with"), (10, "fullname"), (13, "shortname"), (15, "select"),
        (21, "old_visble"), (24, "shortname"), (25, "guards"), (26, "hidden_until"),
    }  # fmt: skip


def test_a_toml_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        toml(tmp_path, "[[course]]\nshortname = \n")
    assert "line 2" in wrong.value.message


def test_columns_that_belong_to_the_other_kind_are_told(tmp_path: Path) -> None:
    assert told(csv(tmp_path, "templatecourse,old_visible\nA,1\n", "migrate")) == [(1, "old_visible")]
    plan = csv(tmp_path, "templatecourse,shortname,on_changed_target\nA,B,stop\n", "rollover")
    assert told(plan) == [(1, "on_changed_target")]


def test_what_a_row_needs_is_told(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname,mode,keep_groups,overwrite_config,user_map\n,X,,,,\nA,,merge,1,,\nB,Y,,,1,no.csv\n")
    assert told(plan) == [
        (2, "templatecourse"), (3, "keep_groups"), (3, "shortname"), (4, "overwrite_config"), (4, "user_map"),
    ]  # fmt: skip
    assert csv(tmp_path, "templatecourse\nA\n", "migrate").problems == ()


def test_control_characters_are_told_and_not_passed_on(tmp_path: Path) -> None:
    plan = csv(tmp_path, 'templatecourse,shortname,fullname\nA,B,"x\x1b[31m"\nC,D,"a\u202eb"\nE,F,"n\x00l"\n')
    assert told(plan) == [(2, "fullname"), (3, "fullname"), (4, "fullname")]
    assert all("\x1b" not in str(one) for one in plan.problems)
    plan = csv(tmp_path, "templatecourse,shortname,e\x1b]0;vil\nA,B,1\n")
    assert "\x1b" not in str(plan.problems[0])


def test_formulas_are_words_like_any_other(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname\n=A1+1,@SUM(1)\n")
    assert plan.rows[0].templatecourse == "=A1+1"


def test_refusing_names_every_problem(tmp_path: Path) -> None:
    plan = csv(tmp_path, "templatecourse,shortname,visible\nA,B,x\nC,D,perhaps\n")
    with pytest.raises(Refused) as refused:
        refuse("plan.csv", plan.problems)
    assert [one["line"] for one in refused.value.details["problems"]] == [2, 3]
    refuse("plan.csv", ())


def test_a_large_plan_is_read_row_by_row(tmp_path: Path) -> None:
    rows = "".join(f"C{n},N{n},2027-09-01\n" for n in range(20_000))
    plan = csv(tmp_path, "templatecourse,shortname,startdate\n" + rows)
    assert len(plan.rows) == 20_000 and plan.problems == ()
    with pytest.raises(UsageError):
        csv(tmp_path, b"a,b\n" + b"x,y\n" * (9 << 20))


_WORDS = st.sampled_from(
    ["templatecourse", "shortname", "select", "{source.shortname}", "{", "}", '"', "'", "\n", ",", ";", "\t", "[[course]]",
     "[defaults]", "=", "old.visible", "[course.old]", "1", "2027-01-01", "[", "]", "{year+1}", "|s/a/b/", '"""', "#", "\x00",
     "\ufeff", "é", "\u202e", "=cmd()", "\r", "true", "\\"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=400), st.lists(_WORDS, max_size=60).map(lambda w: "".join(w).encode())))
def test_no_file_whatever_breaks_the_reader(tmp_path: Path, content: bytes) -> None:
    for name in ("plan.csv", "plan.toml"):
        for kind in ("rollover", "migrate"):
            try:
                plan = csv(tmp_path, content, kind, name)
            except MoodlectlError:
                continue
            assert all(one.line >= 0 for one in plan.problems)
            assert plan.rows or plan.problems
