"""A file that is no backup is named for what it is."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import mbz_corpus as corpus
import pytest
from mbz_corpus import Piece

from moodlectl.errors import Refused
from moodlectl.mbz import inspect, verify

MOODLE1 = """<?xml version="1.0" encoding="UTF-8"?>
<MOODLE_BACKUP><INFO><NAME>backup-old.zip</NAME><MOODLE_VERSION>2007101591.02</MOODLE_VERSION>
<MOODLE_RELEASE>1.9.11</MOODLE_RELEASE><DATE>1300000000</DATE>
<ORIGINAL_WWWROOT>http://old.example.org</ORIGINAL_WWWROOT>
</INFO><COURSE><HEADER>
<ID>7</ID><FULLNAME>Old &amp; good</FULLNAME><SHORTNAME>OLD</SHORTNAME><FORMAT>weeks</FORMAT>
</HEADER><SECTIONS><SECTION><ID>1</ID><NUMBER>0</NUMBER></SECTION></SECTIONS>
<USERS><USER><ID>2</ID></USER><USER><ID>3</ID></USER></USERS>
<MODULES><MOD><ID>1</ID><MODTYPE>forum</MODTYPE></MOD><MOD><ID>2</ID><MODTYPE>quiz</MODTYPE></MOD></MODULES>
</COURSE></MOODLE_BACKUP>"""


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty", "empty"),
        (
            b'{"error":"Invalid token","errorcode":"invalidtoken"}',
            "not_a_backup",
            "Invalid token (invalidtoken)",
        ),
        (b'{"exception":"moodle_exception","message":"Nope \\u001b[31m"}', "not_a_backup", "Nope \ufffd[31m"),
        (b"[1, 2", "not_a_backup", "JSON text"),
        (b"[" * 60000, "not_a_backup", "JSON text"),
        (
            b"\n<!DOCTYPE html><html><head><title>Log in &amp; go</title>",
            "not_a_backup",
            "web page (Log in & go)",
        ),
        (
            b'<?xml version="1.0"?><EXCEPTION><MESSAGE>no</MESSAGE></EXCEPTION>',
            "not_a_backup",
            "XML error reply (no)",
        ),
        (b'<?xml version="1.0"?><moodle_backup></moodle_backup>', "not_a_backup", "bare moodle_backup.xml"),
        (b"7z\xbc\xaf\x27\x1c rest", "not_a_backup", "7-zip"),
        (b"%PDF-1.4", "not_a_backup", "PDF"),
        (b"Dear all,\nattached", "not_a_backup", "a text file"),
        (b"\x00\x01\x02\x03", "not_a_backup", "no kind known here"),
        (gzip.compress(b"just a text, compressed"), "not_a_backup", "no tar archive"),
        (gzip.compress(b"x" * 5000), "not_a_backup", "no tar archive"),
        (b"\x1f\x8b", "truncated", "cut short"),
        (b"\x1f\x8b\x08\x00garbage that is no deflate at all", "damaged", "damaged"),
        (b"PK\x03\x04", "truncated", "cut short"),
        (b"PK\x05\x06" + bytes(18), "not_a_backup", "empty"),
        (gzip.compress(bytes(1024)), "not_a_backup", "empty"),
    ],
)
def test_what_is_no_backup_is_named(content: bytes, code: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.mbz"
    path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        inspect(path)
    assert refused.value.code == code
    assert words in refused.value.message
    assert refused.value.hint
    report = verify(path)
    assert not report.ok
    assert report.problems[0].code == code


def test_a_plain_tar_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "backup.mbz"
    path.write_bytes(corpus.tar_bytes(corpus.pieces()))
    with pytest.raises(Refused, match="plain tar") as refused:
        inspect(path)
    assert "gzip" in str(refused.value.hint)


def test_a_folder_is_unreadable_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        inspect(tmp_path)
    assert refused.value.code == "unreadable"


def test_a_backup_packed_within_a_folder_says_what_to_do(tmp_path: Path) -> None:
    inside = [Piece("mine/" + piece.name, piece.data, piece.kind) for piece in corpus.pieces()]
    with pytest.raises(Refused, match="no Moodle backup") as refused:
        inspect(corpus.write_zip(tmp_path / "x.mbz", inside))
    assert "mine/moodle_backup.xml" in str(refused.value.hint)


def test_a_zip_with_a_backup_inside_says_so(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        inspect(corpus.write_zip(tmp_path / "x.zip", [Piece("course.mbz", b"x")]))
    assert "unpack it first" in str(refused.value.hint)


def test_a_backup_of_moodle_1_9_is_named_for_what_it_is(tmp_path: Path) -> None:
    path = corpus.write_zip(
        tmp_path / "old.zip", [Piece("moodle.xml", MOODLE1.encode()), Piece("course_files/a.txt")]
    )
    manifest = inspect(path)
    assert (manifest.format, manifest.kind) == ("moodle1", "Moodle 1.9 backup")
    assert (manifest.course.id, manifest.course.fullname, manifest.course.format) == (
        7,
        "Old & good",
        "weeks",
    )
    assert manifest.moodle_release == "1.9.11"
    assert (manifest.counts.users, manifest.counts.activities) == (2, {"forum": 1, "quiz": 1})
    assert verify(path).ok


@pytest.mark.parametrize("kind", ["section", "activity"])
def test_backups_of_a_section_or_an_activity_are_named_so(kind: str, tmp_path: Path) -> None:
    source = corpus.replaced(corpus.MANIFEST, "<type>course<", f"<type>{kind}<")
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert manifest.type == kind
    assert kind in manifest.kind


def test_an_activity_backup_keeps_its_activity_though_it_names_no_section(tmp_path: Path) -> None:
    manifest_xml = next(piece.data.decode() for piece in corpus.pieces() if piece.name == corpus.MANIFEST)
    sections = manifest_xml[manifest_xml.index("<sections>") : manifest_xml.index("</sections>")]
    source = corpus.replaced(corpus.MANIFEST, sections, "<sections>")
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    assert {activity.id for activity in manifest.all_activities()} == {6, 7, 8}


def test_long_names_of_gnu_and_pax_are_read(tmp_path: Path) -> None:
    name = "notes/" + "a" * 120 + "/" + "b" * 120 + ".xml"
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = corpus.write_tgz(tmp_path / "x.mbz", [*corpus.pieces(), Piece(name, b"<a></a>")], style)
        assert [(one.code, one.member) for one in verify(path).problems] == [("unexpected", name)]
