"""Binary trees as tables of merges, and the way they are written out: Newick.

Merge i joins two earlier nodes, as in scipy's linkage matrices: numbers below n are leaves, n + i
is merge i. Nothing here recurses, so that no tree is too deep, and trees that have not grown
together (several roots) are as good as any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Pairs = np.ndarray  # (n - 1, 2) integers, fewer where several roots are left


def roots(pairs: Pairs, leaves: int) -> list[int]:
    """Numbers of the nodes that no merge joins, ascending."""
    joined = set(np.asarray(pairs, int).ravel().tolist())
    return [node for node in range(leaves + len(pairs)) if node not in joined]


def spell(start: int | str, expand: Callable[[int], Sequence[int | str]]) -> str:
    """Write out a tree from its root, without recursion and in linear time.

    Parameters
    ----------
    start : int
        The root; a string is written as it is.
    expand : callable
        Gives what a node is written as: strings, and the numbers of its children between them.
    """
    written: list[str] = []
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            written.append(one)
        else:
            waiting += reversed(expand(one))
    return "".join(written)


def newick(
    pairs: Pairs,
    names: Sequence[str],
    distances: Sequence[float],
    labels: Sequence[str] | None = None,
) -> str:
    """Write a tree in Newick's format; a branch is half as long as the merges it joins differ.

    Parameters
    ----------
    pairs : numpy.ndarray
        (merges, 2).
    names : sequence of str
        Of the leaves.
    distances : sequence of float
        Of the merges; leaves are at 0.
    labels : sequence of str, optional
        Of the merges: their support.
    """
    count = len(names)
    heights = [0.0] * count + [float(d) for d in distances]
    top = roots(pairs, count)

    def expand(node: int) -> Sequence[int | str]:
        if node < count:
            return [quoted(names[node])]
        if node == len(heights):  # over several roots
            return ["(", *between(top, ","), ")"]
        a, b = map(int, pairs[node - count])
        lengths = [f":{_length((heights[node] - heights[child]) / 2)}" for child in (a, b)]
        label = quoted(labels[node - count]) if labels else ""
        return ["(", a, f"{lengths[0]},", b, f"{lengths[1]}){label}"]

    return spell(top[0] if len(top) == 1 else len(heights), expand) + ";\n"


def between(nodes: Sequence[int], text: str) -> list[int | str]:
    """Put a text between any two nodes."""
    found: list[int | str] = [nodes[0]]
    for node in nodes[1:]:
        found += [text, node]
    return found


def _length(value: float) -> str:
    return repr(0.0 if value == 0 else value)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")


def quoted(name: str) -> str:
    """Quote a name as Newick wants it: anything but plain letters and digits in single quotes."""
    if name and _PLAIN.issuperset(name):
        return name
    return "'" + name.replace("'", "''") + "'" if name else ""


def clades(pairs: Pairs, leaves: int) -> list[int]:
    """The leaves under each merge, as bits of an integer: equal sets are equal numbers."""
    under = [1 << leaf for leaf in range(leaves)]
    for a, b in np.asarray(pairs, int).tolist():
        under.append(under[a] | under[b])
    return under[leaves:]


def walk(tree: Any) -> Iterator[Any]:
    """Visit every node of a nested tree, parents first, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, dict) and isinstance(node.get("children"), list):
            waiting += reversed(node["children"])


def flat(tree: dict[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """Lay a nested tree out in lists, as the page's script reads it.

    Returns
    -------
    dict
        ``images``: the leaves' images; ``nodes``: [what it has under `said`, what it detects,
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
        nodes.append([*(node[key] for key in said), node.get("detects"), below])
    alone = tree["children"] if "children" in tree and tree["distance"] is None else [tree]
    images = [str(leaf.get("image", "")) for leaf in leaves]
    return {"images": images, "nodes": nodes, "roots": [number[id(node)] for node in alone]}


def half_cosine(dots: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """½(1 − cos), cos = dots / √squares; ½ where one of the two vectors is 0."""
    cosines = np.where(squares > 0, dots / np.sqrt(np.where(squares > 0, squares, 1)), 0)
    return np.maximum((1 - cosines) / 2, 0)


class Forest:
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
