"""Backward rules: what a rectifier does to the signal that comes back through it.

The forward pass is the network's own. The rules act on the graph that autograd has recorded of it,
node by node, so that modules, functions, in-place rectifiers and modules called several times are
all alike, and everything linear (convolutions, switches, sums, averages) is its own adjoint.

DeconvNet (Zeiler and Fergus, 2014) passes the reconstruction through the rectifier, whatever came
forward. For rectifiers with a ceiling (ReLU6) that means the rectifier without the ceiling: a
reconstruction is not on the activations' scale. Guided backpropagation (Springenberg et al., 2015)
keeps what both the gradient and DeconvNet let through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Rule = Callable[[Tensor, Tensor], Tensor]  # (gradient, signal from above) -> signal passed down

RULES: dict[str, Rule | None] = {
    "deconvnet": lambda gradient, above: above.clamp(min=0),
    "guided": lambda gradient, above: gradient.clamp(min=0),
    "gradient": None,
}

# nodes of autograd that are no linear map of the signal, and for which the paper has no rule
_UNDEFINED = {
    "LeakyRelu": "leaky ReLU",
    "PreluKernel": "PReLU",
    "Prelu": "PReLU",
    "RreluWithNoise": "RReLU",
    "Elu": "ELU",
    "Celu": "CELU",
    "Selu": "SELU",
    "Silu": "SiLU",
    "Gelu": "GELU",
    "Mish": "Mish",
    "Hardswish": "hard swish",
    "Hardsigmoid": "hard sigmoid",
    "Hardshrink": "hard shrink",
    "Softshrink": "soft shrink",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softmax": "softmax",
    "LogSoftmax": "log softmax",
    "Hardtanh": "hard tanh",
    "Clamp": "clamp",
    "Threshold": "threshold",
    "Exp": "exponential",
    "Log": "logarithm",
    "Sqrt": "square root",
    "Rsqrt": "square root",
    "Pow": "power (a local normalization?)",
    "Abs": "absolute value",
    "NativeGroupNorm": "group norm",
    "NativeLayerNorm": "layer norm",
    "LinalgVectorNorm": "norm",
    "Bmm": "product of activations (attention?)",
    "Mul": "product of activations (a gate?)",
}
_PRODUCTS = ("Mul", "Bmm")


def nodes(edge: GradientEdge) -> list[Node]:
    """List every node between a value and what it was computed from."""
    found: dict[Node, None] = {}
    waiting: list[Any] = [edge.node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [below for below, _ in node.next_functions]
    return list(found)


def is_rectifier(node: Any) -> bool:
    """Whether a node is max(x, 0), with or without a ceiling, however it was written."""
    kind = _kind(node)
    if kind == "Hardtanh":
        return bool(node._saved_min_val == 0)
    if kind in ("Clamp", "ClampMin"):
        return bool(getattr(node, "_saved_min", None) == 0)
    if kind == "Threshold":
        return bool(node._saved_threshold == 0)
    return kind == "Relu"


def undefined(edge: GradientEdge) -> list[str]:
    """Name the nonlinearities on the way that no rule is defined for, each once."""
    met = (_UNDEFINED.get(_kind(node), "") for node in nodes(edge) if _is_nonlinear(node))
    return sorted({name for name in met if name})


def writes_into_parts(edge: GradientEdge) -> bool:
    """Whether a part of a tensor was changed in place on the way."""
    return any(_kind(node) == "CopySlices" for node in nodes(edge))


@contextmanager
def applying(method: str, edge: GradientEdge) -> Iterator[None]:
    """Let backward passes from `edge` follow a method of `RULES` while the block runs."""
    rule = RULES[method]
    handles = []
    if rule is not None:
        for node in nodes(edge):
            if is_rectifier(node):
                handles.append(node.register_hook(_hook(rule)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(rule: Rule) -> Any:
    def hook(below: tuple[Tensor, ...], above: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if below[0] is None or above[0] is None:
            return None
        return (rule(below[0], above[0]), *below[1:])

    return hook


def _is_nonlinear(node: Any) -> bool:
    if is_rectifier(node):
        return False
    if _kind(node) in _PRODUCTS:  # by a constant it is linear
        return sum(below is not None for below, _ in node.next_functions) > 1
    return True


def _kind(node: Any) -> str:
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]


_OUT_OF_PLACE: dict[str, Any] = {
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


class OutOfPlace(TorchFunctionMode):
    """While it is on, in-place rectifiers of views are computed aside and written back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        x = args[0] if args else None
        known = name.removesuffix("_") in _OUT_OF_PLACE
        if not known or not isinstance(x, Tensor) or not x._is_view():
            return func(*args, **kwargs)
        place = len(args) if name.endswith("_") else _PLACE.get(name, len(args))
        wanted = name.endswith("_") or kwargs.pop("inplace", False) or any(args[place:])
        if not wanted:
            return func(*args, **kwargs)
        return x.copy_(_OUT_OF_PLACE[name.removesuffix("_")](*args[:place], **kwargs))
