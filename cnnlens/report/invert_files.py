"""``WORKSPACE/invert``: where its pictures are, what invert.json says, and sheets of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from cnnlens.files.ledger import MADE_FROM, without_places
from cnnlens.report.blocks import number
from cnnlens.report.contents import listed, reading
from cnnlens.report.sheet import Column, Drawing, Grid, Picture, Text, fitted, save_png, sheet

SHEET = "sheet.png"
ORIGINALS = "originals"  # the folder of photos as the network saw them, in a layer's
_SIDES = (224, 448)  # pixels: smaller inputs are enlarged, larger ones reduced

_PERTURBED = {
    "binarize": "binarized",
    "dropout": "half its values dropped",
    "drop-least": "least important maps dropped",
}
_TRAINED = "by a trained network"
#: how pictures are made, for people; the usual way, "none", goes without saying
NAMES = {
    **_PERTURBED,
    "upconv": _TRAINED,
    **{f"upconv-{perturb}": f"{words}, {_TRAINED}" for perturb, words in _PERTURBED.items()},
}


def kind_of(method: str, perturb: str) -> str:
    """How a picture is made: "none" by a search from the whole answer, else a key of `NAMES`."""
    if method == "regularized":
        return perturb
    return method if perturb == "none" else f"{method}-{perturb}"


@dataclass(frozen=True)
class Inverted:
    """One inverted picture, as ``invert.json`` lists it.

    Attributes
    ----------
    layer, image : str
        Which layer's activations were inverted, of which image (the picture's name).
    kind : str
        How it was made, see `kind_of`.
    folder : pathlib.Path
        ``WORKSPACE/invert/<layer>``.
    entry : mapping
        All that is known of it.
    """

    layer: str
    image: str
    kind: str
    folder: Path
    entry: Mapping[str, Any]

    @property
    def picture(self) -> Path:
        """The inverted picture alone."""
        folder = self.folder if self.kind == "none" else self.folder / self.kind
        return folder / "pictures" / f"{self.image}.png"

    @property
    def original(self) -> Path:
        """The photo as the network saw it."""
        return self.folder / str(self.entry.get("original") or f"{ORIGINALS}/{self.image}.png")

    @property
    def state(self) -> str:
        """Which image it was made of, and in which state: a file may be replaced."""
        made_from = self.entry.get(MADE_FROM) or {}
        return str(without_places(made_from.get("image")) or self.image)

    @property
    def errors(self) -> list[tuple[str, str]]:
        """The three errors, and what the mean image's pixels would be off: for people."""
        names = {"features": "feature error", "pairs": "of mean distance", "pixels": "pixel RMSE"}
        found = self.entry["errors"]
        lines = [(name, number(found.get(key), 3)) for key, name in names.items()]
        if floor := self.entry.get("mean_image"):
            lines.append(("mean image’s", number(floor["pixels"], 3)))
        return lines


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


def read_trainings(workspace: Path) -> list[tuple[str, Mapping[str, Any], Path]]:
    """Read what is told of trained networks: layer, what ``invert.json`` says, and where; the
    shallowest first.
    """
    found = []
    for path in sorted((workspace / "invert").glob("*/invert.json")):
        document = {} if path.parent.name.startswith(".") else listed(path)[0]
        if isinstance(about := document.get("upconv"), dict):
            found.append((document.get("depth", 0), str(document["layer"]), about, path))
    return [one[1:] for one in sorted(found, key=lambda one: one[:2])]


def _read(folder: Path, entries: list[Mapping[str, Any]]) -> Iterator[Inverted]:
    for entry in entries:
        for value in (entry["final"], *entry["errors"].values()):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{value} in {entry['file']}")
        kind = kind_of(entry.get("method", "regularized"), entry["perturb"])
        one = Inverted(entry["layer"], entry["name"], kind, folder, entry)
        if one.picture.is_file() and one.original.is_file():
            yield one


def how(kind: str, found: Iterable[Inverted]) -> str:
    """Say how a row of pictures was made; nothing of the usual way."""
    learned = any(one.entry.get("learned_from") for one in found)
    return NAMES.get(kind, "") + (" that learned from it" if learned else "")


class Row(NamedTuple):
    """What a row of pictures is of: an image, how they were made, and which state of the image."""

    image: str
    kind: str
    state: str


def rows(layers: list[list[Inverted]]) -> dict[Row, dict[str, Inverted]]:
    """Order pictures by image and by how they were made, the usual way first; then by layer.

    Images stand by their names, whichever was inverted first: commands may run side by side. A file
    that was replaced has a row for each of its states.
    """
    found: dict[Row, dict[str, Inverted]] = {}
    for one in (one for layer in layers for one in layer):
        found.setdefault(Row(one.image, one.kind, one.state), {})[one.layer] = one
    order = ["none", *NAMES]
    return dict(sorted(found.items(), key=lambda item: (
        item[0].image, order.index(item[0].kind), item[0].state
    )))  # fmt: skip


def words_of(row: Row, found: Mapping[Row, Mapping[str, Inverted]]) -> str:
    """Say how a row was made, and whether its image is one of several states of a file."""
    said = how(row.kind, found[row].values())
    states = {other.state for other in found if other.image == row.image}
    version = f"one of {len(states)} versions of this file" if len(states) > 1 else ""
    return "; ".join(filter(None, (said, version)))


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


def save_figure(path: Path, *made: Inverted) -> None:
    """Write one image's pictures at one layer: the photo, then each that was made of it."""
    layer = made[0].layer
    cells: list[Cell | None] = [Cell(made[0].original, made[0].image)]
    for one in made:
        words = f", {NAMES[one.kind]}" if one.kind in NAMES else ""
        cells.append(Cell(one.picture, f"{layer}{words}", one.errors))
    save_png(path, draw_rows([cells], f"What {layer} still knows"))


def write_sheet(workspace: Path) -> Path | None:
    """Write ``invert/sheet.png``: images down, layers across; None where there is nothing."""
    layers = read_inversions(workspace)
    if not layers:
        return None
    grid: list[list[Cell | None]] = []
    every = rows(layers)
    for row, found in every.items():
        words = [(said, "")] if (said := words_of(row, every)) else []
        photo = Cell(next(iter(found.values())).original, row.image, words)
        across = [found.get(layer[0].layer) for layer in layers]
        grid.append(
            [photo, *(Cell(one.picture, one.layer, one.errors) if one else None for one in across)]
        )
    path = workspace / "invert" / SHEET
    save_png(path, draw_rows(grid, "What layers still know of a photo"))
    return path
