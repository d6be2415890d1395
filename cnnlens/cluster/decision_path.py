"""An image's path down a tree of filters, always to the nearer child.

Dai 2020, §3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.filters import NONE, FilterTree, node_vectors
from cnnlens.cluster.tree import half_cosine, roots
from cnnlens.cluster.turns import Turn, turns


@dataclass(frozen=True)
class Split:
    """One merge on the path from the root to a leaf.

    Attributes
    ----------
    merge : int
        Which, counted as the tree counts its merges.
    filter : int or None
        Its critical filter.
    to_chosen, to_other : float
        ½(1 − cos) of the image to the child that it goes to, and to the other one.
    chosen, other : int
        These children, as the tree counts its nodes.
    turn : Turn or None
        What of the critical filter would have turned it; None where no strength of it would.
    easiest : Turn or None
        The unit of the layer that needed to change least to turn it.
    """

    merge: int
    filter: int | None
    to_chosen: float
    to_other: float
    chosen: int = NONE
    other: int = NONE
    turn: Turn | None = None
    easiest: Turn | None = None


@dataclass(frozen=True)
class DecisionPath:
    """The splits from root to leaf, the leaf, and how far the image is from it."""

    splits: tuple[Split, ...]
    leaf: int
    distance: float

    def main_splits(self, tree: FilterTree, most: int = 8) -> list[int]:
        """Choose the first `most` splits that do more than set a few images apart.

        Where there are fewer, the first of the others join them.
        """
        sizes, few = tree.node_sizes, tree.few
        numbers = range(len(self.splits))
        smaller = [min(sizes[c] for c in tree.pairs[s.merge].tolist()) for s in self.splits]
        main = [i for i in numbers if smaller[i] >= few][:most]
        rest = [i for i in numbers if smaller[i] < few]
        return sorted([*main, *rest[: most - len(main)]])


def decision_path(maps: np.ndarray, tree: FilterTree, image: np.ndarray) -> DecisionPath:
    """Let an image go down a tree, at every split to the nearer child.

    Parameters
    ----------
    maps : numpy.ndarray
        (n, C, H, W): what the tree was built from.
    tree : FilterTree
        The tree.
    image : numpy.ndarray
        (C, H, W): the layer's answer to the image.

    Returns
    -------
    DecisionPath
        Equally near children: the one with the lower number. Where several subtrees remain, it
        begins at the nearest one.
    """
    if image.shape != maps.shape[1:]:
        raise ValueError(f"an image {image.shape} in a tree of {maps.shape[1:]}")
    return descend(node_vectors(maps, tree), tree, image)


def descend(vectors: np.ndarray, tree: FilterTree, image: np.ndarray) -> DecisionPath:
    """Do what `decision_path` does, given the vectors of all nodes (see `node_vectors`)."""
    count = len(tree.leaves)
    node, _ = _nearest(vectors, roots(tree.pairs, count), image)[0]
    splits = []
    while node >= count:
        merge = node - count
        (node, near), (other, far) = _nearest(vectors, tree.pairs[merge].tolist(), image)
        critical = None if (unit := int(tree.critical[merge])) == NONE else unit
        turn, least = turns(vectors[node], vectors[other], image, critical)
        splits.append(Split(merge, critical, near, far, node, other, turn, least))
    ((_, distance),) = _nearest(vectors, [node], image)
    return DecisionPath(tuple(splits), node, distance)


def _nearest(
    vectors: np.ndarray, nodes: Sequence[int], image: np.ndarray
) -> list[tuple[int, float]]:
    """Nodes and their distances, the nearest first."""
    flat = image.ravel().astype(np.float64)
    there = vectors[list(nodes)].astype(np.float64)
    distances = half_cosine(there @ flat, (there * there).sum(1) * (flat @ flat))
    order = np.argsort(distances, kind="stable")
    return [(nodes[i], float(distances[i])) for i in order]
