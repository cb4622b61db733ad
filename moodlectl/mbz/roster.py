"""users.xml read fast: whole blocks by pattern where the file is laid out as Moodle lays it out.

A site's users.xml has dozens of elements for each of hundreds of thousands of people, and a call into Python for
each element is most of the time. So expat only checks that the XML is well formed, and patterns that can have one
meaning alone pick the fields out of each ``<user>``. At the first thing Moodle's writer never writes, a comment or
a nested user, the rest goes through the ordinary reader, which understands all XML; the records are the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from moodlectl.mbz.limits import LIMITS
from moodlectl.mbz.xmlstream import NULL, RecordReader, Unseen

_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml [^<>?]*\?>\s*<users>")
_PROLOG_BYTES = 256
# Closing names need no look: the checker has seen that they are those of the tags they close.
_USER = re.compile(
    rb'\s*+<user id="([0-9]{1,18})"(?: contextid="[0-9]*")?>((?:\s*+<[a-z0-9_]++>[^<]*+</[^>]++>)*+)'
)
_END = b"</user>"
_TAG = re.compile(rb"</?")
_EPILOG = re.compile(rb"\s*(?:</users>\s*)?")
# The start of a block is shorter than the first, a whole one than the second, both by far.
_HEAD = 200
_LONGEST = 256 * 1024
_REFERENCE = re.compile(r"&(?:#x([0-9A-Fa-f]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot|apos));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}

Record = Mapping[str, str]


class Roster:
    """The people of one users.xml, fed in pieces; each piece gives the records it completes.

    A record holds ``id`` and the text of those of ``fields`` that are direct children and not NULL. Raises
    Refused as ``XmlReader`` does.
    """

    def __init__(self, where: str, fields: frozenset[str]) -> None:
        self._where, self._fields = where, fields
        self._tags = tuple((name, f"<{name}>".encode()) for name in sorted(fields))
        names = "|".join(sorted({"user", *fields}))
        # In what follows the plain fields of a person: a comment and the like, or a field or person further in.
        self._odd = re.compile(rf"<(?:[!?]|(?:{names})[\s/>])".encode())
        self._checker = _Checker(where)
        self._slow: RecordReader | None = None
        self._found: list[Record] = []
        self._rest = b""
        self._begun = False

    def feed(self, chunk: bytes | memoryview) -> list[Record]:
        """The people whose end came with this piece. Raises Refused."""
        self._checker.feed(chunk)
        self._found = found = list[Record]()
        if self._slow is not None:
            self._slow.feed(chunk)
            return found
        data = self._rest + chunk
        if self._begun or len(data) >= _PROLOG_BYTES:
            self._read(data)
        else:
            self._rest = data
        return found

    def close(self) -> list[Record]:
        """The people left when the document is over. Raises Refused ``bad_xml`` where it was not whole."""
        self._checker.close()
        self._found = found = list[Record]()
        if self._slow is None:
            self._read(self._rest)
        if self._slow is None and not _EPILOG.fullmatch(self._rest):
            self._go_slow(b"<users>" + self._rest)
        if self._slow is not None:
            self._slow.close()
        return found

    def _read(self, data: bytes) -> None:
        at = 0
        if not self._begun:
            prolog = _PROLOG.match(data)
            if not prolog:
                self._go_slow(data)
                return
            self._begun, at = True, prolog.end()
        at, clear = self._blocks(data, at)
        if clear and len(data) - at < _LONGEST:
            self._rest = data[at:]
        else:
            self._go_slow(b"<users>" + data[at:])

    def _blocks(self, data: bytes, at: int) -> tuple[int, bool]:
        """Every whole block from ``at`` on; where the first unread one begins, and whether it may become one."""
        tags, odd, keep = self._tags, self._odd, self._found.append
        while (found := _USER.match(data, at)) is not None:
            end = data.find(_END, found.end())
            if end < 0:
                return at, True
            if odd.search(data, found.end(), end) or _may_be_deep(data, found.end(), end):
                return at, False
            plain = found[2]
            record = {"id": found[1].decode()}
            for name, tag in tags:
                # The last one counts, as it does for whoever reads element by element.
                begin = plain.rfind(tag)
                if begin >= 0:
                    begin += len(tag)
                    value = plain[begin : plain.find(b"<", begin)]
                    if value != _NULL:
                        record[name] = _text(value)
            keep(record)
            at = end + len(_END)
        return at, len(data) - at < _HEAD

    def _go_slow(self, data: bytes) -> None:
        def keep(_: str, record: Record) -> None:
            self._found.append(record)

        self._rest = b""
        self._slow = RecordReader(self._where, 2, frozenset({"user"}), self._fields, keep)
        self._slow.feed(data)


def _may_be_deep(data: bytes, begin: int, end: int) -> bool:
    """Whether what stands there, in ``users`` and ``user``, may be nested more deeply than an XML reader takes."""
    most = LIMITS.xml_depth - 2
    if data.count(b"<", begin, end) <= most:
        return False
    depth = 0
    for tag in _TAG.finditer(data, begin, end):
        depth += -1 if tag[0] == b"</" else 1  # <this/> counts as one that stays open
        if depth > most:
            return True
    return False


# A parser remembers every name it meets. Where nothing of ours is called for each of them, some pieces, no writer
# can know which, are looked through for the sake of all.
_SHARE = 8
_NAME = re.compile(rb"<([^\s/<>]++)")
_WITH_ATTRIBUTES = re.compile(rb"<[^\s/<>]++\s([^<>]*)>")
_ATTRIBUTE = re.compile(rb"([^\s=\"']++)\s*=\s*[\"']")


class _Checker(Unseen):
    """Looks, as far as it can without a look at elements, that there are not too many names."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._met: set[bytes] = set()

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes of the document. Raises Refused."""
        super().feed(chunk)
        if random.randrange(_SHARE) == 0:
            self._look(bytes(chunk))

    def _look(self, data: bytes) -> None:
        before = len(self._met)
        self._met.update(_NAME.findall(data))
        for attributes in _WITH_ATTRIBUTES.findall(data):
            self._met.update(_ATTRIBUTE.findall(attributes))
        many = len(self._met) > self._limits.xml_names / _SHARE
        if len(self._met) > before and (many or sum(map(len, self._met)) > self._limits.xml_name_bytes / _SHARE):
            raise self._too_many_names()


_NULL = NULL.encode()


def _text(value: bytes) -> str:
    """The text that an XML reader would hand over: line ends and references resolved."""
    text = value.decode()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _REFERENCE.sub(_resolved, text) if "&" in text else text


def _resolved(found: re.Match[str]) -> str:
    if found[3]:
        return _NAMED[found[3]]
    return chr(int(found[1], 16) if found[1] else int(found[2]))
