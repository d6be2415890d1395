"""The nodes that nothing has merged yet, and which two of them are nearest to each other."""

from __future__ import annotations

import numpy as np


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
