"""Pictures of inversions: the photo, what layers still know of it, and by how much they miss it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cnnlens.report.invert_files import NAMES, Inverted, read_inversions, rows
from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Text, fitted, save_png, sheet

_SIDES = (224, 448)  # pixels: smaller inputs are enlarged, larger ones reduced
SHEET = "sheet.png"


@dataclass(frozen=True)
class Cell:
    """One picture, the name above it and the lines under it: a name and a figure each."""

    picture: Image.Image | Path
    name: str
    lines: Sequence[tuple[str, str]] = ()

    @property
    def side(self) -> int:
        """The picture's longer side, in pixels."""
        if isinstance(self.picture, Image.Image):
            return max(self.picture.size)
        with Image.open(self.picture) as opened:
            return max(opened.size)


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
    every = [one for row in cells for one in row]
    side = max(min(max(one.side for one in every if one), _SIDES[1]), _SIDES[0])
    grid = Grid([_drawn(one, side) if one else None for one in every], len(cells[0]), (14, 11))
    return sheet(Column(Text(title, 17, 34, bold=True), grid), top=14, bottom=17)


def _drawn(cell: Cell, side: int) -> Column:
    return Column(
        Text(cell.name, 13, 22, bold=True),
        Picture(fitted(cell.picture, side), frame=False),
        Drawing(side, 3),
        *(Text(name, 12, 17, right=figure) for name, figure in cell.lines),
    )


def save_figure(path: Path, clean: Inverted, perturbed: Inverted | None = None) -> None:
    """Write one image's picture at one layer: the photo, its inversion, the perturbed one."""
    cells = [Cell(clean.original, clean.image), Cell(clean.picture, clean.layer, clean.errors)]
    how = ""
    if perturbed is not None:
        name = NAMES[perturbed.perturb]
        cells.append(Cell(perturbed.picture, f"{clean.layer}, {name}", perturbed.errors))
        how = f", whole and {name}"
    save_png(path, draw_rows([cells], f"What {clean.layer} still knows{how}"))


def write_sheet(workspace: Path) -> Path | None:
    """Write ``invert/sheet.png``: images down, layers across; None where there is nothing."""
    layers = read_inversions(workspace)
    if not layers:
        return None
    grid: list[list[Cell | None]] = []
    for (image, perturb), found in rows(layers).items():
        words = [(NAMES[perturb], "")] if perturb in NAMES else []
        photo = Cell(next(iter(found.values())).original, image, words)
        across = [found.get(layer[0].layer) for layer in layers]
        grid.append(
            [photo, *(Cell(one.picture, one.layer, one.errors) if one else None for one in across)]
        )
    path = workspace / "invert" / SHEET
    save_png(path, draw_rows(grid, "What layers still know of a photo"))
    return path
