"""Web-service calls: what is sent, and what every kind of answer becomes."""

from __future__ import annotations

import json
import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
import responses

from moodlectl.errors import (
    AccessError,
    ConfigError,
    Failed,
    MoodlectlError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unreachable,
)
from moodlectl.secret import Secret
from moodlectl.site.errorcodes import classify
from moodlectl.site.patience import Patience, retry_after
from moodlectl.site.webservice import WebService, flatten, site_url, token_login, writes

DATA = Path(__file__).parents[2] / "data" / "ws"
TOKEN = "5e1f0123456789abcdef0123456789ab"
BASE = "https://moodle.example/moodle"
REST = f"{BASE}/webservice/rest/server.php"
READ = "core_course_get_contents"
WRITE = "core_course_duplicate_course"


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def ws() -> WebService:
    service = WebService(BASE, Secret(TOKEN))
    service.patience = Patience(attempts=4, sleep=lambda _: None)
    return service


def recorded(release: str, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((DATA / release / f"{name}.json").read_text(encoding="utf-8"))
    return record


def answer(http: responses.RequestsMock, record: dict[str, Any], url: str = REST) -> None:
    body = record["body"] if isinstance(record["body"], str) else json.dumps(record["body"])
    http.post(url, body=body, status=record["status"], content_type=record["content_type"])


def error_of(ask: Callable[[], Any]) -> MoodlectlError:
    with pytest.raises(MoodlectlError) as caught:
        ask()
    error = caught.value
    shown = error.message + str(error.hint) + str(error.details) + "".join(traceback.format_exception(error))
    assert TOKEN not in shown
    assert error.hint, "every error names a remedy"
    assert error.message.endswith(".")
    return error


# --- what is sent


def test_the_token_and_the_parameters_go_in_the_body_of_a_post(
    http: responses.RequestsMock, ws: WebService
) -> None:
    answer(http, recorded("5.1", "categories"))
    reply = ws.call("core_course_get_categories", {"criteria": [{"key": "id", "value": 3}], "sub": True})
    assert reply[0]["name"] == "Category 1"
    request = http.calls[0].request
    assert request.method == "POST"
    assert request.url == REST
    assert dict(parse_qsl(str(request.body))) == {
        "criteria[0][key]": "id",
        "criteria[0][value]": "3",
        "sub": "1",
        "wstoken": TOKEN,
        "wsfunction": "core_course_get_categories",
        "moodlewsrestformat": "json",
        "moodlewssettingraw": "1",
        "moodlewssettinglang": "en",
    }


def test_nested_parameters_are_flattened_as_php_reads_them() -> None:
    assert flatten({"a": [{"b": 1, "c": [True, False]}], "d": "é", "n": None, "e": (), "f": {"g": 2.5}}) == {
        "a[0][b]": "1",
        "a[0][c][0]": "1",
        "a[0][c][1]": "0",
        "d": "é",
        "f[g]": "2.5",
    }


def test_no_log_holds_the_token(
    http: responses.RequestsMock, ws: WebService, caplog: pytest.LogCaptureFixture
) -> None:
    http.post(REST, status=502, body="<html>bad gateway</html>")
    answer(http, recorded("5.1", "categories"))
    with caplog.at_level(logging.DEBUG):
        ws.call("core_course_get_categories")
    assert "Trying again" in caplog.text
    assert TOKEN not in caplog.text


def test_certificates_are_always_checked_and_a_site_may_have_its_own_authorities(tmp_path: Path) -> None:
    assert WebService(BASE, Secret(TOKEN)).session.verify is True
    bundle = tmp_path / "own.pem"
    assert WebService(BASE, Secret(TOKEN), ca_bundle=bundle).session.verify == str(bundle)


@pytest.mark.parametrize("function", ["core_course_get_contents", "core_course_search_courses",
                                      "core_webservice_get_site_info", "core_files_get_files"])  # fmt: skip
def test_functions_that_get_or_search_only_read(function: str) -> None:
    assert not writes(function)


@pytest.mark.parametrize("function", ["core_course_duplicate_course", "core_course_import_course",
                                      "core_course_create_courses", "core_files_upload",
                                      "core_backup_submit_copy_form", "local_something_odd"])  # fmt: skip
def test_every_other_function_counts_as_writing(function: str) -> None:
    assert writes(function)


# --- addresses


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://moodle.example", "https://moodle.example"),
        ("https://Moodle.Example/", "https://moodle.example"),
        (" https://moodle.example/moodle/ ", "https://moodle.example/moodle"),
        ("https://moodle.example/moodle/index.php", "https://moodle.example/moodle"),
        ("https://moodle.example/login/index.php", "https://moodle.example"),
        ("https://moodle.example/my/", "https://moodle.example"),
        ("https://moodle.example:8443/a/b", "https://moodle.example:8443/a/b"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_an_address_is_brought_into_one_form(given: str, kept: str) -> None:
    assert site_url(given) == kept


@pytest.mark.parametrize(
    "given", ["ftp://moodle.example", "file:///etc/passwd", "moodle.example", "https://", "", "https://a:99999/",
              "https://user:pw@moodle.example", "javascript:alert(1)"]
)  # fmt: skip
def test_what_is_no_web_address_is_refused(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        site_url(given)
    assert "pw" not in str(caught.value)


def test_plain_http_to_another_machine_needs_to_be_allowed() -> None:
    with pytest.raises(ConfigError) as caught:
        WebService("http://moodle.example", Secret(TOKEN))
    assert caught.value.code == "plainhttp"
    assert WebService("http://moodle.example", Secret(TOKEN), allow_http=True).url == "http://moodle.example"


# --- what the answers become


@pytest.mark.parametrize("release", ["4.5", "5.1"])
@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("error_invalid_token", AccessError, "invalidtoken"),
        ("error_invalid_parameter", Failed, "invalidparameter"),
        ("error_missing_course", NotFound, ""),
        ("error_unknown_function", NotFound, ""),
        ("error_shortname_taken", Refused, "shortnametaken"),
        ("error_no_json_format", NotFound, ""),
    ],
)
def test_recorded_errors_become_the_right_error(
    http: responses.RequestsMock, ws: WebService, release: str, name: str, kind: type[MoodlectlError],
    code: str,
) -> None:  # fmt: skip
    record = recorded(release, name)
    answer(http, record)
    error = error_of(lambda: ws.call(record["request"]["function"], record["request"]["params"]))
    assert type(error) is kind
    assert error.code == (code or error.details["errorcode"])
    assert error.code.startswith(code or "invalidrecord")
    assert error.details["asked"] == record["request"]["function"]
    assert len(http.calls) == 1, "an error that Moodle states is not asked for again"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("accessexception", AccessError),
        ("nopermissions", AccessError),
        ("usernotfullysetup", AccessError),
        ("wsaccessusersuspended", AccessError),
        ("wsaccessuserexpired", AccessError),
        ("errorcoursecontextnotvalid", AccessError),
        ("sitemaintenance", Unreachable),
        ("upgraderunning", Unreachable),
        ("filenotfound", NotFound),
        ("backupprecheckerrors", Refused),
        ("dmlreadexception", Failed),
        ("somethingnew", Failed),
    ],
)
def test_errorcodes_decide_not_class_names(code: str, kind: type[MoodlectlError]) -> None:
    assert classify(code)[0] is kind


def test_a_write_refused_for_maintenance_is_known_not_to_have_happened(
    http: responses.RequestsMock, ws: WebService
) -> None:
    http.post(REST, json={"exception": "x", "errorcode": "sitemaintenance", "message": "Closed"})
    assert type(error_of(lambda: ws.call(WRITE))) is Unreachable


def test_an_exception_without_errorcode_is_an_error_too(http: responses.RequestsMock, ws: WebService) -> None:
    http.post(REST, json={"exception": "TypeError", "message": "Unsupported operand"})
    with pytest.raises(Failed, match="Unsupported operand"):
        ws.call(READ)


def test_debuginfo_is_kept_as_evidence_but_never_with_the_token_in_it(
    http: responses.RequestsMock, ws: WebService
) -> None:
    sql = f"SELECT * FROM mdl_external_tokens WHERE token = '{TOKEN}'"
    http.post(REST, json={"exception": "x", "errorcode": "invalidtoken", "message": TOKEN, "debuginfo": sql})
    error = error_of(lambda: ws.call(READ))
    assert error.details["debuginfo"].endswith("token = '***'")


def test_null_is_a_good_answer(http: responses.RequestsMock, ws: WebService) -> None:
    http.post(REST, body="null")
    assert ws.call("core_course_import_course") is None


def test_warnings_stay_in_the_answer(http: responses.RequestsMock, ws: WebService) -> None:
    warning = {"item": "course", "itemid": 7, "warningcode": "1", "message": "No access"}
    http.post(REST, json={"courses": [], "warnings": [warning]})
    assert ws.call("core_course_get_courses_by_field")["warnings"] == [warning]


PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in &amp; go</title></head><body><p>Please sign "
    "in</p></body></html>"
)


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "code", "unknown_for_writes"),
    [
        (200, {"Content-Type": "text/html"}, PAGE, AccessError, "webpage", False),
        (403, {}, "", AccessError, "webservicesoff", False),
        (403, {"Content-Type": "text/html"}, PAGE, AccessError, "forbidden", False),
        (401, {}, "no", AccessError, "forbidden", False),
        (404, {"Content-Type": "text/html"}, PAGE, NotFound, "nomoodle", False),
        (413, {}, "too large", Refused, "toolarge", False),
        (429, {}, "slow down", Unreachable, "toomanyrequests", False),
        (500, {}, "", Failed, "http500", True),
        (502, {"Content-Type": "text/html"}, PAGE, Unreachable, "gateway", True),
        (503, {"Retry-After": "300"}, "<html>Site maintenance</html>", Unreachable, "maintenance", False),
        (503, {}, "no server is available", Unreachable, "unavailable", True),
        (504, {"Content-Type": "text/html"}, PAGE, Unreachable, "gateway", True),
        (200, {}, "", Unreachable, "truncated", True),
        (200, {}, '{"courses": [{"id": 1, "na', Unreachable, "truncated", True),
        (200, {}, "Notice: Undefined index in lib.php\n{}", Failed, "invalidjson", True),
        (303, {"Location": "https://moodle.example/login/index.php"}, "", AccessError, "loginpage", False),
        (302, {"Location": "https://idp.example/saml2/sso?x=1"}, "", AccessError, "loginpage", False),
        (301, {"Location": "https://new.example/webservice/"}, "", AccessError, "redirected", False),
        (308, {"Location": "http://moodle.example/moodle/"}, "", AccessError, "redirected", False),
    ],
)
def test_every_other_answer_has_its_error(
    http: responses.RequestsMock, ws: WebService, status: int, headers: dict[str, str], body: str,
    kind: type[MoodlectlError], code: str, unknown_for_writes: bool,
) -> None:  # fmt: skip
    http.post(REST, status=status, headers=headers, body=body,
              content_type=headers.pop("Content-Type", "application/json"))  # fmt: skip
    error = error_of(lambda: ws.call(READ))
    assert (type(error), error.code) == (kind, code)
    before = len(http.calls)
    error = error_of(lambda: ws.call(WRITE))
    assert type(error) is (OutcomeUnknown if unknown_for_writes else kind)
    assert error.code in (code, "invalidjson")
    assert len(http.calls) == before + 1, "a write is never repeated"


def test_a_web_page_is_named_by_its_title(http: responses.RequestsMock, ws: WebService) -> None:
    http.post(REST, body=PAGE, content_type="text/html")
    assert 'titled "Sign in & go"' in error_of(lambda: ws.call(READ)).message


def test_a_redirect_is_not_followed_and_the_right_address_is_said(
    http: responses.RequestsMock, ws: WebService
) -> None:
    http.post(REST, status=301, headers={"Location": "https://new.example/lms/webservice/rest/server.php"})
    there = http.post("https://new.example/lms/webservice/rest/server.php", json=[])
    error = error_of(lambda: ws.call(READ))
    assert "--url https://new.example/lms`" in str(error.hint)
    assert there.call_count == 0


# --- asking again


def test_reads_are_repeated_until_they_are_answered(http: responses.RequestsMock) -> None:
    waits: list[float] = []
    ws = WebService(BASE, Secret(TOKEN))
    ws.patience = Patience(attempts=5, sleep=waits.append)
    http.post(REST, status=504)
    http.post(REST, body=requests.ConnectionError("reset"))
    http.post(REST, body=requests.ReadTimeout("slow"))
    http.post(REST, status=429, headers={"Retry-After": "7"})
    answer(http, recorded("5.1", "categories"))
    assert ws.call("core_course_get_categories")[0]["id"] == 1
    assert len(waits) == 4
    assert waits[3] == 7
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0 <= waits[2] <= 2.0


def test_reads_are_given_up_after_a_few_attempts(http: responses.RequestsMock, ws: WebService) -> None:
    http.post(REST, body=requests.ReadTimeout("slow"))
    assert error_of(lambda: ws.call(READ)).code == "timeout"
    assert len(http.calls) == ws.patience.attempts


def test_a_wait_longer_than_all_patience_is_not_begun(http: responses.RequestsMock) -> None:
    waits: list[float] = []
    ws = WebService(BASE, Secret(TOKEN))
    ws.patience = Patience(total=120, sleep=waits.append)
    http.post(REST, status=503, headers={"Retry-After": "300"}, body="maintenance")
    assert "300 seconds" in error_of(lambda: ws.call(READ)).message
    assert waits == []


def test_retry_after_may_be_seconds_or_a_date() -> None:
    assert retry_after("12") == 12
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


@pytest.mark.parametrize("trouble", [requests.ReadTimeout("slow"), requests.ConnectionError("reset by peer")])
def test_a_write_without_an_answer_is_unknown_and_not_repeated(
    http: responses.RequestsMock, ws: WebService, trouble: Exception
) -> None:
    http.post(REST, body=trouble)
    assert type(error_of(lambda: ws.call(WRITE))) is OutcomeUnknown
    assert len(http.calls) == 1


def test_a_write_that_never_left_is_known_not_to_have_happened(
    http: responses.RequestsMock, ws: WebService
) -> None:
    http.post(REST, body=requests.ConnectTimeout("no route"))
    assert type(error_of(lambda: ws.call(WRITE))) is Unreachable


# --- real sockets


def test_a_port_where_nobody_listens_is_named(ws: WebService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    service = WebService(f"http://127.0.0.1:{port}", Secret(TOKEN))
    service.patience = ws.patience
    error = error_of(lambda: service.call(WRITE))
    assert type(error) is Unreachable
    assert "refuses the connection" in error.message


def test_a_host_that_does_not_exist_is_named(ws: WebService) -> None:
    service = WebService("https://moodlectl-no-such-host.invalid", Secret(TOKEN))
    service.patience = ws.patience
    error = error_of(lambda: service.call(READ))
    assert (type(error), error.code) == (Unreachable, "dns")


def test_a_port_that_speaks_no_tls_is_named(ws: WebService) -> None:
    import threading

    def speak_plainly(listening: socket.socket) -> None:
        while True:
            try:
                asker, _ = listening.accept()
            except OSError:
                return
            with asker:
                asker.recv(4096)
                asker.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        speaker = threading.Thread(target=speak_plainly, args=(listening,), daemon=True)
        speaker.start()
        service = WebService(f"https://127.0.0.1:{listening.getsockname()[1]}", Secret(TOKEN))
        service.patience = ws.patience
        error = error_of(lambda: service.call(WRITE))
        listening.shutdown(socket.SHUT_RDWR)
        speaker.join(5)
    assert (type(error), error.code) == (Unreachable, "tls")


def test_a_ca_bundle_without_certificates_is_a_configuration_error(tmp_path: Path) -> None:
    bundle = tmp_path / "notes.txt"
    bundle.write_text("no certificate")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        service = WebService(f"https://127.0.0.1:{listening.getsockname()[1]}", Secret(TOKEN), ca_bundle=bundle)
        with pytest.raises(ConfigError, match="holds no certificate"):
            service.call("core_webservice_get_site_info")


def test_a_missing_ca_bundle_is_a_configuration_error(tmp_path: Path) -> None:
    service = WebService("https://127.0.0.1:1", Secret(TOKEN), ca_bundle=tmp_path / "no.pem")
    error = error_of(lambda: service.call(READ))
    assert isinstance(error, ConfigError)
    assert "ca_bundle" in str(error.hint)


# --- the site and tokens


@pytest.mark.parametrize("release", ["4.5", "5.1"])
def test_the_site_is_asked_once_who_it_is(http: responses.RequestsMock, ws: WebService, release: str) -> None:
    answer(http, recorded(release, "site_info"))
    assert ws.site_info()["release"].startswith(release)
    assert ws.site_info()["userid"] == 2
    assert len(http.calls) == 1


LOGIN = f"{BASE}/login/token.php"


def test_a_password_becomes_a_token(http: responses.RequestsMock) -> None:
    http.post(LOGIN, json={"token": "f" * 32, "privatetoken": None})
    token = token_login(BASE, "ada", Secret("pass&word"), "moodlectl")
    assert token == Secret("f" * 32)
    sent = dict(parse_qsl(str(http.calls[0].request.body)))
    assert sent == {"username": "ada", "service": "moodlectl", "password": "pass&word"}


@pytest.mark.parametrize("release", ["4.5", "5.1"])
@pytest.mark.parametrize(
    ("name", "code"), [("token_bad_password", "invalidlogin"), ("token_no_service", "servicenotavailable")]
)
def test_a_token_that_is_not_given_says_why(
    http: responses.RequestsMock, release: str, name: str, code: str
) -> None:
    answer(http, recorded(release, name), LOGIN)
    error = error_of(lambda: token_login(BASE, "ada", Secret(TOKEN), "x"))
    assert (type(error), error.code) == (AccessError, code)
