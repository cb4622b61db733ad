"""Where the bytes of a backup come from: a file here, or one that lies elsewhere and is read there."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from moodlectl.errors import NotFound, Refused
from moodlectl.mbz.text import printable

HEAD = 64 * 1024


class Source(Protocol):
    """A backup's bytes. ``name`` is what to call it, ``size`` its whole size in bytes.

    ``hollow`` is set where what ``open`` gives is the tgz with the contents of its file pool taken out, as a host
    sends it that keeps them to itself: every header is there, and every other content.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def hollow(self) -> bool: ...

    def head(self) -> bytes:
        """Its first bytes, up to 64 KiB. Reads only. Raises NotFound, Refused ``unreadable``."""

    def open(self) -> BinaryIO:
        """Its bytes from the start; they can be sought where it is a zip. Whoever opens it closes it."""


class FileSource:
    """A file on this machine; ``name`` is what to call it, else its own name."""

    hollow = False

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.name

    @property
    def size(self) -> int:
        """The file's size in bytes. Raises NotFound."""
        return self.path.stat().st_size

    def head(self) -> bytes:
        """The file's first 64 KiB. Reads only. Raises NotFound, Refused ``unreadable``."""
        try:
            with self.path.open("rb") as file:
                return file.read(HEAD)
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no file {printable(str(self.path))}.", "Check the path.", code="no_file"
            ) from error
        except OSError as error:
            reason = printable(error.strerror or str(error))
            raise Refused(
                f"{printable(str(self.path))} cannot be read: {reason}.",
                "Name a backup file you may read.",
                code="unreadable",
            ) from error

    def open(self) -> BinaryIO:
        """The file, opened to read."""
        return self.path.open("rb")


class Spooled(FileSource):
    """A hollowed backup that was kept in a file here."""

    hollow = True


def source_of(where: Path | str | Source) -> Source:
    """A path as a source; a source as it is."""
    return FileSource(Path(where)) if isinstance(where, Path | str) else where
