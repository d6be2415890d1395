"""Sums over the processes that share a minibatch, as if one process had all of it.

A loss that is made of such sums is the whole minibatch's on every process. Data parallel training
averages the processes' gradients; since the gradient of a sum over processes reaches every one of
them, that average is the gradient of the whole minibatch's loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def summed(value: Tensor) -> Tensor:
    """Add up a tensor over processes, with gradient; with one process, return it as it is."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    found: Tensor = _Sum.apply(value)
    return found


def highest(value: Tensor) -> Tensor:
    """Return the element-wise highest of a tensor over processes, without gradient."""
    found = value.detach().clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return found


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
