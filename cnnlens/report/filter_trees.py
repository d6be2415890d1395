"""The section about trees of filters: every category's tree, opened node by node on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.report.blocks import Explorer, Section
from cnnlens.report.contents import Clustering, read_clustering
from cnnlens.report.figures.filters import CELL, COLUMNS, MOST
from cnnlens.report.trees import read_tree

SHOWN = 40  # categories whose trees the page carries

_NOTE = (
    "A category’s images are merged pair by pair, the most alike first. The critical filter of a "
    "merge is the one without which the two sides would be least alike; it then counts no more "
    "above. Read from the left: what comes first holds for the whole category, what comes later "
    "tells its kinds apart. The pictures at a node are the images below it that excite its filter "
    "most."
)
_INNER = ("distance", "critical_filter", "filters")


def filter_trees(workspace: Path) -> Section | None:
    """Gather the section about trees of filters; None where there are none.

    Raises
    ------
    CnnlensError
        When a summary or a tree is damaged.
    """
    found = read_clustering(workspace, "filters")
    layers = [layer for one in found if (layer := _layer(one))]
    if not layers:
        return None
    pictures = {}
    for layer in layers:
        for category in layer["categories"]:
            for key in (category["sprite"], category["picture"], *layer["wants"].values()):
                if key:
                    pictures[key] = workspace / key
    view = {"layers": [_view(layer) for layer in layers]}
    data = {"layers": layers, "cell": CELL, "columns": COLUMNS, "most": MOST}
    explorer = Explorer("filters.html", view, data, pictures)
    sources = [one.file for one in found]
    return Section("filters", "In which order its filters decide", _NOTE, [explorer], sources)


def _layer(one: Clustering) -> dict[str, Any] | None:
    folder, listed = one.folder / "filters", one.found.get("categories")
    if not isinstance(listed, list) or not all(_is_entry(entry) for entry in listed):
        raise CnnlensError(
            f"{one.file} is damaged: it lists no categories",
            "redo `cnnlens cluster --force`",
        )
    whole = [entry for entry in listed if entry["leaves"]]
    if not whole:
        return None
    categories = [_category(folder, one.folder.name, e) for e in whole[:SHOWN]]
    return {
        "layer": one.layer,
        "folder": f"cluster/{one.folder.name}/filters",
        "more": max(0, len(whole) - SHOWN),
        "categories": categories,
        "wants": _wants(one.folder, {node[1] for c in categories for node in c["nodes"]}),
    }


def _wants(folder: Path, critical: set[int | None]) -> dict[str, str]:
    """Pictures of what critical filters want to see, by the filter's number."""
    drawn = folder.parents[1] / "visualize" / folder.name
    return {
        str(unit): f"visualize/{folder.name}/{unit}.png"
        for unit in sorted(u for u in critical if u is not None)
        if (drawn / f"{unit}.png").is_file()
    }


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    texts = all(isinstance(entry.get(key), str) for key in ("category", "file"))
    return texts and isinstance(entry.get("leaves"), int)


def _category(folder: Path, layer: str, entry: dict[str, Any]) -> dict[str, Any]:
    tree = read_tree(folder / f"{entry['file']}.json", _INNER)
    keys = {}
    for name, ending in (("sprite", "webp"), ("picture", "png")):
        file = f"{entry['file']}.{ending}"
        keys[name] = f"cluster/{layer}/filters/{file}" if (folder / file).is_file() else None
    return {"name": entry["category"], **keys, **flat(tree)}


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Lay a nested tree out in lists, as the page's script reads it.

    Returns
    -------
    dict
        ``images``: the leaves' images; ``nodes``: [distance, filter, filters, what it detects,
        numbers of its children] for every merge, children before parents; ``roots``.
        Numbers below the count of images are leaves, the others merges.
    """
    order: list[dict[str, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += node.get("children", [])
    leaves = [node for node in order if "children" not in node]
    leaves.sort(key=lambda leaf: leaf.get("row", 0))  # as they stand in the sprite
    number = {id(node): index for index, node in enumerate(leaves)}
    nodes: list[list[Any]] = []
    for node in reversed(order):
        if "children" not in node or (node is tree and node["distance"] is None):
            continue
        number[id(node)] = len(leaves) + len(nodes)
        below = [number[id(child)] for child in node["children"]]
        said = [node[key] for key in _INNER]
        nodes.append([*said, node.get("detects"), below])
    alone = tree["children"] if "children" in tree and tree["distance"] is None else [tree]
    images = [str(leaf.get("image", "")) for leaf in leaves]
    return {"images": images, "nodes": nodes, "roots": [number[id(node)] for node in alone]}


def _view(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "layer": layer["layer"],
        "folder": layer["folder"],
        "more": layer["more"],
        "categories": [
            {
                "name": category["name"],
                "picture": category["picture"],
                "images": len(category["images"]),
            }
            for category in layer["categories"]
        ],
    }
