"""``site check`` on real sites: all well, and everything that can be wrong with a site without harming it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def lines(done: Any) -> dict[str, dict[str, Any]]:
    """The lines of a check by name; the last of a name counts."""
    return {line["name"]: line for line in json.loads(done.stdout)}


def errors(done: Any) -> list[str]:
    return [line["name"] for line in json.loads(done.stdout) if line["verdict"] == "error"]


def write_settings(command: Any, **keys: Any) -> None:
    """Put a site called ``odd`` into the settings, whatever may be wrong with it."""
    folder = command.home / "config" / "moodlectl"
    folder.mkdir(exist_ok=True)
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None)
    (folder / "config.toml").write_text(f"[sites.odd]\n{text}\n")


def token_file(command: Any, token: str) -> str:
    path = Path(command.home) / "odd.token"
    path.touch(mode=0o600)
    path.write_text(token)
    return f"file:{path}"


def test_a_site_in_order_is_exit_0_and_every_line_is_there(moodlectl_on: Any, moodle: Any) -> None:
    done = moodlectl_on("site", "check", "live", "-o", "json")
    assert done.status == 0, done.stdout + done.stderr
    found = lines(done)
    wanted = {
        "address", "TLS", "redirects", "web services", "REST", "token", "token's user", "functions",
        "downloads", *(f"hop {hop}" for hop in moodle.via), "PHP", "config.php", "Moodle", "PHP's user",
        "upgrade", "maintenance", "site on the host", "PHP extensions", "space to unpack", "space to store",
        "cron", "tasks", "automated backups", "permissions",
    }  # fmt: skip
    assert wanted <= set(found)
    assert moodle.release in found["Moodle"]["message"]
    assert found["PHP"]["message"].endswith("or newer")
    assert "acting as admin" in found["Moodle"]["message"]


def test_a_dead_token_is_one_error_and_the_host_is_looked_at_all_the_same(
    moodlectl: Any, moodle: Any
) -> None:
    moodlectl.use(moodle)
    write_settings(moodlectl, url=moodle.url, token=token_file(moodlectl, "f" * 32), via=moodle.via,
                   moodle_dir=str(moodle.moodle_dir))  # fmt: skip
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3
    assert errors(done) == ["token"]
    assert lines(done)["permissions"]["verdict"] == "ok"


def test_a_poor_service_is_told_what_it_lacks_ready_to_paste(moodlectl: Any, moodle: Any) -> None:
    write_settings(moodlectl, url=moodle.url, token=token_file(moodlectl, moodle.tokens["poor"]))
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3
    assert errors(done) == ["functions", "downloads"]
    paste = lines(done)["functions"]["hint"].rpartition(" ")[2].split(",")
    assert "core_files_get_files" in paste
    assert "core_webservice_get_site_info" not in paste


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"moodle_dir": "/nowhere/moodle"}, "config.php"),
        ({"moodle_dir": "/usr"}, "config.php"),
        ({"php": "/nowhere/php"}, "PHP"),
        ({"as": "nobody.at.all"}, "Moodle"),
    ],
)
def test_a_wrong_setting_is_the_line_that_fails(
    moodlectl: Any, moodle: Any, changed: dict[str, str], wrong: str
) -> None:
    moodlectl.use(moodle)
    right = {"url": moodle.url, "via": moodle.via, "moodle_dir": str(moodle.moodle_dir)}
    write_settings(moodlectl, **{**right, **changed})
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3, done.stderr
    assert errors(done) == [wrong]
    assert lines(done)["permissions"]["message"].startswith("not checked")


def test_the_hop_that_is_broken_is_named(moodlectl: Any, moodle: Any) -> None:
    moodlectl.use(moodle)
    first = moodle.via[0]
    hops = [first, "user:nobody.at.all"]
    write_settings(moodlectl, url=moodle.url, via=hops, moodle_dir=str(moodle.moodle_dir))
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3
    assert errors(done) == ["hop user:nobody.at.all"]
    assert lines(done)[f"hop {first}"]["verdict"] == "ok"


def test_a_host_whose_key_has_changed_is_not_talked_to(moodlectl: Any, moodle: Any) -> None:
    text = moodle.ssh_config.read_text()
    known = moodlectl.home / "known_hosts"
    kept = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["UserKnownHostsFile"])
    # The key of another host, well formed: one letter of the real one's end is another.
    known.write_text("".join(_other_key(line) for line in Path(kept).read_text().splitlines(keepends=True)))
    config = moodlectl.home / "ssh_config"
    config.write_text(text.replace(kept, str(known)))
    write_settings(moodlectl, url=moodle.url, via=moodle.via, moodle_dir=str(moodle.moodle_dir),
                   ssh_config=str(config))  # fmt: skip
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3, done.stdout
    assert errors(done) == [f"hop {moodle.via[0]}"]
    assert "key" in lines(done)[f"hop {moodle.via[0]}"]["message"]


def _other_key(line: str) -> str:
    host, kind, key, *rest = line.split()
    key = key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB")
    return " ".join([host, kind, key, *rest]) + "\n"


def test_a_shell_that_leads_to_another_site_than_the_address_is_an_error(moodlectl: Any, moodle: Any) -> None:
    moodlectl.use(moodle)
    elsewhere = moodle.url.replace("127.0.0.1", "localhost")
    write_settings(moodlectl, url=elsewhere, via=moodle.via, moodle_dir=str(moodle.moodle_dir))
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3
    assert errors(done) == ["site on the host"]


def test_the_trap_in_the_settings_of_automated_backups_is_an_error(moodlectl_on: Any, moodle: Any) -> None:
    trap = {"backup_auto_active": 2, "backup_auto_max_kept": 0, "backup_auto_delete_days": 7}
    set_ = "foreach ($arguments['values'] as $k => $v) { set_config($k, $v, 'backup'); }"
    read = (
        "echo 'RIG:' . json_encode(array_intersect_key((array)get_config('backup'), $arguments['values']));"
    )
    before = json.loads(moodle.php(read, values=trap).rsplit("RIG:", 1)[1])
    moodle.php(set_, values=trap)
    try:
        done = moodlectl_on("site", "check", "live", "-o", "json")
    finally:
        moodle.php(set_, values=before)
    assert done.status == 1
    assert errors(done) == ["automated backups kept"]


def test_a_user_who_may_not_is_told_which_permissions_are_missing(moodlectl: Any, moodle: Any) -> None:
    moodlectl.use(moodle)
    write_settings(moodlectl, **{"url": moodle.url, "via": moodle.via, "moodle_dir": str(moodle.moodle_dir),
                                 "as": "student1"})  # fmt: skip
    done = moodlectl("site", "check", "odd", "-o", "json")
    assert done.status == 3
    assert errors(done) == ["permissions"]
    said = [line["message"] for line in json.loads(done.stdout) if line["name"] == "permissions"]
    assert "moodle/backup:backupcourse" in said[0]


def test_adding_a_site_by_password_finds_no_keyring_and_says_what_to_do(moodlectl: Any, moodle: Any) -> None:
    done = moodlectl("site", "add", "x", "--url", moodle.url, "--login", "teacher1", "--service", "moodlectl",
                     stdin="Moodlectl-test-1!\n")  # fmt: skip
    assert done.status == 3
    assert "env:NAME" in done.stderr
    assert moodlectl("site", "list", "-o", "json").json == []
    wrong = moodlectl("site", "add", "x", "--url", moodle.url, "--login", "teacher1", stdin="wrong\n")
    assert wrong.status == 3
    assert "invalidlogin" in moodlectl(
        "-o", "json", "site", "add", "x", "--url", moodle.url, "--login", "teacher1", stdin="wrong\n"
    ).stderr
