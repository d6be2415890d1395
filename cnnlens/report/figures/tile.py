"""The picture of a unit in one look: what it sees on the four images that excite it most."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path

from PIL import Image

from cnnlens.report.seen import Seen
from cnnlens.report.unit_page import UnitPage

SIDE, GAP = 119, 2  # pixels of a cell, and between two
FULL = 2 * SIDE + GAP
_GREY = (127, 127, 127)  # what lies outside
_KEPT = 1500  # opened images; each may take 200 kB


def tile(page: UnitPage) -> Image.Image | None:
    """Put a unit's four best images into a square; else what was drawn for it; None of neither."""
    cells = list(islice(filter(None, map(_cell, page.top)), 4))
    if not cells and page.strip:
        cells = _cut(page.strip)
    if not cells:
        drawn = next((one.picture for one in page.pictures if one.method == "visualize"), None)
        return _square(drawn) if drawn else None
    if len(cells) == 1:
        return cells[0].resize((FULL, FULL), Image.Resampling.BICUBIC)
    whole = Image.new("RGB", (FULL, FULL), _GREY)
    for rank, cell in enumerate(cells):
        whole.paste(cell, (rank % 2 * (SIDE + GAP), rank // 2 * (SIDE + GAP)))
    return whole


def _cell(seen: Seen) -> Image.Image | None:
    """Show what a unit sees of an image at its peak, as far as it lies in it."""
    if seen.picture is None or (picture := _opened(seen.picture)) is None:
        return None
    left, top, side = (share * picture.width for share in seen.window())
    right, bottom = min(left + side, picture.width), min(top + side, picture.height)
    x, y = max(left, 0), max(top, 0)
    size = [max(1, round(length * SIDE / side)) for length in (right - x, bottom - y)]
    shown = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR, (x, y, right, bottom))
    if shown.size == (SIDE, SIDE):
        return shown
    cell = Image.new("RGB", (SIDE, SIDE), _GREY)
    cell.paste(shown, (round((x - left) * SIDE / side), round((y - top) * SIDE / side)))
    return cell


@lru_cache(maxsize=_KEPT)
def _opened(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None


def _cut(strip: Path) -> list[Image.Image]:
    """Take the first four images of a strip of squares."""
    if (picture := _opened(strip)) is None:
        return []
    side = picture.height
    boxes = [(left, 0, left + side, side) for left in range(0, picture.width - side + 1, side)]
    return [picture.crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for box in boxes[:4]]


def _square(path: Path) -> Image.Image | None:
    if (picture := _opened(path)) is None:
        return None
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = left, top, left + side, top + side
    return picture.resize((FULL, FULL), Image.Resampling.LANCZOS, box)
