"""Names of other libraries: the same network, the same answers; what they do not tell is said."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import timm
import torch
from timm.models.convnext import checkpoint_filter_fn

from cnnlens.errors import UsageError
from cnnlens.model.open import open_model
from cnnlens.model.other_names import renamed

from .nets import filled

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

pytestmark = pytest.mark.usefixtures("home")


def efficientnet_names(blocks: int, head: bool) -> Iterator[str]:
    """Names of efficientnet_pytorch 0.7.1 in the order of its `EfficientNet.state_dict()`."""
    yield "_conv_stem.weight"
    yield from (f"_bn0.{kind}" for kind in NORM)
    for number in range(blocks):
        expand = ("_expand_conv.weight", *(f"_bn0.{kind}" for kind in NORM)) if number else ()
        yield from (
            f"_blocks.{number}.{name}"
            for name in (
                *expand,
                "_depthwise_conv.weight",
                *(f"_bn1.{kind}" for kind in NORM),
                *("_se_reduce.weight", "_se_reduce.bias", "_se_expand.weight", "_se_expand.bias"),
                "_project_conv.weight",
                *(f"_bn2.{kind}" for kind in NORM),
            )
        )
    yield "_conv_head.weight"
    yield from (f"_bn1.{kind}" for kind in NORM)
    yield from ("_fc.weight", "_fc.bias") if head else ()


@pytest.mark.parametrize(
    ("prefix", "classes"), [("", 5), ("module.", 1), ("encoder.", 0)], ids=["plain", "dp", "smp"]
)
def test_efficientnet_pytorchs_networks_compute_what_they_did(tmp_path, prefix, classes):
    net = filled(timm.create_model("tf_efficientnet_b0", num_classes=classes))
    values = net.state_dict().values()
    names = list(efficientnet_names(16, bool(classes)))
    state = {prefix + name: value for name, value in zip(names, values, strict=True)}
    if not classes:
        state["decoder.blocks.0.conv1.0.weight"] = torch.zeros(8, 8, 3, 3)
    torch.save({"model_state_dict": state}, tmp_path / "net.pth")
    model = open_model(str(tmp_path / "net.pth"), device="cpu")
    assert model.arch == "timm:tf_efficientnet_b0"
    assert model.headless == (not classes)
    x = torch.rand(2, 3, 64, 64)
    answer = model.net(x)
    assert torch.equal(answer if classes else answer[0], net(x))  # features come as a tuple
    assert any("names of efficientnet_pytorch" in note for note in model.notes)
    assert any("padding for that of its input is assumed" in line for line in model.assumed)


def test_under_timms_names_nothing_tells_which_of_two_it_is(tmp_path):
    net = timm.create_model("tf_efficientnet_b0", num_classes=5)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(UsageError, match="fits several architectures: timm:efficientnet_b0, timm"):
        open_model(str(tmp_path / "net.pth"), device="cpu")


def as_its_authors_write(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in state.items():
        name = re.sub(r"^stem\.", "downsample_layers.0.", name)
        name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
        name = re.sub(r"^(stages\.\d)\.blocks\.", r"\1.", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        name = name.replace("mlp.grn.bias", "grn.beta").replace("mlp.grn.weight", "grn.gamma")
        name = re.sub(r"^head\.(norm|fc)\.", lambda m: {"fc": "head."}.get(m[1], "norm."), name)
        found[name] = value.reshape(1, 1, 1, -1) if "grn" in name else value
    return found


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_convnexts_authors_names_are_read_as_timm_reads_them(name, tmp_path):
    net = filled(timm.create_model(name, num_classes=7))
    state = as_its_authors_write(net.state_dict())
    assert "downsample_layers.0.0.weight" in state and "head.weight" in state
    theirs, ours = checkpoint_filter_fn(state, net), renamed(state).state
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    torch.save({"model": state, "epoch": 3}, tmp_path / "net.pth")
    model = open_model(str(tmp_path / "net.pth"), arch=f"timm:{name}", device="cpu")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.net(x), net(x))
    assert any("names of ConvNeXt's authors" in note for note in model.notes)


def test_of_two_networks_in_a_file_both_are_renamed(tmp_path):
    state = as_its_authors_write(timm.create_model("convnext_atto", num_classes=7).state_dict())
    both = {
        f"{part}.{name}": value for part in ("student", "teacher") for name, value in state.items()
    }
    found = renamed(both).state
    assert {"student.stem.0.weight", "teacher.head.fc.weight"} <= set(found)
    assert len(found) == len(both)


@pytest.mark.parametrize("number", ["0", "9" * 5000, "٣"])
def test_names_and_shapes_that_make_no_sense_are_left_to_who_reads_them(number):
    state = {"_conv_stem.weight": torch.zeros(()), "_bn0.running_mean": torch.zeros(0)}
    state |= {"_blocks.0._depthwise_conv.weight": torch.zeros(2, 2)}
    state |= {f"_blocks.{number}._project_conv.weight": torch.zeros(()), "_blocks.": torch.zeros(1)}
    found = renamed(state).state
    assert len(found) == len(state) and "conv_stem.weight" in found


def test_where_two_tensors_would_have_one_name_none_is_renamed():
    state = as_its_authors_write(timm.create_model("convnext_atto").state_dict())
    assert renamed(state).said
    both = {**state, "stem.0.weight": torch.zeros(1)}
    assert renamed(both).state == both and not renamed(both).said
