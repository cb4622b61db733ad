"""What a backup may ask of us before we call it hostile.

Every bound stands here, far above what any real course reaches, and low enough that a file made to hurt is
refused within seconds and a hundred megabytes of memory.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """The bounds of one reading. Sizes are bytes.

    ``ratio`` is how many times larger than the file its content may become; it counts only above
    ``ratio_floor``, because a few kilobytes of XML may well shrink a thousandfold. ``xml_token`` is the
    largest tag, comment or instruction, ``xml_text`` the longest text of a field that is kept, ``xml_names`` and
    ``xml_name_bytes`` how many different names of elements and attributes one document may use, which a parser
    remembers all: Moodle's use some hundreds.
    """

    members: int = 500_000
    name_bytes: int = 1000
    name_parts: int = 32
    ratio: int = 250
    ratio_floor: int = 128 * MIB
    pax_bytes: int = 64 * KIB
    index_bytes: int = 64 * MIB
    manifest_bytes: int = 64 * MIB
    manifest_items: int = 100_000
    xml_depth: int = 128
    xml_token: int = 256 * KIB
    xml_text: int = 1 * MIB
    xml_names: int = 10_000
    xml_name_bytes: int = 1 * MIB
    kept_ids: int = 500_000
    problems: int = 200


LIMITS = Limits()
