"""What ran when, as lanes of a page: each step in the first lane of its name that is free; never more than fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from moodlectl.actions.reportwords import duration, text
from moodlectl.ledger_batch import Reader, Stage

LANES = 12
"""So many lanes at most for one kind of step; more at once are drawn over each other."""
COLUMNS = 1000
"""How finely time is divided: what touches within a column becomes one bar, so that 100,000 steps stay one page."""


@dataclass
class _Bar:
    first: float
    last: float
    count: int
    label: str
    bad: bool


def timeline(reader: Reader) -> Iterator[str]:
    """The section of the page; nothing for a job without steps."""
    span = _span(reader)
    if span is None:
        return
    began, ended = span
    lanes = _lanes(reader, began, max((ended - began).total_seconds(), 0.001))
    local = (began.astimezone(), (began + (ended - began) / 2).astimezone(), ended.astimezone())
    form = "%H:%M:%S" if (ended - began).total_seconds() < 600 else "%H:%M"
    form = form if local[0].date() == local[2].date() else f"%d %b {form}"
    yield '<section>\n<h2>What ran when</h2>\n<div class="card">\n<div class="lanes">\n'
    for number, (name, rows) in enumerate(lanes.items()):
        for row, bars in enumerate(rows):
            yield f'<div class="name">{text(name) if row == 0 else ""}</div><div class="lane">'
            for bar in bars:
                yield _drawn(bar, number % 6)
            yield "</div>\n"
    yield '<div></div><div class="axis">' + "".join(f"<span>{moment.strftime(form)}</span>" for moment in local)
    yield "</div>\n</div>\n</div>\n</section>\n"


def _drawn(bar: _Bar, colour: int) -> str:
    left, width = 100 * bar.first / COLUMNS, 100 * max(bar.last - bar.first, 0.5) / COLUMNS
    label = text(bar.label) if bar.count == 1 else f"{bar.count} courses"
    bad = " bad" if bar.bad else ""
    return f'<i class="c{colour}{bad}" style="left:{left:.2f}%;width:{width:.2f}%" title="{label}"></i>'


def _span(reader: Reader) -> tuple[datetime, datetime] | None:
    began = ended = None
    for stage in reader.stages():
        start, end = _times(stage)
        began = start if began is None or start < began else began
        ended = end if ended is None or end > ended else ended
    return (began, ended) if began is not None and ended is not None else None


def _times(stage: Stage) -> tuple[datetime, datetime]:
    start = datetime.fromisoformat(stage.started) if stage.started else datetime.now(UTC)
    return start, datetime.fromisoformat(stage.ended) if stage.ended else start


def _lanes(reader: Reader, began: datetime, seconds: float) -> dict[str, list[list[_Bar]]]:
    lanes: dict[str, list[list[_Bar]]] = {}
    courses = {item.seq: item.course for item in reader.items()}
    for stage in sorted(reader.stages(), key=lambda one: one.started or ""):
        start, end = _times(stage)
        first = COLUMNS * (start - began).total_seconds() / seconds
        last = COLUMNS * (end - began).total_seconds() / seconds
        rows = lanes.setdefault(stage.name, [])
        free = next((row for row in rows if row[-1].last <= first), None)
        if free is None and len(rows) < LANES:
            free = []
            rows.append(free)
        if free is None:
            free = min(rows, key=lambda row: row[-1].last)
        took = (end - start).total_seconds()
        label = f"{courses[stage.seq]}: {stage.name} at {start.astimezone():%H:%M:%S}, {duration(took)}"
        _add(free, _Bar(first, last, 1, label, stage.state in ("failed", "unknown")))
    return lanes


def _add(row: list[_Bar], bar: _Bar) -> None:
    """Put a bar into a row, as one with the last where nobody could see them apart."""
    last = row[-1] if row else None
    if last is not None and bar.first - last.last < 0.6 and bar.last - last.first < 3:
        last.last, last.count, last.bad = max(last.last, bar.last), last.count + 1, last.bad or bar.bad
    else:
        row.append(bar)
