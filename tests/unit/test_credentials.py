"""Where tokens come from, what is refused, and that no error ever shows one."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest

from moodlectl import credentials
from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, ConfigError
from moodlectl.secret import Secret

TOKEN = "5f0c1b2a3d4e5f60718293a4b5c6d7e8"


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


class BrokenKeyring(MemoryKeyring):
    """A keyring that fails as its backends do, with an error that quotes what it was given."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def set_password(self, service: str, username: str, password: str) -> None:
        raise self.problem

    def get_password(self, service: str, username: str) -> str | None:
        raise self.problem


@pytest.fixture
def use() -> Iterator[object]:
    before = keyring.get_keyring()

    def set_(backend: keyring.backend.KeyringBackend) -> keyring.backend.KeyringBackend:
        keyring.set_keyring(backend)
        return backend

    yield set_
    keyring.set_keyring(before)


def site(token: str | None = "keyring", url: str = "https://moodle.example.org") -> SiteConfig:
    return SiteConfig("school", url, token=token)


def test_a_site_that_names_no_token_has_none() -> None:
    assert credentials.token_for(site(None)) is None


def test_a_stored_token_comes_back_and_can_be_forgotten(use) -> None:  # type: ignore[no-untyped-def]
    use(MemoryKeyring())
    credentials.store(site(), Secret(TOKEN))
    assert credentials.token_for(site()) == Secret(TOKEN)
    assert credentials.forget(site()) is True
    assert credentials.forget(site()) is False
    with pytest.raises(AccessError, match="holds no token for 'school'"):
        credentials.token_for(site())


def test_a_site_whose_address_changed_does_not_get_the_old_token(use) -> None:  # type: ignore[no-untyped-def]
    use(MemoryKeyring())
    credentials.store(site(), Secret(TOKEN))
    with pytest.raises(AccessError, match=r"at https://evil\.example"):
        credentials.token_for(site(url="https://evil.example"))


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        (keyring.backends.fail.Keyring(), "nokeyring"),
        (keyring.backends.null.Keyring(), "nokeyring"),
        (BrokenKeyring(keyring.errors.KeyringLocked("locked")), "keyringlocked"),
        (BrokenKeyring(keyring.errors.PasswordSetError("no")), "keyringbroken"),
        (BrokenKeyring(RuntimeError(f"D-Bus refused {TOKEN}")), "keyringbroken"),
    ],
)
def test_without_a_working_keyring_the_other_places_are_named(use, backend, code) -> None:  # type: ignore[no-untyped-def]
    use(backend)
    with pytest.raises(AccessError) as caught:
        credentials.store(site(), Secret(TOKEN))
    assert caught.value.code == code
    assert caught.value.hint is not None
    assert all(word in caught.value.hint for word in ("env:", "file:", "command:"))
    assert TOKEN not in f"{caught.value.message}{caught.value.hint}"


def test_the_fail_keyring_is_named_when_reading_too(use) -> None:  # type: ignore[no-untyped-def]
    use(keyring.backends.fail.Keyring())
    with pytest.raises(AccessError, match="has no keyring"):
        credentials.token_for(site())


def test_a_token_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHOOL", f"{TOKEN}\n")
    assert credentials.token_for(site("env:SCHOOL")) == Secret(TOKEN)
    monkeypatch.setenv("SCHOOL", " ")
    with pytest.raises(AccessError, match="no token in the environment variable SCHOOL"):
        credentials.token_for(site("env:SCHOOL"))
    monkeypatch.delenv("SCHOOL")
    with pytest.raises(AccessError, match="no variable SCHOOL"):
        credentials.token_for(site("env:SCHOOL"))


def test_a_token_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xef\xbb\xbf" + TOKEN.encode() + b"\r\nsecond line\n")
    path.chmod(0o600)
    assert credentials.token_for(site(f"file:{path}")) == Secret(TOKEN)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_token_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(AccessError) as caught:
        credentials.token_for(site(f"file:{path}"))
    assert caught.value.hint is not None
    assert f"chmod 600 {path}" in caught.value.hint


def test_a_token_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(AccessError, match="belongs to another user"):
        credentials.token_for(site(f"file:{path}"))


def test_a_missing_token_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="No such file"):
        credentials.token_for(site(f"file:{tmp_path / 'none'}"))
    with pytest.raises(AccessError, match="Is a directory"):
        credentials.token_for(site(f"file:{tmp_path}"))


def python(code: str) -> str:
    return f"command:{shlex.join([sys.executable, '-c', code])}"


def test_a_token_from_a_command_is_its_first_line() -> None:
    assert credentials.token_for(site(python(f"print('{TOKEN}\\nuser: me')"))) == Secret(TOKEN)


def test_no_shell_sees_the_words_of_a_command(tmp_path: Path) -> None:
    code = "import sys; print('x' * 32 if sys.argv[1:] == ['$(touch', 'made)', ';', 'ls'] else '')"
    source = python(code) + " $(touch made) ';' ls"
    assert credentials.token_for(site(source)) == Secret("x" * 32)


def test_a_failing_command_shows_its_words_without_the_token() -> None:
    code = f"import sys; print('{TOKEN}'); print('cannot: {TOKEN}', file=sys.stderr); sys.exit(3)"
    with pytest.raises(AccessError, match="failed with status 3") as caught:
        credentials.read_from(f"command:{sys.executable} -c {shlex.quote(code)}", site())
    assert caught.value.details["last_lines"] == ["cannot: ***"]


def test_a_command_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "COMMAND_SECONDS", 0.5)
    code = f"import time; print('{TOKEN}', flush=True); time.sleep(60)"
    source = python(code)
    with pytest.raises(AccessError, match="gave no answer") as caught:
        credentials.token_for(site(source))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("words", ["/no/such/program", "'unbalanced"])
def test_a_command_that_cannot_run_is_said(words: str) -> None:
    with pytest.raises(AccessError):
        credentials.token_for(site(f"command:{words}"))


@pytest.mark.parametrize("text", ["", "two words here", "short", "<html>nonsense</html>"])
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(AccessError) as caught:
        credentials.checked(text, "the file x")
    assert not text or text not in f"{caught.value.message}{caught.value.hint}"


def test_an_unknown_source_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        credentials.read_from("vault:x", site())


def test_no_traceback_shows_the_token(use) -> None:  # type: ignore[no-untyped-def]
    use(BrokenKeyring(keyring.errors.KeyringLocked("locked")))
    try:
        credentials.store(site(), Secret(TOKEN))
    except AccessError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert TOKEN not in text
