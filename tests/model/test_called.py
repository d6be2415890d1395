"""A file's own name for its architecture decides where tensors do not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnlens.model.architectures import registry
from cnnlens.model.called import called_in, called_otherwise, plain_name
from cnnlens.model.open import open_model

from .nets import filled, network

timm = pytest.importorskip("timm")
X = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)

pytestmark = pytest.mark.usefixtures("home")


def opened(tmp_path: Path, net: Any, **content: Any) -> Any:
    torch.save({"state_dict": net.state_dict(), **content}, tmp_path / "net.pt")
    return open_model(str(tmp_path / "net.pt"), device="cpu")


def test_names_are_read_from_where_scripts_note_them() -> None:
    assert called_in({"arch": "a", "args": {"model": "b"}}) == "a"
    assert called_in({"arch": None, "args": argparse.Namespace(model="b")}) == "b"
    assert called_in({"hyper_parameters": {"backbone": "c"}}) == "c"
    assert called_in([1]) is None and called_in({"model": {}}) is None


@pytest.mark.parametrize(
    "name",
    ["resnet50", "resnet50.a1_in1k", "timm/resnet50.a1_in1k", "hf_hub:timm/resnet50.a1_in1k",
     "hf-hub:timm/resnet50", "torchvision:resnet50"],
)  # fmt: skip
def test_what_hubs_put_around_a_name_is_taken_off(name: str) -> None:
    assert plain_name(name) == "resnet50"


@pytest.mark.parametrize(
    ("name", "arch"),
    [("mobilenetv3_small_050.lamb_in1k", "timm:mobilenetv3_small_050"),
     ("hf_hub:timm/tf_mobilenetv3_small_minimal_100.in1k",
      "timm:tf_mobilenetv3_small_minimal_100")],
)  # fmt: skip
def test_a_network_of_the_file_s_name_that_fits_is_taken_before_any_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arch: str
) -> None:
    monkeypatch.setattr("cnnlens.model.recognise.search", None)
    net = filled(timm.create_model(plain_name(name), num_classes=5))
    model = opened(tmp_path, net, arch=name)
    assert model.arch == arch and torch.equal(model.net(X), net(X))


def test_a_name_that_fits_nothing_of_it_decides_nothing(tmp_path: Path) -> None:
    model = opened(tmp_path, network("squeezenet1_1", num_classes=4), arch="resnet18")
    assert model.arch == "torchvision:squeezenet1_1"


def test_torchvisions_network_without_its_head_comes_before_timms_of_that_name(
    tmp_path: Path,
) -> None:
    net: Any = network("resnet18")
    net.fc = torch.nn.Identity()
    assert opened(tmp_path, net, arch="resnet18").arch == "torchvision:resnet18"


def test_places365s_wide_resnet_has_no_pooling_behind_its_stem(tmp_path: Path) -> None:
    net: Any = network("resnet18", num_classes=365)
    net.maxpool = torch.nn.Identity()
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"arch": "wideresnet18", "state_dict": state}, tmp_path / "w.pth.tar")
    model = open_model(str(tmp_path / "w.pth.tar"), device="cpu")
    assert torch.equal(model.net(X), net(X))
    torch.save(state, tmp_path / "wideresnet18_places365.pth")  # the name of a file is a remark
    model = open_model(str(tmp_path / "wideresnet18_places365.pth"), device="cpu")
    assert model.arch == "torchvision:resnet18"
    assert any("--arch zoo:wideresnet18 builds it" in line for line in model.assumed)


@pytest.mark.parametrize(
    ("noted", "said"),
    [({"arch": "preactresnet18"}, True), ({"arch": "preact_resnet18"}, True),
     ({"args": {"model": "wrn_resnet18"}}, True), ({"arch": "MyNet"}, True),
     ({"model_name": "resnet34"}, True), ({"args": {"model": "linear_probe"}}, False),
     ({"arch": "ResNet-18"}, False), ({"arch": "resnet"}, False), ({"arch": ""}, False),
     ({"arch": "torchvision.models/resnet18_imagenet1k"}, False),
     ({"arch": "gluon_resnet18_v1b"}, False), ({}, False)],
)  # fmt: skip
def test_another_name_than_the_network_s_is_said(noted: dict[str, Any], said: bool) -> None:
    assert bool(called_otherwise(noted, "torchvision:resnet18")) is said


def test_another_name_is_a_remark_and_of_a_part_none(tmp_path: Path) -> None:
    net: Any = network("shufflenet_v2_x0_5", num_classes=4)
    model = opened(tmp_path, net, arch="own_shufflenet")
    assert any("the file calls it own_shufflenet; torch" in line for line in model.assumed)
    net.fc = torch.nn.Identity()
    assert not opened(tmp_path, net, arch="own_shufflenet").assumed
    body = timm.create_model("mobilenetv3_small_050", num_classes=0)
    assert "calls it" not in " ".join(opened(tmp_path, body, arch="deeplabv3").notes)


def test_names_that_timm_has_given_up_are_those_of_today() -> None:
    names = [found.name for found in registry.named("tf_efficientnet_b0_ns")]
    assert names == ["timm:tf_efficientnet_b0"]
    assert [found.name for found in registry.named("resnet18")] == [
        "torchvision:resnet18", "timm:resnet18"]  # fmt: skip
    assert not [*registry.named("no_such_network")]
