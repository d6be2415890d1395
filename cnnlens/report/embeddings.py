"""The section about layouts: points that can be pointed at, and how separated categories are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.files import read_csv
from cnnlens.report.blocks import Explorer, Section
from cnnlens.report.contents import Clustering, read_clustering, reading
from cnnlens.report.figures.embedding import COLUMNS, MOST, SIDE, hues

_REDO = "redo `cnnlens cluster --force`"
_NOTE = (
    "UMAP lays images out so that near ones stay near: from the layer’s activations, and from "
    "their raw pixels. A picture of clusters proves little, so the table says how separated "
    "categories are: the silhouette (−1 to 1), and the share of images whose nearest neighbours "
    "are mostly of their own category, beside what shuffled categories give."
)
_FILES = {"flat": ("umap", "umap_pixels"), "deep": ("umap_3d", "umap_pixels_3d")}
_WHERE = {"vectors": "the vectors themselves", "2d": "the layout in 2-D", "3d": "the one in 3-D"}


def embeddings(workspace: Path) -> Section | None:
    """Gather the section about layouts; None where there are none.

    Raises
    ------
    CnnlensError
        When a summary or a table is damaged.
    """
    found = read_clustering(workspace, "embed")
    if not found:
        return None
    pictures = {}
    for one in found:
        for name in ("umap.png", "umap.webp"):
            if (one.folder / name).is_file():
                pictures[f"cluster/{one.folder.name}/{name}"] = one.folder / name
    view = {"layers": [_view(one, pictures) for one in found]}
    layers = [_layer(one, pictures) for one in found]
    data = {"layers": layers, "side": SIDE, "columns": COLUMNS, "most": MOST}
    explorer = Explorer("embed.html", view, data, pictures)
    return Section("embed", "How the images lie", _NOTE, [explorer], [one.file for one in found])


def _view(one: Clustering, pictures: dict[str, Path]) -> dict[str, Any]:
    picture = f"cluster/{one.folder.name}/umap.png"
    with reading(one.file, _REDO):
        rows = [
            {"where": where, **{side: one.found[side][key] for side in ("layer", "pixels")}}
            for key, where in _WHERE.items()
        ]
    return {
        "layer": one.layer,
        "rows": rows,
        "neighbours": one.found.get("neighbours"),
        "picture": picture if picture in pictures else None,
    }


def _layer(one: Clustering, pictures: dict[str, Path]) -> dict[str, Any]:
    folder = one.folder
    layouts = {}
    for kind, files in _FILES.items():
        axes = ("x", "y", "z")[: 2 if kind == "flat" else 3]
        tables = [read_csv(folder / f"{f}.csv", ("image", "category", *axes)) for f in files]
        with reading(folder / f"{files[0]}.csv", _REDO):
            layouts[kind] = [_scaled(table, axes) for table in tables]
    categories = sorted({row["category"] for row in tables[0]})
    number = {name: index for index, name in enumerate(categories)}
    sprite = f"cluster/{folder.name}/umap.webp"
    return {
        "layer": one.layer,
        "images": [row["image"] for row in tables[0]],
        "of": [number[row["category"]] for row in tables[0]],
        "categories": categories,
        "colours": hues(len(categories)),
        "sprite": sprite if sprite in pictures else None,
        **layouts,
    }


def _scaled(rows: list[dict[str, str]], axes: tuple[str, ...]) -> list[list[float]]:
    """Places in [0, 1], one scale for all axes, in the few digits that a screen can show."""
    columns = [[float(row[axis]) for row in rows] for axis in axes]
    low = [min(column) for column in columns]
    reach = max(max(c) - least for c, least in zip(columns, low, strict=True)) or 1.0
    centre = [(reach - (max(c) - least)) / 2 for c, least in zip(columns, low, strict=True)]
    return [
        [
            round((value - least + shift) / reach, 4)
            for value, least, shift in zip(at, low, centre, strict=True)
        ]
        for at in zip(*columns, strict=True)
    ]
