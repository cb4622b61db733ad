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
        handlers, opened = self._handlers, self._open
        path: list[str] = []
        prefixes = {way[:length] for way in handlers for length in range(1, len(way) + 1)}
        # How deep we are below the deepest element that may lead to a record: whole branches are passed over.
        aside = 0
        leaf: str | None = None

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal aside, leaf
            if len(path) + aside >= most:
                raise self._refuse("hostile_xml", f"is nested more than {most} deep")
            if leaf is not None:  # what has children is no field
                parser.CharacterDataHandler = None
                parts.clear()
                leaf = None
            way = (*path, name)
            if not aside and way in prefixes:
                path.append(name)
                if way in handlers:
                    opened.append(Record(way, dict(attributes), list(opened)))
                return
            if not aside and opened and len(opened[-1].path) == len(path):
                leaf = name
                parser.CharacterDataHandler = parts.append
            aside += 1

        def end(name: str) -> None:
            nonlocal aside, leaf
            if aside:
                aside -= 1
                if leaf is not None and opened:
                    parser.CharacterDataHandler = None
                    text = "".join(parts)
                    parts.clear()
                    leaf = None
                    if text != NULL:
                        opened[-1].fields[name] = text
                return
            if opened and len(opened[-1].path) == len(path):
                record = opened.pop()
                handlers[record.path](record)
            path.pop()

        parser.StartElementHandler = start
        parser.EndElementHandler = end
