"""Pictures of a unit: its top images at its peaks, and examples over its whole range.

Each cell is what the unit sees at its peak: its receptive field, as far as it lies in the image;
where that is the whole image, its mask is shown instead of a crop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.files import atomic
from cnnlens.measure.masks import mask
from cnnlens.measure.responses import Responses
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Fields, field_box, whole_box
from cnnlens.report.figures import plane_seen
from cnnlens.report.figures.dissect import lit

CELL, SMALL = 112, 72  # pixels: side of a top image, of an example
SHOWN = 9  # top images in a unit's strip
_GROUP = 64  # units drawn at once: their cells stay in memory until all their images were read
_DIM = 0.65  # brightness left outside a mask
_LEVEL = 0.5  # of its peak on the image, from where on a unit's mask reaches

Wanted = tuple[str, int, tuple[int, int], np.ndarray | None]  # strip, cell, place, map
Cells = dict[tuple[int, str, int], Image.Image]  # by unit, strip, cell


def sees_all(fields: Fields, size: tuple[int, int]) -> bool:
    """Whether a unit's receptive field is the whole input, wherever it looks."""
    return all(f.whole or f.size >= length for f, length in zip(fields, size, strict=True))


def top_maps(store: Store, rows: np.ndarray) -> np.ndarray:
    """Read units' maps on rows (C, k) of a store: (C, k, H, W) float32; zeros of row -1."""
    found = np.zeros((*rows.shape, *store.shape[2:]), np.float32)
    start = 0
    for positions, maps in store.batches():
        units, ranks = np.nonzero((rows >= start) & (rows < start + len(positions)))
        found[units, ranks] = maps[rows[units, ranks] - start, units]
        start += len(positions)
    return found


def write_pictures(
    folder: Path,
    images: ImageSet,
    found: Responses,
    fields: Fields,
    preprocess: Preprocess,
    maps: np.ndarray | None,
    workers: int = 4,
) -> Iterator[int]:
    """Write ``pictures/<unit>.webp`` and ``examples/<unit>.webp`` of every unit that is not dead.

    Parameters
    ----------
    folder : pathlib.Path
        The layer's.
    images : ImageSet
        The data.
    found : Responses
        Which images, and where they peak.
    fields : (Field, Field)
        The layer's receptive fields.
    preprocess : Preprocess
        How the network sees an image.
    maps : numpy.ndarray or None
        (C, k, H, W) of the top images, where masks are shown in the place of crops.
    workers : int
        Threads.

    Yields
    ------
    int
        How many units are done.
    """
    for name in ("pictures", "examples"):
        (folder / name).mkdir()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, found.units, _GROUP):
            group = range(start, min(start + _GROUP, found.units))
            cells = _cells(pool, images, found, fields, preprocess, maps, group)
            list(pool.map(lambda unit, drawn=cells: _save(folder, unit, found, drawn), group))
            yield group.stop


def _wanted(found: Responses, unit: int, maps: np.ndarray | None) -> Iterator[tuple[int, Wanted]]:
    """Name every cell of a unit's pictures, with the row of its image."""
    for rank, row in enumerate(found.top[unit, :SHOWN].tolist()):
        y, x = found.top_position[unit, rank].tolist()
        yield row, ("pictures", rank, (y, x), None if maps is None else maps[unit, rank])
    places = found.example_position[unit].reshape(-1, 2).tolist()
    for cell, row in enumerate(found.examples[unit].ravel().tolist()):
        y, x = places[cell]
        yield row, ("examples", cell, (y, x), None)


def _cells(
    pool: ThreadPoolExecutor,
    images: ImageSet,
    found: Responses,
    fields: Fields,
    preprocess: Preprocess,
    maps: np.ndarray | None,
    group: range,
) -> Cells:
    """Draw all cells of a group of units, reading every image once."""
    by_image: dict[int, list[tuple[int, Wanted]]] = defaultdict(list)
    for unit in group:
        if not found.dead[unit]:
            for row, cell in _wanted(found, unit, maps):
                if row >= 0:
                    by_image[int(found.positions[row])].append((unit, cell))
    cells: Cells = {}

    def draw(position: int) -> None:
        seen = plane_seen(images, position, preprocess)
        for unit, (strip, cell, place, own) in by_image[position]:
            side = CELL if strip == "pictures" else SMALL
            cells[unit, strip, cell] = _cell(seen, place, own, fields, side)

    list(pool.map(draw, sorted(by_image)))
    return cells


def _cell(
    seen: np.ndarray, place: tuple[int, int], own: np.ndarray | None, fields: Fields, side: int
) -> Image.Image:
    """Show what a unit sees at a place: its field, clear where that sticks out of the image."""
    size = (seen.shape[0], seen.shape[1])
    if sees_all(fields, size):
        picture = _fitted(Image.fromarray(seen), side)
        return picture if own is None or own.size == 1 else _masked(picture, own, size)
    full, inside = whole_box(fields, place, size), field_box(fields, place, size)
    crop = Image.fromarray(seen[inside.top : inside.bottom, inside.left : inside.right])
    high, wide = full.bottom - full.top, full.right - full.left
    canvas = Image.new("RGBA", (wide, high), (255, 255, 255, 0))
    canvas.paste(crop, (inside.left - full.left, inside.top - full.top))
    return _fitted(canvas, side)


def _masked(square: Image.Image, own: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Outline a unit's map (H, W) on a square that shows an image of some size."""
    wide, high = _within(square.width, size)
    corner = (square.width - wide) // 2, (square.height - high) // 2
    part = square.crop((*corner, corner[0] + wide, corner[1] + high)).convert("RGB")
    bright = mask(own, _LEVEL * float(own.max()), (high, wide))
    square.paste(Image.fromarray(lit(np.asarray(part), bright, _DIM)), corner)
    return square


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """Bring a picture into a clear square, its proportions kept."""
    size = _within(side, (picture.height, picture.width))
    kind = Image.Resampling.LANCZOS if size[0] < picture.width else Image.Resampling.BICUBIC
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    corner = ((side - size[0]) // 2, (side - size[1]) // 2)
    square.paste(picture.convert("RGBA").resize(size, kind), corner)
    return square


def _within(side: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture of some height and width in a square."""
    factor = side / max(size)
    return max(1, round(size[1] * factor)), max(1, round(size[0] * factor))


def _save(folder: Path, unit: int, found: Responses, cells: Cells) -> None:
    if found.dead[unit]:
        return
    shown = int((found.top[unit, :SHOWN] >= 0).sum())
    row = {(0, rank): cells.get((unit, "pictures", rank)) for rank in range(shown)}
    _write(folder / "pictures" / f"{unit}.webp", row, (1, shown), CELL)
    bins, per_bin = found.examples.shape[1:]
    grid = {
        (down, bin): cells.get((unit, "examples", bin * per_bin + down))
        for bin in range(bins)
        for down in range(per_bin)
    }
    _write(folder / "examples" / f"{unit}.webp", grid, (per_bin, bins), SMALL)


def _write(
    path: Path,
    cells: Mapping[tuple[int, int], Image.Image | None],
    shape: tuple[int, int],
    side: int,
) -> None:
    """Put cells (row, column) into one picture, without gaps: the page cuts them out again."""
    sheet = Image.new("RGBA", (shape[1] * side, shape[0] * side), (255, 255, 255, 0))
    for (row, column), cell in cells.items():
        if cell is not None:
            sheet.paste(cell, (column * side, row * side))
    clear = sheet.getchannel("A").getextrema() != (255, 255)
    with atomic(path) as temporary:
        (sheet if clear else sheet.convert("RGB")).save(
            temporary, "WEBP", quality=72, method=2, exact=clear
        )
