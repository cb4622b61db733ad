"""The report page: complete, and nothing in it that a stranger's text could turn into something else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moodlectl.actions import reporting, reportpage
from moodlectl.actions.reportwords import duration, size, text
from moodlectl.errors import Failed
from moodlectl.ledger_batch import Reader
from tests import browser, samplejob


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        told = dict(attributes)
        if tag == "tr" and told.get("data-state"):
            self.rows.append(told["data-state"] or "")
        if tag == "a":
            self.links.append(told["href"] or "")
        self.handlers += [name for name in told if name.startswith("on")]
        if tag not in ("meta", "img", "input", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, reporting.Summary]]:
    folder = tmp_path_factory.mktemp("report")
    job = samplejob.make(folder / "ledger.sqlite")
    reader = Reader(job, folder / "ledger.sqlite")
    summary = reporting.summary(reader)
    reportpage.write(reader, summary, folder / "report.html")
    reader.close()
    yield folder / "report.html", summary


def test_the_summary_accounts_for_every_course(made: tuple[Path, reporting.Summary]) -> None:
    summary = made[1]
    assert sum(summary.totals.values()) == 40
    assert summary.totals == {"done": 32, "failed": 3, "skipped": 4, "unknown": 1, "pending": 0}
    assert [one.item.state for one in summary.troubles].count("failed") == 3
    assert [one.seconds for one in summary.slowest] == sorted((one.seconds for one in summary.slowest), reverse=True)
    assert (len(summary.slowest), len(summary.different), summary.links) == (10, 2, 89)


def test_the_page_holds_every_course_and_a_link_to_each_new_one(made: tuple[Path, reporting.Summary]) -> None:
    page = Page(made[0].read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.rows) == 40
    assert {f"https://new.example.org/course/view.php?id={100 + seq}" for seq in (1, 2, 4)} <= set(page.links)
    assert "If they are the same people, say so: --map zoë=zoë" in page.text
    assert "the backup holds 3 quizzes, the course 2: <b>Quiz</b>" in page.text


def test_what_strangers_wrote_stays_text(made: tuple[Path, reporting.Summary]) -> None:
    source = made[0].read_text(encoding="utf-8")
    page = Page(source)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags and "b" not in set(page.tags) - {"b"}
    assert page.handlers == []
    assert all(name in page.text for name in samplejob.HOSTILE[:2])
    assert "\u202e" not in source and "\x1b" not in source
    assert "default-src 'none'" in source


def test_courses_that_failed_for_the_same_cause_are_told_of_once(tmp_path: Path) -> None:
    job = samplejob.make(tmp_path / "ledger.sqlite", 300)
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    database.execute("UPDATE item SET message='The same for all.' WHERE state='failed'")
    database.commit()
    database.close()
    reader = Reader(job, tmp_path / "ledger.sqlite")
    summary = reporting.summary(reader)
    reportpage.write(reader, summary, tmp_path / "report.html")
    reader.close()
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    failed = [one.item.course for one in summary.troubles if one.item.state == "failed"]
    assert f"<h3>{len(failed)} courses" in source
    section = source.partition('id="failures"')[2].partition("</section>")[0]
    assert section.count("The same for all.") == 1
    assert all(f"<bdi>{text(name)}</bdi>" in section for name in failed)


def test_a_new_address_that_is_no_web_address_is_no_link(tmp_path: Path) -> None:
    from moodlectl.ledger import Item

    assert reporting.account(Item(1, "X", "x", "done", facts={"url": "javascript:alert(1)"})).url == ""


def test_the_page_is_written_at_once_or_not_at_all(tmp_path: Path) -> None:
    job = samplejob.make(tmp_path / "ledger.sqlite", 3)
    reader = Reader(job, tmp_path / "ledger.sqlite")
    with pytest.raises(Failed, match="cannot be written"):
        reportpage.write(reader, reporting.summary(reader), tmp_path / "nowhere" / "report.html")
    reader.close()


@pytest.mark.parametrize(("value", "told"), [(0.2, "under 1 s"), (4, "4 s"), (187, "3 min 07 s"), (1440, "24 min"), (7380, "2 h 03 min")])
def test_durations_are_told_in_words(value: float, told: str) -> None:
    assert duration(value) == told


def test_sizes_and_texts_are_told_for_people() -> None:
    assert (size(999), size(1_000_000), size(2.5e12)) == ("999 B", "1.0 MB", "2.5 TB")
    assert text("a\x00<b>\u202e") == "a\\x00&lt;b&gt;\\x202e"


@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium is installed")
def test_in_a_browser_it_fits_sorts_filters_and_asks_nobody(made: tuple[Path, reporting.Summary]) -> None:
    page = browser.Browser()
    try:
        for width in (390, 1280):
            for dark in (False, True):
                page.open(made[0], width, dark=dark)
                assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        first = "document.querySelector('#courses tbody tr:not(.none) td').textContent"
        shown = "document.querySelectorAll('#courses tbody tr:not(.none)').length"
        head = "document.querySelectorAll('#courses thead button')"
        sizes = "[...document.querySelectorAll('#courses td[data-name=Size]')].map(c => Number(c.dataset.key))"
        page.run(f"{head}[3].click()")
        up = page.run(sizes)
        page.run(f"{head}[3].click()")
        assert up == sorted(up) and page.run(sizes) == sorted(up, reverse=True)
        page.run(f"{head}[0].click()")
        assert page.run(first) == '"><img src=x onerror=alert(1)>'
        page.run("document.querySelector('button[data-state=failed]').click()")
        assert page.run(shown) == 3
        page.run("document.querySelector('button[data-state=\"\"]').click()")
        page.run("let s = document.getElementById('search'); s.value = 'bio10'; s.dispatchEvent(new Event('input'))")
        assert page.run(shown) == 10
        assert page.run("document.getElementById('count').textContent") == "10 of 40 courses"
        assert page.run("document.title") == "Migration, job 1"
        page.open(made[0], 700, dark=True)
        page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert page.run("getComputedStyle(document.getElementById('courses')).display") == "table"
        assert page.run("getComputedStyle(document.querySelector('.tile .done')).color") == "rgb(27, 127, 75)"
        assert page.console == []
        assert {url.partition(":")[0] for url in page.requests} == {"file"}
    finally:
        page.close()
