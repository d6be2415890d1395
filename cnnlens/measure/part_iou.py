"""How often a unit's mask is one part: part interpretability, its chance level and its bound.

A unit's mask on an image is where its upsampled map exceeds the threshold that a share of all its
activations exceeds. P_fk is the share of the images with part k on which their IoU is above 0.2;
P_f the largest over parts. The masks' area bounds it: an IoU above 0.2 takes more than 0.2 of the
part's area, so P_fk ≤ area of all its masks / (0.2 · smallest part's area · images), capped at 1.

Zhang et al., CVPR 2018, §5.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.data.parts import PartSet
from cnnlens.measure.iou import mask_pixels

FITS = 0.2  # an IoU above this is an association


class PartMaskCache:
    """All part masks of a data set, one bit a pixel, at the network's input size."""

    def __init__(self, data: PartSet, size: tuple[int, int]) -> None:
        self._data, self.size = data, size
        self._bits: dict[int, np.ndarray] = {}

    def masks(self, index: int) -> np.ndarray:
        """(P, H·W) bool of one object."""
        pixels = self.size[0] * self.size[1]
        if index not in self._bits:
            flat = self._data.part_masks(index, self.size).reshape(-1, pixels)
            self._bits[index] = np.packbits(flat, axis=1)
        return np.unpackbits(self._bits[index], axis=1, count=pixels).astype(bool)

    def share(self) -> float:
        """Mean share of the image that a part takes, over all parts that are shown."""
        areas = np.concatenate([self.masks(i).mean(axis=1) for i in range(len(self._data.paths))])
        return float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0


@dataclass(frozen=True)
class PartInterpretability:
    """Part interpretability of a layer's units at one quantile.

    Attributes
    ----------
    quantile : float
        Share of a unit's activations above its threshold.
    by_part : numpy.ndarray
        (C, P) P_fk; NaN where the unit is dead or its category does not show the part.
    bound : numpy.ndarray
        (C, P) what the masks' area allows.
    chance : numpy.ndarray
        (C, P) the same with the masks of another object of the category.
    """

    quantile: float
    by_part: np.ndarray
    bound: np.ndarray
    chance: np.ndarray

    def best(self, values: np.ndarray) -> np.ndarray:
        """(C,) the largest over parts; NaN for units without any."""
        known = ~np.isnan(values).all(axis=1)
        found = np.full(len(values), np.nan)
        found[known] = np.nanmax(values[known], axis=1)
        return found


class PartCounter:
    """Counts, image by image, which units' masks fit which parts.

    Parameters
    ----------
    book : PartMaskCache
        The parts.
    thresholds : numpy.ndarray
        (C,) float32.
    quantile : float
        What the thresholds stand for.
    category : numpy.ndarray
        (C,) each unit's category; -1 for units that are not measured.
    labels : numpy.ndarray
        (N,) each image's.
    partner : numpy.ndarray
        (N,) for each image another one of its category.
    """

    def __init__(
        self,
        book: PartMaskCache,
        thresholds: np.ndarray,
        quantile: float,
        category: np.ndarray,
        labels: np.ndarray,
        partner: np.ndarray,
    ) -> None:
        self._book, self._thresholds, self._quantile = book, thresholds, quantile
        self._category, self._labels, self._partner = category, labels, partner
        shape = len(thresholds), len(book.masks(0))
        self._fits, self._by_chance = np.zeros(shape), np.zeros(shape)
        self._mask_area = np.zeros(shape)
        self._shown, self._paired = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._smallest = np.full(shape, np.inf)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W) of images at `positions` (B,)."""
        for position, found in zip(positions.tolist(), maps, strict=True):
            units = np.flatnonzero(self._category == self._labels[position])
            if not len(units):
                continue
            bright = mask_pixels(
                np.ascontiguousarray(found[units]), self._thresholds[units], self._book.size
            )
            own = self._book.masks(position)
            fits, shown, area = _fits(own, bright.pixels, bright.ends)
            self._fits[units] += fits
            self._shown[units] += shown
            self._mask_area[units] += area[:, None] * shown
            sizes = np.where(shown, own.sum(axis=1), np.inf)
            self._smallest[units] = np.minimum(self._smallest[units], sizes)
            other = self._book.masks(int(self._partner[position]))
            fits, shown, _ = _fits(other, bright.pixels, bright.ends)
            self._by_chance[units] += fits
            self._paired[units] += shown

    def result(self, fewest: int) -> PartInterpretability:
        """Shares over the images; parts on fewer images than `fewest` do not count."""
        counts = self._shown >= fewest
        limit = self._mask_area / (FITS * self._smallest * np.maximum(self._shown, 1))
        return PartInterpretability(
            self._quantile,
            np.where(counts, self._fits / np.maximum(self._shown, 1), np.nan),
            np.where(counts, np.minimum(limit, 1.0), np.nan),
            np.where(counts, self._by_chance / np.maximum(self._paired, 1), np.nan),
        )


def _fits(
    parts: np.ndarray, pixels: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each unit's mask fits each part (U, P), parts that are shown (P,), areas (U,)."""
    inside = np.zeros((len(parts), len(pixels) + 1), np.int64)
    np.cumsum(parts[:, pixels], axis=1, out=inside[:, 1:])  # (P, M + 1)
    common = (inside[:, ends[1:]] - inside[:, ends[:-1]]).T  # (U, P)
    area = np.diff(ends)  # (U,)
    size = parts.sum(axis=1)  # (P,)
    union = area[:, None] + size - common
    shown = size > 0
    return (common > FITS * union) & shown, shown, area
