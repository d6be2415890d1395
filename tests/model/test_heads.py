"""Heads of one's own: they compute what they did, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.fit import replace_module
from cnnlens.model.open import open_model

from .nets import filled, network

X = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))


def opened(tmp_path: Path, content: Any, **options: Any) -> Any:
    torch.save(content, tmp_path / "net.pt")
    return open_model(str(tmp_path / "net.pt"), device="cpu", **options)


def squeezenet(*head: nn.Module) -> nn.Module:
    net = network("squeezenet1_1")
    net.classifier = filled(nn.Sequential(*head), seed=1)
    return net.eval()


CONVOLUTIONS = {
    "deeper": [nn.Dropout(), nn.Conv2d(512, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1)],
    "normed": [
        nn.Conv2d(512, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1)
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_head_of_convolutions_may_have_more_of_them(tmp_path: Path, kind: str) -> None:
    net = squeezenet(*CONVOLUTIONS[kind], nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = opened(tmp_path, net.state_dict())
    assert model.arch == "torchvision:squeezenet1_1"
    assert torch.allclose(model.net(X), net(X), atol=1e-5)
    assert any("2 convolutional layers, 5 outputs; 1 rectifier" in line for line in model.assumed)
    assert any("ReLU, AdaptiveAvgPool2d behind them as before" in line for line in model.assumed)


def test_a_linear_head_takes_the_place_of_a_convolution(tmp_path: Path) -> None:
    net = squeezenet(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5))
    model = opened(tmp_path, net.state_dict())
    assert torch.allclose(model.net(X), net(X), atol=1e-5)
    assert not model.assumed


def test_a_single_convolution_for_a_head_of_maps_is_refused(tmp_path: Path) -> None:
    net = network("squeezenet1_1")
    net.classifier = nn.Conv2d(512, 5, 1)
    with pytest.raises(CnnlensError, match=r"does not fit torchvision:sq.*classifier\.weight"):
        opened(tmp_path, net.state_dict(), arch="squeezenet1_1")


@pytest.mark.parametrize("side", [1, 2])
def test_a_head_that_reads_fewer_positions_is_pooled_to(tmp_path: Path, side: int) -> None:
    net = network("alexnet")
    net.avgpool = nn.AdaptiveAvgPool2d(side)
    net.classifier = filled(nn.Sequential(nn.Dropout(), nn.Linear(256 * side**2, 3)))
    model = opened(tmp_path, net.eval().state_dict())
    assert torch.allclose(model.net(X), net(X), atol=1e-5)
    assert any(f"leave {side}×{side} positions" in line for line in model.assumed)


class Both(nn.Module):
    """The pooling of fastai, written as fastai has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pools = nn.AdaptiveMaxPool2d(1), nn.AdaptiveAvgPool2d(1)
        return torch.cat([pool(x) for pool in pools], 1)


def test_fastais_body_and_head_are_one_network(tmp_path: Path) -> None:
    whole = network("resnet18")
    head = [Both(), nn.Flatten(), nn.BatchNorm1d(1024), nn.Dropout(), nn.Linear(1024, 6, False),
            nn.ReLU(), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 4, False)]  # fmt: skip
    net = nn.Sequential(nn.Sequential(*list(whole.children())[:-2]), filled(nn.Sequential(*head)))
    model = opened(tmp_path, {"model": net.eval().state_dict(), "opt": {"hypers": []}})
    assert model.arch == "torchvision:resnet18" and not model.headless
    assert torch.allclose(model.net(X), net(X), atol=1e-4)
    assert any("fastai's: the maximum beside the mean" in line for line in model.assumed)
    replace_module(net, "1.2", nn.BatchNorm1d(1000))  # of another body
    assert opened(tmp_path, net.state_dict()).headless
