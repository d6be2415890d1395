"""The class scores in what a network returns, whatever it wraps them in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cnnlens.errors import CnnlensError
from cnnlens.model.model import Model


def class_scores(output: Any, count: int) -> Tensor:
    """Find the class scores (N, K) in a network's output: its `logits`, or what is first.

    Parameters
    ----------
    output : object
        A tensor, or a tuple, mapping or dataclass that holds some.
    count : int
        N.

    Raises
    ------
    CnnlensError
        When its first tensor has not one row of numbers per image.
    """
    named = output.get("logits") if isinstance(output, Mapping) else None
    named = getattr(output, "logits", None) if named is None else named
    if named is None and is_dataclass(output):
        output = [getattr(output, f.name) for f in fields(output)]
    tensors = [t for t in tree_leaves(output if named is None else named) if isinstance(t, Tensor)]
    first = tensors[0] if tensors else None
    if first is None or first.shape[:1] != (count,) or math.prod(first.shape[2:]) != 1:
        raise CnnlensError(
            f"the network returns no class scores but a {type(output).__name__}",
            "its layers can be read all the same; only its outputs cannot be used",
        )
    return first.reshape(count, -1)


def gives_scores(model: Model) -> bool:
    """Whether the network answers with class scores (N, K): it is run once, on a black image."""
    black = torch.zeros(model.batch or 1, model.preprocess.channels, *model.preprocess.size)
    with torch.no_grad():
        output = model.net(black.to(model.device))
    try:
        class_scores(output, len(black))
    except CnnlensError:
        return False
    return True


def class_bias(model: Model, classes: int) -> Tensor | None:
    """Bias of the last layer, (K,): of the last linear layer or 1×1 convolution to K outputs.

    None where there is none, or it has no bias.
    """
    for module in reversed(list(model.net.modules())):
        linear = isinstance(module, nn.Linear) and module.out_features == classes
        pointwise = (
            isinstance(module, nn.Conv2d)
            and module.out_channels == classes
            and module.kernel_size == (1, 1)
        )
        if linear or pointwise:
            bias = module.bias
            return bias.detach().float().cpu() if isinstance(bias, Tensor) else None
    return None
