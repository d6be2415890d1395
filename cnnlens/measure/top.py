"""What excites a unit: its top images, its peak on every image, and how its activations spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.distributed import Share
from cnnlens.measure.masks import SENT, compiled


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

    def put_together(self, share: Share) -> None:
        """Go on with what the processes of a run have kept, each of images behind the last one's.

        Equal peaks so keep the data's order.
        """
        units, top = self.peaks.shape
        at_once = max(1, SENT // (self.maps[0].nbytes * share.of))
        for start in range(0, units, at_once):
            some = slice(start, start + at_once)
            every = share.gathered((self.peaks[some], self.positions[some], self.maps[some]))
            peaks, places, maps = (
                np.concatenate(kind, axis=1) for kind in zip(*every, strict=True)
            )
            order = np.argsort(-peaks, axis=1, kind="stable")[:, :top]
            self.peaks[some] = np.take_along_axis(peaks, order, axis=1)
            self.positions[some] = np.take_along_axis(places, order, axis=1)
            self.maps[some] = np.take_along_axis(maps, order[:, :, None, None], axis=1)


class PeakLocations:
    """Notes how high and where every unit peaks on every image, and its sum over the map."""

    def __init__(self, images: int, shape: tuple[int, int, int]) -> None:
        self.scores = np.full((images, shape[0]), -np.inf, np.float32)
        self.sums = np.zeros((images, shape[0]), np.float32)
        self.at = np.zeros((images, shape[0]), np.int32)
        self.seen = np.zeros(images, bool)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        flat = maps.reshape(*maps.shape[:2], -1)  # (B, C, HW)
        self.at[positions] = at = flat.argmax(axis=2)
        self.scores[positions] = np.take_along_axis(flat, at[:, :, None], axis=2)[:, :, 0]
        self.sums[positions] = flat.sum(axis=2)
        self.seen[positions] = True


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


@dataclass(frozen=True)
class Peaks:
    """Peak activations of some units.

    Attributes
    ----------
    units : tuple of int
        Which.
    positions : numpy.ndarray
        (N,) int64, each image's place in the data's order.
    values : numpy.ndarray
        (U, N) float32.
    """

    units: tuple[int, ...]
    positions: np.ndarray
    values: np.ndarray

    def of(self, unit: int) -> np.ndarray:
        """Peaks of one unit, (N,)."""
        return self.values[self.units.index(unit)]

    def top(self, unit: int, count: int) -> list[int]:
        """Places, in the data's order, of the images with the highest peaks; ties keep it."""
        order = np.argsort(-self.of(unit), kind="stable")[:count]
        return [int(position) for position in self.positions[order]]


def peaks(batches: Iterable[tuple[np.ndarray, np.ndarray]], units: Sequence[int]) -> Peaks:
    """Collect peaks.

    Parameters
    ----------
    batches : iterable of (positions, maps)
        (B,) and (B, C, H, W) float32, as `Store.batches` yields them.
    units : sequence of int
        Whose.
    """
    chosen = list(units)
    found = [(p, maps[:, chosen].max(axis=(2, 3)).T) for p, maps in batches]
    if not found:
        return Peaks(tuple(chosen), np.empty(0, np.int64), np.empty((len(chosen), 0), np.float32))
    positions = np.concatenate([p for p, _ in found])
    return Peaks(tuple(chosen), positions, np.concatenate([v for _, v in found], axis=1))


def nearest(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vectors: np.ndarray, count: int
) -> np.ndarray:
    """Find the images whose activations are most like given ones.

    Parameters
    ----------
    batches : iterable of (positions, maps)
        (B,) and (B, C, H, W) float32, as `Store.batches` yields them.
    vectors : numpy.ndarray
        (V, C): means over maps of what is to be met.
    count : int
        Images to find.

    Returns
    -------
    numpy.ndarray
        (V, count) int64: places in the data's order by falling cosine of the means over the maps;
        -1 where there are fewer images.
    """
    top = TopImages((len(vectors), 1, 1), count)
    wanted = _unit_length(vectors)
    for positions, maps in batches:
        alike = _unit_length(maps.mean((2, 3), dtype=np.float64)) @ wanted.T  # (B, V)
        top.update(positions, alike[:, :, None, None].astype(np.float32))
    return top.positions


def _unit_length(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
