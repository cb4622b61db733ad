"""How hard a site has it at the moment, asked on its host (``php/pressure.php``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moodlectl.site.port import Pressure
from moodlectl.site.runner import Runner


def pressure(runner: Runner) -> Pressure:
    """Load, waiting tasks, free space and maintenance. Reads only."""
    return read_pressure(runner.ask("pressure", {}))


def read_pressure(reply: Mapping[str, Any]) -> Pressure:
    """What ``moodlectl_call_pressure`` answered."""
    load, free = reply.get("load"), reply.get("free")
    return Pressure(
        load=None if load is None else float(load),
        tasks=int(reply["tasks"]),
        free=None if free is None else int(free),
        maintenance=bool(reply["maintenance"]),
    )
