"""Where the nodes of trees stand in a picture: rows and levels, or rings around a centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.categories import CategoryTree
from cnnlens.cluster.filters import FilterTree
from cnnlens.cluster.tree import roots

LEVELS = 5  # of a tree of filters
ROOTS = 12  # subtrees shown where many remain


def dendrogram_places(tree: CategoryTree) -> tuple[list[float], list[float]]:
    """Distance and row of every node, leaves first."""
    rows = np.empty(len(tree.names))
    rows[tree.order] = np.arange(len(tree.names))
    xs, ys = [0.0] * len(rows), rows.tolist()
    for a, b, distance, _ in tree.merges:
        xs.append(float(distance))
        ys.append((ys[int(a)] + ys[int(b)]) / 2)
    return xs, ys


def branches(tree: CategoryTree) -> tuple[list[int], dict[int, int], dict[int, int]]:
    """Nodes with every branch as a whole, the smaller branches first; parents; depths."""
    beside: list[list[int]] = [[] for _ in tree.names]
    for a, b, _ in tree.edges:
        beside[a].append(b)
        beside[b].append(a)
    parent, depth, wave = {tree.centre: -1}, {tree.centre: 0}, [tree.centre]
    for node in wave:  # grows while it is read: breadth first
        for other in beside[node]:
            if other not in parent:
                parent[other], depth[other] = node, depth[node] + 1
                wave.append(other)
    size = dict.fromkeys(wave, 1)
    for node in reversed(wave[1:]):
        size[parent[node]] += size[node]
    order, waiting = [], [tree.centre]
    while waiting:
        node = waiting.pop()
        order.append(node)
        below = [other for other in beside[node] if other != parent[node]]
        waiting += sorted(below, key=lambda other: -size[other])
    return order, parent, depth


def radial(tree: CategoryTree) -> np.ndarray:
    """Place the spanning tree's nodes, (K, 2): rings around the centre, a sector per branch."""
    order, parent, depth = branches(tree)
    ends = dict.fromkeys(order, 0.0)
    for node in reversed(order):  # below before above
        ends[node] = ends[node] or 1.0
        if parent[node] >= 0:
            ends[parent[node]] += ends[node]
    places = np.zeros((len(order), 2))
    begin = {tree.centre: 0.0}  # where the next branch below a node begins
    width = {tree.centre: 2 * np.pi}
    for node in order[1:]:
        above = parent[node]
        width[node] = width[above] * ends[node] / ends[above]
        angle = begin[above] + width[node] / 2
        begin[node], begin[above] = begin[above], begin[above] + width[node]
        places[node] = depth[node] * np.cos(angle), depth[node] * np.sin(angle)
    return places


@dataclass(frozen=True)
class Box:
    """A node of a tree of filters in its picture."""

    node: int
    level: int  #: from the left
    row: float
    below: tuple[Box, ...]
    apart: int = 0  #: images that merges above it, which are not shown, have set apart


def top_levels(tree: FilterTree) -> list[Box]:
    """Place the top levels of a tree of filters, its largest subtrees where several remain.

    Merges that only set a few images apart are passed over and counted.
    """
    count = len(tree.leaves)
    sizes = tree.node_sizes
    tops = sorted(roots(tree.pairs, count), key=lambda node: -sizes[node])[:ROOTS]
    levels = LEVELS if len(tops) == 1 else 3 if len(tops) < 5 else 2
    boxes: list[Box] = []
    free = [0.0]

    def place(node: int, level: int) -> Box:
        apart, end = 0, node
        while level and end >= count and (pair := _uneven(tree, end)):
            apart, end = apart + sizes[pair[0]], pair[1]
        below: tuple[Box, ...] = ()
        if end >= count and level + 1 < levels:
            below = tuple(place(int(child), level + 1) for child in tree.pairs[end - count])
        if below:
            row = (below[0].row + below[-1].row) / 2
        else:
            row = free[0]
            free[0] += 1
        boxes.append(Box(end, level, row, below, apart))
        return boxes[-1]

    for node in tops:
        place(node, 0)
    return boxes


def _uneven(tree: FilterTree, node: int) -> tuple[int, int] | None:
    """The smaller and the larger child of a node, where only the smaller one is too few."""
    sizes = tree.node_sizes
    smaller, larger = sorted(map(int, tree.pairs[node - len(tree.leaves)]), key=sizes.__getitem__)
    return (smaller, larger) if sizes[smaller] < tree.few <= sizes[larger] else None


def below(tree: FilterTree, node: int) -> np.ndarray:
    """Leaves under a node, in ascending order."""
    count, found, waiting = len(tree.leaves), [], [node]
    while waiting:
        one = waiting.pop()
        if one < count:
            found.append(one)
        else:
            waiting += tree.pairs[one - count].tolist()
    return np.array(sorted(found), np.int64)
