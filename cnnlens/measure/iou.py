"""A unit's mask on an image: its map, interpolated to the label map's size, above its threshold.

Bilinear with half-pixel centres (`align_corners=False`), in float64, edges clamped. Interpolation
never leaves the range of a cell's four corners, so only cells with a corner above the threshold are
evaluated: about one in a hundred at the usual quantile, with the same result as all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays; it runs without the interpreter's lock.

    The compiled code is cached beside the module or in the user's cache folder; where neither can
    be written (a read-only installation without a home), it is compiled in every process.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


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
class MaskPixels:
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


def mask_pixels(maps: np.ndarray, thresholds: np.ndarray, size: tuple[int, int]) -> MaskPixels:
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
    MaskPixels
    """
    rows, columns = axis(maps.shape[1], size[0]), axis(maps.shape[2], size[1])
    ends = np.zeros(len(maps) + 1, np.int64)
    room = max(1024, maps.shape[0] * size[0] * size[1] // 32)
    while True:
        pixels = np.empty(room, np.int32)
        needed = _fill(
            maps, thresholds, rows.first, rows.weight, columns.first, columns.weight, pixels, ends
        )
        if needed <= room:
            return MaskPixels(pixels[:needed], ends)
        room = needed


def mask(map_: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """Return one unit's mask, (size) bool, from its map (H, W) float32."""
    found = mask_pixels(np.ascontiguousarray(map_[None]), np.array([threshold], np.float32), size)
    out = np.zeros(size[0] * size[1], bool)
    out[found.pixels] = True
    return out.reshape(size)


@compiled
def _fill(maps, thresholds, row_first, row_weight, column_first, column_weight, pixels, ends):
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


@dataclass(frozen=True)
class GroundTruth:
    """What is known about an image, or about one category of it.

    Attributes
    ----------
    planes : numpy.ndarray
        (P, h · w) uint16, concept index + 1, 0 = nothing; no concept twice at one pixel.
    whole : numpy.ndarray
        int64 indices of concepts that cover the whole image.
    present : numpy.ndarray
        (n_categories,) bool.
    size : (int, int)
        (h, w).
    """

    planes: np.ndarray
    whole: np.ndarray
    present: np.ndarray
    size: tuple[int, int]


class Counts:
    """Intersections and mask areas of C units with K concepts in some categories.

    Parameters
    ----------
    units : int
        C.
    category_of : numpy.ndarray
        (K,) int64, the category of each concept.
    categories : int
        Number of categories.
    touched : bool
        Count a mask's area for a category only on images where the mask touches it (the older
        tool's way) instead of on all images that carry the category.
    """

    def __init__(self, units: int, category_of: np.ndarray, categories: int, touched: bool) -> None:
        self.intersection = np.zeros((units, len(category_of)), np.int64)
        self.area = np.zeros((units, categories), np.int64)
        self._category_of, self._touched = category_of, touched

    def add(self, found: MaskPixels, truth: GroundTruth, units: slice) -> None:
        """Count one image's masks of some units against its labels."""
        _count(
            found.pixels,
            found.ends,
            truth.planes,
            truth.whole,
            truth.present,
            self._category_of,
            self._touched,
            self.intersection[units],
            self.area[units],
        )


@compiled
def _count(pixels, ends, planes, whole, present, category_of, touched_only, intersection, area):
    categories = area.shape[1]
    touched = np.zeros(categories, np.bool_)
    for unit in range(len(ends) - 1):
        begin, end = ends[unit], ends[unit + 1]
        if begin == end:
            continue
        touched[:] = False
        for plane in range(len(planes)):
            for position in range(begin, end):
                code = planes[plane, pixels[position]]
                if code:
                    intersection[unit, code - 1] += 1
                    touched[category_of[code - 1]] = True
        for concept in whole:
            intersection[unit, concept] += end - begin
            touched[category_of[concept]] = True
        for category in range(categories):
            if touched[category] if touched_only else present[category]:
                area[unit, category] += end - begin


class Extent:
    """How much ground truth there is: pixels and images per concept.

    Parameters
    ----------
    concepts : int
        K.
    """

    def __init__(self, concepts: int) -> None:
        self.pixels = np.zeros(concepts, np.int64)
        self.images = np.zeros(concepts, np.int64)

    def add(self, truth: GroundTruth) -> None:
        """Count one image's labels."""
        here = np.bincount(truth.planes.ravel(), minlength=len(self.pixels) + 1)[1:]
        here[truth.whole] += truth.size[0] * truth.size[1]
        self.pixels += here
        self.images += here > 0


def iou(counts: Counts, pixels: np.ndarray, category_of: np.ndarray) -> np.ndarray:
    """Intersection over union, (C, K) float64; 0 where the union is empty.

    Parameters
    ----------
    counts : Counts
        Of all images.
    pixels : numpy.ndarray
        (K,) ground-truth pixels of each concept.
    category_of : numpy.ndarray
        (K,) index into the categories.
    """
    union = counts.area[:, category_of] + pixels - counts.intersection  # (C, K)
    return np.divide(counts.intersection, union, out=np.zeros(union.shape), where=union > 0)


def slices(units: int, parts: int) -> Sequence[slice]:
    """Cut the units into at most `parts` runs of nearly equal length."""
    borders = np.linspace(0, units, min(parts, units) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(borders)]
