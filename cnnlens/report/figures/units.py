"""What a unit sees, and how its values spread, drawn once for notebooks, sites and files.

Images as the network saw them are each kept once, however many units show them, in
``WORKSPACE/images/<mark of its pixels>.webp``. What a page shows of one, the receptive field of a
peak or all of it, is cut out where it is shown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import plain
from cnnlens.files import atomic, make_folder, marked
from cnnlens.measure.dissected_units import Histogram
from cnnlens.model.alone import Helpers
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.figures import plane_seen
from cnnlens.report.seen import Seen
from cnnlens.report.unit_page import UnitPage

LONGEST = 256  # pixels: larger images are kept at this


def write_seen(
    folder: Path,
    images: ImageSet,
    positions: Sequence[int],
    preprocess: Preprocess,
    workers: int = 4,
) -> Iterator[tuple[int, str]]:
    """Write images at some positions of the data into a folder; those that are there are left.

    Yields
    ------
    (int, str)
        Position and file name.
    """
    make_folder(folder)

    def write(position: int) -> tuple[int, str]:
        seen = plane_seen(images, position, preprocess)
        path = folder / f"{hashlib.sha256(seen.tobytes()).hexdigest()[:16]}.webp"
        if not path.exists():
            picture = Image.fromarray(seen)
            picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            with atomic(path) as temporary:
                picture.save(temporary, "WEBP", quality=80, method=2)
        return position, path.name

    with Helpers(max(1, workers)) as pool:
        alone = images.one_by_one or not workers
        yield from (map if alone else pool.map)(write, positions)


# -- what a unit sees of an image, cut out --------------------------------------------------------

_OUTLINE = (255, 225, 80)


def cell(seen: Seen, side: int) -> Image.Image:
    """Show what a unit sees of an image at its peak, as far as it lies in it; else the whole image.

    Where a unit sees all of the image, its mask is outlined. What lies outside is clear.
    """
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    if seen.picture is None or not seen.picture.is_file():
        return square
    with Image.open(seen.picture) as opened:
        picture = opened.convert("RGBA")
    shown, place = _cut_out(picture, seen, side, Image.Resampling.BICUBIC)
    if seen.view is not None and seen.view.whole:
        _draw_outline(shown, seen)
    square.paste(shown, place)
    return square


def _cut_out(
    picture: Image.Image, seen: Seen, side: int, how: Image.Resampling
) -> tuple[Image.Image, tuple[int, int]]:
    """Cut a unit's window out of a picture, as far as it lies in it; say where that begins in a
    square of `side` pixels.
    """
    x, y, wide = (share * picture.width for share in seen.window())
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + wide, picture.width), min(y + wide, picture.height)
    size = [max(1, round(length * side / wide)) for length in (right - left, bottom - top)]
    shown = picture.resize((size[0], size[1]), how, (left, top, right, bottom))
    return shown, (round((left - x) * side / wide), round((top - y) * side / wide))


def _draw_outline(whole: Image.Image, seen: Seen) -> None:
    assert seen.view is not None
    pen, (high, wide) = ImageDraw.Draw(whole), seen.view.size
    for line in seen.lines():
        points = [(x * whole.width / wide, y * whole.height / high) for x, y in line]
        pen.line(points, fill=_OUTLINE, width=2)


# -- a unit in one look: what it sees on the four images that excite it most ----------------------

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
    shown, place = _cut_out(picture, seen, SIDE, Image.Resampling.BILINEAR)
    if shown.size == (SIDE, SIDE):
        return shown
    cell = Image.new("RGB", (SIDE, SIDE), _GREY)
    cell.paste(shown, place)
    return cell


def _opened(path: Path) -> Image.Image | None:
    return _decoded(path, marked(path))


@lru_cache(maxsize=_KEPT)
def _decoded(path: Path, mark: object) -> Image.Image | None:
    """Open a picture; one that was written anew since has another `mark`."""
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


# -- how a unit's values spread, as SVG: counts on a logarithmic scale, drawn without a script ----


Scale = Callable[[float], float]
BINS = 64
# where there is no style sheet, in a notebook
_INK = 'fill="currentColor" font-size="11" font-family="sans-serif"'
_FILLS = {"below": "#8a8a82", "above": "#2b7cb3"}
_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM, _RIGHT = 460, 190, 40, 26, 24, 8


def spread(histogram: Histogram, threshold: float | None) -> Markup:
    """Draw a histogram; `threshold` is marked, and what lies above it stands out."""
    found = filled(histogram).merged(BINS)
    if found is None:
        return Markup()
    counts, edges = found["counts"], found["edges"]
    low, high = edges[0], edges[-1]
    decades = max(1, math.ceil(math.log10(max(*counts, 1) + 1)))

    def x(value: float) -> float:
        return _LEFT + (value - low) / ((high - low) or 1) * (_WIDE - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return _HIGH - _BOTTOM - math.log10(count + 1) / decades * (_HIGH - _TOP - _BOTTOM)

    parts = [*_axis(y, decades), *_bars(counts, [x(edge) for edge in edges], edges, y, threshold)]
    for value, anchor in ((low, "start"), (high, "end")):
        place = f'x="{x(value):.1f}" y="{_HIGH - 7}" text-anchor="{anchor}"'
        parts.append(f"<text {_INK} {place}>{plain(value)}</text>")
    if threshold is not None and low <= threshold <= high:
        parts += _limit(x(threshold), threshold)
    said = f"Values from {plain(low)} to {plain(high)}, log counts"
    head = f'<svg class="chart" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{said}">'
    return Markup("".join([head, *parts, "</svg>"]))  # of numbers alone


def filled(histogram: Histogram) -> Histogram:
    """Leave out the empty bins at its end."""
    last = int(np.flatnonzero(histogram.counts).max(initial=0)) + 1
    return Histogram(histogram.counts[:last], histogram.edges[: last + 1])


def _axis(y: Scale, decades: int) -> list[str]:
    parts = []
    for power in range(0, decades + 1, 2 if decades > 5 else 1):
        at, name = y(10**power - (0 if power else 1)), _power(power) if power else "0"
        text = f'<text {_INK} x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{name}</text>'
        parts.append(
            f'<path class="axis" stroke="#8886" d="M{_LEFT},{at:.1f}H{_WIDE - _RIGHT}"/>{text}'
        )
    return parts


def _power(power: int) -> str:
    names = {0: "", 1: "k", 2: "M", 3: "G"}
    return f"{10 ** (power % 3)}{names.get(power // 3, f'e{power // 3 * 3}')}"


def _bars(
    counts: Sequence[int],
    at: Sequence[float],
    edges: Sequence[float],
    y: Scale,
    cut: float | None,
) -> list[str]:
    """Draw bars as two paths: those above the threshold, and the others."""
    paths = {"below": "", "above": ""}
    for bin, count in enumerate(counts):
        if count:
            side = "above" if cut is not None and edges[bin] >= cut else "below"
            wide = max(at[bin + 1] - at[bin] - 0.6, 0.5)
            base = _HIGH - _BOTTOM
            paths[side] += f"M{at[bin]:.1f},{base}V{y(count):.1f}h{wide:.1f}V{base}z"
    return [
        f'<path class="{side}" fill="{_FILLS[side]}" d="{path}"/>'
        for side, path in paths.items()
        if path
    ]


def _limit(at: float, threshold: float) -> list[str]:
    anchor, beside = ("end", -5) if at > _WIDE * 0.7 else ("start", 5)
    place = f'x="{at + beside:.1f}" y="{_TOP - 4}" text-anchor="{anchor}"'
    return [
        f'<path class="cut" stroke="currentColor" d="M{at:.1f},{_TOP - 12}V{_HIGH - _BOTTOM}"/>',
        f'<text class="cut-label" {_INK} {place}>threshold {plain(threshold)}</text>',
    ]
