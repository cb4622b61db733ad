"""Records of one XML document by where they stand in it, handed over with the records around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from moodlectl.mbz.archive import Member
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.xmlstream import NULL, OnEnd, OnStart, XmlReader

Path = tuple[str, ...]


@dataclass
class Record:
    """One element: its attributes and the texts of its direct children; ``above`` are the records it stands in.

    NULLs are left out. ``notes`` is for whoever reads it: what its inner records had to say.
    """

    path: Path
    fields: dict[str, str]
    above: list[Record]
    notes: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A field's text, empty where there is none."""
        return self.fields.get(name, "")


OnRecord = Callable[[Record], None]


def passes_over(member: Member, handlers: Mapping[Path, OnRecord]) -> bool:
    """Whether a document holds no record at any of those paths, as can be told without parsing it."""
    return member.lacks(*{way[-1] for way in handlers})


class RecordPaths(XmlReader):
    """Hands over each element that stands at one of the paths when it closes; the outer after the inner ones.

    A path is the names of the elements from the root down, the root's included. Raises Refused as XmlReader does.
    """

    def __init__(self, where: str, handlers: Mapping[Path, OnRecord], limits: Limits = LIMITS) -> None:
        self._handlers = handlers
        # Moodle writes a record's fields before the records within it, so those are known to the inner ones.
        self._open: list[Record] = []
        super().__init__(where, limits=limits)

    def _install(self, on_start: OnStart | None, on_end: OnEnd | None, capture: frozenset[str]) -> None:
        parser, parts, most = self._parser, self._parts, self._limits.xml_depth
        opened = self._open
        # Where we are among the paths, from the root down; how deep below that, where whole branches are passed over.
        trail = [_branches(self._handlers)]
        aside = 0
        leaf = False

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal aside, leaf
            if len(trail) + aside > most:
                raise self._refuse("hostile_xml", f"is nested more than {most} deep")
            if leaf:  # what has children is no field
                parser.CharacterDataHandler = None
                parts.clear()
                leaf = False
            if aside:
                aside += 1
                return
            here = trail[-1]
            if name in here.inner:
                trail.append(inner := here.inner[name])
                if inner.handler is not None:
                    opened.append(Record(inner.way, attributes, list(opened)))
                return
            aside = 1
            if here.handler is not None:
                leaf = True
                parser.CharacterDataHandler = parts.append

        def end(name: str) -> None:
            nonlocal aside, leaf
            if not aside:
                if (handler := trail.pop().handler) is not None:
                    handler(opened.pop())
                return
            aside -= 1
            if leaf:
                parser.CharacterDataHandler = None
                text = "".join(parts)
                parts.clear()
                leaf = False
                if text != NULL:
                    opened[-1].fields[name] = text

        parser.StartElementHandler = start
        parser.EndElementHandler = end


@dataclass(slots=True)
class _Branch:
    """An element that is, or leads to, a record that is wanted."""

    way: Path = ()
    handler: OnRecord | None = None
    inner: dict[str, _Branch] = field(default_factory=dict)


def _branches(handlers: Mapping[Path, OnRecord]) -> _Branch:
    root = _Branch()
    for way, handler in handlers.items():
        here = root
        for depth, name in enumerate(way, 1):
            here = here.inner.setdefault(name, _Branch(way[:depth]))
        here.handler = handler
    return root
