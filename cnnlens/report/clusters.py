"""The sections about what ``cluster`` finds: trees of categories, of filters, and layouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.cluster.embed import recalled
from cnnlens.cluster.tree import flat
from cnnlens.files.tables import read_csv
from cnnlens.report.blocks import (
    Cell,
    Explorer,
    Facts,
    Figure,
    Layer,
    Note,
    Section,
    Table,
    number,
    percent,
)
from cnnlens.report.cluster_files import ClusterResult, read_all_clusters
from cnnlens.report.contents import reading
from cnnlens.report.figures import categories as layouts
from cnnlens.report.figures import filters
from cnnlens.report.nested_trees import REDO, read_tree
from cnnlens.settings.cluster import ClusterSettings

SHOWN = 40  # categories whose trees of filters the page carries


def _existing(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    """Choose those files of a folder that are there."""
    return {name: words for name, words in names.items() if (folder / name).is_file()}


def _section(
    part: str, title: str, blocks: list[Any], found: list[ClusterResult], **told: Any
) -> Section:
    sources = [one.folder / "summary.json" for one in found]
    return Section(part, title, Note(part, told), blocks, sources)


def critical_rules(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say by which rules some results' critical filters are; the usual one where it is unknown."""
    rules = set()
    for one in results:
        made_from = one.get("made_from")
        settings = made_from.get("settings") if isinstance(made_from, dict) else None
        said = settings.get("rule") if isinstance(settings, dict) else None
        rules.add(str(said or ClusterSettings().rule))
    return sorted(rules)


# -- trees of categories -------------------------------------------------------------------------


def category_trees(workspace: Path) -> Section | None:
    """Gather the section about trees of categories; None where there are none."""
    found, layers = read_all_clusters(workspace, "categories"), []
    for one in found:
        with reading(one.folder / "summary.json", REDO):
            layers.append(_categories(one))
    title = "Which categories it holds close"
    return _section("categories", title, layers, found) if found else None


_CAPTIONS = {
    "dendrogram.png": "Tree of categories.{support}",
    "mst.png": "Minimum spanning tree, drawn from its centre. The shorter an edge, the darker.",
    "distances.png": "All distances, in the order of the tree.",
}


def _categories(one: ClusterResult) -> Layer:
    found, count = one.summary["categories"], one.summary["categories"]["categories"]
    figures = [
        Figure(one.folder / name, caption.format(support=_drawn_anew(found)), tall=count > 60)
        for name, caption in _existing(one.folder, _CAPTIONS).items()
    ]
    top = " from ".join(_side(side) for side in found["top_split"])
    facts = [
        ("Categories", f"{number(count)} ({number(found['images'])} images)"),
        ("First to merge", " + ".join(found["first_merge"]) + _support(found["first_support"])),
        ("Centre of the spanning tree", found["centre"]),
        ("Cophenetic correlation", number(found["cophenetic"], 2)),
        ("Parted at the top", top if count > 2 else ""),
        ("Left out (no activation)", ", ".join(found["excluded"])),
    ]
    nearest = [
        [row["a"], row["b"], Cell(number(float(row["distance"]), 4))]
        for row in read_csv(one.folder / "mst.csv", ("a", "b", "distance"))[:8]
    ]
    caption = "The nearest pairs along the spanning tree"
    table = Table(["category", "category", "distance"], nearest, caption)
    return Layer(one.name, Facts(facts), *figures, table)


def _drawn_anew(found: Mapping[str, Any]) -> str:
    """Say what the numbers in the tree are, of how many trees; nothing where none were drawn."""
    if not found.get("supported", found["first_support"] is not None):
        return ""
    trees = (found.get("made_from") or {}).get("settings", {}).get("bootstrap")
    of = "trees" if trees is None else "one tree" if trees == 1 else f"{number(trees)} trees"
    return (
        f" The number at a merge is in how many per cent of {of} from images drawn anew the same "
        "categories stood together; orange below 70."
    )


def _side(side: Mapping[str, Any]) -> str:
    names = side["categories"]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more + _support(side["support"])


def _support(value: float | None) -> str:
    return "" if value is None else f" (support {percent(value)})"


# -- trees of filters ----------------------------------------------------------------------------

_SAID = ("distance", "critical_filter", "filters")  # of every merge


def filter_trees(workspace: Path) -> Section | None:
    """Gather the section about trees of filters, opened node by node; None without any."""
    found, layers = read_all_clusters(workspace, "filters"), []
    for one in found:
        with reading(one.folder / "summary.json", REDO):
            whole = [entry for entry in one.summary["filters"]["categories"] if entry["leaves"]]
            files = [(str(entry["category"]), str(entry["file"])) for entry in whole]
        if files:
            layers.append(_filters(one, files))
    keys = [key for layer in layers for key in layer["wants"].values()]
    for layer in layers:
        for category in layer["categories"]:
            keys += [key for key in (category["sprite"], category["picture"]) if key]
    sizes = {"cell": filters.CELL, "columns": filters.COLUMNS, "most": filters.MOST}
    explorer = Explorer(
        template="filters.html",
        view={"layers": layers},
        data={"layers": layers, **sizes},
        pictures={key: workspace / key for key in keys},
        layers=[layer["layer"] for layer in layers],
    )
    title = "In which order its filters decide"
    rules = critical_rules(one.summary["filters"] for one in found)
    return _section("filters", title, [explorer], found, rules=rules) if layers else None


def _filters(one: ClusterResult, files: list[tuple[str, str]]) -> dict[str, Any]:
    folder = f"cluster/{one.folder.name}/filters"
    categories = []
    for name, file in files[:SHOWN]:
        tree = flat(read_tree(one.folder / "filters" / f"{file}.json", _SAID), _SAID)
        pictures = {f"{file}.webp": "sprite", f"{file}.png": "picture"}
        there = _existing(one.folder / "filters", pictures)
        keys = {what: f"{folder}/{picture}" for picture, what in there.items()}
        categories.append({"name": name, "sprite": None, "picture": None, **keys, **tree})
    critical = {node[1] for category in categories for node in category["nodes"]} - {None}
    wanted = f"visualize/{one.folder.name}"
    drawn = _existing(
        one.folder.parents[1] / wanted, {f"{unit}.png": str(unit) for unit in sorted(critical)}
    )
    return {
        "layer": one.name,
        "folder": folder,
        "more": max(0, len(files) - SHOWN),
        "categories": categories,
        "wants": {unit: f"{wanted}/{picture}" for picture, unit in drawn.items()},
    }


# -- layouts -------------------------------------------------------------------------------------

_FILES = {"flat": ("umap", "umap_pixels"), "deep": ("umap_3d", "umap_pixels_3d")}
_WHERE = {"vectors": "the vectors themselves", "2d": "the layout in 2-D", "3d": "the one in 3-D"}


def embeddings(workspace: Path) -> Section | None:
    """Gather the section about layouts, whose points can be pointed at; None without any."""
    found = read_all_clusters(workspace, "embed")
    view, data = [], []
    pictures: dict[str, Path] = {}
    for one in found:
        there = _existing(one.folder, {"umap.png": "picture", "umap.webp": "sprite"})
        keys = {what: f"cluster/{one.folder.name}/{name}" for name, what in there.items()}
        pictures |= {key: workspace / key for key in keys.values()}
        made = one.summary["embed"]
        with reading(one.folder / "summary.json", REDO):
            rows = [
                {"where": where, **{side: made[side][key] for side in ("layer", "pixels")}}
                for key, where in _WHERE.items()
            ]
            recall = recalled(made)
        about = {"layer": one.name, "rows": rows, "neighbours": made.get("neighbours")}
        about |= {"recall": recall}
        view.append({**about, "picture": keys.get("picture")})
        data.append({"layer": one.name, **_layout(one.folder), "sprite": keys.get("sprite")})
    sizes = {"side": layouts.SIDE, "columns": layouts.COLUMNS, "most": layouts.MOST}
    layers = [one.name for one in found]
    explorer = Explorer("embed.html", {"layers": view}, {"layers": data, **sizes}, pictures, layers)
    return _section("embed", "How the images lie", [explorer], found) if found else None


def _layout(folder: Path) -> dict[str, Any]:
    places = {}
    for kind, files in _FILES.items():
        axes = "xy" if kind == "flat" else "xyz"
        tables = [read_csv(folder / f"{f}.csv", ("image", "category", *axes)) for f in files]
        with reading(folder / f"{files[0]}.csv", REDO):
            places[kind] = [_scaled(table, axes) for table in tables]
    categories = sorted({row["category"] for row in tables[0]})
    number = {name: index for index, name in enumerate(categories)}
    return {
        "images": [row["image"] for row in tables[0]],
        "of": [number[row["category"]] for row in tables[0]],
        "categories": categories,
        "colours": layouts.hues(len(categories)),
        **places,
    }


def _scaled(rows: list[dict[str, str]], axes: str) -> list[list[float]]:
    """Places in [0, 1], one scale for all axes, in the few digits that a screen can show."""
    at = np.array([[float(row[axis]) for axis in axes] for row in rows])  # (N, 2 or 3)
    low, extent = at.min(axis=0), np.ptp(at, axis=0)
    reach = extent.max() or 1.0
    scaled: list[list[float]] = np.round((at - low + (reach - extent) / 2) / reach, 4).tolist()
    return scaled
