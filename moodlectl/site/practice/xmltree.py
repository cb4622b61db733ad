"""Small XML documents in Moodle's backup dialect: built, read without entities, written as Moodle writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, TreeBuilder, indent, tostring
from xml.parsers import expat

from moodlectl.errors import Refused

NULL = "$@NULL@$"
HEADER = b'<?xml version="1.0" encoding="UTF-8"?>\n'
# What XML 1.0 cannot carry at all.
_FORBIDDEN = {code: None for code in range(32) if code not in (9, 10, 13)}

Value = str | int | float | None


def node(tag: str, /, *children: Element, id_: int | None = None, **fields: Value) -> Element:
    """An element with that id attribute, one child per field (None is Moodle's NULL), then the children."""
    element = Element(tag)
    if id_ is not None:
        element.set("id", str(id_))
    for name, value in fields.items():
        put(element, name, value)
    element.extend(children)
    return element


def put(parent: Element, name: str, value: Value) -> None:
    """Set the text of the child called ``name``, adding the child where there is none."""
    child = parent.find(name)
    if child is None:
        child = Element(name)
        parent.append(child)
    child.text = NULL if value is None else str(value).translate(_FORBIDDEN)


def text(parent: Element, name: str, default: str = "") -> str:
    """The text of a child; ``default`` where it is missing, empty or NULL."""
    found = parent.findtext(name)
    return found if found and found != NULL else default


def number(parent: Element, name: str, default: int = 0) -> int:
    """The whole number in a child; ``default`` where there is none."""
    return to_int(parent.findtext(name), default)


def to_int(word: str | None, default: int = 0) -> int:
    """A word as a whole number; ``default`` where it is none."""
    try:
        return int(word or "")
    except ValueError:
        return default


def ident(element: Element) -> int:
    """The id attribute, 0 where there is none."""
    return to_int(element.get("id"))


def parse(data: bytes, where: str) -> Element:
    """A document as a tree. Raises Refused ``not_a_backup`` where it is broken or declares a document type."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def doctype(*_: object) -> None:
        raise Refused(f"{where} declares a document type; Moodle never writes one.", code="not_a_backup")

    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
        root = builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise Refused(
            f"{where} in the backup is not well-formed XML: {error}.",
            "The file is damaged. Take another copy of the backup.",
            code="not_a_backup",
            details={"member": where},
        ) from error
    for element in root.iter():  # the indentation is no content
        if len(element) and element.text and not element.text.strip():
            element.text = None
        element.tail = None
    return root


def serialise(root: Element) -> bytes:
    """The document as Moodle lays it out: a header, two spaces of indentation, no self-closing tags."""
    indent(root)
    body: bytes = tostring(root, encoding="utf-8", short_empty_elements=False)
    for element in root.iter():
        element.tail = None
        if len(element):
            element.text = None
    return HEADER + body.removeprefix(b"<?xml version='1.0' encoding='utf-8'?>\n")


def walk(roots: Iterable[Element]) -> Iterator[Element]:
    """Every element of every tree."""
    for root in roots:
        yield from root.iter()


def drop(root: Element, *tags: str) -> None:
    """Empty every element below ``root`` that bears one of those names; the element itself stays."""
    for element in root.iter():
        if element.tag in tags:
            for child in list(element):
                element.remove(child)
            element.text = None
