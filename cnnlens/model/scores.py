"""The class scores in what a network returns, whatever it wraps them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from cnnlens.errors import CnnlensError


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
        When no tensor in it has one row per image.
    """
    named = output.get("logits") if isinstance(output, Mapping) else None
    named = getattr(output, "logits", None) if named is None else named
    if named is None and is_dataclass(output):
        output = [getattr(output, f.name) for f in fields(output)]
    tensors = [t for t in tree_leaves(output if named is None else named) if isinstance(t, Tensor)]
    if not tensors or tensors[0].ndim == 0 or len(tensors[0]) != count:
        raise CnnlensError(
            f"the network returns no class scores but a {type(output).__name__}",
            "its layers can be read all the same; only its outputs cannot be used",
        )
    return tensors[0].reshape(count, -1)
