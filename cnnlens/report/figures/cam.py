"""Class maps over the image they were made from: the warmer, the more it speaks for the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Text, sheet

_TILE = 300  # pixels: longer side of a picture
_MOST = 0.8  # opacity of the heat where it is highest
_COLUMNS = 4


@dataclass(frozen=True)
class ClassHeat:
    """One class's map on an image.

    Attributes
    ----------
    heat : numpy.ndarray
        (h, w) float32, at the layer's own size.
    name : str
        The class.
    words : str
        Its score, its probability.
    """

    heat: np.ndarray
    name: str
    words: str


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay what is positive of a map (h, w) over an image (H, W, 3) uint8, both as they are.

    The map is resampled; what is not positive stays grey.
    """
    height, width = image.shape[:2]
    large = Image.fromarray(heat.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    highest = float(heat.max())
    share = np.clip(np.asarray(large) / highest, 0, 1) if highest > 0 else np.zeros((height, width))
    paint = matplotlib.colormaps["turbo"](0.5 + 0.45 * share)[..., :3] * 255  # (H, W, 3)
    opacity = (_MOST * share)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    under = 0.55 * grey + 0.45 * image
    return np.rint(under * (1 - opacity) + paint * opacity).astype(np.uint8)


def draw(image: np.ndarray, classes: Sequence[ClassHeat], title: str, note: str) -> Image.Image:
    """Lay out an image and its class maps side by side.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8, as the network saw it.
    classes : sequence of ClassHeat
        In reading order.
    title, note : str
        Above.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    factor = _TILE / max(image.shape[:2])
    wide, high = (max(1, round(side * factor)) for side in (image.shape[1], image.shape[0]))
    tiles = [(image, "the image", "as the network saw it")]
    tiles += [(overlay(image, one.heat), one.name, one.words) for one in classes]
    shown = [
        Column(
            Picture(Image.fromarray(array).resize((wide, high), Image.Resampling.BICUBIC)),
            Drawing(wide, 5),
            Text(name, 13, 18, bold=True),
            Text(words, 12, 23),
        )
        for array, name, words in tiles
    ]
    head = Text(title, 16, 24, bold=True), Text(note, 12, 26)
    grid = Grid(shown, min(len(shown), _COLUMNS), (16, 0))
    return sheet(Column(*head, grid, least=(2 * _TILE, 0)), top=12)
