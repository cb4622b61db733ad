"""One course of a batch as a job of its own, so that what replaced it can be undone as any other restore."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from moodlectl import ledger
from moodlectl.errors import NotFound, Refused, UsageError
from moodlectl.ledger import Item, Job


def undoable(word: str, *, write: bool, path: Path | None = None) -> Job:
    """The job whose safety backup ``--undo`` names: ``12``, or ``12/3`` for the third course of a batch.

    With ``write`` a course of a batch gets a job of its own, the same each time. Raises UsageError for a word that is
    no job, NotFound, Refused where the course's end is not known yet or several could be meant.
    """
    found = re.fullmatch(r"(\d+)(?:/(\d+))?", word.strip())
    if found is None:
        raise UsageError(f"'{word}' is no job.", "Write it as in 12, or 12/3 for the third course of a batch.")
    number = int(found[1])
    head = ledger.job_head(number, path)
    if not head.batch:
        if found[2] not in (None, "1"):
            raise NotFound(f"Job {number} has no item {found[2]}.", code="item_not_found")
        return ledger.job(number, path)
    item = _item(ledger.job(number, path), int(found[2]) if found[2] else None)
    return _lifted(head, item, write=write, path=path)


def _item(job: Job, seq: int | None) -> Item:
    saved = [one for one in job.items if one.facts.get("safety")]
    if seq is not None:
        wanted = [one for one in job.items if one.seq == seq]
        if not wanted:
            see = f"See: moodlectl job show {job.id}"
            raise NotFound(f"Job {job.id} has no item {seq}.", see, code="item_not_found")
        return wanted[0]
    if len(saved) == 1:
        return saved[0]
    if not saved:
        raise Refused(f"No course of job {job.id} has a safety backup to put back.", code="no_safety")
    names = ", ".join(f"{job.id}/{one.seq} {one.course}" for one in saved[:20])
    raise Refused(
        f"Job {job.id} has replaced {len(saved)} courses; say which one to put back.",
        f"One of: {names}",
        code="ambiguous",
    )


def _lifted(head: Job, item: Item, *, write: bool, path: Path | None) -> Job:
    facts = item.facts
    if not facts.get("safety") or not facts.get("safety_site"):
        raise Refused(f"{item.course} (job {head.id}/{item.seq}) has no safety backup to put back.", code="no_safety")
    if item.state not in ("done", "failed"):
        raise Refused(
            f"It is not known yet how job {head.id} ended for {item.course}.",
            f"Find out first: moodlectl job resume {head.id}",
            code="job_unknown_outcome",
        )
    if facts.get("undo_job"):
        return ledger.job(int(facts["undo_job"]), path)
    site, url = str(facts["safety_site"]), str(facts["safety_url"])
    one = replace(item, seq=1)
    if not write:
        alone = replace(head, site=site, url=url, state=item.state, items=(one,))
        return replace(alone, ended=item.ended, key=None, running=False)
    book = ledger.Ledger(path)
    try:
        number = book.lift(head.id, item, site, url)
        return book.job(number)
    finally:
        book.close()
