"""The file pool of a live site, as its host is asked about it."""

from __future__ import annotations

from typing import Any

import pytest

from moodlectl.errors import AccessError
from moodlectl.site.live.contents import LivePool
from moodlectl.site.port import Content


class Host:
    """A runner that has every content but those in ``gone``; ``asked`` is how many it was asked about, each time."""

    def __init__(self, *gone: str, may: bool = True) -> None:
        self.gone, self.may = gone, may
        self.asked: list[int] = []

    def ask(self, name: str, params: Any, *, acting: str | None) -> Any:
        assert (name, acting) == ("contents_lacking", "teacher1")
        if not self.may:
            raise AccessError("moodle/site:config is missing.")
        self.asked.append(len(params["contents"]))
        return [sha1 for sha1, _ in params["contents"] if sha1 in self.gone]


def test_whether_a_pool_may_be_asked_is_known_from_asking_about_nothing() -> None:
    with pytest.raises(AccessError, match="moodle/site:config"):
        LivePool(Host(may=False), "teacher1").lacking(())  # type: ignore[arg-type]
    host = Host()
    assert LivePool(host, "teacher1").lacking(()) == []  # type: ignore[arg-type]
    assert host.asked == [0]


def test_very_many_contents_are_asked_about_in_parts() -> None:
    contents = [Content(f"{number:040x}", number) for number in range(12_000)]
    host = Host(contents[7].sha1, contents[11_999].sha1)
    assert LivePool(host, "teacher1").lacking(contents) == [contents[7], contents[11_999]]  # type: ignore[arg-type]
    assert (len(host.asked), sum(host.asked)) == (3, 12_000)
