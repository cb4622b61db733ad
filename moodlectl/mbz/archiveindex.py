""".ARCHIVE_INDEX, the list of members that Moodle writes first (``lib/filestorage/tgz_packer.php``)."""

from __future__ import annotations

from moodlectl.mbz.archive import Member
from moodlectl.mbz.limits import LIMITS
from moodlectl.mbz.text import printable

_PREFIX = b"Moodle archive file index. Count: "


class ArchiveIndex:
    """The index, compared with each member as it goes by; both were written from one list, in one order.

    Raises Refused ``hostile_size`` where it is larger than half a million members need.
    """

    def __init__(self, member: Member) -> None:
        self._text = member.read(LIMITS.index_bytes)
        first = self._text.find(b"\n")
        self._at = first + 1 if first >= 0 else len(self._text)
        self._head = self._text[: self._at].rstrip()
        self._seen = 0
        self._lost = False

    def compare(self, member: Member) -> str | None:
        """What is wrong about this member, in words; None where the index agrees.

        Silent after the first gap.
        """
        self._seen += 1
        if self._lost:
            return None
        line = self._next()
        name, kind, size, _ = (*line.split(b"\t"), b"", b"", b"", b"")[:4]
        if name.rstrip(b"/") != member.name.encode("utf-8"):
            self._lost = True
            shown = printable(name.decode("utf-8", "replace"))[:120]
            return (
                f"The archive index names {shown or 'nothing'} where {member.name} is; no more is compared."
            )
        if kind != (b"d" if member.kind == "dir" else b"f") or size != str(member.size).encode("ascii"):
            shown = printable(size.decode("utf-8", "replace"))[:40]
            return f"The archive index gives {member.name} {shown} bytes; it has {member.size}."
        return None

    def end(self) -> str | None:
        """What is wrong with the index as a whole, in words."""
        if self._head != _PREFIX + str(self._seen).encode("ascii"):
            shown = printable(self._head[:80].decode("utf-8", "replace"))
            return f"The archive has {self._seen} members; its index begins: {shown}"
        if not self._lost and self._text[self._at :].strip():
            return "The archive index names more members than there are."
        return None

    def _next(self) -> bytes:
        end = self._text.find(b"\n", self._at)
        end = len(self._text) if end < 0 else end
        line, self._at = self._text[self._at : end], end + 1
        return line
