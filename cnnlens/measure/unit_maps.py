"""Maps of units on the images they are shown by, kept while activations are looked at once; and
which units fire most on an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.distributed import Share
from cnnlens.measure.masks import SENT, compiled
from cnnlens.measure.unit_lists import insert
from cnnlens.progress import Step

STEPS = 15  # of a map that is kept beside an image: its peak is this
GRID = 28  # rows and columns of such a map, at most
SHOWN = 9  # top images that a picture of a unit has
STRONGEST = 8  # units that are named for every image
_SPARE = 3  # maps that are kept beside: images that are there twice are left out of lists
_ROWS = 256  # images whose units are ranked at once


def coarse(maps: np.ndarray) -> np.ndarray:
    """Bring maps (…, H, W) to `STEPS` steps of their peaks, uint8, and at most `GRID` cells across:
    the highest value of those that become one.
    """
    return _stepped(_pooled(maps))


def _pooled(maps: np.ndarray) -> np.ndarray:
    *front, high, wide = maps.shape
    rows, columns = (-(-length // GRID) for length in (high, wide))
    if rows * columns == 1:
        return maps
    padded = np.pad(maps, [(0, 0)] * len(front) + [(0, -high % rows), (0, -wide % columns)])
    shape = *front, -(-high // rows), rows, -(-wide // columns), columns
    found: np.ndarray = padded.reshape(shape).max(axis=(-3, -1))
    return found


def _stepped(maps: np.ndarray) -> np.ndarray:
    peak = maps.max(axis=(-2, -1), keepdims=True, initial=0)
    maps = np.maximum(maps, 0)
    huge = peak > np.finfo(maps.dtype).max / STEPS
    if huge.any():  # by a power of 2, which rounds nothing
        smaller = np.where(huge, maps.dtype.type(1 / 16), maps.dtype.type(1))
        maps, peak = maps * smaller, peak * smaller
    steps = np.divide(STEPS * maps, peak, out=np.zeros_like(maps), where=peak > 0)
    return steps.round().clip(0, STEPS).astype(np.uint8)


class TopMaps:
    """Keeps the `coarse` maps of units on the images of their highest peaks so far.

    Parameters
    ----------
    shape : (int, int, int)
        (C, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        units, count = shape[0], SHOWN + _SPARE
        self._peaks = np.full((units, count), -np.inf, np.float32)
        self._rows = np.full((units, count), -1, np.int64)
        size = _pooled(np.zeros((1, *shape[1:]), np.float32)).shape[1:]
        self._maps = np.zeros((units, count, *size), np.float32)

    def __call__(self, first: int, peaks: np.ndarray, maps: np.ndarray) -> None:
        """Take in peaks (C, B) and maps (B, C, H, W) of images from row `first` on."""
        _replace(peaks, first, self._rows, self._peaks)
        units, slots = np.nonzero(self._rows >= first)
        self._maps[units, slots] = _pooled(maps[self._rows[units, slots] - first, units])

    def put_together(self, share: Share, first: int) -> None:
        """Let the first process go on with what all of a run have kept, each of rows that are
        counted from `first` on.
        """
        rows = np.where(self._rows >= 0, self._rows + first, -1)
        units, count = rows.shape
        at_once = max(1, SENT // (self._maps[0].nbytes * share.of))
        for start in range(0, units, at_once):
            some = slice(start, start + at_once)
            every = share.at_first((self._peaks[some], rows[some], self._maps[some]))
            if not every:
                continue
            peaks, places, maps = (
                np.concatenate(kind, axis=1) for kind in zip(*every, strict=True)
            )
            order = np.lexsort((places, -peaks), axis=1)[:, :count]  # of equal ones the earlier
            self._peaks[some] = np.take_along_axis(peaks, order, axis=1)
            self._rows[some] = np.take_along_axis(places, order, axis=1)
            self._maps[some] = np.take_along_axis(maps, order[:, :, None, None], axis=1)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Give maps (C, k, h, w) on rows (C, k), 0 where one was not kept."""
        there = rows[:, :, None] == self._rows[:, None]  # (C, k, slots)
        found = _stepped(self._maps[np.arange(len(rows))[:, None], there.argmax(axis=2)])
        found[~there.any(axis=2) | (rows < 0)] = 0
        return found

    def lacks(self, rows: np.ndarray) -> np.ndarray:
        """Give those of rows (C, k) whose maps were not kept, -1 elsewhere."""
        kept = (rows[:, :, None] == self._rows[:, None]).any(axis=2)
        return np.where(kept, -1, rows)


@compiled
def _replace(peaks, first, rows, best):
    """Let peaks (C, B) take the places of lower ones; of equal ones the earlier row stays."""
    units, count = best.shape
    for unit in range(units):
        least, lowest = 0, -np.inf
        is_known = False
        for image in range(peaks.shape[1]):
            if is_known and not peaks[unit, image] > lowest:
                continue
            least = 0
            for slot in range(1, count):
                low, held = best[unit, slot], best[unit, least]
                if low < held or (low == held and rows[unit, slot] > rows[unit, least]):
                    least = slot
            lowest, is_known = best[unit, least], True
            if peaks[unit, image] > lowest:
                best[unit, least], rows[unit, least] = peaks[unit, image], first + image
                is_known = False


def fill_late(
    source: Source, lacking: Sequence[np.ndarray], maps: Sequence[np.ndarray]
) -> Iterator[Step]:
    """Fill in what of each layer's maps (C, k, h, w) was not kept, where many images are there
    twice: those of images at positions (C, k), -1 where none is lacking. Activations are then
    looked at once more, else not.
    """
    if any((wanted >= 0).any() for wanted in lacking):
        yield from source.sweep([_Late(*pair) for pair in zip(maps, lacking, strict=True)])


class _Late:
    """Fills in maps of images at some positions, -1 for none, when it meets them."""

    def __init__(self, maps: np.ndarray, wanted: np.ndarray) -> None:
        self._maps, self._wanted = maps, wanted
        self._met = np.zeros(wanted.shape, bool)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        here = np.isin(self._wanted, positions)
        units, ranks = np.nonzero(here)
        images = np.searchsorted(positions, self._wanted[here])
        self._maps[units, ranks] = coarse(maps[images, units])
        self._met |= here

    def put_together(self, share: Share) -> None:
        """Let the first process go on with the maps that all of a run have met."""
        places = np.nonzero(self._met)
        for theirs, maps in share.at_first((places, self._maps[places])):
            self._maps[theirs] = maps


def strongest(peaks: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank the units that come nearest to their highest peaks on each image, best first.

    Of units at their highest peak those that seldom fire come first, then the lower number.

    Parameters
    ----------
    peaks : numpy.ndarray
        (N, C) float32.
    density : numpy.ndarray
        (C,) the share of values above 0.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (N, m) int32 units, -1 where fewer are above 0; (N, m) float32, their peaks.
    """
    images, units = peaks.shape
    most, highest = min(STRONGEST, units), peaks.max(axis=0)
    scale, often = np.where(highest > 0, highest, np.inf), 1e-6 * density
    best = np.full((images, most), -1, np.int64)
    for first in range(0, images, _ROWS):
        some = slice(first, first + _ROWS)
        share = peaks[some] / scale - often
        insert(share, 0, best[some], np.full(best[some].shape, -np.inf))
    own = np.take_along_axis(peaks, np.maximum(best, 0), axis=1)
    return np.where(own > 0, best, -1).astype(np.int32), own
