"""Modes that see every tensor operation, without PyTorch's compiler, and what these are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """What all modes of cnnlens derive from.

    PyTorch keeps its compiler out of a mode by a wrapper around each operation, and that wrapper
    imports the compiler: seconds at the start of every command, and time at every operation. No
    network is compiled while a mode sees it, so there is nothing to keep out.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def op_name(func: Any, args: Sequence[Any] = ()) -> str:
    """Return an operation's name without overload and in-place underscore.

    A slice of everything, which older PyTorch makes of ``x[:, None]``, is an alias.
    """
    name = str(func.overloadpacket.__name__)
    if name == "slice" and _is_of_all(*args):
        return "alias"
    return name.removesuffix("_") if not name.endswith("__") else name


def _is_of_all(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> bool:
    return not start and step == 1 and (end is None or end >= x.shape[dim])
