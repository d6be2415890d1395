"""An image as a unit sees it: where it peaks, its receptive field there, its mask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import contourpy
import numpy as np

from cnnlens.measure.unit_maps import STEPS
from cnnlens.model.receptive_field import Box, Field, Fields, whole_box

LEVEL = 0.5  # of its peak on the image, from where on a unit's mask reaches
Size = tuple[int, int]  # height, width, in pixels


@dataclass(frozen=True)
class View:
    """What the units of a layer see.

    Attributes
    ----------
    size : (int, int)
        Height and width of an image as the network sees it, in pixels.
    fields : (Field, Field)
        Their receptive fields along rows and columns.
    """

    size: Size
    fields: Fields

    @property
    def whole(self) -> bool:
        """Whether a unit sees the whole image, wherever it looks."""
        pairs = zip(self.fields, self.size, strict=True)
        return all(_sees_all(field) or field.size >= length for field, length in pairs)

    def as_dict(self) -> dict[str, Any]:
        """Give it as ``summary.json`` holds it."""
        axes = [[one.start, one.stride, one.size, _sees_all(one)] for one in self.fields]
        return {"size": list(self.size), "axes": axes}

    @staticmethod
    def of(summary: Mapping[str, Any]) -> View | None:
        """Read what ``summary.json`` says of it; None where it says nothing."""
        if not (said := summary.get("seen")):
            return None
        rows, columns = (
            Field(start=float(start), stride=float(stride), size=float(size), whole=bool(whole))
            for start, stride, size, whole in said["axes"]
        )
        high, wide = said["size"]
        return View((int(high), int(wide)), (rows, columns))


def _sees_all(field: Field) -> bool:
    return field.whole or field.attends  # behind attention a position is a place, not a field


@dataclass(frozen=True, eq=False)
class Seen:
    """An image that a unit responds to.

    Attributes
    ----------
    image : str
        Its path in the data.
    peak : float or None
        The unit's highest value on it, where that is kept.
    place : (int, int)
        Row and column of the peak on the unit's map.
    picture : pathlib.Path or None
        The image as the network saw it, perhaps reduced.
    view : View or None
        What the unit sees.
    map : numpy.ndarray or None
        (h, w) uint8: the unit's map on it, coarsely: `STEPS` is its peak.
    level : float
        From where on its mask reaches, in shares of its peak on the image.
    """

    image: str
    peak: float | None
    place: tuple[int, int]
    picture: Path | None = None
    view: View | None = None
    map: np.ndarray | None = None
    level: float = LEVEL

    @property
    def field(self) -> Box | None:
        """The receptive field at its peak, in pixels of the seen image; it may stick out of it."""
        return (
            None if self.view is None else whole_box(self.view.fields, self.place, self.view.size)
        )

    def window(self) -> tuple[float, float, float]:
        """Give the square to be shown: left and top edge, and side, in widths of the image.

        That around the receptive field, moved into the image where it sticks out; all of the image
        where the unit sees it whole.
        """
        return (0.0, 0.0, 1.0) if self.view is None else _window(self.view, self.place)

    @property
    def size(self) -> Size:
        """Height and width in which places are given: those of the image as it was seen."""
        return self.view.size if self.view else (1, 1)

    def view_box(self) -> str:
        """Give `window` as the view box of an SVG whose picture is as large as `size`."""
        x, y, side = (share * self.size[1] for share in self.window())
        return f"{x:g} {y:g} {side:g} {side:g}"

    def lines(self) -> list[np.ndarray]:
        """Outline where the unit is above `level`: closed lines (n, 2) of x and y, in pixels of the
        seen image. None where its map is not kept, or is one value.
        """
        if self.map is None or self.map.size == 1 or self.view is None:
            return []
        (high, wide), (rows, columns) = self.view.size, self.map.shape
        padded = np.zeros((rows + 4, columns + 4))  # closed at the border
        padded[1:-1, 1:-1] = self.map[_edged(rows)][:, _edged(columns)]
        x, y = (
            np.concatenate([[0.0, 0.0], (np.arange(cells) + 0.5) * length / cells, [length] * 2])
            for cells, length in ((columns, wide), (rows, high))
        )
        found: Any = contourpy.contour_generator(x, y, padded).lines(self.level * STEPS)
        return list(found)

    def outline(self) -> str:
        """Give `lines` as an SVG path, empty where there are none."""
        shapes = (
            " ".join(f"{x:.1f},{y:.1f}" for x, y in line[:-1].tolist()) for line in self.lines()
        )
        return " ".join(f"M{shape}Z" for shape in shapes)


@lru_cache(maxsize=2**14)  # thousands of units peak at the same places
def _window(view: View, place: tuple[int, int]) -> tuple[float, float, float]:
    high, wide = view.size
    box = (0, 0, high, wide) if view.whole else whole_box(view.fields, place, view.size)
    top, left, bottom, right = box
    side = max(bottom - top, right - left)
    x, y = _moved(left, right, side, wide), _moved(top, bottom, side, high)
    return x / wide, y / wide, side / wide


def _edged(cells: int) -> np.ndarray:
    """Number cells, the first and the last of them twice."""
    return np.clip(np.arange(-1, cells + 1), 0, cells - 1)


def _moved(start: float, stop: float, side: float, length: float) -> float:
    """Give where a side begins that is centred on a stretch, moved to lie within a length."""
    if side > length:
        return (length - side) / 2
    return min(max((start + stop - side) / 2, 0), length - side)


_DIGITS = bytes.maketrans(bytes(range(16)), b"0123456789abcdef")
_RUN = re.compile("0{1,20}")


def written_map(found: np.ndarray | None) -> str:
    """Write a map for the page's script: hexadecimal digits, and letters from g on for so many
    zeros: g one, h two, …
    """
    if found is None or found.size == 1:
        return ""
    digits = found.tobytes().translate(_DIGITS).decode("ascii")
    return _RUN.sub(lambda run: chr(ord("f") + len(run[0])), digits)
