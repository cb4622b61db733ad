"""Another project, about resources and forums, is distributed as ``moodlectl`` with our import and command name.

Installed into one environment the two overwrite each other's files, and which one a command then runs is luck. That
is not worth a surprise on a live site, so we do not start beside it. Only the names in the folder are looked at:
``importlib.metadata`` would cost a third of the start-up time.
"""

from __future__ import annotations

import os
import sys

OURS = "moodlectl-backup"


def refuse_the_other_moodlectl() -> None:
    """End with exit status 3 and the remedy when the other ``moodlectl`` lies in the same environment."""
    for folder in _environment_folders():
        other = _other_distribution(folder)
        if other is not None:
            raise SystemExit(_complain(other))


def _environment_folders() -> list[str]:
    """Where this package lies, and, should that be a checkout, where the environment keeps its packages."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(sys.prefix, "lib", python, "site-packages")  # noqa: PTH118
    return [here] if here == packages else [here, packages]


def _other_distribution(folder: str) -> str | None:
    """The metadata folder of the distribution named exactly ``moodlectl`` beside this package, if any."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return None
    for name in names:
        stem, dot, ending = name.lower().rpartition(".")
        if dot and ending in ("dist-info", "egg-info") and stem.split("-", 1)[0] == "moodlectl":
            return name
    return None


def _complain(found: str) -> int:
    sys.stderr.write(
        f"error: another project named 'moodlectl' is installed in this environment ({found}); it and "
        f"{OURS} share one command and one import name and overwrite each other's files.\n"
        f"hint: uninstall both here and install {OURS} in an environment of its own, for example with "
        f"'pipx install {OURS}'.\n"
    )
    return 3
