"""How positions of a map stand in a row of tokens; what an operation makes of those that it reads.

The steps of `find_tokens`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from cnnlens.model.channels_last import permutation

if TYPE_CHECKING:
    from cnnlens.model.trace import Op


Window = tuple[int, int, int, int]  # kernel, stride, padding, dilation


@dataclass(frozen=True)
class Grid:
    """How the positions of a map stand in a row of tokens.

    Attributes
    ----------
    height, width : int
        Of the map.
    before : int
        Tokens ahead of its positions: class token, registers.
    total : int
        All tokens.
    has_class : bool
        Whether the first of them is a class token.
    windows : tuple
        What slid over the origin, in order: (axis, (kernel, stride, padding, dilation)).
    first : bool
        Whether values are (T, N, C) instead of (N, T, C).
    origin : int
        Number of the value that was cut into tokens.
    """

    height: int
    width: int
    before: int
    total: int
    has_class: bool = False
    first: bool = False
    origin: int = 0
    windows: tuple[tuple[int, Window], ...] = ()

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.height, self.width

    @property
    def positions(self) -> int:
        """Tokens that stand for positions."""
        return self.height * self.width

    def as_maps(self, value: Tensor) -> Tensor:
        """Return the tokens that stand for positions as (N, C, H, W)."""
        rows = value.transpose(0, 1) if self.first else value  # (N, T, C)
        rows = rows[:, self.before : self.before + self.height * self.width]
        return rows.transpose(1, 2).unflatten(2, (self.height, self.width))

    def class_token(self, value: Tensor) -> Tensor:
        """Return the class token, (N, C)."""
        return value[0] if self.first else value[:, 0]

    def as_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Return the shape of `as_maps` of a value of that shape."""
        return (shape[1] if self.first else shape[0], shape[2], self.height, self.width)


# -- what an operation makes of the positions that its inputs hold --------------------------------

VIEWS = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze"),
    *("unsqueeze", "clone", "alias", "contiguous", "detach"),
}
# whatever comes out is in another order
REORDERING = {"gather", "index", "index_select", "roll", "flip", "sort", "topk", "masked_select"}
TURNS = {"permute", "transpose"}
SOFTMAX = {"_softmax", "_safe_softmax"}
# how a value holds the positions: (N, T, C), (T, N, C), (N, C, T), (N, H, W, C), cut up for
# attention, and cut into patches that are not yet flattened
ROW, FIRST, FLAT, LAST, INSIDE, PATCHES = "row", "first", "flat", "last", "inside", "patches"


@dataclass(frozen=True)
class Held:
    """Positions in a value, and how it holds them."""

    grid: Grid
    how: str


def born(
    op: Op, shape: tuple[int, ...], count: int, maps: Collection[int], last: Collection[int]
) -> Held | None:
    """Of a map that is flattened, or cut into patches."""
    if op.name not in {*VIEWS, "im2col"} or len(op.read[0]) != 4 or shape[:1] != (count,):
        return None
    value, before = op.inputs[0], op.read[0]
    if op.name == "im2col" and value in maps:
        return _unfolded(op, value, before[2:])
    if value in maps:
        height, width = before[2:]
        if shape[1:] == (before[1], height * width) and height * width > 1:
            return Held(Grid(height, width, 0, height * width, origin=value), FLAT)
        if len(shape) == 6 and shape[2] * shape[3] == height and shape[4] * shape[5] == width:
            sides = ((side, side, 0, 1) for side in (shape[3], shape[5]))
            grid = Grid(shape[2], shape[4], 0, shape[2] * shape[4], origin=value)
            return Held(replace(grid, windows=tuple(enumerate(sides))), PATCHES)
    if value in last:
        height, width = before[1:3]
        if shape[1:] == (height * width, before[3]) and height * width > 1:
            return Held(Grid(height, width, 0, height * width, origin=value), ROW)
    return None


def _unfolded(op: Op, value: int, size: tuple[int, ...]) -> Held | None:
    """Of windows that slid over a map (N, C, H, W): (N, C·kernel², T)."""
    kernel, dilation, padding, stride = op.arguments[1:5]
    windows = tuple(
        (axis, (kernel[axis], stride[axis], padding[axis], dilation[axis])) for axis in (0, 1)
    )
    height, width = (
        _slid(length, window) for length, (_, window) in zip(size, windows, strict=True)
    )
    return Held(Grid(height, width, 0, height * width, origin=value, windows=windows), FLAT)


def _slid(length: int, window: Window) -> int:
    kernel, stride, padding, dilation = window
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def after(
    op: Op,
    held: list[tuple[Held, tuple[int, ...]]],
    shape: tuple[int, ...],
    count: int,
    ahead: Mapping[int, bool],
) -> Held | None:
    """What an operation makes of what its inputs hold.

    `ahead` are the learned tokens: whether the first of them is a class token.
    """
    rows = [one for one, _ in held if one.how in (ROW, FIRST)]
    one, before = held[0]
    if op.name == "convolution" and len(shape) == 4:
        patches = one.how == INSIDE and shape[0] == count * one.grid.positions  # each an image
        return one if patches else None
    if op.name == "cat":
        return _joined(op, shape, held, count, ahead)
    if op.name == "slice" and one.how in (ROW, FIRST):
        return _sliced(op, one, before, shape, count)
    if op.name == "slice" and one.how == LAST and (coarser := _strided(op, one, before, shape)):
        return coarser
    if one.how == FLAT and shape[2:] == one.grid.extent:
        return None  # a map again
    if one.how == LAST and op.name in TURNS:
        return None
    order = permutation(op, 3) if len(before) == len(shape) == 3 else ()
    if one.how in (ROW, FIRST, FLAT) and order:
        return _turned(one, order)
    return _of_shape(rows[0] if rows else one, shape, count)


def _of_shape(one: Held, shape: tuple[int, ...], count: int) -> Held | None:
    """Say how a value of that shape holds the positions: as before, where it can."""
    grid = one.grid
    if len(shape) == 3 and one.how == FLAT and shape[2] == grid.total:
        return one
    if len(shape) == 3 and shape[:2] == (count, grid.total):
        return Held(replace(grid, first=False), ROW)
    if len(shape) == 3 and shape[:2] == (grid.total, count):
        return Held(replace(grid, first=True), FIRST)
    if len(shape) == 4 and shape[:3] == (count, *grid.extent) and one.how in (ROW, LAST):
        return Held(grid, LAST) if grid.total == grid.positions else None
    if one.how == PATCHES:
        return one
    whole = grid.total, grid.positions  # the positions may be flattened with others, or twice
    is_inside = any(extent % total == 0 for extent in shape for total in whole)
    return Held(grid, INSIDE) if is_inside else None


def _turned(one: Held, order: tuple[int, ...]) -> Held:
    axes = {ROW: ("n", "t", "c"), FIRST: ("t", "n", "c"), FLAT: ("n", "c", "t")}[one.how]
    turned = tuple(axes[axis] for axis in order)
    if turned == ("n", "t", "c"):
        return Held(replace(one.grid, first=False), ROW)
    if turned == ("t", "n", "c"):
        return Held(replace(one.grid, first=True), FIRST)
    return Held(one.grid, FLAT if turned == ("n", "c", "t") else INSIDE)


def _strided(op: Op, one: Held, before: tuple[int, ...], shape: tuple[int, ...]) -> Held | None:
    """Every second (third, …) row or column of a map (N, H, W, C), from the first on."""
    a, grid = op.arguments, one.grid
    axis, step = (a[1] if len(a) > 1 else 0) % len(before) - 1, a[4] if len(a) > 4 else 1
    if step == 1 or axis not in (0, 1) or (a[2] if len(a) > 2 else 0):
        return None
    height, width = shape[1:3]
    windows = (*grid.windows, (axis, (1, step, 0, 1)))
    coarse = replace(grid, height=height, width=width, total=height * width, windows=windows)
    return Held(coarse, LAST)


def _axis(one: Held) -> int:
    return {ROW: 1, FIRST: 0}[one.how]


def _joined(
    op: Op,
    shape: tuple[int, ...],
    held: list[tuple[Held, tuple[int, ...]]],
    count: int,
    learned: Mapping[int, bool],
) -> Held | None:
    """Tokens with others ahead of them, or behind."""
    rows = [(one, extent) for one, extent in held if one.how in (ROW, FIRST)]
    if not rows or len(shape) != 3:
        return _of_shape(held[0][0], shape, count)
    one, extent = max(rows, key=lambda pair: pair[1][_axis(pair[0])])  # not its own class token
    axis, lengths = _axis(one), [s[_axis(one)] if len(s) == 3 else 0 for s in op.read]
    if (op.arguments[1] if len(op.arguments) > 1 else 0) % 3 != axis:
        return _of_shape(one, shape, count)
    at = op.read.index(extent)
    ahead, grid = sum(lengths[:at]), one.grid
    begins = learned.get(op.inputs[0], lengths[0] == 1)
    has_class = begins if at else grid.has_class
    return replace(
        one, grid=replace(grid, before=grid.before + ahead, total=shape[axis], has_class=has_class)
    )


def _sliced(
    op: Op, one: Held, before: tuple[int, ...], shape: tuple[int, ...], count: int
) -> Held | None:
    a, axis, grid = op.arguments, _axis(one), one.grid
    if (a[1] if len(a) > 1 else 0) % len(before) != axis:
        return _of_shape(one, shape, count)
    start = (a[2] if len(a) > 2 else 0) or 0
    start = max(0, start + before[axis]) if start < 0 else start
    step = a[4] if len(a) > 4 else 1
    if step != 1 or start > grid.before or start + shape[axis] < grid.before + grid.positions:
        return None
    left = replace(
        grid,
        before=grid.before - start,
        total=shape[axis],
        has_class=grid.has_class and start == 0,
    )
    return replace(one, grid=left)
