from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlens.errors import UsageError
from cnnlens.model.convolutions import convolutions_of, find_convolutions, first_filters
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from tests.model.nets import network
from tests.synthesize.nets import Small, model_of


class Mixed(nn.Module):
    """A functional rectifier, a batch norm, a group norm, and a convolution that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two, self.gn = nn.Conv2d(4, 6, 3, padding=1), nn.GroupNorm(2, 6)
        self.kernel = nn.Parameter(torch.ones(5, 6, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.one(x)))
        x = torch.tanh(self.gn(self.two(x)))
        return F.conv2d(x, self.kernel).mean(dim=(2, 3))


@pytest.fixture
def mixed() -> Model:
    preprocess = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Model(Mixed().eval(), "mixed", "mixed", preprocess, None, "0")


def test_modules_and_their_batch_norms_are_found(mixed):
    found = [(c.alias, c.path, c.norm, c.units) for c in find_convolutions(mixed)]
    assert found == [("conv1", "one", "bn", 4), ("conv2", "two", "", 6)]


@pytest.mark.parametrize("name", ["conv1", "one", "bn"])
def test_any_name_of_it_leads_to_the_convolution(mixed, name):
    [(layer, convolution)] = convolutions_of(mixed, [name])
    assert (layer.name, convolution.path) == (name, "one")


def test_two_names_of_one_convolution_count_once(mixed):
    assert len(convolutions_of(mixed, ["conv1", "one"])) == 1


def test_convolutions_come_in_the_order_of_the_forward_pass(mixed):
    assert [c.path for _, c in convolutions_of(mixed, ["two", "one"])] == ["one", "two"]


def test_all_convolutions_unless_some_are_named(mixed):
    assert [c.path for _, c in convolutions_of(mixed)] == ["one", "two"]


def test_a_layer_that_is_no_convolution_is_refused_by_name():
    model = open_model("zoo:demo_net")
    with pytest.raises(UsageError, match="'pool1' is no convolution"):
        convolutions_of(model, ["pool1"])
    with pytest.raises(UsageError, match="no layer 'conv9'"):
        convolutions_of(model, ["conv9"])


def test_rectifiers_of_sequences_stand_for_their_convolution():
    model = open_model("zoo:demo_net")
    assert [c.path for _, c in convolutions_of(model, ["relu2"])] == ["conv2"]


@pytest.mark.parametrize(
    ("spec", "count", "first", "norm"),
    [
        ("torchvision:alexnet", 5, "features.0", ""),
        ("torchvision:squeezenet1_0", 26, "features.0", ""),
        ("torchvision:resnet18", 20, "conv1", "bn1"),
        ("zoo:caffenet", 5, "features.0", ""),
    ],
)
def test_the_papers_networks_have_all_their_convolutions(spec, count, first, norm):
    found = find_convolutions(open_model(spec))
    assert len(found) == count
    assert (found[0].path, found[0].norm) == (first, norm)
    assert all(bool(c.norm) == bool(norm) for c in found)


@pytest.mark.parametrize("name", ["conv1", "module:conv1", "bn1", "relu"])
def test_the_first_convolution_is_known_by_all_its_names(name):
    model = model_of(network("resnet18"), size=(64, 64))
    weights = first_filters(model, find_layers(model).resolve(name))
    np.testing.assert_allclose(weights, model.net.conv1.weight.numpy() / 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv2", "maxpool", "layer1"])
def test_later_layers_have_no_weights_on_pixels(name):
    model = model_of(network("resnet18"), size=(64, 64))
    assert first_filters(model, find_layers(model).resolve(name)) is None


def test_weights_times_pixels_change_the_activation_whatever_the_preprocessing():
    preprocess = Preprocess((16, 16), (100.0, 110.0, 120.0), (1.0, 2.0, 4.0), scale=255.0, bgr=True)
    model = Model(Small().eval(), "t", "t", preprocess, None, "t")
    weights = first_filters(model, find_layers(model).resolve("one"))
    grey = torch.full((1, 3, 16, 16), 0.5)
    with torch.no_grad():
        before = model.net.one(preprocess.normalize(grey))[0, :, 4, 4]
        grey[0, 2, 8, 8] += 0.1  # a bluer pixel, under the kernel's centre
        after = model.net.one(preprocess.normalize(grey))[0, :, 4, 4]
    np.testing.assert_allclose(after - before, weights[:, 2, 2, 2] * 0.1, rtol=1e-3, atol=1e-4)
