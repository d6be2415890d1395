"""Tokens that stand for positions of a map: what transformers make of an image.

A map (N, C, H, W) that is cut or flattened into a row of vectors (N, H·W, C) keeps its positions in
order; class and register tokens are put ahead of them. `find_tokens` follows the rows along the
traced operations, so that no architecture has to be known. All else that is made on the way (the
heads of attention, single rows) is no row of tokens, but may become one again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnlens.model.positions import (
    FIRST,
    FLAT,
    INSIDE,
    LAST,
    REORDERING,
    ROW,
    SOFTMAX,
    TURNS,
    VIEWS,
    Grid,
    Held,
    after,
    born,
)

if TYPE_CHECKING:
    from cnnlens.model.trace import Op, Trace


def is_attention(op: Op) -> bool:
    """Whether the operation lets positions read each other, by weights that it computes.

    A class token that reads all positions is none, nor are weights of branches or of classes.
    """
    shape = op.shapes[0] if op.shapes else ()
    if len(shape) < 3 or (len(shape) < 5 and shape[-2] < 2):  # five: one row of each window
        return False
    if op.name in SOFTMAX:
        return op.arguments[1] % len(shape) == len(shape) - 1
    return "attention" in op.name


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
    known: dict[int, Held] = {}
    count = passed.batch
    maps, mixed = {passed.source}, set()  # maps: (N, C, H, W)
    ahead = _learned(passed)
    for op in passed.ops:
        if not op.outputs or op.name in REORDERING:
            continue
        held = [
            (known[v], shape) for v, shape in zip(op.inputs, op.read, strict=True) if v in known
        ]
        # a map that a mask or a gate is laid over stays one, whatever that was computed from
        gated = {shape for v, shape in zip(op.inputs, op.read, strict=True) if v in maps}
        for value, shape in zip(op.outputs, op.shapes, strict=True):
            if held and len(shape) == 4 and shape in gated:
                maps.add(value)
                continue
            found = (
                after(op, held, shape, count, ahead) if held else born(op, shape, count, maps, last)
            )
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


_NO_CLASS = re.compile(r"reg|storage|mem|prompt|dist|mask|quer|meta", re.I)


def _learned(passed: Trace) -> dict[int, bool]:
    """Values that are parameters alone; whether the first of them, as tokens, is a class token."""
    known = {
        value: not _NO_CLASS.search(name.rpartition(".")[2]) for value, name in passed.names.items()
    }
    shapes: dict[int, tuple[int, ...]] = {}
    for op in passed.ops:
        shapes |= zip(op.inputs, op.read, strict=True)
        if op.inputs and all(v in known for v in op.inputs):
            known.update(dict.fromkeys(op.outputs, known[op.inputs[0]]))
    return {v: first for v, first in known.items() if len(shapes.get(v, ())) == 3}


def _is_map(
    op: Op,
    held: Sequence[Held],
    shape: tuple[int, ...],
    maps: set[int],
    last: Collection[int],
) -> bool:
    if op.name == "convolution":
        return True
    if held:  # put together again
        return any(
            one.how == LAST or (one.how == FLAT and shape[2:] == one.grid.extent) for one in held
        )
    turned = op.name in TURNS and any(v in last for v in op.inputs)
    as_before = op.name not in VIEWS | TURNS or shape == op.read[0]
    return turned or (any(v in maps for v in op.inputs) and as_before)
