"""Pictures of a dissection: a strip per unit, the sheet of detectors, the papers' bar chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import counted
from cnnlens.files import atomic
from cnnlens.measure.compared import data_name
from cnnlens.measure.comparison import MARKS
from cnnlens.measure.masks import mask
from cnnlens.measure.top import TopImages
from cnnlens.model.alone import Helpers
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.blocks import format_p
from cnnlens.report.dissect_files import read_dissection, read_summaries
from cnnlens.report.dissect_result import Unit
from cnnlens.report.figures import CELL, as_seen, colours, new_figure, save_figure, short
from cnnlens.report.sheet import (
    PACKED,
    Column,
    Drawing,
    Grid,
    Picture,
    Row,
    Text,
    cut,
    opened,
    sheet,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEET_UNITS = 12
_DIM = 0.7  # brightness left outside the mask
_CONTOUR = np.array([255, 225, 80], np.uint8)
_GROUP = 256  # units drawn at once: their strips stay in memory until all their images were read


def write_strips(
    folder: Path,
    images: ImageSet,
    top: TopImages,
    thresholds: np.ndarray,
    preprocess: Preprocess,
    workers: int = 4,
) -> Iterator[int]:
    """Write ``<unit>.webp`` for every unit; yield how many are there, after each group of units.

    Each shows the unit's top images as the network saw them (`preprocess`: cropped or squashed),
    lit where its map exceeds its threshold; `thresholds` are (C,), `workers` are threads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units = len(thresholds)
    with Helpers(max(1, workers)) as pool:
        for start in range(0, units, _GROUP):
            group = range(start, min(start + _GROUP, units))
            cells = _cells(pool, images, top, thresholds, preprocess, group)
            list(pool.map(lambda unit, drawn=cells: _save(folder, unit, drawn[unit]), group))
            yield group.stop


Cells = dict[int, dict[int, np.ndarray]]  # unit -> rank -> (CELL, CELL, 3) uint8


def _cells(
    pool: Helpers,
    images: ImageSet,
    top: TopImages,
    thresholds: np.ndarray,
    preprocess: Preprocess,
    group: range,
) -> Cells:
    """Draw all cells of a group of units, reading every image once."""
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for unit in group:
        for rank, position in enumerate(top.positions[unit]):
            if position >= 0:
                wanted[int(position)].append((unit, rank))
    cells: Cells = {unit: {} for unit in group}

    def draw(position: int) -> None:
        seen = as_seen(images, position, preprocess)
        for unit, rank in wanted[position]:
            bright = mask(top.maps[unit, rank], float(thresholds[unit]), (CELL, CELL))
            cells[unit][rank] = lit(seen, bright)

    list(pool.map(draw, sorted(wanted)))
    return cells


def _save(folder: Path, unit: int, cells: dict[int, np.ndarray]) -> None:
    if cells:
        strip = np.concatenate([cells[rank] for rank in sorted(cells)], axis=1)
        Image.fromarray(strip).save(folder / f"{unit}.webp", quality=72, method=2)


def lit(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Outline a mask (H, W) on an image (H, W, 3), which is mildly shaded outside it.

    Raises
    ------
    ValueError
        When the shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.shape[:2] != mask.shape:
        raise ValueError(f"an (H, W, 3) image and an (H, W) mask, not {image.shape}, {mask.shape}")
    inside = mask.astype(bool)
    shown = np.where(inside[..., None], image, (image * _DIM).astype(np.uint8))  # (H, W, 3)
    shown[inside & ~_eroded(_eroded(inside))] = _CONTOUR
    return shown


def _eroded(mask: np.ndarray) -> np.ndarray:
    # The frame counts as inside: a mask that runs off the image has no line along its border.
    left = mask.copy()
    left[1:] &= mask[:-1]
    left[:-1] &= mask[1:]
    left[:, 1:] &= mask[:, :-1]
    left[:, :-1] &= mask[:, 1:]
    return left


def write_detectors(folder: Path, units: int = SHEET_UNITS, distinct: bool = False) -> Path | None:
    """Write ``detectors.png`` into the folder of a dissected layer: its best units, at most so
    many, with their top images; of each concept the best unit alone where `distinct`.

    Returns the picture, None where no unit has both a label and a strip. Raises `CnnlensError`
    when a file is damaged or the picture cannot be written.
    """
    layer = read_dissection(folder)
    shown = [unit for unit in layer.best() if unit.label and unit.picture]
    if distinct:
        best = {(unit.label, unit.category): unit for unit in reversed(shown)}
        shown = [unit for unit in shown if best[unit.label, unit.category] is unit]
    shown = shown[:units]
    if not shown:
        return None
    path = folder / "detectors.png"
    with atomic(path) as temporary:
        contact_sheet(shown, categories=layer.categories).save(
            temporary, "PNG", compress_level=PACKED
        )
    return path


def write_summary_bars(workspace: Path) -> Path | None:
    """Write ``dissect/summary.png``, the papers' bar chart over all dissected layers, and return
    it; None where nothing has been dissected.
    """
    found = read_summaries(workspace)
    if not found:
        return None
    path = workspace / "dissect" / "summary.png"
    save_figure(category_bars(found), path)
    return path


def contact_sheet(
    units: Sequence[Unit], columns: int = 2, images: int = 5, categories: Sequence[str] = ()
) -> Image.Image:
    """Lay out units on a white sheet, with so many top images each; `categories` fix colours."""
    names = list(dict.fromkeys([*categories, *(unit.category for unit in units)]))
    paint = {name: colour.light for name, colour in colours(names).items()}
    size = images * CELL, CELL
    shown = [
        Column(_caption(unit, paint[unit.category], size[0]), _strip(unit.picture, *size))
        for unit in units
    ]
    return sheet(Grid(shown, max(1, min(columns, len(units))), (28, 28)))


def _strip(source: Path | None, wide: int, high: int) -> Column:
    """Show as much of a strip as there is room for."""
    parts = []
    if source is not None:
        picture = opened(source)
        shown = picture.crop((0, 0, min(picture.width, wide), min(picture.height, high)))
        parts.append(Picture(shown, frame=False))
    return Column(*parts, least=(wide, high))


def _caption(unit: Unit, colour: str, wide: int) -> Row:
    numbers = f"unit {unit.unit}   IoU {unit.iou:.3f}"
    if unit.p_value is not None:
        numbers += f"   p {format_p(unit.p_value)}"
    label = unit.label.replace("\n", " ") or "no concept"
    kind = f"{cut(unit.category, wide // 3, 13)}   {numbers}".strip()

    def swatch(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        pen.rectangle((x, y + 4, x + 11, y + 15), fill=colour)

    lines = Text(label, 17, 23, bold=True, wide=wide - 20), Text(kind, 13, 23, wide=wide - 18)
    return Row(Drawing(18, 46, swatch), Column(*lines))


def category_bars(summaries: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw unique detectors by category, one group of bars per layer, as in the papers.

    Of each layer's ``summary.json``, ``per_category`` gives the bars and ``chance`` the lines: per
    category where it says so, else one for the layer's distinct concepts. Where layers were
    dissected differently, each says how below its name, and a title that their bars do not compare.
    """
    every = (name for summary in summaries.values() for name in summary.get("per_category") or {})
    names = list(dict.fromkeys(every))
    bars = len(names) + 1
    figure = new_figure(max(5.0, 1.2 + 0.38 * bars * len(summaries)), 3.6, dpi=144)
    axes = figure.add_subplot()
    series = [*((n, c.light) for n, c in colours(names).items()), (None, "#8c8c86")]
    width = 0.8 / bars
    for index, (name, colour) in enumerate(series):
        places = np.arange(len(summaries)) - 0.4 + width * (index + 0.5)
        heights = [count_of(summary, name) or 0 for summary in summaries.values()]
        label = name if name is not None else "all, distinct best labels"
        drawn = axes.bar(places, heights, width * 0.86, color=colour, label=short(label, 40))
        axes.bar_label(drawn, fmt="%d", fontsize=7, padding=2, color="#444444")
        levels = [count_of(summary.get("chance"), name) for summary in summaries.values()]
        _chance_lines(axes, places, levels, width)
    _finish_bars(axes, summaries)
    figure.tight_layout()
    return figure


def _finish_bars(axes: Any, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    _, apart = differing(summaries)
    names = ["\n".join([short(name, 40), *map(short, apart[name])]) for name in summaries]
    axes.set_xticks(range(len(names)), names)
    if said := unlike(summaries):
        axes.set_title(said, fontsize=9)
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


def count_of(
    counts: Mapping[str, Any] | None, category: str | None, what: str = "unique_detectors"
) -> float | None:
    """Look up a count in a summary or its chance: of a category, or (None) of all together."""
    if counts and category is not None:
        counts = (counts.get("per_category") or {}).get(category)
    return (counts or {}).get(what)


def differing(
    summaries: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], dict[str, list[str]]]:
    """Say in what layers were not dissected alike, and how each one was in that: words by layer."""
    told = {name: told_of(summary) for name, summary in summaries.items()}
    keys = dict.fromkeys(key for one in told.values() for key in one)
    differ = [key for key in keys if len({one[key] for one in told.values()}) > 1]
    return differ, {n: [*filter(None, map(one.get, differ))] for n, one in told.items()}


def unlike(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say that layers were not dissected alike, so that their counts do not compare; else ""."""
    if {*differing(summaries)[0]} - {"shuffles"}:  # more make chance surer, and change no count
        return "Not dissected alike: bars of these layers do not compare"
    seen = {tuple(map((s.get("made_from") or {}).get, MARKS)) for s in summaries.values()}
    return "" if len(seen) < 2 else "Not of one state of images and labels: bars do not compare"


def told_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """Say how a layer was dissected: words by what they are about, empty where it is usual."""
    made_from, quantile = summary.get("made_from") or {}, summary.get("quantile")
    settings = made_from.get("settings") or {}
    shuffles = (summary.get("chance") or {}).get("shuffles")
    return {
        "data": f"on {Path(data_name(summary)).name}",
        "quantile": "" if quantile is None else f"highest {100 * quantile:g} %",
        "min_iou": f"IoU from {summary.get('min_iou', 0.04)}",
        "shuffles": counted(shuffles, "shuffle") if shuffles else "",
        "compat": f"as {settings['compat']}" if settings.get("compat") else "",
    }
