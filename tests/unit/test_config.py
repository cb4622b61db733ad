"""The settings file: what is read, what is refused and where, and that writing keeps what a person wrote."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodlectl import config, config_words
from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, ConfigError, NotFound
from moodlectl.limits import Hours, Limits

EXAMPLE = Path(__file__).parents[2] / "examples" / "config.toml"


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, Path("/etc/moodlectl.toml"))
    return caught.value


def school(line: str = "") -> str:
    return f'[sites.school]\nurl = "https://moodle.example.org"\n{line}\n'


def test_the_example_shows_every_option_and_loads() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    loaded = config.load(EXAMPLE)
    assert loaded.default == "school"
    assert loaded.sites["intranet"].ssh_config == EXAMPLE.parent / "ssh_config"
    assert loaded.sites["local"].token == f"file:{Path.home() / '.moodle-token'}"
    written = {key for site in loaded.sites.values() for key in site.as_dict()}
    every = {"as" if f.name == "acting" else f.name for f in dataclasses.fields(SiteConfig)} - {"name"}
    assert written == every
    keys = every - {"limits", "guards"} | {f.name for f in dataclasses.fields(Limits)}
    assert all(f"{key} = " in text for key in keys)
    assert loaded.sites["school"].limits == dataclasses.replace(Limits(), hours=loaded.sites["school"].limits.hours)


def test_an_unknown_key_is_named_with_its_path_and_its_nearest_neighbour() -> None:
    error = refused(school('moodledir = "/x"'))
    assert error.message == "At 'sites.school.moodledir': unknown key."
    assert error.hint is not None
    assert "'moodle_dir'" in error.hint
    assert error.exit_status == 3


def test_a_wrong_hop_is_named_by_its_place_in_the_list() -> None:
    error = refused(school('moodle_dir = "/m"\nvia = ["ssh:host", "sudo:www-data"]'))
    assert error.message.startswith("At 'sites.school.via[1]': unknown hop")


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("timeout = 'soon'", "sites.school.timeout"),
        ("timeout = true", "sites.school.timeout"),
        ("timeout = 0", "sites.school.timeout"),
        ("allow_http = 1", "sites.school.allow_http"),
        ("via = 'ssh:host'", "sites.school.via"),
        ("via = [3]", "sites.school.via[0]"),
        ("via = ['ssh:-oProxyCommand=x']", "sites.school.via[0]"),
        ("via = ['ssh']", "sites.school.via[0]"),
        ("token = 'keyrign'", "sites.school.token"),
        ("token = 'env:1X'", "sites.school.token"),
        ("engine = 'cli'", "sites.school.engine"),
        ("php = ''", "sites.school.php"),
        ('moodle_dir = "a\\nb"', "sites.school.moodle_dir"),
        ("folder = 'x'", "sites.school.folder"),
        ("via = ['ssh:host']", "sites.school"),
        ("exchange_dir = '/x'", "sites.school.exchange_dir"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(line: str, place: str) -> None:
    assert refused(school(line)).message.startswith(f"At '{place}': ")


def test_a_name_with_a_dot_is_quoted_in_the_path_as_in_the_file() -> None:
    assert refused('[sites."a.b"]\nurl = 3\n').message.startswith("At 'sites.\"a.b\".url': ")


def test_a_token_put_in_the_wrong_place_is_not_repeated() -> None:
    token = "0123456789abcdef0123456789abcdef"
    error = refused(school(f'token = "{token}"'))
    assert token not in f"{error.message}{error.hint}{error.details}"


def test_bad_toml_is_said_with_line_and_column() -> None:
    error = refused("default = \n")
    assert "line 1, column" in error.message
    assert "/etc/moodlectl.toml" in error.message


def test_a_default_that_is_no_site_is_refused() -> None:
    assert refused('default = "scool"\n' + school()).hint == (
        "Did you mean 'school'? Sites in /etc/moodlectl.toml: school."
    )


@pytest.mark.parametrize(
    "url",
    ["moodle.example.org", "ftp://x", "https://", "https://u:p@host", "https://h/course/view.php?id=3", "http://h:x"],
)
def test_what_is_no_address_of_a_site_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        config_words.read_url(url)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("https://Moodle.Example.org/", "https://moodle.example.org"),
        ("https://h/lms/login/index.php", "https://h/lms"),
        ("http://127.0.0.1:8080/moodle/", "http://127.0.0.1:8080/moodle"),
    ],
)
def test_an_address_is_kept_as_moodle_writes_it(typed: str, meant: str) -> None:
    assert config_words.read_url(typed) == meant


def test_no_file_where_nobody_named_one_means_no_sites(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MOODLECTL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = config.load()
    assert loaded.sites == {}
    with pytest.raises(AccessError, match="No site is set up"):
        loaded.site()


def test_a_named_file_that_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no settings file"):
        config.load(tmp_path / "none.toml")
    monkeypatch.setenv("MOODLECTL_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="There is no settings file"):
        config.load()


def test_an_unknown_site_is_not_found_and_the_near_one_is_named() -> None:
    loaded = config.parse(school(), Path("c.toml"))
    with pytest.raises(NotFound) as caught:
        loaded.site("shcool")
    assert caught.value.hint is not None
    assert "Did you mean 'school'?" in caught.value.hint
    with pytest.raises(ConfigError, match="No site is chosen"):
        loaded.site()


def test_writing_keeps_comments_and_the_other_sites(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "# Mine.\n\n# the old one\n[sites.old]\nurl = 'https://old.example.org'  # leave it\ntimeout = 5\n"
    )
    config.save_site(path, SiteConfig("new", "https://new.example.org", acting="bob"), make_default=True)
    loaded = config.save_site(path, SiteConfig("old", "https://old.example.org", service="s"))
    text = path.read_text()
    assert text.startswith('# Mine.\n\ndefault = "new"\n')
    assert "# the old one" in text
    assert "# leave it" in text
    assert "timeout" not in text
    assert loaded.default == "new"
    assert loaded.sites["new"].acting == "bob"
    assert loaded.sites["old"].service == "s"
    assert config.load(path) == loaded


def test_a_written_file_is_private_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "moodlectl.toml"
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    old = os.umask(0)
    try:
        config.save_site(link, SiteConfig("a", "https://a.example.org"))
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert stat.S_IMODE(real.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in real.parent.iterdir()] == ["moodlectl.toml"]


def test_a_file_with_a_mistake_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("nonsense = 1\n")
    with pytest.raises(ConfigError, match="At 'nonsense'"):
        config.save_site(path, SiteConfig("a", "https://a.example.org"))
    assert path.read_text() == "nonsense = 1\n"


def test_removing_the_default_site_leaves_no_default(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config.save_site(path, SiteConfig("a", "https://a.example.org"), make_default=True)
    config.save_site(path, SiteConfig("b.c", "https://b.example.org"))
    assert config.save_default(path, "b.c").default == "b.c"
    loaded = config.remove_site(path, "b.c")
    assert loaded.default is None
    assert list(loaded.sites) == ["a"]


printable = st.characters(blacklist_categories=("Cs", "Cc"))
line = st.text(printable, min_size=1, max_size=30).map(str.strip).filter(bool)


@given(
    name=st.from_regex(config_words.SITE_NAME, fullmatch=True),
    service=line,
    moodle_dir=line,
    acting=line,
    command=line,
)
def test_whatever_is_written_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    service: str,
    moodle_dir: str,
    acting: str,
    command: str,
) -> None:
    path = tmp_path_factory.mktemp("c") / "config.toml"
    site = SiteConfig(
        name, "https://m.example.org", service=service, moodle_dir=moodle_dir, acting=acting,
        via=("ssh:a", "user:b"), token=f"command:{command}", timeout=7.5,
    )
    config.save_site(path, site, make_default=True)
    assert config.load(path).site() == site


LIMITS = """
[sites.school.limits]
backups = 1   # it is small
free = "500 MB"
hours = ["22:00-06:00", "12:00-13:00"]
"""


def test_limits_are_a_table_of_their_own() -> None:
    limits = config.parse(school() + LIMITS, Path("/x.toml")).sites["school"].limits
    assert (limits.backups, limits.restores, limits.free) == (1, 2, 500_000_000)
    assert limits.hours == (Hours.parse("22:00-06:00"), Hours.parse("12:00-13:00"))


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("backups = 0", "limits.backups"),
        ("backups = true", "limits.backups"),
        ("free = 'much'", "limits.free"),
        ("hours = '25:00-06:00'", "limits.hours"),
        ("hours = [3]", "limits.hours"),
        ("load = -1", "limits.load"),
        ("backup = 1", "limits.backup"),
    ],
)
def test_a_wrong_limit_is_named_with_its_path(line: str, place: str) -> None:
    assert refused(school() + f"[sites.school.limits]\n{line}").message.startswith(f"At 'sites.school.{place}'")


def test_changing_a_site_keeps_its_limits_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(school() + LIMITS)
    site = config.load(path).sites["school"]
    config.save_site(path, dataclasses.replace(site, timeout=30.0, php="/usr/bin/php8.2"))
    changed = config.load(path).sites["school"]
    assert (changed.timeout, changed.php, changed.limits) == (30.0, "/usr/bin/php8.2", site.limits)
    assert 'free = "500 MB"' in path.read_text()
    assert "# it is small" in path.read_text()
