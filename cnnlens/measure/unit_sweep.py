"""One look at a layer's activations: every unit's peaks, sums, and the spread of its values.

What is kept of the images is one number per unit, its peak, and where it is. Nothing depends on
how the images come in batches: sums of images are added without rounding, and bins, whose
width is a power of two, are merged in pairs whenever a value lies outside them. So processes that
look at some images each have together what one has that looks at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cnnlens.activations.shared import SharedObserver
from cnnlens.activations.sources import Observer
from cnnlens.distributed import Share
from cnnlens.errors import CnnlensError
from cnnlens.measure.exact_sums import ExactSums
from cnnlens.measure.image_tables import Peaks, room
from cnnlens.measure.unit_maps import TopMaps
from cnnlens.measure.unit_values import BINS, FINEST, look, widen


@contextmanager
def beside(observers: Sequence[SharedObserver]) -> Iterator[list[Observer]]:
    """Let observers work in a thread of their own while the next batch is read.

    Every batch must be an array of its own, as those of a store are.
    """
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        yield [_Beside(one, pool, waiting) for one in observers]
        _finish(waiting)


def _finish(waiting: list[Future[None]]) -> None:
    while waiting:
        waiting.pop().result()


class _Beside:
    """An observer whose batches are taken in beside; one waits, over all that share `waiting`."""

    def __init__(
        self, observer: SharedObserver, pool: ThreadPoolExecutor, waiting: list[Future[None]]
    ) -> None:
        self._observer, self._pool, self._waiting = observer, pool, waiting

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        _finish(self._waiting)
        self._waiting.append(self._pool.submit(self._observer, positions, maps))

    def put_together(self, share: Share) -> None:
        _finish(self._waiting)
        self._observer.put_together(share)


class UnitSweep(Peaks):
    """Notes peaks with their places, sums over images and categories, and histograms.

    Parameters
    ----------
    images : int
        The most there can be.
    shape : (int, int, int)
        (C, H, W).
    labels : numpy.ndarray or None
        The category of every image of the data, by number; None: there are none.
    folder : pathlib.Path or None
        Where large tables are kept.

    Attributes
    ----------
    in_category : numpy.ndarray
        (K,) int64: how many images a category has.
    positive : numpy.ndarray
        (C,) int64: how many values lie above 0.
    maps : TopMaps
        Of the highest peaks.
    """

    def __init__(
        self,
        images: int,
        shape: tuple[int, int, int],
        labels: np.ndarray | None = None,
        folder: Path | None = None,
    ) -> None:
        units, self.size = shape[0], shape[1:]
        super().__init__(images, units, folder)
        cells = math.prod(self.size)
        kind = np.uint16 if cells <= 2**16 else np.uint32
        self._tables["places"] = room((images, units), kind, folder)
        kinds = 0 if labels is None else int(labels.max(initial=-1)) + 1
        self._labels = labels
        self._sums = ExactSums(max(1, kinds), units, folder)
        self.positive = np.zeros(units, np.int64)
        self.in_category = np.zeros(kinds, np.int64)
        self._lowest = np.full(units, np.inf, np.float32)
        self._highest = np.full(units, -np.inf, np.float32)
        self._bins = np.zeros((units, BINS), np.int64)
        self._first_bin = np.zeros(units, np.int64)  # number of the first bin, counted from 0.0
        self._exponent = np.full(units, FINEST, np.int64)  # a bin is 2 ** this wide
        self.maps = TopMaps(shape)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W).

        Raises
        ------
        CnnlensError
            When a value is not finite.
        """
        rows = self._next(positions)
        values = np.ascontiguousarray(maps, np.float32).reshape(*maps.shape[:2], -1)  # (B, C, HW)
        kind = self._tables["places"].dtype
        noted = [np.empty(values.shape[1::-1], t) for t in (np.float32, kind, float)]
        look(
            values, *noted, self.positive, self._lowest, self._highest, self._bins, self._first_bin,
            self._exponent,
        )  # fmt: skip
        self._tables["peaks"][rows], self._tables["places"][rows] = noted[0].T, noted[1].T
        sums = np.ascontiguousarray(noted[2].T)  # (B, C)
        if not np.isfinite(sums).all():
            image = int(positions[int(np.isfinite(sums).all(axis=1).argmin())])
            raise CnnlensError(
                f"activations are not finite on image {image} of the data",
                "the network overflows there: check its weights, and --mean and --std",
            )
        self.maps(rows.start, noted[0], maps)
        if self._labels is None:
            labels = np.zeros(len(positions), np.int64)
        else:
            labels = self._labels[positions]
            self.in_category += np.bincount(labels, minlength=len(self.in_category))
        self._sums.add(sums, labels)

    def put_together(self, share: Share) -> None:
        """Go on with what all processes of a run have counted, the first one with their tables."""
        super().put_together(share)
        self._sums.put_together(share)
        share.add_up(self.positive)
        share.add_up(self.in_category)
        self._lowest = np.minimum.reduce(share.gathered(self._lowest))
        self._highest = np.maximum.reduce(share.gathered(self._highest))
        widen(self._bins, self._first_bin, self._exponent, self._lowest, self._highest)
        share.add_up(self._bins)
        self.maps.put_together(share, self._first)

    @property
    def total(self) -> np.ndarray:
        """(C,) float64: sums of all values."""
        return self._sums.total

    @property
    def by_category(self) -> np.ndarray:
        """(K, C) float64: the same by category."""
        return self._sums.sums[: len(self.in_category)]

    def places_on_images(self, units: np.ndarray) -> np.ndarray:
        """Say where units (N, m) peak on each image: (N, m, 2) int16, row and column."""
        flat = np.take_along_axis(
            self._tables["places"][: self.images], np.maximum(units, 0), axis=1
        )
        return np.stack(np.divmod(flat, self.size[1]), axis=2).astype(np.int16)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Say where units peak: (C, …, 2) row and column, of rows (C, …); -1 of row -1."""
        units = np.arange(len(rows)).reshape(-1, *([1] * (rows.ndim - 1)))
        flat = self._tables["places"][np.maximum(rows, 0), units].astype(np.int64)
        found = np.stack(np.divmod(flat, self.size[1]), axis=-1)
        return np.where(rows[..., None] >= 0, found, -1)

    @property
    def histogram(self) -> np.ndarray:
        """(C, bins) int64: how many values lie in each bin, its lower edge included."""
        return self._bins

    @property
    def edges(self) -> np.ndarray:
        """(C, bins + 1) float64: multiples of a power of two, the width of a unit's bins."""
        numbers = self._first_bin[:, None] + np.arange(BINS + 1)
        return np.ldexp(numbers.astype(np.float64), self._exponent[:, None])
