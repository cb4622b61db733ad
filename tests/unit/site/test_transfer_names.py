"""Where a file is fetched from, and what it may be called here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from moodlectl.errors import Refused
from moodlectl.secret import Secret
from moodlectl.site.fileurl import file_url, safe_filename
from moodlectl.site.upload import upload
from moodlectl.site.webservice import WebService

TOKEN = "5e1f0123456789abcdef0123456789ab"


@pytest.fixture
def ws() -> WebService:
    return WebService("https://moodle.example/lms", Secret(TOKEN))


FETCHED = "https://moodle.example/lms/webservice/pluginfile.php"


@pytest.mark.parametrize(
    ("listed", "fetched"),
    [
        ("https://moodle.example/lms/pluginfile.php/1/backup/course/a%20b.mbz", "/1/backup/course/a%20b.mbz"),
        ("https://moodle.example/lms/webservice/pluginfile.php/1/backup/course/a", "/1/backup/course/a"),
        ("https://MOODLE.example:443/lms/pluginfile.php/5/user/backup/a.mbz", "/5/user/backup/a.mbz"),
        ("http://moodle.example/lms/pluginfile.php/5/user/backup/a.mbz", "/5/user/backup/a.mbz"),
        ("https://moodle.example/lms/pluginfile.php/1/backup/automated/0/a.mbz", "/1/backup/automated/a.mbz"),
        ("https://moodle.example/lms/pluginfile.php/1/backup/automated/a.mbz", "/1/backup/automated/a.mbz"),
        ("https://moodle.example/lms/pluginfile.php/11/backup/section/0/a.mbz", "/11/backup/section/0/a.mbz"),
        ("https://moodle.example/lms/pluginfile.php?file=%2F1%2Fbackup%2Fautomated%2F0%2Fa.mbz&token=x",
         "?file=/1/backup/automated/a.mbz"),
    ],
)  # fmt: skip
def test_a_listed_file_is_fetched_where_a_token_counts(ws: WebService, listed: str, fetched: str) -> None:
    assert file_url(ws, listed) == FETCHED + fetched


@pytest.mark.parametrize(
    "listed",
    [
        "https://evil.example/lms/pluginfile.php/11/backup/course/a.mbz",
        "https://moodle.example.evil.example/lms/pluginfile.php/1/a.mbz",
        "https://moodle.example@evil.example/lms/pluginfile.php/1/a.mbz",
        "https://moodle.example:8443/lms/pluginfile.php/1/a.mbz",
        "https://moodle.example/other/pluginfile.php/1/a.mbz",
        "https://moodle.example/lms/evil.php/pluginfile.php/1/a.mbz",
        "ftp://moodle.example/lms/pluginfile.php/1/a.mbz",
        "file:///etc/passwd",
        "",
    ],
)
@responses.activate
def test_no_token_goes_to_an_address_that_is_not_the_sites(ws: WebService, listed: str) -> None:
    info = {"userid": 2, "siteurl": "https://moodle.example/lms"}
    responses.post(f"{ws.url}/webservice/rest/server.php", json=info)
    with pytest.raises(Refused) as caught:
        file_url(ws, listed)
    assert caught.value.code == "foreignurl"


@responses.activate
def test_a_site_reached_under_another_name_still_knows_its_own_files() -> None:
    tunnel = WebService("http://127.0.0.1:9000", Secret(TOKEN))
    responses.post(f"{tunnel.url}/webservice/rest/server.php",
                   json={"userid": 2, "siteurl": "https://moodle.example"})  # fmt: skip
    fetched = file_url(tunnel, "https://moodle.example/pluginfile.php/1/backup/course/a.mbz")
    assert fetched == "http://127.0.0.1:9000/webservice/pluginfile.php/1/backup/course/a.mbz"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("backup-moodle2-course-2-bio-20261123-1203.mbz", "backup-moodle2-course-2-bio-20261123-1203.mbz"),
        ("Sicherung Übung 日本.mbz", "Sicherung Übung 日本.mbz"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/cron.d/x.mbz", "_etc_cron.d_x.mbz"),
        ("..\\..\\x.mbz", "_.._x.mbz"),
        (".bashrc", "bashrc"),
        ("a\x00b\nc\x1b[31m.mbz", "abc[31m.mbz"),
        ("ab\u202ezbm.exe", "abzbm.exe"),
        ("..", "backup.mbz"),
        ("", "backup.mbz"),
        ("///", "backup.mbz"),
    ],
)
def test_a_strangers_file_name_names_a_file_here_and_nothing_else(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


def test_a_very_long_name_keeps_its_ending_and_room_for_the_part() -> None:
    safe = safe_filename("日" * 300 + ".mbz")
    assert safe.endswith("日.mbz")
    assert len((safe + ".part.json").encode()) <= 255


@given(st.text(max_size=400))
def test_any_text_becomes_a_name_in_this_directory(name: str) -> None:
    safe = safe_filename(name)
    assert Path(safe).name == safe
    assert safe not in (".", "..")
    assert 0 < len(safe.encode()) <= 245
    assert safe.isprintable() or " " in safe or not safe.isascii()


@responses.activate
def test_an_upload_streams_the_file_to_the_draft_area(ws: WebService, tmp_path: Path) -> None:
    entry = {"itemid": 4711, "filename": "päck.mbz", "filesize": 9}
    sent: list[bytes] = []

    def take(request: object) -> tuple[int, dict[str, str], str]:
        body = request.body  # type: ignore[attr-defined]
        sent.append(body if isinstance(body, bytes) else body.read())
        return 200, {"Content-Type": "text/plain"}, json.dumps([entry])

    responses.add_callback("POST", f"{ws.url}/webservice/upload.php", take)
    (tmp_path / "päck.mbz").write_bytes(b"\x1f\x8bcontent")
    assert upload(ws, tmp_path / "päck.mbz") == entry
    assert b'filename="p\xc3\xa4ck.mbz"' in sent[0]
    assert b"\x1f\x8bcontent" in sent[0]
    assert TOKEN.encode() in sent[0]
    assert TOKEN not in str(responses.calls[0].request.url)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "toolarge"),
        ([{"errortype": "filenameexist", "error": "There is one", "filename": "a"}], "filenameexist"),
        ({"error": "File is too large", "errorcode": "upload_error_ini_size"}, "upload_error_ini_size"),
    ],
)
@responses.activate
def test_an_upload_the_site_will_not_have_is_refused(
    ws: WebService, tmp_path: Path, body: object, code: str
) -> None:
    responses.post(f"{ws.url}/webservice/upload.php", json=body)
    (tmp_path / "a.mbz").write_bytes(b"\x1f\x8b")
    with pytest.raises(Refused) as caught:
        upload(ws, tmp_path / "a.mbz")
    assert caught.value.code == code
