"""Backups go in, every content once, and come out as ordinary ones."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from moodlectl import mbz
from moodlectl.errors import ConfigError, Failed, MoodlectlError, NotFound, Refused
from moodlectl.store import Store, entries, exporting, open_store
from moodlectl.store.pool import name_of
from tests.backups import DAY, make_backup, sha1
from tests.unit.store.keeping import add, kept, names, whole

DATA = Path(__file__).parents[2] / "data" / "mbz"
REAL = ["course-4.5-tgz-rich-users.mbz", "course-4.5-zip-users.mbz", "course-5.1-tgz-subsections.mbz"]


def members(path: Path) -> dict[str, str]:
    """Every member with the sha1 of its bytes."""
    found = {}
    with mbz.open_backup(path) as archive:
        for member in archive.members():
            if member.kind == "file" and member.name != ".ARCHIVE_INDEX":
                found[member.name] = hashlib.sha1(b"".join(member.chunks()), usedforsecurity=False).hexdigest()
    return found


@pytest.mark.parametrize("name", REAL)
def test_what_comes_out_is_what_went_in_member_by_member(store: Store, name: str, tmp_path: Path) -> None:
    added = add(store, DATA / name)
    out = tmp_path / "out.mbz"
    report = exporting.write(store, added.entry, out)
    assert report.ok and mbz.verify(out).ok
    assert members(out) == members(DATA / name)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.mbz"]
    whole(store)


def test_a_content_is_kept_once_however_many_backups_have_it(store: Store, tmp_path: Path) -> None:
    same, other = os.urandom(300_000), os.urandom(1000)
    one = add(store, make_backup(tmp_path / "1.mbz", {"a": same}))
    two = add(store, make_backup(tmp_path / "2.zip", {"a": same, "b": same, "c": other}, date=DAY + timedelta(days=1)))
    assert [n for n in names(store) if n.startswith("contents/")] == sorted([name_of(sha1(same)), name_of(sha1(other))])
    assert one.entry.came > 300_000 > 30_000 > two.entry.came
    assert (two.entry.contents, two.entry.content_bytes) == (2, 301_000)
    assert whole(store).contents == 2


def test_the_same_file_twice_is_one_backup(store: Store, tmp_path: Path) -> None:
    path = make_backup(tmp_path / "1.mbz", {"a": b"x"})
    assert add(store, path).new
    before = names(store)
    again = add(store, path)
    assert not again.new
    assert names(store) == before


def test_a_large_content_travels_in_pieces(store: Store, tmp_path: Path) -> None:
    large = os.urandom(13_000_000)
    added = add(store, make_backup(tmp_path / "1.mbz", {"large": large, "small": b"s"}))
    exporting.write(store, added.entry, tmp_path / "out.mbz")
    assert members(tmp_path / "out.mbz")[f"files/{sha1(large)[:2]}/{sha1(large)}"] == sha1(large)


def test_empty_files_need_no_content(store: Store, tmp_path: Path) -> None:
    added = add(store, make_backup(tmp_path / "1.mbz", {"empty": b"", "b": b"b"}))
    assert added.entry.contents == 1
    assert exporting.write(store, added.entry, tmp_path / "out.mbz").ok


def test_a_backup_made_without_files_stays_one(store: Store, tmp_path: Path) -> None:
    added = add(store, DATA / "course-4.1-tgz-without-files.mbz")
    assert not added.entry.carries
    exporting.write(store, added.entry, tmp_path / "out.mbz")
    assert not mbz.inspect(tmp_path / "out.mbz").include_files
    assert members(tmp_path / "out.mbz") == members(DATA / "course-4.1-tgz-without-files.mbz")


def test_a_file_that_lacks_a_content_is_refused_by_the_names_of_its_files(folder: Store, tmp_path: Path) -> None:
    def lose(members: dict[str, bytes]) -> None:
        del members[f"files/{sha1(b'gone')[:2]}/{sha1(b'gone')}"]

    path = make_backup(tmp_path / "1.mbz", {"essay.pdf": b"gone", "b": b"there"}, change=lose)
    with pytest.raises(Refused) as refused:
        add(folder, path)
    assert refused.value.code == "not_whole"
    assert refused.value.details["files"] == ["essay.pdf"]
    assert kept(folder) == set()
    added = add(folder, path, "not-whole")
    assert added.entry.holes == (sha1(b"gone"),)
    assert whole(folder).contents == 1
    exporting.write(folder, added.entry, tmp_path / "out.mbz", allow_holes=True)
    assert members(tmp_path / "out.mbz") == members(path)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda members: members.update({"files/" + sha1(b"a")[:2] + "/" + sha1(b"a"): b"b"}), "content_damaged"),
        (lambda members: members.update({"users.xml": b"<users><user>"}), "bad_xml"),
        (lambda members: members.update({"users.xml": b'<!DOCTYPE x [<!ENTITY e "e">]><users/>'}), "hostile_entity"),
        (lambda members: members.update({"../../evil": b"x"}), "hostile_path"),
        (lambda members: members.pop("moodle_backup.xml"), "not_a_backup"),
        (lambda members: members.pop("roles.xml"), "missing"),
    ],
)
def test_what_the_reader_refuses_the_store_refuses(folder: Store, tmp_path: Path, change: object, code: str) -> None:
    path = make_backup(tmp_path / "1.mbz", {"a": b"a"}, change=change)  # type: ignore[arg-type]
    with pytest.raises(MoodlectlError) as refused:
        add(folder, path, "not-whole")
    assert refused.value.code == code
    assert kept(folder) == set()
    assert not [one for one in names(folder) if one.startswith(("incoming", "locks", "backups"))]


def test_a_lie_about_a_size_brings_nothing_in(folder: Store, tmp_path: Path) -> None:
    path = make_backup(
        tmp_path / "1.mbz",
        {"a": b"aaaa"},
        change=lambda members: members.update(
            {"files.xml": members["files.xml"].replace(b"<filesize>4<", b"<filesize>999999999999<")}
        ),
    )
    with pytest.raises(Refused) as refused:
        add(folder, path)
    assert refused.value.code == "not_whole"


def test_a_damaged_content_never_comes_out(store: Store, tmp_path: Path) -> None:
    added = add(store, make_backup(tmp_path / "1.mbz", {"essay.pdf": b"good bytes"}))
    (tmp_path / "bad").write_bytes(b"bad  bytes")
    store.place.put([(tmp_path / "bad", name_of(sha1(b"good bytes")))])
    with pytest.raises(Failed) as failed:
        exporting.write(store, added.entry, tmp_path / "out.mbz")
    assert failed.value.code == "content_damaged"
    assert "essay.pdf" in failed.value.message
    assert not list(tmp_path.glob("out*"))


def test_a_lost_content_is_told_with_the_file_that_has_it(store: Store, tmp_path: Path) -> None:
    added = add(store, make_backup(tmp_path / "1.mbz", {"essay.pdf": b"good bytes"}))
    store.place.remove([name_of(sha1(b"good bytes"))])
    with pytest.raises(MoodlectlError) as failed:
        exporting.write(store, added.entry, tmp_path / "out.mbz")
    assert "essay.pdf" in failed.value.message


def test_a_content_that_was_cut_short_in_the_store_is_brought_anew(store: Store, tmp_path: Path) -> None:
    add(store, make_backup(tmp_path / "1.mbz", {"a": b"good bytes"}))
    (tmp_path / "cut").write_bytes(b"good")
    store.place.put([(tmp_path / "cut", name_of(sha1(b"good bytes")))])
    add(store, make_backup(tmp_path / "2.mbz", {"a": b"good bytes"}, date=DAY + timedelta(days=1)))
    whole(store)


def test_backups_are_found_by_id_course_and_day(folder: Store, tmp_path: Path) -> None:
    days = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=9)]
    found = [add(folder, make_backup(tmp_path / f"{n}.mbz", {}, date=day)).entry for n, day in enumerate(days)]
    other = add(folder, make_backup(tmp_path / "x.mbz", {}, shortname="CHEM", course=7)).entry
    assert folder.find(found[0].id[:10]) == found[0]
    assert folder.find("BIO101") == found[2]
    assert folder.find("id:42") == found[2]
    assert folder.find("BIO101@2026-11-05") == found[1]
    assert folder.find("CHEM") == other
    for word in ("PHYS", "BIO101@2026-10-01", "0" * 10):
        with pytest.raises(NotFound) as missing:
            folder.find(word)
        assert missing.value.details["courses"] == ["BIO101", "CHEM"]


def test_a_name_that_two_courses_have_is_an_error_that_lists_both(folder: Store, tmp_path: Path) -> None:
    add(folder, make_backup(tmp_path / "1.mbz", {}, course=1))
    add(folder, make_backup(tmp_path / "2.mbz", {}, course=2))
    with pytest.raises(NotFound) as several:
        folder.find("BIO101")
    assert (several.value.code, len(several.value.details["backups"])) == ("ambiguous_backup", 2)


def test_nobody_else_may_read_a_store_in_a_folder(folder: Store, tmp_path: Path) -> None:
    add(folder, make_backup(tmp_path / "1.mbz", {"a": b"a"}))
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_with_other_things_in_it_does_not_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine")
    with pytest.raises(Refused) as refused:
        open_store(str(tmp_path), create=True)
    assert refused.value.code == "not_a_store"
    with pytest.raises(NotFound):
        open_store(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_a_store_of_a_later_moodlectl_is_left_alone(address: str) -> None:
    made = open_store(address, create=True)
    made.place.save("moodlectl-store.json", b'{"moodlectl-store": 2}')
    with pytest.raises(Failed) as failed:
        open_store(address, create=True)
    assert failed.value.code == "store_too_new"


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b'{"format": 1, "id": "../../x"}', b"\xff\xfe", b'{"format": 9}'])
def test_a_damaged_entry_hides_no_other(store: Store, tmp_path: Path, entry: bytes) -> None:
    good = add(store, make_backup(tmp_path / "1.mbz", {"a": b"a"})).entry
    store.place.save(entries.name_of("ab" * 20), entry)
    found, broken = store.look()
    assert found == [good]
    assert len(broken) == 1 and "ab" * 20 in broken[0].message


@pytest.mark.parametrize(
    "address",
    ["s3://key:secret@bucket/x", "s3://key@bucket/x", "s3://bucket/x?secret=y", "file://otherhost/x", "s3://", "nosuch://x",
     "s3:/bucket/x", "S3:bucket", "gs:/bucket", "simplecache::s3://bucket/x"],
)
def test_addresses_that_carry_a_secret_or_lead_nowhere_are_refused_and_not_repeated(address: str) -> None:
    if address.startswith(("s3://", "nosuch")):
        pytest.importorskip("s3fs")
    with pytest.raises(ConfigError) as refused:
        open_store(address)
    assert "secret" not in refused.value.message


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/a%20b", create=True)
    assert (tmp_path / "a b" / "moodlectl-store.json").is_file()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError) as refused:
        open_store("s3://bucket/prefix")
    assert "moodlectl-backup[s3]" in str(refused.value.hint)
