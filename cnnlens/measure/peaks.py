"""How high units peak on every image of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


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
