from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlens.data.dataset import open_folder
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.measure.accuracy import accuracy
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings import RunSettings


class Brightest(nn.Module):
    """Says which of three colours an image has most of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def network(classes: list[str] | None = None) -> Model:
    preprocess = Preprocess((8, 8), (0.0,) * 3, (1.0,) * 3)
    return Model(Brightest().eval(), "test:colours", "test", preprocess, classes, "x")


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Six red images, two of them in the folder of the green ones; three blue ones."""
    for number, (folder, channel) in enumerate([("r", 0)] * 4 + [("g", 0)] * 2 + [("b", 2)] * 3):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., channel] = 200
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_accuracy_has_chance_and_an_interval(colours: Path, batch_size: int) -> None:
    steps = []
    found = accuracy(
        network(["r", "g", "b"]), open_folder(colours), 0.9,
        RunSettings(batch_size=batch_size), steps.append,
    )  # fmt: skip
    assert (found.value, found.chance, found.images) == (7 / 9, 4 / 9, 9)
    assert found.constant_outputs == 1  # no image has any green
    # Wilson's formula, z of 90 %
    z, p, n = 1.6448536, 7 / 9, 9
    middle, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert (found.low, found.high) == pytest.approx(
        ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    )
    assert (steps[-1].done, steps[-1].total) == (9, 9)


def test_classes_without_names_are_matched_in_order(colours: Path) -> None:
    # b, g, r in alphabetical order stand for the outputs red, green, blue
    assert accuracy(network(), open_folder(colours)).value == 0


def test_a_damaged_image_counts_for_nothing(colours: Path) -> None:
    for number in range(20, 40):
        (colours / "b" / f"{number}.png").write_bytes((colours / "b" / "6.png").read_bytes())
    (colours / "b" / "20.png").write_bytes(b"damaged")
    found = accuracy(network(["r", "g", "b"]), open_folder(colours))
    assert (found.images, found.value) == (28, 26 / 28)


def test_what_cannot_be_measured_is_said(colours: Path) -> None:
    with pytest.raises(UsageError, match="has no classes"):
        accuracy(network(), open_folder(colours / "r"))
    (colours / "r").rename(colours / "x")
    (colours / "g").rename(colours / "b" / "y")
    with pytest.raises(CnnlensError, match="do not fit"):
        accuracy(network(["r", "g", "b"]), open_folder(colours))
