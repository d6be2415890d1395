"""The tree of a category's filters: in which order they decide for it (Dai 2020, algorithm 2).

Leaves are the vectors of the category's images, a node is the mean of its two children. The nearest
two nodes are merged, by ½(1 − cos) of the whole vectors. A merge has a critical filter F: of those
that both children can still reach, the one without which

    cos(u ⊙ 1[reach(u) \\ F], v ⊙ 1[reach(v) \\ F]) / cos(u ⊙ 1[reach(u)], v ⊙ 1[reach(v)])

is smallest; what both reach, less F, is what the merge reaches. Leaving out F changes the dot
product by u_F·v_F and the squared lengths by u_F² and v_F², so all filters cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnnlens.cluster.tree import Forest, newick
from cnnlens.cluster.vectors import CategoryMaps, Groups, RowSource, read_categories
from cnnlens.errors import CnnlensError

NONE = -1  # in place of a critical filter, where both children reach none
_FEW = 0.02  # share of a category's images that is too few to count as a branch
_LARGE = 2 * 2**30  # bytes of vectors from which they are kept in single precision


@dataclass(frozen=True)
class FilterTree:
    """What `filter_tree` finds about n images.

    Attributes
    ----------
    leaves : numpy.ndarray
        (n,) int64: row of each leaf in what was given.
    pairs : numpy.ndarray
        (m, 2) int64: the two nodes of each merge; numbers below n are leaves, n + i is merge i.
        m < n − 1 where several subtrees remain.
    distances : numpy.ndarray
        (m,) float64, ½(1 − cos) of the two.
    critical : numpy.ndarray
        (m,) int64: the critical filter, `NONE` where there is none.
    reachable : numpy.ndarray
        (m,) int64: how many filters the merge can still reach.
    excluded : numpy.ndarray
        Rows whose vector is 0: it has no direction.
    """

    leaves: np.ndarray
    pairs: np.ndarray
    distances: np.ndarray
    critical: np.ndarray
    reachable: np.ndarray
    excluded: np.ndarray

    @cached_property
    def node_sizes(self) -> list[int]:
        """Images below each node, leaves first: (n + m,)."""
        sizes = [1] * len(self.leaves)
        for a, b in self.pairs.tolist():
            sizes.append(sizes[a] + sizes[b])
        return sizes

    @cached_property
    def sizes(self) -> np.ndarray:
        """(m,) int64: images below each merge."""
        return np.array(self.node_sizes[len(self.leaves) :], np.int64)

    @property
    def few(self) -> int:
        """Images that are too few to count as a branch: below 2 % of all, or below 2."""
        return max(2, round(_FEW * len(self.leaves)))

    def top_filters(self, most: int = 5) -> list[int]:
        """Critical filters of the last merges: those that decide first from the root down."""
        found = [int(f) for f in self.critical[::-1] if f != NONE]
        return list(dict.fromkeys(found))[:most]

    def leaf_entries(self, images: Sequence[str], rows: np.ndarray) -> list[dict[str, Any]]:
        """What each leaf says in ``filters/<category>.json``.

        Parameters
        ----------
        images : sequence of str
            Names of the images that the tree was grown from.
        rows : numpy.ndarray
            Their rows in the source.
        """
        return [{"image": images[leaf], "row": int(rows[leaf])} for leaf in self.leaves]

    def node_entries(self, detects: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
        """What each merge says there; `detects`: what filters detect, where that is known."""
        detects = detects or {}
        columns = (self.distances, self.critical, self.reachable, self.sizes)
        return [
            {
                "distance": float(distance),
                "critical_filter": int(f) if f != NONE else None,
                "filters": int(count),
                "images": int(size),
                **({"detects": detects[int(f)]} if int(f) in detects else {}),
            }
            for distance, f, count, size in zip(*columns, strict=True)
        ]

    def newick(self, images: Sequence[str]) -> str:
        """The tree in Newick's format; a merge is called after its critical filter."""
        labels = [f"filter {f}" if f != NONE else "" for f in self.critical]
        names = [images[leaf] for leaf in self.leaves]
        return newick(self.pairs, names, self.distances.tolist(), labels)

    def as_dict(self, images: Sequence[str]) -> dict[str, Any]:
        """Sum the tree up in plain numbers and strings, for JSON; `images` as in `leaf_entries`."""
        found = {
            "leaves": len(self.leaves),
            "merges": len(self.pairs),
            "excluded": [images[i] for i in self.excluded],
        }
        return {**found, "top_filters": self.top_filters()} if len(self.leaves) else found


@dataclass(frozen=True)
class Merge:
    """One merge, while a tree grows: node numbers, their distance, filter, filters left."""

    pair: tuple[int, int]
    distance: float
    critical: int
    reachable: int


def filter_trees(
    source: RowSource,
    groups: Groups,
    names: Sequence[str] | None = None,
    rule: str = "argmin",
) -> Iterator[tuple[CategoryMaps, FilterTree]]:
    """Yield a tree of filters per category, see `read_categories`.

    Parameters
    ----------
    source : RowSource
        A store, or `Maps`: (N, C, H, W).
    groups : Groups
        The category of each image.
    names : sequence of str, optional
        The categories that are wanted. Default: all.
    rule : {"argmin", "largest-change"}
        See `filter_tree`.

    Yields
    ------
    (CategoryMaps, FilterTree)
        What a tree was grown from, and the tree. Where the layer answers nothing to any image of
        a category, its tree has no leaves.
    """
    for given in read_categories(source, groups, names):
        yield given, filter_tree(given.maps, rule) if given.maps.any() else _bare(len(given.rows))


def _bare(images: int) -> FilterTree:
    """A tree without leaves: every image is excluded."""
    none, no_pairs = np.empty(0, np.int64), np.empty((0, 2), np.int64)
    return FilterTree(none, no_pairs, np.empty(0), none, none, np.arange(images))


def filter_tree(
    maps: np.ndarray,
    rule: str = "argmin",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FilterTree:
    """Build the tree of filters of one category (Dai 2020, §3.2, algorithm 2).

    Parameters
    ----------
    maps : numpy.ndarray
        (n, C, H, W): the layer's answers to the category's images.
    rule : {"argmin", "largest-change"}
        Which filter is critical: as the pseudocode prints it, or the one without which the cosine
        changes most (the text's wording).
    progress : callable
        Told the number of merges done, and of all there can be.

    Raises
    ------
    CnnlensError
        When no image has a direction (every vector is 0).
    ValueError
        When the rule is not known or the maps have not four dimensions.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not {rule!r}")
    if maps.ndim != 4:
        raise ValueError(f"maps (n, C, H, W), not {maps.shape}")
    there = maps.reshape(len(maps), -1).any(1)  # (n,)
    leaves = np.flatnonzero(there)
    if not len(leaves):
        raise CnnlensError("the layer answers nothing to any of the images", "name another layer")
    merges: list[Merge] = []
    for merge in grow(maps[leaves], rule):
        merges.append(merge)
        progress(len(merges), len(leaves) - 1)
    return FilterTree(
        leaves=leaves,
        pairs=np.array([m.pair for m in merges], np.int64).reshape(-1, 2),
        distances=np.array([m.distance for m in merges]),
        critical=np.array([m.critical for m in merges], np.int64),
        reachable=np.array([m.reachable for m in merges], np.int64),
        excluded=np.flatnonzero(~there),
    )


def grow(maps: np.ndarray, rule: str = "argmin") -> Iterator[Merge]:
    """Yield merge after merge, until nothing with more than one reachable filter is left."""
    count, units = maps.shape[:2]
    wide = maps.size * 8 <= _LARGE
    vectors = maps.reshape(count, -1).astype(np.float64 if wide else np.float32)  # (n, C·H·W)
    forest = Forest(vectors)
    reach = np.ones((count, units), bool)
    while forest.count > 1 and (reach[forest.active].sum(1) > 1).any():
        a, b, distance = forest.nearest()
        u, v = (vectors[slot].reshape(units, -1) for slot in (a, b))
        filter_ = critical_filter(u, v, reach[a], reach[b], rule)
        both = reach[a] & reach[b]
        if filter_ != NONE:
            both[filter_] = False
        pair = (forest.number[a], forest.number[b])
        forest.merge(a, b)
        reach[a] = both
        yield Merge(pair, distance, filter_, int(both.sum()))


def critical_filter(
    u: np.ndarray, v: np.ndarray, reach_u: np.ndarray, reach_v: np.ndarray, rule: str = "argmin"
) -> int:
    """Find the filter that matters most to how alike two nodes are.

    Parameters
    ----------
    u, v : numpy.ndarray
        (C, H·W) each.
    reach_u, reach_v : numpy.ndarray
        (C,) bool: the filters that each can still reach. Each side is masked by its own.
    rule : {"argmin", "largest-change"}
        See `filter_tree`.

    Returns
    -------
    int
        The filter; the lowest of equal ones; `NONE` where the two reach none together.
    """
    candidates = np.flatnonzero(reach_u & reach_v)
    if not len(candidates):
        return NONE
    dots, uu, vv = _per_filter(u, v), _per_filter(u, u), _per_filter(v, v)  # (C,) each
    dot, length_u, length_v = dots[candidates].sum(), uu[reach_u].sum(), vv[reach_v].sum()
    whole = _cosine(dot, length_u * length_v, 0.0)
    without = _cosine(
        dot - dots[candidates],
        np.maximum(length_u - uu[candidates], 0) * np.maximum(length_v - vv[candidates], 0),
        whole,
    )
    return int(candidates[RULES[rule](without, whole)])


def _per_filter(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("cp,cp->c", u, v, dtype=np.float64))


def _cosine(dot: np.ndarray, squares: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
    """dot / √squares; `otherwise` where that is a division by 0."""
    return np.where(squares > 0, dot / np.sqrt(np.where(squares > 0, squares, 1)), otherwise)


def _argmin(without: np.ndarray, whole: np.ndarray) -> int:
    # over a cosine of 0 nothing is smaller than anything else
    return int(np.argmin(without / whole)) if whole != 0 else 0


RULES: dict[str, Callable[[np.ndarray, np.ndarray], int]] = {
    "argmin": _argmin,
    "largest-change": lambda without, whole: int(np.argmax(np.abs(without - whole))),
}


def node_vectors(maps: np.ndarray, tree: FilterTree) -> np.ndarray:
    """Vectors of all nodes, leaves first: (n + m, C·H·W) float32, each the mean of its children."""
    count, flat = len(tree.leaves), maps.reshape(len(maps), -1)[tree.leaves]
    found = np.empty((count + len(tree.pairs), flat.shape[1]), np.float32)
    found[:count] = flat
    for merge, (a, b) in enumerate(tree.pairs):
        found[count + merge] = (found[a] + found[b]) / 2
    return found
