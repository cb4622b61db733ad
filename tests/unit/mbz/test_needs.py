"""What depends on what: links of every form, also in texts of sections and the course, and profile fields."""

from __future__ import annotations

from pathlib import Path

import mbz_corpus as corpus
import pytest

from moodlectl.mbz import dependencies, inspect

FORUM = "activities/forum_5/forum.xml"


def needs(tmp_path: Path, member: str, old: str, new: str) -> set[tuple[str, str, str, bool]]:
    source = corpus.replaced(member, old, new, corpus.pieces(corpus.WITH_FILES))
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert all(dependencies.missing(manifest))
    return {(one.item, one.kind, one.needs, one.missing) for one in manifest.dependencies}


@pytest.mark.parametrize(
    ("link", "other"),
    [
        ("$@PAGEVIEWBYID*999@$", "cmid:999"),
        ("$@BOOKVIEWBYIDCH*999*3@$", "cmid:999"),
        ("$@H5PACTIVITYVIEWBYID*999@$", "cmid:999"),
        ("$@LESSONVIEWPAGE*999*3@$", "cmid:999"),
        ("$@FEEDBACKANALYSISBYID*999@$", "cmid:999"),
        ("$@FORUMVIEWBYF*888@$", "forum:888"),
        ("$@DATAVIEWRECORD*888*2@$", "data:888"),
    ],
)
def test_links_of_every_form_are_followed(link: str, other: str, tmp_path: Path) -> None:
    found = needs(tmp_path, FORUM, "</intro>", link + "</intro>")
    assert ("cmid:5", "link", other, True) in found


def test_links_in_the_course_and_its_sections_are_followed(tmp_path: Path) -> None:
    assert ("course", "link", "cmid:999", True) in needs(
        tmp_path, "course/course.xml", "<summary>", "<summary>$@PAGEVIEWBYID*999@$"
    )
    member = next(piece.name for piece in corpus.pieces(corpus.WITH_FILES) if piece.name.endswith("section.xml"))
    section = member.split("/")[1].replace("_", ":")
    assert (section, "link", "cmid:5", False) in needs(
        tmp_path, member, "<summary>", "<summary>$@FORUMVIEWBYID*5@$"
    )


def test_a_link_by_an_activitys_own_number_leads_to_it(tmp_path: Path) -> None:
    forum = next(piece.data for piece in corpus.pieces(corpus.WITH_FILES) if piece.name == FORUM)
    number = forum.partition(b'<activity id="')[2].partition(b'"')[0].decode()
    found = needs(tmp_path, "course/course.xml", "<summary>", f"<summary>$@FORUMVIEWBYF*{number}@$")
    assert ("course", "link", "cmid:5", False) in found


def test_a_restriction_by_a_profile_field_needs_what_no_backup_brings(tmp_path: Path) -> None:
    tree = '{"op":"&amp;","c":[{"type":"profile","cf":"shoe","op":"isequalto","v":"42"}],"showc":[true]}'
    member = "activities/forum_5/module.xml"
    data = next(piece.data for piece in corpus.pieces(corpus.WITH_FILES) if piece.name == member).decode()
    old = data[data.index("<availability>") : data.index("</availability>")]
    found = needs(tmp_path, member, old, "<availability>" + tree)
    assert ("cmid:5", "restriction", "profile_field:shoe", True) in found
