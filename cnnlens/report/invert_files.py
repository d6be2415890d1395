"""``WORKSPACE/invert``: where its pictures are, what invert.json says, and sheets of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cnnlens.report.blocks import number
from cnnlens.report.contents import listed, reading
from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Text, fitted, save_png, sheet

SHEET = "sheet.png"
_SIDES = (224, 448)  # pixels: smaller inputs are enlarged, larger ones reduced

NAMES = {
    "binarize": "binarized",
    "dropout": "half its values dropped",
    "drop-least": "least important maps dropped",
}


@dataclass(frozen=True)
class Inverted:
    """One inverted picture, as ``invert.json`` lists it.

    Attributes
    ----------
    layer, image : str
        Which layer's activations were inverted, of which image (the picture's name).
    perturb : str
        What became of the activations before: "none", "binarize", …
    folder : pathlib.Path
        ``WORKSPACE/invert/<layer>``.
    entry : mapping
        All that is known of it.
    """

    layer: str
    image: str
    perturb: str
    folder: Path
    entry: Mapping[str, Any]

    @property
    def picture(self) -> Path:
        """The inverted picture alone."""
        folder = self.folder if self.perturb == "none" else self.folder / self.perturb
        return folder / "pictures" / f"{self.image}.png"

    @property
    def original(self) -> Path:
        """The photo as the network saw it."""
        return self.folder / "originals" / f"{self.image}.png"

    @property
    def errors(self) -> list[tuple[str, str]]:
        """The three errors: name and figures, for people."""
        names = {"features": "feature error", "pairs": "of mean distance", "pixels": "pixel RMSE"}
        found = self.entry["errors"]
        return [(name, number(found.get(key), 3)) for key, name in names.items()]


def read_inversions(workspace: Path) -> list[list[Inverted]]:
    """Read the pictures of every inverted layer, the shallowest first.

    Raises
    ------
    CnnlensError
        When an ``invert.json`` is damaged.
    """
    found = []
    for path in sorted((workspace / "invert").glob("*/invert.json")):
        if not path.parent.name.startswith("."):
            with reading(path, "redo `cnnlens invert` with --force"):
                document, _ = listed(path)
                pictures = list(_read(path.parent, document["pictures"]))
                if pictures:
                    found.append((document.get("depth", 0), path.parent.name, pictures))
    return [pictures for _, _, pictures in sorted(found, key=lambda one: one[:2])]


def _read(folder: Path, entries: list[Mapping[str, Any]]) -> Iterator[Inverted]:
    for entry in entries:
        for value in (entry["final"], *entry["errors"].values()):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{value} in {entry['file']}")
        one = Inverted(entry["layer"], entry["name"], entry["perturb"], folder, entry)
        if one.picture.is_file() and one.original.is_file():
            yield one


def rows(layers: list[list[Inverted]]) -> dict[tuple[str, str], dict[str, Inverted]]:
    """Order pictures by image and perturbation, the clean one first; within these by layer."""
    found: dict[tuple[str, str], dict[str, Inverted]] = {}
    for one in (one for layer in layers for one in layer):
        found.setdefault((one.image, one.perturb), {})[one.layer] = one
    images = list(dict.fromkeys(image for image, _ in found))
    order = ["none", *NAMES]
    return dict(
        sorted(found.items(), key=lambda item: (images.index(item[0][0]), order.index(item[0][1])))
    )


# -- sheets ----------------------------------------------------------------------------------------


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
    """Lay rows of pictures out, all of one length, with their figures under them.

    None leaves a place empty.
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
