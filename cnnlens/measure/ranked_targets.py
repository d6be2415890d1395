"""Which images excite chosen targets most: units at their peaks, or at one position."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.measure.top import TopImages
from cnnlens.progress import Step

Target = tuple[int, tuple[int, int] | None]  # unit, and (row, column) or None for its peak


class Ranked:
    """Keeps the `top` images of each target, and how far its activations reach.

    Parameters
    ----------
    targets : sequence of (unit, (row, column) or None)
        What to rank by.
    top : int
        Images to keep.

    Attributes
    ----------
    lowest, highest : numpy.ndarray
        (T,) float32, over all images and all that was ranked by.
    images : int
        How many were taken in.
    """

    def __init__(self, targets: Sequence[Target], top: int) -> None:
        self._targets = list(targets)
        self._top = TopImages((len(targets), 1, 1), top)
        self.lowest = np.full(len(targets), np.inf, np.float32)
        self.highest = np.full(len(targets), -np.inf, np.float32)
        self.images = 0

    def update(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in images at `positions` (B,) with maps (B, C, H, W)."""
        reached = [self._reach(maps, *target) for target in self._targets]
        low, high = (np.stack(side, axis=1) for side in zip(*reached, strict=True))  # (B, T)
        self.lowest = np.minimum(self.lowest, low.min(0))
        self.highest = np.maximum(self.highest, high.max(0))
        self._top.update(positions, high[:, :, None, None])
        self.images += len(positions)

    @staticmethod
    def _reach(
        maps: np.ndarray, unit: int, at: tuple[int, int] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if at is not None:
            values = maps[:, unit, at[0], at[1]]
            return values, values
        return maps[:, unit].min((1, 2)), maps[:, unit].max((1, 2))

    def best(self, target: int) -> list[tuple[int, float]]:
        """Top images of the `target`-th target: (position in the data, activation)."""
        pairs = zip(self._top.positions[target], self._top.peaks[target], strict=True)
        return [(int(place), float(peak)) for place, peak in pairs if place >= 0]

    def dead(self, target: int) -> str:
        """Say why a target has nothing to project; empty where it has."""
        low, high = float(self.lowest[target]), float(self.highest[target])
        if high <= 0:
            return f"never above 0 on {_images(self.images)}"
        if low == high and self._has_maps(target):
            return f"the same value, {high:.4g}, all over {_images(self.images)}"
        return ""

    def _has_maps(self, target: int) -> bool:
        return self.images > 1 or self._targets[target][1] is None


def rank_steps(
    source: Source, targets: Sequence[Sequence[Target]], top: int
) -> Generator[Step, None, list[Ranked]]:
    """Find the top images of targets in every layer of a source, in one sweep.

    Parameters
    ----------
    source : Source
        The layers' activations.
    targets : sequence of sequence of (unit, (row, column) or None)
        Of each layer.
    top : int
        Images per target.

    Yields
    ------
    Step
        Of the sweep.

    Returns
    -------
    list of Ranked
        One per layer.
    """
    ranks = [Ranked(some, top) for some in targets]
    for step in source.sweep([one.update for one in ranks]):
        yield replace(step, stage="looking for top images")
    return ranks


def _images(count: int) -> str:
    return "the image" if count == 1 else f"{count} images"
