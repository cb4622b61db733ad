"""Every kind of batch, by the name it has in the ledger: with it a job can be gone on with from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from moodlectl.actions.steps import Recipe
from moodlectl.errors import Refused

KINDS: dict[str, str] = {
    "rollover": "moodlectl.actions.rollover:Rollover",
    "migrate": "moodlectl.actions.migrate:Migrate",
    "seed": "moodlectl.actions.seeding:Seed",
}
"""Kind of job → ``module:class`` of its recipe, which is made from the job's options."""


def recipe(kind: str, options: Mapping[str, Any]) -> Recipe:
    """How a job of that kind is done. Raises Refused for a kind that this moodlectl does not know."""
    if kind not in KINDS:
        raise Refused(
            f"This moodlectl does not know how a job of the kind '{kind}' is done.",
            "It was begun by another version; go on with it there.",
            code="kind_unknown",
        )
    module, _, name = KINDS[kind].partition(":")
    made: Recipe = getattr(import_module(module), name)(options)
    return made
