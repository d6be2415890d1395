"""Known architectures with another head or stem, or cut off; features that were saved alone."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import registry, shapes_of
from cnnlens.model.fit import fit, replace_module
from cnnlens.model.open import open_model

from .nets import filled, network, opened

# -- heads ----------------------------------------------------------------------------------------

X = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)

pytestmark = pytest.mark.usefixtures("home")


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


# -- first convolutions of one's own: another kernel, other channels, with a bias or without ------

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


# -- networks that end early, and features that were saved alone ----------------------------------


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("squeezenet1_1", ""), ("squeezenet1_1", "features."), ("densenet121", "")],
)
def test_features_saved_alone_are_a_network_without_its_head(
    tmp_path: Path, name: str, prefix: str
) -> None:
    net: Any = network(name)
    model = opened(tmp_path, {prefix + k: v for k, v in net.features.state_dict().items()})
    assert (model.arch, model.headless) == (f"torchvision:{name}", True)
    assert torch.allclose(model.net.features(X), net.features(X), atol=1e-5)
    assert any("its outputs are features" in note for note in model.notes)


def test_features_that_end_early_are_told_from_others(tmp_path: Path) -> None:
    whole: Any = network("squeezenet1_1")
    features = whole.features[:8]  # the next is a pooling
    for arch in (None, "squeezenet1_1"):
        model = opened(tmp_path, features.state_dict(), arch=arch)
        assert (model.arch, model.headless) == ("torchvision:squeezenet1_1", True)
        assert torch.allclose(model.net.features(X), features(X), atol=1e-5)
        assert any("it ends behind features.7.expand3x3" in note for note in model.notes)
    with pytest.raises(CnnlensError, match="does not fit torchvision:squeezenet1_0"):
        opened(tmp_path, features.state_dict(), arch="squeezenet1_0")


def test_a_rectifier_behind_the_last_convolution_stays(tmp_path: Path) -> None:
    whole: Any = network("alexnet")
    model = opened(tmp_path, whole.features[:9].state_dict())
    assert torch.allclose(model.net.features(X), whole.features[:10](X), atol=1e-5)


def test_a_resnet_that_ends_with_a_stage_is_one(tmp_path: Path) -> None:
    body = nn.Sequential(*list(network("resnet18").children())[:6])  # conv1 … layer2
    model = opened(tmp_path, body.state_dict())
    assert torch.allclose(model.net(X).features, body(X).mean((2, 3)), atol=1e-5)
    assert any("it ends behind layer2.1.bn2" in note for note in model.notes)


@pytest.mark.parametrize(("width", "is_end"), [(64, False), (48, True)])
def test_a_network_that_goes_on_otherwise_does_not_end_there(
    tmp_path: Path, width: int, is_end: bool
) -> None:
    net: Any = network("resnet18")
    body = nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, layer1=net.layer1))
    own = {"mid1.0.weight": torch.zeros(32, width, 3, 3), "out.weight": torch.zeros(5, 32)}
    state = {**body.state_dict(), **own}
    shapes = shapes_of(state)
    assert (adapt(fit(registry.architecture("resnet18"), shapes), shapes) is not None) is is_end
    if not is_end:
        with pytest.raises(CnnlensError, match="does not fit torchvision:resnet18"):
            opened(tmp_path, state, arch="resnet18")


@pytest.mark.parametrize("lost", ["layer2.", "layer4.1.conv2"])
def test_what_is_missing_elsewhere_is_no_end(tmp_path: Path, lost: str) -> None:
    state = {k: v for k, v in network("resnet18").state_dict().items() if not k.startswith(lost)}
    with pytest.raises(CnnlensError, match=f"missing .{lost}"):
        opened(tmp_path, state, arch="resnet18")
