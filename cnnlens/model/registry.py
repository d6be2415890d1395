"""Every name that stands for an architecture, whoever keeps it."""

from __future__ import annotations

from torch import nn

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model import factory, torchvision_nets
from cnnlens.model.architecture import Architecture


def is_spec(text: str) -> bool:
    """Whether a text has the form of a registry name or a factory, rather than of a file."""
    return text.startswith(("torchvision:", "timm:", "zoo:")) or factory.is_factory(text)


def architecture(spec: str) -> Architecture:
    """Look up ``torchvision:NAME``, ``timm:NAME``, ``zoo:NAME``, a factory or a bare name.

    Raises
    ------
    UsageError
        When nothing of that name exists.
    """
    prefix, colon, name = spec.partition(":")
    if colon and prefix == "torchvision":
        return torchvision_nets.architecture(name)
    if factory.is_factory(spec):
        return factory.architecture(spec)
    if spec in torchvision_nets.names():
        return torchvision_nets.architecture(spec)
    raise UsageError(f"no architecture '{spec}'", did_you_mean(spec, torchvision_nets.names()))


def outputs(net: nn.Module) -> int | None:
    """Number of classes a network gives, read off its last linear layer or 1x1 convolution."""
    last = None
    for module in net.modules():
        if isinstance(module, nn.Linear):
            last = module.out_features
        elif isinstance(module, nn.Conv2d):
            last = module.out_channels
    return last
