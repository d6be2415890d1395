"""The picture of a category's tree of filters: its top levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.cluster.filters import FilterTree
from cnnlens.cluster.places import Box, below, top_levels
from cnnlens.cluster.tree import roots
from cnnlens.report.sheet import Picture, Text

CELL = 40  # pixels: side of a thumbnail in the sprite
COLUMNS = 25  # thumbnails in a row of the sprite
MOST = 1000  # thumbnails in a sprite

_SHOWN = 4  # images at a node
_SIDE, _GAP, _MARGIN, _HEAD = 44, 4, 20, 40
_WIDE, _HIGH, _ACROSS = _SHOWN * (_SIDE + _GAP), _SIDE + 40, 36
_LINE = "#9aa7b0"


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
