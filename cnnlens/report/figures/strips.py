"""One picture per unit: its top images side by side, lit where the unit is above its threshold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.measure.iou import mask
from cnnlens.measure.top import TopImages
from cnnlens.model.preprocess import Preprocess

CELL = 112  # pixels: side of one image in a strip
_DARK = 0.4  # brightness left outside the mask
_CONTOUR = np.array([255, 225, 80], np.uint8)
_GROUP = 256  # units drawn at once: their strips stay in memory until all their images were read


def write_strips(
    folder: Path,
    images: ImageSet,
    top: TopImages,
    thresholds: np.ndarray,
    preprocess: Preprocess,
    workers: int = 4,
) -> Iterator[int]:
    """Write ``<unit>.webp`` for every unit; yield how many are there, after each group of units.

    Parameters
    ----------
    folder : pathlib.Path
        Where the pictures go.
    images : ImageSet
        The data.
    top : TopImages
        Top images and their maps.
    thresholds : numpy.ndarray
        (C,).
    preprocess : Preprocess
        How the network saw the images: cropped or squashed.
    workers : int
        Threads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units = len(thresholds)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, units, _GROUP):
            group = range(start, min(start + _GROUP, units))
            cells = _cells(pool, images, top, thresholds, preprocess, group)
            list(pool.map(lambda unit, drawn=cells: _save(folder, unit, drawn[unit]), group))
            yield group.stop


Cells = dict[int, dict[int, np.ndarray]]  # unit -> rank -> (CELL, CELL, 3) uint8


def _cells(
    pool: ThreadPoolExecutor,
    images: ImageSet,
    top: TopImages,
    thresholds: np.ndarray,
    preprocess: Preprocess,
    group: range,
) -> Cells:
    """Draw all cells of a group of units, reading every image once."""
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for unit in group:
        for rank, position in enumerate(top.positions[unit]):
            if position >= 0:
                wanted[int(position)].append((unit, rank))
    cells: Cells = {unit: {} for unit in group}

    def draw(position: int) -> None:
        seen = as_seen(images, position, preprocess)
        for unit, rank in wanted[position]:
            bright = mask(top.maps[unit, rank], float(thresholds[unit]), (CELL, CELL))
            cells[unit][rank] = lit(seen, bright)

    list(pool.map(draw, sorted(wanted)))
    return cells


def as_seen(
    images: ImageSet, position: int, preprocess: Preprocess, cell: int = CELL
) -> np.ndarray:
    """Return an image as the network sees it, (cell, cell, 3) uint8; grey where it is gone."""
    try:
        image = images.load(position)
    except DamagedImage:
        return np.full((cell, cell, 3), 128, np.uint8)
    pixels = preprocess.pixels(image, images.aligned)  # (H, W, C)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    return np.asarray(Image.fromarray(pixels).resize((cell, cell), Image.Resampling.BILINEAR))


def _save(folder: Path, unit: int, cells: dict[int, np.ndarray]) -> None:
    if cells:
        strip = np.concatenate([cells[rank] for rank in sorted(cells)], axis=1)
        Image.fromarray(strip).save(folder / f"{unit}.webp", quality=72, method=2)


def lit(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Darken an image outside a mask and outline the mask, as the papers show a unit.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    mask : numpy.ndarray
        (H, W) bool, True where the unit is above its threshold.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8, a new array.

    Raises
    ------
    ValueError
        When the shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.shape[:2] != mask.shape:
        raise ValueError(f"an (H, W, 3) image and an (H, W) mask, not {image.shape}, {mask.shape}")
    inside = mask.astype(bool)
    shown = np.where(inside[..., None], image, (image * _DARK).astype(np.uint8))  # (H, W, 3)
    shown[inside & ~_eroded(inside)] = _CONTOUR
    return shown


def _eroded(mask: np.ndarray) -> np.ndarray:
    # The frame counts as inside: a mask that runs off the image has no line along its border.
    padded = np.pad(mask, 1, constant_values=True)
    vertical = padded[:-2, 1:-1] & padded[2:, 1:-1]
    return mask & vertical & padded[1:-1, :-2] & padded[1:-1, 2:]
