"""Starting up: quickly, and never beside the other project of the same name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from moodlectl import neighbours
from moodlectl.version import __version__

HEAVY = {"requests", "keyring", "tomlkit", "tenacity", "isal", "sqlite3", "platformdirs", "urllib3"}


def loaded_by(*words: str) -> tuple[set[str], str]:
    code = (
        "import sys\n"
        f"sys.argv = ['moodlectl', *{list(words)!r}]\n"
        "from moodlectl.start import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, loaded = run.stdout.strip().splitlines()
    return set(loaded.split()[1:]), "\n".join(said)


def test_version_loads_neither_typer_nor_anything_heavy() -> None:
    loaded, said = loaded_by("--version")
    assert said == f"moodlectl {__version__}"
    assert loaded & (HEAVY | {"typer", "click", "rich"}) == set()


def test_help_loads_nothing_heavy() -> None:
    loaded, said = loaded_by("--help")
    assert "backup" in said
    assert "restore" in said
    assert loaded & HEAVY == set()


def test_help_of_a_command_loads_nothing_heavy() -> None:
    loaded, said = loaded_by("restore", "--help")
    assert "--replace" in said
    assert loaded & HEAVY == set()


def test_the_other_projects_metadata_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "moodlectl_backup-0.1.0.dist-info").mkdir()
    assert neighbours._other_distribution(str(tmp_path)) is None
    (tmp_path / "moodlectl-1.2.0.dist-info").mkdir()
    assert neighbours._other_distribution(str(tmp_path)) == "moodlectl-1.2.0.dist-info"


def test_beside_the_other_project_the_command_ends_with_a_clear_error(tmp_path: Path) -> None:
    package = Path(neighbours.__file__).parent
    (tmp_path / "moodlectl").symlink_to(package)
    (tmp_path / "moodlectl-1.2.0.dist-info").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import moodlectl.start; moodlectl.start.main()"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert "another project named 'moodlectl'" in run.stderr
    assert "pipx install moodlectl-backup" in run.stderr
