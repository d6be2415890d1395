"""Tokens that stand for positions of a map: what transformers make of an image.

A map (N, C, H, W) that is cut or flattened into a row of vectors (N, H·W, C) keeps its positions in
order; class and register tokens are put ahead of them. `find_tokens` follows the rows along the
traced operations, so that no architecture has to be known. All else that is made on the way (the
heads of attention, single rows) is no row of tokens, but may become one again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from cnnlens.model.trace import Op, Trace

VIEWS = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze"),
    *("unsqueeze", "clone", "alias", "contiguous", "detach"),
}
# whatever comes out is in another order
_REORDERING = {"gather", "index", "index_select", "roll", "flip", "sort", "topk", "masked_select"}
_TURNS = {"permute", "transpose"}
SOFTMAX = {"_softmax", "_safe_softmax"}
# how a value holds the positions: (N, T, C), (T, N, C), (N, C, T), (N, H, W, C), cut up for
# attention, and cut into patches that are not yet flattened
ROW, FIRST, FLAT, LAST, INSIDE, PATCHES = "row", "first", "flat", "last", "inside", "patches"


def is_attention(op: Op) -> bool:
    """Whether the operation lets positions read each other, by weights that it computes.

    A class token that reads all positions is none, nor are weights of branches or of classes.
    """
    if not op.shapes or len(op.shapes[0]) < 3 or op.shapes[0][-2] < 2:
        return False
    if op.name in SOFTMAX:
        return op.arguments[1] % len(op.shapes[0]) == len(op.shapes[0]) - 1
    return "attention" in op.name


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


@dataclass(frozen=True)
class _Held:
    """Positions in a value, and how it holds them."""

    grid: Grid
    how: str


@dataclass(frozen=True)
class Tokens:
    """Values of a forward pass that are made of tokens.

    Attributes
    ----------
    rows : dict of int to Grid
        Rows of tokens, and how positions stand in them.
    mixed : set of int
        Rows turned to (N, C, T): what is computed of them reads all positions.
    last : set of int
        Rows laid out as maps (N, H, W, C).
    maps : set of int
        Maps (N, C, H, W).
    inside : set of int
        What is neither row nor map: heads of attention and the like.
    """

    rows: dict[int, Grid]
    mixed: set[int]
    last: set[int]
    maps: set[int]
    inside: set[int]


def find_tokens(passed: Trace, last: Collection[int]) -> Tokens:
    """Find the values of a forward pass that are rows of tokens.

    Parameters
    ----------
    passed : Trace
        One forward pass.
    last : collection of int
        Values that hold maps as (N, H, W, C).
    """
    known: dict[int, _Held] = {}
    count = passed.batch
    maps, mixed = {passed.source}, set()  # maps: (N, C, H, W)
    for op in passed.ops:
        if not op.outputs or op.name in _REORDERING:
            continue
        held = [
            (known[v], shape) for v, shape in zip(op.inputs, op.read, strict=True) if v in known
        ]
        for value, shape in zip(op.outputs, op.shapes, strict=True):
            found = _after(op, held, shape, count) if held else _born(op, shape, count, maps, last)
            if found is not None:
                known[value] = found
                if found.how == FLAT and held:
                    mixed.add(value)
            elif len(shape) == 4 and _is_map(op, [one for one, _ in held], shape, maps, last):
                maps.add(value)
    rows = {v: one.grid for v, one in known.items() if one.how in (ROW, FIRST)}
    laid_out = {v for v, one in known.items() if one.how == LAST}
    inside = {v for v, one in known.items() if one.how == INSIDE}
    return Tokens(rows, mixed, laid_out, maps, inside)


def _is_map(
    op: Op,
    held: Sequence[_Held],
    shape: tuple[int, ...],
    maps: set[int],
    last: Collection[int],
) -> bool:
    if op.name == "convolution":
        return True
    if held:  # put together again
        return any(
            one.how == LAST or (one.how == FLAT and shape[2:] == _extent(one.grid)) for one in held
        )
    turned = op.name in _TURNS and any(v in last for v in op.inputs)
    return turned or (any(v in maps for v in op.inputs) and op.name not in VIEWS | _TURNS)


def _born(
    op: Op, shape: tuple[int, ...], count: int, maps: set[int], last: Collection[int]
) -> _Held | None:
    """Of a map that is flattened, or cut into patches."""
    if op.name not in VIEWS or len(op.read[0]) != 4 or shape[:1] != (count,):
        return None
    value, before = op.inputs[0], op.read[0]
    if value in maps:
        height, width = before[2:]
        if shape[1:] == (before[1], height * width) and height * width > 1:
            return _Held(Grid(height, width, 0, height * width, origin=value), FLAT)
        if len(shape) == 6 and shape[2] * shape[3] == height and shape[4] * shape[5] == width:
            total = shape[2] * shape[4]
            return _Held(Grid(shape[2], shape[4], 0, total, origin=value), PATCHES)
    if value in last:
        height, width = before[1:3]
        if shape[1:] == (height * width, before[3]) and height * width > 1:
            return _Held(Grid(height, width, 0, height * width, origin=value), ROW)
    return None


def _after(
    op: Op, held: list[tuple[_Held, tuple[int, ...]]], shape: tuple[int, ...], count: int
) -> _Held | None:
    """What an operation makes of what its inputs hold."""
    rows = [one for one, _ in held if one.how in (ROW, FIRST)]
    one, before = held[0]
    if op.name == "convolution" and len(shape) == 4:
        return None
    if op.name == "cat":
        return _joined(op, shape, held, count)
    if op.name == "slice" and one.how in (ROW, FIRST):
        return _sliced(op, one, before, shape, count)
    if one.how == FLAT and shape[2:] == _extent(one.grid):
        return None  # a map again
    if one.how == LAST and op.name in _TURNS:
        return None
    order = _exchanged(op) if len(before) == len(shape) == 3 else None
    if one.how in (ROW, FIRST, FLAT) and order is not None:
        return _turned(one, order)
    return _of_shape(rows[0] if rows else one, shape, count)


def _of_shape(one: _Held, shape: tuple[int, ...], count: int) -> _Held | None:
    """Say how a value of that shape holds the positions: as before, where it can."""
    grid = one.grid
    if len(shape) == 3 and one.how == FLAT and shape[2] == grid.total:
        return one
    if len(shape) == 3 and shape[:2] == (count, grid.total):
        return _Held(replace(grid, first=False), ROW)
    if len(shape) == 3 and shape[:2] == (grid.total, count):
        return _Held(replace(grid, first=True), FIRST)
    if len(shape) == 4 and shape[:3] == (count, *_extent(grid)) and one.how in (ROW, LAST):
        return _Held(grid, LAST) if grid.total == _positions(grid) else None
    if one.how == PATCHES:
        return one
    whole = grid.total, _positions(grid)  # the positions may be flattened with others, or twice
    is_inside = any(extent % total == 0 for extent in shape for total in whole)
    return _Held(grid, INSIDE) if is_inside else None


def _exchanged(op: Op) -> tuple[int, ...] | None:
    """The order of three dimensions after a permutation or a transposition."""
    a = op.arguments
    if op.name == "permute":
        return tuple(d % 3 for d in a[1])
    if op.name == "transpose":
        order = [0, 1, 2]
        order[a[1]], order[a[2]] = order[a[2]], order[a[1]]
        return tuple(order)
    return None


def _turned(one: _Held, order: tuple[int, ...]) -> _Held:
    axes = {ROW: ("n", "t", "c"), FIRST: ("t", "n", "c"), FLAT: ("n", "c", "t")}[one.how]
    turned = tuple(axes[axis] for axis in order)
    if turned == ("n", "t", "c"):
        return _Held(replace(one.grid, first=False), ROW)
    if turned == ("t", "n", "c"):
        return _Held(replace(one.grid, first=True), FIRST)
    return _Held(one.grid, FLAT if turned == ("n", "c", "t") else INSIDE)


def _axis(one: _Held) -> int:
    return {ROW: 1, FIRST: 0}[one.how]


def _joined(
    op: Op, shape: tuple[int, ...], held: list[tuple[_Held, tuple[int, ...]]], count: int
) -> _Held | None:
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
    has_class = lengths[0] == 1 if at else grid.has_class
    return replace(
        one, grid=replace(grid, before=grid.before + ahead, total=shape[axis], has_class=has_class)
    )


def _sliced(
    op: Op, one: _Held, before: tuple[int, ...], shape: tuple[int, ...], count: int
) -> _Held | None:
    a, axis, grid = op.arguments, _axis(one), one.grid
    if (a[1] if len(a) > 1 else 0) % len(before) != axis:
        return _of_shape(one, shape, count)
    start = (a[2] if len(a) > 2 else 0) or 0
    start = max(0, start + before[axis]) if start < 0 else start
    step = a[4] if len(a) > 4 else 1
    if step != 1 or start > grid.before or start + shape[axis] < grid.before + _positions(grid):
        return None
    left = replace(
        grid,
        before=grid.before - start,
        total=shape[axis],
        has_class=grid.has_class and start == 0,
    )
    return replace(one, grid=left)


def _extent(grid: Grid) -> tuple[int, int]:
    return grid.height, grid.width


def _positions(grid: Grid) -> int:
    return grid.height * grid.width
