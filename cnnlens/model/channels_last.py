"""Which values hold maps with their channels last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnlens.model.trace import Op, Trace


def channels_last(trace: Trace) -> set[int]:
    """Values that hold maps as (N, H, W, C): between a permutation there and one back.

    In between, maps may be cut into windows or flattened (five dimensions, or two); what comes out
    with the extent they had before, or a whole fraction of it (patches merged), is a map again.
    """
    last: set[int] = set()
    extents: dict[int, tuple[int, ...]] = {}  # of the map that a value descends from
    for op in trace.ops:
        order = permutation(op, 4)
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


def permutation(op: Op, dimensions: int) -> tuple[int, ...]:
    """The order of so many dimensions after a permutation or a transposition, else ()."""
    a = op.arguments
    if op.name == "permute" and len(a[1]) == dimensions:
        return tuple(d % dimensions for d in a[1])
    if op.name == "transpose" and len(op.shapes[0]) == dimensions:
        order = list(range(dimensions))
        order[a[1]], order[a[2]] = order[a[2]], order[a[1]]
        return tuple(order)
    return ()
