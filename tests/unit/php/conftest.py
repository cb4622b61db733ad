"""Runners on a real PHP with a stand-in for Moodle: each test writes the config.php it needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

HERE = Path(__file__).parent
BIN = HERE.parent.parent / "bin"

MakeRunner = Callable[..., Runner]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without = pytest.mark.skip(reason="no php on this machine")
    for item in items:
        if HERE in item.path.parents and item.path.name != "conftest.py":
            item.add_marker(pytest.mark.php)
            if shutil.which("php") is None:
                item.add_marker(without)


@pytest.fixture
def runner_for(tmp_path: Path) -> Iterator[MakeRunner]:
    """Makes runners; their config.php has ``before`` and ``after`` around the stand-in's start-up."""
    made: list[Runner] = []

    def make(after: str = "", *, before: str = "", hops: tuple[str, ...] = (), **options: object) -> Runner:
        config = f"<?php\n{before}\nrequire_once('{HERE}/standin.php');\n{after}\n"
        (tmp_path / "config.php").write_text(config)
        runner = Runner(Shell(hops), str(tmp_path), **options)  # type: ignore[arg-type]
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def standins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The stand-in ssh, docker, kubectl and sudo are found first; the file that gets their words."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    log = tmp_path / "standins.log"
    log.touch()
    monkeypatch.setenv("STANDIN_LOG", str(log))
    return log
