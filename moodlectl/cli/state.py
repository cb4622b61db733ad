"""What the global options said, handed to every command as ``ctx.obj``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moodlectl.config import Config, SiteConfig
    from moodlectl.site.port import Site
    from moodlectl.store import Store


class Output(enum.StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"
    csv = "csv"


@dataclass(frozen=True)
class State:
    """The global options of one run."""

    site_name: str | None = None
    config: Path | None = None
    output: Output = Output.table
    quiet: bool = False
    verbose: bool = False
    color: bool = True
    yes: bool = False

    def load_config(self) -> Config:
        """The configuration; raises ConfigError with the path to the key."""
        from moodlectl import config

        return config.load(self.config)

    def site_config(self, name: str | None = None) -> SiteConfig:
        """The settings of the site in use, or of the one named. Raises NotFound, ConfigError."""
        return self.load_config().site(name or self.site_name)

    def store(self, named: str | None = None) -> str:
        """The address of the store: the one named, else the one that is meant when nobody says. Raises ConfigError."""
        from moodlectl.actions import storing

        return named or storing.default_address(self.load_config().store)

    def open_store(self, named: str | None = None, *, create: bool = False) -> Store:
        """Open the store named, or the one meant when nobody says. Raises NotFound ``no_store``, ConfigError."""
        from moodlectl.actions import storing

        return storing.opened(self.store(named), create=create)

    def open_site(self, name: str | None = None) -> Site:
        """Open the site in use, or the one named; whoever opens it closes it (``contextlib.closing``)."""
        from moodlectl.site import opening

        return opening.open_site(self.site_config(name))
