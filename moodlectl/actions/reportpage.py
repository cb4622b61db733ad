"""The report as one page in one file: no network, no stranger's text that is not escaped, fit for paper and phone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import IO

from moodlectl.actions.reporting import Account, Summary, account, durations
from moodlectl.actions.reportwords import address, duration, lines, size, text, when
from moodlectl.actions.timeline import timeline
from moodlectl.errors import Failed
from moodlectl.ledger_batch import Reader
from moodlectl.version import __version__

NAMED = 200
"""So many courses at most are named that failed for the same cause."""
STATES = ("done", "failed", "unknown", "skipped", "pending")
_TITLES = {"rollover": "Rollover", "migrate": "Migration"}
_COLUMNS = ("Course", "State", "New course", "Size", "Time taken", "Began", "Differences", "Note")


def write(reader: Reader, summary: Summary, path: Path) -> None:
    """Write the page. Writes that one file, at once; raises Failed where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            _page(reader, summary, file)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        why = error.strerror or str(error)
        told = f"The report cannot be written to {path}: {why}."
        raise Failed(told, "Name another file.", code="cannot_write") from error


def _page(reader: Reader, summary: Summary, file: IO[str]) -> None:
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = f"{_TITLES.get(summary.job.kind, summary.job.kind.capitalize())}, job {summary.job.id}"
    head = _resource("report.html").replace("{{title}}", text(title)).replace("{{script_hash}}", digest)
    file.write(head)
    for piece in _head(summary, title):
        file.write(piece)
    for piece in timeline(reader):
        file.write(piece)
    for section in (_troubles(summary), _differences(summary), _slowest(summary), _courses(reader, summary)):
        for piece in section:
            file.write(piece)
    now = datetime.now().astimezone()
    made = f"Made by moodlectl {text(__version__)} on {now:%Y-%m-%d %H:%M %Z}"
    file.write(f"<footer>{made}. Times are of this zone.</footer>\n")
    file.write(f"</main>\n<script>{script}</script>\n</body>\n</html>\n")


def _resource(name: str) -> str:
    return (resources.files("moodlectl.actions") / name).read_text(encoding="utf-8")


# --- sections -------------------------------------------------------------------------------------------------


def _head(summary: Summary, title: str) -> Iterator[str]:
    job, totals = summary.job, summary.totals
    count = sum(totals.values())
    yield f"<header>\n<h1>{text(title)}: {text(job.site)}</h1>\n"
    yield f'<p class="soft">{when(summary.began)} to {when(summary.ended)}, run by {text(job.who)}'
    plan = job.options.get("plan")
    yield f", from {text(Path(str(plan)).name)}</p>\n" if plan else "</p>\n"
    yield f'<p class="verdict">{_verdict(summary, count)}</p>\n</header>\n'
    yield '<div class="share" aria-hidden="true">'
    for state in STATES:
        if totals[state]:
            yield f'<i class="{state}" style="width:{100 * totals[state] / count:.3f}%"></i>'
    yield '</div>\n<section class="tiles">\n'
    for state in STATES:
        if totals[state] or state in ("done", "failed"):
            yield _tile(str(totals[state]), state, state if totals[state] else "")
    yield _tile(duration(summary.seconds), "from first to last")
    if summary.bytes:
        yield _tile(size(summary.bytes), "of backups")
    if summary.seconds >= 1 and totals["done"]:
        yield _tile(f"{3600 * totals['done'] / summary.seconds:,.0f}", "courses an hour")
    if summary.different:
        yield _tile(str(len(summary.different)), "courses with differences", "failed")
    if summary.links:
        yield _tile(f"{summary.links:,}", "links to the old site")
    yield "</section>\n"


def _tile(value: str, name: str, state: str = "") -> str:
    return f'<div class="tile"><b class="{state}">{text(value)}</b><span>{text(name)}</span></div>\n'


def _verdict(summary: Summary, count: int) -> str:
    totals = summary.totals
    if totals["done"] + totals["skipped"] == count:
        told = f"All {count} courses are done." if not totals["skipped"] else "Nothing is left to do."
    else:
        told = f"{totals['done']} of {count} courses are done."
    for state, words in (
        ("failed", "{} failed; below it says why, and what to do."),
        ("unknown", "Not known yet how it ended: {}."),
        ("skipped", "{} needed nothing done."),
        ("pending", "Still to be done: {}."),
    ):
        if totals[state]:
            told += " " + words.format(totals[state])
    if summary.job.message:
        told += f" The job rests: {summary.job.message.rstrip('.')}."
    return text(told)


def _troubles(summary: Summary) -> Iterator[str]:
    """What failed, a card for each cause: a hundred courses that met with the same are told of once."""
    if not summary.troubles:
        return
    causes: dict[tuple[str | None, ...], list[Account]] = {}
    for one in summary.troubles:
        causes.setdefault((one.item.state, one.step, one.item.message, one.hint, one.code), []).append(one)
    yield '<section id="failures">\n<h2>What failed, and what to do about it</h2>\n'
    for same in causes.values():
        yield from _trouble(same, summary.job.id)
    yield "</section>\n"


def _trouble(same: Sequence[Account], job: int) -> Iterator[str]:
    one, item = same[0], same[0].item
    extra = " unknown-card" if item.state == "unknown" else ""
    where = f" at <em>{text(one.step)}</em>" if one.step else ""
    who = f"<bdi>{text(item.course)}</bdi>" if len(same) == 1 else f"{len(same)} courses"
    yield f'<div class="card trouble{extra}"><h3>{who} '
    yield f'<span class="state {text(item.state)}">{text(item.state)}</span>{where}</h3>\n'
    yield f"<p>{lines(item.message or 'Nobody wrote down how it ended.')}</p>\n"
    hint = one.hint or (f"Find out: moodlectl job resume {job}" if item.state == "unknown" else "")
    if hint:
        yield f'<p class="hint"><strong>What to do:</strong> {lines(hint)}</p>\n'
    if len(same) == 1:
        yield f'<p class="soft small">{_asked(one)}</p>\n'
    else:
        named = ", ".join(f"<bdi>{text(each.item.course)}</bdi>" for each in same[:NAMED])
        more = f" and {len(same) - NAMED} more, in the table below" if len(same) > NAMED else ""
        yield f"<p>{named}{more}</p>\n"
    if one.details:
        whose = f" of {text(item.course)}" if len(same) > 1 else ""
        evidence = json.dumps(dict(one.details), ensure_ascii=False, indent=1, default=str)
        yield f"<details><summary>Evidence{whose}</summary><pre>{text(evidence[:20000])}</pre></details>\n"
    yield "</div>\n"


def _asked(one: Account) -> str:
    item = one.item
    parts = [f"from <bdi>{text(item.source)}</bdi>" if item.source else ""]
    parts.append(f"to <bdi>{text(item.target)}</bdi>" if item.target else "")
    parts.append(f"{item.attempts} attempts" if item.attempts > 1 else "")
    parts.append(f"code {text(one.code)}" if one.code else "")
    return ", ".join(part for part in parts if part)


def _differences(summary: Summary) -> Iterator[str]:
    if not summary.different:
        return
    yield '<section id="differences">\n<h2>Differences that were found</h2>\n<div class="card">\n'
    for one in summary.different:
        yield f"<p><strong><bdi>{_linked(one)}</bdi></strong></p>\n<ul>"
        for difference in one.differences[:100]:
            yield f"<li>{lines(difference)}</li>"
        if len(one.differences) > 100:
            yield f"<li>and {len(one.differences) - 100} more</li>"
        yield "</ul>\n"
    yield "</div>\n</section>\n"


def _slowest(summary: Summary) -> Iterator[str]:
    if len(summary.slowest) < 2:
        return
    longest = summary.slowest[0].seconds or 1.0
    yield '<section>\n<h2>The slowest courses</h2>\n<div class="card slow">\n'
    for one in summary.slowest:
        yield f'<div class="label"><bdi>{_linked(one)}</bdi></div>'
        yield f'<div class="bar" style="width:{100 * one.seconds / longest:.2f}%"></div>'
        yield f'<div class="time num">{duration(one.seconds)}</div>\n'
    yield "</div>\n</section>\n"


def _courses(reader: Reader, summary: Summary) -> Iterator[str]:
    yield '<section>\n<h2>Every course</h2>\n<div class="tools"><input id="search" type="search" '
    yield 'placeholder="Find a course, a word of a message…" aria-label="Find">\n'
    yield '<button type="button" data-state="" aria-pressed="true">all</button>\n'
    totals = reader.totals()
    for state in STATES:
        if totals[state]:
            yield f'<button type="button" data-state="{state}" aria-pressed="false">{state}</button>\n'
    yield '<span id="count" class="soft small"></span></div>\n'
    yield '<table id="courses"><thead><tr>'
    for name in _COLUMNS:
        number = ' class="num"' if name in ("Size", "Time taken") else ""
        yield f'<th scope="col"{number}><button type="button">{name}</button></th>'
    yield "</tr></thead>\n<tbody>\n"
    seconds = durations(reader)
    days = summary.began.astimezone().date() != summary.ended.astimezone().date()
    for item in reader.items():
        yield _row(account(item, seconds.get(item.seq)), days=days)
    yield "</tbody></table>\n</section>\n"


def _row(one: Account, *, days: bool) -> str:
    item = one.item
    state = item.state if item.state in STATES else "pending"
    said = " ".join(part for part in (item.message or "", *one.warnings) if part)
    if one.links:
        said = f"{said} {one.links} link{'s' if one.links > 1 else ''} to the old site.".strip()
    began = item.started.timestamp() if item.started else 0
    link = f'<a href="{text(one.url)}" rel="noreferrer">{text(address(one.url))}</a>' if one.url else ""
    cells = (
        _cell("Course", f"<bdi>{text(item.course)}</bdi>"),
        _cell("State", f'<span class="state {state}">{state}</span>'),
        _cell("New course", link),
        _cell("Size", size(one.size) if one.size else "", one.size, number=True),
        _cell("Time taken", duration(one.seconds) if item.started else "", one.seconds, number=True),
        _cell("Began", when(item.started, day=days) if item.started else "", began),
        _cell("Differences", str(len(one.differences)) if one.differences else "", len(one.differences)),
        _cell("Note", lines(said)),
    )
    return f'<tr data-state="{state}">{"".join(cells)}</tr>\n'


def _cell(name: str, content: str, key: float | None = None, *, number: bool = False) -> str:
    classes = " ".join(word for word in ("num" if number else "", "" if content else "empty") if word)
    attributes = f' class="{classes}"' if classes else ""
    attributes += f' data-key="{key:g}"' if key is not None else ""
    return f'<td data-name="{name}"{attributes}><span>{content}</span></td>'


def _linked(one: Account) -> str:
    name = text(one.item.course)
    return f'<a href="{text(one.url)}" rel="noreferrer">{name}</a>' if one.url else name
