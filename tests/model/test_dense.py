"""Backbones of networks that answer for every pixel compute as they did, or it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model

from cnnlens.model.dense import as_torchvision_dilates
from cnnlens.model.entries import find_views
from cnnlens.model.recognise import recognise

from .nets import filled, network, opened

X = torch.linspace(-1, 1, 3 * 96 * 96).reshape(1, 3, 96, 96)

pytestmark = pytest.mark.usefixtures("home")


def is_unsure(model: Any) -> bool:
    return any("may have had dilations for strides" in line for line in model.assumed)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvisions_networks_have_the_dilations_that_they_were_built_with(
    tmp_path: Path, name: str
) -> None:
    net: Any = filled(get_model(name, weights=None, weights_backbone=None, num_classes=4))
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    model = opened(tmp_path, {"model": state})
    with torch.no_grad():
        maps, truth = model.net.features(X), [*net.backbone(X).values()][-1]
    assert maps.shape[-1] == 6 and torch.allclose(maps, truth, atol=1e-4)
    assert any(f"as in torchvision's {name}" in line for line in model.assumed)
    assert not is_unsure(model)
    plain = opened(tmp_path, {"model": state}, arch="mobilenet_v3_large")
    assert plain.net.features(X).shape[-1] == 3 and is_unsure(plain)
    assert plain.fingerprint != model.fingerprint


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet101"])
def test_resnets_below_torchvisions_heads_dilate_instead_of_striding(name: str) -> None:
    with torch.device("meta"):
        net: Any = get_model(name, weights=None, weights_backbone=None)
    view, plain = recognise(find_views(net.state_dict()), name)
    found, _ = as_torchvision_dilates(view, plain)
    with torch.device("meta"):
        own = found.architecture.make(**found.options)
    convolutions = {k: (m.stride, m.dilation) for k, m in net.backbone.named_modules()
                    if isinstance(m, torch.nn.Conv2d)}  # fmt: skip
    assert convolutions == {k: (m.stride, m.dilation) for k, m in own.named_modules()
                            if isinstance(m, torch.nn.Conv2d)}  # fmt: skip


BESIDE = {
    "classifier.0.weight": True,  # as of FCN below another backbone
    "decoder.0.convs.0.0.weight": True,
    "seg_head.0.weight": True,
    "rpn.head.conv.weight": False,
    "conv_neck.weight": False,
}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_convolves_to_an_answer_beside_a_backbone_may_have_had_it_dilated(
    tmp_path: Path, beside: str
) -> None:
    body = network("shufflenet_v2_x0_5").state_dict()
    net = {f"backbone.{k}": v for k, v in body.items() if not k.startswith("fc")}
    own = {beside: torch.zeros(4, 1024, 1, 1)}
    assert is_unsure(opened(tmp_path, {**net, **own})) is BESIDE[beside]
    boxes = {"head.regression_head.conv.weight": torch.zeros(4, 1024, 1, 1)}
    assert not is_unsure(opened(tmp_path, {**net, "head.conv.weight": own[beside], **boxes}))
    assert not is_unsure(opened(tmp_path, {**net, "classifier.weight": torch.zeros(4, 9)}))


def test_so_may_one_of_timms_without_classes(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("mobilenetv3_small_050", num_classes=0)
    state = {f"encoder.{k}": v for k, v in net.state_dict().items()}
    own = {"decoder.0.convs.0.0.weight": torch.zeros(4, 1024, 1, 1)}
    noted = {"arch": "mobilenetv3_small_050"}
    assert is_unsure(opened(tmp_path, {"state_dict": {**state, **own}, **noted}))
    assert not is_unsure(opened(tmp_path, {"state_dict": state, **noted}))


@pytest.mark.parametrize(
    ("below", "unsure"),
    [
        ("decoder.blocks.0.conv1.0.weight", False),  # Unet, UnetPlusPlus, MAnet, Linknet
        ("decoder.p5.weight", False),  # FPN
        ("decoder.aspp.convs.0.0.weight", True),  # DeepLabV3
        ("decoder.fpa.branch1.1.conv.weight", True),  # PAN
    ],
)
def test_decoders_of_segmentation_models_pytorch_say_whether_they_dilate(
    tmp_path: Path, below: str, unsure: bool
) -> None:
    body = network("shufflenet_v2_x0_5").state_dict()
    net = {f"encoder.{k}": v for k, v in body.items() if not k.startswith("fc")}
    head = {"segmentation_head.0.weight": torch.zeros(3, 16, 3, 3)}
    state = {**net, below: torch.zeros(4, 1024, 1, 1), **head}
    assert is_unsure(opened(tmp_path, state)) is unsure


@pytest.mark.parametrize("name", ["legacy_xception", "inception_v4"])
def test_encoders_of_segmentation_models_pytorch_are_padded_as_it_pads_them(
    tmp_path: Path, name: str
) -> None:
    """The paddings are its encoders/xception.py's and encoders/inceptionv4.py's (0.5)."""
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model(name, num_classes=0))
    state = {f"encoder.{k}": v for k, v in net.state_dict().items() if "fc" not in k}
    beside = {
        "decoder.blocks.0.conv1.0.weight": torch.zeros(4, 64, 3, 3),
        "segmentation_head.0.weight": torch.zeros(3, 16, 3, 3),
    }
    model = opened(tmp_path, state | beside)
    if name == "legacy_xception":
        net.conv1.padding = net.conv2.padding = (1, 1)
    else:
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
                module.padding = (1, 1)
            if isinstance(module, torch.nn.MaxPool2d):
                module.padding = 1
    with torch.no_grad():
        truth = net.eval().forward_features(X)
        found = model.net.forward_features(X)
    assert model.arch == f"timm:{name}" and truth.abs().max() > 0
    assert torch.equal(found, truth)
    assert any("padded by 1, as segmentation_models_pytorch" in line for line in model.assumed)
    assert not is_unsure(model)
