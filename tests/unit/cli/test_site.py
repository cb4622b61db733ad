"""``moodlectl site``, run as a person runs it: what is written, what is kept secret, how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
import responses

from moodlectl import config
from moodlectl.cli import main

TOKEN = "5f0c1b2a3d4e5f60718293a4b5c6d7e8"
URL = "https://moodle.example.org"
INFO = {
    "sitename": "School", "username": "bob", "fullname": "Bob Backup", "userid": 3, "siteurl": URL,
    "release": "4.5.6 (Build: 20250811)", "version": "2024100706", "downloadfiles": 1, "uploadfiles": 1,
    "functions": [],
}  # fmt: skip


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that keeps its entries in a dictionary."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@dataclass
class Run:
    """How one command line ended."""

    status: int
    out: str
    err: str


Moodlectl = Callable[..., Run]


@pytest.fixture
def keys() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def moodlectl(
    path: Path,
    keys: MemoryKeyring,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Moodlectl:
    for name in ("MOODLECTL_CONFIG", "MOODLECTL_SITE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, stdin: str = "") -> Run:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main(["--config", str(path), *words])
        out, err = capfd.readouterr()
        assert TOKEN not in out + err
        return Run(status, out, err)

    return run


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def answers(web: responses.RequestsMock, body: Any) -> None:
    web.post(f"{URL}/webservice/rest/server.php", json=body)


def test_a_token_on_standard_input_is_tried_and_kept_in_the_keyring(
    moodlectl: Moodlectl, web: responses.RequestsMock, keys: MemoryKeyring, path: Path
) -> None:
    answers(web, INFO)
    done = moodlectl("site", "add", "school", "--url", f"{URL}/", "--token-stdin", stdin=f"{TOKEN}\n")
    assert done.status == 0, done.err
    assert "Bob Backup's (bob); Moodle 4.5.6" in done.err
    assert "the default site" in done.err
    assert keys.entries == {("moodlectl", f"school {URL}"): TOKEN}
    assert path.read_text() == f'default = "school"\n\n[sites.school]\nurl = "{URL}"\ntoken = "keyring"\n'
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_token_is_said_and_nothing_is_written(
    moodlectl: Moodlectl, web: responses.RequestsMock, keys: MemoryKeyring, path: Path
) -> None:
    answers(web, {"exception": "x", "errorcode": "invalidtoken", "message": "Invalid token"})
    done = moodlectl("-o", "json", "site", "add", "school", "--url", URL, "--token-stdin", stdin=TOKEN)
    assert done.status == 3
    assert json.loads(done.err)["error"]["code"] == "invalidtoken"
    assert not path.exists()
    assert keys.entries == {}


def test_without_a_keyring_the_other_places_are_named_and_nothing_is_written(
    moodlectl: Moodlectl, web: responses.RequestsMock, path: Path
) -> None:
    answers(web, INFO)
    keyring.set_keyring(keyring.backends.fail.Keyring())
    done = moodlectl("site", "add", "school", "--url", URL, "--token-stdin", stdin=TOKEN)
    assert done.status == 3
    assert all(word in done.err for word in ("env:NAME", "file:PATH", "command:WORDS"))
    assert not path.exists()


def test_a_password_is_exchanged_for_a_token(
    moodlectl: Moodlectl, web: responses.RequestsMock, keys: MemoryKeyring
) -> None:
    sign_in = web.post(f"{URL}/login/token.php", json={"token": TOKEN, "privatetoken": None})
    answers(web, INFO)
    done = moodlectl(
        "site", "add", "school", "--url", URL, "--login", "bob", "--service", "moodlectl", stdin="pass word\n"
    )
    assert done.status == 0, done.err
    assert "pass word" not in done.out + done.err
    sent = str(sign_in.calls[0].request.body)
    assert "username=bob" in sent
    assert "password=pass+word" in sent
    assert "service=moodlectl" in sent
    assert keys.entries == {("moodlectl", f"school {URL}"): TOKEN}


def test_a_wrong_password_is_exit_3(moodlectl: Moodlectl, web: responses.RequestsMock) -> None:
    web.post(f"{URL}/login/token.php", json={"error": "Invalid login", "errorcode": "invalidlogin"})
    assert moodlectl("site", "add", "school", "--url", URL, "--login", "bob", stdin="no\n").status == 3


@pytest.mark.parametrize(("login", "stdin"), [("bob", ""), ("bob", "\n"), ("", "secret\n")])
def test_without_a_password_or_a_name_no_site_is_asked(moodlectl: Moodlectl, login: str, stdin: str) -> None:
    done = moodlectl("site", "add", "school", "--url", URL, "--login", login, stdin=stdin)
    assert (done.status, done.out) == (2, "")
    assert "hint:" in done.err


def test_every_option_ends_up_in_the_settings(
    moodlectl: Moodlectl, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHOOL_TOKEN", TOKEN)
    done = moodlectl(
        "site", "add", "a.b", "--url", "http://moodle.test:8080", "--allow-http",
        "--token-from", "env:SCHOOL_TOKEN", "--service", "s",
        "--via", "ssh:deploy@web", "--via", "user:www-data",
        "--moodle-dir", "/srv/m", "--php", "/usr/bin/php8.2", "--as", "bob",
        "--ca-bundle", str(tmp_path / "ca.pem"), "--ssh-config", str(tmp_path / "ssh"),
        "--engine", "admin-cli", "--exchange-dir", "/srv/x", "--timeout", "9", "--no-check", "-o", "json",
    )  # fmt: skip
    assert done.status == 0, done.err
    shown = json.loads(done.out)
    assert config.load(path).site() == config.SiteConfig(
        "a.b", "http://moodle.test:8080", allow_http=True, token="env:SCHOOL_TOKEN", service="s",
        via=("ssh:deploy@web", "user:www-data"), moodle_dir="/srv/m", php="/usr/bin/php8.2", acting="bob",
        ca_bundle=tmp_path / "ca.pem", ssh_config=tmp_path / "ssh", engine="admin-cli", exchange_dir="/srv/x",
        timeout=9.0,
    )  # fmt: skip
    assert json.loads(moodlectl("site", "show", "-o", "json").out) == shown


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--url", URL, "--token-stdin", "--login", "bob"], 2, "exclude each other"),
        ([], 2, "--url"),
        (["--url", "moodle.example.org"], 3, "no web address"),
        (["--url", "http://moodle.example.org"], 3, "allow_http"),
        (["--url", URL, "--via", "sshh:web", "--moodle-dir", "/m"], 3, "Did you mean 'ssh'?"),
        (["--url", URL, "--via", "ssh:web"], 3, "needs 'moodle_dir'"),
        (["--url", URL, "--token-from", TOKEN], 3, "does not say where the token comes from"),
        (["--url", URL, "--engine", "magic"], 2, "magic"),
        (["--url", URL, "--token-from", "env:MOODLECTL_TEST_NONE"], 3, "no variable MOODLECTL_TEST_NONE"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    moodlectl: Moodlectl, path: Path, words: list[str], status: int, said: str
) -> None:
    done = moodlectl("site", "add", "school", *words, stdin=TOKEN)
    assert done.status == status
    assert said in done.err
    assert not path.exists()


@pytest.mark.parametrize("name", ["a b", "a/b", "..", "-x", "é", ""])
def test_a_name_is_made_of_plain_letters(moodlectl: Moodlectl, path: Path, name: str) -> None:
    assert moodlectl("site", "add", "--url", URL, "--", name).status == 3
    assert not path.exists()


def test_a_name_that_is_taken_is_refused_and_replace_changes_only_what_is_given(
    moodlectl: Moodlectl, path: Path, keys: MemoryKeyring, web: responses.RequestsMock
) -> None:
    answers(web, INFO)
    shell = ["--via", "ssh:web", "--moodle-dir", "/m"]
    assert moodlectl("site", "add", "school", "--url", URL, "--token-stdin", *shell, stdin=TOKEN).status == 0
    refused = moodlectl("site", "add", "school", "--url", URL)
    assert refused.status == 5
    assert "--replace" in refused.err
    assert moodlectl("site", "add", "school", "--replace", "--as", "bob", "--no-check").status == 0
    site = config.load(path).site("school")
    assert (site.acting, site.via, site.token) == ("bob", ("ssh:web",), "keyring")
    # A token belongs to its address: with another one it goes, from the keyring too.
    assert moodlectl("site", "add", "school", "--replace", "--url", "https://new.example.org").status == 0
    assert config.load(path).site("school").token is None
    assert keys.entries == {}


def test_list_names_the_default_and_an_empty_list_says_how_to_begin(moodlectl: Moodlectl, path: Path) -> None:
    empty = moodlectl("site", "list")
    assert empty.status == 3  # --config names a file that is not there
    path.write_text("")
    assert "site add" in moodlectl("site", "list").err
    assert json.loads(moodlectl("site", "list", "-o", "json").out) == []
    moodlectl("site", "add", "one", "--url", URL, "--moodle-dir", "/m")
    moodlectl("site", "add", "two", "--url", "https://two.example.org", "--moodle-dir", "/m")
    rows = json.loads(moodlectl("-o", "json", "site", "list").out)
    assert [(row["name"], row["default"]) for row in rows] == [("one", True), ("two", False)]
    assert moodlectl("site", "default", "two").status == 0
    assert config.load(path).default == "two"
    assert moodlectl("site", "list", "-o", "csv").out.startswith("name,default,kind,url,token")
    assert "https://two.example.org" in moodlectl("site", "list").out


def test_an_unknown_site_is_exit_4(moodlectl: Moodlectl) -> None:
    moodlectl("site", "add", "school", "--url", URL, "--moodle-dir", "/m")
    for words in (["show", "shcool"], ["check", "shcool"], ["default", "shcool"], ["remove", "shcool", "-y"]):
        done = moodlectl("site", *words)
        assert done.status == 4
        assert "Did you mean 'school'?" in done.err


def test_remove_asks_and_forgets_the_token_too(
    moodlectl: Moodlectl, web: responses.RequestsMock, keys: MemoryKeyring, path: Path
) -> None:
    answers(web, INFO)
    moodlectl("site", "add", "school", "--url", URL, "--token-stdin", stdin=TOKEN)
    assert moodlectl("site", "remove", "school").status == 5
    assert "school" in config.load(path).sites
    assert moodlectl("site", "remove", "school", "--yes").status == 0
    assert config.load(path).sites == {}
    assert keys.entries == {}


def test_show_says_where_the_token_comes_from(moodlectl: Moodlectl, path: Path) -> None:
    moodlectl("site", "add", "school", "--url", URL, "--token-from", "command:pass show school", "--no-check")
    assert "command:pass show school" in moodlectl("site", "show", "school").out


def test_a_check_goes_on_after_an_error_and_ends_with_its_status(
    moodlectl: Moodlectl, web: responses.RequestsMock, path: Path
) -> None:
    answers(web, INFO)
    path.write_text(f'[sites.school]\nurl = "{URL}"\ntoken = "env:MOODLECTL_TEST_NONE"\n')
    done = moodlectl("site", "check", "school", "-o", "json")
    assert done.status == 3
    lines = {line["name"]: line for line in json.loads(done.out)}
    assert set(lines["token"]) == {"name", "verdict", "message", "hint"}
    assert "shell" in lines
    assert json.loads(done.err)["error"]["code"] == "check"
    table = moodlectl("site", "check", "school")
    assert table.status == 3
    assert "error    token" in table.out
    assert "→ " in table.out


def test_a_site_that_cannot_be_reached_is_exit_6(moodlectl: Moodlectl, path: Path) -> None:
    path.write_text('[sites.gone]\nurl = "http://127.0.0.1:9"\n')
    done = moodlectl("site", "check", "gone")
    assert done.status == 6
    assert "error    address" in done.out


def test_a_token_file_named_from_here_is_found_from_everywhere(
    moodlectl: Moodlectl, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    moodlectl("site", "add", "school", "--url", URL, "--token-from", "file:token", "--no-check")
    assert config.load(path).site("school").token == f"file:{tmp_path / 'token'}"
