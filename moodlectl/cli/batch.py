"""Running a batch from the command line: who may stop it, who sees it move, and the exit status it ends with."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import listening, output
from moodlectl.cli.board import in_words
from moodlectl.cli.state import Output, State
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown, SomeFailed, Unreachable, UsageError

if TYPE_CHECKING:
    from moodlectl.actions import engine
    from moodlectl.actions.steps import Planned, Recipe
    from moodlectl.site.port import Site

Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, max=64, help="How many courses at once; as many more may wait half-way."
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Begin nothing more when one course has failed.")]
Events = Annotated[bool, typer.Option("--events", help="With -o json: one event a line, as it happens.")]

LISTED = 100
"""So many courses at most in the table at the end; of more, those with a trouble."""


@dataclass(frozen=True)
class Run:
    """How a batch is to run, from the options ``--jobs``, ``--fail-fast`` and ``--events``.

    ``sites`` are open already, from planning: the batch goes on with them, and closes them at its end.
    """

    jobs: int = 4
    fail_fast: bool = False
    events: bool = False
    sites: Mapping[str, Site] = field(default_factory=dict)

    def opener(self, state: State) -> Callable[[str], Site]:
        """What opens a site for the batch."""
        there = dict(self.sites)
        return lambda name: there.pop(name, None) or state.open_site(name)


def drive(
    state: State, recipe: Recipe, planned: Iterable[Planned], options: Mapping[str, Any], *, key: str, run: Run
) -> None:
    """Write a batch down and run it, or go on with the unfinished one of the very same plan; print how it ended.

    Raises as ``goes_on`` does, and SomeFailed, OutcomeUnknown, Unreachable, KeyboardInterrupt as it ended.
    """
    from moodlectl.actions import engine

    check(state, run)
    if not goes_on(state, recipe, options, key=key, run=run):
        go(state, engine.begin(recipe, planned, options, key=key), recipe, run)


def goes_on(state: State, recipe: Recipe, options: Mapping[str, Any], *, key: str, run: Run) -> bool:
    """Whether there was an unfinished batch of the very same plan, which then was gone on with to its end.

    ``options["plan_sha1"]`` tells whether the plan is the same. Raises Refused where it is at work (who), or was left
    unfinished and the plan has changed since; else as it ended.
    """
    from moodlectl import ledger_batch

    left = ledger_batch.unfinished(key)
    if left is None:
        return False
    if left.running:
        raise ledger_batch.at_work(left)
    if left.options.get("plan_sha1") != options.get("plan_sha1"):
        raise ledger_batch.plan_changed(left)
    output.remark(state, f"job {left.id} of this plan was not finished; going on with it")
    ledger_batch.adopt(left.id)
    go(state, left.id, recipe, run)
    return True


def check(state: State, run: Run) -> None:
    """Refuse options that cannot go together. Raises UsageError."""
    if run.events and state.output is not Output.json:
        raise UsageError("--events only means something with -o json.", "Add -o json.")


def go(state: State, job: int, recipe: Recipe, run: Run) -> None:
    """Run a batch that this process has begun or taken up, to its end; print how it ended, and raise accordingly."""
    from moodlectl import ledger_batch
    from moodlectl.actions import engine

    given_up = ledger_batch.given_up(job)

    limits = {name: site.limits for name, site in state.load_config().sites.items()}
    terms = engine.Terms(run.jobs, limits, run.fail_fast)
    stop = engine.Stop()
    with _way_on_told(job):
        with listening.listener(state, recipe.kind, events=run.events) as hear, _signals_stop(stop):
            around = engine.Around(run.opener(state), hear, stop)
            ended = engine.run(job, recipe, terms, around)
        with suppress(BrokenPipeError):  # the exit status tells the truth even if nobody reads the table
            if not run.events:
                show_end(state, job)
        raise_as_ended(ended, given_up=given_up)


@contextmanager
def _way_on_told(job: int) -> Iterator[None]:
    """An interruption that comes before or after the engine heeds it, too, tells how far the job is and the way on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not getattr(stop, "__notes__", ()):
            with suppress(MoodlectlError):
                stop.add_note(_how_far(job))
        raise


def _how_far(job: int) -> str:
    from moodlectl import ledger_batch

    with closing(ledger_batch.Reader(job)) as reader:
        told = f"Job {job} is {reader.job.state}: {in_words(reader.totals())}"
        return told if reader.job.state in ledger_batch.FINISHED else f"{told}. Go on with it: {_resume(job)}"


def _resume(job: int) -> str:
    return f"moodlectl job resume {job}"


def show_ended(state: State, job: int, run: Run) -> None:
    """A batch of which nothing is left to do, as ``go`` would have left it. Raises as it ended."""
    from moodlectl.actions import engine
    from moodlectl.actions.events import Event
    from moodlectl.ledger_batch import Reader

    with closing(Reader(job)) as reader:
        ended = engine.Ended(job, reader.job.state, reader.totals())
    output.remark(state, f"nothing is left to do of job {job}")
    if run.events:
        listening.stream(Event("job", ended.state, job, totals=ended.totals))
    else:
        show_end(state, job)
    raise_as_ended(ended, given_up=True)


@contextmanager
def _signals_stop(stop: engine.Stop) -> Iterator[None]:
    """Ctrl-C, TERM and HUP ask the engine to stop while the block lasts, instead of breaking in anywhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, _frame: object) -> None:
        stop.ask("" if number == signal.SIGINT else signal.Signals(number).name)

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, told) for number in heeded}  # nohup has one ignored, and means it
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_end(state: State, job: int) -> None:
    """The table at the end: every course, or of very many those with a trouble; with ``-o json`` the whole job."""
    from moodlectl.cli import job_words
    from moodlectl.ledger_batch import Reader

    with closing(Reader(job)) as reader:
        if state.output is not Output.table:
            job_words.print_record(state, reader)
            return
        totals = reader.totals()
        few = sum(totals.values()) <= LISTED
        if job_words.print_table(state, reader, [None] if few else ["failed", "unknown"]):
            sys.stdout.write("\n")
        sys.stdout.write(f"job {job}: {reader.job.state}. {in_words(totals)}\n")


def raise_as_ended(ended: engine.Ended, *, given_up: bool) -> None:
    """Nothing where all is done; else the error with the exit status of the contract. ``given_up`` is whether the job
    was cancelled before: then what was asked of this run is the rest alone."""
    totals, go_on = dict(ended.totals), f"Go on with it: {_resume(ended.job)}"
    if ended.interrupted is not None:
        stop = KeyboardInterrupt(ended.interrupted)
        stop.add_note(f"{in_words(totals)}. {go_on}")
        raise stop
    if ended.state == "done":
        return
    details = {"job": ended.job, "totals": totals}
    see = f"See: moodlectl job show {ended.job} --state failed   Try them again: {_resume(ended.job)} --retry-failed"
    if totals["unknown"]:
        message = f"Of {totals['unknown']} courses it is not known what became of them."
        raise OutcomeUnknown(message, go_on, details=details)
    if ended.state == "cancelled" and not given_up:
        raise Failed(f"Job {ended.job} was cancelled: {in_words(totals)}.", code="cancelled", details=details)
    if totals["failed"]:
        rests = f" The job rests: {ended.reason.rstrip('.')}." if ended.state == "paused" else ""
        hint = go_on if ended.state == "paused" else see
        raise SomeFailed(f"{_of(totals['failed'], totals)} failed.{rests}", hint, details=details)
    if ended.state == "cancelled":
        return
    raise _rests(ended, go_on, details)


def _of(count: int, totals: Mapping[str, int]) -> str:
    total = sum(totals.values())
    return f"{count} of {total} courses" if total != 1 else "The only course"


def _rests(ended: engine.Ended, go_on: str, details: Mapping[str, Any]) -> MoodlectlError:
    message = f"Job {ended.job} rests: {ended.reason.rstrip('.') or 'its process ended'}."
    return Unreachable(f"{message} Nothing was burnt: {in_words(ended.totals)}.", go_on, code="paused", details=details)
