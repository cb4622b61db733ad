"""What a backup holds, read as things that can be compared: names, usernames and hashes."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from moodlectl.errors import Refused
from moodlectl.mbz import likeness
from moodlectl.mbz.identities import Chosen, identities
from moodlectl.mbz.identityparts import PARTS, of_module
from moodlectl.mbz.likeness import Identity
from moodlectl.mbz.recordpaths import Record, RecordPaths

DATA = Path(__file__).parents[2] / "data" / "mbz"
RICH = DATA / "course-4.5-tgz-rich-users.mbz"


def things(path: Path, kind: str, chosen: Chosen | None = None) -> list[Identity]:
    return [one for one in identities(path, chosen=chosen or Chosen()) if one[0] == kind]


def rewritten(source: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with tarfile.open(source) as old, tarfile.open(to, "w:gz", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            content = old.extractfile(member) if member.isfile() else None
            if content is None:
                new.addfile(member)
                continue
            data = change(member.name, content.read())
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return to


def test_the_first_thing_says_how_the_backup_was_made() -> None:
    kind, key, about = next(identities(RICH))
    assert (kind, key) == ("about", ())
    assert about["release"] == "4.5"
    assert about["site"] == "abe6ab1fa95781a536bf30737c34a802"
    assert about["setting_users"] == about["setting_logs"] == "1"
    assert about["setting_anonymize"] == "0"


@pytest.mark.parametrize(
    ("kind", "key", "facts"),
    [
        ("activity", ("assign", "Mémoire"), {"duedate": "1761868800", "section": "2", "grade": "20"}),
        ("person", ("rich1.t1", "manual"), {"status": "0"}),
        ("role", ("course", "", "rich1.t1", "editingteacher"), {}),
        ("group_member", ("Groupe A", "rich1.s01"), {}),
        ("grouping_group", ("Travaux dirigés", "Groupe A"), {}),
        ("grade", ("forum", "Débats d'idées", "item 0", "rich1.s03"), {"value": "8"}),
        ("quiz_attempt", ("quiz", "Contrôle continu", "rich1.s01", "1"), {"state": "finished", "sumgrades": "10"}),
        ("choice_answer", ("choice", "Sondage", "rich1.s02"), {"optionid": "Jeudi & vendredi"}),
        ("assign_submission", ("assign", "Mémoire", "rich1.s01", "", "0"), {"status": "submitted"}),
        ("completion", ("page", "Page illustrée", "rich1.s01"), {"state": "1"}),
        ("criterion", ("4", "page Page illustrée"), {}),
        ("badge_award", ("Éco-citoyen 🌱", "rich1.s01"), {}),
        ("event", ("course", "", "Sortie en forêt (course)", "course"), {"timestart": "1760140800"}),
        ("block", ("page", "Page illustrée", "html"), {"region": "side-pre"}),
        ("override", ("course", "", "student", "mod/forum:createattachment"), {"permission": "-1"}),
        ("question", ("VF 1", "truefalse"), {"bank": "course", "category": "L'eau & l'air", "version": "1"}),
        ("grade_history", ("assign", "Mémoire", "item 0"), {"count": "21"}),
        ("custom_field", ("richlevel",), {"value": "Licence 2 — été"}),
        ("logs", ("course", ""), {"count": "357"}),
    ],
)
def test_everything_is_found_under_its_names(kind: str, key: tuple[str, ...], facts: dict[str, str]) -> None:
    found = [told for _, words, told in things(RICH, kind) if words == key]
    assert len(found) == 1
    assert {name: found[0][name] for name in facts} == facts


def test_posts_and_submissions_are_told_apart_by_their_people_but_their_words_are_not_kept() -> None:
    posts = things(RICH, "forum_post")
    assert len(posts) == 20
    assert all(len(facts["message"]) == 40 for _, _, facts in posts)
    assert {words[-1] for _, words, _ in posts} >= {"rich1.t1", "rich1.s01"}


def test_the_same_backup_gives_the_same_things_as_tgz_and_as_zip() -> None:
    tgz = DATA / "course-4.5-tgz-users.mbz"
    twice = [Counter(str(one) for one in identities(tgz)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert Counter(one[0] for one in identities(DATA / "course-4.5-zip-users.mbz"))["activity"] > 0


def test_what_was_not_chosen_is_left_out_with_all_that_belongs_to_it() -> None:
    cmid = 1504
    all_ = [one for one in identities(RICH) if one[1][:2] == ("assign", "Mémoire")]
    left = [one for one in identities(RICH, chosen=Chosen(frozenset({cmid}))) if one[1][:2] == ("assign", "Mémoire")]
    without = Chosen(without_userdata=frozenset({cmid}))
    settings = {one[0] for one in identities(RICH, chosen=without) if one[1][:2] == ("assign", "Mémoire")}
    assert len(all_) > 50
    assert left == []
    assert "activity" in settings
    assert settings.isdisjoint({"assign_submission", "grade", "assign_grading"})
    assert "completion" in settings  # Moodle restores it all the same
    assert "user_file" not in settings
    assert len([one for one in all_ if one[0] == "user_file"]) >= 11


def test_a_backup_without_people_names_nobody() -> None:
    about = next(identities(DATA / "course-4.1-tgz-without-files.mbz"))[2]
    if about["setting_users"] == "0":
        assert not things(DATA / "course-4.1-tgz-without-files.mbz", "role")
    sections = {key[0] for _, key, _ in things(DATA / "course-5.1-tgz-subsections.mbz", "section")}
    assert any(name.startswith("subsection ") for name in sections)


def test_each_of_two_grade_items_of_one_name_has_a_history_of_its_own(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace("Compétence".encode(), "Oral d'été".encode()) if name == "gradebook.xml" else data

    path = rewritten(RICH, tmp_path / "alike.mbz", change)
    oral = ("course", "", "Oral d'été")
    assert [facts for _, key, facts in things(path, "grade_history") if key == oral] == [{"count": "12"}] * 2


def test_one_changed_grade_changes_one_thing(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if not (name.startswith("activities/assign_") and name.endswith("/grades.xml")):
            return data
        return data.replace(b"<finalgrade>14.00000</finalgrade>", b"<finalgrade>4.00000</finalgrade>", 1)

    before = Counter(str(one) for one in identities(RICH))
    after = Counter(str(one) for one in identities(rewritten(RICH, tmp_path / "changed.mbz", change)))
    (lost,) = (before - after).elements()
    (new,) = (after - before).elements()
    assert lost.startswith("('grade', ('assign', 'Mémoire', 'item 0'") and "'value': '14'" in lost
    assert new == lost.replace("'value': '14'", "'value': '4'")


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(Refused):
        list(identities(DATA / "truncated-tgz.mbz"))


# --- how values are made comparable -----------------------------------------------------------------------------


def test_texts_are_the_same_whatever_site_they_link_to() -> None:
    stored = 'See <a href="https://old.example/mod/page/view.php?id=5&amp;x=1#a">this</a>\r\n'
    encoded = 'See <a href="$@PAGEVIEWBYID*7@$">this</a>'
    assert likeness.digest(stored) == likeness.digest(encoded)
    assert likeness.digest(stored) != likeness.digest(stored.replace("this", "that"))
    assert likeness.digest("") == likeness.digest("  \n") == ""


def test_numbers_and_long_values_are_written_one_way() -> None:
    assert [likeness.plain(text) for text in ("72.00000", "0.50000", "-0.00000", "100", "0.0")] == [
        "72", "0.5", "-0", "100", "0",
    ]  # fmt: skip
    assert len(likeness.plain("x" * 101)) == 40
    assert likeness.plain("x" * 100) == "x" * 100


def test_restrictions_are_compared_by_their_words_not_by_ids_or_order() -> None:
    one = '{"op":"&","c":[{"type":"profile","sf":"email","op":"contains","v":"é"},{"type":"group","id":37}]}'
    other = '{"op":"&","c":[{"type":"profile","op":"contains","sf":"email","v":"\\u00e9"},{"type":"group","id":5}]}'
    assert likeness.shape(one) == likeness.shape(other)
    assert likeness.shape(one) != likeness.shape(other.replace("contains", "isequalto"))
    assert likeness.shape("not json {") and likeness.shape("") == ""


def test_settings_leave_out_ids_and_times_of_saving() -> None:
    own = {"id": "1", "course": "2", "timemodified": "3", "groupingid": "4"}
    kept = likeness.settings({**own, "idnumber": "X", "grade": "-7", "duedate": "9"})
    assert kept == {"idnumber": "X", "grade": "scale", "duedate": "9"}


# --- records by their path --------------------------------------------------------------------------------------


def test_records_know_those_they_stand_in_and_nothing_else_is_kept() -> None:
    xml = (
        b"<a><b id='1'><name>one</name><inner><c id='2'><x>deep</x><y><z>no</z></y></c></inner></b>"
        b"<other><b id='3'/></other><b id='4'><name>$@NULL@$</name></b></a>"
    )
    seen: list[tuple[str, dict[str, str], list[str]]] = []

    def keep(record: Record) -> None:
        seen.append((record.path[-1], dict(record.fields), [one.get("name") for one in record.above]))

    reader = RecordPaths("a.xml", {("a", "b"): keep, ("a", "b", "inner", "c"): keep})
    for at in range(0, len(xml), 7):  # however it is cut
        reader.feed(xml[at : at + 7])
    reader.close()
    assert seen == [
        ("c", {"id": "2", "x": "deep"}, ["one"]),
        ("b", {"id": "1", "name": "one"}, []),
        ("b", {"id": "4"}, []),
    ]


def test_every_part_is_described_whole() -> None:
    assert len({(part.module, part.kind) for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert part.steps and all(step.tables and step.column for step in part.steps)
        assert all(one.up < len(part.steps) for one in (*part.key, *part.facts))
        asked = part.as_question()
        names = [one["up"] * ".." + one["name"] for one in (*asked["key"], *asked["facts"])]
        assert len(set(names)) == len(names), part
    assert {"forum", "assign", "quiz"} <= set(of_module())
