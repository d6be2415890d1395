"""Paths that Python gives mean what they meant where they were given, whatever `os.chdir` does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cnnlens
from cnnlens.errors import UsageError

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and home: a factory, weights, names of classes, and images."""
    space: dict[str, object] = {}
    exec(FACTORY, space)
    (tmp_path / "net.py").write_text(FACTORY)
    torch.save(space["make"]().state_dict(), tmp_path / "net.pt")  # type: ignore[operator]
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    draw = np.random.default_rng(0)
    for number in range(4):
        photo = draw.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("at", ["", "~/"])
@pytest.mark.parametrize(
    ("model", "more"),
    [("net.py:make", {}), ("net.pt", {"arch": "net.py:make"}), (None, {})],
)
def test_what_was_named_stays_when_the_current_folder_changes(here, monkeypatch, at, model, more):
    named = {key: f"{at}{value}" for key, value in more.items()}
    lens = cnnlens.Investigation(
        f"{at}{model}" if model else plain_net(),
        f"{at}out",
        classes=f"{at}names.txt",
        image_size=16,
        quiet=True,
        **named,
    )
    monkeypatch.chdir("elsewhere")
    assert lens.model.classes == ["cat", "dog"]
    found = lens.units(data="../photos" if not at else "~/photos", layer="conv1")
    lens.cam(image=f"{at or '../'}photos/0.png", layer="conv1", method="gradcam")
    assert found.folder.is_relative_to(here / "out") and found.folder.is_absolute()
    assert (here / "out" / "cam").is_dir() and not [*(here / "elsewhere").iterdir()]
    (data,) = json.loads((here / "out" / "workspace.json").read_text())["data"]
    assert data["path"] == str(here / "photos")
    monkeypatch.chdir(here)
    lens.report(site=f"{at}site")
    assert (here / "site" / "index.html").is_file()


def plain_net() -> nn.Module:
    space: dict[str, object] = {}
    exec(FACTORY, space)
    return space["make"]()  # type: ignore[operator]


def test_a_home_that_nobody_has_is_no_path(here):
    with pytest.raises(UsageError, match="workspace='~nobody-at-all/out' is no path"):
        cnnlens.Investigation("net.py:make", "~nobody-at-all/out")
