"""Still pictures of a dissection: the papers' bar chart, the sheet of detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from cnnlens.files import atomic
from cnnlens.report.dissect_files import read_dissection, read_dissections
from cnnlens.report.figures import new_figure, save_figure, short
from cnnlens.report.figures.strips import CELL
from cnnlens.report.palette import colours
from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Row, Text, cut, opened, sheet

SHEET_UNITS = 12


def write_detectors(folder: Path, units: int = SHEET_UNITS, distinct: bool = False) -> Path | None:
    """Write ``detectors.png``: the best units of one layer with their top images.

    Parameters
    ----------
    folder : pathlib.Path
        ``WORKSPACE/dissect/<layer>``, with its tables and pictures in place.
    units : int
        How many units to show at most.
    distinct : bool
        Only the best unit of each concept.

    Returns
    -------
    pathlib.Path or None
        The picture; None where no unit has both a label and a strip.

    Raises
    ------
    CnnlensError
        When a file is damaged or the picture cannot be written.
    """
    layer = read_dissection(folder)
    shown = [
        SheetUnit(u.unit, u.label, u.category, u.iou, u.p_value, u.picture)
        for u in layer.best()
        if u.label and u.picture
    ]
    if distinct:
        best = {(unit.label, unit.category): unit for unit in reversed(shown)}
        shown = [unit for unit in shown if best[unit.label, unit.category] is unit]
    shown = shown[:units]
    if not shown:
        return None
    path = folder / "detectors.png"
    with atomic(path) as temporary:
        contact_sheet(shown, categories=layer.categories).save(temporary, "PNG", optimize=True)
    return path


def write_summary_bars(workspace: Path) -> Path | None:
    """Write ``dissect/summary.png``: the papers' bar chart over all dissected layers.

    Returns
    -------
    pathlib.Path or None
        The picture; None where nothing has been dissected.
    """
    layers = read_dissections(workspace)
    if not layers:
        return None
    path = workspace / "dissect" / "summary.png"
    figure = category_bars({layer.name: layer.summary for layer in layers})
    save_figure(figure, path)
    return path


@dataclass(frozen=True)
class SheetUnit:
    """One unit of a contact sheet; `strip` is a picture or a path to one, or None."""

    unit: int
    label: str
    category: str
    iou: float
    p_value: float | None = None
    strip: Image.Image | Path | None = None


def contact_sheet(
    units: Sequence[SheetUnit],
    columns: int = 2,
    images: int = 5,
    cell: int = CELL,
    categories: Sequence[str] = (),
) -> Image.Image:
    """Lay out units with label, IoU, p-value and top images on one white sheet.

    Parameters
    ----------
    units : sequence of SheetUnit
        In reading order.
    columns : int
        Units side by side.
    images : int
        Cells of each strip that are shown.
    cell : int
        Side of a cell in pixels, in the strips and on the sheet.
    categories : sequence of str
        All categories in the data's order, so that colours agree with other figures.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    names = list(dict.fromkeys([*categories, *(unit.category for unit in units)]))
    paint = {name: colour.light for name, colour in colours(names).items()}
    size = images * cell, cell
    shown = [
        Column(_caption(unit, paint[unit.category], size[0]), _strip(unit.strip, *size))
        for unit in units
    ]
    return sheet(Grid(shown, max(1, min(columns, len(units))), (28, 28)))


def _strip(source: Image.Image | Path | None, wide: int, high: int) -> Column:
    """Show as much of a strip as there is room for."""
    parts = []
    if source is not None:
        picture = opened(source)
        shown = picture.crop((0, 0, min(picture.width, wide), min(picture.height, high)))
        parts.append(Picture(shown, frame=False))
    return Column(*parts, least=(wide, high))


def _caption(unit: SheetUnit, colour: str, wide: int) -> Row:
    numbers = f"unit {unit.unit}   IoU {unit.iou:.3f}"
    if unit.p_value is not None:
        numbers += f"   p {format_p(unit.p_value)}"
    label = unit.label.replace("\n", " ") or "no concept"
    kind = f"{cut(unit.category, wide // 3, 13)}   {numbers}".strip()

    def swatch(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        pen.rectangle((x, y + 4, x + 11, y + 15), fill=colour)

    lines = Text(label, 17, 23, bold=True, wide=wide - 20), Text(kind, 13, 23, wide=wide - 18)
    return Row(Drawing(18, 46, swatch), Column(*lines))


def format_p(value: float) -> str:
    """Write a p-value as papers do: two significant digits, and never 0."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def category_bars(summaries: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw unique detectors by category, one group of bars per layer, as in the papers.

    Parameters
    ----------
    summaries : mapping of str to mapping
        Layer to its ``summary.json``. ``per_category`` gives the bars; ``chance`` gives the lines:
        per category where it says so, else one for the layer's distinct concepts.

    Returns
    -------
    matplotlib.figure.Figure
        With its own Agg canvas; pyplot and its global state stay untouched.
    """
    names = category_names(summaries.values())
    bars = len(names) + 1
    figure = new_figure(max(5.0, 1.2 + 0.38 * bars * len(summaries)), 3.6, dpi=144)
    axes = figure.add_subplot()
    series = [*((n, c.light) for n, c in colours(names).items()), (None, "#8c8c86")]
    width = 0.8 / bars
    for index, (name, colour) in enumerate(series):
        places = np.arange(len(summaries)) - 0.4 + width * (index + 0.5)
        heights = [_unique(summary, name) for summary in summaries.values()]
        label = name if name is not None else "all, distinct best labels"
        drawn = axes.bar(places, heights, width * 0.86, color=colour, label=short(label, 40))
        axes.bar_label(drawn, fmt="%d", fontsize=7, padding=2, color="#444444")
        levels = [chance_unique(summary, name) for summary in summaries.values()]
        _chance_lines(axes, places, levels, width)
    _finish_bars(axes, list(summaries))
    figure.tight_layout()
    return figure


def _finish_bars(axes: Any, layers: list[str]) -> None:
    axes.set_xticks(range(len(layers)), [short(name, 40) for name in layers])
    axes.set_ylabel("unique detectors")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _chance_lines(axes: Any, places: np.ndarray, levels: list[float | None], width: float) -> None:
    for place, level in zip(places, levels, strict=True):
        if level is not None:
            half = width * 0.48
            axes.hlines(level, place - half, place + half, color="white", lw=3, zorder=3)
            line = axes.hlines(level, place - half, place + half, color="black", lw=1.2, zorder=4)
            if not any(h == "chance" for h in axes.get_legend_handles_labels()[1]):
                line.set_label("chance")


def category_names(summaries: Any) -> list[str]:
    """List the categories of several summaries, each once, in the order they are met."""
    names: dict[str, None] = {}
    for summary in summaries:
        names.update(dict.fromkeys(summary.get("per_category") or {}))
    return list(names)


def _unique(summary: Mapping[str, Any], category: str | None) -> int:
    if category is None:
        return int(summary.get("unique_detectors") or 0)
    row = (summary.get("per_category") or {}).get(category) or {}
    return int(row.get("unique_detectors") or 0)


def chance_unique(summary: Mapping[str, Any], category: str | None) -> float | None:
    """Look up the chance level of unique detectors, of a category or (None) of all together."""
    chance = summary.get("chance") or {}
    if category is not None:
        chance = (chance.get("per_category") or {}).get(category) or {}
    return chance.get("unique_detectors")
