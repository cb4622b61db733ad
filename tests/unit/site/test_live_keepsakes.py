"""What people did in a course since, as the host answers."""

from __future__ import annotations

from datetime import UTC, datetime

from moodlectl.site.live.keepsakes import read_work
from moodlectl.site.port import Work


def test_work_is_told_with_its_people_and_the_last_moment() -> None:
    reply = {"known": True, "changes": 3, "people": ["amy", "ben"], "last": 1_700_000_000}
    assert read_work(reply) == Work(True, 3, ("amy", "ben"), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))


def test_a_site_without_a_log_does_not_know() -> None:
    reply = {"known": False, "changes": 0, "people": [], "last": None}
    assert read_work(reply) == Work(known=False)
