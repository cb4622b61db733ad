"""Words to hops, hops to argv."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlectl.errors import AccessError, ConfigError, NotFound
from moodlectl.site import shell
from moodlectl.site.shell import Shell

ME = pwd.getpwuid(os.geteuid()).pw_name
BIN = Path(__file__).parents[2] / "bin"


@pytest.fixture
def standins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")


def run(hops: tuple[str, ...], *command: str) -> str:
    way = Shell(hops)
    try:
        process = way.start(command)
        out, _ = process.communicate(timeout=20)
        return out.decode()
    finally:
        way.close()


def test_without_hops_the_command_runs_as_it_is() -> None:
    assert Shell().argv(["php", "-v"]) == ["php", "-v"]
    assert str(Shell()) == "this machine"


def test_only_ssh_quotes_and_only_once() -> None:
    argv = Shell(["ssh:web1", "user:www-data"]).argv(["php", "-r", "echo 'a b';"])
    assert argv[0] == "ssh"
    assert argv[-2] == "web1"
    assert argv[-3] == "--"
    assert shlex.split(argv[-1]) == ["sudo", "-n", "-u", "www-data", "--", "php", "-r", "echo 'a b';"]


def test_ssh_asks_nothing_and_notices_a_dead_link() -> None:
    argv = Shell(["ssh:web1"]).argv(["true"])
    options = {argv[n + 1] for n, word in enumerate(argv) if word == "-o"}
    assert {"BatchMode=yes", "ControlMaster=auto", "ControlPersist=60", "ServerAliveInterval=15"} <= options
    assert "-T" in argv


@pytest.mark.parametrize(
    ("word", "host", "port"),
    [
        ("ssh:web1", "web1", None),
        ("ssh:bob@web1", "bob@web1", None),
        ("ssh:bob@web1:2222", "bob@web1", "2222"),
        ("ssh:[::1]:2222", "::1", "2222"),
        ("ssh:bob@[fe80::1]", "bob@fe80::1", None),
        ("ssh:fe80::1", "fe80::1", None),
        ("ssh:bob@corp@web1", "bob@corp@web1", None),
    ],
)
def test_addresses_are_taken_apart(word: str, host: str, port: str | None) -> None:
    argv = Shell([word]).argv(["true"])
    assert argv[-2] == host
    assert (argv[argv.index("-p") + 1] if "-p" in argv else None) == port


def test_containers_are_entered_with_standard_input() -> None:
    assert Shell(["docker:moodle"]).argv(["php"]) == ["docker", "exec", "-i", "moodle", "php"]
    assert Shell(["kubectl:lms/web-0"]).argv(["php"]) == [
        *["kubectl", "exec", "-i", "-n", "lms", "web-0", "--", "php"]
    ]
    assert Shell(["kubectl:lms/web-0:php"]).argv(["php"]) == [
        *["kubectl", "exec", "-i", "-n", "lms", "-c", "php", "web-0", "--", "php"]
    ]
    assert Shell(["kubectl:web-0"]).argv(["php"]) == ["kubectl", "exec", "-i", "web-0", "--", "php"]


def test_a_user_of_a_container_needs_no_sudo_there() -> None:
    argv = Shell(["docker:moodle", "user:www-data"]).argv(["php"])
    assert argv == ["docker", "exec", "-i", "-u", "www-data", "moodle", "php"]


def test_who_one_already_is_needs_no_hop_on_this_machine_but_elsewhere_it_does() -> None:
    assert Shell([f"user:{ME}"]).argv(["php"]) == ["php"]
    assert Shell(["user:nobody-else"]).argv(["php"]) == ["sudo", "-n", "-u", "nobody-else", "--", "php"]
    assert Shell(["ssh:web1", f"user:{ME}"]).argv(["php"])[-1].startswith("sudo ")


@pytest.mark.parametrize(
    "word",
    [
        *["telnet:web1", "ssh", "ssh:", "web1", "", "docker:", "kubectl:", "kubectl:ns/", "user:"],
        *["ssh:-oProxyCommand=x", "ssh:-x@web1", "ssh:bob@-web1", "ssh:web1:http", "ssh:web1:0", "ssh:a b"],
        *["docker:-v", "kubectl:-n/pod", "kubectl:-pod", "kubectl:p:", "kubectl:p:-c", "user:-u", "ssh:web1:99999", "user:a\nb", "ssh:a@"],
    ],
)
def test_a_hop_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        Shell([word])
    with pytest.raises(ConfigError):
        Shell(["docker:moodle", word])


def test_the_ssh_configuration_named_is_used_for_the_first_hop_only() -> None:
    argv = Shell(["ssh:a", "ssh:b"], ssh_config="/etc/my config").argv(["true"])
    assert argv[argv.index("-F") + 1] == "/etc/my config"
    inner = shlex.split(argv[-1])
    assert inner[0] == "ssh" and inner[-2:] == ["b", "true"]
    assert "-F" not in inner
    # The directory of the shared connection is on this machine, not on the next one.
    assert not any("Control" in word for word in inner)


def control_directory(argv: list[str]) -> Path:
    return Path(next(word for word in argv if word.startswith("ControlPath=")).partition("=")[2]).parent


def test_the_control_socket_lies_in_a_private_short_directory_that_close_removes() -> None:
    way = Shell(["ssh:web1"])
    directory = control_directory(way.argv(["true"]))
    assert control_directory(way.argv(["false"])) == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(os.fsencode(directory)) + 1 + 40 + 17 < 104
    way.close()
    assert not directory.exists()


def test_without_a_short_directory_connections_are_not_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    way = Shell(["ssh:web1"])
    assert long not in control_directory(way.argv(["true"])).parents
    way.close()
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(OSError("full")))
    argv = Shell(["ssh:web1"]).argv(["true"])
    assert not any("Control" in word for word in argv)
    assert argv[-2:] == ["web1", "true"]


@pytest.mark.parametrize(
    "hops",
    [
        (),
        ("ssh:a",),
        ("ssh:a", "ssh:b"),
        ("ssh:a", "ssh:b", "user:www-data"),
        ("ssh:a", "docker:c", "user:www-data"),
        ("docker:c", "ssh:a"),
        ("kubectl:n/p", "user:www-data"),
        ("user:someone", "ssh:a", "ssh:b", "ssh:c", "kubectl:p"),
    ],
    ids="+".join,
)
def test_awkward_words_arrive_unchanged_through_any_hops(standins: None, hops: tuple[str, ...]) -> None:
    words = [
        "",
        "a b",
        "'",
        '"',
        "$HOME",
        "`id`",
        "\\",
        "*",
        "a\nb",
        "é",
        "--",
        "-x",
        "#",
        "!",
        "%s",
        ";&|<>(",
    ]
    assert run(hops, "printf", "[%s]", *words) == "".join(f"[{word}]" for word in words)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=5))
def test_any_words_survive_two_levels_of_quoting(words: list[str]) -> None:
    inner = shell.ssh("b")(words or ["true"])
    outer = shell.ssh("a")(inner)
    assert shlex.split(shlex.split(outer[-1])[-1]) == (words or ["true"])


def test_a_command_runs_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it() -> None:
    process = Shell().start(["sh", "-c", "ps -o sid= -p $$"])
    out, _ = process.communicate(timeout=20)
    assert int(out) == process.pid != os.getsid(0)


def test_a_php_that_is_not_installed_is_not_found() -> None:
    with pytest.raises(NotFound, match="no-such-php") as caught:
        Shell().start(["no-such-php"])
    assert "--php" in (caught.value.hint or "")


def test_a_program_of_the_hops_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AccessError, match="docker") as caught:
        Shell(["docker:c"]).start(["php"])
    assert caught.value.code == "program_missing"


def test_close_ends_the_shared_connection_of_the_same_host(
    standins: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("STANDIN_LOG", str(log))
    way = Shell(["ssh:bob@web1:2222"], ssh_config="/dev/null")
    process = way.start(["true"])
    process.communicate(timeout=20)
    (control_directory(way.argv([])) / "socket").touch()
    way.close()
    way.close()
    first, last = log.read_text().splitlines()
    path = next(word for word in first.split() if word.startswith("ControlPath="))
    assert last == f"ssh -F /dev/null -o {path} -p 2222 -O exit -- bob@web1"
