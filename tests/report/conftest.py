from __future__ import annotations

from pathlib import Path

import pytest

from .fake_workspace import make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "cnnlens-out", {"features.12": 40, "features.9": 24})


@pytest.fixture(scope="session")
def read_only_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `workspace`, shared by tests that only look."""
    root = tmp_path_factory.mktemp("shared") / "cnnlens-out"
    return make_workspace(root, {"features.12": 40, "features.9": 24})
