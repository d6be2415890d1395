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
from functools import partial

import numpy as np

from cnnlens.measure.concept_bits import Bits, Pairs
from cnnlens.measure.masks import axis, compiled

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
            _step(*self._state, concept, np.float32(self.rate), np.float32(MOMENTUM))

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self.weights, self.speed, self._slope, self._seen, self.kept

    def _learn(self, bits: Bits, pairs: Pairs) -> None:
        for run, size in pairs.runs():
            _learn(
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
            _count(
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


# ---- one image and one concept at a time, compiled


@compiled
def _sum(image, concept, units, places, ends, weights, kept, sums):
    """Sum up an image's binary maps (H, W); return its first and last row with a unit that counts,
    and -1, -1 where there is none.
    """
    width = sums.shape[1]
    first, last = -1, -1
    sums[:] = 0
    for one in range(ends[image], ends[image + 1]):
        unit = units[one]
        if kept[concept, unit]:
            y, x = divmod(places[one], width)
            sums[y, x] += weights[concept, unit]
            first = y if first < 0 else min(first, y)
            last = max(last, y)
    return first, last


@compiled
def _widen(sums, column_first, column_weight, wide):
    """Interpolate every row (H, W) to the label map's columns (H, w)."""
    height, width = sums.shape
    for y in range(height):
        for x in range(width):
            value = sums[y, x]
            step = sums[y, min(x + 1, width - 1)] - value
            for column in range(column_first[x], column_first[x + 1]):
                wide[y, column] = value + step * column_weight[column]


@compiled
def _narrow(wide, column_first, column_weight, sums):
    """Bring what belongs to columns (H, w) back to the map's (H, W): the adjoint of `_widen`."""
    height, width = sums.shape
    sums[:] = 0
    for y in range(height):
        for x in range(width):
            for column in range(column_first[x], column_first[x + 1]):
                share = wide[y, column] * column_weight[column]
                sums[y, x] += wide[y, column] - share
                sums[y, min(x + 1, width - 1)] += share


@compiled
def _between(upper, lower, weight, out):
    for column in range(len(out)):
        out[column] = upper[column] + (lower[column] - upper[column]) * weight


@compiled
def _add(values, weight, out):
    for column in range(len(out)):
        out[column] += values[column] * weight


@compiled
def _heighten(wide, row_first, row_weight, first, last, value):
    """Interpolate rows `first` to `last` of (H, w) to the label map's (h · w)."""
    height, columns = wide.shape
    for y in range(first, last + 1):
        below = min(y + 1, height - 1)
        for row in range(row_first[y], row_first[y + 1]):
            out = value[row * columns : (row + 1) * columns]
            _between(wide[y], wide[below], row_weight[row], out)


@compiled
def _flatten(slopes, row_first, row_weight, first, last, back):
    """Bring slopes (h · w) back to the rows that they came from (H, w): the adjoint of
    `_heighten`.
    """
    height, columns = back.shape
    back[:] = 0
    for y in range(first, last + 1):
        below = min(y + 1, height - 1)
        for row in range(row_first[y], row_first[y + 1]):
            slope = slopes[row * columns : (row + 1) * columns]
            _add(slope, np.float32(1) - row_weight[row], back[y])
            _add(slope, row_weight[row], back[below])


@partial(compiled, error_model="numpy")  # a quotient that may raise is not vectorized
def _sigmoid(values, out):
    """1/(1 + exp(-v)) within 1e-7, as a quotient of polynomials that runs over whole vectors.

    The coefficients are Eigen's for tanh; beyond ±15.8 the value is that at the end.
    """
    f, end = np.float32, np.float32(7.90531110763549805)
    for place in range(len(values)):
        x = values[place] * f(0.5)
        x = end if x > end else x
        x = -end if x < -end else x
        square = x * x
        above = square * f(-2.76076847742355e-16) + f(2.00018790482477e-13)
        above = square * above + f(-8.60467152213735e-11)
        above = square * above + f(5.12229709037114e-08)
        above = square * above + f(1.48572235717979e-05)
        above = square * above + f(6.37261928875436e-04)
        above = square * above + f(4.89352455891786e-03)
        below = square * f(1.19825839466702e-06) + f(1.18534705686654e-04)
        below = square * below + f(2.26843463243900e-03)
        below = square * below + f(4.89352518554385e-03)
        out[place] = f(0.5) + f(0.5) * (x * above / below)


@compiled
def _slope_of_entropy(sure, truth, inside, outside):
    """Turn probabilities into the slope of the cross entropy by the logit."""
    for place in range(len(sure)):
        weight = outside + (inside - outside) * truth[place]
        sure[place] = (sure[place] - truth[place]) * weight


@compiled
def _slope_of_reference(sure, truth, inside, outside):
    """Turn probabilities into the slope of the authors' loss by the logit."""
    for place in range(len(sure)):
        weight = outside - (inside + outside) * truth[place]
        sure[place] = sure[place] * (np.float32(1) - sure[place]) * weight


@compiled
def _unpack(masks, start, table, first, last, truth):
    """Read pixels `first` to `last` of a mask that begins at `start`; everything where it is -1."""
    if start < 0:
        truth[:] = 1
        return
    for byte in range(first // 8, (last + 7) // 8):
        row = masks[start + byte]
        for bit in range(8):
            truth[byte * 8 + bit] = table[row, bit]


@compiled
def _learn(
    image, concept, mask, units, places, ends, masks, height, width, row_first, row_weight,
    column_first, column_weight, table, balance, rate, momentum, batch, reference,
    weights, speed, slope, seen, kept,
):  # fmt: skip
    """Learn from images (P,), one concept of each, in their order."""
    rows, columns = len(row_weight), len(column_weight)
    sums = np.zeros((height, width), np.float32)
    wide, back = np.zeros((height, columns), np.float32), np.zeros((height, columns), np.float32)
    value = np.zeros(rows * columns, np.float32)
    sure, truth = np.zeros_like(value), np.zeros(rows * columns + 8, np.float32)
    one = np.float32(1)
    for pair in range(len(image)):
        k, i = concept[pair], image[pair]
        first, last = _sum(i, k, units, places, ends, weights, kept, sums)
        if first >= 0:
            first = max(first - 1, 0)  # rows between the one above and the last are touched
            top, bottom = row_first[first] * columns, row_first[last + 1] * columns
            _unpack(masks, mask[pair], table, top, bottom, truth)
            _widen(sums, column_first, column_weight, wide)
            _heighten(wide, row_first, row_weight, first, last, value)
            inside = balance[k] if balance[k] > 0 else one
            outside = one - balance[k]
            _sigmoid(value[top:bottom], sure[top:bottom])
            if reference:
                _slope_of_reference(sure[top:bottom], truth[top:bottom], inside, outside)
            else:
                _slope_of_entropy(sure[top:bottom], truth[top:bottom], inside, outside)
            _flatten(sure, row_first, row_weight, first, last, back)
            _narrow(back, column_first, column_weight, sums)
            share = one if reference else one / np.float32(rows * columns)
            flat_sums = sums.ravel()
            for bit in range(ends[i], ends[i + 1]):
                slope[k, units[bit]] += flat_sums[places[bit]] * share
        seen[k] += 1
        if seen[k] == batch:
            _step(weights, speed, slope, seen, kept, k, rate, momentum)


@compiled
def _step(weights, speed, slope, seen, kept, concept, rate, momentum):
    """Take one concept's step from the slope over the images that it has seen since the last."""
    share = np.float32(1) / np.float32(seen[concept])
    for unit in range(weights.shape[1]):
        if kept[concept, unit]:
            now = momentum * speed[concept, unit] + slope[concept, unit] * share
            speed[concept, unit] = now
            weights[concept, unit] -= rate * now
        slope[concept, unit] = 0
    seen[concept] = 0


@compiled
def _count(
    image, concept, mask, units, places, ends, masks, height, width, row_first, row_weight,
    column_first, column_weight, table, weights, apart, found,
):  # fmt: skip
    """Count pixels of each concept by truth and by how many cuts, `apart` from each other, they
    exceed.
    """
    rows, columns = len(row_weight), len(column_weight)
    cuts = found.shape[2] - 1
    sums = np.zeros((height, width), np.float32)
    wide = np.zeros((height, columns), np.float32)
    truth = np.zeros(rows * columns + 8, np.float32)
    value = np.zeros(columns, np.float32)
    kept = np.ones(weights.shape, np.bool_)
    for pair in range(len(image)):
        k, i = concept[pair], image[pair]
        _sum(i, k, units, places, ends, weights, kept, sums)
        _unpack(masks, mask[pair], table, 0, rows * columns, truth)
        _widen(sums, column_first, column_weight, wide)
        for y in range(height):
            below = min(y + 1, height - 1)
            for row in range(row_first[y], row_first[y + 1]):
                _between(wide[y], wide[below], row_weight[row], value)
                for column in range(columns):
                    beyond = 0
                    if value[column] > 0:
                        beyond = min(int(np.ceil(value[column] / apart)), cuts)
                    found[k, int(truth[row * columns + column]), beyond] += 1
