"""Where on the input a unit's answer at one position comes from, as a box of pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

from cnnlens.model.geometry import Field, Fields


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
