"""Rectifiers that work in place on a view of a tensor.

Autograd hides such a rectifier inside the node that writes into the tensor, where no rule reaches
it. Computed aside and then written, it is a node of its own; the values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ASIDE: dict[str, Any] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "threshold": F.threshold,
    "clamp": torch.clamp,
    "clamp_min": torch.clamp_min,
    "clip": torch.clamp,
}
# where `inplace` stands among the arguments of functions that take it
_PLACE = {"relu": 1, "relu6": 1, "hardtanh": 3, "threshold": 3}


class Aside(TorchFunctionMode):
    """While it is on, in-place rectifiers of views are computed aside and written back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        x = args[0] if args else None
        if name.removesuffix("_") not in _ASIDE or not isinstance(x, Tensor) or not x._is_view():
            return func(*args, **kwargs)
        place = len(args) if name.endswith("_") else _PLACE.get(name, len(args))
        wanted = name.endswith("_") or kwargs.pop("inplace", False) or any(args[place:])
        if not wanted:
            return func(*args, **kwargs)
        return x.copy_(_ASIDE[name.removesuffix("_")](*args[:place], **kwargs))
