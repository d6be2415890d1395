"""Small networks for the engine's tests, opened by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess


def model_of(net: nn.Module, channels: int = 3, size: tuple[int, int] = (32, 32)) -> Model:
    preprocess = Preprocess(size, (0.5,) * channels, (0.5,) * channels)
    net = net.eval().requires_grad_(False)
    return Model(net, "test", "test", preprocess, None, "test")


def layer_of(model: Model, name: str) -> Layer:
    return find_layers(model).resolve(name)


def seeded(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Small(nn.Module):
    """Two convolutions with functional, in-place rectifiers, and a linear head."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, 8, 5, stride=2, padding=2)
        self.two = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            for seed, p in enumerate(self.parameters()):
                p.copy_(seeded(tuple(p.shape), seed) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        x = F.max_pool2d(x, 2)
        x = F.relu(self.two(x))
        return self.head(x.mean((2, 3)))


class Linear(nn.Module):
    """One convolution whose kernel covers the whole input: one unit, linear in the pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(weight.shape[0], 1, weight.shape[1:], bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(weight[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
