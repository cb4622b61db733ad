"""Which backups may go, and that taking them away never takes what another needs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodlectl.errors import Failed, UsageError
from moodlectl.store import Store, entries, open_store, pruning
from moodlectl.store.entries import Entry
from moodlectl.store.pool import name_of
from moodlectl.store.pruning import Keep, judge, parse_span
from tests.backups import DAY, make_backup, sha1
from tests.unit.store.keeping import add, kept, names, whole

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


def entry(when: datetime | None, number: int = 0, **more: object) -> Entry:
    values: dict[str, object] = {
        "id": f"{number:040x}", "filename": f"{number}.mbz", "added": NOW, "date": when, "course_id": 1,
        "shortname": "BIO", "fullname": "", "site_url": "https://a", "site_hash": "", "kind": "course", "release": "",
        "has_users": True, "size": 1, "lean_size": 1, "lean_sha1": "0" * 40, "contents": 0, "content_bytes": 0,
        "list_sha1": "0" * 40, "came": 0,
    }  # fmt: skip
    return Entry(**{**values, **more})  # type: ignore[arg-type]


def nights(count: int, **more: object) -> list[Entry]:
    return [entry(NOW - timedelta(days=n), n, **more) for n in range(count)]


def stay(found: Sequence[Entry], keep: Keep) -> list[str]:
    return [one.entry.filename for one in judge(found, keep, NOW) if one.reasons]


def test_without_options_a_year_and_at_least_two_of_each_course_stay() -> None:
    assert len(stay(nights(800), Keep())) == 366  # from 1 March 2026 to 1 March 2027, both at noon
    old = [entry(NOW - timedelta(days=2000 + 400 * n), n) for n in range(5)]
    assert stay(old, Keep()) == ["0.mbz", "1.mbz"]


def test_time_is_counted_from_the_newest_backup_of_the_course() -> None:
    """A course that is backed up no more must not lose its last year's backups by doing nothing."""
    old = [entry(NOW - timedelta(days=3000 + n), n) for n in range(10)]
    assert len(stay(old, Keep(1, parse_span("5d")))) == 6


def test_each_course_each_site_each_kind_is_judged_by_itself() -> None:
    found = [
        *nights(3),
        entry(NOW - timedelta(days=900), 11, course_id=2),
        entry(NOW - timedelta(days=900), 12, site_hash="other"),
        entry(NOW - timedelta(days=900), 13, kind="section"),
        entry(NOW - timedelta(days=900), 14, has_users=False),
        entry(NOW - timedelta(days=900), 15, carries=False),
    ]
    assert stay(found, Keep(1, parse_span("1h"))) == ["15.mbz", "14.mbz", "13.mbz", "12.mbz", "11.mbz", "0.mbz"][::-1]


def test_a_renamed_course_is_the_same_course() -> None:
    found = [entry(NOW, 1, shortname="BIO-27"), entry(NOW - timedelta(days=900), 2, shortname="BIO")]
    assert stay(found, Keep(1, parse_span("1y"))) == ["1.mbz"]


def test_a_backup_from_the_future_stays_and_makes_no_other_old() -> None:
    found = [entry(NOW + timedelta(days=4000), 1), entry(NOW - timedelta(days=1), 2), entry(NOW - timedelta(days=9), 3)]
    assert stay(found, Keep(1, parse_span("30d"))) == ["1.mbz", "2.mbz", "3.mbz"]
    assert stay(found, Keep(1, parse_span("2d"))) == ["1.mbz", "2.mbz"]


def test_a_backup_without_a_date_is_as_old_as_its_coming() -> None:
    assert stay([entry(None, 1), *nights(1)], Keep(1, parse_span("1h"))) == ["1.mbz", "0.mbz"]


@pytest.mark.parametrize(
    ("span", "moment", "before"),
    [
        ("1y", datetime(2028, 2, 29), datetime(2027, 2, 28)),
        ("1y", datetime(2027, 3, 1), datetime(2026, 3, 1)),
        ("1m", datetime(2027, 3, 31), datetime(2027, 2, 28)),
        ("1y6m", datetime(2027, 3, 15), datetime(2025, 9, 15)),
        ("2w", datetime(2027, 3, 15), datetime(2027, 3, 1)),
        ("1d12h", datetime(2027, 3, 15), datetime(2027, 3, 13, 12)),
        ("9999y", datetime(2027, 3, 15), datetime.min),
    ],
)
def test_lengths_of_time_are_the_calendars(span: str, moment: datetime, before: datetime) -> None:
    assert parse_span(span).before(moment) == before


@pytest.mark.parametrize("text", ["", "y", "1", "1x", "-1y", "1y 2m", "1d1y", "99999999999d", "١y"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_span(text)


def test_a_rule_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(UsageError):
        judge(nights(2), Keep(0, parse_span("0d")), NOW)
    assert len(stay(nights(20), Keep(0, parse_span("3d")))) == 4


@given(
    days=st.lists(st.integers(-3, 1500), max_size=30),
    last=st.integers(0, 4),
    span=st.sampled_from(["1h", "3d", "2m", "1y"]),
)
def test_every_course_keeps_its_newest_and_whatever_is_kept_keeps_all_that_is_newer(
    days: list[int], last: int, span: str
) -> None:
    found = [entry(NOW - timedelta(days=day), n) for n, day in enumerate(days)]
    judged = judge(found, Keep(last, parse_span(span)), NOW)
    assert {one.entry.id for one in judged} == {one.id for one in found}
    if found:
        verdicts = [bool(one.reasons) for one in judged]
        assert verdicts[0]
        assert verdicts == sorted(verdicts, reverse=True)
        assert sum(verdicts) >= min(last, len(found))


# --- taking away ------------------------------------------------------------------------------------------------------

SHARED, OLD, NEW = b"shared " * 1000, b"old " * 1000, b"new " * 1000


def two(store: Store, folder: Path) -> tuple[Entry, Entry]:
    first = add(store, make_backup(folder / "1.mbz", {"shared": SHARED, "old": OLD}))
    second = add(store, make_backup(folder / "2.mbz", {"shared": SHARED, "new": NEW}, date=DAY + timedelta(days=400)))
    return first.entry, second.entry


def test_what_goes_takes_only_what_no_other_needs(store: Store, tmp_path: Path) -> None:
    old, new = two(store, tmp_path)
    plan = pruning.would_free(store, [old], [new])
    assert (plan.backups, plan.contents, plan.bytes) == (1, 1, len(OLD) + old.lean_size)
    assert pruning.take_away(store, [old]) == plan
    assert kept(store) == {new.id}
    found = whole(store)
    assert (found.contents, found.unclaimed) == (2, 0)
    assert name_of(sha1(OLD)) not in names(store)
    assert not [one for one in names(store) if old.id in one or one.startswith(("locks", "incoming"))]


def test_what_came_since_it_was_asked_stays(folder: Store, tmp_path: Path) -> None:
    old, _ = two(folder, tmp_path)
    came = add(folder, make_backup(tmp_path / "3.mbz", {"old": OLD}, date=DAY - timedelta(days=1000))).entry
    pruning.take_away(folder, [old])
    assert came.id in kept(folder)
    assert name_of(sha1(OLD)) in names(folder)
    whole(folder)


def test_where_it_cannot_be_known_what_is_needed_nothing_goes(store: Store, tmp_path: Path) -> None:
    old, new = two(store, tmp_path)
    before = set(names(store))
    store.place.save(new.listed, b"nonsense\n")
    with pytest.raises(Failed):
        pruning.take_away(store, [old])
    store.place.save(new.listed, b"")
    with pytest.raises(Failed):
        pruning.take_away(store, [old])
    store.place.save(entries.name_of(new.id), b"{")
    with pytest.raises(Failed):
        pruning.take_away(store, [old])
    assert set(names(store)) == before


def test_what_may_belong_to_a_backup_that_is_coming_is_left_alone_for_a_day(
    folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = two(folder, tmp_path)
    (tmp_path / "coming").write_bytes(b"coming")
    folder.place.put([(tmp_path / "coming", name_of(sha1(b"coming")))])
    folder.place.save(f"backups/{'cd' * 20}/backup.mbz", b"coming")
    pruning.take_away(folder, [])
    assert {name_of(sha1(b"coming")), f"backups/{'cd' * 20}/backup.mbz"} <= set(names(folder))
    monkeypatch.setattr(pruning, "GRACE", timedelta(seconds=-1))
    freed = pruning.take_away(folder, [])
    assert (freed.contents, freed.bytes) == (1, len(b"coming"))
    assert not {name_of(sha1(b"coming")), f"backups/{'cd' * 20}/backup.mbz"} & set(names(folder))
    assert new.id in kept(folder)
    whole(folder)


POOL = [bytes([65 + number]) * (number + 1) for number in range(6)]


@settings(max_examples=25, deadline=None)
@given(
    backups=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 900), st.sets(st.integers(0, 5))), max_size=7),
    last=st.integers(1, 3),
    span=st.sampled_from(["1h", "100d", "1y"]),
)
def test_after_any_pruning_of_any_store_every_backup_that_stays_is_whole_and_nothing_is_left_over(
    backups: list[tuple[int, int, set[int]]], last: int, span: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(str(folder / "store"), create=True)
        for number, (course, day, files) in enumerate(backups):
            held = {f"{one}": POOL[one] for one in files}
            path = make_backup(folder / f"{number}.mbz", held, course=course, date=DAY - timedelta(days=day))
            add(store, path)
        judged = judge(store.entries(), Keep(last, parse_span(span)), DAY)
        staying = {one.entry.id for one in judged if one.reasons}
        pruning.take_away(store, [one.entry for one in judged if not one.reasons])
        assert kept(store) == staying
        found = whole(store)
        needed = {each.sha1 for one in store.entries() for each in entries.contents_of(store.place, one)}
        assert (found.contents, found.unclaimed) == (len(needed), 0)
