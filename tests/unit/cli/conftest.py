"""A home with nothing in it but a practice site, the default one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = tmp_path / "config.toml"
    settings.write_text(f'default = "p"\n[sites.p]\nkind = "practice"\nfolder = "{tmp_path / "site"}"\n', encoding="utf-8")
    monkeypatch.setenv("MOODLECTL_CONFIG", str(settings))
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
