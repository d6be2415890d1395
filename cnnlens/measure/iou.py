"""What masks and labels share: the pixels that units' masks have in common with images' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cnnlens.measure.masks import MaskPixels, compiled, unwritten


@dataclass(frozen=True)
class GroundTruth:
    """What is known about an image, or about one category of it."""

    #: (P, h · w) uint16, concept index + 1, 0 = nothing; no concept twice at one pixel
    planes: np.ndarray
    whole: np.ndarray  #: int64 indices of concepts that cover the whole image
    present: np.ndarray  #: (n_categories,) bool
    size: tuple[int, int]  #: (h, w)


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
            unwritten(truth.planes),
            unwritten(truth.whole),
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
    return ratios(counts.intersection, union)


def ratios(shared: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union, float64; 0 where the union is empty."""
    return np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)


def slices(units: int, parts: int) -> Sequence[slice]:
    """Cut the units into at most `parts` runs of nearly equal length."""
    borders = np.linspace(0, units, min(parts, units) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(borders)]
