"""The synthetic concept set ``shapes`` on disk in Broden's layout, or in memory for training.

Every kind of label occurs: one plane per cell (color, shape, color-shape), several (part), a
plane mixed with a whole-image number (texture), whole-image numbers alone (scene); the numbers
have gaps and pass 255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.dataset import new_dataset_folder
from cnnlens.data.shapes import (
    COLORS,
    FILLS,
    KINDS,
    SHAPES,
    Figure,
    Scene,
    alike,
    paint,
    parts,
    scenes,
    shows_square,
)
from cnnlens.data.tables import Cells, Tally, save_plane, shares
from cnnlens.files.tables import write_csv

_FIRST_NUMBERS = {
    "color": (1, list(COLORS)),
    "shape": (4, list(SHAPES)),
    "color-shape": (7, [f"{color} {shape}" for color in COLORS for shape in SHAPES]),
    "texture": (20, [*FILLS, "filled alike"]),
    "part": (301, ["upper half", "lower half", "edge", "corner"]),
    "scene": (400, ["one colour", "two colours"]),
}
_NUMBERS = {
    (category, name): number
    for category, (first, names) in _FIRST_NUMBERS.items()
    for number, name in enumerate(names, first)
}
_LABELS = {
    category: dict(enumerate(names, first)) for category, (first, names) in _FIRST_NUMBERS.items()
}
_VALIDATION = 5  # every fifth picture is in the split val


def make_shapes(
    out: Path | str,
    images: int = 2000,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Path:
    """Write the set, with ``classes.csv`` (image, label: 1 when a square is present) beside it.

    Parameters
    ----------
    out : path
        Folder to make; it lands whole or not at all.
    images : int
        Number of pictures; 45 show every combination of two figures once.
    size : int
        Side of the square pictures and label maps in pixels, at least 24.
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
    out = Path(out)
    drawn = scenes(images, size, seed)
    with new_dataset_folder(out, force) as folder:
        (folder / "images" / "shapes").mkdir(parents=True)
        tally = Tally()
        rows, classes = [], []
        for number, scene in enumerate(drawn):
            stem = f"shapes/{number:05d}"
            Image.fromarray(paint(scene, size)).save(
                folder / "images" / f"{stem}.png", compress_level=1
            )
            cells = _cells(scene, size)
            tally.add(shares(cells))
            split = "val" if number % _VALIDATION == _VALIDATION - 1 else "train"
            written = _write_cells(folder / "images", stem, cells)
            rows.append([f"{stem}.png", split, size, size, size, size, *written])
            classes.append([f"{stem}.png", int(shows_square(scene))])
            if progress is not None:
                progress(number + 1, images)
        header = ["image", "split", "ih", "iw", "sh", "sw", *_FIRST_NUMBERS]
        write_csv(folder / "index.csv", header, rows)
        write_csv(folder / "classes.csv", ["image", "label"], classes)
        tally.write(folder, _LABELS)
    return out


def make_kinds(out: Path | str, each: int = 30, size: int = 64, seed: int = 0) -> Path:
    """Write pictures in class folders: both figures of a picture are of one kind, ``red square``.

    Parameters
    ----------
    out : path
        Folder to make; it lands whole or not at all.
    each : int
        Pictures of each of the nine kinds.
    size : int
        Side of the pictures in pixels, at least 24.
    seed : int
        Equal seeds give equal bytes.

    Returns
    -------
    pathlib.Path
        `out`.
    """
    with new_dataset_folder(Path(out), force=True) as folder:
        for number, (shape, color) in enumerate(KINDS):
            below = folder / f"{color} {shape}"
            below.mkdir()
            for image, scene in enumerate(alike(number, each, size, seed)):
                Image.fromarray(paint(scene, size)).save(below / f"{image:03}.png")
    return Path(out)


def _cells(scene: Scene, size: int) -> Cells:
    """Label numbers of a picture: per category, planes (size, size) and whole-image numbers."""
    cells: Cells = {
        "color": [_plane(scene, size, "color", lambda figure: figure.color)],
        "shape": [_plane(scene, size, "shape", lambda figure: figure.shape)],
        "color-shape": [
            _plane(scene, size, "color-shape", lambda figure: f"{figure.color} {figure.shape}")
        ],
        "texture": [_plane(scene, size, "texture", lambda figure: figure.fill)],
        "part": list(_part_planes(scene, size)),
    }
    if scene[0].fill == scene[1].fill:
        cells["texture"].append(_NUMBERS["texture", "filled alike"])
    colours = "one colour" if scene[0].color == scene[1].color else "two colours"
    cells["scene"] = [_NUMBERS["scene", colours]]
    return cells


def _plane(scene: Scene, size: int, category: str, name: Callable[[Figure], str]) -> np.ndarray:
    plane = np.zeros((size, size), np.uint16)
    for figure in scene:
        plane[figure.box][figure.mask] = _NUMBERS[category, name(figure)]
    return plane


def _part_planes(scene: Scene, size: int) -> Iterator[np.ndarray]:
    """Parts overlap, so they need three planes: the halves, the edge, the corners (if any)."""
    for names in (("upper half", "lower half"), ("edge",), ("corner",)):
        plane = np.zeros((size, size), np.uint16)
        for figure in scene:
            masks = parts(figure.shape, figure.side)
            for name in names:
                plane[figure.box][masks[name]] = _NUMBERS["part", name]
        if plane.any():
            yield plane


def _write_cells(folder: Path, stem: str, cells: Cells) -> list[str]:
    return [
        ";".join(
            _written(folder, stem, category, place, item)
            for place, item in enumerate(cells[category])
        )
        for category in _FIRST_NUMBERS
    ]


def _written(folder: Path, stem: str, category: str, place: int, item: np.ndarray | int) -> str:
    """Write a plane and return its path, or return a whole-image number as it is."""
    if isinstance(item, int):
        return str(item)
    name = f"{stem}_{category}{f'_{place + 1}' if place else ''}.png"
    save_plane(folder / name, item)
    return name
