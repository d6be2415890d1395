"""What a unit answers to: its top images by peak activation, and how its activations spread."""

from __future__ import annotations

import numpy as np

from cnnlens.measure.compiled import compiled


class TopImages:
    """Keeps each unit's `top` images with the highest peak, and the maps behind them.

    Equal peaks keep the data's order.

    Parameters
    ----------
    shape : (int, int, int)
        (C, H, W).
    top : int
        Images to keep.

    Attributes
    ----------
    peaks : numpy.ndarray
        (C, top) float32, descending; -inf where there are fewer images.
    positions : numpy.ndarray
        (C, top) int64, places in the data's order; -1 where there are fewer images.
    maps : numpy.ndarray
        (C, top, H, W) float32.
    """

    def __init__(self, shape: tuple[int, int, int], top: int) -> None:
        units = shape[0]
        self.peaks = np.full((units, top), -np.inf, np.float32)
        self.positions = np.full((units, top), -1, np.int64)
        self.maps = np.zeros((units, top, *shape[1:]), np.float32)

    def update(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in images at `positions` (B,) with maps (B, C, H, W)."""
        peaks = maps.max(axis=(2, 3)).T  # (C, B)
        better = np.flatnonzero((peaks > self.peaks[:, -1:]).any(axis=1))
        for unit in better:
            both = np.concatenate([self.peaks[unit], peaks[unit]])
            order = np.argsort(-both, kind="stable")[: self.peaks.shape[1]]
            places = np.concatenate([self.positions[unit], positions])
            kept = order < self.peaks.shape[1]
            new = np.where(kept, 0, order - self.peaks.shape[1])
            old_maps = self.maps[unit][np.where(kept, order, 0)]
            self.maps[unit] = np.where(kept[:, None, None], old_maps, maps[new, unit])
            self.peaks[unit], self.positions[unit] = both[order], places[order]


class Histogram:
    """Counts each unit's activations in equal bins between its lowest and its highest.

    Parameters
    ----------
    lowest, highest : numpy.ndarray
        (C,) float32.
    bins : int
        Number of bins.
    """

    def __init__(self, lowest: np.ndarray, highest: np.ndarray, bins: int = 64) -> None:
        self._lowest, self._highest = lowest, highest
        self.counts = np.zeros((len(lowest), bins), np.int64)

    @property
    def edges(self) -> np.ndarray:
        """(C, bins + 1) float32."""
        share = np.linspace(0, 1, self.counts.shape[1] + 1)
        low = self._lowest.astype(np.float64)[:, None]
        return (low + (self._highest[:, None] - low) * share).astype(np.float32)

    def update(self, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W) float32."""
        values = maps.reshape(*maps.shape[:2], -1)
        _spread(values, self._lowest, self._highest, self.counts)


@compiled
def _spread(values, lowest, highest, counts):
    images, units, positions = values.shape
    bins = counts.shape[1]
    for unit in range(units):
        low = np.float64(lowest[unit])
        extent = highest[unit] - low
        scale = bins / extent if extent > 0 else 0.0
        for image in range(images):
            for position in range(positions):
                at = int((values[image, unit, position] - low) * scale)
                counts[unit, min(max(at, 0), bins - 1)] += 1
