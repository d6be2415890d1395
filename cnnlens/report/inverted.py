"""Pictures of inversions: the photo, what layers still know of it, and by how much they miss it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cnnlens.report.figures import _cut, _font
from cnnlens.report.invert_files import NAMES, Inverted, read_inversions, rows
from cnnlens.report.optimized import _fitted, save_png

_GAP, _MARGIN, _HEAD, _NAME, _LINE = 14, 20, 34, 22, 17
_INK, _PALE = "#1a1a1a", "#555555"
_SIDES = (224, 448)  # pixels: smaller inputs are enlarged, larger ones reduced
SHEET = "sheet.png"


@dataclass(frozen=True)
class Cell:
    """One picture, the name above it and the lines under it."""

    picture: Image.Image | Path
    name: str
    lines: Sequence[tuple[str, str]] = ()


def draw_rows(cells: Sequence[Sequence[Cell | None]], title: str) -> Image.Image:
    """Lay rows of pictures out on white, with their figures under them.

    Parameters
    ----------
    cells : sequence of sequence of Cell or None
        Rows of equal length; None leaves a place empty.
    title : str
        Above all.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    side = min(max(max(_sides(one)) for row in cells for one in row if one), _SIDES[1])
    side = max(side, _SIDES[0])
    high = _NAME + side + _GAP + _LINE * max(len(one.lines) for row in cells for one in row if one)
    columns = max(len(row) for row in cells)
    sheet = Image.new(
        "RGB",
        (2 * _MARGIN + columns * (side + _GAP) - _GAP, _MARGIN + _HEAD + len(cells) * high),
        "white",
    )
    pen, font = ImageDraw.Draw(sheet), _font("DejaVuSans-Bold.ttf", 17)
    title = _cut(pen, title, font, sheet.width - 2 * _MARGIN)
    pen.text((_MARGIN, _MARGIN - 6), title, fill=_INK, font=font)
    for y, row in enumerate(cells):
        for x, one in enumerate(row):
            if one:
                at = (_MARGIN + x * (side + _GAP), _MARGIN + _HEAD - 6 + y * high)
                _draw_cell(sheet, one, at, side)
    return sheet


def _sides(cell: Cell) -> tuple[int, int]:
    if isinstance(cell.picture, Image.Image):
        return cell.picture.size
    with Image.open(cell.picture) as opened:
        return opened.size


def _draw_cell(sheet: Image.Image, cell: Cell, at: tuple[int, int], side: int) -> None:
    x, y = at
    pen = ImageDraw.Draw(sheet)
    bold, plain = _font("DejaVuSans-Bold.ttf", 13), _font("DejaVuSans.ttf", 12)
    pen.text((x, y), _cut(pen, cell.name, bold, side), fill=_INK, font=bold)
    sheet.paste(_fitted(cell.picture, side), (x, y + _NAME))
    for number, (name, figure) in enumerate(cell.lines):
        top = y + _NAME + side + 3 + number * _LINE
        pen.text((x, top), _cut(pen, name, plain, side), fill=_PALE, font=plain)
        pen.text((x + side, top), figure, fill=_INK, font=plain, anchor="ra")


def save_figure(path: Path, clean: Inverted, perturbed: Inverted | None = None) -> None:
    """Write one image's picture at one layer: the photo, its inversion, the perturbed one."""
    cells = [
        Cell(clean.original, clean.image),
        Cell(clean.picture, clean.layer, clean.errors),
    ]
    if perturbed is not None:
        name = f"{clean.layer}, {NAMES[perturbed.perturb]}"
        cells.append(Cell(perturbed.picture, name, perturbed.errors))
    how = "" if perturbed is None else f", whole and {NAMES[perturbed.perturb]}"
    save_png(path, draw_rows([cells], f"What {clean.layer} still knows{how}"))


def write_sheet(workspace: Path) -> Path | None:
    """Write ``invert/sheet.png``: images down, layers across; None where there is nothing."""
    layers = read_inversions(workspace)
    if not layers:
        return None
    names = [layer[0].layer for layer in layers]
    grid = []
    for (image, perturb), found in rows(layers).items():
        first = next(iter(found.values()))
        words = [(NAMES[perturb], "")] if perturb in NAMES else []
        cells = [found.get(name) for name in names]
        grid.append(
            [
                Cell(first.original, image, words),
                *(Cell(one.picture, one.layer, one.errors) if one else None for one in cells),
            ]
        )
    path = workspace / "invert" / SHEET
    save_png(path, draw_rows(grid, "What layers still know of a photo"))
    return path
