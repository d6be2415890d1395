"""Networks that were pickled whole, as ultralytics and others keep them."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as T

from cnnlens.model import unpickled
from cnnlens.model.open import open_model


class Net(nn.Module):
    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.names = {0: "cat", 1: "dog"}
        nn.init.constant_(self.conv.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def bias(path: Path, **options: str) -> float:
    model = open_model(str(path), allow_pickle=True, device="cpu", **options)
    return float(model.net.conv.bias[0])


def test_the_average_is_opened_where_the_network_itself_is_not_kept(tmp_path: Path) -> None:
    torch.save({"model": None, "ema": Net(3).half(), "epoch": 2}, tmp_path / "last.pt")
    assert bias(tmp_path / "last.pt") == 3
    model = open_model(str(tmp_path / "last.pt"), allow_pickle=True, device="cpu")
    assert model.classes == ["cat", "dog"]


class Learner:
    """Holds what it trains, as fastai's does."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def test_the_network_of_a_pickled_learner_opens(tmp_path: Path) -> None:
    torch.save(Learner(Net(5)), tmp_path / "export.pkl")
    assert bias(tmp_path / "export.pkl") == 5


def test_of_several_networks_the_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"model": Net(1), "ema": Net(3)}, path)
    model = open_model(str(path), allow_pickle=True, device="cpu")
    assert "it also holds ema: --weights opens it" in model.notes
    assert (bias(path), bias(path, weights="ema")) == (1, 3)


def test_options_beside_the_network_say_how_it_is_fed(tmp_path: Path) -> None:
    args = argparse.Namespace(img_size=96, mean=[0.5] * 3, std=[0.25] * 3)
    torch.save({"model": Net(), "args": args}, tmp_path / "net.pt")
    found = open_model(str(tmp_path / "net.pt"), allow_pickle=True, device="cpu").preprocess
    assert (found.size, found.mean, found.std, found.source) == (
        (96, 96), (0.5,) * 3, (0.25,) * 3, "args",
    )  # fmt: skip


def test_ultralytics_networks_take_pixels_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickled, "_ULTRALYTICS", Net.__module__)
    torch.save({"model": Net(), "train_args": {"imgsz": 64}}, tmp_path / "best.pt")
    found = open_model(str(tmp_path / "best.pt"), allow_pickle=True, device="cpu").preprocess
    assert (found.size, found.mean, found.std) == ((64, 64), (0,) * 3, (1,) * 3)


def test_a_network_that_keeps_its_transforms_is_fed_as_they_do(tmp_path: Path) -> None:
    net = Net()
    steps = [
        T.Resize(40, T.InterpolationMode.BICUBIC),
        T.CenterCrop((32, 32)),
        T.ToTensor(),
        T.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
    ]
    net.transforms = T.Compose(steps)
    torch.save(net, tmp_path / "net.pt")
    found = open_model(str(tmp_path / "net.pt"), allow_pickle=True, device="cpu").preprocess
    picture = Image.effect_noise((70, 50), 90).convert("RGB")
    pixels = torch.from_numpy(copy.copy(found.pixels(picture, False))).permute(2, 0, 1)
    assert torch.allclose(found.normalize(pixels[None])[0], net.transforms(picture), atol=1e-6)
    steps.insert(1, T.Grayscale(3))
    net.transforms = T.Compose(steps)
    torch.save(net, tmp_path / "net.pt")
    other = open_model(str(tmp_path / "net.pt"), allow_pickle=True, device="cpu").preprocess
    assert other.source == "assumed"
