"""Where on the input a unit looks: receptive fields, composed along the traced operations.

Every value with a spatial extent has a `Field` per axis; an operation maps the fields of its inputs
to those of its outputs, and branches that meet give the smallest field that covers them.
Gates (what comes back from a global pooling) scale maps as a whole and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cnnlens.model.tokens import is_attention
from cnnlens.model.trace import Op, Trace

_ADAPTIVE = {"_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_REDUCING = {"mean", "amax"}
_PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
_MIXING = {"bmm", "matmul", "baddbmm", "_softmax"}
_MOVING = {"flip", "roll", "rot90"}  # places go elsewhere: their dimensions stand last, or second


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
    """

    stride: float = 1.0
    size: float = 1.0
    start: float = 0.5
    whole: bool = False
    attends: bool = False

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
    attending = [f for f in fields if f.attends]
    local = attending or [f for f in fields if not f.whole]
    if not local:
        return fields[0]
    low = min(f.start - f.size / 2 for f in local)
    high = max(f.start + f.size / 2 for f in local)
    stride = max(f.stride for f in local)
    seen = bool(attending)
    return Field(stride, size=high - low, start=(low + high) / 2, whole=seen, attends=seen)


def receptive_fields(trace: Trace, input_shape: Sequence[int]) -> dict[int, Fields]:
    """Receptive fields (rows, columns) of every value that descends from the input.

    Parameters
    ----------
    trace : Trace
        One forward pass.
    input_shape : sequence of int
        (N, C, H, W).
    """
    shapes = {trace.source: tuple(input_shape)}
    known: dict[int, Fields] = {trace.source: (Field(), Field())}
    last = channels_last(trace)
    for op in trace.ops:
        inputs = [v for v in op.inputs if v in known]
        for value, shape in zip(op.outputs, op.shapes, strict=True):
            shapes[value] = shape
        if inputs and op.outputs:
            after = _through(op, inputs, known, shapes, last)
            if any(known[v][0].attends for v in inputs):  # weights and what they weigh alike
                after = _attending(after)
            known.update(dict.fromkeys(op.outputs, after))
    return known


def _attending(fields: Fields) -> Fields:
    rows, columns = (replace(field, whole=True, attends=True) for field in fields)
    return rows, columns


def channels_last(trace: Trace) -> set[int]:
    """Values that hold maps as (N, H, W, C): between a permutation there and one back.

    In between, maps may be cut into windows or flattened (five dimensions, or two); what comes out
    with the extent they had before, or a whole fraction of it (patches merged), is a map again.
    """
    last: set[int] = set()
    extents: dict[int, tuple[int, ...]] = {}  # of the map that a value descends from
    for op in trace.ops:
        order = _permutation(op)
        descends = [v for v in op.inputs if v in extents]
        direct = any(v in last for v in op.inputs)
        if order == (0, 2, 3, 1) and not direct:
            last.update(op.outputs)
            extents[op.outputs[0]] = op.shapes[0][1:3]
        elif descends and not (direct and order):
            for value, shape in zip(op.outputs, op.shapes, strict=True):
                extents[value] = extents[descends[0]]
                if len(shape) == 4 and (direct or _same_plane(shape, extents[value], trace.batch)):
                    last.add(value)
                    extents[value] = shape[1:3]
    return last


def _same_plane(shape: tuple[int, ...], extent: tuple[int, ...], batch: int) -> bool:
    """Whether a shape (N, H, W, C) has an extent, or a whole fraction of it along both axes."""
    if shape[1:3] == extent:
        return True
    if 0 in shape:
        return False
    rows, columns = (old / new for old, new in zip(extent, shape[1:3], strict=True))
    return shape[0] == batch and rows == columns and rows == int(rows)


def _permutation(op: Op) -> tuple[int, ...]:
    """The order of four dimensions after a permutation or a transposition, else ()."""
    a = op.arguments
    if op.name == "permute" and len(a[1]) == 4:
        return tuple(d % 4 for d in a[1])
    if op.name == "transpose" and len(op.shapes[0]) == 4:
        order = [0, 1, 2, 3]
        order[a[1]], order[a[2]] = order[a[2]], order[a[1]]
        return tuple(order)
    return ()


def _through(
    op: Op, inputs: list[int], known: dict[int, Fields], shapes: dict[int, Any], last: set[int]
) -> Fields:
    def extent(value: int) -> tuple[int, ...]:
        return shapes[value][1:3] if value in last else shapes[value][2:4]

    # gates and masks are broadcast: the inputs of the output's own extent place it
    after = extent(op.outputs[0])
    inputs = [v for v in inputs if extent(v) == after] or inputs
    rows, columns = (covering([known[v][axis] for v in inputs]) for axis in (0, 1))
    before = shapes[inputs[0]]
    if is_attention(op):
        return _attending((rows, columns))
    if is_global_pool(op, before) or op.name in _MIXING or "attention" in op.name:
        return replace(rows, whole=True), replace(columns, whole=True)
    if _moves_places(op, before, inputs[0] in last):
        high, wide = next(iter(shapes.values()))[2:4]  # of the input
        return replace(rows, whole=True, size=high), replace(columns, whole=True, size=wide)
    window = _window(op)
    if window is not None:
        slide = Field.transposed if op.name == "convolution" and op.arguments[6] else Field.window
        return slide(rows, *window[0]), slide(columns, *window[1])
    if len(before) != 4 or len(op.shapes[0]) != 4 or _permutation(op):
        return rows, columns
    if op.name in _PADS or op.name == "slice":
        first = 1 if inputs[0] in last else 2
        return _cut(op, rows, first, before), _cut(op, columns, first + 1, before)
    old = extent(inputs[0])
    return _resampled(op, rows, old[0], after[0]), _resampled(op, columns, old[1], after[1])


def _moves_places(op: Op, before: Sequence[int], last: bool) -> bool:
    """Whether an operation takes maps (N, C, H, W) apart so that a place is not where it was."""
    if op.name.startswith("_fft") or (_permutation(op) == (0, 1, 3, 2) and not last):
        return True
    if len(before) != 4 or (op.name not in _MOVING and op.name != "unfold"):
        return False
    dims = op.arguments[1 if op.name in ("flip", "unfold") else 2]
    named = [dims] if isinstance(dims, int) else dims
    return not named or any(d % 4 in ({1, 2} if last else {2, 3}) for d in named)


def is_global_pool(op: Op, before: Sequence[int]) -> bool:
    """Whether the operation reduces maps to one value each."""
    if len(before) != 4 or not op.shapes or op.name not in _ADAPTIVE | _REDUCING:
        return False
    after = op.shapes[0]
    one = (len(after) == 4 and after[2] * after[3] == 1) or len(after) == 2
    if op.name in _REDUCING and before[2] * before[3] == 1:  # over space, or over channels?
        dims = op.arguments[1] if len(op.arguments) > 1 else None
        return one and (not dims or {d % 4 for d in dims} >= {2, 3})
    return one


def _cut(op: Op, field: Field, dim: int, before: Sequence[int]) -> Field:
    """Padding and slicing along one dimension."""
    a = op.arguments
    if op.name in _PADS:
        place = 2 * (len(before) - 1 - dim)
        return field.shifted(-a[1][place]) if place < len(a[1]) else field
    if (a[1] if len(a) > 1 else 0) % len(before) != dim:
        return field
    start = (a[2] if len(a) > 2 else 0) or 0
    start = max(0, start + before[dim]) if start < 0 else min(start, before[dim])
    return field.shifted(start, a[4] if len(a) > 4 else 1)


def _window(op: Op) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]] | None:
    """Kernel, stride, padding and dilation per axis, or None when nothing slides."""
    a = op.arguments
    if op.name == "convolution" and len(op.shapes[0]) == 4:
        return _axes(op.kernel, a[3], a[4], a[5])
    if op.name in ("max_pool2d_with_indices", "max_pool2d", "mkldnn_max_pool2d"):
        kernel = a[1]
        stride = a[2] if len(a) > 2 and a[2] else kernel
        padding = a[3] if len(a) > 3 else [0, 0]
        dilation = a[4] if len(a) > 4 else [1, 1]
        return _axes(kernel, stride, padding, dilation)
    if op.name == "avg_pool2d":
        stride = a[2] if len(a) > 2 and a[2] else a[1]
        return _axes(a[1], stride, a[3] if len(a) > 3 else [0, 0], [1, 1])
    return None


def _axes(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    rows_columns = [_pair(v) for v in (kernel, stride, padding, dilation)]
    return tuple(tuple(v[axis] for v in rows_columns) for axis in (0, 1))


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _resampled(op: Op, field: Field, before: int, after: int) -> Field:
    if before == after:
        return field
    factor = after / before
    if "linear" in op.name or "cubic" in op.name:
        reach = 1 if "linear" in op.name else 3
        if op.name.endswith("_aa") and factor < 1:  # the window is as wide as what it shrinks
            reach = math.ceil((reach + 1) / factor)
        if op.arguments[2] and after > 1:  # aligned corners
            stride = field.stride * (before - 1) / (after - 1)
            size = field.size + reach * field.stride
            return replace(field, stride=stride, size=size)
        return field.resampled(factor, reach)
    if after > before:  # nearest, depth to space, what is not known
        return field.resampled(factor, reach=0 if after % before == 0 else 1)
    if "nearest" in op.name:
        return replace(field, stride=field.stride / factor)
    if before % after == 0:  # space to depth, adaptive pooling
        return field.window(before // after, before // after, 0)
    return field.resampled(factor, reach=-(-before // after))


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


def field_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Receptive field of a position (row, column) on an input of `size`, clipped to it."""
    (top, bottom), (left, right) = (
        _clipped(*_span(field, at, length), length)
        for field, at, length in zip(fields, position, size, strict=True)
    )
    return Box(top, left, bottom, right)


def whole_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Receptive field of a position, as far as it may stick out of an input of `size`."""
    (top, bottom), (left, right) = (
        _span(field, at, length) for field, at, length in zip(fields, position, size, strict=True)
    )
    return Box(top, left, bottom, right)


def shown_box(fields: Fields, position: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the field's box moved into the image where it sticks out, so that all are one size."""
    (top, bottom), (left, right) = (
        _moved(*_span(field, at, length), length)
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
