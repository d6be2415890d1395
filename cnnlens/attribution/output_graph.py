"""The end of a traced network, walked from its class scores back to the maps that they are made of.

Two heads have class activation maps: a linear layer after global average pooling (also written as
a 1×1 convolution), and a 1×1 convolution to as many maps as there are classes before it, with or
without a rectifier in between.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from cnnlens.model.ending import VIEWS, Ending
from cnnlens.model.fields import is_global_pool
from cnnlens.model.places import elements_behind, named_dims, order_before
from cnnlens.model.tokens import is_attention
from cnnlens.model.trace import Op

_AVERAGES = {"mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "avg_pool2d"}
_MAXIMA = {"amax", "adaptive_max_pool2d", "max_pool2d_with_indices", "max"}
_LINEAR = {"addmm", "mm", "linear"}
_TURNS = {"permute", "transpose"}
_RECTIFIERS = {"relu", "hardtanh", "clamp", "clamp_min", "threshold"}


class Maps(NamedTuple):
    """Maps of units: the number of the value, and the dimension that counts the units."""

    value: int
    units: int


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

    def classifier(self) -> tuple[int, Maps, bool] | str:
        """Find the class weights, or say why there are none.

        Returns
        -------
        (int, Maps, bool) or str
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

    def _after_pooling(self, op: Op, value: int) -> tuple[int, Maps, bool] | str:
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
            if self._is_pooling(blame, self.shape(blame.inputs[0])):
                return "its class weights do not read one average of each unit, in the units' order"
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

    def _before_pooling(self, value: int) -> tuple[int, Maps, bool] | str:
        found = self._averaged(value)
        if found is None:
            return "the pooling at its end is not global"
        maps = self._under_views(found.value)
        op = self._made_by(maps)
        rectified = op is not None and op.name in _RECTIFIERS
        if rectified and op is not None:
            maps = self._under_views(op.inputs[0])
            op = self._made_by(maps)
        if op is None or op.name != "convolution":
            return f"what it averages is made by '{op.name if op else '?'}', not by a convolution"
        if tuple(op.kernel) != (1, 1) or op.arguments[8] != 1 or set(op.arguments[3]) != {1}:
            return "the convolution that gives its class maps is not 1×1"
        return self._maker[maps], Maps(op.inputs[0], 1), rectified

    def _averaged(self, value: int) -> Maps | None:
        """The maps that a value (1, C) or (1, C, 1, 1) is the average of, over all positions."""
        shape, pooled = self.shape(value), False
        if len(shape) < 2 or shape[1] != prod(shape[1:]):
            return None
        maps = Maps(value, 1)
        while (op := self._made_by(maps.value)) is not None and op.name in VIEWS | _AVERAGES:
            pooled = pooled or op.name in _AVERAGES
            units = _units_before(op, maps.units)
            if units is None:
                return None
            maps = Maps(op.inputs[0], units)
            if pooled and len(op.read[0]) == 4:
                return self._unturned(maps)
        return None

    def _unturned(self, maps: Maps) -> Maps | None:
        """Maps as they were before their dimensions were turned, where these were (N, C, H, W)."""
        value, units = maps.value, maps.units
        while (op := self._made_by(value)) is not None and op.name in VIEWS:
            before = _units_before(op, units)
            if before is None or len(op.read[0]) != 4:
                break
            value, units = op.inputs[0], before
            if op.name in _TURNS and units == 1:
                maps = Maps(value, units)
        return maps if maps.units in (1, 3) else None


def _units_before(op: Op, units: int) -> int | None:
    """In which dimension of an operation's input the units stand that it gives in `units`.

    None where it joins them, takes them apart, or averages them.
    """
    before, after = op.read[0], op.shapes[0]
    if op.name in _TURNS:
        return order_before(op, len(before))[units]
    if op.name == "mean":
        gone = named_dims(op, 1, len(before)) or {*range(len(before))}
        kept = [d for d in range(len(before)) if d not in gone or len(after) == len(before)]
        return kept[units] if kept[units] not in gone else None
    if op.name in _AVERAGES:
        return units if units == len(before) - 3 else None
    laid_out = [*zip(elements_behind(before), before, strict=True)]
    here = elements_behind(after)[units], after[units]
    return laid_out.index(here) if here in laid_out else None


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1
