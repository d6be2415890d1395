"""First convolutions of one's own: another kernel, other channels, with a bias or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.fit import replace_module
from cnnlens.model.open import open_model

from .nets import filled, network


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))


STEMS = {
    "kernel of its own stride": ("mobilenet_v2", "features.0.0", 3, (32, 5, 2, 2, False)),
    "kernel and channels": ("mobilenet_v3_small", "features.0.0", 4, (16, 5, 2, 2, False)),
    "bias": ("mobilenet_v3_small", "features.0.0", 1, (16, 3, 2, 1, True)),
    "no padding": ("squeezenet1_1", "features.0", 3, (64, 5, 2, 0, True)),
    "no bias": ("squeezenet1_1", "features.0", 2, (64, 3, 2, 0, False)),
    "less small": ("resnet18", "conv1", 3, (64, 5, 2, 2, False)),
    "small": ("densenet121", "features.conv0", 3, (64, 3, 1, 1, False)),
}


@pytest.mark.parametrize("kind", STEMS)
def test_stems_of_their_own_compute_what_they_did(tmp_path: Path, kind: str) -> None:
    name, path, channels, (width, kernel, stride, padding, bias) = STEMS[kind]
    net = network(name, num_classes=3)
    stem = nn.Conv2d(channels, width, kernel, stride, padding, bias=bias)
    replace_module(net, path, filled(stem))
    if kind == "small":
        net.features.pool0 = nn.Identity()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = open_model(str(tmp_path / "net.pt"), device="cpu")
    x = torch.rand(1, channels, 64, 64)
    assert model.arch == f"torchvision:{name}"
    assert torch.allclose(model.net(x), net(x), atol=1e-5)
    stated = [line for line in model.assumed if f"its stem of {kernel}×{kernel}" in line]
    assert bool(stated) is ("bias" not in kind)
    assert any("another stem" in line for line in model.assumed) is (kind != "bias" or channels < 3)
    if kind != "bias":
        return
    other = open_model(str(tmp_path / "net.pt"), device="cpu", arch=f"torchvision:{name}")
    assert other.fingerprint == model.fingerprint


def test_a_stem_of_patches_stays_one(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model("test_convnext", num_classes=3))
    net.stem[0] = filled(nn.Conv2d(3, net.stem[0].out_channels, 2, 2))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = open_model(str(tmp_path / "net.pt"), device="cpu", arch="timm:test_convnext")
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(model.net(x), net(x), atol=1e-5)
    assert any("stride 2, padding 0" in line for line in model.assumed)


def test_a_stem_of_another_width_is_no_stem_of_the_network(tmp_path: Path) -> None:
    state = network("squeezenet1_1").state_dict()
    state["features.0.weight"] = torch.zeros(48, 3, 3, 3)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CnnlensError, match=r"features.0.weight \(48, 3, 3, 3\) instead of"):
        open_model(str(tmp_path / "net.pt"), device="cpu", arch="torchvision:squeezenet1_1")
