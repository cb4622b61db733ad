"""Small backups, unpacked and checked: the steps of a batch walk through the same one time and again.

What is kept is known by the digest of the whole file, which is read anew each time: a file that was changed is
another file, and a file that was refused is never kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from moodlectl.mbz.limits import MIB

PACKED = 2 * MIB
UNPACKED = 16 * MIB
MOST = 32 * MIB
"""Bytes: how large a file may be, what one may hold, and what all together may."""
_PIECE = 256 * 1024
# What Python spends on one member beside its content.
_OVERHEAD = 320


@dataclass(frozen=True, slots=True)
class KeptMember:
    """One member of a walk that came to its end: name, kind, and its bytes."""

    name: str
    kind: Literal["file", "dir"]
    content: bytes

    def pieces(self) -> Iterator[memoryview]:
        """Its bytes as a stream gives them."""
        whole = memoryview(self.content)
        for begin in range(0, len(whole), _PIECE):
            yield whole[begin : begin + _PIECE]


@dataclass(frozen=True, slots=True)
class Walk:
    """A whole walk through a backup: its members in stream order, and what was odd about the container."""

    members: tuple[KeptMember, ...]
    remarks: tuple[str, ...]
    cost: int


def cost(name: str, size: int) -> int:
    """About how many bytes of memory keeping a member takes."""
    return size + len(name) + _OVERHEAD


def key_of(raw: bytes) -> bytes:
    """What a walk through that file is known by."""
    return blake2b(raw, digest_size=32).digest()


class Kept:
    """The walks made last, as many as there is room for. For several threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()
        self._walks: OrderedDict[bytes, Walk] = OrderedDict()

    def get(self, key: bytes) -> Walk | None:
        """The walk of that key, None where it is not kept."""
        with self._lock:
            if key in self._walks:
                self._walks.move_to_end(key)
            return self._walks.get(key)

    def put(self, key: bytes, walk: Walk) -> None:
        """Keep a walk; those not asked for the longest make room."""
        with self._lock:
            if key in self._walks:
                return
            self._walks[key] = walk
            self._held += walk.cost
            while self._held > self._most:
                self._held -= self._walks.popitem(last=False)[1].cost


KEPT = Kept()
