"""Which sites the contract suite runs on.

Always on a fresh practice site. On live ones as well when Moodles are given:

``--live``              starts every Moodle that tests/live/rig.py finds (MOODLE_DIRS, else below ``~/moodle``)
``MOODLE_DIRS``         does the same without the option
``MOODLECTL_LIVE_SITES``  reuses sites started by ``tests/live/up.py --json FILE``: the file, or several with colons
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.worlds import World, live_world, practice_world, rig

RUNNING = [Path(word) for word in os.environ.get("MOODLECTL_LIVE_SITES", "").split(":") if word]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--live``."""
    parser.addoption("--live", action="store_true", help="run the contract suite on real Moodles too")


def _wanted(config: pytest.Config) -> list[tuple[Path, str]]:
    if RUNNING or not (config.getoption("--live", default=False) or os.environ.get("MOODLE_DIRS")):
        return []
    module = rig()
    return [(source, db) for source in module.source_dirs() for db in module.databases()]


def _names(config: pytest.Config) -> list[str]:
    if RUNNING:
        return [site["name"] for file in RUNNING for site in json.loads(file.read_text())]
    wanted = _wanted(config)
    return rig().site_names(wanted) if wanted else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every contract test on the practice site and on each live one."""
    if "world" in metafunc.fixturenames:
        marks = [pytest.param(name, marks=pytest.mark.live) for name in _names(metafunc.config)]
        metafunc.parametrize("world", ["practice", *marks], indirect=True)


@pytest.fixture(scope="session")
def live_moodles(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The live sites by name, started once or found running."""
    if RUNNING:
        yield {site.name: site for site in rig().attach_sites(RUNNING)}
        return
    wanted = _wanted(request.config)
    sites = rig().start_sites(wanted, size="XS")
    yield dict(zip(_names(request.config), sites, strict=True))
    sites[0].machine.stop()


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """One site with known content."""
    if request.param == "practice":
        with practice_world(tmp_path) as made:
            yield made
        return
    moodles = request.getfixturevalue("live_moodles")
    with live_world(moodles[request.param], tmp_path) as made:
        yield made
