"""The tree of categories: which classes a layer holds close (Dai 2020, algorithm 1).

Each category is the mean of its images' vectors; the distance of two is ½(1 − cos). The nearest
pair is merged, the distances to the merged one are the averages of the two: that is WPGMA, which
scipy calls "weighted" linkage.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.cluster.products import gram_steps, unit_blocks
from cnnlens.cluster.tree import clades, newick
from cnnlens.cluster.vectors import Groups, MapSource
from cnnlens.errors import CnnlensError, first_of
from cnnlens.progress import Step, followed

_PRODUCTS = 256 * 2**20  # bytes of dot products held at once
_ORDERED = 400  # categories up to which the best order of leaves is searched for (cubic time)


@dataclass(frozen=True)
class CategoryTree:
    """What `category_tree` finds about K categories.

    Attributes
    ----------
    names : tuple of str
        The categories.
    images : tuple of int
        Images of each.
    distances : numpy.ndarray
        (K, K) float64, ½(1 − cos) of the mean vectors, in [0, 1].
    merges : numpy.ndarray
        (K − 1, 4) float64: scipy's linkage matrix (two nodes, distance, leaves below).
    order : numpy.ndarray
        (K,) int64: the leaves in an order in which near ones stand side by side.
    support : numpy.ndarray or None
        (K − 1,) float64: share of bootstrap trees that have a merge's set of categories too. NaN
        where that says nothing: at the root, which every tree has, and where all categories below
        are of one image, which is drawn every time. None where nothing was resampled.
    cophenetic : float or None
        Correlation of the tree's distances with the true ones; None for fewer than 3 categories or
        where all distances are equal.
    edges : tuple of (int, int, float)
        The minimum spanning tree: two categories and their distance.
    centre : int
        The category from which the summed way to all others along the spanning tree is shortest.
    excluded : tuple of str
        Categories without a direction: their mean vector is 0.
    """

    names: tuple[str, ...]
    images: tuple[int, ...]
    distances: np.ndarray
    merges: np.ndarray
    order: np.ndarray
    support: np.ndarray | None
    cophenetic: float | None
    edges: tuple[tuple[int, int, float], ...]
    centre: int
    excluded: tuple[str, ...]

    def leaf_entries(self) -> list[dict[str, Any]]:
        """What each leaf says in ``categories.json``."""
        pairs = zip(self.names, self.images, strict=True)
        return [{"name": name, "images": images} for name, images in pairs]

    def node_entries(self) -> list[dict[str, Any]]:
        """What each merge says in ``categories.json``."""
        pairs = zip(self.merges[:, 2].tolist(), self._supports, strict=True)
        return [{"distance": distance, "support": share} for distance, share in pairs]

    @property
    def _supports(self) -> list[float | None]:
        """The support of each merge; None where there is none."""
        if self.support is None:
            return [None] * len(self.merges)
        return [None if np.isnan(share) else float(share) for share in self.support]

    def newick(self) -> str:
        """The tree in Newick's format, with the support in per cent where there is one."""
        labels = ["" if share is None else f"{100 * share:.0f}" for share in self._supports]
        return newick(self.merges[:, :2], self.names, self.merges[:, 2].tolist(), labels)

    @property
    def notes(self) -> list[str]:
        """What a reader has to know: the first categories that were left out, and why."""
        why = "the layer answers nothing to its images"
        return [f"left out {name}: {why}" for name in self.excluded[:5]]

    def as_dict(self) -> dict[str, Any]:
        """Sum the tree up in plain numbers and strings, for JSON."""
        first = [self.names[int(i)] for i in self.merges[0, :2]]  # a first merge is of two leaves
        return {
            "categories": len(self.names),
            "images": sum(self.images),
            "first_merge": first,
            "first_distance": float(self.merges[0, 2]),
            "first_support": self._supports[0],
            "supported": sum(share is not None for share in self._supports),
            "top_split": self._top_split(),
            "cophenetic": self.cophenetic,
            "centre": self.names[self.centre],
            "excluded": list(self.excluded),
        }

    def _top_split(self) -> list[dict[str, Any]]:
        """The two sets that the root joins: their categories and the support of each."""
        count = len(self.names)
        under = [*(1 << leaf for leaf in range(count)), *clades(self.merges[:, :2], count)]
        support = [*[None] * count, *self._supports]
        sides = [
            {
                "categories": [name for i, name in enumerate(self.names) if under[node] >> i & 1],
                "support": support[node],
            }
            for node in map(int, self.merges[-1, :2])
        ]
        return sorted(sides, key=lambda side: len(side["categories"]))


def category_tree(
    source: MapSource,
    groups: Groups,
    *,
    resamples: int = 100,
    seed: int = 0,
    progress: Callable[[Step], None] | None = None,
) -> CategoryTree:
    """Build the tree of categories of a layer (Dai 2020, §2.5, algorithm 1).

    Parameters
    ----------
    source : MapSource
        A store, or `Maps`: (N, C, H, W).
    groups : Groups
        The category of each image.
    resamples : int
        Bootstrap trees for the support, each from images drawn anew with replacement within every
        category; 0 for none. Needs a category with two images.
    seed : int
        Of the bootstrap.
    progress : callable
        Told how many of all trees are done.

    Raises
    ------
    CnnlensError
        When fewer than two categories have a direction.
    """
    return followed(category_steps(source, groups, resamples, seed), progress)


def category_steps(
    source: MapSource, groups: Groups, resamples: int = 100, seed: int = 0
) -> Generator[Step, None, CategoryTree]:
    """Do what `category_tree` does, a step for every block that is read and for every tree."""
    once = np.ones((1, source.shape[0]))
    products = (yield from gram_steps(source, groups, once))[0]
    lengths = np.diag(products)
    kept = np.flatnonzero((lengths > 0) & (groups.sizes > 0))
    excluded = tuple(n for i, n in enumerate(groups.names) if i not in set(kept.tolist()))
    if len(kept) < 2:
        raise CnnlensError(_too_few(groups, excluded), "name another layer with -l, or other data")
    distances = cosine_distances(products[np.ix_(kept, kept)])
    merges = wpgma(distances)
    total = resamples + 1 if groups.sizes.max() > 1 and resamples else 1
    yield Step(1, total, unit="trees")
    support = None
    if total > 1:
        support = yield from _support(source, groups, kept, merges, resamples, seed)
    edges = spanning_tree(distances)
    return CategoryTree(
        names=tuple(groups.names[i] for i in kept),
        images=tuple(int(groups.sizes[i]) for i in kept),
        distances=distances,
        merges=merges,
        order=_order(merges, distances),
        support=support,
        cophenetic=_cophenetic(merges, distances),
        edges=edges,
        centre=_centre(edges, len(kept)),
        excluded=excluded,
    )


def cosine_distances(products: np.ndarray) -> np.ndarray:
    """½(1 − cos) from dot products (K, K): 0 on the diagonal, exactly 0 for equal vectors."""
    lengths = np.sqrt(np.diag(products))
    cosines = np.clip(products / np.outer(lengths, lengths), -1, 1)
    distances = (1 - (cosines + cosines.T) / 2) / 2
    distances[distances < 1e-15] = 0  # rounding of the dot products of equal vectors
    np.fill_diagonal(distances, 0)
    return np.asarray(distances)


def wpgma(distances: np.ndarray) -> np.ndarray:
    """Merge the nearest pair, average its distances, until one is left: (K − 1, 4)."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return np.asarray(linkage(squareform(distances, checks=False), method="weighted"))


def spanning_tree(distances: np.ndarray) -> tuple[tuple[int, int, float], ...]:
    """Minimum spanning tree of a full matrix of distances (K, K), shortest edges first."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    # an entry of 0 is no edge to scipy; adding 1 everywhere changes no tree
    found = minimum_spanning_tree(distances + 1).tocoo()
    pairs = [(min(a, b), max(a, b)) for a, b in zip(found.row, found.col, strict=True)]
    edges = [(int(a), int(b), float(distances[a, b])) for a, b in pairs]
    return tuple(sorted(edges, key=lambda edge: (edge[2], edge[:2])))


def _centre(edges: tuple[tuple[int, int, float], ...], count: int) -> int:
    from scipy.sparse.csgraph import shortest_path

    graph = np.zeros((count, count))
    for a, b, distance in edges:
        graph[a, b] = graph[b, a] = distance + 1e-12  # 0 would be no edge
    return int(shortest_path(graph, directed=False).sum(1).argmin())


def _order(merges: np.ndarray, distances: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import leaves_list, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if len(distances) <= _ORDERED:
        merges = optimal_leaf_ordering(merges, squareform(distances, checks=False))
    return np.asarray(leaves_list(merges), np.int64)


def _cophenetic(merges: np.ndarray, distances: np.ndarray) -> float | None:
    from scipy.cluster.hierarchy import cophenet
    from scipy.spatial.distance import squareform

    condensed = squareform(distances, checks=False)
    if len(distances) < 3 or condensed.std() == 0:
        return None
    value, _ = cophenet(merges, condensed)
    return float(value) if np.isfinite(value) else None


def bootstrap_weights(groups: Groups, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn, (resamples, N): each category keeps its number of images."""
    weights = np.zeros((resamples, len(groups.of_image)), np.float32)
    for category in range(len(groups.names)):
        rows = np.flatnonzero(groups.of_image == category)
        if len(rows):
            share = np.full(len(rows), 1 / len(rows))
            weights[:, rows] = rng.multinomial(len(rows), share, size=resamples)
    return weights


def _support(
    source: MapSource,
    groups: Groups,
    kept: np.ndarray,
    merges: np.ndarray,
    resamples: int,
    seed: int,
) -> Generator[Step, None, np.ndarray]:
    wanted = clades(merges[:, :2], len(kept))
    seen = np.zeros(len(wanted))
    rng = np.random.default_rng(seed)
    done = 0
    for count in _portions(resamples, len(groups.names)):
        weights = bootstrap_weights(groups, count, rng)
        for products in (yield from gram_steps(source, groups, weights)):
            found = _resampled(products[np.ix_(kept, kept)])
            seen += [clade in found for clade in wanted]
            done += 1
            yield Step(done + 1, resamples + 1, unit="trees")
    drawn = sum(1 << place for place, one in enumerate(kept) if groups.sizes[one] > 1)
    says = [bool(clade & drawn) for clade in wanted[:-1]] + [False]  # the root is in every tree
    return np.where(says, seen / resamples, np.nan)


def _portions(resamples: int, categories: int) -> list[int]:
    """How many trees are grown at once, time after time, so that dot products fit into memory."""
    at_once = max(1, min(resamples, _PRODUCTS // (8 * categories**2)))
    return [min(at_once, resamples - start) for start in range(0, resamples, at_once)]


def count_readings(shape: tuple[int, int, int, int], categories: int, resamples: int) -> int:
    """Say how often `category_tree` reads a source (N, C, H, W) from the start."""
    portions = [1, *_portions(resamples, categories)] if resamples else [1]
    return sum(len(unit_blocks(shape, trees * categories)) for trees in portions)


def _resampled(products: np.ndarray) -> set[int]:
    """Sets of categories in one bootstrap tree; a mean that has become 0 is far from all."""
    empty = np.diag(products) <= 0
    products = products + np.diag(np.where(empty, 1.0, 0.0))
    return set(clades(wpgma(cosine_distances(products))[:, :2], len(products)))


def _too_few(groups: Groups, excluded: tuple[str, ...]) -> str:
    if len(groups.names) < 2:
        return f"a tree needs two categories, and there is only {', '.join(groups.names) or 'none'}"
    named = first_of(excluded, 5)
    return f"the layer answers nothing to {named}: fewer than two categories are left"


# ---- trees of layers beside each other

LAYER_COLUMNS = (
    *("layer", "categories", "images", "first to merge", "support", "centre", "cophenetic r"),
)


def layer_row(layer: str, tree: Mapping[str, Any]) -> list[object]:
    """Give a layer's row under `LAYER_COLUMNS`, from its tree's `as_dict`."""
    first = " + ".join(tree["first_merge"]), tree["first_support"]
    return [layer, tree["categories"], tree["images"], *first, tree["centre"], tree["cophenetic"]]
