"""The tree of a category's filters: in which order they decide for it (Dai 2020, algorithm 2).

Leaves are the vectors of the category's images, a node is the mean of its two children. The nearest
two nodes are merged, by ½(1 − cos) of the whole vectors. A merge has a critical filter F: of those
that both children can still reach, the one without which

    cos(u ⊙ 1[reach(u) \\ F], v ⊙ 1[reach(v) \\ F]) / cos(u ⊙ 1[reach(u)], v ⊙ 1[reach(v)])

is smallest; what both reach, less F, is what the merge reaches. Leaving out F changes the dot
product by u_F·v_F and the squared lengths by u_F² and v_F², so all filters cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cnnlens.errors import CnnlensError

NONE = -1  # in place of a critical filter, where both children reach none
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

    @property
    def sizes(self) -> np.ndarray:
        """(m,) int64: images below each merge."""
        sizes = [1] * len(self.leaves)
        for a, b in self.pairs.tolist():
            sizes.append(sizes[a] + sizes[b])
        return np.array(sizes[len(self.leaves) :], np.int64)


@dataclass(frozen=True)
class Merge:
    """One merge, while a tree grows: node numbers, their distance, filter, filters left."""

    pair: tuple[int, int]
    distance: float
    critical: int
    reachable: int


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
    forest = _Forest(vectors)
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


class _Forest:
    """The nodes that nothing has merged yet, each in a slot, and who is nearest to whom.

    The mean of two nodes may be nearer to a third than either was, so chains of nearest neighbours
    do not lead to the nearest pair. Instead every slot keeps its nearest neighbour, and a bound
    from below where that one is gone; it is searched anew only when its bound is the lowest.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        self._alive = np.ones(len(vectors), bool)
        self.number = list(range(len(vectors)))
        self._next = len(vectors)
        self._order = np.arange(len(vectors))  # number of each slot's node
        self._distances = self._all()
        self._near = self._distances.argmin(1) if len(vectors) > 1 else np.zeros(1, np.int64)
        self._bound = self._distances.min(1)
        self._stale = np.zeros(len(vectors), bool)

    @property
    def active(self) -> np.ndarray:
        """Slots in use."""
        return np.flatnonzero(self._alive)

    @property
    def count(self) -> int:
        """How many nodes are left."""
        return int(self._alive.sum())

    def _all(self) -> np.ndarray:
        dots = (self._vectors @ self._vectors.T).astype(np.float64)
        distances = half_cosine(dots, np.outer(self._squares, self._squares))
        np.fill_diagonal(distances, np.inf)
        return distances

    def nearest(self) -> tuple[int, int, float]:
        """Slots of the nearest pair, the lower number first, and their distance."""
        while True:
            lowest = self._bound.min()
            ties = np.flatnonzero(self._bound == lowest)
            stale = ties[self._stale[ties]]
            if not len(stale):
                break
            for slot in stale:
                self._search(int(slot))
        a = int(ties[self._order[ties].argmin()])
        return a, int(self._near[a]), float(lowest)

    def _search(self, slot: int) -> None:
        row = self._distances[slot]
        lowest = row.min()
        ties = np.flatnonzero(row == lowest)
        self._near[slot] = ties[self._order[ties].argmin()]
        self._bound[slot], self._stale[slot] = lowest, False

    def merge(self, a: int, b: int) -> None:
        """Put the mean of two nodes into the first one's slot."""
        self._vectors[a] = (self._vectors[a] + self._vectors[b]) / 2
        self._squares[a] = np.dot(self._vectors[a].astype(np.float64), self._vectors[a])
        self._alive[b] = False
        self.number[a] = self._order[a] = self._next
        self._next += 1
        self._distances[b] = self._distances[:, b] = np.inf
        self._bound[b] = np.inf
        self._stale |= (self._near == a) | (self._near == b)
        dots = (self._vectors @ self._vectors[a]).astype(np.float64)
        fresh = half_cosine(dots, self._squares * self._squares[a])
        fresh[~self._alive] = fresh[a] = np.inf
        self._distances[a] = self._distances[:, a] = fresh
        nearer = fresh < self._bound
        self._near[nearer], self._bound[nearer], self._stale[nearer] = a, fresh[nearer], False
        self._search(a)


def half_cosine(dots: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """½(1 − cos), cos = dots / √squares; ½ where one of the two vectors is 0."""
    cosines = np.where(squares > 0, dots / np.sqrt(np.where(squares > 0, squares, 1)), 0)
    return np.maximum((1 - cosines) / 2, 0)


def node_vectors(maps: np.ndarray, tree: FilterTree) -> np.ndarray:
    """Vectors of all nodes, leaves first: (n + m, C·H·W) float32, each the mean of its children."""
    count, flat = len(tree.leaves), maps[tree.leaves].reshape(len(tree.leaves), -1)
    found = np.empty((count + len(tree.pairs), flat.shape[1]), np.float32)
    found[:count] = flat
    for merge, (a, b) in enumerate(tree.pairs):
        found[count + merge] = (found[a] + found[b]) / 2
    return found
