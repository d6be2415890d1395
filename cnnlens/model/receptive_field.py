"""Where on the input a unit looks: receptive fields, and the boxes that they are on an image.

Every value with a spatial extent has a `Field` per axis; branches that meet give the smallest field
that covers them. Gates (what comes back from a global pooling) scale maps as a whole and are left
out. `cnnlens.model.fields` composes them along the traced operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis, in input pixels.

    Attributes
    ----------
    stride : float
        Distance between the centres of neighbouring units.
    size : float
        Extent of one unit's field.
    start : float
        Centre of the first unit's field; pixel i covers [i, i + 1], so the first pixel's is 0.5.
    whole : bool
        The field is the whole input: behind a global pooling or attention.
    attends : bool
        By attention: it then stays the whole input, also where other branches join.
    scattered : bool
        Places were moved, or by an operation that is not known to keep them: it stays so, too.
    """

    stride: float = 1.0
    size: float = 1.0
    start: float = 0.5
    whole: bool = False
    attends: bool = False
    scattered: bool = False

    def centre(self, index: int) -> float:
        """Centre of the `index`-th unit's field on the input, in pixels."""
        return self.start + index * self.stride

    def window(self, kernel: int, stride: int, padding: float, dilation: int = 1) -> Field:
        """Return the field after a sliding window (convolution, pooling)."""
        reach = (kernel - 1) * dilation
        return replace(
            self,
            stride=self.stride * stride,
            size=self.size + reach * self.stride,
            start=self.start + (reach / 2 - padding) * self.stride,
        )

    def transposed(self, kernel: int, stride: int, padding: float, dilation: int = 1) -> Field:
        """Return the field after a transposed convolution: the largest of its units' fields."""
        reach = (kernel - 1) * dilation
        return replace(
            self,
            stride=self.stride / stride,
            size=self.size + (-(-(reach + 1) // stride) - 1) * self.stride,
            start=self.start + (padding - reach / 2) / stride * self.stride,
        )

    def shifted(self, units: int, step: int = 1) -> Field:
        """Return the field after leaving out the first `units`, then keeping every `step`-th."""
        start = self.start + units * self.stride
        return replace(self, start=start, stride=self.stride * step)

    def resampled(self, factor: float, reach: int) -> Field:
        """Return the field after resampling to `factor` times as many units, half-pixel centres."""
        stride = self.stride / factor
        return replace(
            self,
            stride=stride,
            size=self.size + reach * self.stride,
            start=self.start + (stride - self.stride) / 2,
        )


Fields = tuple[Field, Field]  # rows, columns


def covering(fields: Sequence[Field]) -> Field:
    """Smallest field that covers all of `fields`; gates are left out beside anything else."""
    staying = [f for f in fields if f.attends] or [f for f in fields if f.scattered]
    local = staying or [f for f in fields if not f.whole]
    if not local:
        return fields[0]
    low = min(f.start - f.size / 2 for f in local)
    high = max(f.start + f.size / 2 for f in local)
    return Field(
        stride=max(f.stride for f in local),
        size=high - low,
        start=(low + high) / 2,
        whole=bool(staying),
        attends=any(f.attends for f in local),
        scattered=any(f.scattered for f in local),
    )


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


def field_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Receptive field of a position (row, column) on an input of `size`, clipped to it."""
    return _box(fields, position, size, _clipped)


def whole_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Receptive field of a position, as far as it may stick out of an input of `size`."""
    return _box(fields, position, size, lambda first, last, length: (first, last))


def shown_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the field's box moved into the image where it sticks out, so that all are one size."""
    return _box(fields, position, size, _moved)


def _box(
    fields: Fields,
    position: tuple[int, int],
    size: tuple[int, int],
    fitted: Callable[[int, int, int], tuple[int, int]],
) -> Box:
    (top, bottom), (left, right) = (
        fitted(*_span(field, at, length), length)
        for field, at, length in zip(fields, position, size, strict=True)
    )
    return Box(top, left, bottom, right)


def _span(field: Field, at: int, length: int) -> tuple[int, int]:
    if field.whole:
        return 0, length
    centre = field.centre(at)
    return math.floor(centre - field.size / 2), math.ceil(centre + field.size / 2)


def _clipped(first: int, last: int, length: int) -> tuple[int, int]:
    first, last = max(first, 0), min(last, length)
    return (first, last) if first < last else (0, length)  # a unit that sees padding alone


def _moved(first: int, last: int, length: int) -> tuple[int, int]:
    extent = min(last - first, length)
    first = min(max(first, 0), length - extent)
    return first, first + extent
