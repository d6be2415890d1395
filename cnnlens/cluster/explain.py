"""An image's way down a category's tree of filters (Dai 2020, §3.2): always to the nearer child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.filters import NONE, FilterTree, half_cosine, node_vectors
from cnnlens.cluster.tree import roots


@dataclass(frozen=True)
class Fork:
    """One merge on the way from the root to a leaf.

    Attributes
    ----------
    merge : int
        Which, counted as the tree counts its merges.
    filter : int or None
        Its critical filter.
    to_chosen, to_other : float
        ½(1 − cos) of the image to the child that it goes to, and to the other one.
    """

    merge: int
    filter: int | None
    to_chosen: float
    to_other: float


@dataclass(frozen=True)
class Way:
    """The forks from root to leaf, the leaf, and how far the image is from it."""

    forks: tuple[Fork, ...]
    leaf: int
    distance: float


def way_down(maps: np.ndarray, tree: FilterTree, image: np.ndarray) -> Way:
    """Let an image go down a tree, at every fork to the nearer child.

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
    Way
        Equally near children: the one with the lower number. Where several subtrees remain, it
        begins at the nearest one.
    """
    if image.shape != maps.shape[1:]:
        raise ValueError(f"an image {image.shape} in a tree of {maps.shape[1:]}")
    vectors = node_vectors(maps, tree)
    count = len(tree.leaves)
    node, _ = _nearest(vectors, roots(tree.pairs, count), image)[0]
    forks = []
    while node >= count:
        merge = node - count
        (near, to_chosen), (_, to_other) = _nearest(vectors, tree.pairs[merge].tolist(), image)
        filter_ = int(tree.critical[merge])
        forks.append(Fork(merge, None if filter_ == NONE else filter_, to_chosen, to_other))
        node = near
    ((_, distance),) = _nearest(vectors, [node], image)
    return Way(tuple(forks), node, distance)


def _nearest(
    vectors: np.ndarray, nodes: Sequence[int], image: np.ndarray
) -> list[tuple[int, float]]:
    """Nodes and their distances, the nearest first."""
    flat = image.ravel().astype(np.float64)
    there = vectors[list(nodes)].astype(np.float64)
    distances = half_cosine(there @ flat, (there * there).sum(1) * (flat @ flat))
    order = np.argsort(distances, kind="stable")
    return [(nodes[i], float(distances[i])) for i in order]


def share_below(values: np.ndarray, value: float) -> float | None:
    """Share of values that are smaller, equal ones counted half; None where there are none."""
    if not len(values):
        return None
    return float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))


def category_of(
    number: int, classes: Sequence[str] | None, count: int, categories: Sequence[str]
) -> str | None:
    """Find the category of a data set that a class of the network means.

    Parameters
    ----------
    number : int
        The class.
    classes : sequence of str or None
        The network's class names, where they are known.
    count : int
        How many classes it has.
    categories : sequence of str
        The data's.

    Returns
    -------
    str or None
        The category of the class's name (or of one of its names, joined by commas), in any case,
        with ``_`` or ``-`` for spaces. Without names, where there are as many categories as
        classes: the one of that number in alphabetical order. Else None.
    """
    if classes is None:
        ordered = sorted(categories)
        return ordered[number] if len(ordered) == count else None
    if number >= len(classes):
        return None
    wanted = [_plain(part) for part in (classes[number], *classes[number].split(","))]
    return next((c for c in categories if _plain(c) in wanted), None)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
