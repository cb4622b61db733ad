"""Files that tell whoever looks into them something else than the Moodle that restores them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mbz_stories as stories
import pytest

from moodlectl.errors import Refused
from moodlectl.mbz import inspect, printable, read_people, verify

SECONDS = 30.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each hostile file, alone in a folder, made once."""

    @cache
    def make(name: str) -> Path:
        path = tmp_path_factory.mktemp("hostile") / "hostile.mbz"
        stories.HOSTILE[name][0](path)
        return path

    return make


@pytest.mark.parametrize("name", stories.HOSTILE)
def test_a_file_that_tells_two_stories_is_refused_with_its_reason(name: str, made: Callable[[str], Path]) -> None:
    path, (_, code, command) = made(name), stories.HOSTILE[name]
    begun = time.process_time()
    report = verify(path)
    assert code in {problem.code for problem in report.problems}, report.problems
    assert all(problem.message == printable(problem.message) for problem in report.problems)
    assert not report.ok
    if command != "verify":
        with pytest.raises(Refused) as refused:
            inspect(path) if command == "inspect" else read_people(path)
        assert refused.value.code == code
        assert refused.value.message == printable(refused.value.message)
    assert time.process_time() - begun < SECONDS
    assert [file.name for file in path.parent.iterdir()] == ["hostile.mbz"]
