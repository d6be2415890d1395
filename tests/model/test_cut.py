"""Networks that end early, and features that were saved alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.open import open_model

from .nets import network

X = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))


def opened(tmp_path: Path, state: Any, **options: Any) -> Any:
    torch.save(state, tmp_path / "net.pt")
    return open_model(str(tmp_path / "net.pt"), device="cpu", **options)


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


@pytest.mark.parametrize("lost", ["layer2.", "layer4.1.conv2"])
def test_what_is_missing_elsewhere_is_no_end(tmp_path: Path, lost: str) -> None:
    state = {k: v for k, v in network("resnet18").state_dict().items() if not k.startswith(lost)}
    with pytest.raises(CnnlensError, match=f"missing .{lost}"):
        opened(tmp_path, state, arch="resnet18")
