"""Ablation, literally: the whole network again for every unit, with a hook, image after image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def scores_without(
    net: nn.Module, layer: str, x: Tensor, units: Sequence[int], to: Tensor
) -> Tensor:
    """Scores (N, K) of images x with some units' maps replaced by `to`, (C, H, W)."""

    def replace(module: nn.Module, args: object, output: Tensor) -> Tensor:
        changed = output.clone()
        for unit in units:
            changed[:, unit] = to[unit]
        return changed

    handle = net.get_submodule(layer).register_forward_hook(replace)
    try:
        return torch.cat([net(image[None]) for image in x])
    finally:
        handle.remove()


def balanced(said: np.ndarray, wanted: np.ndarray, cls: int) -> float:
    """(True-positive rate + true-negative rate) / 2 of "predicted as this class"."""
    own = [s == cls for s, w in zip(said, wanted, strict=True) if w == cls]
    others = [s != cls for s, w in zip(said, wanted, strict=True) if w != cls]
    return (sum(own) / len(own) + sum(others) / len(others)) / 2
