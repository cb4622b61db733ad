"""XML from strangers, parsed as it streams by: no document types, no entities, no tree, bounded in every
direction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import NoReturn
from xml.parsers import expat

from moodlectl.errors import Refused
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.names import refuse
from moodlectl.mbz.text import printable

NULL = "$@NULL@$"
OnStart = Callable[[int, str, dict[str, str]], None]
OnEnd = Callable[[int, str, str | None], None]
_FEED = 64 * 1024
_HINT = "Moodle never writes such XML. Do not restore this file; ask where it came from."


def value(text: str | None) -> str | None:
    """A field's text with Moodle's own mark for NULL (``$@NULL@$``) turned into None. Reads only."""
    return None if text is None or text == NULL else text


class XmlReader:
    """One XML document, fed in pieces; refuses what Moodle never writes before it can do harm.

    ``on_start(depth, name, attributes)`` is called for each element, the root having depth 1, and
    ``on_end(depth, name, text)`` when it closes, ``text`` being None unless ``capture`` names the element.
    Either may be None. Raises Refused: ``hostile_entity``, ``hostile_xml``, ``hostile_encoding``,
    ``bad_xml``.
    """

    def __init__(
        self,
        where: str,
        on_start: OnStart | None = None,
        on_end: OnEnd | None = None,
        capture: frozenset[str] = frozenset(),
        limits: Limits = LIMITS,
    ) -> None:
        self.where = where
        self._limits = limits
        self._fed = 0
        self._parts: list[str] = []
        self._names = self._name_bytes = 0
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.UnparsedEntityDeclHandler = self._doctype
        parser.ExternalEntityRefHandler = self._doctype
        self._install(on_start, on_end, capture)

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes of the document. Raises Refused."""
        # expat takes UTF-16 for what it is, with a mark or without, whatever it was told.
        head = bytes(chunk[: max(0, 4 - self._fed)])
        if b"\x00" in head or (not self._fed and head[:1] in (b"\xfe", b"\xff")):
            raise self._refuse("hostile_encoding", "is written in UTF-16 or the like; Moodle writes UTF-8 only")
        for begin in range(0, len(chunk), _FEED):
            piece = chunk[begin : begin + _FEED]
            try:
                self._parser.Parse(piece, False)
            except expat.ExpatError as error:
                raise self._malformed(error) from error
            except RecursionError as error:  # pragma: no cover - expat's own bounds come first
                raise self._refuse("hostile_xml", "is nested too deeply") from error
            self._fed += len(piece)
            self._check_text()
            if len(self._parser.intern) > self._names:
                self._check_names()
            # What expat holds back is one unfinished tag, comment or instruction.
            if self._fed - max(self._parser.CurrentByteIndex, 0) > self._limits.xml_token:
                raise self._refuse("hostile_xml", f"has a tag longer than {self._limits.xml_token} bytes")

    def close(self) -> None:
        """The document is over. Raises Refused ``bad_xml`` where it was not whole."""
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise self._malformed(error) from error

    def _install(self, on_start: OnStart | None, on_end: OnEnd | None, capture: frozenset[str]) -> None:
        # Closures, not methods: these two run once for every element of files with millions of them.
        parser, depth, most = self._parser, 0, self._limits.xml_depth
        parts = self._parts

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > most:
                raise self._refuse("hostile_xml", f"is nested more than {most} deep")
            if name in capture:
                parts.clear()
                parser.CharacterDataHandler = parts.append
            if on_start:
                on_start(depth, name, attributes)

        def end(name: str) -> None:
            nonlocal depth
            if name in capture:
                parser.CharacterDataHandler = None
                if on_end:
                    on_end(depth, name, "".join(parts))
                parts.clear()
            elif on_end:
                on_end(depth, name, None)
            depth -= 1

        parser.StartElementHandler = start
        parser.EndElementHandler = end

    def _check_text(self) -> None:
        # Checked after each piece, not for each part: a piece brings no more than its own size.
        if len(self._parts) > 8 and sum(map(len, self._parts)) > self._limits.xml_text:
            raise self._refuse("hostile_xml", f"has a field longer than {self._limits.xml_text} characters")

    def _check_names(self) -> None:
        # expat and its Python side keep every name they ever met, so that names alone could fill the memory.
        known = self._parser.intern
        self._name_bytes += sum(map(len, islice(known, self._names, None)))
        self._names = len(known)
        if self._names > self._limits.xml_names or self._name_bytes > self._limits.xml_name_bytes:
            raise self._too_many_names()

    def _too_many_names(self) -> Refused:
        return self._refuse("hostile_xml", "uses more different names of elements and attributes than any backup")

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            raise self._refuse(
                "hostile_encoding", f"says it is written in {encoding}; Moodle writes UTF-8 only"
            )

    def _doctype(self, *_: object) -> NoReturn:
        raise self._refuse("hostile_entity", "declares a document type or entities")

    def _refuse(self, code: str, what: str) -> Refused:
        return refuse(code, f"{self.where} {what}.", _HINT, member=self.where)

    def _malformed(self, error: expat.ExpatError) -> Refused:
        message = f"{printable(self.where)} is not well-formed XML: {error}."
        hint = "The file is damaged, or was changed by another program. Take another copy of the backup."
        return Refused(
            message, hint, code="bad_xml", details={"member": printable(self.where), "line": error.lineno}
        )


def read_xml(chunks: Iterable[bytes | memoryview], reader: XmlReader) -> None:
    """Feeds a whole document to a reader and closes it. Raises what the reader raises."""
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()


class Unseen(XmlReader):
    """Checks that XML is well formed and declares nothing, without a look at its elements."""

    def _install(self, on_start: OnStart | None, on_end: OnEnd | None, capture: frozenset[str]) -> None:
        return


SMALL = 1024
"""Bytes. Of a backup's thousands of documents most are smaller, and many the same: an activity without comments."""


def lacks(document: bytes, names: frozenset[str]) -> bool:
    """Whether a small document can be passed over: it is sound, and has no element of one of those names."""
    return not (names and _mention(names).search(document)) and _is_sound(document)


@lru_cache(maxsize=256)
def _mention(names: frozenset[str]) -> re.Pattern[bytes]:
    words = "|".join(sorted(map(re.escape, names)))
    return re.compile(rf"<(?:{words})[\s/>]".encode())


@lru_cache(maxsize=2048)
def _is_sound(document: bytes) -> bool:
    """Whether ``XmlReader`` takes it. One that is not is to be read where its name is known, and refused by it."""
    # With fewer tags than that nothing is nested too deeply, and so small none of the other bounds is reached.
    reader = (Unseen if document.count(b"<") < LIMITS.xml_depth else XmlReader)("")
    try:
        read_xml((document,), reader)
    except Refused:
        return False
    return True


class RecordReader(XmlReader):
    """Hands over each element called one of ``names`` at ``depth`` as a flat mapping, and lets the rest
    stream by.

    The mapping holds the element's attributes and the text of those direct children that ``fields`` names;
    NULLs are left out. Without fields only the attributes are read, which is the way to count.
    """

    def __init__(
        self,
        where: str,
        depth: int,
        names: frozenset[str],
        fields: frozenset[str],
        on_record: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        self._shape = depth, names, on_record
        super().__init__(where, capture=fields)

    def _install(self, on_start: OnStart | None, on_end: OnEnd | None, capture: frozenset[str]) -> None:
        # Written out again instead of built on the general closures: a users.xml has millions of elements,
        # and each call less is a second.
        parser, most, parts = self._parser, self._limits.xml_depth, self._parts
        at, names, on_record = self._shape
        inside = at + 1
        depth = 0
        record: dict[str, str] | None = None

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth, record
            depth += 1
            if depth == inside:
                if name in capture and record is not None:
                    parser.CharacterDataHandler = parts.append
            elif depth == at:
                record = attributes if name in names else None
            elif depth > most:
                raise self._refuse("hostile_xml", f"is nested more than {most} deep")

        def end(name: str) -> None:
            nonlocal depth, record
            if depth == inside:
                if name in capture and record is not None:
                    parser.CharacterDataHandler = None
                    text = "".join(parts)
                    parts.clear()
                    if text != NULL:
                        record[name] = text
            elif depth == at and record is not None:
                on_record(name, record)
                record = None
            depth -= 1

        parser.StartElementHandler = start
        parser.EndElementHandler = end
