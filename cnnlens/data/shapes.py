"""Pictures of two coloured figures on white, and what is where in them (CGL paper, §4.1).

One figure stands in the top half, one in the bottom half: a square, circle or triangle in red,
blue or green. Some figures are a little darker in stripes or dots, which gives textures and keeps
the colours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

SHAPES = ("square", "circle", "triangle")
COLORS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}
FILLS = {"solid": 0.5, "striped": 0.25, "dotted": 0.25}  # and how often each occurs
DARKER = 0.75

KINDS = tuple(itertools.product(SHAPES, COLORS))  # 9 kinds of figure
PAIRS = tuple(itertools.combinations_with_replacement(range(len(KINDS)), 2))  # 45 kinds of picture


@dataclass(frozen=True)
class Figure:
    """One figure: its kind, its fill, the top left corner of its box and the box's side."""

    shape: str
    color: str
    fill: str
    top: int
    left: int
    side: int

    @property
    def box(self) -> tuple[slice, slice]:
        """Where the box is in the picture."""
        return np.s_[self.top : self.top + self.side, self.left : self.left + self.side]

    @property
    def mask(self) -> np.ndarray:
        """(side, side) bool: the figure in its box."""
        return _mask(self.shape, self.side)


Scene = tuple[Figure, Figure]


def scenes(images: int, size: int, seed: int) -> Iterator[Scene]:
    """Draw `images` pictures' contents; every 45 in a row show each combination once.

    The first ones are the same however many follow.
    """
    if images < 1 or size < 24:
        raise ValueError(f"{images=} must be at least 1, {size=} at least 24")
    rng = np.random.default_rng(seed)
    for first in range(0, images, len(PAIRS)):
        for pair in rng.permutation(len(PAIRS))[: images - first]:
            yield _scene(rng, PAIRS[pair], size)


def alike(kind: int, images: int, size: int, seed: int) -> Iterator[Scene]:
    """Draw pictures whose two figures are both of one of the `KINDS`."""
    rng = np.random.default_rng([seed, kind])
    for _ in range(images):
        yield _scene(rng, (kind, kind), size)


def _scene(rng: np.random.Generator, pair: tuple[int, int], size: int) -> Scene:
    side, half = side_of(size), size // 2
    kinds = [KINDS[pair[place]] for place in rng.permutation(2)]
    rows = (rng.integers(0, half - side + 1), rng.integers(half, size - side + 1))
    columns = rng.integers(0, size - side + 1, 2)
    fills = rng.choice(list(FILLS), 2, p=list(FILLS.values()))
    first, second = (
        Figure(shape, color, str(fill), int(row), int(column), side)
        for (shape, color), fill, row, column in zip(kinds, fills, rows, columns, strict=True)
    )
    return first, second


def side_of(size: int) -> int:
    """Side of a figure's box: 12 pixels in a picture of 64."""
    return round(size * 12 / 64)


def paint(scene: Scene, size: int) -> np.ndarray:
    """Paint the picture: (size, size, 3) uint8."""
    picture = np.full((size, size, 3), 255, np.uint8)
    for figure in scene:
        color = np.array(COLORS[figure.color], float)
        pattern = _pattern(figure.fill, figure.side)  # (side, side) bool
        filled = np.where(pattern[..., None], color * DARKER, color)  # (side, side, 3)
        picture[figure.box][figure.mask] = np.rint(filled)[figure.mask]
    return picture


def shows_square(scene: Scene) -> bool:
    """Whether a square is present, the label to train on."""
    return any(figure.shape == "square" for figure in scene)


@cache
def parts(shape: str, side: int) -> dict[str, np.ndarray]:
    """Masks of a figure's parts in its box: (side, side) bool each; they overlap."""
    mask = _mask(shape, side)
    upper = np.zeros_like(mask)
    upper[: side // 2] = True
    padded = np.pad(mask, 1)
    inner = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return {
        "upper half": mask & upper,
        "lower half": mask & ~upper,
        "edge": mask & ~inner,
        "corner": mask & _corners(shape, side),
    }


@cache
def _mask(shape: str, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5
    middle = side / 2
    if shape == "square":
        return np.ones((side, side), bool)
    if shape == "circle":
        return (y - middle) ** 2 + (x - middle) ** 2 <= middle**2
    return np.abs(x - middle) <= (y + 0.5) / 2  # triangle, standing on its base


def _pattern(fill: str, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    if fill == "striped":
        return y % 4 < 2
    if fill == "dotted":
        return (y % 4 < 2) & (x % 4 < 2)
    return np.zeros((side, side), bool)


def _corners(shape: str, side: int) -> np.ndarray:
    """Squares about the points where two straight edges meet; a circle has none."""
    near = max(2, side // 4)
    corners = np.zeros((side, side), bool)
    if shape == "square":
        corners[:near, :near] = corners[:near, -near:] = True
    if shape == "triangle":
        corners[:near] = True
    if shape != "circle":
        corners[-near:, :near] = corners[-near:, -near:] = True
    return corners
