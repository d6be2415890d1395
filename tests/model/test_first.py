from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.model.first import first_filters
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from tests.model.nets import network
from tests.synthesize.nets import Small, model_of


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
