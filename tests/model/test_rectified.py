import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cnnlens
from cnnlens.errors import UsageError
from cnnlens.model.mask import Mask
from cnnlens.model.rectified import RectifiedLayers
from cnnlens.model.surgery import Plan, head_of, operate
from cnnlens.model.wrap import wrap_module
from tests.model.nets import network


def opened(spec, **more):
    return cnnlens.open_model(spec, device="cpu", **more)


def resnet(name):
    return wrap_module(network(name), image_size=(64, 64))


def mask_calls(model, layer):
    """How often the mask runs in one pass, if it is put behind a layer."""
    net = operate(model.net, Plan(layer.place.path, layer.units, mask=True)).eval()
    calls = []
    for module in net.modules():
        if isinstance(module, Mask):
            module.register_forward_hook(lambda *_: calls.append(1))
    net(torch.rand(1, 3, 64, 64))
    return len(calls)


@pytest.mark.parametrize(
    ("name", "last", "inside", "times"),
    [("resnet18", "layer4.1", "conv19", 2), ("resnet50", "layer4.2", "conv52", 3)],
)
def test_a_rectifier_that_runs_several_times_gives_way_to_its_block(name, last, inside, times):
    model = resnet(name)
    known = RectifiedLayers(model)
    with pytest.raises(UsageError, match=f"{last}.relu.* is called {times} times") as error:
        known.named(inside)
    assert error.value.hint.endswith(f"it is in: {last}")
    found = known.last(head_of(model)[0])
    assert found.place.path == last and mask_calls(model, found) == 1


class Plain(nn.Module):
    """Two convolutions, rectified as it is told to."""

    def __init__(self, relu, second=12):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, second, 3, padding=1)
        self.relu, self.head = relu, nn.Linear(second, 3)

    def forward(self, x):
        return self.head(self.relu(self.c2(self.relu(self.c1(x)))).mean((2, 3)))


class Function(Plain):
    def __init__(self):
        super().__init__(None)
        self.relu = F.relu


class InABlock(nn.Module):
    """The same, but the functions stand in a block."""

    def __init__(self):
        super().__init__()
        self.body, self.head = Function(), nn.Linear(12, 3)
        self.body.head = nn.Identity()
        self.body.forward = lambda x: F.relu(self.body.c2(F.relu(self.body.c1(x))))

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Plain(nn.ReLU(), 8), "relu, which returns its maps, is called 2 times"),
        (lambda: Plain(nn.ReLU(), 12), "relu, which returns its maps, is called 2 times"),
        (Function, r"its activation is a function \(relu\), no module"),
    ],
)
def test_without_a_block_the_way_out_is_a_rectifier_of_its_own(make, why):
    known = RectifiedLayers(wrap_module(make(), image_size=(16, 16)))
    for ask in (lambda: known.last("head"), lambda: known.named("conv1")):
        with pytest.raises(UsageError, match=why) as error:
            ask()
        assert "an nn.ReLU of its own" in error.value.hint


def test_the_block_around_functions_serves():
    known = RectifiedLayers(wrap_module(InABlock(), image_size=(64, 64)))
    assert known.last("head").place.path == "body"
    with pytest.raises(UsageError, match="no module") as error:
        known.named("conv1")
    assert error.value.hint == "name the block that it is in: body"


def test_a_block_that_holds_the_classifier_is_none():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Tanh(), nn.Conv2d(8, 3, 1), nn.ReLU()))
    net.append(nn.Flatten())
    with pytest.raises(UsageError, match=r"no rectified convolution: .* fall below 0"):
        RectifiedLayers(wrap_module(net, image_size=(8, 8))).last("0.2")


def test_maps_that_are_0_everywhere_are_not_taken_for_rectified():
    model = resnet("resnet18")
    with torch.no_grad():
        nn.init.zeros_(model.net.layer4[1].bn2.weight)
        nn.init.zeros_(model.net.layer4[1].bn2.bias)
    assert RectifiedLayers(model).last("fc").place.path == "layer4.1"


def test_a_bare_convolution_means_the_maps_behind_its_rectifier():
    model = opened("zoo:demo_net")
    assert RectifiedLayers(model).named("module:conv2").place.path == "relu2"
    assert RectifiedLayers(model).named("last").place.path == "relu3"


@pytest.mark.parametrize("name", ["pool2", "maxpool"])
def test_what_is_no_convolution_is_named(name):
    with pytest.raises(UsageError, match=f"'{name}' is no convolution"):
        RectifiedLayers(opened("zoo:demo_net")).named(name)


def test_maps_that_are_not_rectified_are_refused():
    with pytest.raises(UsageError, match="not rectified"):
        RectifiedLayers(opened("torchvision:resnet18", image_size=(64, 64))).named("layer4.1.bn2")
