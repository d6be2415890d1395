"""How a store's rows are cut into chunks and blocks, and the network's batches with them."""

from __future__ import annotations

import math

MOST_ROWS = 32  # images in a chunk; all smaller numbers of rows divide it


def chunk_shape(shape: tuple[int, int, int], itemsize: int) -> tuple[int, int, int, int]:
    """Choose chunks that serve reading a few images as well as reading a few units of all images.

    Parameters
    ----------
    shape : (int, int, int)
        (C, H, W) of one image's maps.
    itemsize : int
        Bytes per value.
    """
    units, height, width = shape
    per_unit = max(1, height * width * itemsize)
    rows = MOST_ROWS
    while rows > 1 and rows * per_unit * 8 > 2**20:  # at least 8 units in a chunk of about 1 MiB
        rows //= 2
    return rows, max(1, min(units, 2**20 // (rows * per_unit))), height, width


def even_batch(batch: int) -> int:
    """Round a batch size down to one that fills blocks of rows evenly: 1, 2, 4 … 32, 64, 96 …

    A store's blocks hold whole batches, so an odd size would make them, and the memory, large.
    """
    if batch >= MOST_ROWS:
        return batch - batch % MOST_ROWS
    return 1 << (batch.bit_length() - 1)


def block_size(batch: int) -> int:
    """Return how many images a block holds that is computed in batches of so many."""
    return math.lcm(batch, MOST_ROWS)


def blocks_of(images: int, batch: int) -> int:
    """Count the blocks of so many images that are computed in batches of the size asked for."""
    return len(block_ranges(images, block_size(even_batch(batch))))


def block_ranges(images: int, size: int) -> list[range]:
    """Cut the positions of so many images into blocks of `size`; the last one may be smaller."""
    return [range(start, min(start + size, images)) for start in range(0, images, size)]
