"""The command line: words in, words out. Typer lives only in this package.

Options such as ``--site`` or ``-o`` may stand anywhere on the line, as users of ``gh`` and ``kubectl`` expect:
``hoist`` moves them to the front, where typer looks for them. Every error of ours becomes output in ``main``, the
one door; nothing else in the package catches one to print it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from moodlectl.cli import backup, category, copy, course, demo, job, plan, restore, site, store
from moodlectl.cli.helping import readable
from moodlectl.cli.state import Output, State

EPILOG = "The global options (--site, --config, -o, -q, -v, --no-color, -y) may stand anywhere on the line."

app = typer.Typer(
    name="moodlectl",
    help="Back up, find, download and restore Moodle courses, with every option Moodle has.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
demo.register(app)
app.add_typer(site.app, name="site", help="Sites: where they are and how to reach them.")
app.add_typer(course.app, name="course", help="Courses: find them, look into them.")
app.add_typer(category.app, name="category", help="Course categories.")
app.add_typer(backup.app, name="backup", help="Make, list, download, inspect, verify and delete backups.")
restore.register(app)
copy.register(app)
plan.register(app)
app.add_typer(store.app, name="store", help="Backups kept here, every content of their files once.")
app.add_typer(job.app, name="job", help="What was done from this machine, and what became of it.")


def _version(asked: bool) -> None:
    if asked:
        from moodlectl.version import __version__

        typer.echo(f"moodlectl {__version__}")
        raise typer.Exit


@app.callback()
def globals_(
    ctx: typer.Context,
    site_name: Annotated[str | None, typer.Option("--site", metavar="NAME", help="The site to use.")] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The configuration file.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print data.")] = Output.table,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what happens on the way.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR).")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to every question.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say at the end where the time went.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version
    environment_config = os.environ.get("MOODLECTL_CONFIG")
    ctx.obj = State(
        site_name=site_name or os.environ.get("MOODLECTL_SITE") or None,
        config=config or (Path(environment_config) if environment_config else None),
        output=output,
        quiet=quiet,
        verbose=verbose,
        color=not no_color and not os.environ.get("NO_COLOR"),
        yes=yes,
    )
    if profile:
        from moodlectl import spent

        spent.keep()
    if verbose:
        import logging

        logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(name)s: %(message)s")
        for noisy in ("urllib3", "keyring"):
            logging.getLogger(noisy).setLevel(logging.INFO)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; prints every error, with its remedy."""
    command = readable(typer.main.get_command(app))
    if "_MOODLECTL_COMPLETE" in os.environ:
        command.main(args=list(arguments), prog_name="moodlectl")
        return 0
    words = list(arguments)
    _end_children_when_told_to_end()
    try:
        words = hoist(command, arguments)
        with command.make_context("moodlectl", list(words)) as context:
            status = command.invoke(context)
            sys.stdout.flush()
            return status if isinstance(status, int) else 0
    except BaseException as error:  # noqa: BLE001 - the one door
        return _ended_by(error, json=_asked_for_json(words))
    finally:
        _tell_profile()
        _settle()


def _end_children_when_told_to_end() -> None:
    """Treat TERM and HUP as Ctrl-C: what was started on a host is told to stop before this process ends.

    A signal that is ignored already stays so: ``nohup`` means it.
    """
    import signal
    import threading

    def told(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, told)


def _tell_profile() -> None:
    """Where the time went, if ``--profile`` asked for it."""
    spent = sys.modules.get("moodlectl.spent")  # not loaded: nobody asked
    if spent is not None and spent.kept() is not None:
        from moodlectl.cli import profile

        profile.tell(spent.kept())


def _settle() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        from moodlectl.cli import failures

        failures.settle_output()


def _ended_by(error: BaseException, *, json: bool) -> int:
    """Say how it ended and return the exit status of the contract."""
    from moodlectl.cli import failures

    return failures.report(error, as_json=json)


def _asked_for_json(words: Sequence[str]) -> bool:
    """Whether ``-o json`` was asked for, also when the line was too wrong for typer to get that far."""
    for index, word in enumerate(words):
        if word in ("-ojson", "--output=json", "-o=json"):
            return True
        if word in ("-o", "--output") and words[index + 1 : index + 2] == ["json"]:
            return True
    return False


def hoist(command: Any, arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front, wherever they stand.

    ``command`` is the whole command tree; it tells which options take a value (so that a value is never mistaken
    for an option) and which words a command has claimed for itself (``backup rewrite --output FILE``).
    Raises UsageError for a global option without its value: in front it would swallow the next word.
    """
    from moodlectl.errors import UsageError

    globals_by_word = _options_by_word(command)
    front: list[str] = []
    rest: list[str] = []
    current = command
    own: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*front, *rest, word, *words]
        name = word.split("=", 1)[0] if word.startswith("--") else word[:2]
        if word.startswith("-") and len(word) > 1:
            option = own.get(name) or globals_by_word.get(name)
            place = rest if name in own or option is None or name in ("--help", "-h") else front
            place.append(word)
            takes_value = option is not None and not option.is_flag and "=" not in word
            joined = not word.startswith("--") and len(word) > 2
            if takes_value and not joined:
                forgotten = not words or words[0] in globals_by_word
                if forgotten and place is front:
                    raise UsageError(f"Option '{word}' requires an argument.", "See 'moodlectl --help'.")
                place += words[:1]
                del words[:1]
            continue
        rest.append(word)
        below = getattr(current, "commands", {}).get(word)
        if below is not None:
            current, own = below, _options_by_word(below)
    return [*front, *rest]


def _options_by_word(command: Any) -> dict[str, Any]:
    return {
        word: parameter
        for parameter in command.params
        if parameter.param_type_name == "option"
        for word in [*parameter.opts, *parameter.secondary_opts]
    }
