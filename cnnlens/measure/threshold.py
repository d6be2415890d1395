"""The exact top quantile of every unit's activations, in one streamed pass.

T is the smallest recorded value v with #{a > v} ≤ share · N · H · W. Sorted from the largest, that
is the value at index ⌊share · N · H · W⌋, so only that many values and one more are ever kept.

Bau et al., "Network Dissection", CVPR 2017, §2.2.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from cnnlens.measure.iou import compiled


class TopValues:
    """Keeps each unit's largest activations, its smallest, and how many there were.

    Memory is 1.25 × 4 bytes × units × share · N · H · W: 0.6 % of the raw activations.

    Parameters
    ----------
    share : fractions.Fraction
        The share above the threshold.
    units : int
        C.
    values : int
        The most values a unit can have: images · H · W.
    """

    def __init__(self, share: Fraction, units: int, values: int) -> None:
        self._share = share
        self._keep = int(share * values) + 1
        self._buffer = np.empty((units, self._keep + max(self._keep // 4, 4096)), np.float32)
        self._filled = np.zeros(units, np.int64)
        self._bound = np.full(units, -np.inf, np.float32)
        self.lowest = np.full(units, np.inf, np.float32)
        self.count = 0

    def update(self, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W) float32."""
        values = maps.reshape(*maps.shape[:2], -1)  # (B, C, HW)
        _collect(values, self._buffer, self._filled, self._bound, self.lowest, self._keep)
        self.count += values.shape[0] * values.shape[2]

    @property
    def highest(self) -> np.ndarray:
        """(C,) float32: the largest activation of each unit."""
        return np.array(
            [b[:n].max(initial=-np.inf) for b, n in zip(self._buffer, self._filled, strict=True)],
            np.float32,
        )

    def thresholds(self) -> np.ndarray:
        """(C,) float32: the threshold of each unit over all values taken in.

        Raises
        ------
        ValueError
            When nothing was taken in.
        """
        if self.count == 0:
            raise ValueError("no activations were taken in")
        above = int(self._share * self.count)
        found = np.empty(len(self._buffer), np.float32)
        for unit, filled in enumerate(self._filled):
            values = self._buffer[unit, :filled]
            found[unit] = np.partition(values, filled - 1 - above)[filled - 1 - above]
        return found + np.float32(0)  # one zero: which of -0 and 0 was found depends on the order


@compiled
def _collect(values, buffer, filled, bound, lowest, keep):
    """Append values above each unit's bound; when its buffer is full, keep the `keep` largest."""
    images, units, positions = values.shape
    capacity = buffer.shape[1]
    for unit in range(units):
        limit, count, least = bound[unit], filled[unit], lowest[unit]
        for image in range(images):
            for position in range(positions):
                value = values[image, unit, position]
                least = min(least, value)
                if value > limit:
                    buffer[unit, count] = value
                    count += 1
                    if count == capacity:
                        ordered = np.partition(buffer[unit], capacity - keep)
                        buffer[unit, :keep] = ordered[capacity - keep :]
                        limit, count = ordered[capacity - keep], keep
        bound[unit], filled[unit], lowest[unit] = limit, count, least
