"""Units over a training: a column of patches and projections per checkpoint, and all on a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.attribution.projections import Patch
from cnnlens.errors import plain
from cnnlens.files import atomic
from cnnlens.report.figures.attribution import in_cell, signed
from cnnlens.report.sheet import (
    Apart,
    Column,
    Drawing,
    Grid,
    Picture,
    Row,
    Text,
    save_png,
    sheet,
)

MOST = 1000  # units of a layer
_CELL = 96  # pixels: side of a patch
_HIGHEST = 16_000  # pixels that a WebP may be high
_ACROSS = 9  # checkpoints in a line of a unit's own picture
_GREY = (128, 128, 128)
_MARK = (201, 84, 0)  # above what has jumped


def side(units: int) -> int:
    """Side of a patch in a column of so many units, in pixels."""
    return min(_CELL, _HIGHEST // units)


def draw_column(patches: Sequence[Patch | None]) -> Image.Image:
    """Put units below each other: left the patch, right its projection; None is a dead unit."""
    cell = side(len(patches))
    column = Image.new("RGB", (2 * cell, cell * len(patches)), _GREY)
    for row, patch in enumerate(patches):
        if patch is not None:
            pair = (patch.image, signed(patch.projection))
            for place, array in enumerate(pair):
                column.paste(in_cell(np.ascontiguousarray(array), cell), (place * cell, row * cell))
    return column


def save_column(path: Path, patches: Sequence[Patch | None]) -> None:
    """Write what `draw_column` draws."""
    with atomic(path) as temporary:
        draw_column(patches).save(temporary, "WEBP", quality=90, method=2)


def save_sheets(folder: Path, document: Mapping[str, Any]) -> None:
    """Draw units × checkpoints (``sheet.png``), and each unit's row (``<unit>.png``).

    Parameters
    ----------
    folder : pathlib.Path
        Of the layer, with its columns.
    document : mapping
        ``evolve.json``.
    """
    moments = document["checkpoints"]
    units = [one["unit"] for one in moments[0]["units"]]
    pairs = [_pairs(folder / one["picture"], one["units"]) for one in moments]
    heads = [(called(one), f"{one['dead_units']} dead") for one in moments]
    columns = [
        Column(Text(name, 12, 18, bold=True), Text(dead, 11, 18), Grid(column, 1, (0, 4)))
        for (name, dead), column in zip(heads, pairs, strict=True)
    ]
    cell = side(len(units))
    names = [Text(f"unit {unit}", 12, cell, bold=True, wide=64) for unit in units]
    rows = Row(Column(Text("", 12, 36), Grid(names, 1, (0, 4))), *columns, gap=10)
    title = f"{document['layer']}: what excites its units most, and what of it drove them"
    foot = Drawing(0, 8), Text("orange: another image than at the checkpoint before", 12, 20)
    save_png(folder / "sheet.png", sheet(Column(Text(title, 16, 28, bold=True), rows, *foot)))
    for row, unit in enumerate(units):
        told = [(name, one["units"][row]) for (name, _), one in zip(heads, moments, strict=True)]
        parts = [
            Column(Text(name, 12, 18, bold=True), Apart(column[row], f"{name}: {said_of(one)}"))
            for column, (name, one) in zip(pairs, told, strict=True)
        ]
        save_png(folder / f"{unit}.png", sheet(Grid(parts, _ACROSS, (10, 10)), 4, 4, 4))


def called(moment: Mapping[str, Any]) -> str:
    """Name a checkpoint for people: by its epoch, else by its file."""
    epoch = moment["epoch"]
    return str(moment["file"]) if epoch is None else f"epoch {epoch:g}"


def said_of(unit: Mapping[str, Any]) -> str:
    """Say in a line what is known of a unit at a checkpoint."""
    if unit["top_image"] is None:
        return "dead"
    r, label = unit["correlation_with_last"], unit.get("label")
    words = [
        f"peak {plain(unit['peak'])}",
        "r not defined" if r is None else f"r {r:.2f}",
        "jumped" if unit["jumped"] else "",
        f"{'' if unit['is_detector'] else 'at best '}{label} (IoU {unit['iou']:.2g})"
        if label
        else "",
        unit["top_image"],
    ]
    return ", ".join(filter(None, words))


def _pairs(path: Path, units: Sequence[Mapping[str, Any]]) -> list[Picture]:
    with Image.open(path) as column:
        strip = column.convert("RGB")
    cell, pairs = side(len(units)), []
    for row, unit in enumerate(units):
        pair = strip.crop((0, row * cell, 2 * cell, (row + 1) * cell))
        if unit["jumped"]:
            pair.paste(_MARK, (0, 0, 2 * cell, 3))
        pairs.append(Picture(pair, frame=False))
    return pairs
