"""What of an image drove a unit or a class: projections in blocks, class maps over the image.

A unit's projections are Zeiler and Fergus' blocks of 3 × 3: left the patches of the images, in the
middle what of them drove the unit (grey is zero), right the patches masked by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.attribution.projections import Patch, UnitProjections
from cnnlens.model.layer import Layer
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Box, field_box
from cnnlens.report.blocks import reach
from cnnlens.report.method_names import SHOWN, USUALLY_SHOWN
from cnnlens.report.sheet import (
    Apart,
    Column,
    Drawing,
    Grid,
    Picture,
    Row,
    Text,
    centred,
    save_png,
    sheet,
)

_SIDE = 456  # pixels: one block of projections
_LINE = 3  # between its cells
_GREY = 128
_DIM = 0.12  # what is left of an image where nothing drove the unit

_TILE = 300  # pixels: longer side of a class map
_MOST = 0.8  # opacity of the heat where it is highest
_COLUMNS = 4


# -- projections of a unit -----------------------------------------------------------------------


def save_unit(
    path: Path, found: UnitProjections, layer: Layer, preprocess: Preprocess, images: str
) -> list[Box]:
    """Draw a unit's projections at its receptive fields, and write the picture.

    `images` says what images they are, for people. Returned are the receptive fields, clipped to
    the image.
    """
    at = found.at
    title = f"{layer.name} unit {found.unit}" + (f" at {at[0]},{at[1]}" if at else "")
    head = f"{images}   activation {reach([one.activation for one in found.seen])}"
    if found.dead:
        title, head = f"{title} — dead", f"{found.dead}: there is nothing to project"
    start = "that position" if at else "the peak"
    start = "the whole map" if found.settings.whole_map else start
    foot = f"{found.settings.method} from {start}; grey is 0, each projection on its own scale"
    if found.unruled:
        foot += f"; plain gradient through {found.unruled}"
    patches = [one.patch(layer.fields, preprocess) for one in found.seen]
    middle = SHOWN.get(found.settings.method, USUALLY_SHOWN)
    save_png(path, draw_unit(patches, title, (head, foot), middle))
    return [field_box(layer.fields, one.position, preprocess.size) for one in found.seen]


def signed(projection: np.ndarray) -> np.ndarray:
    """Show a projection (h, w, 3): zero is grey, its strongest pixels reach black and white.

    A few outliers, which would leave all else grey, are cut.
    """
    strength = np.abs(projection)
    scale = float(np.quantile(strength, 0.999)) or float(strength.max(initial=0))
    share = np.clip(projection / scale, -1, 1) if scale else np.zeros_like(projection)
    return np.rint(_GREY + 127 * share).astype(np.uint8)


def masked(image: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Let an image (h, w, 3) uint8 fade to grey where a projection (h, w, 3) is weak."""
    from scipy.ndimage import gaussian_filter

    weight = np.abs(projection).max(axis=2)  # (h, w)
    weight = gaussian_filter(weight, max(weight.shape) / 40, mode="constant")
    scale = float(np.quantile(weight[weight > 0], 0.97)) if weight.any() else 0.0
    light = np.sqrt(np.clip(weight / scale, 0, 1)) if scale else np.zeros_like(weight)
    kept = (_DIM + (1 - _DIM) * light)[..., None]
    return np.rint(_GREY + (image.astype(np.float32) - _GREY) * kept).astype(np.uint8)


def draw_unit(
    patches: Sequence[Patch], title: str, notes: tuple[str, str], middle: str = USUALLY_SHOWN
) -> Image.Image:
    """Lay out a unit's patches in three square blocks; nine make blocks of 3 × 3.

    `notes` are a line under the title, and one under the blocks; `middle` says what the projections
    show.
    """
    columns = max(1, math.ceil(math.sqrt(len(patches))))
    cell = (_SIDE - _LINE * (columns - 1)) // columns
    kinds = (
        [p.image for p in patches],
        [signed(p.projection) for p in patches],
        [masked(p.image, p.projection) for p in patches],
    )
    blocks = []
    titles = "image patches", middle, "patches masked by it"
    for name, arrays in zip(titles, kinds, strict=True):
        cells = [Picture(in_cell(array, cell)) for array in arrays]
        apart = Apart(Grid(cells, columns, (_LINE, _LINE)), name)
        grid = Column(apart, least=(_SIDE, cell))
        blocks.append(Column(Text(name, 13, 26), grid))
    above, below = notes
    head = Text(title, 18, 25, bold=True), Text(above, 13, 25)
    foot = Drawing(0, 16), Text(below, 13, 30)
    return sheet(Column(*head, Row(*blocks, gap=24), *foot), top=12, bottom=0)


def in_cell(array: np.ndarray, cell: int) -> Image.Image:
    """Scale a patch into a square cell, its shape kept, grey around it."""
    return centred(_scaled(array, cell), cell, (_GREY, _GREY, _GREY))


def _scaled(array: np.ndarray, side: int) -> Image.Image:
    """Scale (H, W, 3) uint8 to a longer side in pixels."""
    factor = side / max(array.shape[:2])
    high, wide = (max(1, round(length * factor)) for length in array.shape[:2])
    return Image.fromarray(array).resize((wide, high), Image.Resampling.BICUBIC)


# -- class maps of an image ----------------------------------------------------------------------


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """An image (C, H, W) as (H, W, 3) uint8: of other than three channels, the first as grey."""
    if pixels.dtype != np.uint8:  # of many bands, in [0, 1]
        pixels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    colours = pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)
    return colours.transpose(1, 2, 0)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay what is positive of a map (h, w) over an image (H, W, 3) uint8, both as they are.

    The warmer, the more it speaks for the class. The map is resampled; what is not positive stays
    grey.
    """
    from matplotlib import colormaps

    height, width = image.shape[:2]
    large = Image.fromarray(heat.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    highest = float(heat.max())
    share = np.clip(np.asarray(large) / highest, 0, 1) if highest > 0 else np.zeros((height, width))
    paint = colormaps["turbo"](0.5 + 0.45 * share)[..., :3] * 255  # (H, W, 3)
    opacity = (_MOST * share)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    under = 0.55 * grey + 0.45 * image
    return np.rint(under * (1 - opacity) + paint * opacity).astype(np.uint8)


def draw_classes(
    image: np.ndarray,
    maps: np.ndarray,
    classes: Sequence[Mapping[str, Any]],
    title: str,
    note: str,
) -> Image.Image:
    """Lay out an image and its class maps side by side, title and note above.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8, as the network saw it.
    maps : numpy.ndarray
        (K, h, w) float32, at the layer's own size.
    classes : sequence of mapping
        "name", "score" and "probability" (None where there is none) of each.
    """
    tiles = [(image, "the image", "as the network saw it")]
    for heat, one in zip(maps, classes, strict=True):
        share = "" if one["probability"] is None else f"   {one['probability']:.1%}"
        words = f"score {one['score']:.4g}{share}"
        tiles.append((overlay(image, heat), one["name"], words))
    shown = []
    for array, name, words in tiles:
        tile = _scaled(array, _TILE)
        texts = Text(name, 13, 18, bold=True), Text(words, 12, 23)
        apart = Apart(Picture(tile), f"{name}: {words}")
        shown.append(Column(apart, Drawing(tile.width, 5), *texts))
    head = Text(title, 16, 24, bold=True), Text(note, 12, 26)
    grid = Grid(shown, min(len(shown), _COLUMNS), (16, 0))
    return sheet(Column(*head, grid, least=(2 * _TILE, 0)), top=12)
