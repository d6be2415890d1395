"""How the positions of a map stand in a row of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

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
