"""Keeping a device busy: copies that nobody waits for, and numbers that are read now and then.

A device works through a queue. Whoever reads a number off it waits until the queue is empty, and
the device then waits until there is something in it again. A step of a loop therefore reads
nothing: what people see is read when it is drawn, what must be checked is looked at every few steps
(`look_every`), and what comes from the host is copied from pinned memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

LOOK = 8  # steps between two looks at a device that is not the CPU


def look_every(device: torch.device) -> int:
    """How many steps pass between two looks at what a device has computed.

    On the CPU there is no queue: looking costs nothing, and every step is looked at.
    """
    return 1 if device.type == "cpu" else LOOK


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; from the host to CUDA by way of pinned memory, without waiting."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


def constant(values: tuple[object, ...], like: Tensor) -> Tensor:
    """Make a tensor of nested tuples of numbers where `like` is, of its type; once per device."""
    if like.device.type == "cpu":
        import torch

        return torch.tensor(values, dtype=like.dtype)
    return _constant(values, like.device, like.dtype)


@lru_cache(maxsize=64)
def _constant(values: tuple[object, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    import torch

    return torch.tensor(values, dtype=dtype, device=device)


def exact(device: torch.device) -> torch.dtype:
    """The type that sums are kept in: float64, which MPS does not have."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def overlaps(device: torch.device) -> bool:
    """Whether results come back while the device computes the next ones."""
    return device.type == "cuda"


def fetched(values: Sequence[Tensor]) -> Callable[[], list[np.ndarray]]:
    """Bring tensors to the host, as float32 arrays; who calls what is returned waits for them.

    From CUDA they come on a stream of their own, into pinned memory: the device goes on meanwhile.
    """
    import torch

    values = [value.float().contiguous() for value in values]
    if not values or values[0].device.type != "cuda":
        arrays = [value.cpu().numpy() for value in values]
        return lambda: arrays
    stream = _back(values[0].device)
    stream.wait_stream(torch.cuda.current_stream(values[0].device))
    with torch.cuda.stream(stream):
        there = [torch.empty(v.shape, pin_memory=True).copy_(v, non_blocking=True) for v in values]
        arrived = stream.record_event()
    for value in values:
        value.record_stream(stream)  # its memory is not given away before it is copied

    def wait() -> list[np.ndarray]:
        arrived.synchronize()
        return [value.numpy() for value in there]

    return wait


@lru_cache(maxsize=8)
def _back(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)
