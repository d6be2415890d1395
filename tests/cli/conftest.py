"""A small network, a small data set in Broden's layout, and a workspace dissected once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from cnnlens.data.synthetic import make_shapes
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO

from .runner import cnnlens

SIDE, IMAGES = 24, 70  # more than two blocks of a store


def save_net(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    net = ZOO["demo_net"].make(3).eval()
    half = (0.5, 0.5, 0.5)
    save_checkpoint(path, net, "zoo:demo_net", Preprocess((SIDE, SIDE), half, half), list("abc"))
    return path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def model(place: Path) -> Path:
    return save_net(place / "net.pt", 0)


@pytest.fixture(scope="session")
def other(place: Path) -> Path:
    return save_net(place / "other.pt", 1)


@pytest.fixture(scope="session")
def shapes(place: Path) -> Path:
    return make_shapes(place / "shapes", IMAGES, SIDE)


@pytest.fixture(scope="session")
def dissected(place: Path, model: Path, shapes: Path) -> Path:
    """A workspace that nobody may change; `workspace` is a copy."""
    path = place / "dissected"
    answer = cnnlens("dissect", model, "-d", shapes, "-l", "conv2", "-w", path, "--chance", 2)
    assert answer.code == 0, answer.err
    return path


@pytest.fixture
def workspace(dissected: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dissected, tmp_path / "ws"))


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's variables out, and the default workspace out of this folder."""
    for name in ("CNNLENS_WORKSPACE", "CNNLENS_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
