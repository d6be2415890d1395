"""A store's blocks of rows, one small file for each, and how they are joined.

Block k holds the images at positions k·B … (k + 1)·B − 1 that could be read, whoever computed it,
and when: the store that is made of all blocks is the same, bytes and all.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cnnlens.activations.store import create_activations, create_column

_SPARE = 2**20  # for tables and file paths


def check_space(blocks: Sequence[Path]) -> None:
    """Raise the error that a full disk would, before anything is written."""
    needed = sum(block.stat().st_size for block in blocks) + _SPARE
    if blocks and shutil.disk_usage(blocks[0].parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def join(
    blocks: Sequence[Path],
    file: h5py.File,
    shape: tuple[int, int, int],
    dtype: str,
    images: Sequence[str],
    categories: Sequence[str] | None,
) -> None:
    """Fill a store from its blocks.

    Parameters
    ----------
    blocks : sequence of pathlib.Path
        In order.
    file : h5py.File
        The empty store.
    shape : (int, int, int)
        (C, H, W).
    dtype : str
        Type of the activations.
    images, categories : sequence of str
        Of the whole data set, in its order.
    """
    rows = _Rows(create_activations(file, 0, shape, dtype))
    positions: list[np.ndarray] = [np.zeros(0, np.int64)]
    logits: list[np.ndarray] = []
    for block in blocks:
        with h5py.File(block, "r") as part:
            rows.append(part["activations"])
            positions.append(part["positions"][:])
            logits += [part["logits"][:]] if "logits" in part else []
    rows.close()
    order = np.concatenate(positions)
    create_column(file, "positions", order)
    create_column(file, "images", _encoded([images[int(p)] for p in order]))
    if categories is not None:
        create_categories(file, [categories[int(p)] for p in order])
    if logits:
        create_column(file, "logits", np.concatenate(logits))


def create_categories(file: h5py.File, categories: Sequence[str]) -> None:
    """Write the class of every row's image."""
    create_column(file, "categories", _encoded(categories))


def _encoded(texts: Sequence[str]) -> np.ndarray:
    """Texts of one length, (N,): other than texts of any length, they can bear a checksum."""
    array = np.array([text.encode("utf-8", "surrogateescape") for text in texts], np.bytes_)
    return array.astype(h5py.string_dtype("utf-8", max(1, array.itemsize)))


class _Rows:
    """Appends blocks to a dataset of chunks of rows.

    Compressed chunks are copied as they are, as long as blocks fill their chunks; behind a block
    that lacks a damaged image rows move to other chunks, which are compressed anew.
    """

    def __init__(self, target: h5py.Dataset) -> None:
        self._target = target
        self._left = np.empty((0, *target.shape[1:]), target.dtype)  # rows that fill no chunk yet

    def append(self, source: h5py.Dataset) -> None:
        """Append a block's rows."""
        if len(self._left):
            self._write(np.concatenate([self._left, source[:]]))
            return
        whole = len(source) - len(source) % self._target.chunks[0]
        _append_chunks(source, self._target, whole)
        self._left = source[whole:]

    def _write(self, rows: np.ndarray) -> None:
        whole = len(rows) - len(rows) % self._target.chunks[0]
        self._add(rows[:whole])
        self._left = rows[whole:].copy()

    def _add(self, rows: np.ndarray) -> None:
        start = self._target.shape[0]
        self._target.resize(start + len(rows), axis=0)
        self._target[start:] = rows

    def close(self) -> None:
        """Write the rows that are left."""
        self._add(self._left)


def _append_chunks(source: h5py.Dataset, target: h5py.Dataset, rows: int) -> None:
    """Append the first rows by copying compressed chunks; both they and `target` fill theirs."""
    start = target.shape[0]
    target.resize(start + rows, axis=0)
    for number in range(source.id.get_num_chunks()):
        offset = source.id.get_chunk_info(number).chunk_offset
        if offset[0] < rows:
            mask, data = source.id.read_direct_chunk(offset)
            target.id.write_direct_chunk((offset[0] + start, *offset[1:]), data, mask)
