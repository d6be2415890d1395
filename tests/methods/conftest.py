"""What the tests of methods share: a world that a module's `made` has measured once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed; sizes and times are the same."""
    return Path(shutil.copytree(made, tmp_path / "world"))
