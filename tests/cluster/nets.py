"""A small classifier for the tests of what clusters and explains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess


def classifier(
    classes: Sequence[str] | None = None, bias: Sequence[float] = (0.0, 0.0, 0.0)
) -> Model:
    """Two convolutions and three classes, of images 20×20."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    net[-1].bias.data = torch.tensor(bias, dtype=torch.float32)
    names = list(classes) if classes else None
    net = net.eval().requires_grad_(False)
    return Model(net, "test", "a test's net", Preprocess(size=(20, 20)), names, "0")


def last_layer(model: Model) -> Layer:
    return find_layers(model).resolve("last")
