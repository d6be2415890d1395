"""One look at a layer's activations: every unit's peaks, sums, and the spread of its values.

What is kept of the images is one number per unit, its peak, and where it is. Nothing depends on
how the images come in batches: sums are taken image by image, and the histogram's bins, whose
width is a power of two, are merged in pairs whenever a value lies outside them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.activations.sources import Observer
from cnnlens.errors import CnnlensError
from cnnlens.measure.unit_maps import TopMaps
from cnnlens.measure.unit_values import BINS, FINEST, look

_LARGE = 2**28  # bytes from which an array is kept in a file


def room(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> np.ndarray:
    """Make an array; a large one in a nameless file of a folder, which goes with the array.

    Raises
    ------
    OSError
        When the disk is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE or folder is None:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, a crash later
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=shape)


@contextmanager
def beside(observers: Sequence[Observer]) -> Iterator[list[Observer]]:
    """Let observers work in a thread of their own while the next batch is read.

    Every batch must be an array of its own, as those of a store are.
    """
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:

        def behind(observe: Observer) -> Observer:
            def take(positions: np.ndarray, maps: np.ndarray) -> None:
                if waiting:
                    waiting.pop().result()
                waiting.append(pool.submit(observe, positions, maps))

            return take

        yield [behind(observe) for observe in observers]
        for last in waiting:
            last.result()


class Peaks:
    """Notes every unit's peak on every image, row by row.

    Parameters
    ----------
    images : int
        The most there can be.
    units : int
        C.
    folder : pathlib.Path or None
        Where a large table is kept; None: in memory.
    """

    def __init__(self, images: int, units: int, folder: Path | None = None) -> None:
        self._peaks = room((images, units), np.float32, folder)
        self._positions = np.zeros(images, np.int64)
        self.images = 0

    @property
    def values(self) -> np.ndarray:
        """(N, C) float32."""
        return self._peaks[: self.images]

    @property
    def positions(self) -> np.ndarray:
        """(N,) int64: each row's place in the data's order."""
        return self._positions[: self.images]

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        rows = self._next(positions)
        self._peaks[rows] = maps.max(axis=(2, 3))

    def _next(self, positions: np.ndarray) -> slice:
        rows = slice(self.images, self.images + len(positions))
        self._positions[rows] = positions
        self.images = rows.stop
        return rows


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
    total : numpy.ndarray
        (C,) float64: sums of all values.
    by_category : numpy.ndarray
        (K, C) float64: the same by category.
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
        self._places = room((images, units), kind, folder)
        kinds = 0 if labels is None else int(labels.max(initial=-1)) + 1
        self._labels = labels
        self.total = np.zeros(units)
        self.positive = np.zeros(units, np.int64)
        self.by_category = np.zeros((kinds, units))
        self.in_category = np.zeros(kinds, np.int64)
        self._lowest = np.full(units, np.inf, np.float32)
        self._highest = np.full(units, -np.inf, np.float32)
        self._bins = np.zeros((units, BINS), np.int64)
        self._first = np.zeros(units, np.int64)  # number of the first bin, counted from 0.0
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
        noted = [np.empty(values.shape[1::-1], t) for t in (np.float32, self._places.dtype, float)]
        look(
            values, *noted, self.positive, self._lowest, self._highest, self._bins, self._first,
            self._exponent,
        )  # fmt: skip
        self._peaks[rows], self._places[rows] = noted[0].T, noted[1].T
        sums = np.ascontiguousarray(noted[2].T)  # (B, C)
        if not np.isfinite(sums).all():
            image = int(positions[int(np.isfinite(sums).all(axis=1).argmin())])
            raise CnnlensError(
                f"activations are not finite on image {image} of the data",
                "the network overflows there: check its weights, and --mean and --std",
            )
        self.maps(rows.start, noted[0], maps)
        labels = None if self._labels is None else self._labels[positions]
        for row, one in enumerate(sums):  # image by image: equal sums whatever the batches
            self.total += one
            if labels is not None:
                self.by_category[labels[row]] += one
        if labels is not None:
            self.in_category += np.bincount(labels, minlength=len(self.in_category))

    def places_on_images(self, units: np.ndarray) -> np.ndarray:
        """Say where units (N, m) peak on each image: (N, m, 2) int16, row and column."""
        flat = np.take_along_axis(self._places[: self.images], np.maximum(units, 0), axis=1)
        return np.stack(np.divmod(flat, self.size[1]), axis=2).astype(np.int16)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Say where units peak: (C, …, 2) row and column, of rows (C, …); -1 of row -1."""
        units = np.arange(len(rows)).reshape(-1, *([1] * (rows.ndim - 1)))
        flat = self._places[np.maximum(rows, 0), units].astype(np.int64)
        found = np.stack(np.divmod(flat, self.size[1]), axis=-1)
        return np.where(rows[..., None] >= 0, found, -1)

    @property
    def histogram(self) -> np.ndarray:
        """(C, bins) int64: how many values lie in each bin, its lower edge included."""
        return self._bins

    @property
    def edges(self) -> np.ndarray:
        """(C, bins + 1) float64: multiples of a power of two, the width of a unit's bins."""
        numbers = self._first[:, None] + np.arange(BINS + 1)
        return np.ldexp(numbers.astype(np.float64), self._exponent[:, None])
