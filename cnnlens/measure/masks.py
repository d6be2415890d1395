"""A unit's mask on an image: its map, interpolated to a label map's size, above its threshold.

The threshold T is the smallest recorded value v with #{a > v} ≤ share · N · H · W, exactly, in one
streamed pass. Sorted from the largest, that is the value at index ⌊share · N · H · W⌋, so only that
many values and one more are ever kept.

Maps are interpolated bilinearly with half-pixel centres (`align_corners=False`), in float64, edges
clamped. Interpolation never leaves the range of a cell's four corners, so only cells with a corner
above the threshold are evaluated: about one in a hundred at the usual quantile, with the same
result as all of them.

Bau et al., "Network Dissection", CVPR 2017, §2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from cnnlens.distributed import Share

SENT = 1 << 26  # bytes that all processes of a run exchange at once


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function of arrays; it runs without the interpreter's lock.

    The compiled code is cached beside the module or in the user's cache folder; where neither can
    be written (a read-only installation without a home), it is compiled in every process.
    """
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:
        return numba.njit(nogil=True, **options)(function)


def unwritten(array: np.ndarray) -> np.ndarray:
    """The same array, read only, as files' are: what one kind compiles does not serve the other."""
    view = array.view()
    view.flags.writeable = False
    return view


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
        at = np.zeros(3, np.int64)
        while _collect(values, at, self._buffer, self._filled, self._bound, self.lowest):
            self._prune(int(at[0]))
        self.count += values.shape[0] * values.shape[2]

    def _prune(self, unit: int) -> None:
        """Of a buffer that is full, keep the `keep` largest; no threshold lies below."""
        row = self._buffer[unit]
        row.partition(len(row) - self._keep)
        row[: self._keep] = row[len(row) - self._keep :]
        self._bound[unit], self._filled[unit] = row[0], self._keep

    def put_together(self, share: Share) -> None:
        """Go on with all that the processes of a run have taken in; nothing is taken in after it.

        Of the `keep` largest values of all, each of N processes has either those above its
        ⌈keep / N⌉-th, or another has more: only values from the least of these on are sent.
        """
        each = -(-self._keep // share.of)
        mine = [_largest(b[:n], each) for b, n in zip(self._buffer, self._filled, strict=True)]
        bounds = np.min(share.gathered(np.array(mine, np.float32)), axis=0)
        at_once = max(1, SENT // (self._keep * 4 * share.of))
        for start in range(0, len(self._buffer), at_once):
            units = range(start, min(start + at_once, len(self._buffer)))
            held = (self._buffer[unit, : self._filled[unit]] for unit in units)
            some = [v[v >= bounds[unit]] for unit, v in zip(units, held, strict=True)]
            for unit, *theirs in zip(units, *share.gathered(some), strict=True):
                values = np.concatenate(theirs)
                values = np.partition(values, -self._keep) if len(values) > self._keep else values
                self._filled[unit] = kept = min(len(values), self._keep)
                self._buffer[unit, :kept] = values[len(values) - kept :]
        self.lowest = np.minimum.reduce(share.gathered(self.lowest))
        self.count = sum(share.gathered(self.count))

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


def _largest(values: np.ndarray, which: int) -> float:
    """Give the `which`-th largest of some values, counted from 1; -inf where they are fewer."""
    return float(np.partition(values, -which)[-which]) if len(values) >= which else -np.inf


@compiled
def _collect(values, at, buffer, filled, bound, lowest):
    """Append values (B, C, HW) above each unit's bound, from unit, image and position `at` on.

    When a unit's buffer is full, that is said, and `at` is where to go on.
    """
    images, units, positions = values.shape
    capacity = buffer.shape[1]
    for unit in range(at[0], units):
        limit, count, least = bound[unit], filled[unit], lowest[unit]
        for image in range(at[1], images):
            for position in range(at[2], positions):
                value = values[image, unit, position]
                least = min(least, value)
                if value > limit:
                    buffer[unit, count] = value
                    count += 1
                    if count == capacity:
                        filled[unit], lowest[unit] = count, least
                        at[0], at[1], at[2] = unit, image, position + 1
                        return True
            at[2] = 0
        at[1] = 0
        filled[unit], lowest[unit] = count, least
    return False


@dataclass(frozen=True)
class Axis:
    """How output positions along one axis fall into the cells between source positions."""

    #: (source + 1,) int64: outputs first[i] … first[i + 1] - 1 lie between sources i and i + 1
    first: np.ndarray
    weight: np.ndarray  #: (out,) float64: how far each output lies towards the later source


@lru_cache(maxsize=64)
def axis(source: int, out: int) -> Axis:
    """Place `out` half-pixel centres among `source` ones."""
    at = np.maximum((np.arange(out) + 0.5) * source / out - 0.5, 0.0)
    low = at.astype(np.int64)
    first = np.searchsorted(low, np.arange(source + 1)).astype(np.int64)
    return Axis(first, at - low)


@dataclass(frozen=True)
class MaskPixels:
    """The mask pixels of several units on one image."""

    #: (M,) int32, row-major positions; unit c's are pixels[ends[c]] … pixels[ends[c + 1] - 1]
    pixels: np.ndarray
    ends: np.ndarray  #: (C + 1,) int64


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
