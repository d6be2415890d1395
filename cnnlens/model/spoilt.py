"""Weights that no training leaves on purpose: numbers that are none, and zeros alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlens.errors import counted


@torch.no_grad()
def spoilt(net: nn.Module) -> list[str]:
    """Say what is wrong with the numbers in a network, a line each; empty where nothing is."""
    weights = {name: t for name, t in net.named_parameters() if _has_numbers(t)}
    # masks of attention are buffers, and infinite on purpose
    buffers = {name: t for name, t in net.named_buffers() if _has_numbers(t)}
    bad = [name for name, tensor in weights.items() if not _is_finite(tensor)]
    bad += [name for name, tensor in buffers.items() if bool(tensor.isnan().any())]
    lines = []
    if bad:
        where = f"{counted(len(bad), 'tensor')} of it: {', '.join(bad[:3])}"
        lines.append(f"numbers that are not finite (NaN, infinite) are in {where}")
    if weights and not any(bool(tensor.any()) for tensor in weights.values()):
        lines.append("all its weights are 0: it answers the same to every image")
    return lines


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not tensor.is_meta


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; their sum, which is quick, tells it unless it overflows."""
    return bool(tensor.sum().isfinite()) or bool(torch.isfinite(tensor).all())
