"""An assumed input size beside the images' own: which one is taken, and that it stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.runner import cnnlens

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    '''Sure of itself where images are as wide as it likes them; right where `right` says so.'''
    def __init__(self, likes, least=1):
        super().__init__()
        self.conv, self.likes, self.least = nn.Conv2d(3, 3, 1), likes, least
    def forward(self, x):
        if x.shape[-1] < self.least:
            raise RuntimeError("too small")
        colours = self.conv(x).mean((2, 3))
        return colours * (9 if x.shape[-1] == self.likes else 0.1)

def small(): return Net(16)
def large(): return Net(224)
def deep(): return Net(16, least=100)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(CODE)
    rng = np.random.default_rng(0)
    for k in range(6):
        file = tmp_path / "photos" / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(file)
    return tmp_path


def extract(place: Path, net: str, *more: object):
    words = (f"{place / 'nets.py'}:{net}", "-d", place / "photos", "-w", place / "w")
    return cnnlens("extract", *words, "-l", "conv", "--json", *more)


def test_the_images_own_size_is_taken_where_the_network_is_surer(place: Path) -> None:
    answer = extract(place, "small")
    assert answer.json["shape"] == [6, 3, 12, 16]
    assert "photos's images are 12×16, and 224×224 is assumed" in answer.err
    assert "12×16 is taken (--image-size says others)" in answer.err
    document = json.loads((place / "w" / "workspace.json").read_text())
    assert document["model"]["options"]["image_size"] == [12, 16]
    again = cnnlens("extract", "-l", "conv", "-w", place / "w", "--json")
    assert again.json["shape"] == [6, 3, 12, 16] and "is assumed" not in again.err


@pytest.mark.parametrize(
    ("net", "said"), [("large", "--image-size 12x16 takes theirs"), ("deep", "does not run on")]
)
def test_the_assumed_size_stands_where_it_serves_better(place: Path, net: str, said: str) -> None:
    answer = extract(place, net)
    assert answer.json["shape"] == [6, 3, 224, 224] and said in answer.err


def test_what_is_said_is_not_tried(place: Path) -> None:
    answer = extract(place, "small", "--image-size", 20)
    assert answer.json["shape"] == [6, 3, 20, 20] and "is assumed" not in answer.err


def test_images_that_are_as_large_leave_it(place: Path) -> None:
    Image.new("RGB", (300, 12)).save(place / "photos" / "wide.png")
    answer = extract(place, "small")
    assert answer.json["shape"] == [7, 3, 224, 224] and "is assumed" not in answer.err
