"""Last year's courses become this year's on the same site: planned as a whole, and each done step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from moodlectl.actions import planning
from moodlectl.actions.moves import Moves
from moodlectl.actions.steps import Step
from moodlectl.plans import Plan
from moodlectl.site.port import OnProgress, Site, no_progress

KIND: Final = "rollover"


class Rollover:
    """How a rollover is done: the options' ``site`` is the name of the only one there is, ``guards`` its own."""

    kind = KIND

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._moves = Moves(str(options["site"]), str(options["site"]), options.get("guards") or {})

    @property
    def sites(self) -> Sequence[str]:
        """The name of the site."""
        return (self._moves.source,)

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        """The steps of one course: backup, restore, finish, and what becomes of the old one."""
        return self._moves.steps(spec)


def plan(
    plan: Plan, site: Site, today: date, on_progress: OnProgress = no_progress, *, lean: bool = True
) -> planning.Resolution:
    """What that plan means on the site, every problem at once. Reads only. Raises AccessError, Unreachable.

    ``lean``: no file is packed, the new courses take theirs from the site's own pool.
    """
    return planning.resolve(plan, KIND, (site, site), today, on_progress, lean=lean)
