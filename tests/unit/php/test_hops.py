"""The whole conversation through stand-ins for ssh, docker, kubectl and sudo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moodlectl.errors import AccessError, NotFound, Unreachable
from moodlectl.site.runner import Runner

MakeRunner = Callable[..., Runner]

ECHO = """
function moodlectl_call_echo(array $p, moodlectl_io $io) {
    while (($bytes = $io->receive()) !== null) { $io->log(strlen($bytes)); }
    return $p;
}
function moodlectl_call_bytes(array $p, moodlectl_io $io) {
    $io->send(implode(array_map('chr', range(0, 255))));
}
"""


@pytest.mark.parametrize(
    "hops",
    [
        ("ssh:web1",),
        ("ssh:web1", "ssh:web2", "user:www-data"),
        ("docker:moodle", "user:www-data"),
        ("ssh:web1", "docker:moodle"),
        ("ssh:web1", "user:someone", "kubectl:lms/web-0"),
    ],
    ids="+".join,
)
def test_bytes_pass_unchanged_through_hops(
    runner_for: MakeRunner, standins: Path, hops: tuple[str, ...]
) -> None:
    runner = runner_for(ECHO, hops=hops)
    params = {"text": 'it\'s "quoted" $HOME `id` \\ \n ü', "n": [1, None]}
    got: list[bytes] = []
    runner.fetch("bytes", {}, got.append)
    assert b"".join(got) == bytes(range(256))
    assert runner.do("echo", params, source=[bytes(range(256)) * 9000]) == params
    assert len([line for line in standins.read_text().splitlines() if "-O exit" not in line]) == 2 * len(
        [hop for hop in hops if not (hop.startswith("user:") and hops[0].startswith("docker:"))]
    )


def test_what_is_secret_stays_out_of_every_command_line(runner_for: MakeRunner, standins: Path) -> None:
    runner = runner_for(ECHO, hops=("ssh:web1", "user:www-data"), acting="anna")
    runner.do("echo", {"password": "hunter2"}, source=[b""])
    said = standins.read_text()
    assert "ssh" in said and "sudo" in said
    assert "hunter2" not in said
    assert "anna" not in said


def test_a_connection_that_is_refused_is_told_with_ssh_s_own_words(
    runner_for: MakeRunner, standins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "ssh: connect to host web1 port 22: Connection refused"
    monkeypatch.setenv("STANDIN_SSH_SAYS", words)
    with pytest.raises(Unreachable, match="nothing listens") as caught:
        _ = runner_for(hops=("ssh:web1",)).hello
    assert caught.value.details["last_lines"] == [words]
    assert caught.value.details["where"] == "ssh:web1"


def test_a_sudo_that_wants_a_password_is_told_with_the_rule_to_add(
    runner_for: MakeRunner, standins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_SUDO_SAYS", "sudo: a password is required")
    with pytest.raises(AccessError) as caught:
        _ = runner_for(hops=("ssh:web1", "user:www-data")).hello
    assert caught.value.code == "sudo_password"
    assert "NOPASSWD" in (caught.value.hint or "")


def test_a_container_that_is_not_there_is_named(runner_for: MakeRunner, standins: Path) -> None:
    with pytest.raises(NotFound) as caught:
        _ = runner_for(hops=("docker:gone",)).hello
    assert caught.value.code == "container_unknown"


def test_a_host_without_php_is_told_how_to_name_it(runner_for: MakeRunner, standins: Path) -> None:
    for php in ("no-such-php", "/no/such/php"):
        with pytest.raises(NotFound) as caught:
            _ = runner_for(hops=("ssh:web1",), php=php).hello
        assert caught.value.code == "php_missing"
        assert "--php" in (caught.value.hint or "")


def test_a_php_that_is_too_old_says_so(runner_for: MakeRunner, standins: Path, tmp_path: Path) -> None:
    old = tmp_path / "php56"
    old.write_text("#!/bin/sh\nprintf 'moodlectl: PHP 5.6.40 is too old' >&2\nexit 78\n")
    old.chmod(0o755)
    with pytest.raises(AccessError, match="older than 7.2") as caught:
        _ = runner_for(hops=("ssh:web1",), php=str(old)).hello
    assert caught.value.code == "php_too_old"


def test_a_login_that_greets_with_text_does_no_harm(
    runner_for: MakeRunner, standins: Path, tmp_path: Path
) -> None:
    chatty = tmp_path / "php"
    chatty.write_text('#!/bin/sh\nprintf "Welcome!\\nLast login: never"\necho motd >&2\nexec php "$@"\n')
    chatty.chmod(0o755)
    assert runner_for(hops=("ssh:web1",), php=str(chatty)).hello.acting == "admin"
