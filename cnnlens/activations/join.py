"""From the blocks of an extraction to one store: compressed chunks are copied as they are."""

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
        In order; all but the last hold whole chunks of rows.
    file : h5py.File
        The empty store.
    shape : (int, int, int)
        (C, H, W).
    dtype : str
        Type of the activations.
    images, categories : sequence of str
        Of the whole data set, in its order.
    """
    target = create_activations(file, 0, shape, dtype)
    positions: list[np.ndarray] = [np.zeros(0, np.int64)]
    logits: list[np.ndarray] = []
    for block in blocks:
        with h5py.File(block, "r") as part:
            _append_chunks(part["activations"], target)
            positions.append(part["positions"][:])
            logits += [part["logits"][:]] if "logits" in part else []
    order = np.concatenate(positions)
    create_column(file, "positions", order)
    create_column(file, "images", _encoded([images[int(p)] for p in order]))
    if categories is not None:
        create_column(file, "categories", _encoded([categories[int(p)] for p in order]))
    if logits:
        create_column(file, "logits", np.concatenate(logits))


def _encoded(texts: Sequence[str]) -> np.ndarray:
    """Texts of one length, (N,): other than texts of any length, they can bear a checksum."""
    array = np.array([text.encode("utf-8", "surrogateescape") for text in texts], np.bytes_)
    return array.astype(h5py.string_dtype("utf-8", max(1, array.itemsize)))


def _append_chunks(source: h5py.Dataset, target: h5py.Dataset) -> None:
    """Append rows by copying compressed chunks; `target` ends on a chunk border."""
    start = target.shape[0]
    target.resize(start + source.shape[0], axis=0)
    for number in range(source.id.get_num_chunks()):
        offset = source.id.get_chunk_info(number).chunk_offset
        mask, data = source.id.read_direct_chunk(offset)
        target.id.write_direct_chunk((offset[0] + start, *offset[1:]), data, mask)
