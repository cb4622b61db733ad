"""The arrow of the house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import moodlectl

PACKAGE = Path(moodlectl.__file__).parent
LEAVES = {
    *("ledger", "ledger_schema", "ledger_batch", "limits", "errors", "findings", "config", "config_words"),
    *("credentials", "secret", "version", "neighbours", "spent"),
}
MAY = {
    "cli": {"cli", "actions", "site.opening", "site.port", "mbz", "plans", "store", *LEAVES},
    "actions": {"actions", "site.port", "site.opening", "mbz", "plans", "store", *LEAVES},
    "plans": {"plans", "errors"},
    "mbz": {"mbz", "errors"},
    "store": {"store", "mbz", "site.port", "site.contents", "errors"},
    "site.port": {"errors", "findings"},
    "site": {"site", "mbz", *LEAVES},
}
ONE_HOME = {
    "typer": {"cli"},
    "rich": {"cli"},
    "requests": {"site"},
    "tenacity": {"site"},
    "keyring": {"credentials"},
    "tomlkit": {"config"},
    "fsspec": {"store"},
    "subprocess": {"site", "credentials"},
}


def modules() -> list[tuple[str, ast.Module]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def in_room(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def test_nothing_is_imported_against_the_arrow() -> None:
    wrong = []
    for module, tree in modules():
        rooms = sorted((r for r in MAY if in_room(module, r)), key=len, reverse=True)
        if not rooms:
            continue
        for name in imported(tree):
            if not name.startswith("moodlectl."):
                continue
            target = name.removeprefix("moodlectl.")
            if not any(in_room(target, allowed) for allowed in MAY[rooms[0]]):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_each_library_has_one_home() -> None:
    wrong = []
    for module, tree in modules():
        for name in imported(tree):
            library = name.partition(".")[0]
            homes = ONE_HOME.get(library)
            if homes and not any(in_room(module, home) for home in homes):
                wrong.append(f"{module} imports {library}")
    assert wrong == []


def test_no_command_goes_through_a_shell_of_this_machine() -> None:
    wrong = [
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "shell" and not isinstance(node.value, ast.Name)
        if isinstance(node.value, ast.Constant) and node.value.value is True
    ]
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = [
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input")
        if not in_room(module, "cli")
    ]
    assert wrong == []
