"""The synthetic parts data set ``animals`` on disk, in CUB-200-2011's layout with part masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.animals import KINDS, PARTS, animal
from cnnlens.data.cub import MASKS
from cnnlens.data.landing import whole_folder

NEGATIVES = "negatives"  # backgrounds, which are no objects
_SHARE = 4  # one background for so many animals


def make_animals(
    out: Path | str,
    images: int = 1500,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Path:
    """Write the set: three kinds in turn, and backgrounds without animals in ``negatives``.

    An object's box is the whole picture, in which it lies anywhere.

    Parameters
    ----------
    out : path
        Folder to make; it lands whole or not at all.
    images : int
        Number of animals; a fourth of that many backgrounds come with them.
    size : int
        Side of the square pictures in pixels.
    seed : int
        Equal seeds give equal bytes.
    progress : callable, optional
        Called with (pictures written, pictures in all).
    force : bool
        Replace an earlier data set in `out`.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    CnnlensError
        When `out` is not empty or cannot be written.
    """
    out, random = Path(out), np.random.default_rng(seed)
    folders = [f"{number:03d}.{kind.replace(' ', '_')}" for number, kind in enumerate(KINDS, 1)]
    total = images + images // _SHARE
    with whole_folder(out, force) as folder:
        for name in folders:
            (folder / "images" / name).mkdir(parents=True)
            (folder / MASKS / name).mkdir(parents=True)
        (folder / NEGATIVES).mkdir()
        (folder / "parts").mkdir()
        lists: dict[str, list[str]] = {name: [] for name in _LISTS}
        for number in range(total):
            if number < images:
                _write_one(folder, number, folders, random, size, lists)
            else:
                found = animal(None, random, size)
                path = folder / NEGATIVES / f"{number - images:05d}.png"
                Image.fromarray(found.pixels).save(path, compress_level=1)
            if progress is not None:
                progress(number + 1, total)
        lists["classes.txt"] = [f"{n} {name}" for n, name in enumerate(folders, 1)]
        lists["parts/parts.txt"] = [f"{n} {name}" for n, name in enumerate(PARTS, 1)]
        for name, lines in lists.items():
            (folder / name).write_text("\n".join(lines) + "\n")
    return out


_LISTS = ("images.txt", "image_class_labels.txt", "bounding_boxes.txt", "parts/part_locs.txt")


def _write_one(
    folder: Path,
    number: int,
    folders: list[str],
    random: np.random.Generator,
    size: int,
    lists: dict[str, list[str]],
) -> None:
    kind = number % len(KINDS)
    found, name = animal(kind, random, size), f"{folders[kind]}/{number:05d}.png"
    Image.fromarray(found.pixels).save(folder / "images" / name, compress_level=1)
    Image.fromarray(found.parts).save(folder / MASKS / name)
    images, labels, boxes, places = (lists[key] for key in _LISTS)
    images.append(f"{number + 1} {name}")
    labels.append(f"{number + 1} {kind + 1}")
    boxes.append(f"{number + 1} 0.0 0.0 {size}.0 {size}.0")
    for part, (y, x) in enumerate(found.centres * size, 1):
        shown = "0.0 0.0 0" if np.isnan(y) else f"{x:.2f} {y:.2f} 1"
        places.append(f"{number + 1} {part} {shown}")


def animals_arrays(
    images: int, size: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the animals of :func:`make_animals` in memory.

    Returns
    -------
    pixels : numpy.ndarray
        (N, size, size, 3) uint8.
    labels : numpy.ndarray
        (N,) int64, which of `KINDS`.
    centres : numpy.ndarray
        (N, P, 2) y and x as shares of the side; NaN where a part is not shown.
    """
    random = np.random.default_rng(seed)
    drawn = [animal(number % len(KINDS), random, size) for number in range(images)]
    pixels = np.stack([one.pixels for one in drawn])
    labels = np.arange(images, dtype=np.int64) % len(KINDS)
    return pixels, labels, np.stack([one.centres for one in drawn])
