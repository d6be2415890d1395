"""Pictures of optimized images: alone, and on a sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.report.sheet import (
    Apart,
    Column,
    Drawing,
    Grid,
    Picture,
    Text,
    font,
    save_png,
    scaled,
)
from cnnlens.report.sheet import sheet as on_sheet
from cnnlens.voice import one_line

CELL = 176  # pixels: side of an image on a sheet


def as_picture(image: np.ndarray, opacity: np.ndarray | None = None) -> Image.Image:
    """Show an image of any number of channels: colours where they come in threes, else greys.

    Parameters
    ----------
    image : numpy.ndarray
        (C, H, W) float in [0, 1].
    opacity : numpy.ndarray, optional
        (H, W) uint8, of a picture with an alpha channel (three channels).

    Returns
    -------
    PIL.Image.Image
        RGB, or L for one channel; several groups of channels stand side by side.
    """
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(pixels) % 3:
        return Image.fromarray(np.concatenate(list(pixels), axis=1))
    threes = [pixels[at : at + 3].transpose(1, 2, 0) for at in range(0, len(pixels), 3)]
    picture = Image.fromarray(np.concatenate(threes, axis=1))  # (H, n * W, 3)
    if opacity is not None and len(threes) == 1:
        picture.putalpha(Image.fromarray(opacity))
    return picture


def read_picture(file: Path, channels: int) -> np.ndarray:
    """Read what `as_picture` drew: (C, H, W) float32 in [0, 1]."""
    with Image.open(file) as picture:
        opaque = picture.convert("RGB") if picture.mode == "RGBA" else picture
        pixels = np.asarray(opaque, np.float32) / 255  # (H, n * W) or (H, n * W, 3)
    groups = channels // 3 if pixels.ndim == 3 else channels
    apart = np.stack(np.split(pixels, groups, axis=1))  # (n, H, W) or (n, H, W, 3)
    return (
        apart if pixels.ndim == 2 else np.moveaxis(apart, 3, 1).reshape(channels, *apart.shape[1:3])
    )


def of_weights(weights: np.ndarray, side: int = CELL) -> Image.Image:
    """Draw a filter (C, h, w) as it is: grey is zero, the largest weight reaches full range."""
    largest = float(np.abs(weights).max()) or 1.0
    small = as_picture(0.5 + weights / (2 * largest)).convert("RGB")
    wide = round(side * small.width / small.height)
    return small.resize((wide, side), Image.Resampling.NEAREST)


@dataclass(frozen=True)
class SheetCell:
    """One picture of a sheet, with a bold and a plain line under it."""

    picture: Image.Image | Path
    name: str
    label: str = ""


def sheet(cells: Sequence[SheetCell], title: str = "", cell: int = CELL) -> Image.Image:
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
    shown = [
        Column(
            Column(Apart(Picture(scaled(one.picture, cell)), _said(one)), least=(cell, cell)),
            Drawing(cell, 3),
            Text(one.name, 13, 17, bold=True),
            Text(one.label, 12, 20),
        )
        for one in cells
    ]
    head = Text(title, 17, 36 if title else 6, bold=True)
    least = min(math.ceil(font(17, bold=True).getlength(one_line(title))), 4 * cell), 0
    return on_sheet(Column(head, Grid(shown, columns, (12, 12)), least=least), top=14, bottom=12)


def _said(one: SheetCell) -> str:
    return ": ".join(filter(None, (one.name, one.label)))


def title_of(entry: Mapping[str, Any]) -> str:
    """Name what an entry of ``visualize.json`` shows, for people."""
    number = f" ({entry['variant']})" if entry.get("variant") else ""
    for kind in ("class", "concept"):
        if entry.get(kind) is not None:
            return f"{entry[kind]}{number}"
    if entry["unit"] is None:
        return f"the whole layer{number}"
    at = entry.get("position")
    return f"unit {entry['unit']}" + (f" at {at[0]},{at[1]}" if at else "") + number


def write_sheet(folder: Path, entries: Iterable[Mapping[str, Any]], title: str) -> None:
    """Write ``sheet.png``: a layer's pictures by unit, with the names of what these detect."""
    ordered = sorted(entries, key=lambda e: (e["unit"] is None, e["unit"] or 0, e["file"]))
    cells = []
    for entry in ordered:
        cells.append(SheetCell(folder / entry["file"], title_of(entry), entry.get("label", "")))
        if near := entry.get("nearest"):
            away = f"{near['pixels']['distance']:.2g} away"
            cells.append(SheetCell(folder / "nearest" / entry["file"], "nearest photo", away))
    if cells:
        save_png(folder / "sheet.png", sheet(cells, title))
