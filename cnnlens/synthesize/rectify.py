"""Letting the gradient through rectifiers, for units that start dead.

Where a rectifier is off, its gradient is 0, and a unit that is off everywhere gives none at all.
The rule is changed below the module system, during the backward pass alone: functional, in-place
and reused rectifiers are all alike, and the network is not touched.
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# backward operations of rectifiers that have regions without slope; their first argument is the
# gradient that arrives from above
_RECTIFIERS = {
    *("threshold_backward", "hardtanh_backward"),
    *("hardswish_backward", "hardsigmoid_backward"),
}


class OpenRectifiers(TorchDispatchMode):
    """While active, backward passes take every rectifier for the identity."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in _RECTIFIERS:
            return args[0].clone()
        return func(*args, **(kwargs or {}))
