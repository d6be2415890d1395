"""How parts of objects are marked on pictures and on the page: a colour each, and a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ImageDraw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# distinct on photos, after Okabe and Ito
_COLOURS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff",
)  # fmt: skip
_SHAPES = {"dot": "o", "square": "s", "diamond": "D"}  # as the page's style has them; matplotlib's
_EDGE = "#000000"  # white is seen on snow, black on coal


class Mark(NamedTuple):
    """A part's colour, and its shape by the name of `_SHAPES`."""

    colour: str
    shape: str


def part_marks(parts: Sequence[str]) -> dict[str, Mark]:
    """Choose a mark for each part: dots of eight colours, then squares, then diamonds of these.

    Only from the 25th part on do they repeat.
    """
    shapes, many = [*_SHAPES], len(_COLOURS)
    return {
        part: Mark(_COLOURS[k % many], shapes[k // many % len(shapes)])
        for k, part in enumerate(parts)
    }


def draw_mark(pen: ImageDraw.ImageDraw, x: float, y: float, mark: Mark) -> None:
    """Mark a place of a picture, in pixels."""
    how: dict[str, Any] = {"fill": mark.colour, "outline": _EDGE}
    if mark.shape == "dot":
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), **how)
    elif mark.shape == "square":
        pen.rectangle((x - 4, y - 4, x + 4, y + 4), **how)
    else:
        pen.polygon(((x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)), **how)


def plot_marks(axes: Any, parts: Sequence[str], centres: np.ndarray) -> None:
    """Mark the parts' centres, (P, 2) as y, x in [0, 1], on axes of that range; NaN: no part."""
    for (y, x), mark in zip(centres, part_marks(parts).values(), strict=True):
        if 0 <= y <= 1 and 0 <= x <= 1:
            axes.plot(x, y, **_style(mark))
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)


def add_legend(figure: Figure, parts: Sequence[str]) -> None:
    """Say below a figure which mark is which part's."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], label=part, **_style(mark)) for part, mark in part_marks(parts).items()]
    columns = int(figure.get_figwidth() / 1.25)  # inches that a usual name takes
    figure.legend(
        handles=marks, loc="outside lower center", ncols=columns, fontsize=7, frameon=False
    )


def _style(mark: Mark) -> dict[str, Any]:
    size = 4.5 if mark.shape == "dot" else 4.1  # corners stand out
    return {
        "color": mark.colour, "marker": _SHAPES[mark.shape], "linestyle": "",
        "markersize": size, "markeredgecolor": _EDGE, "markeredgewidth": 0.6,
    }  # fmt: skip
