"""Pictures that methods leave beside their numbers, one file per kind: arrays in, pictures out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.files import atomic
from cnnlens.model.preprocess import Preprocess

CELL = 112  # pixels: side of one image in a unit's strip


def new_figure(wide: float, high: float, dpi: int = 110, **more: Any) -> Figure:
    """Open a figure of so many inches with its own Agg canvas; pyplot's state stays untouched."""
    figure = Figure(figsize=(wide, high), dpi=dpi, **more)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal bytes."""
    with atomic(path) as temporary, warnings.catch_warnings():
        # scripts that no font at hand has are drawn as boxes; JSON and page have them whole
        warnings.filterwarnings("ignore", message=".*missing from font")
        figure.savefig(temporary, format="png", metadata={"Software": None})


def save_image(path: Path, picture: Image.Image, kind: str, **how: Any) -> None:
    """Write a picture as PNG or WEBP, whole or not at all."""
    with atomic(path) as temporary:
        picture.save(temporary, kind, **how)


def short(name: str, most: int = 26) -> str:
    """Cut a name to what fits, and keep matplotlib from reading it as mathematics."""
    text = "".join(c if c.isprintable() else "�" for c in name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


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


def sprite(thumbnails: Sequence[np.ndarray], side: int, columns: int) -> Image.Image:
    """Put thumbnails (s, s, 3) uint8 into one picture, so many to a row, for the page's script."""
    sheet = Image.new("RGB", (columns * side, -(-len(thumbnails) // columns) * side), "white")
    for number, thumbnail in enumerate(thumbnails):
        cell = Image.fromarray(thumbnail).resize((side, side), Image.Resampling.BILINEAR)
        sheet.paste(cell, (number % columns * side, number // columns * side))
    return sheet
