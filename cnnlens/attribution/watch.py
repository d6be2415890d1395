"""What autograd does not record of a forward pass, and backward rules would miss.

A mask that was compared out of the activations, a value that was detached, a part that was
changed in place: each makes the network nonlinear, and none leaves a node in the graph. They are
seen here as the operations happen. A rectifier that was written with a mask, ``x * (x > 0)``, is
told by its parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.weak import WeakTensorKeyDictionary

from cnnlens.model.dispatch import DispatchMode, op_name
from cnnlens.model.trace import tensors

# new tensors that take no more than the shape of another
_SHAPE_ALONE = {
    *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "empty_strided"),
}
# choices by whole numbers, which are switches: they route the signal and do not change it
_CHOOSES = {"gather", "index", "index_select", "take", "max_unpool2d", "scatter", "scatter_add"}
_CHOOSES |= {"index_add", "_unsafe_index", "embedding"}
# in place on a part of a tensor: what is a linear map of both; the graph shows no more than that
_LINEAR_IN_PLACE = {"copy", "zero", "fill", "add", "sub", "neg", "mul", "div", "_index_put_impl"}
_ABOVE, _BELOW = {"gt", "ge"}, {"lt", "le"}  # 0
_MASKED = {"where": "Where", "mul": "Mul", "masked_fill": "MaskedFill"}


class Watch(DispatchMode):
    """Sees what else depends on an input than what autograd records; on while a network runs.

    Parameters
    ----------
    x : torch.Tensor
        The input, which requires a gradient.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._depends = {_memory(x): True}
        # masks that say where a value is above 0 (True) or not (False), the value, its version
        self._masks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._rectified: list[tuple[str, Tensor]] = []
        self._unseen: set[str] = set()

    def rectifiers(self) -> set[Node]:
        """Return the nodes of rectifiers that were written with a mask."""
        return {node for name, one in self._rectified if (node := _made_by(name, one)) is not None}

    def unseen(self) -> set[str]:
        """Name what made the network nonlinear without a node of its own."""
        lost = {name for name, one in self._rectified if _made_by(name, one) is None}
        return self._unseen | {_by_mask(name) for name in lost}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = op_name(func, args), tensors((args, kwargs or {}))
        depending = [t for t in given if self._depends.get(_memory(t), False)]
        rectifies = bool(depending) and self._rectifies(name, args)
        if depending and torch.is_grad_enabled():
            target = args[0] if func._schema.is_mutable and args else None
            self._look(name, depending, rectifies, target)
        result = func(*args, **(kwargs or {}))
        made = tensors(result)
        for one in made:
            self._depends[_memory(one)] = bool(depending) and name not in _SHAPE_ALONE
        if rectifies:
            self._rectified.append((name, made[0]))
        if made:
            self._remember_mask(name, args, made[0])
        return result

    def _look(self, name: str, depending: list[Tensor], rectifies: bool, target: Any) -> None:
        """Note an operation that joins what has a gradient with what has none."""
        cut = [t for t in depending if not t.requires_grad]
        if name in _CHOOSES:
            cut = [t for t in cut if t.dtype in (torch.bool, torch.uint8) or t.is_floating_point()]
        if cut and len(cut) < len(depending) and not rectifies:
            self._unseen.add(_by_mask(name))
        if not isinstance(target, Tensor) or not target.requires_grad or not target._is_view():
            return
        if name not in _LINEAR_IN_PLACE or (name in ("mul", "div") and len(depending) > 1):
            self._unseen.add(f"{name} in place on a part")

    def _rectifies(self, name: str, args: Any) -> bool:
        """Whether an operation keeps a value where it is above 0, and puts 0 elsewhere."""
        if name == "where" and len(args) == 3:
            return self._is_mask(args[0], True, args[1], args[2]) or self._is_mask(
                args[0], False, args[2], args[1]
            )
        if name == "mul":
            return any(self._is_mask(mask, True, x, 0) for x, mask in (args[:2], args[1::-1]))
        return name == "masked_fill" and self._is_mask(args[1], False, args[0], args[2])

    def _is_mask(self, mask: Any, above: bool, x: Any, other: Any) -> bool:
        known = self._masks.get(mask) if isinstance(mask, Tensor) else None
        if known is None or known[0] != above or known[1] is not x or known[2] != x._version:
            return False
        if isinstance(other, Tensor):
            return not self._depends.get(_memory(other), False) and not bool(other.any())
        return bool(other == 0)

    def _remember_mask(self, name: str, args: Any, made: Tensor) -> None:
        if name in _ABOVE | _BELOW and isinstance(args[0], Tensor) and _is_zero(args[1]):
            self._masks[made] = name in _ABOVE, args[0], args[0]._version
        elif name == "_to_copy" and args[0] in self._masks:
            self._masks[made] = self._masks[args[0]]


def _made_by(name: str, value: Tensor) -> Node | None:
    """Return a value's node, unless something else has been written into it since."""
    node = value.grad_fn
    return node if node is not None and node.name().startswith(_MASKED[name] + "Backw") else None


def _by_mask(name: str) -> str:
    return f"{name} by values of the image that have no gradient"


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 0 and not bool(value.any())
    return bool(value == 0)


def _memory(tensor: Tensor) -> int:
    """Where a tensor's numbers lie: what shares them depends on the same."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else id(tensor)
