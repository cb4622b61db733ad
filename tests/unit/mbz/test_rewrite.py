"""Rewritten backups: whole, with the right people, and nothing of anybody where that was asked."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import mbz_corpus as corpus
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mbz_corpus import DATA, MANIFEST

from moodlectl import mbz
from moodlectl.errors import Refused, UsageError
from moodlectl.mbz.limits import MIB
from moodlectl.mbz.rewrite import FORGOTTEN_URL, Target, Wanted, rewrite
from moodlectl.mbz.usermap import Account, Entry, UserMap, made

RICH = DATA / "course-4.5-tgz-rich-users.mbz"
TGZ = DATA / "course-4.5-tgz-users.mbz"
ZIP = DATA / "course-4.5-zip-users.mbz"
ALL = sorted(path for path in DATA.glob("*-users.mbz"))
ADMIN = UserMap((Entry("admin", "admin"),), {"admin": Account("admin", 2, "root@here.org", 99)})


def contents(path: Path) -> dict[str, bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    return {piece.name: piece.data for piece in corpus.pieces(path) if piece.kind == tarfile.REGTYPE}


def counts(path: Path) -> object:
    found = mbz.inspect(path).as_dict()
    return {key: value for key, value in found.items() if key not in ("size", "path")}


def people(path: Path) -> dict[str, mbz.UserRecord]:
    return {person.username: person for person in mbz.read_users(path)}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_map_of_everybody_to_themselves_changes_nothing(path: Path, tmp_path: Path) -> None:
    map_ = made([Entry(name, name) for name in people(path)])
    report = rewrite(path, tmp_path / "new.mbz", Wanted(user_map=map_))
    assert mbz.verify(tmp_path / "new.mbz").ok
    assert report.sha1 == mbz.verify(tmp_path / "new.mbz").sha1
    assert counts(tmp_path / "new.mbz") == counts(path)
    assert contents(tmp_path / "new.mbz") == contents(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "new.mbz"]


@pytest.mark.parametrize("path", [TGZ, ZIP], ids=["tgz", "zip"])
def test_a_mapped_person_has_all_that_moodle_matches_by(path: Path, tmp_path: Path) -> None:
    report = rewrite(path, tmp_path / "new.mbz", Wanted(user_map=ADMIN, target=Target("https://here.org", "x")))
    admin = people(tmp_path / "new.mbz")["admin"]
    assert (admin.email, admin.firstaccess, admin.deleted, admin.mnethosturl) == ("root@here.org", 99, False, None)
    assert admin.id == people(path)["admin"].id
    before, after = contents(path), contents(tmp_path / "new.mbz")
    assert {name for name in before if before[name] != after[name]} == {"users.xml"}
    assert zipfile.is_zipfile(tmp_path / "new.mbz") == zipfile.is_zipfile(path)
    assert report.mapped == (("admin", "admin"),)
    assert report.notes == ()


def test_an_email_that_is_not_known_is_told(tmp_path: Path) -> None:
    report = rewrite(TGZ, tmp_path / "new.mbz", Wanted(user_map=made([Entry("admin", "boss")])))
    assert "email of boss" in report.notes[0]
    with_mail = Wanted(user_map=made([Entry("admin", "boss", "b@x.org")]))
    report = rewrite(TGZ, tmp_path / "new.mbz", with_mail, overwrite=True)
    assert report.notes == ()
    assert people(tmp_path / "new.mbz")["boss"].email == "b@x.org"


def test_on_its_own_site_a_file_becomes_a_strangers_only_where_ids_differ(tmp_path: Path) -> None:
    origin = mbz.inspect(TGZ).original_site
    id_ = people(TGZ)["admin"].id
    for account_id, hash_, other in ((id_, origin.identifier_hash, False), (id_ + 1, origin.identifier_hash, True),
                                     (id_ + 1, "f" * 32, False), (id_ + 1, None, True)):  # fmt: skip
        map_ = UserMap((Entry("admin", "admin"),), {"admin": Account("admin", account_id, "a@b.c")})
        wanted = Wanted(user_map=map_, target=Target(origin.url or "", hash_))
        report = rewrite(TGZ, tmp_path / "new.mbz", wanted, overwrite=True)
        assert (mbz.inspect(tmp_path / "new.mbz").original_site.identifier_hash != origin.identifier_hash) == other
        assert bool(report.notes) == other


def test_who_is_left_out_is_named_nowhere_as_the_owner_of_anything(tmp_path: Path) -> None:
    id_ = people(RICH)["rich1.s02"].id
    report = rewrite(RICH, tmp_path / "new.mbz", Wanted(user_map=made([Entry("rich1.s02", None)])))
    assert (report.left_out, report.stand_ins) == (("rich1.s02",), ("rich1.s02",))
    after = contents(tmp_path / "new.mbz")
    for name, data in after.items():
        if name.endswith(".xml") and f"<userid>{id_}</userid>".encode() in data:
            assert re.search(r"forum|wiki|glossary|data_|^files", name), name
    assert b"rich1.s02" not in after["users.xml"]
    stand_in = next(person for person in people(tmp_path / "new.mbz").values() if person.id == id_)
    assert re.fullmatch(r"anon\d+", stand_in.username)
    before = contents(RICH)
    forum = next(name for name in before if name.endswith("forum.xml") and b"<discussion id" in before[name])
    assert after[forum].count(b"<post id") == before[forum].count(b"<post id")
    assert after["course/enrolments.xml"].count(b"<enrolment id") == before["course/enrolments.xml"].count(
        b"<enrolment id") - 1  # fmt: skip


def test_who_wrote_nothing_for_others_is_gone_altogether(tmp_path: Path) -> None:
    report = rewrite(RICH, tmp_path / "new.mbz", Wanted(user_map=made([Entry("rich1.c2", None)])))
    assert report.stand_ins == ()
    assert "rich1.c2" not in people(tmp_path / "new.mbz")
    id_ = people(RICH)["rich1.c2"].id
    references = [data for name, data in contents(tmp_path / "new.mbz").items() if name.endswith("inforef.xml")]
    assert not any(re.search(rf"<user>\s*<id>{id_}</id>".encode(), data) for data in references)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_an_anonymised_copy_names_nobody_in_any_field_moodle_has_for_names(path: Path, tmp_path: Path) -> None:
    persons = people(path)
    report = rewrite(path, tmp_path / "new.mbz", Wanted(anonymize=True))
    after = contents(tmp_path / "new.mbz")
    assert mbz.verify(tmp_path / "new.mbz").ok
    assert "moodle_backup.log" not in after
    for number, person in enumerate(mbz.read_users(tmp_path / "new.mbz"), 1):
        assert (person.username, person.email) == (f"anon{number}", f"anon{number}@doesntexist.invalid")
        assert (person.firstname, person.lastname) == (f"anonfirstname{number}", f"anonlastname{number}")
        assert (person.idnumber, person.firstaccess) == ("", 0)
    for name, data in after.items():
        if not name.endswith(".xml"):
            continue
        text = data.decode()
        named = r"<(author|ip|lastip|issuercontact|imageauthoremail)>(?!\$@NULL@\$|127\.0\.0\.1)[^<]"
        assert not re.search(named, text), name
        assert "<logstore_standard_log " not in text
        for person in persons.values():
            if person.username != "admin":
                assert f">{person.username}<" not in text, name
            assert not person.email or person.email not in text, name
    settings_ = mbz.inspect(tmp_path / "new.mbz").settings
    assert settings_["anonymize"] in (True, "1", 1)
    assert b"-an.mbz</name>" in after[MANIFEST]
    assert counts(tmp_path / "new.mbz") != counts(path)
    assert report.leftovers


def test_what_could_not_be_known_to_be_harmless_is_listed(tmp_path: Path) -> None:
    report = rewrite(RICH, tmp_path / "new.mbz", Wanted(anonymize=True))
    listed = {(leftover.where, leftover.what.rpartition(": ")[2]) for leftover in report.leftovers}
    for where, what in (("forum", "post.message"), ("assign", "submission_onlinetext.onlinetext"),
                        ("assign", "feedback_comments.commenttext"), ("glossary", "entry.definition"),
                        ("wiki", "version.content"), ("data", "content.content"), ("quiz", "variable.value"),
                        ("gradebook.xml", "grade_grade.feedback"), ("feedback", "value.value")):  # fmt: skip
        assert (where, what) in listed
    posts = next(leftover for leftover in report.leftovers if leftover.what.endswith("post.message"))
    assert posts.count == sum(data.count(b"<post id") for name, data in contents(RICH).items() if "forum" in name)


def test_names_of_what_was_handed_in_become_plain_and_endings_stay(tmp_path: Path) -> None:
    rewrite(RICH, tmp_path / "new.mbz", Wanted(anonymize=True))
    pattern = re.compile(rb"<filearea>submission_files</filearea>.*?<filename>([^<]*)</filename>", re.DOTALL)
    before = pattern.findall(contents(RICH)["files.xml"])
    after = pattern.findall(contents(tmp_path / "new.mbz")["files.xml"])
    assert len(before) == len(after)
    assert any(name != b"." for name in before)
    for old, new in zip(before, after, strict=True):
        assert new == b"." if old == b"." else re.fullmatch(rb"file\d+\." + old.rpartition(b".")[2].lower(), new)


def with_portrait(tmp_path: Path) -> Path:
    """The small backup with a portrait of somebody in its pool, and a page that says where the site is."""
    import hashlib

    portrait = b"a face"
    sha1 = hashlib.sha1(portrait, usedforsecurity=False).hexdigest()
    source = []
    for piece in corpus.pieces(TGZ):
        if piece.name == "files.xml":
            record = re.search(rb"  <file id=.*?</file>\n", piece.data, re.DOTALL)
            assert record
            face = re.sub(rb'id="\d+"', b'id="987654"', record[0])
            for name, value in (("contenthash", sha1), ("component", "user"), ("filearea", "icon"),
                                ("filename", "f1.png"), ("filesize", str(len(portrait)))):  # fmt: skip
                face = re.sub(rf"<{name}>[^<]*<".encode(), f"<{name}>{value}<".encode(), face)
            piece.data = piece.data.replace(record[0], face + record[0])
        if piece.name == "course/course.xml":
            url = (mbz.inspect(TGZ).original_site.url or "").encode()
            said = url + b"/x, " + url.replace(b"/", b"\\/") + b", " + url + b"9 and " + url.upper()
            before, _, rest = piece.data.partition(b"<summary>")
            piece.data = before + b"<summary>" + said + rest[rest.index(b"<") :]
        source.append(piece)
        if piece.name == "files":
            source += [corpus.Piece(f"files/{sha1[:2]}", kind=tarfile.DIRTYPE),
                       corpus.Piece(f"files/{sha1[:2]}/{sha1}", portrait)]  # fmt: skip
    path = corpus.write_tgz(tmp_path / "portrait.mbz", [corpus.index(source), *source])
    assert mbz.verify(path).ok, mbz.verify(path).problems
    return path


def test_a_portrait_leaves_the_pool_with_its_owner(tmp_path: Path) -> None:
    path = with_portrait(tmp_path)
    assert b"a face" in contents(path).values()
    for wanted in (Wanted(anonymize=True), Wanted(without_users=True)):
        rewrite(path, tmp_path / "new.mbz", wanted, overwrite=True)
        assert b"a face" not in contents(tmp_path / "new.mbz").values()


def test_the_site_is_forgotten_in_the_manifest_and_in_every_text(tmp_path: Path) -> None:
    path = with_portrait(tmp_path)
    url = mbz.inspect(path).original_site.url
    assert url
    report = rewrite(path, tmp_path / "new.mbz", Wanted(forget_site=True))
    origin = mbz.inspect(tmp_path / "new.mbz").original_site
    assert (origin.url, origin.identifier_hash) == (FORGOTTEN_URL, "0" * 32)
    said = re.search(rb"<summary>([^<]*)<", contents(tmp_path / "new.mbz")["course/course.xml"])
    escaped = FORGOTTEN_URL.replace("/", "\\/")
    assert said
    assert said[1].decode() == f"{FORGOTTEN_URL}/x, {escaped}, {url}9 and {FORGOTTEN_URL}"
    assert report.changed["addresses"] >= 3


def test_without_users_no_record_of_anybody_is_left(tmp_path: Path) -> None:
    rewrite(RICH, tmp_path / "new-nu.mbz", Wanted(without_users=True))
    after = contents(tmp_path / "new-nu.mbz")
    manifest = mbz.inspect(tmp_path / "new-nu.mbz")
    assert "users.xml" not in after
    assert manifest.settings["users"] in (False, "0", 0)
    assert not any(activity.userinfo for section in manifest.sections for activity in section.activities)
    for name, data in after.items():
        of_the_course = "calendar" in name or name in ("files.xml", "scales.xml", "questions.xml")
        if name.endswith(".xml") and not of_the_course:
            assert not re.search(rb"<userid>[1-9]\d*</userid>", data), name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.data())
def test_any_map_makes_a_whole_backup_with_those_people(drawn: st.DataObject, tmp_path: Path) -> None:
    names = list(people(RICH))
    chosen = drawn.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    fresh = st.text("abc<&é\"'", min_size=1, max_size=9).map(lambda word: word.strip() or "z")
    entries = [
        Entry(name, drawn.draw(st.one_of(st.none(), st.just(f"{place}-{drawn.draw(fresh)}"))), f"{place}@x.org")
        for place, name in enumerate(chosen)
    ]
    report = rewrite(RICH, tmp_path / "new.mbz", Wanted(user_map=made(entries)), overwrite=True)
    found = people(tmp_path / "new.mbz")
    gone = {entry.old for entry in entries if entry.new is None}
    assert set(names) - set(chosen) <= set(found)
    assert {entry.new for entry in entries if entry.new is not None} <= set(found)
    assert len(found) == len(names) - len(gone) + len(report.stand_ins)


def test_nothing_is_overwritten_unless_that_was_said(tmp_path: Path) -> None:
    output = tmp_path / "new.mbz"
    output.write_bytes(b"mine")
    with pytest.raises(Refused) as caught:
        rewrite(TGZ, output, Wanted(anonymize=True))
    assert caught.value.code == "exists"
    assert output.read_bytes() == b"mine"
    own = tmp_path / "own.mbz"
    own.write_bytes(TGZ.read_bytes())
    with pytest.raises(UsageError):
        rewrite(own, own, Wanted(anonymize=True), overwrite=True)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(user_map=UserMap()),
        Wanted(user_map=ADMIN, anonymize=True),
        Wanted(user_map=ADMIN, without_users=True),
        Wanted(anonymize=True, without_users=True),
        Wanted(user_map=made([Entry("nobody", "x")])),
    ],
)
def test_words_that_do_not_fit_are_refused_before_anything_is_written(wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        rewrite(TGZ, tmp_path / "new.mbz", wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in corpus.HOSTILE if "million" not in name and "ten giga" not in name])
def test_a_hostile_file_is_refused_and_nothing_is_left_behind(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    corpus.HOSTILE[name][0](tmp_path / "in/x.mbz")
    with pytest.raises(Refused):
        rewrite(tmp_path / "in/x.mbz", tmp_path / "out/new.mbz", Wanted(anonymize=True, forget_site=True))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_backup_that_is_not_whole_is_not_passed_on(tmp_path: Path) -> None:
    source = [piece for piece in corpus.pieces(TGZ) if not piece.name.startswith("files/")]
    corpus.write_tgz(tmp_path / "x.mbz", source)
    with pytest.raises(Refused) as caught:
        rewrite(tmp_path / "x.mbz", tmp_path / "new.mbz", Wanted(anonymize=True))
    assert caught.value.code == "not_whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x.mbz"]
    for name in ("truncated-tgz.mbz", "truncated-zip.mbz"):
        with pytest.raises(Refused):
            rewrite(DATA / name, tmp_path / "new.mbz", Wanted(anonymize=True))


def test_the_archive_is_what_moodles_packer_writes(tmp_path: Path) -> None:
    rewrite(RICH, tmp_path / "new.mbz", Wanted(user_map=made([Entry("rich1.s01", "x")])))
    with tarfile.open(tmp_path / "new.mbz") as new, tarfile.open(RICH) as old:
        members = new.getmembers()
        assert [member.name for member in members] == old.getnames()
        assert members[0].name == ".ARCHIVE_INDEX"
        assert {member.mtime for member in members} == {1356998400}
        assert {member.type for member in members} <= {tarfile.REGTYPE, tarfile.DIRTYPE}
        assert {(member.uid, member.gid, member.pax_headers == {}) for member in members} == {(0, 0, True)}


def test_many_people_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    import tracemalloc

    source = corpus.pieces(TGZ)
    for piece in source:
        if piece.name == "users.xml":
            user = re.search(rb"  <user id=.*?</user>\n", piece.data, re.DOTALL)
            assert user
            template = re.sub(rb'id="\d+"', b'id="%d"', user[0].replace(b"%", b"%%"), count=1)
            template = re.sub(rb"<username>[^<]*", b"<username>u%d", template, count=1)
            many = b"".join(template % (10**6 + number, number) for number in range(20_000))
            piece.data = piece.data.replace(b"</users>", many + b"</users>")
    path = corpus.write_tgz(tmp_path / "many.mbz", source)
    size = len(next(piece.data for piece in source if piece.name == "users.xml"))
    del source, many
    tracemalloc.start()
    rewrite(path, tmp_path / "new.mbz", Wanted(user_map=made([Entry("u7", "seven")])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 20 * MIB
    assert peak < 8 * MIB
