from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.architectures import shapes_of, weightless
from cnnlens.model.architectures import timm as timm_nets
from cnnlens.model.architectures import torchvision as torchvision_nets
from cnnlens.model.entries import View
from cnnlens.model.fit import Fit, build, fit, quick_fit
from cnnlens.model.recognise import recognise

from .nets import infer

Shapes = dict[str, tuple[int, ...]]


def torchvision_shapes(name: str, **options: object) -> Shapes:
    with weightless():
        net = torchvision.models.get_model(name, weights=None, **options)
    return shapes_of(net.state_dict())


def timm_shapes(name: str, **options: object) -> Shapes:
    timm = pytest.importorskip("timm")
    with weightless():
        return shapes_of(timm.create_model(name, **options).state_dict())


def told(found: Fit) -> tuple[str, int]:
    return found.architecture.name, found.options.get("num_classes", 1000)


@pytest.mark.parametrize("name", torchvision_nets.names())
def test_every_torchvision_network_is_inferred_with_its_own_number_of_classes(name: str) -> None:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    shapes = torchvision_shapes(name, num_classes=7, **options)
    assert told(infer(shapes)) == (f"torchvision:{name}", 7)


def test_all_of_torchvisions_classification_networks_are_known() -> None:
    listed = torchvision.models.list_models(module=torchvision.models)
    assert len(listed) >= 80
    assert set(torchvision_nets.names()) == set(listed)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_32", "maxvit_t"])
def test_a_thousand_classes_and_one_class_are_inferred(name: str) -> None:
    assert told(infer(torchvision_shapes(name)))[0] == f"torchvision:{name}"
    assert told(infer(torchvision_shapes(name, num_classes=1))) == (f"torchvision:{name}", 1)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_training_heads_may_be_there_or_not(name: str, auxiliary: bool) -> None:
    shapes = torchvision_shapes(name, aux_logits=auxiliary, num_classes=5, init_weights=False)
    found = infer(shapes)
    assert told(found) == (f"torchvision:{name}", 5)
    assert found.options["aux_logits"] is auxiliary


def test_counters_of_batches_may_be_missing() -> None:
    shapes = torchvision_shapes("resnet18")
    old = {k: v for k, v in shapes.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(shapes)
    assert infer(old).exact


def test_the_picture_size_of_a_vision_transformer_follows_its_position_embedding() -> None:
    found = infer(torchvision_shapes("vit_b_16", image_size=384))
    assert found.options["image_size"] == 384


def test_another_number_of_input_channels_is_followed() -> None:
    shapes = torchvision_shapes("resnet18", num_classes=10)
    shapes["conv1.weight"] = (64, 1, 7, 7)
    found = infer(shapes)
    assert (found.exact, found.channels, told(found)[1]) == (True, 1, 10)
    state = {k: torch.zeros(s) for k, s in shapes.items()}
    assert build(found, state).eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_the_nearest_architecture_and_what_differs_are_named(without_timm: None) -> None:
    shapes = torchvision_shapes("resnet18")
    shapes["layer1.0.conv1.weight"] = (64, 64, 5, 5)
    del shapes["fc.bias"]
    shapes["extra.weight"] = (3,)
    with pytest.raises(CnnlensError) as caught:
        infer(shapes, "net.pt")
    message = caught.value.message
    assert "net.pt fits no known architecture; nearest is torchvision:resnet18" in message
    assert f"{len(shapes) - 2} of {len(shapes) + 1} tensors fit" in message
    assert "layer1.0.conv1.weight (64, 64, 5, 5) instead of (64, 64, 3, 3)" in message
    assert "1 missing (fc.bias)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "--arch file.py:factory" in caught.value.hint


def test_a_narrow_network_of_the_same_names_is_nearest_to_its_family(without_timm: None) -> None:
    shapes = torchvision_shapes("resnet34")
    narrow = {k: tuple(n // 4 if n >= 64 else n for n in s) for k, s in shapes.items()}
    # of any width are CIFAR's networks only, but their stem is another one
    with pytest.raises(CnnlensError, match="nearest is zoo:resnet34_cifar: 217 of 218") as caught:
        infer(narrow)
    assert "conv1.weight (16, 3, 7, 7) instead of (16, 3, 3, 3)" in caught.value.message


def test_names_that_nobody_uses_fit_nothing(without_timm: None) -> None:
    with pytest.raises(CnnlensError, match=r"fits no known architecture \(it begins with alpha\)"):
        infer({"alpha": (3, 4)})


def test_what_shares_a_name_or_two_is_no_nearest_network(without_timm: None) -> None:
    lenet = {"conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,), "fc1.weight": (120, 400)}
    with pytest.raises(CnnlensError, match=r"fits no known architecture \(it begins with conv1"):
        infer(lenet | {f"fc{n}.weight": (9, 9) for n in range(2, 9)})


@pytest.mark.parametrize(
    ("name", "classes"), [("resnet26d", 7), ("mobilenetv4_conv_small", 3), ("levit_128", 4)]
)
def test_timm_networks_are_inferred(name: str, classes: int) -> None:
    found = infer(timm_shapes(name, num_classes=classes))
    assert told(found) == (f"timm:{name}", classes)


def test_a_timm_network_without_a_head_is_inferred() -> None:
    assert told(infer(timm_shapes("resnet26d", num_classes=0))) == ("timm:resnet26d", 0)


@pytest.mark.parametrize("name", ["resnet26d", "levit_128", "efficientnet_b0", "convnext_atto"])
def test_few_networks_of_timm_are_likely_and_the_right_one_among_them(name: str) -> None:
    shapes = timm_shapes(name)
    likely = timm_nets.likely(shapes)
    assert name in likely
    assert len(likely) < len(timm_nets.names()) / 4


def test_what_did_not_seem_likely_is_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = timm_shapes("levit_128")
    monkeypatch.setattr(timm_nets, "names", lambda: ("levit_128", "levit_192"))
    monkeypatch.setattr(timm_nets, "likely", lambda keys: ["levit_192"])
    assert told(infer(shapes)) == ("timm:levit_128", 1000)


def test_networks_that_differ_in_padding_or_blur_alone_are_ambiguous() -> None:
    with pytest.raises(UsageError) as caught:
        infer(timm_shapes("efficientnet_b0", num_classes=7))
    names = "timm:efficientnet_b0, timm:efficientnet_blur_b0, timm:tf_efficientnet_b0"
    assert names in caught.value.message
    assert "--arch" in caught.value.hint


def test_networks_of_two_modules_are_ambiguous_too() -> None:
    with pytest.raises(UsageError) as caught:
        infer(timm_shapes("deit_tiny_patch16_224"))
    assert "timm:deit_tiny_patch16_224, timm:vit_tiny_patch16_224" in caught.value.message


def some_of_timm(monkeypatch: pytest.MonkeyPatch, home: Path, *names: str) -> None:
    """Have nothing remembered, and few to search."""
    monkeypatch.setenv("CNNLENS_HOME", str(home))
    monkeypatch.setattr(timm_nets, "names", lambda: names)
    monkeypatch.setattr(timm_nets, "likely", lambda keys: [])


def with_other_head(name: str, head: str) -> View:
    """A network of timm's that ends in two linear layers of the user's own."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        net = timm.create_model(name)
        width = net.get_submodule(head).in_features
        setattr(net, head, nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 5)))
    return View("", dict(net.state_dict()))


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (("mobilenetv3_small_075", "tf_mobilenetv3_small_075"), "classifier"),  # padding
        (("resnet34d", "resnetaa34d"), "fc"),  # strides
    ],
)
def test_they_are_with_a_head_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], head: str
) -> None:
    view = with_other_head(names[1], head)
    some_of_timm(monkeypatch, tmp_path, *names)
    with pytest.raises(UsageError, match=f"several architectures: timm:{', timm:'.join(names)}"):
        recognise([view], "it")
    for name in names:  # what the file says is no question
        assert recognise([view], "it", name)[1].architecture.name == f"timm:{name}"


def test_with_a_head_of_ones_own_it_is_found_behind_others_of_the_same_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "vit_base_patch16_clip_224"
    view = with_other_head(name, "head")
    alike = [f"{kind}_base_patch16_{size}" for kind in ("deit", "vit") for size in (224, 384)]
    some_of_timm(monkeypatch, tmp_path, *alike, name)
    assert recognise([view], "it")[1].architecture.name == f"timm:{name}"


def test_fixed_filters_of_any_width_rule_no_network_out() -> None:
    shapes = timm_shapes("resnetblur50d")
    found, *_ = quick_fit(timm_nets.architecture("resnetblur50d"), shapes)
    assert found is not None and found.exact


def test_a_network_of_timm_that_fits_whole_wins_over_the_body_of_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path))
    shapes = timm_shapes("vgg11", num_classes=6)
    state = {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}
    own = {f"own{k}" if k.startswith("head") else k: v for k, v in state.items()}
    for _ in range(2):  # searched, and remembered
        found = recognise([View("", state)], "net.pt")[1]
        assert (found.architecture.name, found.headless) == ("timm:vgg11", False)
    found = recognise([View("", own)], "net.pt")[1]
    assert (found.architecture.name, found.headless) == ("torchvision:vgg11", True)


def test_torchvision_wins_over_an_equal_network_of_timm() -> None:
    assert told(infer(timm_shapes("resnet18", num_classes=9))) == ("torchvision:resnet18", 9)


def test_sets_of_weights_without_classes_name_none() -> None:
    known = torchvision_nets.architecture("vgg16")  # among them its "features"
    assert known.class_names(3) is None and len(known.class_names(1000) or ()) == 1000


def test_fitting_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    fit(torchvision_nets.architecture("resnet18"), torchvision_shapes("resnet18"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture
def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_nets, "names", tuple)
