"""Copies of networks, and twins of random weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from cnnlens.model.preprocess import Preprocess
from cnnlens.model.twin import copied, untrained
from cnnlens.model.wrap import wrap_module

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
WAYS = {"plain": lambda m: m, "old": weight_norm, "new": parametrizations.weight_norm}


def network(way):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    return nn.Sequential(WAYS[way](layers[0]), *layers[1:])


@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_has_just_learned_can_be_copied(way):
    net, x = network(way), torch.rand(2, 3, 16, 16)
    net(x).sum().backward()
    assert torch.equal(copied(net)(x), net(x))


@pytest.mark.parametrize("way", WAYS)
def test_a_twin_has_other_filters_than_the_network(way):
    model = wrap_module(network(way), Preprocess((16, 16)))
    nets = model.net, untrained(model).net
    for net in nets:
        net(torch.rand(2, 3, 16, 16))  # where a weight is computed from parts, it is now
    own, others = (net[0].weight.detach().flatten() for net in nets)
    assert torch.corrcoef(torch.stack([own, others]))[0, 1].abs() < 0.5
