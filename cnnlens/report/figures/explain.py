"""The picture of one explained image: what was seen, and its path down its category's filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.cluster.decision_path import Evidence, Explanation
from cnnlens.report.figures import save_image
from cnnlens.report.figures.attribution import as_rgb, overlay
from cnnlens.report.sheet import (
    MARK,
    PALE,
    Column,
    Drawing,
    Part,
    Picture,
    Row,
    Text,
    font,
    sheet,
)  # fmt: skip

_TILE, _CELL, _GAP, _MARGIN = 224, 56, 6, 22
_ROW, _TEXT, _CHART = _CELL + 26, 250, 170
_BAR = "#b9c9d6"
_BINS = 24
_TOP = 5  # images of the data at a split


def save_explained(path: Path, *what: Any) -> None:
    """Write the picture of one explained image, see `draw_explained`."""
    save_image(path, draw_explained(*what), "PNG", optimize=True)


def draw_explained(
    found: Explanation,
    pixels: np.ndarray,
    name: str,
    layer: str,
    detects: Mapping[int, str],
    as_seen: Callable[[int, int], np.ndarray],
) -> Image.Image:
    """Lay out one explained image, as RGB.

    Its `pixels` are (C, H, W) uint8; image and layer have a `name`. `detects` says what filters
    detect, where that is known; `as_seen` gives an image of the data as the network sees it, by
    row and side: (side, side, 3) uint8.
    """
    rgb = as_rgb(pixels)
    seen, predicted = [*_tile(rgb, "as the network saw it")], ""
    if prediction := found.prediction:
        seen += _tile(overlay(rgb, prediction.heat), f"Grad-CAM: {prediction.name}")
        predicted = f"predicted {prediction.name} ({prediction.probability:.1%})"
    nearest = f"ends here, at distance {found.path.distance:.3f}"
    seen += _tile(as_seen(found.leaf, 224), nearest)
    chosen = found.path.main_splits(found.tree)
    splits = [_split(found, number, detects, as_seen) for number in chosen]
    wide = _TEXT + _CHART + _MARGIN + _TOP * (_CELL + _GAP)
    more = len(found.path.splits) - len(chosen)
    last = Text(f"{more} further forks stand in the JSON" if more else "", 12, 26, wide=wide)
    path = Column(*splits, Drawing(wide, 4), last, least=(wide, 0))
    note = (
        f"its way down the filters of {found.category} in {layer}; the line marks its activation "
        "among the category's"
    )
    head = Text(f"{name}: {predicted}".rstrip(": "), 17, 25, bold=True), Text(note, 12, 35)
    body = Row(Column(*seen), path, gap=2 * _MARGIN)
    return sheet(Column(*head, body), margin=_MARGIN, top=_MARGIN - 6, bottom=_MARGIN)


def _tile(image: np.ndarray, words: str) -> tuple[Part, ...]:
    tile = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    return Picture(tile), Drawing(_TILE, 4), Text(words, 12, 22, wide=_TILE)


def _split(
    found: Explanation,
    number: int,
    detects: Mapping[int, str],
    as_seen: Callable[[int, int], np.ndarray],
) -> Row:
    """Draw one split: its filter, the image among the category's, what excites the filter."""
    split, evidence = found.path.splits[number], found.evidence[number]
    label, drawn, cells = "no filter left", Drawing(_CHART + _MARGIN, _CELL), []
    if evidence is not None and split.filter is not None:
        detected = detects.get(split.filter)
        label = f"filter {split.filter}" + (f" · {detected}" if detected else "")
        drawn = Drawing(_CHART + _MARGIN, _CELL, partial(_draw_distribution, evidence))
        small = (Image.fromarray(as_seen(row, 64)) for row in evidence.top[:_TOP])
        cells = [Picture(one.resize((_CELL, _CELL), Image.Resampling.BILINEAR)) for one in small]
    below, filters = found.tree.sizes[split.merge], found.tree.reachable[split.merge]
    lines = (
        Text(label, 13, 19, bold=True),
        Text(f"{below} images below, {filters} filters left", 11, 15),
        Text(f"nearer side {split.to_chosen:.3f}, other {split.to_other:.3f}", 11, 15),
    )
    said = Column(*lines, least=(_TEXT - 10, 0))
    return Row(Drawing(0, _ROW, _draw_path), said, Drawing(10, 0), drawn, Row(*cells, gap=_GAP))


def _draw_path(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.line([(x - 14, y + 8), (x - 14, y + _ROW + 2)], fill=_BAR, width=2)
    pen.ellipse([(x - 18, y + 4), (x - 10, y + 12)], fill=MARK)


def _draw_distribution(evidence: Evidence, pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """Draw where this image's activation stands among those of its category."""
    y, value, others = y + 2, evidence.activation, evidence.peaks
    low, high = min(float(others.min()), value), max(float(others.max()), value)
    high = high if high > low else low + 1
    counts, _ = np.histogram(others, _BINS, (low, high))
    tall, step = _CELL - 18, _CHART / _BINS
    for number, count in enumerate(counts):
        top = y + tall - tall * int(count) / max(int(counts.max()), 1)
        pen.rectangle([x + number * step, top, x + (number + 1) * step - 1.5, y + tall], fill=_BAR)
    at = x + _CHART * (value - low) / (high - low)
    pen.line([(at, y - 2), (at, y + tall)], fill=MARK, width=2)
    said = f"{value:.3g} · above {evidence.share_below_category:.0%}"
    pen.text((x, y + tall + 3), said, fill=PALE, font=font(10))
