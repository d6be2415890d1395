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
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import GradientEdge, Node
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnnlens.attribution.linear import kind_of, nonlinearity
from cnnlens.attribution.watch import Watch

Rule = Callable[[Tensor, Tensor], Tensor]  # (gradient, signal from above) -> signal passed down

RULES: dict[str, Rule | None] = {
    "deconvnet": lambda gradient, above: above.clamp(min=0),
    "guided": lambda gradient, above: gradient.clamp(min=0),
    "gradient": None,
}


class Graph:
    """What autograd recorded between a value and the input it was computed from.

    Parameters
    ----------
    edge : torch.autograd.graph.GradientEdge
        Where gradients of the value enter.
    x : torch.Tensor
        The input, a leaf.
    watch : Watch
        What was seen besides while the network ran.
    """

    def __init__(self, edge: GradientEdge, x: Tensor, watch: Watch) -> None:
        above: dict[Node, list[Node]] = {}
        waiting: list[Any] = [edge.node]
        while waiting:
            node = waiting.pop()
            if node not in above:
                above[node] = []
                waiting += [below for below, _ in node.next_functions if below is not None]
        for node in list(above):
            for below, _ in node.next_functions:
                if below is not None:
                    above[below].append(node)
        #: nodes on the way from the input to the value; weights are computed beside it
        self.nodes: set[Node] = set()
        waiting = [node for node in above if getattr(node, "variable", None) is x]
        while waiting:
            node = waiting.pop()
            if node not in self.nodes:
                self.nodes.add(node)
                waiting += above[node]
        self._masked = watch.rectifiers()
        self._unseen = watch.unseen()

    @property
    def writes_into_parts(self) -> bool:
        """Whether a part of a tensor was changed in place on the way."""
        return any(kind_of(node) == "CopySlices" for node in self.nodes)

    def undefined(self) -> list[str]:
        """Name the nonlinearities on the way that no rule is defined for, each once."""
        others = [node for node in self.nodes if self._rectified(node) is None]
        met = {nonlinearity(node, self._depends(node)) for node in others}
        return sorted((met | self._unseen) - {""})

    def rectifiers(self) -> Iterator[tuple[Any, int]]:
        """Find every max(x, 0), with or without a ceiling, and which of its operands is x."""
        for node in self.nodes:
            place = self._rectified(node)
            if place is not None:
                yield node, place

    def _depends(self, node: Any) -> list[bool]:
        return [below in self.nodes for below, _ in node.next_functions]

    def _rectified(self, node: Any) -> int | None:
        depends = self._depends(node)
        if sum(depends) != 1:
            return None
        place = depends.index(True)
        return place if node in self._masked or _is_rectifier(node, place) else None


def _is_rectifier(node: Any, place: int) -> bool:
    """Whether a node is max(x, 0), with or without a ceiling, however it was written."""
    kind = kind_of(node)
    if isinstance(node, FunctionCtx):
        return False
    if kind == "Hardtanh":
        return bool(node._saved_min_val == 0)
    if kind in ("Clamp", "ClampMin"):
        return place == 0 and _all_zero(getattr(node, "_saved_min", None))
    if kind == "Maximum":
        return _all_zero(node._saved_other if place == 0 else node._saved_self)
    if kind == "Threshold":
        return bool(node._saved_threshold == 0)
    return kind == "Relu"


def _all_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 0 and not bool(value.any())
    return value is not None and bool(value == 0)


@contextmanager
def applying(method: str, graph: Graph) -> Iterator[None]:
    """Let backward passes through a graph follow a method of `RULES` while the block runs."""
    rule = RULES[method]
    handles = []
    if rule is not None:
        for node, place in graph.rectifiers():
            handles.append(node.register_hook(_hook(rule, place)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(rule: Rule, place: int) -> Any:
    def hook(below: tuple[Tensor, ...], above: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if below[place] is None or above[0] is None:
            return None
        return (*below[:place], rule(below[place], above[0]), *below[place + 1 :])

    return hook


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
