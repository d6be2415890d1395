"""Networks of the same tensors are told apart by modules without any, where a file lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from cnnlens.model.model import Model
from cnnlens.model.open import open_model

from .nets import filled, network

X = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))


def opened(folder: Path, content: Any) -> Model:
    torch.save(content, folder / "net.pt")
    return open_model(str(folder / "net.pt"))


def timms(name: str) -> nn.Module:
    timm = pytest.importorskip("timm")
    return filled(timm.create_model(name, num_classes=4)).eval()


def unlike(model: Model) -> list[str]:
    return [line for line in model.assumed if "modules" in line]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_twin_that_blurs_is_opened_as_such(tmp_path: Path, wrapped: bool) -> None:
    net = timms("resnetblur18")
    content = net.state_dict()
    if wrapped:
        content = {"epoch": 1, "state_dict": nn.DataParallel(net).state_dict()}
    model = opened(tmp_path, content)
    assert model.arch == "timm:resnetblur18" and not unlike(model)
    assert torch.allclose(model.net(X), net(X), atol=1e-5)


def test_so_is_one_with_a_head_of_ones_own(tmp_path: Path) -> None:
    net = timms("resnetblur18")
    net.fc = filled(nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3)))
    model = opened(tmp_path, net.state_dict())
    assert model.arch == "timm:resnetblur18"
    assert torch.allclose(model.net(X), net(X), atol=1e-5)


def test_without_the_list_torchvisions_is_taken_as_ever(tmp_path: Path) -> None:
    model = opened(tmp_path, dict(timms("resnetblur18").state_dict()))
    assert model.arch == "torchvision:resnet18" and not unlike(model)


def test_a_network_of_timm_that_computes_as_torchvisions_stays_that(tmp_path: Path) -> None:
    net = timms("resnet18")
    model = opened(tmp_path, net.state_dict())
    assert model.arch == "torchvision:resnet18" and not unlike(model)
    assert torch.allclose(model.net(X), net(X), atol=1e-5)


def test_of_timms_that_have_the_same_modules_too_the_other_is_named(tmp_path: Path) -> None:
    model = opened(tmp_path, timms("resnetaa50").state_dict())
    assert len(said := unlike(model)) == 1
    assert said[0].endswith("--arch timm:resnetaa50 builds it")
    content = {"arch": "resnet50", "state_dict": timms("resnet50").state_dict()}
    assert not unlike(opened(tmp_path, content))  # the file says which of them


@pytest.mark.parametrize("channels", [1, 3])
def test_modules_that_torchvisions_lacks_or_has_show_another_program(
    tmp_path: Path, channels: int
) -> None:
    net = network("resnet18", num_classes=4)
    net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    del net.maxpool  # Places365's wide ResNet has none
    net.act = nn.ReLU()
    said = unlike(opened(tmp_path, net.state_dict()))
    assert len(said) == 1 and "(act, no maxpool)" in said[0]


@pytest.mark.parametrize("more", [nn.Dropout(), nn.Sigmoid()])
def test_modules_beside_all_of_torchvisions_show_no_other_program(
    tmp_path: Path, more: nn.Module
) -> None:
    net = network("resnet18", num_classes=4)
    net.more = more  # of a class of one's own, derived from torchvision's
    said = unlike(opened(tmp_path, net.state_dict()))
    assert len(said) == 1 and "others without tensors (more), which are left out" in said[0]
    assert "program" not in said[0] and "stride" not in said[0]


@pytest.mark.parametrize("kind", ["plain", "head", "headless", "backbone", "loss"])
def test_what_is_torchvisions_is_not_told_so(tmp_path: Path, kind: str) -> None:
    net: nn.Module = network("resnet18", num_classes=4)
    if kind == "head":
        net.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3))
    if kind == "headless":
        net.fc = nn.Identity()
    if kind == "backbone":
        getter = torchvision.models._utils.IntermediateLayerGetter
        net = nn.ModuleDict({"backbone": getter(net, {"layer4": "out"})})
    if kind == "loss":
        net.criterion = nn.CrossEntropyLoss()
    assert not unlike(opened(tmp_path, net.state_dict()))
