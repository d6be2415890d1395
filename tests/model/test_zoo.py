from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnlens.model.architectures import blank, shapes_of, weightless
from cnnlens.model.fit import fit
from cnnlens.model.zoo import ZOO, architecture

from .nets import infer

# side of the maps after each convolution and each pooling: Chatfield et al., Table 1, worked out
# with sizes rounded up; Caffe's own log for CaffeNet
SIDES = {
    "vgg_m": [109, 54, 26, 13, 13, 13, 13, 6],
    "vgg_s": [109, 37, 35, 18, 18, 18, 18, 6],
    "caffenet": [55, 27, 27, 13, 13, 13, 13, 6],
    "shapes_net": [64, 32, 32],
}
# of VGG-M and VGG-S with a thousand classes, and of CaffeNet
PARAMETERS = {"vgg_m": 102_908_520, "vgg_s": 102_908_520, "caffenet": 60_965_224}


def built(name: str, **options: int) -> nn.Module:
    with weightless():
        return ZOO[name].make(**options)


@pytest.mark.parametrize("name", SIDES)
def test_maps_have_the_published_sizes(name: str) -> None:
    net = built(name).to("meta")
    sides: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    settings = ZOO[name].preprocess
    logits = net(torch.zeros(2, 3, *settings.size, device="meta"))
    assert sides == SIDES[name]
    assert logits.shape == (2, ZOO[name].classes)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    assert sum(p.numel() for p in built(name).parameters()) == PARAMETERS[name]


def test_normalization_comes_where_the_papers_have_it() -> None:
    order = {name: [type(m).__name__ for m in built(name).features] for name in PARAMETERS}
    lrn, pool = "LocalResponseNorm", "MaxPool2d"
    wanted = {
        "vgg_m": [lrn, pool, lrn, pool, pool],
        "vgg_s": [lrn, pool, pool, pool],
        "caffenet": [pool, lrn, pool, lrn, pool],
    }
    assert {n: [k for k in kinds if k in (lrn, pool)] for n, kinds in order.items()} == wanted


def test_caffe_networks_see_blue_first_and_values_up_to_255() -> None:
    pixels = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    pixels[0, 0] = 200  # red
    x = ZOO["vgg_m"].preprocess.normalize(pixels)
    assert torch.allclose(x.flatten(), torch.tensor([-103.939, -116.779, 200 - 123.68]))


@pytest.mark.parametrize(
    "name",
    [name for name in ZOO if name != "resnet1202" and not ZOO[name].by_name],  # built slowly
)
def test_state_dicts_of_the_zoo_are_inferred(name: str) -> None:
    shapes = shapes_of(built(name, num_classes=7).state_dict())
    found = infer(shapes)
    assert found.architecture.name == f"zoo:{name}"
    assert found.options["num_classes"] == 7


def test_a_network_of_another_ones_tensors_is_never_inferred() -> None:
    shapes = shapes_of(built("wideresnet18", num_classes=7).state_dict())
    assert infer(shapes).architecture.name == "torchvision:resnet18"
    assert fit(architecture("wideresnet18"), shapes).exact


@pytest.mark.parametrize("within", [blank, weightless])
def test_weights_that_are_about_to_be_replaced_are_not_drawn(within):
    before = torch.get_rng_state()
    with within():
        for layer in (nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Embedding(6, 2)):
            nn.init.trunc_normal_(layer.weight)
        assert nn.BatchNorm2d(3).weight.is_meta or torch.equal(
            nn.BatchNorm2d(3).weight, torch.ones(3)
        )
    assert torch.equal(torch.get_rng_state(), before)
    nn.Conv2d(3, 4, 3)
    assert not torch.equal(torch.get_rng_state(), before)


class Redrawn(TorchFunctionMode):
    """Memory that holds a number; ends what draws for ever."""

    def __init__(self, held):
        super().__init__()
        self.held, self.times = held, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.times += func is torch.where
        assert self.times < 20, "numbers are drawn again and again"
        found = func(*args, **(kwargs or {}))
        return found.fill_(self.held) if func is torch.empty_like else found


@pytest.mark.parametrize("held", [7.0, 0.01, -1e30])
@pytest.mark.parametrize("within", [1, 0.1])  # drawn about the mean, or between the bounds
def test_weights_that_are_not_drawn_are_not_drawn_again_whatever_memory_holds(held, within):
    with Redrawn(held), blank():
        nn.init.trunc_normal_(torch.full((4, 5), held), std=1, a=-within, b=within)
