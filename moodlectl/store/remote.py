"""A store at an address that fsspec knows, such as ``s3://bucket/prefix``."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from moodlectl.errors import AccessError, ConfigError, MoodlectlError, Unreachable
from moodlectl.store.places import CHUNK, Found, elsewhere, lost

PIECE: Final = 5 << 20
"""Bytes in one request that writes; object storage wants no part smaller than that, and 10,000 at most."""

_READ: Final = 2 << 20

_AT_ONCE: Final = 8
_LARGE_AT_ONCE: Final = 1
_SMALL: Final = 512 << 10
_FEW: Final = 64
_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"})
"""Where an upload appears when it is complete, and not before; elsewhere it gets its name afterwards."""


class Remote:
    """A place at an address. Files are uploaded several at once, and in pieces, so that little memory is needed."""

    def __init__(self, address: str) -> None:
        if not address.partition("://")[2].strip("/"):
            raise ConfigError(f"{address} does not say where.", "Name a bucket, and a prefix in it: s3://bucket/prefix")
        self._address = address.rstrip("/")
        self._scheme = address.partition("://")[0].lower()
        self._fs, self._root = _opened(self._address)

    @property
    def address(self) -> str:
        """The address as it was given."""
        return self._address

    def found(self, folder: str) -> Iterator[Found]:
        """Every file below; a folder of a store holds some thousands at most. Reads only."""
        with self._told():
            try:
                listed = self._fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                listed = {}
        for path, told in listed.items():
            name = posixpath.relpath(self._fs._strip_protocol(path), self._root)
            yield Found(name, int(told.get("size") or 0), _moment(told))

    def below(self, folder: str = "") -> Sequence[tuple[str, bool]]:
        """What lies right below. Reads only."""
        with self._told():
            try:
                listed = self._fs.ls(self._path(folder).rstrip("/"), detail=True)
            except FileNotFoundError:
                return []
        told = ((posixpath.basename(one["name"].rstrip("/")), one["type"] == "directory") for one in listed)
        return sorted((f"{folder}/{name}".lstrip("/"), is_folder) for name, is_folder in told if name)

    def sizes(self, names: Sequence[str]) -> Mapping[str, int]:
        """Sizes of those there: one question each for a few, whole folders for many. Reads only."""
        if len(names) <= _FEW:
            asked = zip(names, self._all(self._size, names), strict=True)
            return {name: size for name, size in asked if size is not None}
        wanted = set(names)

        def look(folder: str) -> list[tuple[str, int]]:
            return [(one.name, one.size) for one in self.found(folder) if one.name in wanted]

        folders = sorted({posixpath.dirname(name) for name in names})
        return {name: size for found in self._all(look, folders) for name, size in found}

    def read(self, name: str, size: int | None = None) -> Iterator[bytes]:
        """A file's bytes, some megabytes a request. Reads only."""
        if size is None:
            size = self._size(name)
            if size is None:
                raise lost(name, self._address)
        for begin in range(0, size, _READ):
            with self._told(name):
                piece = self._fs.cat_file(self._path(name), start=begin, end=min(begin + _READ, size))
            yield bytes(piece)

    def load(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Small files whole, several at once. Reads only."""
        for begin in range(0, len(names), _FEW):
            some = names[begin : begin + _FEW]
            yield from zip(some, self._all(self._cat, some), strict=True)

    def save(self, name: str, data: bytes) -> None:
        """A small file, in place at once."""
        with self._told(), self._named(name) as path:
            self._fs.pipe_file(path, data)

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """Uploaded, several at once; those here are gone then."""
        small = [one for one in files if one[0].stat().st_size <= _SMALL]
        self._all(self._upload, small)
        self._all(self._upload, [one for one in files if one not in set(small)], _LARGE_AT_ONCE)

    def remove(self, names: Iterable[str]) -> None:
        """Gone."""
        self._all(self._delete, [*names])

    def incoming(self) -> AbstractContextManager[Path]:
        """A temporary folder of this machine."""
        return elsewhere()

    def free(self) -> int | None:
        """Nobody knows."""
        return None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _all(self, do: Callable[[Any], Any], of: Sequence[Any], at_once: int = _AT_ONCE) -> list[Any]:
        if len(of) < 2:
            return [do(one) for one in of]
        with ThreadPoolExecutor(at_once) as workers:
            return list(workers.map(do, of))

    def _size(self, name: str) -> int | None:
        with self._told():
            try:
                return int(self._fs.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def _cat(self, name: str) -> bytes | None:
        with self._told():
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def _upload(self, file: tuple[Path, str]) -> None:
        path, name = file
        with self._told(), self._named(name) as target:
            if path.stat().st_size <= PIECE:
                self._fs.pipe_file(target, path.read_bytes())
            else:
                self._in_pieces(path, target)
        path.unlink()

    def _in_pieces(self, path: Path, target: str) -> None:
        out = self._fs.open(target, "wb", block_size=PIECE)
        try:
            with path.open("rb") as file:
                while piece := file.read(CHUNK):
                    out.write(piece)
        except BaseException:
            _give_up(out)
            raise
        out.close()

    @contextmanager
    def _named(self, name: str) -> Iterator[str]:
        """The path to write to: the name itself where an upload appears whole, else one aside that is renamed."""
        path = self._path(name)
        if self._scheme in _WHOLE:
            yield path
            return
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        aside = f"{path}.part"
        yield aside
        self._fs.mv(aside, path)

    def _delete(self, name: str) -> None:
        with self._told():
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    @contextmanager
    def _told(self, name: str | None = None) -> Iterator[None]:
        """Trouble on the way in words."""
        try:
            yield
        except MoodlectlError:
            raise
        except FileNotFoundError as error:
            if name is None:
                raise
            raise lost(name, self._address) from error
        except Exception as error:
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> MoodlectlError:
        why = f"{type(error).__name__}: {error}"
        refused = isinstance(error, PermissionError) or "Credential" in type(error).__name__
        if refused or type(error).__name__ in ("ParamValidationError", "ProfileNotFound"):
            return AccessError(
                f"The store {self._address} may not be used: {why}",
                "Keys of object storage come from its own places: ~/.aws/credentials, AWS_PROFILE, AWS_ACCESS_KEY_ID.",
                code="store_access",
            )
        return Unreachable(
            f"The store {self._address} cannot be reached: {why}",
            "What has arrived there is kept. Try again when it answers.",
            code="store_unreachable",
        )


def _opened(address: str) -> tuple[Any, str]:
    """The file system behind an address, and the path on it."""
    try:
        import fsspec

        fs, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(
            f"A store at {address} needs a library that is not installed: {error}.",
            "Install it with the extra: pipx install 'moodlectl-backup[s3]'. A folder needs none.",
            code="needs_extra",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{address} is no address of a store: {error}.", "Such as s3://bucket/prefix.") from error
    return fs, str(root).rstrip("/")


def _give_up(out: Any) -> None:
    """Leave nothing of a broken upload, where the file system can."""
    discard = getattr(out, "discard", None)
    if discard is not None:
        discard()
    out.closed = True  # else it would be completed when Python lets go of it


def _moment(told: Mapping[str, Any]) -> datetime:
    """When a file was written, as its file system says it."""
    for key in ("LastModified", "last_modified", "modified", "mtime", "updated", "created"):
        value = told.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                continue
    return datetime.now(UTC)
