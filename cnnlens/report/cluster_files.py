"""``WORKSPACE/cluster/<layer>``: trees and layouts, written with their pictures and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.cluster.categories import CategoryTree
from cnnlens.cluster.embed import Layouts
from cnnlens.cluster.filters import FilterTree
from cnnlens.cluster.tree import walk
from cnnlens.cluster.vectors import CategoryMaps, Groups
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import write_text
from cnnlens.files.tables import read_csv, write_csv
from cnnlens.report.contents import finished, read_summary, reading
from cnnlens.report.figures import categories, filters, save_figure, save_image, sprite
from cnnlens.report.nested_trees import REDO, read_tree, write_tree
from cnnlens.report.sheet import PACKED
from cnnlens.report.shown import Fact, LayerResult, Picture

CATEGORIES = (
    *("categories.json", "categories.nwk", "mst.csv", "distances.csv"),
    *("dendrogram.png", "mst.png", "distances.png"),
)
_TABLES = ("umap.csv", "umap_3d.csv", "umap_pixels.csv", "umap_pixels_3d.csv")
EMBED = (*_TABLES, "umap.png", "umap.webp")


@dataclass(frozen=True, eq=False)
class ClusterResult(LayerResult):
    """What cluster found on one layer; ``found["cat"]`` is the tree of that category's filters, of
    which there are several: ``for tree in found``.

    Trees are nested mappings: leaves, and nodes with "distance" and "children". The summary has
    of "categories", "filters" and "embed" those that were made; what is of another is a
    `CnnlensError`.
    """

    @cached_property
    def categories(self) -> dict[str, Any]:
        """The tree of categories."""
        self._check_made("categories", "the tree of categories")
        return read_tree(self.folder / "categories.json")

    @property
    def names(self) -> list[str]:
        """The categories, in the order of `distances`: near ones side by side."""
        return [row["category"] for row in self._distances]

    @property
    def distances(self) -> np.ndarray:
        """(K, K) float64: ½(1 − cos) of the categories' mean vectors."""
        with reading(self.folder / "distances.csv", REDO):
            return np.array([[float(row[name]) for name in self.names] for row in self._distances])

    @cached_property
    def _distances(self) -> list[dict[str, str]]:
        self._check_made("categories", "the tree of categories")
        return read_csv(self.folder / "distances.csv", ("category",))

    def __getitem__(self, category: str) -> dict[str, Any]:
        for one in self._trees:
            if one["category"] == category and one["leaves"]:
                return read_tree(self.folder / "filters" / f"{one['file']}.json")
        known = ", ".join(one["category"] for one in self._trees if one["leaves"])
        raise KeyError(f"no tree of filters for {category!r}; there are {known or 'none'}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the trees of filters, in the order of `table`."""
        self._check_made("filters", "the forest of filters")
        return (self[one["category"]] for one in self._trees if one["leaves"])

    @property
    def _trees(self) -> list[dict[str, Any]]:
        return list(self.summary.get("filters", {}).get("categories", []))

    def _check_made(self, part: str, what: str) -> None:
        if part not in self.summary:
            raise CnnlensError(
                f"{what} of {self.name} was not made", f"`cnnlens cluster --only {part}` makes it"
            )

    def layout(self, of: str = "layer", dimensions: int = 2) -> np.ndarray:
        """Read where the images lie, (N, 2) or (N, 3) float64; `of` the "layer" or the "pixels"."""
        if of not in ("layer", "pixels") or dimensions not in (2, 3):
            raise UsageError(
                f"there is no layout of {of} in {dimensions} dimensions",
                "there is one of the layer and one of the pixels, in 2 and in 3",
            )
        self._check_made("embed", "the layout")
        file = self.folder / _TABLES[2 * (of == "pixels") + (dimensions == 3)]
        axes = "xyz"[:dimensions]
        with reading(file, REDO):
            return np.array([[float(row[a]) for a in axes] for row in read_csv(file, tuple(axes))])

    def table(self) -> list[dict[str, Any]]:
        """Give a row per category: images, and the filters that decide first for it, where trees of
        filters were made.
        """
        if "filters" not in self.summary:
            leaves = [node for node in walk(self.categories) if "children" not in node]
            rows = [{"category": one["name"], "images": one["images"]} for one in leaves]
            return sorted(rows, key=lambda row: row["category"])
        rows = []
        for one in self._trees:
            row = {key: one[key] for key in ("category", "images", "merges")}
            rows.append({**row, "top_filters": " ".join(map(str, one.get("top_filters", ())))})
        return rows

    def _title(self) -> str:
        return f"How {self.name} organizes what it knows"

    def _facts(self) -> Iterable[Fact]:
        if found := self.summary.get("categories"):
            support = found["first_support"]
            yield "categories", str(found["categories"]), ""
            yield "first to merge", " + ".join(found["first_merge"]), ""
            yield "support", "–" if support is None else f"{support:.0%}", ""
        if found := self.summary.get("embed"):
            for side in ("layer", "pixels"):
                near = found[side]["vectors"]
                if near["neighbours"] is not None:
                    words = f"neighbours of one category ({side})"
                    yield words, f"{near['neighbours']:.0%}", f"{near['chance']:.0%}"

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        names = {"tree of categories": "dendrogram.png", "layouts": "umap.png"}
        trees = {one["category"]: f"filters/{one['file']}.png" for one in self._trees}
        for words, file in {**names, **trees}.items():
            if (self.folder / file).is_file():
                yield words, self.folder / file


def read_clusters(folder: Path) -> ClusterResult:
    """Read what cluster left of one layer; a damaged file is named (`CnnlensError`)."""
    name, summary = read_summary(folder, REDO)
    for part in ("categories", "filters", "embed"):
        if not isinstance(summary.get(part, {}), dict):
            raise CnnlensError(f"{folder / 'summary.json'} is damaged: {part}", REDO)
    return ClusterResult(name, folder, summary)


def read_all_clusters(workspace: Path, part: str) -> list[ClusterResult]:
    """Read every layer of which cluster made a part: "categories", "filters", or "embed"."""
    found = [read_clusters(folder) for folder in finished(workspace, "cluster")]
    return [one for one in found if part in one.summary]


# -- writing -------------------------------------------------------------------------------------


def write_categories(folder: Path, tree: CategoryTree) -> None:
    """Write the tree of categories in all its forms: `CATEGORIES`."""
    pairs = tree.merges[:, :2].astype(int)
    write_tree(folder / "categories.json", pairs, tree.leaf_entries(), tree.node_entries())
    write_text(folder / "categories.nwk", tree.newick())
    edges = [(tree.names[a], tree.names[b], d) for a, b, d in tree.edges]
    write_csv(folder / "mst.csv", ("a", "b", "distance"), edges)
    names = [tree.names[i] for i in tree.order]
    rows = tree.distances[tree.order][:, tree.order].tolist()
    table = ([name, *row] for name, row in zip(names, rows, strict=True))
    write_csv(folder / "distances.csv", ("category", *names), table)
    save_figure(categories.dendrogram(tree), folder / "dendrogram.png")
    save_figure(categories.spanning_tree_figure(tree), folder / "mst.png")
    save_figure(categories.heat_map(tree), folder / "distances.png")


def filter_files(file: str) -> tuple[str, ...]:
    """List the files of a category's tree of filters, below the layer's folder."""
    return tuple(f"filters/{file}.{ending}" for ending in ("json", "nwk", "png", "webp"))


def drop_filters(folder: Path, kept: Iterable[str]) -> None:
    """Remove trees of filters that are none of those `kept`: of categories that have gone."""
    # a disk that does not tell cases apart may have kept an earlier spelling
    names = {name.casefold() for file in kept for name in filter_files(file)}
    endings = {Path(name).suffix for name in filter_files("x")}
    for path in (folder / "filters").glob("*.*"):
        if path.suffix in endings and f"filters/{path.name}".casefold() not in names:
            with suppress(OSError):
                path.unlink()


def write_filters(
    folder: Path,
    file: str,
    given: CategoryMaps,
    tree: FilterTree,
    images: Sequence[str],
    detects: Mapping[int, str],
    layer: str,
    thumbnail: Callable[[int], np.ndarray],
) -> dict[str, Any]:
    """Write the tree of one category's filters in all its forms, if it has leaves: `filter_files`.

    They are called `file`, below the layer's `folder`. `given` is what the tree was grown from, of
    n images of these names; `detects` says what filters of the `layer` detect, where that is known.
    `thumbnail` gives an image as the network sees it, by its row in the source: (64, 64, 3) uint8.
    Returned is what the summary lists of the tree.
    """
    about = {"category": given.name, "file": file, "images": len(images), **tree.as_dict(images)}
    if not len(tree.leaves):
        return about
    as_json, as_newick, picture, thumbnails = (folder / name for name in filter_files(file))
    rows = given.rows[tree.leaves].tolist()
    cell = cache(lambda leaf: thumbnail(rows[leaf]))
    leaves = tree.leaf_entries(images, given.rows)
    write_tree(as_json, tree.pairs, leaves, tree.node_entries(detects))
    write_text(as_newick, tree.newick(images))
    peaks = given.maps[tree.leaves].max(axis=(2, 3))  # (n, C)
    title = f"{given.name}: filters of {layer}"
    drawn = filters.draw_tree(title, tree, peaks, cell, detects)
    save_image(picture, drawn, "PNG", compress_level=PACKED)
    cut = [cell(leaf) for leaf in range(min(len(rows), filters.MOST))]
    shown = sprite(cut, filters.CELL, filters.COLUMNS)
    save_image(thumbnails, shown, "WEBP", quality=70, method=2)
    return about


def write_layouts(
    folder: Path,
    layouts: Layouts,
    images: Sequence[str],
    groups: Groups | None,
    layer: str,
    thumbnails: Sequence[np.ndarray],
) -> None:
    """Write where images lie, by a layer's vectors and by their pixels: `EMBED`.

    Files go to the layer's `folder`. `images` are the names of the N images, `groups` their
    categories, `thumbnails` the first `categories.MOST` of them, (SIDE, SIDE, 3) uint8.
    """
    known = [groups.names[i] for i in groups.of_image] if groups else [""] * len(images)
    both = (one for one in (layouts.layer, layouts.pixels) if one)
    places = [places for one in both for places in (one.flat, one.deep)]
    for file, place in zip(_TABLES, places, strict=True):
        header = ("image", "category", *"xyz"[: place.shape[1]])
        rows = zip(images, known, place.tolist(), strict=True)
        write_csv(folder / file, header, ([i, c, *at] for i, c, at in rows))
    save_figure(categories.draw_layouts(layouts, groups, layer), folder / "umap.png")
    drawn = sprite(thumbnails, categories.SIDE, categories.COLUMNS)
    save_image(folder / "umap.webp", drawn, "WEBP", quality=65, method=2)
