"""Still pictures of a dissection: lit regions, strips, the papers' bar chart, the contact sheet.

Arrays and plain values in, pictures out; nothing here reads a workspace (`sheets` does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnlens.report.palette import colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 112  # pixels: side of one image in a strip
_DARK = 0.4  # brightness left outside the mask
_CONTOUR = np.array([255, 225, 80], np.uint8)


def lit(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Darken an image outside a mask and outline the mask, as the papers show a unit.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    mask : numpy.ndarray
        (H, W) bool, True where the unit is above its threshold.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8, a new array.

    Raises
    ------
    ValueError
        When the shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.shape[:2] != mask.shape:
        raise ValueError(f"an (H, W, 3) image and an (H, W) mask, not {image.shape}, {mask.shape}")
    inside = mask.astype(bool)
    shown = np.where(inside[..., None], image, (image * _DARK).astype(np.uint8))  # (H, W, 3)
    shown[inside & ~_eroded(inside)] = _CONTOUR
    return shown


def _eroded(mask: np.ndarray) -> np.ndarray:
    # The frame counts as inside: a mask that runs off the image has no line along its border.
    padded = np.pad(mask, 1, constant_values=True)
    vertical = padded[:-2, 1:-1] & padded[2:, 1:-1]
    return mask & vertical & padded[1:-1, :-2] & padded[1:-1, 2:]


def strip(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], cell: int = CELL
) -> Image.Image:
    """Set images side by side in square cells, each lit where its mask is.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        (H, W, 3) uint8 each, of any size.
    masks : sequence of numpy.ndarray
        (H', W') bool each, covering the same field as its image at any resolution.
    cell : int
        Side of a cell in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB, ``len(images) * cell`` wide and `cell` high, without gaps.
    """
    if not images or len(images) != len(masks):
        raise ValueError(f"{len(images)} images and {len(masks)} masks")
    cells = [
        lit(_resized(image, cell), _resized(mask.astype(np.uint8) * 255, cell) >= 128)
        for image, mask in zip(images, masks, strict=True)
    ]
    return Image.fromarray(np.concatenate(cells, axis=1))  # (cell, n * cell, 3)


def _resized(array: np.ndarray, cell: int) -> np.ndarray:
    size = (cell, cell)
    if array.shape[:2] == size:
        return array
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = category_names(summaries.values())
    bars = len(names) + 1
    figure = Figure(figsize=(max(5.0, 1.2 + 0.38 * bars * len(summaries)), 3.6), dpi=144)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    series = [*((n, c.light) for n, c in colours(names).items()), (None, "#8c8c86")]
    width = 0.8 / bars
    for index, (name, colour) in enumerate(series):
        places = np.arange(len(summaries)) - 0.4 + width * (index + 0.5)
        heights = [_unique(summary, name) for summary in summaries.values()]
        label = name if name is not None else "all, distinct best labels"
        drawn = axes.bar(places, heights, width * 0.86, color=colour, label=_plain(label))
        axes.bar_label(drawn, fmt="%d", fontsize=7, padding=2, color="#444444")
        levels = [chance_unique(summary, name) for summary in summaries.values()]
        _chance_lines(axes, places, levels, width)
    _finish_bars(axes, list(summaries))
    figure.tight_layout()
    return figure


def _finish_bars(axes: Any, layers: list[str]) -> None:
    axes.set_xticks(range(len(layers)), [_plain(name) for name in layers])
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


def _plain(text: str) -> str:
    # matplotlib reads $...$ as mathematics; a name is never that. Long names are cut.
    short = text if len(text) <= 40 else text[:39] + "…"
    return short.replace("$", r"\$")


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
    margin, gap, caption = 20, 28, 46
    columns = max(1, min(columns, len(units)))
    rows = -(-len(units) // columns)
    wide, high = images * cell, caption + cell + gap
    size = (2 * margin + columns * wide + (columns - 1) * gap, 2 * margin + rows * high - gap)
    sheet = Image.new("RGB", (size[0], max(size[1], 2 * margin)), "white")
    names = list(dict.fromkeys([*categories, *(unit.category for unit in units)]))
    paint = {name: colour.light for name, colour in colours(names).items()}
    for index, unit in enumerate(units):
        x = margin + (index % columns) * (wide + gap)
        y = margin + (index // columns) * high
        _caption(ImageDraw.Draw(sheet), (x, y), unit, paint[unit.category], wide)
        if unit.strip is not None:
            picture = _open(unit.strip)
            shown = picture.crop((0, 0, min(picture.width, wide), min(picture.height, cell)))
            sheet.paste(shown, (x, y + caption))
    return sheet


def _open(source: Image.Image | Path) -> Image.Image:
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    with Image.open(source) as picture:
        return picture.convert("RGB")


def _caption(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], unit: SheetUnit, colour: str, wide: int
) -> None:
    x, y = at
    bold, small = _font("DejaVuSans-Bold.ttf", 17), _font("DejaVuSans.ttf", 13)
    numbers = f"unit {unit.unit}   IoU {unit.iou:.3f}"
    if unit.p_value is not None:
        numbers += f"   p {format_p(unit.p_value)}"
    draw.rectangle((x, y + 4, x + 11, y + 15), fill=colour)
    label = _cut(draw, unit.label.replace("\n", " ") or "no concept", bold, wide - 20)
    draw.text((x + 18, y), label, fill="#1a1a1a", font=bold)
    kind = _cut(draw, unit.category, small, wide // 3)
    draw.text((x + 18, y + 23), f"{kind}   {numbers}".strip(), fill="#555555", font=small)


def format_p(value: float) -> str:
    """Write a p-value as papers do: two significant digits, and never 0."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def framed(sheet: Image.Image, picture: Image.Image, at: tuple[int, int]) -> None:
    """Paste a picture onto a white sheet; a hairline around it shows where a white one ends."""
    x, y = at
    line = (x - 1, y - 1, x + picture.width, y + picture.height)
    ImageDraw.Draw(sheet).rectangle(line, outline="#dcdcdc")
    sheet.paste(picture, at)


def _cut(draw: ImageDraw.ImageDraw, text: str, font: Any, wide: int) -> str:
    while text and draw.textlength(text, font=font) > wide:
        text = text[: max(len(text) - 2, 0) if text.endswith("…") else len(text) - 1].rstrip() + "…"
        if text == "…":
            break
    return text


def _font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size)
