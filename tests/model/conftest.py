"""What tests of opening networks share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own: what is found of a network is kept there, and read again."""
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
