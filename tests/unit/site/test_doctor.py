"""The site check, judged from what real sites answered, and from hosts that go wrong in every known way."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, MoodlectlError, NotFound, Unreachable
from moodlectl.site.live import doctor, doctor_host, doctor_state, doctor_web
from moodlectl.site.live.doctor_host import HostProbe
from moodlectl.site.live.doctor_web import WebProbe
from moodlectl.site.live.findings import Finding, ago, size
from moodlectl.site.port import Verdict

DATA = Path(__file__).parents[2] / "data" / "doctor"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
URL = "https://moodle.example.org"
SITE = SiteConfig(
    "school", URL, token="keyring", service="s", via=("ssh:web", "user:www-data"), moodle_dir="/srv/moodle"
)
RELEASES = ["4.5", "5.1"]


def recorded(release: str) -> dict[str, Any]:
    return dict(json.loads((DATA / f"{release}.json").read_text(encoding="utf-8")))


def web(release: str = "4.5", **changed: Any) -> WebProbe:
    return WebProbe(**{"info": recorded(release)["site_info"], **changed})


def host(release: str = "4.5", **changed: Any) -> HostProbe:
    answer = recorded(release)
    return HostProbe(
        **{
            "hops": [(hop, None) for hop in SITE.via],
            "php": answer["php"],
            "hello": answer["hello"],
            "state": answer["state"],
            **changed,
        }
    )


def judged(w: WebProbe, h: HostProbe, site: SiteConfig = SITE) -> dict[str, Finding]:
    return {line.name: line for line in doctor.judge(site, w, h, NOW)}


def state(change: Callable[[dict[str, Any]], None]) -> dict[str, Finding]:
    answer = copy.deepcopy(recorded("4.5")["state"])
    change(answer)
    return {line.name: line for line in doctor_state.judge(SITE, answer)}


def errors(lines: dict[str, Finding]) -> list[str]:
    return [name for name, line in lines.items() if line.verdict is Verdict.ERROR]


# --- a site in order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_a_site_in_order_has_no_error_and_one_warning_about_cron(release: str) -> None:
    lines = judged(web(release), host(release))
    assert errors(lines) == []
    assert [name for name, line in lines.items() if line.verdict is Verdict.WARNING] == ["cron"]
    assert lines["PHP"].message.endswith("or newer")
    assert release in lines["address"].message


# --- the web half -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stage", "problem"),
    [
        ("dns", "address", Unreachable),
        ("nomoodle", "address", NotFound),
        ("tls", "TLS", Unreachable),
        ("redirected", "redirects", AccessError),
        ("webservicesoff", "web services", AccessError),
        ("invalidtoken", "token", AccessError),
        ("usernotfullysetup", "token's user", AccessError),
        ("wsaccessusersuspended", "token's user", AccessError),
    ],
)
def test_the_line_that_fails_is_the_one_meant_and_the_next_ones_are_skipped(
    code: str, stage: str, problem: type[MoodlectlError]
) -> None:
    lines = judged(web(info=None, problem=problem("so it is", "do this", code=code)), host())
    assert errors(lines) == [stage]
    assert lines[stage].hint == "do this"
    at = doctor_web.STAGES.index(stage)
    assert all(lines[name].verdict is Verdict.OK for name in doctor_web.STAGES[:at])
    assert all(lines[name].message.startswith("not checked") for name in doctor_web.STAGES[at + 1 :])
    assert lines[stage].exit_status == {4: 3}.get(problem.exit_status, problem.exit_status)
    assert lines["Moodle"].verdict is Verdict.OK


def test_rest_alone_switched_off_is_told_from_web_services_switched_off() -> None:
    off = AccessError("off", code="webservicesoff")
    answer = recorded("4.5")["state"]
    answer["webservices"]["rest"] = False
    lines = judged(web(info=None, problem=off, services_on=True), host(state=answer))
    assert errors(lines) == ["REST", "REST on the host"]
    answer["webservices"]["enabled"] = False
    lines = judged(web(info=None, problem=off, services_on=False), host(state=answer))
    assert errors(lines) == ["web services", "web services on the host"]


def test_missing_functions_are_named_ready_to_paste() -> None:
    info = recorded("4.5")["site_info"]
    info["functions"] = [each for each in info["functions"] if "files" not in each["name"]]
    info["downloadfiles"] = 0
    lines = judged(web(info=info), HostProbe(), SiteConfig("s", URL, token="keyring"))
    assert errors(lines) == ["functions", "downloads"]
    with_shell = judged(web(info=info), host())
    assert errors(with_shell) == []
    assert "the shell is used instead" in with_shell["functions"].message
    assert lines["functions"].hint is not None
    assert lines["functions"].hint.endswith("To paste: core_files_get_files")


def test_a_keyring_that_is_locked_is_what_the_token_line_says() -> None:
    wrong = AccessError("Invalid token", code="invalidtoken")
    locked = AccessError("The keyring is locked.", "Unlock it.", code="keyringlocked")
    lines = judged(web(info=None, problem=wrong, token_problem=locked, has_token=False), host())
    assert lines["token"].message == "The keyring is locked."
    assert errors(lines) == ["token"]


def test_a_site_without_token_is_fine_with_a_shell_and_useless_without() -> None:
    wrong = AccessError("Invalid token", code="invalidtoken")
    probe = web(info=None, problem=wrong, has_token=False)
    shell_only = SiteConfig("s", URL, via=SITE.via, moodle_dir="/srv/moodle")
    assert errors(judged(probe, host(), shell_only)) == []
    assert errors(judged(probe, HostProbe(), SiteConfig("s", URL))) == ["token"]


@pytest.mark.parametrize(("days", "verdict"), [(3, Verdict.WARNING), (60, Verdict.OK)])
def test_a_certificate_that_ends_soon_is_a_warning(days: int, verdict: Verdict) -> None:
    lines = judged(web(certificate_ends=NOW + timedelta(days=days, hours=1)), host())
    assert lines["TLS"].verdict is verdict


def test_plain_http_to_elsewhere_is_a_warning() -> None:
    site = SiteConfig("s", "http://moodle.test", token="keyring", allow_http=True)
    assert judged(web(), HostProbe(), site)["TLS"].verdict is Verdict.WARNING


# --- the host half ------------------------------------------------------------------------------------------


def test_the_hop_that_is_broken_is_named_and_what_lies_behind_it_is_skipped() -> None:
    denied = AccessError("sudo asks for a password", "Allow it", details={"last_lines": ["sudo: a password"]})
    lines = judged(web(), HostProbe([("ssh:web", None), ("user:www-data", denied)]))
    assert errors(lines) == ["hop user:www-data"]
    assert "sudo: a password" in lines["hop user:www-data"].message
    assert lines["permissions"].message == "not checked: a hop before it is broken"
    lines = judged(web(), HostProbe([("ssh:web", Unreachable("gone"))]))
    assert errors(lines) == ["hop ssh:web"]
    assert lines["hop ssh:web"].exit_status == 6
    assert lines["hop user:www-data"].message.startswith("not checked")


@pytest.mark.parametrize(
    ("php", "verdict"),
    [
        ("7.0.33", Verdict.ERROR),
        ("8.0.30", Verdict.ERROR),
        ("8.1.0", Verdict.OK),
        ("8.4.1-dev", Verdict.WARNING),
    ],
)
def test_php_is_measured_by_what_this_release_of_moodle_wants(php: str, verdict: Verdict) -> None:
    lines = judged(web(), host(php={**recorded("4.5")["php"], "php": php}))
    assert lines["PHP"].verdict is verdict


def test_a_wrong_directory_is_said_with_its_name() -> None:
    php = {**recorded("4.5")["php"], "config": None, "readable": False, "directory": True}
    lines = judged(web(), host(php=php))
    assert errors(lines) == ["config.php"]
    assert "/srv/moodle on user:www-data has no config.php" in lines["config.php"].message
    php |= {"config": "/srv/moodle/config.php"}
    assert "may not read /srv/moodle/config.php" in judged(web(), host(php=php))["config.php"].message


@pytest.mark.parametrize(
    ("changed", "line", "verdict"),
    [
        ({"user": "root"}, "PHP's user", Verdict.ERROR),
        ({"upgrade_pending": True}, "upgrade", Verdict.ERROR),
        ({"maintenance": True}, "maintenance", Verdict.WARNING),
        ({"cli_maintenance": True}, "maintenance", Verdict.ERROR),
        ({"wwwroot": "https://other.example.org"}, "site on the host", Verdict.ERROR),
    ],
)
def test_what_the_host_says_of_itself_is_judged(changed: dict[str, Any], line: str, verdict: Verdict) -> None:
    lines = judged(web(), host(hello={**recorded("4.5")["hello"], **changed}))
    assert lines[line].verdict is verdict


def test_a_moodle_that_does_not_start_is_one_error() -> None:
    lines = judged(web(), host(hello=AccessError("The site has no user 'x'."), state=None))
    assert errors(lines) == ["Moodle"]


def test_the_scripts_of_moodle_are_tried_where_nothing_else_may_run() -> None:
    site = dataclasses.replace(SITE, engine="admin-cli", exchange_dir="/x")
    scripts = {"backup.php": None, "restore_backup.php": NotFound("no")}
    found = HostProbe(host().hops, scripts=scripts, exchange=False)
    assert errors(judged(web(), found, site)) == ["admin/cli/restore_backup.php", "exchange_dir"]


# --- the state of the site ----------------------------------------------------------------------------------


def test_the_trap_of_unlimited_backups_that_are_deleted_is_an_error() -> None:
    lines = state(lambda s: s["automated"].update(active=1, weekdays="1111111", max_kept=0, delete_days=7))
    assert errors(lines) == ["automated backups kept"]
    assert errors(state(lambda s: s["automated"].update(active=1, max_kept=0, delete_days=0))) == []
    assert errors(state(lambda s: s["automated"].update(active=1, max_kept=3, delete_days=7))) == []


@pytest.mark.parametrize(
    ("there", "writable", "wrong"), [(False, False, 1), (True, False, 1), (True, True, 0)]
)
def test_the_folder_of_automated_backups_is_looked_at(there: bool, writable: bool, wrong: int) -> None:
    lines = state(
        lambda s: s["automated"].update(
            active=1, storage=1, destination="/b", destination_there=there, destination_writable=writable
        )
    )
    assert len(errors(lines)) == wrong
    assert "automated backups' folder" in lines


def test_automated_backups_without_a_day_and_with_failures_are_warnings() -> None:
    lines = state(lambda s: s["automated"].update(active=1, statuses={"0": 3, "1": 90, "2": 1}))
    assert "no day of the week" in lines["automated backups"].message
    assert lines["automated backups' results"].message == "courses: 3 failed, 1 unfinished"


def test_little_room_is_a_warning_and_less_than_the_largest_backup_needs_an_error() -> None:
    def room(free: int, largest: int) -> Verdict:
        def change(s: dict[str, Any]) -> None:
            s["space"]["places"]["temp"]["free"] = free
            s["space"]["largest_backup"] = largest

        return state(change)["space to unpack"].verdict

    assert room(50_000_000_000, 1_000_000_000) is Verdict.OK
    assert room(2_500_000_000, 1_000_000_000) is Verdict.WARNING
    assert room(1_900_000_000, 1_000_000_000) is Verdict.ERROR
    assert room(50_000_000, 0) is Verdict.ERROR


def test_a_place_that_cannot_be_written_to_is_an_error() -> None:
    lines = state(lambda s: s["space"]["places"]["data"].update(writable=False))
    assert errors(lines) == ["space to store"]


def test_cron_that_stopped_and_tasks_that_fail_are_warnings() -> None:
    lines = state(lambda s: s["cron"].update(last=s["now"] - 7200))
    assert lines["cron"].message == "cron last ran 2 hours ago"
    assert state(lambda s: s["cron"].update(last=s["now"] - 30))["cron"].verdict is Verdict.OK

    def failing(s: dict[str, Any]) -> None:
        task = "\\core\\task\\automated_backup_task"
        s["tasks"].update(failing=1, backups_failing=1, scheduled_failing=[task])

    lines = state(failing)
    assert lines["tasks"].message == "failing again and again: 1 queued backup, restore or copy"
    assert lines["scheduled tasks"].message == "failing: automated_backup_task"


def test_a_user_who_may_not_back_up_anywhere_is_an_error() -> None:
    lines = state(lambda s: s["capabilities"]["where"].update({"moodle/backup:backupcourse": "none"}))
    assert lines["permissions"].verdict is Verdict.ERROR
    assert lines["permissions"].exit_status == 3


def test_a_missing_extension_and_the_duplicate_admin_setting_are_said() -> None:
    missing = {"part": "php_extension", "info": "zip", "level": "required", "current": "", "needed": ""}
    lines = state(lambda s: s["environment"].append(missing))
    assert lines["PHP extensions"].message == "zip: missing or too old"
    assert "user conflicts" in state(lambda s: s["settings"].update(duplicate_admin=True))


def test_a_part_the_host_could_not_find_out_is_skipped_and_the_others_are_not() -> None:
    lines = state(lambda s: s.update(tasks={"problem": "dml_read_exception: broken"}))
    assert lines["tasks"].message == "not checked: dml_read_exception: broken"
    assert lines["permissions"].verdict is Verdict.OK


def test_times_and_sizes_are_said_for_people() -> None:
    assert [ago(0), ago(61), ago(7200), ago(90000)] == ["0 seconds", "1 minute", "2 hours", "1 day"]
    assert [size(5), size(81_700_000_000), size(3e12)] == ["5 B", "81.7 GB", "3.0 TB"]


# --- real processes -----------------------------------------------------------------------------------------

SSH_SAYS = {
    "changed": (
        "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
        "host_key_changed",
    ),
    "denied": ("deploy@web: Permission denied (publickey).", "ssh_denied"),
    "refused": ("ssh: connect to host web port 22: Connection refused", "connection_refused"),
}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a stand-in command, a shell script, first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


PASS = 'for last; do :; done; exec sh -c "$last"'  # an ssh that runs its last word here


@pytest.mark.parametrize("case", SSH_SAYS)
def test_an_ssh_that_fails_is_understood(commands: Callable[[str, str], None], case: str) -> None:
    text, code = SSH_SAYS[case]
    commands("ssh", f"cat >&2 <<'X'\n{text}\nX\nexit 255")
    found = doctor_host.probe(SITE, None)
    assert [(hop, problem.code) for hop, problem in found.hops if problem] == [("ssh:web", code)]
    assert found.php is None


def test_a_sudo_that_wants_a_password_is_the_hop_that_fails(commands: Callable[[str, str], None]) -> None:
    commands("ssh", PASS)
    commands("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    found = doctor_host.probe(SITE, None)
    assert [(hop, problem.code if problem else None) for hop, problem in found.hops] == [
        ("ssh:web", None),
        ("user:www-data", "sudo_password"),
    ]


@pytest.mark.php
def test_a_sudo_that_lets_nothing_but_php_pass_is_good(
    commands: Callable[[str, str], None], moodle: Path
) -> None:
    commands("ssh", PASS)
    commands(
        "sudo",
        'shift 4; case "$1" in *php) exec "$@";; *) echo "sudo: a password is required" >&2; exit 1;; esac',
    )
    found = doctor_host.probe(SiteConfig("s", URL, via=SITE.via, moodle_dir=str(moodle)), None)
    assert [problem for _, problem in found.hops] == [None, None]
    assert isinstance(found.php, dict)


@pytest.fixture
def moodle(tmp_path: Path) -> Path:
    """A directory that looks like Moodle's from 5.1 on, with a config.php above the code."""
    root = tmp_path / "moodle"
    (root / "public" / "admin").mkdir(parents=True)
    (root / "config.php").write_text("<?php\n")
    (root / "public" / "version.php").write_text("<?php\n$release  = '5.1.2 (Build: 20260101)';\n")
    (root / "public" / "admin" / "environment.xml").write_text(
        '<COMPATIBILITY_MATRIX><MOODLE version="4.5" requires="4.1"><PHP version="8.1.0" level="required">'
        '<RESTRICT function="restrict_php_version_84"/></PHP></MOODLE>\n'
        '<MOODLE version="5.1" requires="4.2"><PHP version="8.2.0" level="required"/></MOODLE>'
    )
    return root


@pytest.mark.php
@pytest.mark.parametrize("below", ["", "public"])
def test_the_probe_finds_config_and_what_moodle_wants_of_php(moodle: Path, below: str) -> None:
    found = doctor_host.probe(SiteConfig("s", URL, moodle_dir=str(moodle / below)), None).php
    assert isinstance(found, dict)
    assert found["config"] == str(moodle / "config.php")
    assert (found["least"], found["below"]) == ("8.2.0", None)
    assert found["release"] == "5.1.2 (Build: 20260101)"


@pytest.mark.php
def test_the_probe_says_that_there_is_no_moodle(tmp_path: Path) -> None:
    found = doctor_host.probe(SiteConfig("s", URL, moodle_dir=str(tmp_path)), None).php
    assert isinstance(found, dict)
    assert (found["directory"], found["config"], found["readable"]) == (True, None, False)


def test_a_php_that_is_not_there_is_said(tmp_path: Path) -> None:
    site = SiteConfig("s", URL, moodle_dir=str(tmp_path), php="/no/such/php")
    lines = {line.name: line for line in doctor_host.judge(site, doctor_host.probe(site, None))}
    assert errors(lines) == ["PHP"]
    assert lines["PHP"].exit_status == 3


@pytest.mark.php
def test_the_php_files_are_good_php() -> None:
    here = Path(doctor_host.__file__).parent
    for path in (here / "probe.php", here.parent / "php" / "doctor.php"):
        subprocess.run([shutil.which("php") or "php", "-l", str(path)], check=True, capture_output=True)


# --- a real https server ------------------------------------------------------------------------------------


class Answer(BaseHTTPRequestHandler):
    """A Moodle whose REST server knows no token."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"exception": "moodle_exception", "errorcode": "invalidtoken", "message": "Invalid token"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class Quiet(HTTPServer):
    """A server that says nothing of clients that hang up on its certificate."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet."""


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server with a certificate of its own, valid for five days, and that certificate's file."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words: Sequence[str] = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "5", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    server = Quiet(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}", certificate
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_certificate_nobody_trusts_is_the_tls_line(https: tuple[str, Path]) -> None:
    site = SiteConfig("s", https[0], moodle_dir="/m")
    found = doctor_web.probe(site, None)
    assert found.problem is not None
    assert found.problem.code == "tls"
    lines = {line.name: line for line in doctor_web.judge(site, found, NOW)}
    assert lines["address"].verdict is Verdict.OK
    assert lines["TLS"].verdict is not Verdict.OK


def test_a_certificate_of_the_named_authority_is_trusted_whatever_the_environment_says(
    https: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ssl.get_default_verify_paths().openssl_cafile)
    site = SiteConfig("s", https[0], ca_bundle=https[1], token="env:MOODLECTL_TEST_NO_TOKEN")
    found = doctor_web.probe(site, None)
    assert found.certificate_ends is not None
    assert 3 <= (found.certificate_ends - datetime.now(UTC)).days <= 5
    lines = {line.name: line for line in doctor_web.judge(site, found, datetime.now(UTC))}
    assert "expires in" in lines["TLS"].message
    assert "no variable MOODLECTL_TEST_NO_TOKEN" in lines["token"].message
