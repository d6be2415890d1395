"""Pictures of a category's tree of filters: its top levels, and one image's path down it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.cluster.decision_path import Evidence, Explanation
from cnnlens.cluster.filters import FilterTree
from cnnlens.cluster.places import Box, below, top_levels
from cnnlens.cluster.tree import roots
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

CELL = 40  # pixels: side of a thumbnail in the sprite
COLUMNS = 25  # thumbnails in a row of the sprite
MOST = 1000  # thumbnails in a sprite

_SHOWN = 4  # images at a node
_SIDE, _GAP, _MARGIN, _HEAD = 44, 4, 20, 40
_WIDE, _HIGH, _ACROSS = _SHOWN * (_SIDE + _GAP), _SIDE + 40, 36
_LINE = "#9aa7b0"

# of an explained image: pixels
_TILE, _CELL, _BETWEEN, _EDGE = 224, 56, 6, 22
_ROW, _TEXT, _CHART = _CELL + 26, 250, 170
_BAR = "#b9c9d6"
_BINS = 24
_TOP = 5  # images of the data at a split


def draw_tree(
    title: str,
    tree: FilterTree,
    peaks: np.ndarray,
    thumbnail: Callable[[int], np.ndarray],
    detects: Mapping[int, str],
) -> Image.Image:
    """Draw the top levels of a tree from left to right (as Dai 2020, Fig. 10).

    Each node names its critical filter and shows the images below it that excite the filter most.
    Merges that only set a few images apart are passed over and counted.

    `peaks` (n, C) are each filter's on the image of each of n leaves, `thumbnail` gives a leaf's
    image, (s, s, 3) uint8; `detects` says what filters detect, where that is known.
    """
    boxes = top_levels(tree)
    rows = max(box.row for box in boxes) + 1
    levels = max(box.level for box in boxes) + 1
    wide = 2 * _MARGIN + levels * (_WIDE + _ACROSS) - _ACROSS
    canvas = Image.new("RGB", (max(wide, 420), int(_MARGIN + _HEAD + rows * _HIGH)), "white")
    pen = ImageDraw.Draw(canvas)
    head = Text(title, 15, bold=True)
    head.draw(canvas, _MARGIN, _MARGIN - 6, canvas.width - 2 * _MARGIN)
    for box in boxes:
        for child in box.below:
            _connect(pen, box, child)
    for box in boxes:
        leaves, filter_ = below(tree, box.node), _critical(tree, box.node)
        if filter_ is not None:
            leaves = leaves[np.argsort(-peaks[leaves, filter_], kind="stable")]
        _write_box(canvas, tree, box, len(leaves), detects)
        x, y = _corner(box)
        for place, leaf in enumerate(leaves[:_SHOWN]):
            cell = Image.fromarray(thumbnail(int(leaf))).resize((_SIDE, _SIDE))
            Picture(cell).draw(canvas, x + place * (_SIDE + _GAP), y + 31, _SIDE)
    left = len(roots(tree.pairs, len(tree.leaves))) - sum(box.level == 0 for box in boxes)
    if left > 0:
        text = Text(f"and {left} smaller subtrees", 11)
        text.draw(canvas, _MARGIN, canvas.height - 16, canvas.width)
    return canvas


def _corner(box: Box) -> tuple[int, int]:
    return _MARGIN + box.level * (_WIDE + _ACROSS), int(_MARGIN + _HEAD - 10 + box.row * _HIGH)


def _connect(pen: ImageDraw.ImageDraw, box: Box, child: Box) -> None:
    (x, y), (cx, cy) = _corner(box), _corner(child)
    start, end = (x + _WIDE, y + _HIGH // 2 - 8), (cx - 4, cy + _HIGH // 2 - 8)
    middle = (start[0] + end[0]) // 2
    pen.line([start, (middle, start[1]), (middle, end[1]), end], fill=_LINE, width=2)


def _critical(tree: FilterTree, node: int) -> int | None:
    merge = node - len(tree.leaves)
    return int(tree.critical[merge]) if merge >= 0 and tree.critical[merge] >= 0 else None


def _write_box(
    canvas: Image.Image, tree: FilterTree, box: Box, images: int, detects: Mapping[int, str]
) -> None:
    (x, y), merge, filter_ = _corner(box), box.node - len(tree.leaves), _critical(tree, box.node)
    head = "one image" if merge < 0 else "no filter left"
    if filter_ is not None:
        head = _label(filter_, detects)
    Text(head, 12, bold=True).draw(canvas, x, y, _WIDE)
    if merge >= 0:
        under = f"{images} images" + (f" ({box.apart} set apart)" if box.apart else "")
        under += f" · d {tree.distances[merge]:.3f}"
        Text(under, 11).draw(canvas, x, y + 15, canvas.width)


def _label(number: int, detects: Mapping[int, str]) -> str:
    return " · ".join(filter(None, (f"filter {number}", detects.get(number))))


# -- an explained image --------------------------------------------------------------------------


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
        share = "" if prediction.probability is None else f" ({prediction.probability:.1%})"
        predicted = f"predicted {prediction.name}{share}"
    nearest = f"ends here, at distance {found.path.distance:.3f}"
    seen += _tile(as_seen(found.leaf, 224), nearest)
    chosen = found.path.main_splits(found.tree)
    splits = [_split(found, number, detects, as_seen) for number in chosen]
    wide = _TEXT + _CHART + _EDGE + _TOP * (_CELL + _BETWEEN)
    more = len(found.path.splits) - len(chosen)
    last = Text(f"{more} further forks stand in the JSON" if more else "", 12, 26, wide=wide)
    path = Column(*splits, Drawing(wide, 4), last, least=(wide, 0))
    note = (
        f"its way down the filters of {found.category} in {layer}; the line marks its activation "
        "among the category's"
    )
    head = Text(f"{name}: {predicted}".rstrip(": "), 17, 25, bold=True), Text(note, 12, 35)
    body = Row(Column(*seen), path, gap=2 * _EDGE)
    return sheet(Column(*head, body), margin=_EDGE, top=_EDGE - 6, bottom=_EDGE)


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
    label, drawn, cells = "no filter left", Drawing(_CHART + _EDGE, _CELL), []
    if evidence is not None and split.filter is not None:
        label = _label(split.filter, detects)
        drawn = Drawing(_CHART + _EDGE, _CELL, partial(_draw_distribution, evidence))
        small = (Image.fromarray(as_seen(row, 64)) for row in evidence.top[:_TOP])
        cells = [Picture(one.resize((_CELL, _CELL), Image.Resampling.BILINEAR)) for one in small]
    below, filters = found.tree.sizes[split.merge], found.tree.reachable[split.merge]
    lines = (
        Text(label, 13, 19, bold=True),
        Text(f"{below} images below, {filters} filters left", 11, 15),
        Text(f"nearer side {split.to_chosen:.3f}, other {split.to_other:.3f}", 11, 15),
    )
    said = Column(*lines, least=(_TEXT - 10, 0))
    return Row(Drawing(0, _ROW, _draw_path), said, Drawing(10, 0), drawn, Row(*cells, gap=_BETWEEN))


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
