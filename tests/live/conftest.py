"""What every live test is handed: real Moodles, and the installed command with a home of its own.

``moodle``     one site at a time; a test that asks for it runs once for every source directory and database
``moodles``    all of them by name (``moodles["4.5-pgsql"]``), for work between two sites
``moodlectl``  the command: ``moodlectl("course", "list")`` gives exit status, standard output and error

See tests/live/rig.py for the environment variables. Sites are started once for a test session, side by side.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("desks", "faults", "scenes", "snapshots")

import rig  # noqa: E402

# A shell lets what it starts with & ignore Ctrl-C, and all that is started by that; the command under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

RUNNING = [Path(word) for word in os.environ.get("MOODLECTL_LIVE_SITES", "").split(":") if word]
WANTED = [] if RUNNING else [(source, db) for source in rig.source_dirs() for db in rig.databases()]
NAMES = (
    [site["name"] for file in RUNNING for site in json.loads(file.read_text())]
    or rig.site_names(WANTED)
)


def pytest_report_header() -> str:
    """Say plainly which Moodles are going to be run."""
    return _which()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say it again at the end, where it is read."""
    terminalreporter.write_line(_which())


def _which() -> str:
    if not NAMES:
        return "live tests: NO Moodle runs. Put source directories below ~/moodle, or set MOODLE_DIRS."
    running = ["running already"] * len(NAMES)
    where = running if RUNNING else [str(source) for source, _ in WANTED]
    return "live tests run these Moodles: " + ", ".join(
        f"{name} ({place})" for name, place in zip(NAMES, where, strict=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``moodle`` once for every site."""
    if "moodle" in metafunc.fixturenames:
        metafunc.parametrize("moodle", NAMES, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test in this directory as live; with MOODLE_LONG=no leave out the long ones but a telling few."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)
    if os.environ.get("MOODLE_LONG") == "no":
        long = [item for item in items if item.get_closest_marker("long") and not _is_telling(item)]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def _is_telling(item: pytest.Item) -> bool:
    """Whether a test is marked telling, and if the mark names some of its parameters, has those."""
    mark = item.get_closest_marker("telling")
    return mark is not None and (not mark.args or any(f"-{word}]" in item.name for word in mark.args))


@pytest.fixture(scope="session")
def moodles() -> Iterator[dict[str, rig.LiveMoodle]]:
    """Every site by its name, such as 5.1-pgsql, in the order of the source directories."""
    if not NAMES:
        pytest.fail(_which())
    if RUNNING:
        yield {site.name: site for site in rig.attach_sites(RUNNING)}
        return
    sites = rig.start_sites(WANTED, size=os.environ.get("MOODLE_SIZE", "XS"))
    yield dict(zip(NAMES, sites, strict=True))
    sites[0].machine.stop()


@pytest.fixture(scope="session")
def moodle(request: pytest.FixtureRequest, moodles: dict[str, rig.LiveMoodle]) -> rig.LiveMoodle:
    """One site; the test runs again for the next."""
    return moodles[request.param]


@dataclass(frozen=True)
class Outcome:
    """What one run of the command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of ``-o json``, the last line of standard error that is one."""
        start = self.stderr.rindex('{"error"') if '{"error"' in self.stderr else self.stderr.index("{")
        found: dict[str, Any] = json.JSONDecoder().raw_decode(self.stderr[start:])[0]["error"]
        return found


class Command:
    """The installed moodlectl with private folders: nothing of the person's own is read or written."""

    def __init__(self, home: Path) -> None:
        """Make the folders; the run-time one is short, since ssh puts sockets there."""
        self.home = home
        self.env = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("MOODLECTL_", "XDG_"))
        }
        for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
            (home / kind.lower()).mkdir()
            self.env[f"XDG_{kind}_HOME"] = str(home / kind.lower())
        (home / "run").mkdir(mode=0o700)
        self.env["XDG_RUNTIME_DIR"] = str(home / "run")
        self.env["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

    @property
    def argv(self) -> list[str]:
        """How the command is started: MOODLECTL_BIN, else this Python's own."""
        named = os.environ.get("MOODLECTL_BIN")
        return [named] if named else [sys.executable, "-m", "moodlectl"]

    def use(self, *sites: rig.LiveMoodle) -> None:
        """Let ``ssh`` reach the host of those sites."""
        places = {str(site.machine.ssh.bin_dir) for site in sites}
        self.env["PATH"] = ":".join([*places, self.env["PATH"]])

    def __call__(
        self, *words: str, stdin: str = "", seconds: float = 600, env: dict[str, str] | None = None,
    ) -> Outcome:
        """Run the command to its end."""
        done = subprocess.run(
            [*self.argv, *words], input=stdin, capture_output=True, text=True, encoding="utf-8",
            timeout=seconds, env={**self.env, **(env or {})}, cwd=self.home)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """Start the command and do not wait: for tests that interrupt or kill it."""
        return subprocess.Popen([*self.argv, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=self.env, cwd=self.home)

    def add_site(self, name: str, site: rig.LiveMoodle, *, token: str = "admin", ssh: bool = True) -> None:
        """Tell the command about a site as a person on a server would: token in a private file, hops."""
        secret = self.home / f"{name}.token"
        secret.touch(mode=0o600)
        secret.write_text(site.tokens[token] + "\n")
        words = ["site", "add", name, "--url", site.url, "--token-from", f"file:{secret}"]
        if ssh:
            self.use(site)
            for hop in site.via:
                words += ["--via", hop]
            words += ["--moodle-dir", str(site.moodle_dir)]
        done = self(*words)
        assert done.status == 0, done.stderr


@pytest.fixture
def moodlectl() -> Iterator[Command]:
    """The command, with a home that is new for every test."""
    with tempfile.TemporaryDirectory(prefix="mc-", dir="/tmp") as home:
        yield Command(Path(home))


@pytest.fixture
def moodlectl_on(moodlectl: Command, moodle: rig.LiveMoodle) -> Command:
    """The command, already told about ``moodle`` under the name ``live``, with token and ssh."""
    moodlectl.add_site("live", moodle)
    return moodlectl
