"""Counting where a loop waits for its device, on a machine that has none.

On the CPU nothing waits, but every way to read a number off a tensor is still a call. `Reads`
lists those calls by the function that made them, copies to the host among them, and what indexes by
a mask, whose size has to be known. torch's optimizers are left out: the numbers of steps that they
read stand on the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS: set[Any] = {
    Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__,
    Tensor.__index__, Tensor.cpu, Tensor.numpy, Tensor.nonzero, torch.nonzero, torch.equal,
    torch.unique, Tensor.unique, torch.masked_select, Tensor.masked_select,
}  # fmt: skip
_INDEXING: set[Any] = {Tensor.__getitem__, Tensor.__setitem__}


class Reads(TorchFunctionMode):
    """While active, lists what waits: ``"slope.py:_check"``.

    Parameters
    ----------
    but : sequence of str
        Functions whose tensors are the host's own.
    """

    def __init__(self, *but: str) -> None:
        self.but, self.found = but, []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _READS or (func in _INDEXING and _by_mask(args[1])):
            self._note()
        return func(*args, **(kwargs or {}))

    def _note(self) -> None:
        frame: Any = sys._getframe(2)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if "optim" in path.parts:
                return
            if "torch" not in path.parts and path.name != "reads.py":
                place = f"{path.name}:{frame.f_code.co_name}"
                if place not in self.but:
                    self.found.append(place)
                return
            frame = frame.f_back


def _by_mask(index: Any) -> bool:
    """Whether an index is a mask, or a list of the host's that is copied to the device."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list) or (isinstance(part, Tensor) and part.dtype == torch.bool)
        for part in parts
    )
