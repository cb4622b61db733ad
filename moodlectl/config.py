"""The settings file: which sites there are, how each is reached, and where its token comes from.

One road leads from text to object: ``load`` reads TOML, ``_Reader`` takes every key once, and what is left
over is an error with the path to the key. Nothing secret is ever in the file. Changes go through
``save_site`` and its neighbours, which keep a person's comments.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from moodlectl import config_words as words
from moodlectl.errors import ConfigError, NotFound
from moodlectl.findings import GuardMode
from moodlectl.limits import Limits

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Engine = Literal["runner", "admin-cli"]
Kind = Literal["live", "practice"]

ENVIRONMENT = "MOODLECTL_CONFIG"
_ABSENT = object()
T = TypeVar("T")


@dataclass(frozen=True)
class SiteConfig:
    """One site as the settings file describes it.

    ``via`` are the hops, outermost first; ``token`` says where the token comes from, never the token itself;
    ``acting`` is the username of the key ``as``; ``timeout`` is seconds without an answer. ``moodle_dir``,
    ``php`` and ``exchange_dir`` are paths on the site's host, the other paths are on this machine. With
    ``plain_database`` deeds leave the settings of their database session, the questions they ask it, the steps of
    Moodle's plans and the place for temporary files as the site has them; without ``code_cache`` no compiled code of
    Moodle is kept in its local cache.
    ``limits`` are for batches; ``guards`` says of each guard on a course that is restored into whether it stops, warns
    or is ignored.
    """

    name: str
    url: str = ""
    kind: Kind = "live"
    token: str | None = None
    service: str | None = None
    via: tuple[str, ...] = ()
    moodle_dir: str | None = None
    php: str = "php"
    acting: str | None = None
    ca_bundle: Path | None = None
    allow_http: bool = False
    ssh_config: Path | None = None
    engine: Engine = "runner"
    plain_database: bool = False
    code_cache: bool = True
    exchange_dir: str | None = None
    timeout: float = 60.0
    folder: Path | None = None
    limits: Limits = Limits()
    guards: Mapping[str, GuardMode] = field(default_factory=dict)

    @property
    def has_shell(self) -> bool:
        """Whether the host's shell can be reached: somebody said where Moodle lies there."""
        return self.kind == "live" and self.moodle_dir is not None

    def as_dict(self) -> dict[str, Any]:
        """The site as the settings file writes it: only the keys that say something, in their usual order."""
        plain: dict[str, Any] = {
            "kind": self.kind if self.kind != "live" else None,
            "url": self.url or None,
            "token": self.token,
            "service": self.service,
            "via": list(self.via) or None,
            "moodle_dir": self.moodle_dir,
            "php": self.php if self.php != "php" else None,
            "as": self.acting,
            "ca_bundle": str(self.ca_bundle) if self.ca_bundle else None,
            "allow_http": self.allow_http or None,
            "ssh_config": str(self.ssh_config) if self.ssh_config else None,
            "engine": self.engine if self.engine != "runner" else None,
            "plain_database": self.plain_database or None,
            "code_cache": None if self.code_cache else False,
            "exchange_dir": self.exchange_dir,
            "timeout": self.timeout if self.timeout != SiteConfig.timeout else None,
            "folder": str(self.folder) if self.folder else None,
            "limits": self.limits.as_dict() or None,
            "guards": dict(self.guards) or None,
        }
        return {key: value for key, value in plain.items() if value is not None}


@dataclass(frozen=True)
class Config:
    """All settings: the sites by name, which one is meant when nobody says, and the file they stand in.

    ``store`` is where backups are kept locally: a folder's path, or an address such as ``s3://bucket/prefix``.
    """

    default: str | None = None
    sites: Mapping[str, SiteConfig] = field(default_factory=dict)
    path: Path = Path()
    store: str | None = None

    def site(self, name: str | None = None) -> SiteConfig:
        """The site of that name, or the default one. Raises NotFound, or ConfigError where none is set up."""
        wanted = name or self.default
        if wanted is None:
            raise ConfigError(
                "No site is chosen." if self.sites else "No site is set up yet.",
                "Name one with --site, or make one the default: moodlectl site default NAME"
                if self.sites
                else "Set one up: moodlectl site add NAME --url URL (or try: moodlectl demo)",
                code="nosite",
            )
        if wanted not in self.sites:
            known = ", ".join(self.sites) or "none yet"
            raise NotFound(
                f"There is no site named '{wanted}'.",
                f"{words.suggest(wanted, list(self.sites))}Sites in {self.path}: {known}.".strip(),
                code="sitenotfound",
            )
        return self.sites[wanted]


# --- where it is --------------------------------------------------------------------------------------------


def default_path() -> Path:
    """The settings file: what MOODLECTL_CONFIG names, else the one in the platform's config folder."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("moodlectl", appauthor=False) / "config.toml"


# --- reading ------------------------------------------------------------------------------------------------


def load(path: Path | None = None, *, may_be_absent: bool = False) -> Config:
    """Read the settings; a default file that is absent is an empty one, a named one is an error. Reads only.

    ``may_be_absent`` is for whoever is about to write it. Raises ConfigError, with the path to the key.
    """
    named = path is not None or bool(os.environ.get(ENVIRONMENT))
    place = path.expanduser() if path is not None else default_path()
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named and not may_be_absent:
            raise ConfigError(
                f"There is no settings file {place}.",
                "Check --config and MOODLECTL_CONFIG, or write it: moodlectl site add NAME --url URL",
            ) from None
        return Config(path=place)
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"The settings file {place} cannot be read: {problem}") from problem
    return parse(text, place)


def parse(text: str, path: Path) -> Config:
    """Settings from TOML text; relative paths in it start at the file's folder. Raises ConfigError."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path} is not TOML: {problem}.", "Mend that line.") from problem
    top = _Reader(data, "", path)
    default = top.take("default", words.read_text)
    tables = top.take("sites", words.read_table) or {}
    store = top.take("store", top.place)
    top.done()
    sites = {name: _site(name, table, path) for name, table in tables.items()}
    if default is not None and default not in sites:
        known = ", ".join(sites) or "none"
        raise ConfigError(
            f"At 'default': there is no site named '{default}'.",
            f"{words.suggest(default, list(sites))}Sites in {path}: {known}.",
        )
    return Config(default, sites, path, store)


_KIND: Callable[[Any, str], Kind] = words.one_of("live", "practice")
_ENGINE: Callable[[Any, str], Engine] = words.one_of("runner", "admin-cli")


def _address(value: Any, where: str) -> str:
    return words.read_url(words.read_text(value, where), at=where)


def _site(name: str, table: Any, path: Path) -> SiteConfig:
    where = f"sites.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'sites."{name}"'
    words.check_name(name, at=where)
    reader = _Reader(words.read_table(table, where), where, path)
    site = SiteConfig(
        name=name,
        url=reader.take("url", _address) or "",
        kind=reader.take("kind", _KIND) or "live",
        token=reader.take("token", reader.token),
        service=reader.take("service", words.read_text),
        via=tuple(reader.take("via", words.read_hops) or ()),
        moodle_dir=reader.take("moodle_dir", words.read_text),
        php=reader.take("php", words.read_text) or "php",
        acting=reader.take("as", words.read_text),
        ca_bundle=reader.take("ca_bundle", reader.path),
        allow_http=bool(reader.take("allow_http", words.read_flag)),
        ssh_config=reader.take("ssh_config", reader.path),
        engine=reader.take("engine", _ENGINE) or "runner",
        plain_database=bool(reader.take("plain_database", words.read_flag)),
        code_cache=reader.take("code_cache", words.read_flag) is not False,
        exchange_dir=reader.take("exchange_dir", words.read_text),
        timeout=reader.take("timeout", words.read_seconds) or SiteConfig.timeout,
        folder=reader.take("folder", reader.path),
        limits=reader.take("limits", reader.limits) or Limits(),
        guards=reader.take("guards", words.read_guards) or {},
    )
    reader.done()
    return whole(site, path, where)


def whole(site: SiteConfig, path: Path, where: str | None = None) -> SiteConfig:
    """The site, when its settings fit together. Raises ConfigError."""
    where = where or f"sites.{site.name}"
    hint = f"Change it in {path}, or: moodlectl site add {site.name} --replace …"
    if site.kind == "practice":
        if site.folder is None:
            raise ConfigError(f"At '{where}': a practice site needs 'folder'.", hint)
        return site
    if not site.url:
        raise ConfigError(f"At '{where}': 'url' is missing, the address of the site.", hint)
    if site.folder is not None:
        raise ConfigError(f"At '{where}.folder': only a practice site has a folder.", hint)
    if site.via and site.moodle_dir is None:
        raise ConfigError(f"At '{where}': 'via' needs 'moodle_dir', the folder of Moodle's code there.", hint)
    if site.engine == "admin-cli" and site.moodle_dir is None:
        raise ConfigError(f"At '{where}': engine 'admin-cli' needs 'moodle_dir'.", hint)
    if site.exchange_dir is not None and site.engine != "admin-cli":
        raise ConfigError(f"At '{where}.exchange_dir': only engine 'admin-cli' uses it.", hint)
    return site


class _Reader:
    """A table whose keys are taken one by one; a key nobody takes is unknown."""

    def __init__(self, table: Mapping[str, Any], where: str, path: Path) -> None:
        self.table, self.where, self.file = table, where, path
        self.known: list[str] = []

    def take(self, key: str, read: Callable[[Any, str], T]) -> T | None:
        self.known.append(key)
        value = self.table.get(key, _ABSENT)
        return None if value is _ABSENT else read(value, f"{self.where}.{key}" if self.where else key)

    def path(self, value: Any, where: str) -> Path:
        """A path on this machine: ``~`` is the home, relative ones start at the settings file."""
        return self.file.parent / Path(words.read_text(value, where)).expanduser()

    def place(self, value: Any, where: str) -> str:
        """A folder of this machine, as other paths, or an address elsewhere."""
        return words.read_text(value, where) if "://" in str(value) else str(self.path(value, where))

    def token(self, value: Any, where: str) -> str:
        """Where a token comes from; the path of ``file:`` as for other paths."""
        source = words.read_token_source(words.read_text(value, where), at=where)
        word, _, rest = source.partition(":")
        return f"file:{self.path(rest, where)}" if word == "file" else source

    def limits(self, value: Any, where: str) -> Limits:
        """The limits of batches, a table of its own."""
        reader, usual = _Reader(words.read_table(value, where), where, self.file), Limits()
        counts = words.read_count
        limits = Limits(
            backups=reader.take("backups", counts) or usual.backups,
            restores=reader.take("restores", counts) or usual.restores,
            transfers=reader.take("transfers", counts) or usual.transfers,
            hours=reader.take("hours", words.read_hours) or usual.hours,
            load=reader.take("load", words.read_number) or usual.load,
            tasks=reader.take("tasks", counts) or usual.tasks,
            free=reader.take("free", words.read_bytes) or usual.free,
            failures=reader.take("failures", counts) or usual.failures,
            patience=reader.take("patience", words.read_seconds) or usual.patience,
        )
        reader.done()
        return limits

    def done(self) -> None:
        for key in self.table:
            if key not in self.known:
                where = f"{self.where}.{key}" if self.where else key
                raise ConfigError(
                    f"At '{where}': unknown key.",
                    f"{words.suggest(key, self.known)}Known here: {', '.join(self.known)}.",
                )


# --- writing ------------------------------------------------------------------------------------------------


def save_site(path: Path, site: SiteConfig, *, make_default: bool = False) -> Config:
    """Write one site into the file, new or over the old one; comments stay. Writes a local file.

    Returns the settings as they are now. Raises ConfigError, and then nothing is written.
    """
    import tomlkit

    document = _document(path)
    sites = document.setdefault("sites", tomlkit.table(is_super_table=True))
    if site.name not in sites:
        sites[site.name] = tomlkit.table()
    table, new = sites[site.name], site.as_dict()
    if "limits" in table:
        new["limits"] = table["limits"]  # in the words of whoever wrote them
    for key in [key for key in table if key not in new]:
        del table[key]
    for key, value in new.items():
        if table.get(key) != value:
            table[key] = value
    return _save(path, document, default=site.name if make_default else None)


def remove_site(path: Path, name: str) -> Config:
    """Take one site out of the file; if it was the default there is none afterwards. Writes a local file."""
    document = _document(path)
    sites = document.get("sites", {})
    if name in sites:
        del sites[name]
    if document.get("default") == name:
        del document["default"]
    return _save(path, document)


def save_default(path: Path, name: str) -> Config:
    """Make one site the default. Writes a local file."""
    return _save(path, _document(path), default=name)


def _document(path: Path) -> TOMLDocument:
    import tomlkit

    load(path, may_be_absent=True)  # what is wrong already is said before it is written over
    return tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()


def _save(path: Path, document: TOMLDocument, *, default: str | None = None) -> Config:
    import tomlkit

    if default is not None and "default" in document:
        document["default"] = default
    text = tomlkit.dumps(document)
    if default is not None and "default" not in document:
        # Top-level keys stand before the first table in TOML; below the comment that heads it.
        head = re.match(r"(?:[ \t]*#[^\n]*\n)+[ \t]*\n", text)
        cut = head.end() if head else 0
        text = f"{text[:cut]}default = {tomlkit.item(default).as_string()}\n\n{text[cut:].lstrip()}"
    config = parse(text, path)  # what could not be read again is not written
    _write(path, text)
    return config


def _write(path: Path, text: str) -> None:
    """Put the text in place at once, readable by its owner alone."""
    target = path.resolve()  # a link, as dotfile managers make them, stays one
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise ConfigError(f"The settings file {path} cannot be written: {problem}") from problem
