"""How many channels a network takes, beside how its images are said to be read."""

from __future__ import annotations

import torch
from torch import nn

from cnnlens.model.architectures import first_convolution
from cnnlens.model.borrowed import borrowed
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.trace import as_input


def as_many_channels(net: nn.Module, settings: Preprocess) -> Preprocess:
    """Give the settings as many channels as the network takes."""
    first = first_convolution(net)
    if first is None or first[1].in_channels == settings.channels:
        return settings
    # the first convolution may see what was made of the image (its blocks, its frequencies)
    other = settings.with_channels(first[1].in_channels)
    return settings if _runs(net, settings) and not _runs(net, other) else other


def _runs(net: nn.Module, settings: Preprocess) -> bool:
    """Whether a network takes images as these settings make them."""
    black = torch.zeros(1, settings.channels, *settings.size)
    try:
        with borrowed(net), torch.no_grad():
            net(as_input(net, black))
    except Exception:  # whatever its layers raise
        return False
    return True
