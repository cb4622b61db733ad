"""What a course of a live site holds, asked of the host's PHP and read as it streams in. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moodlectl.errors import Failed
from moodlectl.mbz import likeness
from moodlectl.mbz.identityparts import PARTS
from moodlectl.site.port import ALL, Identity, OnIdentity, Part
from moodlectl.site.runner import Runner

_KEPT = ("section", "availability", "intro")


def identities_params(course_id: int, part: Part = ALL) -> dict[str, Any]:
    """The question, with the places where activities keep what they hold."""
    return {
        "course_id": course_id,
        "with_users": part.with_users,
        "only": None if part.only is None else sorted(part.only),
        "without": sorted(part.without),
        "parts": [place.as_question() for place in PARTS],
    }


def identities(
    runner: Runner, course_id: int, receive: OnIdentity, part: Part = ALL, *, acting: str | None = None
) -> None:
    """Hand over what the course holds. Raises AccessError, NotFound, Unreachable, Failed."""
    count = 0

    def counted(identity: Identity) -> None:
        nonlocal count
        count += 1
        receive(identity)

    feed, end = lines(counted)
    params = identities_params(course_id, part)
    answer = runner.fetch("identities", params, feed, acting=acting)
    end()
    if answer["count"] != count:
        raise Failed(
            f"{count} of {answer['count']} things arrived of what the course holds.",
            "Try again; if it happens again, report it.",
            code="incomplete_answer",
        )


def lines(receive: OnIdentity) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """A sink for the pieces of the answer, and what to call when there are no more."""
    rest = b""

    def feed(piece: bytes) -> None:
        nonlocal rest
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            receive(read_identity(line))

    def end() -> None:
        if rest:
            receive(read_identity(rest))

    return feed, end


def read_identity(line: bytes) -> Identity:
    """One line of the answer: ``[kind, [key words], {facts}]``. Raises Failed where it is none."""
    try:
        kind, key, facts = json.loads(line)
        words = tuple(str(word) for word in key)
        told = {str(name): str(value) for name, value in dict(facts).items()}
    except (ValueError, TypeError) as error:
        raise Failed(
            "The site's host answered with something that is not understood.", code="bad_answer"
        ) from error
    if kind == "activity":
        told = likeness.settings(told) | {name: told[name] for name in _KEPT if name in told}
    return str(kind), words, told
