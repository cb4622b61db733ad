"""The contents of a store, each once, under its sha1: a pool that others send to, and that sends to others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from moodlectl.errors import Failed, Refused
from moodlectl.site.contents import arriving, packed
from moodlectl.site.port import Content, ContentsTaken, OnProgress, Progress, no_progress
from moodlectl.store.places import Place, lost, room

CONTENTS: Final = "contents"
EMPTY: Final = hashlib.sha1(b"", usedforsecurity=False).hexdigest()
"""The content of files that are empty: nobody need keep it."""

_BYTES: Final = 64 << 20
_FILES: Final = 256
_AT_ONCE: Final = 2000


def name_of(sha1: str) -> str:
    """Where a content lies within the store."""
    return f"{CONTENTS}/{sha1[:2]}/{sha1}"


class StorePool:
    """The contents of one store; ``lacking``, ``send`` and ``take`` are those of ``port.Pool``.

    Whoever takes holds a lock of the store: what is not claimed by a backup yet would be swept otherwise.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def folders(self) -> Sequence[str]:
        """The folders that contents lie in, 256 at most, each small enough to be looked at whole. Reads only."""
        return [name for name, is_folder in self._place.below(CONTENTS) if is_folder]

    def lacking(self, contents: Sequence[Content]) -> Sequence[Content]:
        """Those the store has not got, or not whole. Reads only."""
        wanted = [one for one in contents if one.sha1 != EMPTY]
        found = list[Content]()
        for begin in range(0, len(wanted), _AT_ONCE):
            some = wanted[begin : begin + _AT_ONCE]
            there = self._place.sizes([name_of(one.sha1) for one in some])
            found += [one for one in some if there.get(name_of(one.sha1)) != one.size]
        return found

    def read(self, content: Content) -> Iterator[bytes]:
        """A content's bytes, its sha1 checked at the end. Reads only.

        Raises NotFound ``store_lost`` where it is not there, Failed ``content_damaged`` where it is another one.
        """
        if content.sha1 == EMPTY:
            return
        digest, size = hashlib.sha1(usedforsecurity=False), 0
        for piece in self._place.read(name_of(content.sha1), content.size):
            digest.update(piece)
            size += len(piece)
            yield piece
        if digest.hexdigest() != content.sha1 or size != content.size:
            raise Failed(
                f"The content {content.sha1} in the store {self._place.address} is damaged.",
                "'moodlectl store verify' names the files that have it; --repair makes room for a good one, which the "
                "next backup that has it brings.",
                code="content_damaged",
                details={"contents": [content.sha1]},
            )

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        """Those contents as one stream. Reads only."""
        lacking = {one.sha1 for one in self.lacking(contents)}
        for one in contents:
            for piece in packed(one, None if one.sha1 in lacking else self.read(one), pack=pack):
                receive(piece)

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken:
        """Put the contents of a stream into the store, each checked by its sha1; what is in stays, should it break off.

        ``more`` bytes are to come in other streams. Writes to the store. Raises Refused ``no_space``.
        """
        total = sum(one.size for one in coming)
        self.check_room(total + more)
        sizes = {one.sha1: one.size for one in coming}
        count, size, missing, refused = 0, 0, list[str](), list[str]()
        with self._place.incoming() as folder, Batch(self._place, folder) as batch:
            for one in arriving(stream):
                if not one.there:
                    missing.append(one.content.sha1)
                elif sizes.get(one.content.sha1) == one.content.size and batch.add(one.content, one.pieces):
                    count, size = count + 1, size + one.content.size
                    on_progress(Progress("contents", size, total, "bytes"))
                else:
                    refused.append(one.content.sha1)
        return ContentsTaken(count, size, tuple(missing), tuple(refused))

    def check_room(self, size: int) -> None:
        """Raise Refused ``no_space`` where so many bytes will not fit."""
        free = self._place.free()
        if free is not None and free < size + (16 << 20):
            raise Refused(
                f"No room for the store in {self._place.address}: {size:,} bytes are needed, {free:,} are free.",
                "Free some space, or use a store elsewhere (--store).",
                code="no_space",
                details={"store": self._place.address, "needed": size, "free": free},
            )

    def must_have(self, contents: Sequence[Content]) -> None:
        """Raise NotFound ``store_lost`` where one of them is not there, or not whole. Reads only."""
        for one in self.lacking(contents):
            raise lost(f"The content {one.sha1}", self._place.address)


class Batch:
    """Contents on their way in: written aside, and given their names together, when they are on the disk."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place, self._folder = place, folder
        self._waiting: dict[str, Path] = {}
        self._size = 0

    def add(self, content: Content, pieces: Iterable[bytes | memoryview]) -> bool:
        """One more; whether it was what it is called. Writes to the store, now and then."""
        path = self._folder / content.sha1
        digest, size = hashlib.sha1(usedforsecurity=False), 0
        with room(self._folder), path.open("wb") as out:
            for piece in pieces:
                size += len(piece)
                if size > content.size:
                    break
                digest.update(piece)
                out.write(piece)
        if size != content.size or digest.hexdigest() != content.sha1:
            path.unlink()
            return False
        self._waiting[name_of(content.sha1)] = path
        self._size += size
        if self._size >= _BYTES or len(self._waiting) >= _FILES:
            self.settle()
        return True

    def settle(self) -> None:
        """Give those that wait their names."""
        files = [(path, name) for name, path in self._waiting.items()]
        self._waiting, self._size = {}, 0
        self._place.put(files)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *trouble: object) -> None:
        # Also when the stream broke off: what is whole need not come again.
        self.settle()
