"""Where on the input a unit looks: receptive fields, composed along the traced operations.

Every value with a spatial extent has a `Field` per axis; an operation maps the fields of its inputs
to those of its outputs, and branches that meet give the smallest field that covers them.
Gates (what comes back from a global pooling) scale maps as a whole and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnlens.model.trace import Op, Trace

_GLOBAL_POOLS = {
    "_adaptive_avg_pool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "mean",
    "amax",
}
_MIXING = {"bmm", "matmul", "baddbmm", "_softmax"}


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
    """

    stride: float = 1.0
    size: float = 1.0
    start: float = 0.5
    whole: bool = False

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
    """Smallest field that covers all of `fields`; gates are left out where anything else is there."""
    local = [f for f in fields if not f.whole]
    if not local:
        return fields[0]
    low = min(f.start - f.size / 2 for f in local)
    high = max(f.start + f.size / 2 for f in local)
    stride = max(f.stride for f in local)
    return Field(stride=stride, size=high - low, start=(low + high) / 2)


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
    for op in trace.ops:
        inputs = [v for v in op.inputs if v in known]
        for value, shape in zip(op.outputs, op.shapes, strict=True):
            shapes[value] = shape
        if inputs:
            after = _through(op, inputs, known, shapes)
            known.update(dict.fromkeys(op.outputs, after))
    return known


def _through(op: Op, inputs: list[int], known: dict[int, Fields], shapes: dict[int, Any]) -> Fields:
    after = op.shapes[0]
    # gates and masks are broadcast: the inputs of the output's own extent place it
    inputs = [v for v in inputs if shapes[v][2:] == after[2:]] or inputs
    rows, columns = (covering([known[v][axis] for v in inputs]) for axis in (0, 1))
    before = shapes[inputs[0]]
    if is_global_pool(op, before) or op.name in _MIXING or "attention" in op.name:
        return replace(rows, whole=True), replace(columns, whole=True)
    window = _window(op)
    if window is not None:
        return rows.window(*window[0]), columns.window(*window[1])
    if len(before) == len(after) == 4 and before[2:] != after[2:] and "permute" not in op.name:
        return _resampled(op, rows, before[2], after[2]), _resampled(
            op, columns, before[3], after[3]
        )
    return rows, columns


def is_global_pool(op: Op, before: Sequence[int]) -> bool:
    """Whether the operation reduces maps of more than one position to one value each."""
    if len(before) != 4 or before[2] * before[3] == 1 or not op.shapes:
        return False
    after = op.shapes[0]
    one = (len(after) == 4 and after[2] * after[3] == 1) or len(after) == 2
    return op.name in _GLOBAL_POOLS and one


def _window(op: Op) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]] | None:
    """Kernel, stride, padding and dilation per axis, or None when nothing slides."""
    a = op.arguments
    if op.name == "convolution" and len(op.shapes[0]) == 4 and not a[6]:
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
    if after > before:  # nearest and bilinear upsampling, transposed convolution
        return field.resampled(after / before, reach=0 if "nearest" in op.name else 1)
    if before % after == 0:  # space to depth, adaptive pooling, strided slices
        return field.window(before // after, before // after, 0)
    return field.resampled(after / before, reach=-(-before // after))
