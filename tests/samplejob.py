"""A batch as its ledger would look after a long night: made up, seeded, with hostile names."""

from __future__ import annotations

import json
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from moodlectl import ledger_batch
from moodlectl.ledger_batch import Asked, Fresh

HOSTILE = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=alert(1)>",
    "Ὀδυσσεία 二〇二七 \u202egnp.exe",
    "A_very_long_short_name_without_any_blank_that_goes_on_and_on_" * 3,
    "=HYPERLINK(\"http://evil\")",
    "tab\tand\nnew line\x1b[31m",
)
STEPS = (("backup", "old"), ("fetch", "old"), ("restore", "new"), ("finish", "new"), ("verify", "new"))
BEGAN = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)


def make(path: Path, courses: int = 40, *, seed: int = 1) -> int:
    """Write the job; returns its number."""
    dice = random.Random(seed)
    names = [*HOSTILE, *(f"BIO{100 + n}" for n in range(courses - len(HOSTILE)))][:courses]
    fresh = [Fresh(name, "migrate", f"old: {name}", "Science / Biology", {}) for name in names]
    asked = Asked("migrate", "sample", "old → new", "", {"plan": "/plans/<b>2027</b>.csv", "jobs": 4})
    job = ledger_batch.begin(asked, fresh, path)
    database = sqlite3.connect(path)
    free = [BEGAN] * 4
    for seq, name in enumerate(names, 1):
        lane = min(range(4), key=lambda n: free[n])
        _item(database, job, seq, name, dice, free, lane)
    database.execute("UPDATE job SET ended=?, state='failed' WHERE id=?", (max(free).isoformat(), job))
    database.commit()
    database.close()
    return job


def _item(database: sqlite3.Connection, job: int, seq: int, name: str, dice: random.Random, free: list[datetime], lane: int) -> None:
    state = "failed" if seq % 13 == 5 else "unknown" if seq % 37 == 20 else "skipped" if seq % 11 == 3 else "done"
    size, started = int(dice.lognormvariate(17, 1.5)), free[lane]
    facts = {"bytes": size, "sha1": "0" * 40}
    message, last = None, {"failed": 2, "unknown": 2, "skipped": 0, "done": 4}[state]
    if state == "done":
        facts |= {"course": 100 + seq, "url": f"https://new.example.org/course/view.php?id={100 + seq}"}
        facts |= {"links_to_old_site": dice.randrange(30)} if seq % 4 == 0 else {}
        facts |= {"differences": ["the backup holds 3 quizzes, the course 2: <b>Quiz</b>"]} if seq % 9 == 0 else {}
    elif state == "failed":
        message = f"The site has other people under the same usernames: {name}, zoë."
        details = {"conflicts": ["zoë", "<b>ann</b>"], "precheck": ["Trying to restore user 'zoë'…"]}
        hint = "If they are the same people, say so: --map zoë=zoë, or --user-map FILE.csv for many."
        facts["error"] = {"code": "user_conflict", "hint": hint, "step": "restore", "details": details}
    elif state == "unknown":
        message = "The connection was lost, after the site had begun to change."
    else:
        message = "already there, unchanged since 2026-11-20"
    for number, (step, site) in enumerate(STEPS[: last + 1]):
        took = timedelta(seconds=dice.uniform(1, 4) + size / 4e6 * dice.uniform(0.2, 1.2))
        begun, free[lane] = free[lane], free[lane] + took
        ended = "done" if number < last or state == "done" else state
        database.execute(
            "INSERT INTO step VALUES (?,?,?,?,?,?,1,?,?,NULL)",
            (job, seq, number, step, site, ended, begun.isoformat(), free[lane].isoformat()),
        )
    database.execute(
        "UPDATE item SET state=?, attempts=1, started=?, ended=?, message=?, facts=?, steps=?, step=? WHERE job=? AND seq=?",
        (
            *(state, started.isoformat(), free[lane].isoformat(), message, json.dumps(facts)),
            *(last + (state == "done"), STEPS[last][0], job, seq),
        ),
    )
