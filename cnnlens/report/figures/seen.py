"""Images as the network saw them, each kept once, however many units show it.

``WORKSPACE/images/<mark of its pixels>.webp``. What a page shows of one, the receptive field of a
peak or all of it, is cut out where it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.files import atomic, make_folder
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.figures import plane_seen
from cnnlens.report.seen import STEPS

LONGEST = 256  # pixels: larger images are kept at this
GRID = 28  # rows and columns of such a map, at most


def write_seen(
    folder: Path,
    images: ImageSet,
    positions: Sequence[int],
    preprocess: Preprocess,
    workers: int = 4,
) -> Iterator[tuple[int, str]]:
    """Write images at some positions of the data into a folder; those that are there are left.

    Yields
    ------
    (int, str)
        Position and file name.
    """
    make_folder(folder)

    def write(position: int) -> tuple[int, str]:
        seen = plane_seen(images, position, preprocess)
        path = folder / f"{hashlib.sha256(seen.tobytes()).hexdigest()[:16]}.webp"
        if not path.exists():
            picture = Image.fromarray(seen)
            picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            with atomic(path) as temporary:
                picture.save(temporary, "WEBP", quality=80, method=2)
        return position, path.name

    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(write, positions)


def top_maps(store: Store, rows: np.ndarray) -> np.ndarray:
    """Read units' maps on rows (C, k) of a store, `coarse`: (C, k, h, w) uint8; 0 for row -1."""
    found = np.zeros((*rows.shape, *coarse(np.zeros((1, 1, *store.shape[2:]))).shape[2:]), np.uint8)
    start = 0
    for positions, maps in store.batches():
        units, ranks = np.nonzero((rows >= start) & (rows < start + len(positions)))
        found[units, ranks] = coarse(maps[rows[units, ranks] - start, units])
        start += len(positions)
    return found


def coarse(maps: np.ndarray) -> np.ndarray:
    """Bring maps (…, H, W) to `STEPS` steps of their peaks, uint8, and at most `GRID` cells across:
    the highest value of those that become one.
    """
    *front, high, wide = maps.shape
    rows, columns = (-(-length // GRID) for length in (high, wide))
    padded = np.pad(maps, [(0, 0)] * len(front) + [(0, -high % rows), (0, -wide % columns)])
    shape = *front, -(-high // rows), rows, -(-wide // columns), columns
    pooled = padded.reshape(shape).max(axis=(-3, -1))
    peak = pooled.max(axis=(-2, -1), keepdims=True, initial=0)
    steps = np.divide(STEPS * pooled, peak, out=np.zeros_like(pooled), where=peak > 0)
    return steps.round().clip(0, STEPS).astype(np.uint8)
