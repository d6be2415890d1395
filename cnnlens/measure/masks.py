"""A unit's mask on an image: its map, interpolated to the label map's size, above its threshold.

Bilinear with half-pixel centres (`align_corners=False`), in float64, edges clamped. Interpolation
never leaves the range of a cell's four corners, so only cells with a corner above the threshold are
evaluated: about one in a hundred at the usual quantile, with the same result as all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cnnlens.measure.compiled import compiled


@dataclass(frozen=True)
class Axis:
    """How output positions along one axis fall into the cells between source positions.

    Attributes
    ----------
    first : numpy.ndarray
        (source + 1,) int64: outputs first[i] … first[i + 1] - 1 lie between sources i and i + 1.
    weight : numpy.ndarray
        (out,) float64: how far each output lies towards the later source.
    """

    first: np.ndarray
    weight: np.ndarray


@lru_cache(maxsize=64)
def axis(source: int, out: int) -> Axis:
    """Place `out` half-pixel centres among `source` ones."""
    at = np.maximum((np.arange(out) + 0.5) * source / out - 0.5, 0.0)
    low = at.astype(np.int64)
    first = np.searchsorted(low, np.arange(source + 1)).astype(np.int64)
    return Axis(first, at - low)


@dataclass(frozen=True)
class Lit:
    """The mask pixels of several units on one image.

    Attributes
    ----------
    pixels : numpy.ndarray
        (M,) int32, row-major positions; unit c's are pixels[ends[c]] … pixels[ends[c + 1] - 1].
    ends : numpy.ndarray
        (C + 1,) int64.
    """

    pixels: np.ndarray
    ends: np.ndarray


def lit(maps: np.ndarray, thresholds: np.ndarray, size: tuple[int, int]) -> Lit:
    """Find the pixels where each unit's upsampled map exceeds its threshold, strictly.

    Parameters
    ----------
    maps : numpy.ndarray
        (C, H, W) float32.
    thresholds : numpy.ndarray
        (C,) float32.
    size : (int, int)
        Height and width of the mask.

    Returns
    -------
    Lit
    """
    rows, columns = axis(maps.shape[1], size[0]), axis(maps.shape[2], size[1])
    ends = np.zeros(len(maps) + 1, np.int64)
    room = max(1024, maps.shape[0] * size[0] * size[1] // 32)
    while True:
        pixels = np.empty(room, np.int32)
        needed = _lit(
            maps, thresholds, rows.first, rows.weight, columns.first, columns.weight, pixels, ends
        )
        if needed <= room:
            return Lit(pixels[:needed], ends)
        room = needed


def mask(map_: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """Return one unit's mask, (size) bool, from its map (H, W) float32."""
    found = lit(np.ascontiguousarray(map_[None]), np.array([threshold], np.float32), size)
    out = np.zeros(size[0] * size[1], bool)
    out[found.pixels] = True
    return out.reshape(size)


@compiled
def _lit(maps, thresholds, row_first, row_weight, column_first, column_weight, pixels, ends):
    """Write mask pixels, as far as there is room; return how many there are."""
    units, height, width = maps.shape
    out_width = len(column_weight)
    count = 0
    for unit in range(units):
        limit = thresholds[unit]
        for y in range(height):
            below = min(y + 1, height - 1)
            if row_first[y] == row_first[y + 1]:
                continue
            for x in range(width):
                right = min(x + 1, width - 1)
                a, b = maps[unit, y, x], maps[unit, y, right]
                c, d = maps[unit, below, x], maps[unit, below, right]
                if not (a > limit or b > limit or c > limit or d > limit):
                    continue
                for row in range(row_first[y], row_first[y + 1]):
                    down = row_weight[row]
                    start = a + (np.float64(c) - a) * down
                    slope = b + (np.float64(d) - b) * down - start
                    for column in range(column_first[x], column_first[x + 1]):
                        if start + slope * column_weight[column] > limit:
                            if count < len(pixels):
                                pixels[count] = row * out_width + column
                            count += 1
        ends[unit + 1] = count
    return count
