"""Tables with a row per image, which many images make large: kept in memory or in a file."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.distributed import Share
from cnnlens.measure.masks import SENT

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
        self._tables = {
            "positions": np.zeros(images, np.int64),
            "peaks": room((images, units), np.float32, folder),
        }
        self.units, self.images = units, 0
        self._first = 0  # row of the run's table that this one begins with

    @property
    def values(self) -> np.ndarray:
        """(N, C) float32."""
        return self._tables["peaks"][: self.images]

    @property
    def positions(self) -> np.ndarray:
        """(N,) int64: each row's place in the data's order."""
        return self._tables["positions"][: self.images]

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        rows = self._next(positions)
        self._tables["peaks"][rows] = maps.max(axis=(2, 3))

    def _next(self, positions: np.ndarray) -> slice:
        rows = slice(self.images, self.images + len(positions))
        self._tables["positions"][rows] = positions
        self.images = rows.stop
        return rows

    def put_together(self, share: Share) -> None:
        """Give the first process the rows of all, each behind the last one's (`SharedObserver`).

        Its tables must have room for them; those of the others are empty then.
        """
        counts = share.gathered(self.images)
        self._first = sum(counts[: share.number])
        row = sum(table.itemsize * math.prod(table.shape[1:]) for table in self._tables.values())
        at_once = max(1, SENT // (row * share.of))
        for start in range(0, max(counts), at_once):
            some = slice(start, min(start + at_once, self.images))
            mine = {} if share.leads else {n: np.asarray(t[some]) for n, t in self._tables.items()}
            for number, theirs in enumerate(share.at_first(mine)):
                first = sum(counts[:number]) + start
                for name, rows in theirs.items():
                    self._tables[name][first : first + len(rows)] = rows
        self.images = sum(counts) if share.leads else 0
        if not share.leads:
            self._tables = {name: table[:0].copy() for name, table in self._tables.items()}
