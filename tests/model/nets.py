"""Networks for the tests: torchvision's own classes with cheap, well-behaved random weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from cnnlens.model.architectures import Shapes
from cnnlens.model.fit import Fit
from cnnlens.model.hooks import read
from cnnlens.model.infer import no_fit, one_of, search
from cnnlens.model.layers import Layers
from cnnlens.model.open import open_model
from cnnlens.model.trace import Place, trace


def small_net() -> nn.Sequential:
    """Two convolutions, one of them normalized, and three classes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def network(name: str, **settings: object) -> nn.Module:
    """Build on the meta device, then fill: much quicker than every layer's own initialisation."""
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(weights=None, **settings)
        if name.startswith("vgg"):
            net.classifier = nn.Linear(25088, 5)
        if name == "alexnet":
            net.classifier = nn.Linear(9216, 5)
    return filled(net.to_empty(device="cpu"))


def infer(shapes: Shapes, what: str = "the state dict") -> Fit:
    """Find the one architecture of a state dict, as `recognise` does where nothing was changed."""
    found = search(shapes)
    if exact := [fit for fit in found if fit.exact]:
        return one_of(exact, what)
    raise no_fit(found, shapes, what)


def opened(tmp_path: Path, content: Any, **options: Any) -> Any:
    """Open a file that holds this."""
    torch.save(content, tmp_path / "net.pt")
    return open_model(str(tmp_path / "net.pt"), device="cpu", **options)


def filled(net: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            fan_in = math.prod(p.shape[1:])
            if p.ndim == 1 and name.endswith("weight"):
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=generator))
            else:
                scale = 0.1 if p.ndim == 1 else math.sqrt(2 / fan_in)
                p.copy_(scale * torch.randn(p.shape, generator=generator))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            if hasattr(module, "define_relative_position_index"):
                module.define_relative_position_index()  # lost on the meta device
    return net.eval()


def layers_of(net: nn.Module, size: tuple[int, int] = (64, 64), channels: int = 3) -> Layers:
    shape = (1, channels, *size)
    return Layers(trace(net, torch.rand(shape, generator=torch.Generator().manual_seed(1))), shape)


def pictures(count: int = 2, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.rand((count, 3, *size), generator=torch.Generator().manual_seed(2)) * 2 - 1


def value(net: nn.Module, x: Tensor, place: Place) -> Tensor:
    with torch.no_grad():
        return read(net, x, [place])[0]
