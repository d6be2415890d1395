"""How a network gets from its last maps to class scores, read off the traced operations.

Two heads have class activation maps: a linear layer after global average pooling (also written as
a 1×1 convolution), and a 1×1 convolution to as many maps as there are classes before it, with or
without a rectifier in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.model.dispatch import DispatchMode
from cnnlens.model.ending import VIEWS, Ending
from cnnlens.model.fields import is_global_pool
from cnnlens.model.tokens import is_attention
from cnnlens.model.trace import Op, Place, Trace, as_input

_AVERAGES = {"mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "avg_pool2d"}
_MAXIMA = {"amax", "adaptive_max_pool2d", "max_pool2d_with_indices", "max"}
_LINEAR = {"addmm", "mm", "linear"}
_RECTIFIERS = {"relu", "hardtanh", "clamp", "clamp_min", "threshold"}


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
    """

    maps: int
    weights: Tensor
    bias: Tensor | None
    rectified: bool = False


class OutputGraph(Ending):
    """The end of a traced network, walked from its scores backwards."""

    def pooled(self) -> int | None:
        """Find the maps that enter the global pooling before the scores; None where there is none.

        The walk never crosses maps, so that the poolings of gates do not count.
        """
        waiting, met = [self.scores], {self.scores}
        while waiting:
            op = self._made_by(waiting.pop(0))
            if op is None:
                continue
            before = self.shape(op.inputs[0]) if op.inputs else ()
            if self._is_pooling(op, before):
                return op.inputs[0]
            below = [v for v in op.inputs if v not in met and not _is_map(self.shape(v))]
            met.update(below)
            waiting += below
        return None

    @staticmethod
    def _is_pooling(op: Op, before: tuple[int, ...]) -> bool:
        if op.name in ("avg_pool2d", "max_pool2d_with_indices"):
            return _is_map(before) and not _is_map(op.shapes[0])
        return is_global_pool(op, before)

    def classifier(self) -> tuple[int, int, bool] | str:
        """Find the class weights, or say why there are none.

        Returns
        -------
        (int, int, bool) or str
            Number of their operation, the maps that they act on, whether a rectifier follows.
        """
        value = self._under_views(self.scores)
        op = self._made_by(value)
        if op is None:
            return "its output is not computed from its input"
        if op.name in _LINEAR or (op.name == "convolution" and not _is_map(op.shapes[0])):
            return self._after_pooling(op, value)
        if op.name in _AVERAGES:
            return self._before_pooling(value)
        return f"its scores are made by '{op.name}', not by class weights and an average"

    def _after_pooling(self, op: Op, value: int) -> tuple[int, int, bool] | str:
        start = op.inputs[1 if op.name == "addmm" else 0]
        found = self._averaged(start)
        if found is not None:
            return self._maker[value], found, False
        if any(is_attention(one) for one in self.passed.ops) and not self._of_maps(start):
            return "its classes are read from tokens, behind attention, not from averaged maps"
        blame = self._made_by(self._under_views(start))
        if blame is not None and blame.name in _MAXIMA:
            return "its maps are pooled by their maximum, not averaged"
        if _is_map(self.shape(self._under_views(start))):
            return "its classifier reads every position of the maps, with no average over them"
        if blame is not None and blame.name in _AVERAGES:
            return "its classifier reads several positions: the pooling before it is not global"
        return (
            f"between the pooling and the class weights there is '{blame.name if blame else '?'}' "
            "(another layer)"
        )

    def _of_maps(self, value: int) -> bool:
        """Whether it is made of maps directly: views, norms and poolings aside."""
        aside = VIEWS | _AVERAGES | _MAXIMA
        while (op := self._made_by(value)) is not None and op.name in aside and op.inputs:
            value = op.inputs[0]
            if _is_map(self.shape(value)):
                return True
        return False

    def _before_pooling(self, value: int) -> tuple[int, int, bool] | str:
        maps = self._averaged(value)
        if maps is None:
            return "the pooling at its end is not global"
        maps = self._under_views(maps)
        op = self._made_by(maps)
        rectified = op is not None and op.name in _RECTIFIERS
        if rectified and op is not None:
            maps = self._under_views(op.inputs[0])
            op = self._made_by(maps)
        if op is None or op.name != "convolution":
            return f"what it averages is made by '{op.name if op else '?'}', not by a convolution"
        if tuple(op.kernel) != (1, 1) or op.arguments[8] != 1 or set(op.arguments[3]) != {1}:
            return "the convolution that gives its class maps is not 1×1"
        return self._maker[maps], op.inputs[0], rectified

    def _averaged(self, value: int) -> int | None:
        """The maps that a value (1, C) or (1, C, 1, 1) is the average of, over all positions."""
        size, pooled = prod(self.shape(value)[1:]), False
        while (op := self._made_by(value)) is not None and op.name in VIEWS | _AVERAGES:
            pooled = pooled or op.name in _AVERAGES
            value = op.inputs[0]
            shape = self.shape(value)
            if pooled and len(shape) == 4:
                return value if shape[1] == size else None
        return None


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
    operands = _operands(net, x, number)
    if op.name == "addmm":
        bias, _, weights = operands
        return Head(
            maps, weights.t().detach().float(), bias.expand(weights.shape[1]).detach().float()
        )
    weights = operands[1].detach().float()
    if op.name == "mm":
        return Head(maps, weights.t(), None)
    bias_or_none = operands[2].detach().float() if len(operands) > 2 else None
    return Head(maps, weights.reshape(weights.shape[:2]), bias_or_none, rectified)


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1


class _Stop(BaseException):
    """The operands are known."""


class _Catch(DispatchMode):
    """Takes the tensors that one operation is given."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number
        self.operands: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._left == 0:
            self.operands = [a for a in args if isinstance(a, Tensor)]
            raise _Stop
        self._left -= 1
        return func(*args, **(kwargs or {}))


def _operands(net: nn.Module, x: Tensor, number: int) -> list[Tensor]:
    catch, x = _Catch(number), as_input(net, x)
    with suppress(_Stop), torch.no_grad(), catch:
        net(x)
    return catch.operands


def places(passed: Trace, value: int) -> Iterator[tuple[str, Place]]:
    """Names and places under which a value can be read, the best first.

    A module's own output comes before an operation's; of modules that return the same value, the
    outermost that made it.
    """
    made = next((n for n, op in enumerate(passed.ops) if value in op.outputs), -1)
    calls = [c for c in passed.calls if c.path and c.value == value]
    for call in sorted(calls, key=lambda c: (c.after > made + 1, c.path.count("."))):
        yield call.path, Place(path=call.path, call=call.number)
    if made >= 0:
        op = passed.ops[made]
        name = f"{op.module}.{op.name}" if op.module else op.name
        yield name, passed.place(made, op.outputs.index(value))
