"""What a MODEL turned out to be, before the user's overrides and the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnlens.model.architecture import Architecture
from cnnlens.model.preprocess import Preprocess


@dataclass
class Opened:
    """A network and what is known about it.

    Attributes
    ----------
    net : torch.nn.Module
        On the CPU.
    arch : str
        Its architecture's name.
    preprocess : Preprocess or None
        None where nobody knows.
    classes : list of str or None
        Names of its outputs.
    source : str
        What else decides how it computes, for the fingerprint.
    batch : int or None
        The only batch size it accepts.
    fixed_size : bool
        Whether it takes pictures of the preprocessing's size only.
    notes : sequence of str
        For the user to read.
    surgery : sequence of dict
        Plans of what was done to the architecture, see `surgery`.
    """

    net: nn.Module
    arch: str
    preprocess: Preprocess | None = None
    classes: list[str] | None = None
    source: str = ""
    batch: int | None = None
    fixed_size: bool = False
    notes: Sequence[str] = ()
    surgery: Sequence[dict[str, Any]] = ()


def described(known: Architecture, net: nn.Module, notes: Sequence[str] = ()) -> Opened:
    """Add what an architecture knows about a network built from it."""
    outputs = count_outputs(net)
    classes = known.class_names(outputs) if outputs else None
    return Opened(
        net,
        known.name,
        known.preprocess(net),
        classes,
        # GoogLeNet and Inception: a switch that changes the result and is in no state dict
        known.source + ("transform_input" if getattr(net, "transform_input", False) else ""),
        # vision transformers have one position embedding per patch
        fixed_size=isinstance(getattr(net, "image_size", None), int),
        notes=notes,
    )


def count_outputs(net: nn.Module) -> int | None:
    """Number of classes a network gives, read off its last linear layer or convolution."""
    last = None
    for module in net.modules():
        if isinstance(module, nn.Linear):
            last = module.out_features
        elif isinstance(module, nn.Conv2d):
            last = module.out_channels
    return last
