"""The section about layouts: points that can be pointed at, and how separated categories are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv
from cnnlens.report.clusters import read_summaries
from cnnlens.report.embedding_figures import COLUMNS, MOST, SIDE, hues
from cnnlens.report.section import Section

_FILES = {"flat": ("umap", "umap_pixels"), "deep": ("umap_3d", "umap_pixels_3d")}
_WHERE = {"vectors": "the vectors themselves", "2d": "the layout in 2-D", "3d": "the one in 3-D"}


def embeddings(workspace: Path) -> Section | None:
    """Gather the section about layouts; None where there are none.

    Raises
    ------
    CnnlensError
        When a summary or a table is damaged.
    """
    found = read_summaries(workspace, "embed")
    if not found:
        return None
    pictures = {}
    for one in found:
        for name in ("umap.png", "umap.webp"):
            if (one["folder"] / name).is_file():
                pictures[f"cluster/{one['folder'].name}/{name}"] = one["folder"] / name
    return Section(
        template="embed.html",
        view={"layers": [_view(one, pictures) for one in found]},
        data={
            "layers": [_layer(one, pictures) for one in found],
            "side": SIDE,
            "columns": COLUMNS,
            "most": MOST,
        },
        pictures=pictures,
        sources=tuple(one["folder"] / "summary.json" for one in found),
    )


def _view(found: dict[str, Any], pictures: dict[str, Path]) -> dict[str, Any]:
    picture = f"cluster/{found['folder'].name}/umap.png"
    try:
        rows = [
            {
                "where": where,
                "layer": found["station"]["layer"][key],
                "pixels": found["pixels"][key],
            }
            for key, where in _WHERE.items()
        ]
    except KeyError as error:
        raise _damaged(found["folder"] / "summary.json", str(error)) from error
    return {
        "layer": found["layer"],
        "rows": rows,
        "neighbours": found.get("neighbours"),
        "picture": picture if picture in pictures else None,
    }


def _layer(found: dict[str, Any], pictures: dict[str, Path]) -> dict[str, Any]:
    folder = found["folder"]
    layouts = {}
    for kind, files in _FILES.items():
        axes = ("x", "y", "z")[: 2 if kind == "flat" else 3]
        tables = [read_csv(folder / f"{f}.csv", ("image", "category", *axes)) for f in files]
        try:
            layouts[kind] = [_scaled(table, axes) for table in tables]
        except ValueError as error:
            raise _damaged(folder / f"{files[0]}.csv", str(error)) from error
    categories = sorted({row["category"] for row in tables[0]})
    number = {name: index for index, name in enumerate(categories)}
    sprite = f"cluster/{folder.name}/umap.webp"
    return {
        "layer": found["layer"],
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


def _damaged(file: Path, why: str) -> CnnlensError:
    return CnnlensError(f"{file} is damaged: {why}", "redo `cnnlens cluster --force`")
