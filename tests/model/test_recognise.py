"""Checkpoints as training scripts write them: each opens as the network that wrote it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from cnnlens.attribution.cam import ClassMaps
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model import zoo
from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import shapes_of
from cnnlens.model.classes import gives_scores
from cnnlens.model.fit import fit
from cnnlens.model.model import Model
from cnnlens.model.open import open_model

from .nets import network

X = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
State = dict[str, torch.Tensor]

pytestmark = pytest.mark.usefixtures("home")


def resnet(**options: Any) -> Any:
    torch.manual_seed(0)
    return network("resnet18", **options)


@pytest.fixture(scope="module")
def net() -> Any:
    return resnet(num_classes=7)


def shifted(state: State) -> State:
    return {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}


def under(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


def body_and_head(state: State) -> State:
    names = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    body = {f"{names[k.partition('.')[0]]}.{k.partition('.')[2]}": v
            for k, v in state.items() if not k.startswith("fc")}  # fmt: skip
    return {**under("0.", body), "1.8.weight": state["fc.weight"], "1.8.bias": state["fc.bias"]}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "lightning": lambda s: {"state_dict": {**under("model.", s), "criterion.weight": torch.ones(7)},
                            "pytorch-lightning_version": "2.2", "callbacks": {}},
    "metrics": lambda s: {**under("net.", s), "acc.confmat": torch.ones(7, 7)},
    "mmpretrain": lambda s: {"meta": {"epoch": 1}, "state_dict": {
        f"head.{k}" if k.startswith("fc") else f"backbone.{k}": v for k, v in s.items()}},
    "dino": lambda s: {
        "student": under("module.backbone.", shifted(s)),
        "teacher": under("backbone.", {k: v for k, v in s.items() if k[:2] != "fc"})
                   | {"head.mlp.0.weight": torch.ones(9, 512), "head.mlp.0.bias": torch.ones(9)}},
    "moco": lambda s: {"state_dict": under("module.encoder_k.", shifted(s))
                       | under("module.encoder_q.", s) | {"module.queue": torch.ones(8, 9)}},
    "compiled": lambda s: {"model": under("_orig_mod.module.", s)},
    "fsdp": lambda s: {k.replace("layer1.", "layer1._fsdp_wrapped_module."): v
                       for k, v in s.items()},
    "swa": lambda s: {**under("module.", s), "n_averaged": torch.tensor(3)},
    "fastai": lambda s: {"model": s, "opt": {"state": [shifted(s)], "hypers": []}},
    "fastai_body": lambda s: {"model": body_and_head(s)},
    "timm_training": lambda s: {"epoch": 3, "arch": "resnet18", "state_dict": s,
                                "args": argparse.Namespace(model="resnet18", lr=0.1),
                                "state_dict_ema": shifted(s), "metric": np.float64(0.9)},
    "references": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
                             "args": argparse.Namespace(data=Path("imagenet"))},
    "catalyst": lambda s: {"model_state_dict": s, "epoch_metrics": {"acc": np.float32(0.5)}},
    "profiled": lambda s: {**s, "total_ops": torch.zeros(1), "layer1.0.total_ops": torch.zeros(1)},
    "partly_parallel": lambda s: {
        k.replace("layer2.", "layer2.module."): v for k, v in s.items()},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "bfloat16": lambda s: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
    "double": lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
}  # fmt: skip
HEADLESS = ("dino", "moco")


def opened(tmp_path: Path, content: Any, **options: Any) -> Model:
    torch.save(content, tmp_path / "net.pth")
    return open_model(str(tmp_path / "net.pth"), device="cpu", **options)


def deep(net: Any, x: torch.Tensor = X) -> torch.Tensor:
    """Maps (1, 512, 1, 1) that every convolution but none of the head's has a part in."""
    seen = []
    handle = net.layer4.register_forward_hook(lambda _, __, y: seen.append(y))
    with torch.no_grad():
        net(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("layout", "arch"),
    [*((one, None) for one in LAYOUTS),
     *((one, "resnet18") for one in ("lightning", "moco", "mmpretrain", "dino", "swa"))],
)  # fmt: skip
def test_layouts_open_as_the_network_that_wrote_them(
    net: Any, tmp_path: Path, layout: str, arch: str | None
) -> None:
    model = opened(tmp_path, LAYOUTS[layout](net.state_dict()), arch=arch)
    assert model.arch == "torchvision:resnet18"
    near = {"half": 2e-2, "bfloat16": 1e-1}.get(layout, 1e-5)
    assert torch.allclose(deep(model.net), deep(net), rtol=near, atol=near)
    assert model.headless is (layout in HEADLESS)
    if not model.headless:
        assert torch.allclose(model.net(X), net(X), rtol=near, atol=near)
    assert set(model.assumed) <= set(model.notes)
    assert all(line in " ".join(model.notes) for line in model.stripped)


def test_what_is_left_out_is_named(net: Any, tmp_path: Path) -> None:
    model = opened(tmp_path, LAYOUTS["lightning"](net.state_dict()))
    assert model.stripped == ["the prefix model.", "left out: criterion"]


def test_two_networks_in_one_dict_are_said_and_to_be_had(net: Any, tmp_path: Path) -> None:
    content = LAYOUTS["moco"](net.state_dict())
    assert any("also holds encoder_k: --weights" in n for n in opened(tmp_path, content).notes)
    for key in ("encoder_k", "module.encoder_k", "state_dict.module.encoder_k"):
        other = opened(tmp_path, content, weights=key)
        assert torch.equal(other.net.state_dict()["bn1.bias"], net.bn1.bias + 1)


def heads() -> Iterator[tuple[str, nn.Module]]:
    yield "dropout", nn.Sequential(nn.Dropout(), nn.Linear(512, 4))
    yield "deeper", nn.Sequential(nn.Linear(512, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 4))
    yield (
        "norm",
        nn.Sequential(
            nn.Linear(512, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 4)
        ),
    )
    yield "straight", nn.Sequential(nn.Linear(512, 9), nn.Linear(9, 4))


@pytest.mark.parametrize(("kind", "head"), heads())
def test_heads_of_their_own_compute_what_they_did(
    tmp_path: Path, kind: str, head: nn.Module
) -> None:
    net = resnet()
    net.fc = head
    net.eval()
    model = opened(tmp_path, net.state_dict())
    assert torch.allclose(model.net(X), net(X), atol=1e-5)
    assert any("rectifier" in line for line in model.assumed) is (kind in ("deeper", "norm"))
    assert any("its head fc" in note for note in model.notes)


@pytest.mark.parametrize(
    ("between", "is_taken"),
    [
        ({}, True),
        ({"criterion.weight": torch.ones(5), "val_acc.total": torch.zeros(())}, True),
        ({"norm.weight": torch.ones(512), "norm.bias": torch.zeros(512)}, False),
        ({"neck.0.weight": torch.zeros(512, 512, 3, 3)}, False),
        ({"pool.p": torch.full((1,), 3.0)}, False),
        ({"bnneck.running_mean": torch.ones(512)}, False),
    ],
)
def test_a_head_beside_is_taken_where_nothing_may_stand_between(
    net: Any, tmp_path: Path, between: State, is_taken: bool
) -> None:
    body = {f"backbone.{k}": v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    head = {"head.weight": torch.randn(5, 512), "head.bias": torch.zeros(5)}
    torch.save({**body, **between, **head}, tmp_path / "m.pt")
    model = open_model(tmp_path / "m.pt")
    assert gives_scores(model) == is_taken
    assert "head" in " ".join(model.stripped)


def test_a_network_without_its_head_has_features_and_no_classes(tmp_path: Path) -> None:
    net = resnet()
    net.fc = nn.Identity()
    model = opened(tmp_path, net.state_dict())
    assert torch.allclose(model.net(X).features, net(X), atol=1e-5)
    assert (model.headless, model.classes, gives_scores(model)) == (True, None, False)
    assert any("features, not classes" in note for note in model.notes)
    for method in ("cam", "gradcam"):
        with pytest.raises(UsageError, match="has no classes: its outputs are features"):
            ClassMaps(model, method)


def wrapped(kind: str, net: Any) -> Any:
    for module in [m for m in net.modules() if isinstance(m, nn.Conv2d)]:
        if kind == "pruned":
            prune.l1_unstructured(module, "weight", 0.5)
        elif kind == "weight_norm":
            torch.nn.utils.weight_norm(module)
        elif kind == "weight_norm_new":
            parametrizations.weight_norm(module)
        elif kind == "spectral":
            torch.nn.utils.spectral_norm(module)
        else:
            parametrizations.spectral_norm(module)
    return net.train()


@pytest.mark.parametrize(
    "kind", ["pruned", "weight_norm", "weight_norm_new", "spectral", "spectral_new"]
)
def test_weights_in_parts_are_put_together(tmp_path: Path, kind: str) -> None:
    net = wrapped(kind, resnet(num_classes=7))
    with torch.no_grad():
        net(X.repeat(2, 1, 1, 1))  # the spectral norm's vectors move on
    net.eval()
    model = opened(tmp_path, net.state_dict())
    assert torch.allclose(model.net(X), net(X), rtol=1e-4, atol=1e-4)
    assert model.stripped


@pytest.mark.parametrize("channels", [1, 13])
def test_preprocessing_is_assumed_where_the_stem_is_another(tmp_path: Path, channels: int) -> None:
    net = resnet(num_classes=7)
    net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    model = opened(tmp_path, net.state_dict())
    x = X[:, :1].repeat(1, channels, 1, 1)
    assert torch.allclose(model.net(x), net(x), atol=1e-5)
    assert model.preprocess.source == "assumed"
    assert any("preprocessing" in line for line in model.assumed)


def test_a_small_stem_that_only_timm_or_torchvision_has_is_assumed(tmp_path: Path) -> None:
    net = resnet(num_classes=7)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    model = opened(tmp_path, net.state_dict(), arch="torchvision:resnet18")
    assert torch.allclose(model.net(X), net(X), atol=1e-5)
    assert any("stride 1 and no max pool" in line for line in model.assumed)


def test_a_large_stem_makes_no_network_of_small_images_of_one_that_has_strides(
    tmp_path: Path,
) -> None:
    net = zoo.ZOO["resnet18_cifar"].make(num_classes=4)
    for kernel, fits in ((5, True), (7, False)):
        net.conv1 = nn.Conv2d(3, 64, kernel, 1, kernel // 2, bias=False)
        found = fit(zoo.architecture("resnet18_cifar"), shapes_of(net.state_dict()))
        assert (adapt(found, shapes_of(net.state_dict())) is not None) is fits


def test_monais_resnets_are_refused_as_such(net: Any, tmp_path: Path) -> None:
    biases = {f"layer{n}.0.downsample.0.bias": torch.ones(32 * 2**n) for n in (2, 3, 4)}
    with pytest.raises(CnnlensError, match=r"3 unexpected \(layer2.0.downsample.0.bias") as caught:
        opened(tmp_path, {**net.state_dict(), **biases}, arch="resnet18")
    assert "MONAI's, whose first convolution has stride 1" in caught.value.hint


def test_another_network_of_the_same_names_is_not_taken_for_one(tmp_path: Path) -> None:
    state = resnet().state_dict()
    state["layer1.0.se.weight"] = torch.ones(4, 64)
    with pytest.raises(CnnlensError, match=r"does not fit torchvision:resnet18.*layer1.0.se"):
        opened(tmp_path, state, arch="resnet18")


def test_parameters_without_the_statistics_of_norms_say_what_to_save(
    net: Any, tmp_path: Path
) -> None:
    with pytest.raises(CnnlensError, match="40 missing") as caught:
        opened(tmp_path, dict(net.named_parameters()), arch="resnet18")
    assert "save net.state_dict()" in caught.value.hint


def test_code_that_builds_another_network_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\nmake = lambda: nn.Conv2d(3, 4, 3)\n")
    with pytest.raises(CnnlensError, match="does not fit") as caught:
        opened(tmp_path, nn.Conv2d(3, 5, 3).state_dict(), arch=f"{tmp_path}/own.py:make")
    assert "builds another network" in caught.value.hint
