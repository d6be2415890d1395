"""Pictures of optimized images: alone, on a sheet, and beside what the data set holds.

Arrays and plain values in, pictures out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.files import atomic
from cnnlens.report.figures import _cut, _font, framed

_CELL = 176  # pixels: side of an image on a sheet
_GAP, _MARGIN, _CAPTION = 12, 20, 40
_INK, _PALE, _MARK = "#1a1a1a", "#555555", "#c95400"


def as_picture(image: np.ndarray) -> Image.Image:
    """Show an image of any number of channels: colours where they come in threes, else greys.

    Parameters
    ----------
    image : numpy.ndarray
        (C, H, W) float in [0, 1].

    Returns
    -------
    PIL.Image.Image
        RGB, or L for one channel; several groups of channels stand side by side.
    """
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(pixels) % 3:
        return Image.fromarray(np.concatenate(list(pixels), axis=1))
    threes = [pixels[at : at + 3].transpose(1, 2, 0) for at in range(0, len(pixels), 3)]
    return Image.fromarray(np.concatenate(threes, axis=1))  # (H, n * W, 3)


def of_weights(weights: np.ndarray, side: int = _CELL) -> Image.Image:
    """Draw a filter (C, h, w) as it is: grey is zero, the largest weight reaches full range."""
    largest = float(np.abs(weights).max()) or 1.0
    small = as_picture(0.5 + weights / (2 * largest)).convert("RGB")
    wide = round(side * small.width / small.height)
    return small.resize((wide, side), Image.Resampling.NEAREST)


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG, whole or not at all."""
    with atomic(path) as temporary:
        picture.save(temporary, "PNG")


@dataclass(frozen=True)
class SheetCell:
    """One picture of a sheet, with a bold and a plain line under it."""

    picture: Image.Image | Path
    name: str
    label: str = ""


def sheet(cells: Sequence[SheetCell], title: str = "", cell: int = _CELL) -> Image.Image:
    """Lay pictures out on a white sheet, about twice as wide as high.

    Parameters
    ----------
    cells : sequence of SheetCell
        In reading order.
    title : str
        Above them.
    cell : int
        Side of a picture, in pixels.
    """
    columns = max(1, min(len(cells), 12, math.ceil((2 * len(cells)) ** 0.5)))
    rows = -(-len(cells) // columns)
    top = _MARGIN + (30 if title else 0)
    wide, high = cell + _GAP, cell + _CAPTION + _GAP
    drawn = Image.new("RGB", (2 * _MARGIN + columns * wide - _GAP, top + rows * high), "white")
    draw = ImageDraw.Draw(drawn)
    room = drawn.width - 2 * _MARGIN
    heading = _font("DejaVuSans-Bold.ttf", 17)
    draw.text((_MARGIN, _MARGIN - 6), _cut(draw, title, heading, room), fill=_INK, font=heading)
    for index, one in enumerate(cells):
        x, y = _MARGIN + index % columns * wide, top + index // columns * high
        framed(drawn, _fitted(one.picture, cell), (x, y))
        bold, plain = _font("DejaVuSans-Bold.ttf", 13), _font("DejaVuSans.ttf", 12)
        draw.text((x, y + cell + 3), _cut(draw, one.name, bold, cell), fill=_INK, font=bold)
        draw.text((x, y + cell + 20), _cut(draw, one.label, plain, cell), fill=_PALE, font=plain)
    return drawn


def _fitted(source: Image.Image | Path, cell: int) -> Image.Image:
    """Bring a picture into a square cell, its proportions kept."""
    if isinstance(source, Image.Image):
        picture = source.convert("RGB")
    else:
        with Image.open(source) as opened:
            picture = opened.convert("RGB")
    factor = cell / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    sampling = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    square = Image.new("RGB", (cell, cell), "white")
    square.paste(picture.resize(size, sampling), ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return square


@dataclass(frozen=True)
class Beside:
    """What stands beside an optimized image.

    Attributes
    ----------
    weights : numpy.ndarray or None
        (C, h, w) of a first-layer filter.
    images : sequence of numpy.ndarray
        The data set's top images, (h, w, 3) uint8.
    peaks : numpy.ndarray or None
        The unit's peak on every image of the data set.
    value : float
        Its peak on the optimized image.
    data : str
        The data set's name.
    """

    weights: np.ndarray | None = None
    images: Sequence[np.ndarray] = ()
    peaks: np.ndarray | None = None
    value: float = 0.0
    data: str = ""


def beside(picture: Image.Image, title: str, found: Beside) -> Image.Image:
    """Compose one unit's row: optimized image, its weights, top images, the histogram."""
    cells = [("optimized", _fitted(picture, _CELL))]
    if found.weights is not None:
        cells.append(("its weights", _fitted(of_weights(found.weights), _CELL)))
    parts = [_captioned(name, cell) for name, cell in cells]
    if found.images:
        shown = [_fitted(Image.fromarray(image), _CELL // 2 - 4) for image in found.images]
        parts.append(_captioned(f"top images of {found.data}", _grid(shown)))
    if found.peaks is not None and found.peaks.size:
        parts.append(_captioned("its peak on each image", _histogram(found.peaks, found.value)))
    width = 2 * _MARGIN + sum(part.width for part in parts) + _GAP * (len(parts) - 1)
    drawn = Image.new("RGB", (width, parts[0].height + _MARGIN + 34), "white")
    draw, font = ImageDraw.Draw(drawn), _font("DejaVuSans-Bold.ttf", 15)
    draw.text((_MARGIN, 10), _cut(draw, title, font, width - 2 * _MARGIN), fill=_INK, font=font)
    x = _MARGIN
    for part in parts:
        drawn.paste(part, (x, 34))
        x += part.width + _GAP
    return drawn


def _captioned(text: str, picture: Image.Image) -> Image.Image:
    drawn = Image.new("RGB", (picture.width, _CELL + 20), "white")
    drawn.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(drawn), _font("DejaVuSans.ttf", 12)
    draw.text((0, _CELL + 3), _cut(draw, text, font, picture.width), fill=_PALE, font=font)
    return drawn


def _grid(cells: Sequence[Image.Image]) -> Image.Image:
    """Set square cells in two rows."""
    columns, side = -(-len(cells) // 2), cells[0].width
    drawn = Image.new("RGB", (columns * (side + 6) - 4, _CELL), "white")
    for index, cell in enumerate(cells):
        framed(drawn, cell, (1 + index % columns * (side + 6), 1 + index // columns * (side + 6)))
    return drawn


def _histogram(peaks: np.ndarray, value: float) -> Image.Image:
    """Draw how peaks spread over the data set, with the optimized image's marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9, _CELL / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.02, 0.17, 0.94, 0.68))
    low, high = min(float(peaks.min()), value), max(float(peaks.max()), value)
    edges = np.linspace(low, high if high > low else low + 1, 49)
    axes.hist(peaks, bins=edges, color="#3390c7", log=len(peaks) > 50)
    axes.axvline(value, color=_MARK, lw=1.6)
    best = float(peaks.max())
    times = f"optimized: {value:.3g}" + (f" = {value / best:.1f} × best" if best > 0 else "")
    axes.set_title(times, fontsize=8, color=_MARK, pad=3, loc="right")
    axes.set_yticks([])
    axes.minorticks_off()
    axes.tick_params(labelsize=7, length=2)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
