"""What processes that share a minibatch tell each other, so that they train as one with all of it.

A loss that is made of sums over processes is the whole minibatch's on every process. Data parallel
training averages the processes' gradients; since the gradient of a sum over processes reaches every
one of them, that average is the gradient of the whole minibatch's loss. Numbers that decide
something (running statistics, the validation loss) are made equal before they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cnnlens.distributed import rank_and_size, together

Reduce = Callable[[Tensor], Tensor]  # adds up a tensor over the processes, with gradient


def identity(value: Tensor) -> Tensor:
    """Return the sum over one process: the value."""
    return value


def reduce_sum(value: Tensor) -> Tensor:
    """Add up a tensor over processes, with gradient; with one process, return it as it is."""
    if rank_and_size()[1] == 1:
        return value
    found: Tensor = _Sum.apply(value)
    return found


def reduce_max(value: Tensor) -> Tensor:
    """Return the element-wise highest of a tensor over processes, without gradient."""
    found = value.detach().clone()
    if rank_and_size()[1] > 1:
        with together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
    return found


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Average tensors over processes, in place; all processes name the same ones."""
    size = rank_and_size()[1]
    if size == 1:
        return
    for tensor in tensors:
        with together():
            dist.all_reduce(tensor)
        tensor.div_(size)


def running_statistics(net: nn.Module) -> list[Tensor]:
    """Return what a network's norms have learned of the data: each process saw its own part."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return [b for m in norms for b in m.buffers(recurse=False) if b.is_floating_point()]


def from_first(values: tuple[float, ...], device: torch.device) -> tuple[float, ...]:
    """Return the first process's numbers: they decide for all."""
    if rank_and_size()[1] == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    with together():
        dist.broadcast(shared, 0)
    return tuple(shared.tolist())


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _sum_of(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _sum_of(gradients[0])


def _sum_of(value: Tensor) -> Tensor:
    total = value.clone()
    with together():
        dist.all_reduce(total)
    return total
