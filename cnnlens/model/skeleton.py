"""Networks without memory: the names and shapes of their tensors, in a moment and no RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_ALLOCATE = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}


class _Weightless(TorchFunctionMode):
    """Put what layers allocate on the meta device, and only that.

    ``torch.device("meta")`` would also catch the small tensors from which some builders compute
    widths or index tables (RegNet, Swin), which then cannot be read.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _ALLOCATE and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@contextmanager
def weightless() -> Iterator[None]:
    """Within this block, new layers hold shapes but no numbers."""
    with _Weightless():
        yield


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Within this block, random weights come out the same every time; the global state returns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def first_convolution(net: nn.Module) -> tuple[str, nn.Module] | None:
    """Name and module of the first convolution registered in a network, if it has one."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return name, module
    return None
