"""moodlectl: back up, find, download and restore the courses of a live Moodle.

The map, and the arrow that never turns round::

    cli ──▶ actions ──▶ site.port ◀── site.live ──▶ site.webservice          HTTP: requests, tenacity
                  │               │           └──▶ site.runner ──▶ site.shell  ssh / docker / kubectl / here
                  │               └── site.practice                            the built-in practice site
                  ├──▶ store                                                   backups kept here, every content once
                  └──▶ mbz                                                     the backup-file reader
    config, credentials, secret, errors, findings, spent, version: leaves

Words come in at ``cli``, meaning is made in ``actions``, Moodle is asked through ``site.port``, and nothing flows
back up. ``site.opening`` is the one place that knows which site answers a configuration.

As a library::

    import moodlectl

    with moodlectl.open_site("school") as site:
        for course in site.courses(search="biology"):
            print(course.shortname)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moodlectl import neighbours
from moodlectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moodlectl.site.port import Site

__all__ = ["__version__", "errors", "open_site", "port"]

neighbours.refuse_the_other_moodlectl()


def __getattr__(name: str) -> Any:
    """``moodlectl.errors`` and ``moodlectl.port``, imported when first used so that start-up stays fast."""
    if name == "errors":
        import moodlectl.errors

        return moodlectl.errors
    if name == "port":
        import moodlectl.site.port

        return moodlectl.site.port
    raise AttributeError(f"module 'moodlectl' has no attribute {name!r}")


@contextmanager
def open_site(name: str | None = None, *, config: Path | None = None) -> Iterator[Site]:
    """Open a configured site (the default one without a name) and close it at the end of the block.

    ``config`` is the configuration file, else the usual one. Reads only. Raises ConfigError, NotFound for an unknown
    name, AccessError where the token cannot be had.
    """
    from moodlectl import config as configuration
    from moodlectl.site import opening

    site = opening.open_site(configuration.load(config).site(name))
    try:
        yield site
    finally:
        site.close()
