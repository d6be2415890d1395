"""The class weights at the end of a network, and where the maps stand that they act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.attribution.output_graph import OutputGraph
from cnnlens.model.channels_last import channels_last
from cnnlens.model.dispatch import DispatchMode
from cnnlens.model.trace import Place, Trace, as_input


@dataclass(frozen=True)
class Head:
    """A head that has class activation maps.

    Attributes
    ----------
    maps : int
        Number of the value that the class weights act on.
    weights : torch.Tensor
        (classes, units).
    bias : torch.Tensor or None
        (classes,).
    rectified : bool
        Whether the class maps are rectified before they are averaged.
    channels_last : bool
        Whether the maps are (N, H, W, C).
    computed_in : torch.dtype
        The number type that the weights act in.
    """

    maps: int
    weights: Tensor
    bias: Tensor | None
    rectified: bool = False
    channels_last: bool = False
    computed_in: torch.dtype = torch.float32

    def misses(self, maps: Tensor, scores: Tensor) -> float:
        """How far averaged class maps are from the scores, as a share of what is added up.

        Parameters
        ----------
        maps : torch.Tensor
            (N, C, H, W).
        scores : torch.Tensor
            (N, classes).
        """
        bias = self.weights.new_zeros(len(self.weights)) if self.bias is None else self.bias
        means = maps.mean((2, 3))  # (N, C)
        found = means @ self.weights.t() + bias
        if self.rectified:
            of_classes = torch.einsum("nchw,kc->nkhw", maps, self.weights)
            found = torch.relu(of_classes + bias[:, None, None]).mean((2, 3))
        parts = means.square() @ self.weights.t().square() + bias.square() + scores.square()
        return float((found - scores).square().sum().div(parts.sum()).sqrt())

    @property
    def rounding(self) -> float:
        """What it may miss by rounding alone; float32 may be computed as TF32."""
        return 4 * max(torch.finfo(self.computed_in).eps, 2**-10)


def find_head(ends: OutputGraph, net: nn.Module, x: Tensor) -> Head | str:
    """Find a head that has class activation maps; otherwise say why there is none.

    Parameters
    ----------
    ends : OutputGraph
        Of a trace of `net` on `x`.
    net : torch.nn.Module
        In evaluation mode.
    x : torch.Tensor
        (N, C, H, W).
    """
    found = ends.classifier()
    if isinstance(found, str):
        return found
    number, maps, rectified = found
    op = ends.passed.ops[number]
    operands, factors = _operands(net, x, number)
    bias: Tensor | None
    if op.name == "addmm":
        bias, _, weights = operands
        bias = bias.expand(weights.shape[1]) * factors.get("beta", 1)
        weights = weights.t() * factors.get("alpha", 1)
    else:
        weights = operands[1].t() if op.name == "mm" else operands[1]
        bias = operands[2] if len(operands) > 2 else None
    return Head(
        maps.value,
        weights.detach().float().reshape(weights.shape[:2]),
        None if bias is None else bias.detach().float(),
        rectified,
        maps.units == 3,
        weights.dtype,
    )


class _Stop(BaseException):
    """The operands are known."""


class _Catch(DispatchMode):
    """Takes the tensors that one operation is given, and what it multiplies them by."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number
        self.operands: list[Tensor] = []
        self.factors: dict[str, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._left == 0:
            self.operands = [a for a in args if isinstance(a, Tensor)]
            self.factors = kwargs or {}
            raise _Stop
        self._left -= 1
        return func(*args, **(kwargs or {}))


def _operands(net: nn.Module, x: Tensor, number: int) -> tuple[list[Tensor], dict[str, Any]]:
    catch, x = _Catch(number), as_input(net, x)
    with suppress(_Stop), torch.no_grad(), catch:
        net(x)
    return catch.operands, catch.factors


def places(passed: Trace, value: int) -> Iterator[tuple[str, Place]]:
    """Names and places under which a value can be read, the best first.

    A module's own output comes before an operation's; of modules that return the same value, the
    outermost that made it.
    """
    made = next((n for n, op in enumerate(passed.ops) if value in op.outputs), -1)
    calls = [c for c in passed.calls if c.path and c.value == value]
    last = value in channels_last(passed)
    for call in sorted(calls, key=lambda c: (c.after > made + 1, c.path.count("."))):
        yield call.path, Place(path=call.path, call=call.number, channels_last=last)
    if made >= 0:
        op = passed.ops[made]
        name = f"{op.module}.{op.name}" if op.module else op.name
        yield name, passed.place(made, op.outputs.index(value), channels_last=last)
