"""Networks are fed as their files say, and what no file says is called assumed."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cnnlens.model.architectures.timm import from_config
from cnnlens.model.noted import noted_in
from cnnlens.model.open import open_model
from tests.model.nets import filled, opened

HALF = (0.5, 0.5, 0.5)
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return filled(torchvision.models.shufflenet_v2_x0_5(num_classes=4))


class Normalize(nn.Module):
    def __init__(self, names: tuple[str, str] = ("mean", "std"), scale: float = 1.0) -> None:
        super().__init__()
        for name, values in zip(names, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.25)), strict=True):
            self.register_buffer(name, scale * torch.tensor(values).view(3, 1, 1))
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (getattr(self, name) for name in self.names)
        return (x - mean) / std


@pytest.mark.parametrize("kind", ["named", "sequence", "robustness", "bytes"])
def test_a_normalization_among_the_tensors_is_the_preprocessing(
    net: nn.Module, tmp_path: Path, kind: str
) -> None:
    names = ("new_mean", "new_std") if kind == "robustness" else ("mean", "std")
    first = Normalize(names, 255.0 if kind == "bytes" else 1.0)
    parts = {"normalize": first, "model": net}
    whole = (
        nn.Sequential(*parts.values()) if kind == "sequence" else nn.Sequential(OrderedDict(parts))
    )
    model = opened(tmp_path, whole.state_dict())
    fed = model.preprocess.normalize(X)
    truth = whole.eval()(255 * X if kind == "bytes" else X)
    assert torch.allclose(model.net(fed), truth, atol=1e-4)
    assert model.preprocess.is_assumed and "mean and std" in model.preprocess.source
    assert any("taken for mean and std" in line for line in model.stripped)
    assert not any("left out" in line for line in model.notes)


@pytest.mark.parametrize("name", ["data_preprocessor.", "normalize.", "pixel_"])
def test_a_normalization_is_no_layer_between_a_body_and_its_head(name: str, tmp_path: Path) -> None:
    net = filled(torchvision.models.resnet18(num_classes=4)).eval()
    state = {f"backbone.{k}".replace("backbone.fc.", "head.fc."): v
             for k, v in net.state_dict().items()}  # fmt: skip
    own = {f"{name}{k}": v for k, v in Normalize().state_dict().items()}
    model = opened(tmp_path, state | own)
    with torch.no_grad():
        assert torch.equal(model.net(X), net(X))
    assert "mean and std" in model.preprocess.source


def test_a_normalization_of_something_else_is_left_out(net: nn.Module, tmp_path: Path) -> None:
    own = {f"model.{k}": v for k, v in net.state_dict().items()}
    loss = {f"perceptual.norm.{k}": v for k, v in Normalize().state_dict().items()}
    beside = {"perceptual.net.0.weight": torch.zeros(4, 3, 3, 3)}
    assert opened(tmp_path, own | loss | beside).preprocess.source == "assumed"
    one = opened(tmp_path, own | {"norm.mean": torch.zeros(3)})  # without a deviation
    assert one.preprocess.source == "assumed"
    assert any("norm.mean: this looks like a normalization" in note for note in one.notes)


def test_what_nothing_says_is_assumed(net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "bare.pt")
    for arch in (None, "torchvision:shufflenet_v2_x0_5"):
        model = open_model(str(tmp_path / "bare.pt"), arch=arch, device="cpu")
        assert str(model.preprocess).endswith("(assumed)")


OPTIONS = {"mean": HALF, "std": [0.25, 0.25, 0.5]}
NOTED: dict[str, Any] = {
    "timm": {"args": argparse.Namespace(img_size=64, input_size=None, crop_pct=0.8, **OPTIONS)},
    "lightning": {"hyper_parameters": {"image_size": [64, 64], **OPTIONS}},
}


@pytest.mark.parametrize("kind", NOTED)
def test_options_of_a_training_are_how_it_is_fed(net: nn.Module, tmp_path: Path, kind: str) -> None:
    model = opened(tmp_path, {"state_dict": net.state_dict(), **NOTED[kind]})
    known = model.preprocess
    assert (known.size, known.mean, known.std) == ((64, 64), HALF, (0.25, 0.25, 0.5))
    assert known.resize == (80 if kind == "timm" else None)
    assert known.source == next(iter(NOTED[kind])) and not known.is_assumed


@pytest.mark.parametrize(
    ("noted", "resize"),
    [({"crop_pct": 0.9}, 248), ({"val_resize_size": 250}, 250), ({"val_resize_size": 200}, 256)],
)
def test_a_share_without_a_size_is_of_the_size_that_is_assumed(
    net: nn.Module, tmp_path: Path, noted: dict[str, Any], resize: int
) -> None:
    args = argparse.Namespace(img_size=None, input_size=None, mean=None, **noted)
    known = opened(tmp_path, {"state_dict": net.state_dict(), "args": args}).preprocess
    assert (known.size, known.resize, known.source) == ((224, 224), resize, "assumed")


def test_a_share_of_a_size_that_is_not_square_is_timms(net: nn.Module, tmp_path: Path) -> None:
    args = argparse.Namespace(input_size=[3, 96, 64], img_size=None, crop_pct=0.9)
    known = opened(tmp_path, {"state_dict": net.state_dict(), "args": args}).preprocess
    wanted = from_config({"input_size": (3, 96, 64), "crop_pct": 0.9, "mean": HALF, "std": HALF})
    assert known.size == (96, 64) and known.resize == wanted.resize != 71


def test_the_header_of_a_safetensors_file_is_read(net: nn.Module, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    header = {"image_size": "48", "mean": "[0.5, 0.5, 0.5]", "classes": '["a", "b", "c", "d"]'}
    save_file(state, tmp_path / "net.safetensors", metadata={**header, "format": "pt"})
    model = open_model(str(tmp_path / "net.safetensors"), device="cpu")
    assert (model.preprocess.size, model.preprocess.mean) == ((48, 48), HALF)
    assert model.preprocess.source == "the file; std assumed"
    assert model.classes == ["a", "b", "c", "d"]


def test_timms_arguments_build_the_network_that_was_trained(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    more = {"output_stride": 8, "act_layer": "silu"}
    net = filled(timm.create_model("resnet10t", num_classes=3, global_pool="max", **more))
    args = argparse.Namespace(model="resnet10t", gp="max", model_kwargs=more)
    content = {"arch": "resnet10t", "state_dict": net.state_dict(), "args": args}
    model = opened(tmp_path, content)
    assert torch.allclose(model.net(X), net(X), atol=1e-4)
    assert model.arch == "timm:resnet10t(act_layer=silu, global_pool=max, output_stride=8)"
    args.model_kwargs = {"no_such": 3}
    other = opened(tmp_path, content)
    assert any("no_such 3" in n and "not used" in n for n in other.notes)


def test_what_is_noted_and_cannot_be_read_is_said() -> None:
    def noted(**options: Any) -> Any:
        return noted_in({"args": options}, 3)

    assert noted(img_size="big").unread == ["img_size big"]
    assert noted(mean=0.5).unread == ["mean 0.5"]
    assert noted(mean=[1, 2, 300], std=[1, 1, 0]).fed == {}
    in_bytes = noted(mean=[51, 102, 127.5], std=[51, 51, 51]).fed
    assert in_bytes == {"mean": (0.2, 0.4, 0.5), "std": (0.2, 0.2, 0.2)}
    assert noted(val_crop_size=176, val_resize_size=232, interpolation="bicubic").fed == {
        "size": (176, 176), "resize": 232, "interpolation": "bicubic"}  # fmt: skip
    assert noted(gp="max", model_kwargs={"pretrained_cfg": "x", "f": print}).builder == {
        "global_pool": "max"
    }
    assert noted_in([1], 3).fed == {}
