"""What is wrong with a damaged or changed backup is listed, each thing once and by name."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import mbz_corpus as corpus
import pytest
from mbz_corpus import MANIFEST, WITH_FILES, Piece

from moodlectl.mbz import VerifyReport, verify

POOLED = "files/11/11f6a23580acabe2db41a0f2d64175245b3e93e0"


def problems(tmp_path: Path, source: list[Piece], with_index: bool = True) -> list[tuple[str, str | None]]:
    listed = [corpus.index(source), *source] if with_index else source
    report = verify(corpus.write_tgz(tmp_path / "x.mbz", listed))
    return [(problem.code, problem.member) for problem in report.problems]


def changed(change: Callable[[Piece], Piece | None]) -> list[Piece]:
    found = [change(piece) for piece in corpus.pieces(WITH_FILES)]
    return [piece for piece in found if piece is not None]


def test_a_backup_written_again_by_hand_verifies_clean(tmp_path: Path) -> None:
    source = corpus.pieces(WITH_FILES)
    assert problems(tmp_path, source) == []
    assert problems(tmp_path, source, with_index=False) == []
    dotted = [Piece("./", b"", tarfile.DIRTYPE), *(Piece("./" + p.name, p.data, p.kind) for p in source)]
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert verify(corpus.write_tgz(tmp_path / "y.mbz", dotted, style)).ok
    assert verify(corpus.write_zip(tmp_path / "z.mbz", source)).ok
    assert verify(corpus.write_zip(tmp_path / "z.mbz", source, zipfile.ZIP_STORED)).ok


def test_the_report_counts_files_and_bytes(tmp_path: Path) -> None:
    source = corpus.pieces(WITH_FILES)
    report = verify(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert isinstance(report, VerifyReport)
    assert report.files_checked == sum(piece.kind != tarfile.DIRTYPE for piece in source)
    assert report.bytes_checked == sum(len(piece.data) for piece in source)
    assert set(report.as_dict()) == {"path", "ok", "problems", "files_checked", "bytes_checked", "sha1"}


def test_a_content_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    def change(piece: Piece) -> Piece:
        return Piece(piece.name, b"X" + piece.data[1:], piece.kind) if piece.name == POOLED else piece

    assert problems(tmp_path, changed(change)) == [("content", POOLED)]


def test_a_content_that_is_missing_and_one_that_nobody_claims(tmp_path: Path) -> None:
    assert problems(tmp_path, changed(lambda p: None if p.name == POOLED else p)) == [("missing", None)]
    extra = Piece("files/86/" + "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", b"a")
    assert problems(tmp_path, [*corpus.pieces(WITH_FILES), extra]) == [("unclaimed", None)]


def test_a_content_of_another_size_than_files_xml_says(tmp_path: Path) -> None:
    data = next(piece.data.decode() for piece in corpus.pieces(WITH_FILES) if piece.name == "files.xml")
    size = data.split("<filesize>")[1].split("<")[0]
    source = corpus.replaced("files.xml", f"<filesize>{size}<", "<filesize>77<", corpus.pieces(WITH_FILES))
    assert [code for code, _ in problems(tmp_path, source)] == ["size"]


def test_broken_xml_is_named_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    def change(piece: Piece) -> Piece | None:
        if piece.name == "roles.xml":
            return Piece(piece.name, piece.data + b"<more>")
        if piece.name == "course/filters.xml":
            return Piece(piece.name, b"")
        return None if piece.name == POOLED else piece

    found = problems(tmp_path, changed(change))
    assert sorted(found, key=str) == sorted(
        [("bad_xml", "roles.xml"), ("bad_xml", "course/filters.xml"), ("missing", None)], key=str
    )


@pytest.mark.parametrize(
    "name", ["users.xml", "activities/forum_5/forum.xml", "course/course.xml", "files.xml"]
)
def test_what_the_manifest_names_and_is_not_there(name: str, tmp_path: Path) -> None:
    found = problems(tmp_path, changed(lambda piece: None if piece.name == name else piece))
    assert ("missing", name) in found


def test_what_is_there_and_nothing_moodle_writes(tmp_path: Path) -> None:
    added = [Piece("evil.php", b"<?php"), Piece("activities/quiz_99/quiz.xml", b"<activity></activity>")]
    found = problems(tmp_path, [*corpus.pieces(WITH_FILES), *added])
    assert found == [("unexpected", "evil.php"), ("unexpected", "activities/quiz_99")]


def test_an_index_that_disagrees(tmp_path: Path) -> None:
    source = corpus.pieces(WITH_FILES)
    short = [corpus.index(source[:-1]), *source]
    codes = [problem.code for problem in verify(corpus.write_tgz(tmp_path / "x.mbz", short)).problems]
    assert set(codes) == {"index"}
    long = [corpus.index([*source, Piece("x.xml", b"")]), *source]
    assert not verify(corpus.write_tgz(tmp_path / "x.mbz", long)).ok
    lying = corpus.index(source)
    lying.data = lying.data.replace(b"users.xml\tf\t", b"users.xml\tf\t9")
    found = verify(corpus.write_tgz(tmp_path / "x.mbz", [lying, *source])).problems
    assert [(problem.code, problem.member) for problem in found] == [("index", "users.xml")]


def test_bytes_that_belong_to_nothing_are_named(tmp_path: Path) -> None:
    path = corpus.write_tgz(tmp_path / "x.mbz", corpus.pieces())
    path.write_bytes(path.read_bytes() + b"hidden")
    assert [problem.code for problem in verify(path).problems] == ["container"]
    path.write_bytes(gzip.compress(corpus.tar_bytes(corpus.pieces()) + b"hidden"))
    assert [problem.code for problem in verify(path).problems] == ["hostile_tar"]
    path.write_bytes(b"hidden" + corpus.write_zip(tmp_path / "z.mbz", corpus.pieces()).read_bytes())
    assert [problem.code for problem in verify(path).problems] == ["not_a_backup"]


def test_a_wrong_gzip_checksum_is_damage(tmp_path: Path) -> None:
    path = corpus.write_tgz(tmp_path / "x.mbz", corpus.pieces())
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert [problem.code for problem in verify(path).problems] == ["damaged"]


def test_one_damaged_member_of_a_zip_does_not_hide_the_others(tmp_path: Path) -> None:
    path = corpus.write_zip(tmp_path / "x.mbz", corpus.pieces(WITH_FILES), zipfile.ZIP_STORED)
    data = path.read_bytes()
    for text in (b"<users>", b"<scales_definition>"):
        data = data.replace(text, b"<" + text[1:3].upper() + text[3:])
    path.write_bytes(data)
    members = {problem.member for problem in verify(path).problems}
    assert {"users.xml", "scales.xml"} <= members


def test_thousands_of_problems_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    source = [*corpus.pieces(), *(Piece(f"files/aa/{number:040x}", b"") for number in range(3000))]
    report = verify(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert len(report.problems) == 201
    assert report.problems[-1].code == "more"


def test_a_manifest_that_is_missing_makes_it_no_backup(tmp_path: Path) -> None:
    source = [piece for piece in corpus.pieces() if piece.name != MANIFEST]
    assert ("not_a_backup", None) in problems(tmp_path, source)
