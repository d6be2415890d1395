"""A unit's projections as a picture: Zeiler and Fergus' blocks of 3 × 3.

Left the patches of the images, in the middle what of them drove the unit (grey is zero), right the
patches masked by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Box, Fields, field_box, shown_box
from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Row, Text, save_png, sheet

_SIDE = 456  # pixels: one block
_LINE = 3  # between cells
_GREY = 128
_DIM = 0.12  # what is left of an image where nothing drove the unit
TITLES = ("image patches", "what drove the unit", "patches masked by it")


class Patch(NamedTuple):
    """An image at a unit's receptive field, (h, w, 3) uint8, and its projection, float32."""

    image: np.ndarray
    projection: np.ndarray


def save_unit(
    path: Path,
    fields: Fields,
    preprocess: Preprocess,
    seen: Sequence[tuple[np.ndarray, np.ndarray, tuple[int, int]]],
    title: str,
    notes: Sequence[str],
) -> list[Box]:
    """Cut a unit's receptive fields out of images and projections, and write the picture.

    Parameters
    ----------
    path : pathlib.Path
        The PNG.
    fields : (Field, Field)
        Of the unit's layer.
    preprocess : Preprocess
        Of the network.
    seen : sequence of (pixels, projection, position)
        (C, H, W) uint8, (C, H, W) float32, and (row, column) in the unit's map.
    title : str
        The unit.
    notes : sequence of str
        A line under the title, and one under the blocks.

    Returns
    -------
    list of Box
        The receptive fields, clipped to the image.
    """
    size, patches, boxes = preprocess.size, [], []
    for pixels, projection, position in seen:
        boxes.append(field_box(fields, position, size))
        shown = shown_box(fields, position, size)
        rows, columns = slice(shown.top, shown.bottom), slice(shown.left, shown.right)
        image = np.broadcast_to(pixels, (3, *size)).transpose(1, 2, 0)
        colours = as_colours(projection, preprocess.bgr)
        patches.append(Patch(image[rows, columns], colours[rows, columns]))
    save_png(path, draw(patches, title, notes))
    return boxes


def as_colours(projection: np.ndarray, bgr: bool = False) -> np.ndarray:
    """Bring a projection (C, H, W) in a network's input plane to colours (H, W, 3) float32.

    One channel is grey; colours that are repeated to fill more channels are added up. A network
    may take blue first.
    """
    planes = projection[::-1] if bgr else projection
    if len(planes) < 3:
        planes = np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
    colours = np.stack([planes[c::3].sum(0) for c in range(3)], axis=-1)
    return colours.astype(np.float32)


def signed(projection: np.ndarray) -> np.ndarray:
    """Show a projection (h, w, 3): zero is grey, its strongest pixels reach black and white."""
    scale = _strength(np.abs(projection))
    share = np.clip(projection / scale, -1, 1) if scale else np.zeros_like(projection)
    return np.rint(_GREY + 127 * share).astype(np.uint8)


def masked(image: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Let an image (h, w, 3) uint8 fade to grey where a projection (h, w, 3) is weak."""
    weight = np.abs(projection).max(axis=2)  # (h, w)
    weight = gaussian_filter(weight, max(weight.shape) / 40, mode="constant")
    scale = float(np.quantile(weight[weight > 0], 0.97)) if weight.any() else 0.0
    light = np.sqrt(np.clip(weight / scale, 0, 1)) if scale else np.zeros_like(weight)
    kept = (_DIM + (1 - _DIM) * light)[..., None]
    return np.rint(_GREY + (image.astype(np.float32) - _GREY) * kept).astype(np.uint8)


def _strength(values: np.ndarray) -> float:
    """The highest value but for a few outliers, which would leave all else grey."""
    return float(np.quantile(values, 0.999)) or float(values.max(initial=0))


def draw(patches: Sequence[Patch], title: str, notes: Sequence[str]) -> Image.Image:
    """Lay out a unit's patches in three square blocks; nine make blocks of 3 × 3.

    `notes` are a line under the title, and one under the blocks.
    """
    columns = max(1, math.ceil(math.sqrt(len(patches))))
    cell = (_SIDE - _LINE * (columns - 1)) // columns
    kinds = (
        [p.image for p in patches],
        [signed(p.projection) for p in patches],
        [masked(p.image, p.projection) for p in patches],
    )
    blocks = []
    for name, arrays in zip(TITLES, kinds, strict=True):
        cells = [Picture(_fitted(array, cell)) for array in arrays]
        grid = Column(Grid(cells, columns, (_LINE, _LINE)), least=(_SIDE, cell))
        blocks.append(Column(Text(name, 13, 26), grid))
    above, below = notes
    head = Text(title, 18, 25, bold=True), Text(above, 13, 25)
    foot = Drawing(0, 16), Text(below, 13, 30)
    return sheet(Column(*head, Row(*blocks, gap=24), *foot), top=12, bottom=0)


def _fitted(array: np.ndarray, cell: int) -> Image.Image:
    """Scale a patch into a square cell, its shape kept, grey around it."""
    factor = cell / max(array.shape[:2])
    size = [max(1, round(side * factor)) for side in (array.shape[1], array.shape[0])]
    picture = Image.fromarray(array).resize((size[0], size[1]), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (cell, cell), (_GREY, _GREY, _GREY))
    square.paste(picture, ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return square
