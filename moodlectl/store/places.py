"""Where a store lies: a folder of this machine, or any address that fsspec knows (``store.remote``)."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from moodlectl.errors import AccessError, ConfigError, Failed, MoodlectlError, NotFound, Refused

CHUNK: Final = 1 << 20
INCOMING: Final = "incoming"
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# With a slash left out, or one address within another, it would be a folder of that strange name, on this machine.
_SLIP = re.compile(
    r"(?:s3a?|gcs?|gs|az|abfss?|adl|oss|sftp|ssh|ftp|smb|hdfs|webdav|https?|file):(?!//)|.*::.*://", re.IGNORECASE
)
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a place: its name below the place, its size in bytes, when it was written."""

    name: str
    size: int
    modified: datetime


class Place(Protocol):
    """A place that keeps files by name. Each appears whole or not at all; names are ``/``-separated, below the place.

    Raises AccessError, Unreachable, and Refused ``no_space``.
    """

    @property
    def address(self) -> str:
        """What to call it; nothing secret is in it."""

    def found(self, folder: str) -> Iterator[Found]:
        """Every file below a folder of the place, in no order. Reads only."""

    def below(self, folder: str = "") -> Sequence[tuple[str, bool]]:
        """What lies right below a folder of the place, by whole names, in order; True for folders. Reads only."""

    def sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those of the files that are there. Reads only."""

    def read(self, name: str, size: int | None = None) -> Iterator[bytes]:
        """A file's bytes in pieces; ``size`` where it is known. Reads only. Raises NotFound ``store_lost``."""

    def load(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Small files whole, None for what is not there, in the order given. Reads only."""

    def save(self, name: str, data: bytes) -> None:
        """Write a small file, in place of one that was there."""

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """Move files of ``incoming`` in, on the disk before they get their names."""

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; what is not there is passed over."""

    def incoming(self) -> AbstractContextManager[Path]:
        """A folder of this machine for what is on its way, gone at the end of the block."""

    def free(self) -> int | None:
        """Bytes that are free there, None where nobody knows."""


def lost(name: str, address: str) -> NotFound:
    """The error for a file of a store that should be there."""
    return NotFound(
        f"{name} is gone from the store {address}.",
        "'moodlectl store verify' names everything that is missing.",
        code="store_lost",
        details={"name": name},
    )


def is_address(word: str) -> bool:
    """Whether a word is an address, or meant to be one, and no folder."""
    return "://" in word or _SLIP.match(word) is not None


def place_of(address: str) -> Place:
    """The place an address names; nothing is looked at yet. Raises ConfigError, also where it carries a secret."""
    found = _ADDRESS.match(address)
    if _SLIP.match(address) is not None:
        raise ConfigError(
            f"{address} is no address of a store.",
            f"An address is written as s3://bucket/prefix; a folder of that name as ./{address}",
        )
    if found is None:
        return Folder(Path(address).expanduser())
    scheme = found[1].lower()
    parts = urlsplit(address)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"The address of a {scheme} store must not carry a name, password or key.",
            "Keys of object storage come from its own places: ~/.aws/credentials, AWS_PROFILE, AWS_ACCESS_KEY_ID.",
        )
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{address} names a folder of another machine.", "Write it as in file:///srv/backups")
        return Folder(Path(unquote(parts.path)))
    from moodlectl.store.remote import Remote

    return Remote(address)


class Folder:
    """A folder of this machine; what is in it is readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def address(self) -> str:
        """Its path."""
        return str(self.path)

    def found(self, folder: str) -> Iterator[Found]:
        """Every file below. Reads only."""
        with _told(self.path):
            for where, below, names in os.walk(self.path / folder):
                below.sort()
                for name in names:
                    path = Path(where) / name
                    with suppress(FileNotFoundError):
                        told = path.stat()
                        yield Found(
                            path.relative_to(self.path).as_posix(),
                            told.st_size,
                            datetime.fromtimestamp(told.st_mtime, UTC),
                        )

    def below(self, folder: str = "") -> Sequence[tuple[str, bool]]:
        """What lies right below. Reads only."""
        with _told(self.path):
            try:
                listed = [(one.name, one.is_dir()) for one in os.scandir(self.path / folder)]
            except FileNotFoundError:
                return []
        return sorted((f"{folder}/{name}".lstrip("/"), is_folder) for name, is_folder in listed)

    def sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        """Sizes of those there. Reads only."""
        there: dict[str, int] = {}
        with _told(self.path):
            for name in names:
                with suppress(FileNotFoundError):
                    there[name] = (self.path / name).stat().st_size
        return there

    def read(self, name: str, size: int | None = None) -> Iterator[bytes]:
        """A file's bytes. Reads only."""
        del size
        try:
            with _told(self.path), (self.path / name).open("rb") as file:
                while piece := file.read(CHUNK):
                    yield piece
        except FileNotFoundError as error:
            raise lost(name, self.address) from error

    def load(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Small files whole. Reads only."""
        for name in names:
            try:
                with _told(self.path):
                    yield name, (self.path / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                yield name, None

    def save(self, name: str, data: bytes) -> None:
        """A small file, in place at once."""
        with _told(self.path):
            target = self.path / name
            _make(target.parent)
            aside = target.parent / f".{uuid.uuid4().hex}"
            try:
                with _private(aside) as file:
                    os.write(file, data)
                    os.fsync(file)
                aside.replace(target)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """Moved in, written to the disk before."""
        if not files:
            return
        with _told(self.path):
            _sync([path for path, _ in files])
            folders = set()
            for path, name in files:
                target = self.path / name
                if target.parent not in folders:
                    _make(target.parent)
                    folders.add(target.parent)
                path.chmod(0o600)
                path.replace(target)
            with ThreadPoolExecutor(_AT_ONCE) as workers:
                list(workers.map(_sync_folder, folders))

    def remove(self, names: Iterable[str]) -> None:
        """Gone; folders that are empty by that, too, but for the store's own: somebody may be about to write there."""
        with _told(self.path):
            for name in names:
                path = self.path / name
                path.unlink(missing_ok=True)
                if name.count("/") > 1:
                    with suppress(OSError):
                        path.parent.rmdir()

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder within, so that moving in copies nothing."""
        with _told(self.path):
            folder = self.path / INCOMING / uuid.uuid4().hex
            _make(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def free(self) -> int | None:
        """Bytes free on its disk."""
        folder = self.path
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return None


@contextmanager
def elsewhere() -> Iterator[Path]:
    """A temporary folder for places that have none of their own."""
    with tempfile.TemporaryDirectory(prefix="moodlectl-") as folder:
        yield Path(folder)


@contextmanager
def scratch(place: Place) -> Iterator[Path]:
    """A folder for something as large as a backup, gone at the end of the block: beside the store, if one may."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(place.incoming())
        except AccessError:
            folder = stack.enter_context(elsewhere())
        yield folder


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Trouble with a disk in words; that a file is not there is for the caller to judge."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, MoodlectlError):
        raise
    except OSError as error:
        raise trouble(str(path), error) from error


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """A disk that fills up while something is written into a folder, in words. Raises Refused ``no_space``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refused(
            f"There is no room in {folder}: {error.strerror}.",
            "Free some space there, and do it again.",
            code="no_space",
            details={"path": str(folder)},
        ) from error


def trouble(address: str, error: OSError) -> MoodlectlError:
    """What a disk's trouble is for who uses the store."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(
            f"No room for the store in {address}: {why}.",
            "Free some space; what has arrived so far is kept.",
            code="no_space",
            details={"store": address},
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(f"The store in {address} cannot be used: {why}.", "Check whose it is.", code="store_access")
    return Failed(f"The store in {address} cannot be used: {why}.", code="store_failed")


@contextmanager
def _private(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _make(folder: Path) -> None:
    missing = [folder]
    while not missing[-1].exists() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    for one in reversed(missing):
        one.mkdir(exist_ok=True, mode=0o700)  # parents that mkdir makes would be everybody's


def _sync(paths: Sequence[Path]) -> None:
    """Have the files on the disk, whatever happens to the power; several at once share the disk's journal."""

    def sync(path: Path) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    with ThreadPoolExecutor(_AT_ONCE) as workers:
        list(workers.map(sync, paths))


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems know no such thing
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
