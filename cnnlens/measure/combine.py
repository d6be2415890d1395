"""Concepts as sums of units: masks from a layer's binary maps, and the weights that make them.

A concept's map is the sum of the units' binary maps 1[A > T], each times its weight, interpolated
bilinearly (half-pixel centres) to the size of the label map; its mask is where that exceeds a cut,
which is 0 for a probability of one half. All concepts learn side by side, each from the images that
show it, in steps of `BATCH` images with momentum: one after the other they would come out the same.

Fong and Vedaldi, "Net2Vec: Quantifying and Explaining how Concepts are Encoded by Filters in Deep
Neural Networks", CVPR 2018, §3; seed 002 eq. (20).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from cnnlens.measure.combine_loops import count_pixels, learn, step
from cnnlens.measure.concept_bits import Bits, Pairs
from cnnlens.measure.masks import axis

BATCH = 16  # images of a concept per step, as in the authors' program
MOMENTUM = 0.9
CUTS = np.arange(0, 8, 0.125).astype(np.float32)  # logits that may be a concept's cut
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)


def first_weights(concepts: int, units: int, seed: int) -> np.ndarray:
    """Draw the weights (K, C) float32 that learning starts from, in ±1/√C."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (concepts, units))
    return (drawn / np.sqrt(units)).astype(np.float32)


@dataclass
class Learner:
    """Weights that are being learned.

    Attributes
    ----------
    weights : numpy.ndarray
        (K, C) float32; 0 where a unit takes no part.
    kept : numpy.ndarray
        (K, C) bool: units that take part.
    balance : numpy.ndarray
        (K,) float32: weight of a concept's pixels; the others weigh 1 less that. 0: all weigh 1.
    rate : float
        Of learning.
    reference : bool
        The authors' loss, -(α·t·p + (1 - α)(1 - t)(1 - p)) summed over pixels; else the cross
        entropy, averaged over them.
    """

    weights: np.ndarray
    kept: np.ndarray
    balance: np.ndarray
    rate: float
    reference: bool
    speed: np.ndarray = field(init=False)  # (K, C): what momentum remembers
    _slope: np.ndarray = field(init=False)
    _seen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.weights = np.where(self.kept, self.weights, np.float32(0))
        self.speed, self._slope = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self._seen = np.zeros(len(self.weights), np.int64)

    def epoch(self, bits: Bits, parts: list[Pairs], pool: Executor) -> None:
        """Learn from all images once; each thread has concepts of its own (`parts`)."""
        list(pool.map(lambda pairs: self._learn(bits, pairs), parts))
        for concept in np.flatnonzero(self._seen):
            step(*self._state, concept, np.float32(self.rate), np.float32(MOMENTUM))

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self.weights, self.speed, self._slope, self._seen, self.kept

    def _learn(self, bits: Bits, pairs: Pairs) -> None:
        for run, size in pairs.runs():
            learn(
                run.image, run.concept, run.mask, *bits.arrays, *bits.extent,
                *_axes(bits.extent, size), _BITS,
                self.balance, np.float32(self.rate), np.float32(MOMENTUM), BATCH, self.reference,
                *self._state,
            )  # fmt: skip


def _axes(extent: tuple[int, int], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield how outputs fall between the map's rows, and between its columns."""
    for source, out in zip(extent, size, strict=True):
        placed = axis(source, out)
        yield from (placed.first, placed.weight.astype(np.float32))


def count(
    bits: Bits, parts: list[Pairs], weights: np.ndarray, pool: Executor
) -> tuple[np.ndarray, np.ndarray]:
    """Intersections and unions of concepts' masks with their truth, at each of `CUTS`.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        (K, cuts) int64 each, summed over the images of the pairs.
    """
    # pixels by truth and by how many cuts their value exceeds
    found = np.zeros((len(weights), 2, len(CUTS) + 1), np.int64)

    def some(pairs: Pairs) -> None:
        for run, size in pairs.runs():
            count_pixels(
                run.image, run.concept, run.mask, *bits.arrays, *bits.extent,
                *_axes(bits.extent, size), _BITS,
                weights, CUTS[1], found,
            )  # fmt: skip

    list(pool.map(some, parts))
    above = found[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]  # pixels beyond at least so many cuts
    return above[:, 1, 1:], above[:, 0, 1:] + above[:, 1, :1]


def maps(bits: Bits, row: int, weights: np.ndarray) -> np.ndarray:
    """Return the concepts' maps on an image, (K, H, W) float32, at the layer's own size."""
    units, places, ends = bits.arrays[:3]
    here = slice(ends[row], ends[row + 1])
    found = np.zeros((len(weights), bits.extent[0] * bits.extent[1]), np.float32)
    np.add.at(found.T, places[here], weights[:, units[here]].T)
    return found.reshape(len(weights), *bits.extent)
