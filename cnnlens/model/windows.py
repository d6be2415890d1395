"""What slides over maps, pads, cuts or resamples them, and what that makes of a field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cnnlens.model.receptive_field import Field
from cnnlens.model.trace import Op

Window = tuple[int, int, int, int]  # kernel, stride, padding, dilation

PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
ADAPTIVE = {"_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_POOLS = {
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool2d", "mkldnn_max_pool2d"), 2),
    **dict.fromkeys(("quantized_max_pool2d", "avg_pool2d"), 2),
    **dict.fromkeys(("avg_pool3d", "max_pool3d_with_indices"), 3),
}
_QUANTIZED = {"conv2d", "conv2d_relu", "conv2d_add", "conv2d_add_relu"}


def is_resampling(op: Op) -> bool:
    """Whether it makes maps of another size: places lie as before, nearer or farther apart."""
    return op.name in {"pixel_shuffle", "pixel_unshuffle"} | ADAPTIVE or "upsample_" in op.name


def is_cut(op: Op) -> bool:
    """Whether it pads or slices maps, by whatever, also by nothing."""
    return op.name in PADS or op.name == "slice"


def is_transposed(op: Op) -> bool:
    """Whether it is a transposed convolution."""
    return op.name == "convolution" and bool(op.arguments[6])


def windows_of(op: Op) -> dict[int, Window] | None:
    """What slides along which dimension, counted from the first; None where nothing slides."""
    a, dims = op.arguments, len(op.shapes[0])
    if op.name == "convolution" and dims == 4:
        return _along(2, dims, op.kernel, a[3], a[4], a[5])
    if op.name in _QUANTIZED and dims == 4 and hasattr(a[1], "unpack"):
        weight, packed = a[1].unpack()[0], a[1]
        how = packed.stride(), packed.padding(), packed.dilation()
        return _along(2, dims, weight.shape[2:], *how)
    if (count := _POOLS.get(op.name)) and dims == count + 2:
        stride = a[2] if len(a) > 2 and a[2] else a[1]
        padding = a[3] if len(a) > 3 else 0
        dilation = a[4] if len(a) > 4 and not op.name.startswith("avg") else 1
        return _along(count, dims, a[1], stride, padding, dilation)
    return None


def _along(count: int, dims: int, *how: Any) -> dict[int, Window]:
    """Kernel, stride, padding and dilation, each a number, or a list of one or one for each."""
    lists = ([v] if isinstance(v, int) else [*v] for v in how)
    each = [v * count if len(v) == 1 else v for v in lists]
    first = dims - count
    return {first + i: tuple(int(v[i]) for v in each) for i in range(count)}  # type: ignore[misc]


def touched(op: Op, before: Sequence[int]) -> set[int]:
    """Along which dimensions a window, padding, a slice or resampling changes anything."""
    a, dims = op.arguments, len(before)
    if slides := windows_of(op):
        return {dim for dim, window in slides.items() if window != (1, 1, 0, 1)}
    if op.name in PADS:
        pads = a[1]
        return {dims - 1 - i for i in range(len(pads) // 2) if pads[2 * i] or pads[2 * i + 1]}
    if op.name == "slice":
        return {(a[1] if len(a) > 1 else 0) % dims}
    return {2, 3} if is_resampling(op) else set()


def along(op: Op, field: Field, dim: int, before: Sequence[int], after: Sequence[int]) -> Field:
    """What it makes of the field along one dimension."""
    if slides := windows_of(op):
        slide = Field.transposed if is_transposed(op) else Field.window
        return slide(field, *slides[dim]) if dim in slides else field
    if is_cut(op):
        return _cut(op, field, dim, before)
    return _resampled(op, field, before[dim], after[dim])


def _cut(op: Op, field: Field, dim: int, before: Sequence[int]) -> Field:
    """Padding and slicing along one dimension."""
    a = op.arguments
    if op.name in PADS:
        place = 2 * (len(before) - 1 - dim)
        return field.shifted(-a[1][place]) if place < len(a[1]) else field
    if (a[1] if len(a) > 1 else 0) % len(before) != dim:
        return field
    start = (a[2] if len(a) > 2 else 0) or 0
    start = max(0, start + before[dim]) if start < 0 else min(start, before[dim])
    return field.shifted(start, a[4] if len(a) > 4 else 1)


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
    if after > before:  # nearest, depth to space
        return field.resampled(factor, reach=0 if after % before == 0 else 1)
    if "nearest" in op.name:
        return replace(field, stride=field.stride / factor)
    if before % after == 0:  # space to depth, adaptive pooling
        return field.window(before // after, before // after, 0)
    return field.resampled(factor, reach=-(-before // after))
