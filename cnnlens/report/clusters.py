"""The section about categories: the tree, the spanning tree and the distances that cluster left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, read_json
from cnnlens.report.category_figures import FIRM
from cnnlens.report.section import Section

SHOWN = 8  # pairs of categories in the table

_PICTURES = {
    "dendrogram.png": "Tree of categories. The number at a merge is how often, in a hundred trees "
    "from images drawn anew, the same categories stood together; orange below 70.",
    "mst.png": "Minimum spanning tree, drawn from its centre. The shorter an edge, the darker.",
    "distances.png": "All distances, in the order of the tree.",
}


def read_summaries(workspace: Path, station: str) -> list[dict[str, Any]]:
    """Read what a station of ``cluster`` found on every layer, with the layer and its folder.

    Beside its own keys each has "layer", "folder", and "station": what was found, untouched.

    Raises
    ------
    CnnlensError
        When a summary is damaged.
    """
    found = []
    for file in sorted((workspace / "cluster").glob("*/summary.json")):
        document = read_json(file)
        if not isinstance(document, dict) or not isinstance(document.get(station, {}), dict):
            raise CnnlensError(f"{file} is damaged: no summary", "redo `cnnlens cluster --force`")
        if station in document:
            name = str(document.get("layer", file.parent.name))
            own = document[station]
            found.append({**own, "layer": name, "folder": file.parent, "station": own})
    return found


def category_trees(workspace: Path) -> Section | None:
    """Gather the section about trees of categories; None where there are none."""
    layers = [_layer(found) for found in read_summaries(workspace, "categories")]
    if not layers:
        return None
    pictures = {p["key"]: p["path"] for layer in layers for p in layer["pictures"]}
    return Section(
        template="categories.html",
        view={"layers": layers, "firm": FIRM},
        data={},
        pictures=pictures,
        sources=tuple(layer["folder"] / "summary.json" for layer in layers),
    )


def _layer(found: dict[str, Any]) -> dict[str, Any]:
    folder = found["folder"]
    try:
        nearest = read_csv(folder / "mst.csv", ("a", "b", "distance"))[:SHOWN]
        sides = [dict(side) for side in found["top_split"]]
        return {
            **{key: found[key] for key in ("layer", "folder", "categories", "images", "excluded")},
            **{key: found[key] for key in ("cophenetic", "centre", "first_merge", "first_support")},
            "nearest": [{**row, "distance": float(row["distance"])} for row in nearest],
            "sides": sides,
            "pictures": _pictures(folder),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise CnnlensError(
            f"{folder / 'summary.json'} is damaged: {error}", "redo `cnnlens cluster --force`"
        ) from error


def _pictures(folder: Path) -> list[dict[str, Any]]:
    return [
        {"key": f"cluster/{folder.name}/{name}", "path": folder / name, "caption": caption}
        for name, caption in _PICTURES.items()
        if (folder / name).is_file()
    ]
