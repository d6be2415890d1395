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
from cnnlens.measure.responses import Responses
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.figures import plane_seen
from cnnlens.report.figures.units import SHOWN
from cnnlens.report.seen import STEPS

LONGEST = 256  # pixels: larger images are kept at this
STRONGEST = 8  # units that are named for every image
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


def look(store: Store, found: Responses) -> dict[str, np.ndarray]:
    """Look once more at a layer's maps, now that its top images are known.

    Returns
    -------
    dict of str to numpy.ndarray
        ``top_map`` (C, k, h, w) uint8, `coarse` maps on top images, 0 where there are fewer;
        ``image_units``, ``image_peak`` (N, m) and ``image_place`` (N, m, 2): of every image the
        units that come nearest to their highest peaks on it, best first; unit -1 where fewer are
        above 0.
    """
    rows, (images, units, *size) = found.top[:, :SHOWN], store.shape
    most = min(STRONGEST, units)
    maps_of = np.zeros((*rows.shape, *coarse(np.zeros((1, *size))).shape[1:]), np.uint8)
    best = np.full((images, most), -1, np.int32)
    peak, place = np.zeros((images, most), np.float32), np.zeros((images, most, 2), np.int16)
    scale = np.where(found.dead, np.inf, found.peak_max)
    often = (
        1e-6 * found.density
    )  # of units at their highest peak, those that seldom fire come first
    start = 0
    for positions, maps in store.batches():
        here = np.s_[start : start + len(positions)]
        which, ranks = np.nonzero((rows >= here.start) & (rows < here.stop))
        maps_of[which, ranks] = coarse(maps[rows[which, ranks] - start, which])
        best[here], peak[here], place[here] = _strongest(maps, scale, often, most)
        start = here.stop
    return {"top_map": maps_of, "image_units": best, "image_peak": peak, "image_place": place}


def _strongest(
    maps: np.ndarray, scale: np.ndarray, often: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units (B, most), their peaks and places (B, most, 2), by share of `scale` less `often`."""
    count, units, _, wide = maps.shape
    flat = maps.reshape(count, units, -1)  # (B, C, H·W)
    peaks = flat.max(axis=2).astype(np.float32)
    best = np.argsort(often - peaks / scale, axis=1, kind="stable")[:, :most]
    own = np.take_along_axis(peaks, best, axis=1)
    at = np.stack([flat[row, some].argmax(axis=1) for row, some in enumerate(best)])
    return np.where(own > 0, best, -1), own, np.stack([at // wide, at % wide], axis=2)


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
