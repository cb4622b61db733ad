"""``moodlectl site``: where sites are, how they are reached, and whether all is well there."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodlectl.cli import contents, output
from moodlectl.cli.state import Output, State
from moodlectl.cli.words import state_of

if TYPE_CHECKING:
    from moodlectl.actions.sites import Login
    from moodlectl.config import Config, SiteConfig
    from moodlectl.secret import Secret
    from moodlectl.site.port import Check

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
contents.register(app)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the site is called here.")]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="What the site is called here; else the one in use.")
]


class Engine(enum.StrEnum):
    """How PHP is used on the host."""

    runner = "runner"
    admin_cli = "admin-cli"


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The site's address, as in the browser.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input; the keyring keeps it.")
    ] = False,
    token_from: Annotated[
        str | None,
        typer.Option("--token-from", metavar="SOURCE", help="env:NAME, file:PATH, command:WORDS or keyring."),
    ] = None,
    login: Annotated[
        str | None,
        typer.Option("--login", metavar="USER", help="Get a token for this user; the password is asked."),
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="SHORTNAME", help="The web service the token is for.")
    ] = None,
    via: Annotated[
        list[str] | None,
        typer.Option(
            "--via",
            metavar="HOP",
            help="ssh:[USER@]HOST, docker:CONTAINER, kubectl:[NAMESPACE/]POD[:CONTAINER] or user:NAME; "
            "repeat it, outermost first.",
        ),
    ] = None,
    moodle_dir: Annotated[
        str | None, typer.Option("--moodle-dir", metavar="DIR", help="Moodle's directory on its host.")
    ] = None,
    php: Annotated[str | None, typer.Option("--php", metavar="PATH", help="PHP on the host.")] = None,
    acting: Annotated[
        str | None, typer.Option("--as", metavar="USERNAME", help="The user of the site to act as.")
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option("--ca-bundle", metavar="FILE", help="The certificate authorities to trust for this site."),
    ] = None,
    allow_http: Annotated[
        bool | None, typer.Option("--allow-http/--no-allow-http", help="Let the token travel unencrypted.")
    ] = None,
    ssh_config: Annotated[
        Path | None, typer.Option("--ssh-config", metavar="FILE", help="Another file than ~/.ssh/config.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option("--engine", help="admin-cli: only Moodle's own scripts may be run there.")
    ] = None,
    exchange_dir: Annotated[
        str | None,
        typer.Option("--exchange-dir", metavar="DIR", help="For admin-cli: a folder on the host for files."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="How long an answer may take.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change a site there is; what is not given stays.")
    ] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not try the token.")] = False,
) -> None:
    """Set a site up. Its token is tried, and kept in the keyring unless it comes from elsewhere."""
    from moodlectl import config_words as words
    from moodlectl.actions import sites

    state = state_of(ctx)
    _one_source(token_stdin, token_from, login)
    config = _load(state)
    given: dict[str, Any] = {
        "url": words.read_url(url) if url is not None else None,
        "token": _source(words.read_token_source(token_from)) if token_from is not None else None,
        "service": service,
        "via": tuple(words.read_hop(hop) for hop in via) if via else None,
        "moodle_dir": moodle_dir,
        "php": php,
        "acting": acting,
        "ca_bundle": _absolute(ca_bundle),
        "allow_http": allow_http,
        "ssh_config": _absolute(ssh_config),
        "engine": engine.value if engine else None,
        "exchange_dir": exchange_dir,
        "timeout": words.read_seconds(timeout, "--timeout") if timeout is not None else None,
    }
    site = sites.wanted(config, name, given, replace=replace)
    token = _token(token_stdin, login)
    added = sites.add(config, site, token=token, check=not no_check)
    _say_added(state, added)


def _one_source(token_stdin: bool, token_from: str | None, login: str | None) -> None:
    from moodlectl.errors import UsageError

    if sum((token_stdin, token_from is not None, login is not None)) > 1:
        raise UsageError(
            "--token-stdin, --token-from and --login exclude each other.",
            "Say once where the token comes from.",
        )


def _load(state: State) -> Config:
    """The settings about to be written: the file may not be there yet."""
    from moodlectl import config

    return config.load(state.config, may_be_absent=True)


def _source(text: str) -> str:
    """Where a token comes from; a file's path as it is found from everywhere."""
    word, _, rest = text.partition(":")
    return f"file:{_absolute(Path(rest))}" if word == "file" else text


def _absolute(path: Path | None) -> Path | None:
    return path.expanduser().absolute() if path is not None else None


def _token(token_stdin: bool, login: str | None) -> Secret | Login | None:
    from moodlectl import credentials
    from moodlectl.actions.sites import Login
    from moodlectl.errors import UsageError
    from moodlectl.secret import Secret

    if token_stdin:
        text = _hidden("Token: ")
        return credentials.checked(text, "standard input")
    if login is None:
        return None
    if not login.strip():
        raise UsageError("--login names nobody.", "Write --login USER.")
    password = _hidden(f"Password of {output.plain(login)}: ")
    if not password:
        raise UsageError(
            f"No password of {login} was given, so the site was not asked.",
            "Type it when it is asked for, or let standard input hold it.",
        )
    return Login(login, Secret(password))


def _hidden(prompt: str) -> str:
    """One line that is not shown: asked on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(prompt, stream=sys.stderr)
    return sys.stdin.readline().rstrip("\r\n")


def _say_added(state: State, added: Any) -> None:
    record = _record(added.site, is_default=added.is_default)
    if added.owner is not None:
        owner = added.owner
        record |= {"username": owner.username, "release": owner.release, "sitename": owner.site}
        output.remark(state, f"The token is {owner.fullname}'s ({owner.username}); Moodle {owner.release}.")
        if owner.url.rstrip("/").lower() != added.site.url.lower():
            output.warn(f"The site calls itself {owner.url}; use that address unless you know why not.")
    if state.output is Output.table:
        default = ", the default site" if added.is_default else ""
        name = added.site.name
        output.remark(state, f"Site '{name}' is set up{default}. Look it over: moodlectl site check {name}")
    else:
        output.emit_one(state, record)


def _record(site: SiteConfig, *, is_default: bool) -> dict[str, Any]:
    """A site as scripts read it; says where the token comes from, never the token."""
    return {
        "name": site.name,
        "default": is_default,
        "kind": site.kind,
        "url": site.url or None,
        "token": site.token,
        "service": site.service,
        "via": list(site.via),
        "moodle_dir": site.moodle_dir,
        "php": site.php,
        "as": site.acting,
        "ca_bundle": str(site.ca_bundle) if site.ca_bundle else None,
        "allow_http": site.allow_http,
        "ssh_config": str(site.ssh_config) if site.ssh_config else None,
        "engine": site.engine,
        "exchange_dir": site.exchange_dir,
        "timeout": site.timeout,
        "folder": str(site.folder) if site.folder else None,
    }


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """The sites that are set up."""
    state = state_of(ctx)
    config = state.load_config()
    rows = [_record(site, is_default=site.name == config.default) for site in config.sites.values()]
    if not rows and state.output is Output.table:
        output.remark(state, "No site is set up yet: moodlectl site add NAME --url URL (or: moodlectl demo)")
        return
    output.emit(state, rows, ["name", "default", "kind", "url", "via", "token"])


@app.command()
def show(
    ctx: typer.Context,
    name: MaybeName = None,
) -> None:
    """One site's settings, and where its token comes from."""
    state = state_of(ctx)
    config = state.load_config()
    site = config.site(name or state.site_name)
    record = _record(site, is_default=site.name == config.default)
    if state.output is Output.table:
        record = {key: value for key, value in record.items() if value not in (None, "", [])}
    output.emit_one(state, record)


@app.command()
def check(
    ctx: typer.Context,
    name: MaybeName = None,
) -> None:
    """Look at everything a backup or a restore will need, and say what is wrong and what to do."""
    from moodlectl.actions import sites

    state = state_of(ctx)
    site = state.site_config(name)
    lines = sites.check(site)
    if state.output is Output.table:
        _print_lines(state, lines)
    else:
        rows = [
            {"name": line.name, "verdict": line.verdict.value, "message": line.message, "hint": line.hint}
            for line in lines
        ]
        output.emit(state, rows, ["name", "verdict", "message", "hint"])
    problem = sites.verdict(site.name, lines)
    if problem is not None:
        raise problem


def _print_lines(state: State, lines: Sequence[Check]) -> None:
    """A line each, what to do about it below; nothing is cut off."""
    width = max((len(line.name) for line in lines), default=0)
    color = state.color and sys.stdout.isatty()
    for line in lines:
        word = line.verdict.value
        shown = typer.style(f"{word:<7}", fg=_COLORS[word], bold=word == "error") if color else f"{word:<7}"
        sys.stdout.write(f"{shown}  {output.plain(line.name):<{width}}  {output.plain(line.message)}\n")
        if line.hint and word != "ok":
            sys.stdout.write(f"{'':<{width + 11}}→ {output.plain(line.hint)}\n")


_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


@app.command()
def remove(ctx: typer.Context, name: Name) -> None:
    """Take a site out of the settings, and its token out of the keyring. The site itself is not touched."""
    from moodlectl.actions import sites

    state = state_of(ctx)
    config = state.load_config()
    site = config.site(name)
    output.confirm(state, f"Forget the site '{site.name}' and its token?", refusal=f"'{site.name}' stays")
    left = sites.remove(config, name)
    if left:
        output.warn(left)
    output.remark(state, f"Site '{site.name}' is forgotten.")


@app.command()
def default(ctx: typer.Context, name: Name) -> None:
    """Choose the site that is meant when nobody says --site."""
    from moodlectl.actions import sites

    state = state_of(ctx)
    config = state.load_config()
    sites.make_default(config.path, config, name)
    output.remark(state, f"'{name}' is now the default site.")
