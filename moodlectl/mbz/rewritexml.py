"""XML changed while it streams by: what no rule touches leaves byte for byte as it came."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from xml.sax.saxutils import escape

from moodlectl.mbz.limits import LIMITS, MIB, Limits
from moodlectl.mbz.names import refuse
from moodlectl.mbz.xmlstream import XmlReader

_FEED = 64 * 1024
_HELD = 64 * MIB
_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_BLANK = b" \t\r\n"
# What XML 1.0 cannot hold; a file's text never has it, a person's map or a site's answer might.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Verdict(enum.Enum):
    """What becomes of an element: it passes, goes with all it holds, waits until a field of it is known, or passes
    with all it holds, of which nothing is asked."""

    PASS = 1
    DROP = 2
    HOLD = 3
    KEEP = 4


class Element:
    """An open element: its name, attributes, and the texts of those fields (leaves) a rule wanted to see."""

    __slots__ = ("attributes", "fields", "held", "leaf", "name", "note", "start")

    def __init__(self, name: str, attributes: dict[str, str], start: int) -> None:
        self.name, self.attributes, self.start = name, attributes, start
        self.fields: dict[str, str] = {}
        self.leaf = True
        self.held = False
        self.note: object = None


class Rules:
    """What is done to one document. The base changes nothing.

    ``capture`` names the leaves whose texts are wanted (None for all of them), and ``change`` those whose
    texts may be replaced. ``path`` is the open elements, outermost first.
    """

    capture: frozenset[str] | None = frozenset()
    change: frozenset[str] = frozenset()

    def enter(self, path: list[Element], element: Element) -> Verdict:
        """An element begins inside ``path``."""
        return Verdict.PASS

    def leaf(self, path: list[Element], name: str, text: str) -> str | Verdict | None:
        """A leaf of ``path[-1]`` ends: a new text for it, None to keep it, or what becomes of ``path[-1]``."""
        return None

    def closed(self, path: list[Element], element: Element) -> None:
        """An element that is no leaf, and was not dropped, ends."""

    def dropped(self, element: Element) -> None:
        """An element was dropped."""


class XmlEditor(XmlReader):
    """Applies rules to a document that is fed in pieces, and hands what comes out to ``sink`` (None: nobody).

    Memory is bounded by the fields of one record. Raises what XmlReader raises.
    """

    def __init__(
        self,
        where: str,
        rules: Rules,
        sink: Callable[[bytes], object] | None,
        limits: Limits = LIMITS,
    ) -> None:
        self._rules, self._sink = rules, sink
        self._raw = bytearray()
        self._base = self._cursor = 0
        self._trim = False
        self._edits: list[tuple[int, int, bytes]] = []
        self._path: list[Element] = []
        self._held: list[Element] = []
        self._skip = self._skip_end = 0
        self._last = _BLANK[0]
        super().__init__(where, limits=limits)

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes of the document. Raises Refused."""
        for begin in range(0, len(chunk), _FEED):
            piece = chunk[begin : begin + _FEED]
            self._raw += piece
            super().feed(piece)
            self._flush(max(self._parser.CurrentByteIndex, 0))
            if len(self._raw) > _HELD:
                raise refuse("hostile_xml", f"{self.where} has a record larger than {_HELD} bytes.")

    def close(self) -> None:
        """The document is over. Raises Refused ``bad_xml`` where it was not whole."""
        super().close()
        self._flush(self._base + len(self._raw), last=True)

    def _install(self, *_: object) -> None:
        parser, most, rules, path = self._parser, self._limits.xml_depth, self._rules, self._path
        longest = self._limits.xml_text
        parts: list[str] = []
        length = depth = kept = 0

        def text(data: str) -> None:
            nonlocal length
            if length < longest:
                parts.append(data)
            length += len(data)

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth, length, kept
            depth += 1
            if depth > most:
                raise self._refuse("hostile_xml", f"is nested more than {most} deep")
            if kept or self._skip:
                return
            element = Element(name, attributes, parser.CurrentByteIndex)
            if path:
                path[-1].leaf = False
                if self._held and len(path) > 1 and path[-2].held:
                    self._release(path[-2])
            verdict = rules.enter(path, element)
            path.append(element)
            if verdict is Verdict.DROP:
                self._drop(element)
                parser.CharacterDataHandler = None
                return
            if verdict is Verdict.KEEP:
                element.leaf = False
                parser.CharacterDataHandler = None
                kept = depth
                return
            if verdict is Verdict.HOLD:
                element.held = True
                self._held.append(element)
            parts.clear()
            length = 0
            wanted = rules.capture is None or name in rules.capture
            parser.CharacterDataHandler = text if wanted else None

        def end(name: str) -> None:
            nonlocal depth, kept
            if kept:
                if kept == depth:
                    kept = 0
                    path.pop()
                depth -= 1
                return
            if self._skip:
                if self._skip == depth:
                    self._resume()
                depth -= 1
                return
            depth -= 1
            parser.CharacterDataHandler = None
            element = path.pop()
            if not element.leaf:
                rules.closed(path, element)
            elif path and (rules.capture is None or name in rules.capture):
                said = "".join(parts)
                path[-1].fields[name] = said[:200]
                self._leaf(element, rules.leaf(path, name, said))
            if element.held:
                self._release(element)

        parser.StartElementHandler = start
        parser.EndElementHandler = end

    def _leaf(self, element: Element, answer: str | Verdict | None) -> None:
        owner = self._path[-1]
        if isinstance(answer, str):
            self._replace(element, answer)
        elif answer is Verdict.PASS and owner.held:
            self._release(owner)
        elif answer is Verdict.DROP and owner.held:
            self._drop(owner)

    def _replace(self, element: Element, text: str) -> None:
        tag = _TAG.match(self._raw, element.start - self._base)
        at = self._parser.CurrentByteIndex
        new = escape(_ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)).encode("utf-8")
        if tag is None or element.name not in self._rules.change:
            raise AssertionError(f"{element.name} was not held back to be changed")
        end = self._base + tag.end()
        if tag[0].endswith(b"/>"):
            closing = f"</{element.name}>".encode()
            self._edits.append((element.start, end, bytes(tag[0][:-2]) + b">" + new + closing))
        else:
            self._edits.append((end, at, new))

    def _release(self, element: Element) -> None:
        element.held = False
        if element in self._held:
            self._held.remove(element)

    def _drop(self, element: Element) -> None:
        """Nothing of this element comes out; it is the innermost one open. Those around it stay."""
        for outer in [held for held in self._held if held.start < element.start]:
            self._release(outer)
        tag = _TAG.match(self._raw, element.start - self._base)
        # An element like <this/> ends with its own tag; expat tells its end from behind it.
        self._skip_end = self._base + tag.end() if tag and tag[0].endswith(b"/>") else 0
        self._held.clear()
        self._edits = [edit for edit in self._edits if edit[0] < element.start]
        self._flush(element.start, released=element)
        if self._last not in _BLANK:
            # Where all of a group goes, something blank must stay: Moodle takes an empty one for a text.
            self._emit(b"\n")
        self._skip = len(self._path)
        self._path.pop()
        self._rules.dropped(element)

    def _resume(self) -> None:
        tag = _TAG.match(self._raw, self._parser.CurrentByteIndex - self._base)
        assert tag or self._skip_end
        self._cursor = self._skip_end or self._base + (tag.end() if tag else 0)
        self._trim = True
        self._skip = 0

    def _flush(self, until: int, *, last: bool = False, released: Element | None = None) -> None:
        """Lets everything go out that no rule can still change, and forgets it."""
        if self._skip:
            self._forget(until)
            return
        for element in (*self._held[:1], *self._path[-1:]):
            waits = element.held or (element.leaf and element.name in self._rules.change)
            if element is not released and waits and not last:
                until = min(until, element.start)
        if self._trim:
            while self._cursor < until and self._raw[self._cursor - self._base] in _BLANK:
                self._cursor += 1
            self._trim = self._cursor >= until
        done = 0
        for begin, end, new in self._edits:
            # An edit lies wholly before ``until``, or wholly behind it.
            if end > until:
                break
            self._out(begin)
            self._emit(new)
            self._cursor = end
            done += 1
        del self._edits[:done]
        self._out(until)
        self._forget(self._cursor)

    def _out(self, until: int) -> None:
        if until > self._cursor:
            self._emit(bytes(self._raw[self._cursor - self._base : until - self._base]))
            self._cursor = until

    def _emit(self, data: bytes) -> None:
        if self._sink and data:
            self._sink(data)
            self._last = data[-1]

    def _forget(self, until: int) -> None:
        step = until - self._base
        if step > 0:
            del self._raw[:step]
            self._base = until
